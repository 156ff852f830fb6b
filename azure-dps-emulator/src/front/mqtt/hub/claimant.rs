//! A device at its hub, as its CONNECT describes it.
//!
//! | user name | a client of |
//! | --- | --- |
//! | `{idScope}/registrations/{registrationId}/api-version=…` | the provisioning service |
//! | `{hub}/{deviceId}/?api-version=…` | a hub |
//! | `{hub}/{deviceId}` with a dot in the name of the hub | a hub |
//! | anything else | the provisioning service, which refuses it |

use percent_encoding::percent_decode_str;
use rumqttc::mqttbytes::v4::{Connect, ConnectReturnCode};

use crate::ids;

/// A client whose user name is for a hub.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::front::mqtt) struct Claimant {
    pub(super) hub: String,
    /// The device id in the user name, as it was sent.
    named_id: String,
    module_id: Option<String>,
    pub(super) client_id: String,
    pub(super) api_version: Option<String>,
    pub(super) token: Option<String>,
}

impl Claimant {
    /// Reads a CONNECT; `None` if its user name is not for a hub.
    pub(in crate::front::mqtt) fn read(connect: &Connect) -> Option<Self> {
        let login = connect.login.as_ref()?;
        let text = login.username.as_str();
        let mut parts = text.splitn(3, '/');
        let (hub, id, rest) = (parts.next()?, parts.next()?, parts.next().unwrap_or_default());
        let (module, parameters) = match rest.split_once('?') {
            Some((module, parameters)) => (module, parameters),
            None => (rest, ""),
        };
        let names_hub = hub.contains('.') || text.contains("/?");
        let is_service = id.eq_ignore_ascii_case("registrations") && !rest.starts_with('?');
        if !names_hub || is_service || hub.is_empty() || id.is_empty() {
            return None;
        }
        let mut pairs = parameters.split('&').filter_map(|pair| pair.split_once('='));
        Some(Claimant {
            hub: hub.to_owned(),
            named_id: id.to_owned(),
            module_id: Some(module.trim_end_matches('/').to_owned()).filter(|module| !module.is_empty()),
            client_id: connect.client_id.clone(),
            api_version: pairs.find(|(name, _)| *name == "api-version").map(|(_, value)| value.to_owned()),
            token: Some(login.password.clone()).filter(|token| !token.is_empty()),
        })
    }

    /// Judges the ids, and returns the device id.
    ///
    /// # Errors
    /// The return code of the CONNACK, and the cause for the journal.
    pub(super) fn device_id(&self) -> Result<&str, (ConnectReturnCode, String)> {
        let Claimant { hub, named_id, client_id, .. } = self;
        if let Some(module) = &self.module_id {
            let cause = format!(
                "the user name is for the module {module} of a device at hub {hub}; modules are not emulated"
            );
            return Err((ConnectReturnCode::NotAuthorized, cause));
        }
        let decoded = percent_decode_str(named_id).decode_utf8_lossy();
        if named_id != client_id && decoded != client_id.as_str() {
            let cause = format!(
                "the client id is not the device id of the user name at hub {hub}; a device connects with its \
                 device id as the client id"
            );
            return Err((ConnectReturnCode::BadClientId, cause));
        }
        match ids::why_not_a_device_id(client_id) {
            Some(why) => Err((ConnectReturnCode::BadClientId, format!("the client id {why}"))),
            None => Ok(client_id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_of_hubs_and_of_the_service_are_told_apart() {
        for (user, hub, version) in [
            ("h.net/d1/?api-version=2021-04-12", "h.net", Some("2021-04-12")),
            ("h.net/d1/?api-version=2021-04-12&DeviceClientType=a%2Fb", "h.net", Some("2021-04-12")),
            ("h.net/d1/?DeviceClientType=a/b&api-version=2018-06-30", "h.net", Some("2018-06-30")),
            ("localhost/d1/?x", "localhost", None),
            ("h.net/d1", "h.net", None),
            ("h.net/d1/", "h.net", None),
            ("h.net/d1/api-version=2018-06-30", "h.net", None),
        ] {
            let claimant = read("d1", user).unwrap();
            assert_eq!((claimant.hub.as_str(), claimant.api_version.as_deref()), (hub, version), "{user}");
        }
        for user in [
            "0ne1/registrations/d1/api-version=2019-03-31",
            "0ne1/registrations/d1/ClientVersion=a/?b&api-version=2019-03-31",
            "h.net/registrations/d1/api-version=2019-03-31",
            "d1",
            "",
            "localhost/d1",
            "/d1/?api-version=2021-04-12",
            "h.net//?api-version=2021-04-12",
        ] {
            assert_eq!(read("d1", user), None, "{user}");
        }
        assert!(read("registrations", "h.net/registrations/?api-version=2021-04-12").is_some());
    }

    #[test]
    fn the_client_id_is_the_device_id() {
        for (client_id, user) in [
            ("d1", "h.net/d1/?api-version=1"),
            ("a%2Fb", "h.net/a%2Fb/?api-version=1"),
            ("line:3#1", "h.net/line%3A3%231/?api-version=1"),
            ("what?", "h.net/what?/?api-version=1"),
        ] {
            assert_eq!(read(client_id, user).unwrap().device_id(), Ok(client_id), "{user}");
        }
        for (client_id, user, code) in [
            ("d2", "h.net/d1/?api-version=1", ConnectReturnCode::BadClientId),
            ("D1", "h.net/d1/?api-version=1", ConnectReturnCode::BadClientId),
            ("", "h.net/d1/?api-version=1", ConnectReturnCode::BadClientId),
            ("d\u{e4}", "h.net/d\u{e4}/?api-version=1", ConnectReturnCode::BadClientId),
            ("d1", "h.net/d1/m1/?api-version=1", ConnectReturnCode::NotAuthorized),
        ] {
            assert_eq!(read(client_id, user).unwrap().device_id().unwrap_err().0, code, "{user}");
        }
    }

    fn read(client_id: &str, user: &str) -> Option<Claimant> {
        let mut connect = Connect::new(client_id);
        connect.set_login(user, "");
        Claimant::read(&connect)
    }
}
