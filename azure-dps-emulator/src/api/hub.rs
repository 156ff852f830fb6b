//! The REST API of the linked hubs, as far as it is emulated. Errors have the form of IoT Hub, which differs
//! from that of the service.
//!
//! | request | answer | credential |
//! | --- | --- | --- |
//! | `GET`, `DELETE /devices/{id}`, `GET /twins/{id}` | the device | a token of the policy `iothubowner` |
//! | `GET /devices/{id}/modules` | `[]`: there are no modules | the same, or the device's own |
//! | anything else below `/devices/{id}/` | 501 | the same |
//! | anything else | 501 | a token of the policy `iothubowner` |

use time::OffsetDateTime;

use crate::call::Presented;
use crate::call::answer::Answer;
use crate::call::etag::check_tag;
use crate::call::request::{HubOperation, HubRequest};
use crate::call::schema;
use crate::clock;
use crate::crypto::sas;
use crate::json::json;
use crate::records::hubs::{self, HubDevice, OWNER};
use crate::state::State;

/// A refusal in the form of IoT Hub.
struct HubRefusal {
    status: u16,
    code: &'static str,
    message: String,
    cause: String,
}

impl HubRefusal {
    fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        HubRefusal { status, code, cause: message.clone(), message }
    }

    fn into_answer(self, tracking_id: &str, now: OffsetDateTime) -> Answer {
        let body = json!({
            "Message": format!("ErrorCode:{};{}", self.code, self.message),
            "ExceptionMessage": format!("Tracking ID:{tracking_id}-TimeStamp:{}", clock::timestamp(now)),
        });
        Answer {
            status: self.status,
            hub_error: Some(self.code),
            cause: Some(self.cause),
            ..Answer::ok(body)
        }
    }
}

pub(crate) fn serve(
    state: &mut State,
    request: &HubRequest,
    presented: &Presented,
    tracking_id: &str,
    now: OffsetDateTime,
) -> Answer {
    let admitted = admit(state, request, presented, now);
    let answered = admitted.and_then(|()| match &request.operation {
        HubOperation::GetDevice(id) => {
            let device = hub_device(state, &request.hub, id)?;
            Ok(Answer::ok(device.identity()).with_etag(&quoted(&device.etag())))
        }
        HubOperation::GetTwin(id) => {
            let device = hub_device(state, &request.hub, id)?;
            Ok(Answer::ok(device.twin()).with_etag(&quoted(&device.twin_etag())))
        }
        HubOperation::DeleteDevice(id) => {
            check_if_match(hub_device(state, &request.hub, id)?, request.if_match.as_deref())?;
            state.hubs.remove(&request.hub, id);
            Ok(Answer::no_content())
        }
        HubOperation::ListModules(id) => {
            hub_device(state, &request.hub, id)?;
            Ok(Answer::ok(json!([])))
        }
        HubOperation::OtherOfDevice(_) | HubOperation::Other => {
            Err(HubRefusal::new(501, "NotImplemented", NOT_EMULATED))
        }
    });
    answered.unwrap_or_else(|refusal| refusal.into_answer(tracking_id, now))
}

fn hub_device<'a>(state: &'a State, hub: &str, id: &str) -> Result<&'a HubDevice, HubRefusal> {
    state
        .hubs
        .find(hub, id)
        .ok_or_else(|| HubRefusal::new(404, "DeviceNotFound", format!("Device {id} not registered")))
}

/// Judges the credential before anything else, so that the answer reveals nothing about the hub without one.
fn admit(
    state: &State,
    request: &HubRequest,
    presented: &Presented,
    now: OffsetDateTime,
) -> Result<(), HubRefusal> {
    authenticate(state, request, presented, now).map_err(|cause| HubRefusal {
        status: 401,
        code: "IotHubUnauthorizedAccess",
        message: "Unauthorized".to_owned(),
        cause,
    })?;
    check_api_version(presented)
}

fn authenticate(
    state: &State,
    request: &HubRequest,
    presented: &Presented,
    now: OffsetDateTime,
) -> Result<(), String> {
    let device = match &request.operation {
        HubOperation::ListModules(id) | HubOperation::OtherOfDevice(id) => Some(id),
        _ => None,
    };
    let device = device.and_then(|id| state.hubs.find(&request.hub, id));
    let authorization = presented.authorization.as_deref();
    if let (Some(device), None, [leaf, ..]) = (device, authorization, &*presented.certificates) {
        return match device.has_certificate(leaf) {
            true => Ok(()),
            false => Err("the certificate is not the device's certificate at this hub".to_owned()),
        };
    }
    let token = sas::service_token(authorization, &request.resource, now).map_err(|refusal| refusal.cause)?;
    match (token.policy.as_deref(), device) {
        (Some(OWNER), _) if token.is_signed_by(&hubs::owner_key(&request.hub)) => Ok(()),
        (Some(OWNER), _) => Err(format!("signature does not match the key of policy {OWNER} of this hub")),
        (None | Some(""), Some(device)) if token.is_for_device() => match device.signed(&token) {
            true => Ok(()),
            false => Err("signature does not match the device's keys at this hub".to_owned()),
        },
        _ => Err(format!("the token does not name the policy {OWNER}")),
    }
}

fn check_api_version(presented: &Presented) -> Result<(), HubRefusal> {
    let version = presented.api_version();
    if !schema::is_version(version) || version < OLDEST_API_VERSION {
        let message = format!("api-version {version} is not supported; the oldest is {OLDEST_API_VERSION}");
        return Err(HubRefusal::new(400, "InvalidProtocolVersion", message));
    }
    Ok(())
}

fn check_if_match(device: &HubDevice, if_match: Option<&str>) -> Result<(), HubRefusal> {
    let failed = |message: String| HubRefusal::new(412, "PreconditionFailed", message);
    let wanted =
        if_match.ok_or_else(|| failed("If-Match is missing; `*` stands for any version".to_owned()))?;
    check_tag(&device.etag(), wanted)
        .map_err(|_| failed(format!("Device version did not match, existingVersion:{}", device.etag())))
}

fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

const OLDEST_API_VERSION: &str = "2018-06-30";
const NOT_EMULATED: &str = "the emulated hub knows GET and DELETE /devices/{id}, \
     GET /devices/{id}/modules and GET /twins/{id}; queries, updates, jobs and messages need a hub of Azure";
/// For clients that connect to their hub at the address of the emulator after the assignment.
pub(crate) const NO_HUB_HERE: &str = "this is the provisioning service: let the client end when it is \
     assigned, or give the emulator a hub that the client can reach under its own address";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_requests_are_known_and_requests_of_devices_are_recognized() {
        let id = || "d/1".to_owned();
        assert_eq!(HubOperation::read("GET", &["devices", "d/1"]), HubOperation::GetDevice(id()));
        assert_eq!(HubOperation::read("DELETE", &["devices", "d/1"]), HubOperation::DeleteDevice(id()));
        assert_eq!(HubOperation::read("GET", &["twins", "d/1"]), HubOperation::GetTwin(id()));
        let modules = HubOperation::read("GET", &["devices", "d/1", "modules"]);
        assert_eq!(modules, HubOperation::ListModules(id()));
        for (method, path) in [
            ("PUT", &["devices", "d/1", "modules", "m"][..]),
            ("POST", &["devices", "d/1", "messages", "events"]),
            ("POST", &["devices", "d/1", "files"]),
        ] {
            assert_eq!(
                HubOperation::read(method, path),
                HubOperation::OtherOfDevice(id()),
                "{method} {path:?}"
            );
        }
        for (method, path) in [
            ("GET", &["devices"][..]),
            ("PUT", &["devices", "d"]),
            ("PATCH", &["twins", "d"]),
            ("POST", &["devices", "query"]),
        ] {
            assert_eq!(HubOperation::read(method, path), HubOperation::Other, "{method} {path:?}");
        }
    }
}
