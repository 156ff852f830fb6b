//! The requests to hubs: those of the REST API, and those of connected devices.

use crate::call::operation::Operation;
use crate::call::page::PageHeaders;

/// A request to the REST API of a hub.
pub(crate) struct HubRequest {
    /// Host and path, which the token must cover.
    pub(crate) resource: String,
    /// The name under which the hub is linked.
    pub(crate) hub: String,
    pub(crate) operation: HubOperation,
    pub(crate) if_match: Option<String>,
    pub(crate) page: PageHeaders,
    /// The parameter `top` of the query.
    pub(crate) top: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HubOperation {
    GetDevice(String),
    PutDevice(String),
    DeleteDevice(String),
    ListDevices,
    QueryDevices,
    GetTwin(String),
    PatchTwin(String),
    PutTwin(String),
    InvokeMethod(String),
    ListModules(String),
    /// Any other request that a device may send to a hub of Azure with its own credential.
    OtherOfDevice(String),
    /// Any other request to a hub.
    Other,
}

impl HubOperation {
    /// Reads a method and the decoded segments of a path.
    pub(crate) fn read(method: &str, path: &[&str]) -> Self {
        let of = |operation: fn(String) -> Self, id: &str| operation(id.to_owned());
        match (method, path) {
            ("GET", ["devices"]) => HubOperation::ListDevices,
            ("POST", ["devices", "query"]) => HubOperation::QueryDevices,
            ("GET", ["devices", id]) => of(HubOperation::GetDevice, id),
            ("PUT", ["devices", id]) => of(HubOperation::PutDevice, id),
            ("DELETE", ["devices", id]) => of(HubOperation::DeleteDevice, id),
            ("GET", ["twins", id]) => of(HubOperation::GetTwin, id),
            ("PATCH", ["twins", id]) => of(HubOperation::PatchTwin, id),
            ("PUT", ["twins", id]) => of(HubOperation::PutTwin, id),
            ("POST", ["twins", id, "methods"]) => of(HubOperation::InvokeMethod, id),
            ("GET", ["devices", id, "modules"]) => of(HubOperation::ListModules, id),
            (_, ["devices", id, _, ..]) => of(HubOperation::OtherOfDevice, id),
            _ => HubOperation::Other,
        }
    }

    /// The device that the request names; empty if it names none.
    pub(crate) fn id(&self) -> &str {
        match self {
            HubOperation::GetDevice(id)
            | HubOperation::PutDevice(id)
            | HubOperation::DeleteDevice(id)
            | HubOperation::GetTwin(id)
            | HubOperation::PatchTwin(id)
            | HubOperation::PutTwin(id)
            | HubOperation::InvokeMethod(id)
            | HubOperation::ListModules(id)
            | HubOperation::OtherOfDevice(id) => id,
            HubOperation::ListDevices | HubOperation::QueryDevices | HubOperation::Other => "",
        }
    }
}

/// A request that a device sends on its own connection to its hub.
pub(crate) struct AtHub {
    /// As the device names it.
    pub(crate) hub: String,
    pub(crate) device_id: String,
    pub(crate) connection: u64,
    pub(crate) operation: AtHubOperation,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AtHubOperation {
    Connect,
    GetTwin,
    /// The body is the patch.
    Report,
    /// The body is the message.
    Telemetry(MessageProperties),
    /// The body is the payload.
    AnswerMethod {
        rid: String,
        status: i32,
    },
}

impl AtHubOperation {
    /// The kind that faults name.
    pub(crate) fn kind(&self) -> Option<Operation> {
        match self {
            AtHubOperation::Connect => Some(Operation::HubConnect),
            AtHubOperation::GetTwin | AtHubOperation::Report => Some(Operation::HubTwin),
            AtHubOperation::Telemetry(_) => Some(Operation::HubTelemetry),
            AtHubOperation::AnswerMethod { .. } => None,
        }
    }
}

/// The properties of a message, in the order in which they were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MessageProperties {
    pub(crate) application: Vec<(String, String)>,
    /// With their names in IoT Hub.
    pub(crate) system: Vec<(String, String)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_emulated_requests_and_those_of_devices_are_recognized() {
        let id = || "d/1".to_owned();
        for (method, path, wanted) in [
            ("GET", &["devices", "d/1"][..], HubOperation::GetDevice(id())),
            ("PUT", &["devices", "d/1"], HubOperation::PutDevice(id())),
            ("DELETE", &["devices", "d/1"], HubOperation::DeleteDevice(id())),
            ("GET", &["devices"], HubOperation::ListDevices),
            ("POST", &["devices", "query"], HubOperation::QueryDevices),
            ("GET", &["twins", "d/1"], HubOperation::GetTwin(id())),
            ("PATCH", &["twins", "d/1"], HubOperation::PatchTwin(id())),
            ("PUT", &["twins", "d/1"], HubOperation::PutTwin(id())),
            ("POST", &["twins", "d/1", "methods"], HubOperation::InvokeMethod(id())),
            ("GET", &["devices", "d/1", "modules"], HubOperation::ListModules(id())),
            ("PUT", &["devices", "d/1", "modules", "m"], HubOperation::OtherOfDevice(id())),
            ("POST", &["devices", "d/1", "messages", "events"], HubOperation::OtherOfDevice(id())),
            ("POST", &["devices", "d/1", "files"], HubOperation::OtherOfDevice(id())),
            ("POST", &["devices"], HubOperation::Other),
            ("DELETE", &["twins", "d"], HubOperation::Other),
            ("PUT", &["jobs", "v2", "j"], HubOperation::Other),
            ("GET", &["statistics", "devices"], HubOperation::Other),
        ] {
            assert_eq!(HubOperation::read(method, path), wanted, "{method} {path:?}");
        }
    }
}
