//! How a device signs in at its hub over MQTT: client id, user name and password.
//!
//! | value | with a key or a TPM | with a certificate |
//! |---|---|---|
//! | client id | the device id | the device id |
//! | user name | `{hub}/{deviceId}/?api-version=…` | the same |
//! | password | a token for `{hub}/devices/{deviceId}` | none |
//!
//! `connect.rs` opens the connection.

use std::time::Duration;

#[cfg(feature = "hub")]
use azure_dps_core::Endpoint;
use azure_dps_core::models::ConnectionProfile;
use azure_dps_core::plumbing::percent_encode;
use azure_dps_core::{Error, ErrorKind, Result};
use time::OffsetDateTime;

pub use self::sign_in::SignIn;
#[cfg(feature = "hub")]
pub use self::stream::HubStream;
use crate::assignment::Assignment;
use crate::credential::Credential;
use crate::registration_token;
#[cfg(feature = "hub")]
use crate::stream::{Dialer, MQTT};

#[cfg(feature = "hub")]
mod connect;
mod sign_in;
#[cfg(feature = "hub")]
mod stream;

/// The way of one device to its hub: everything that an MQTT library needs to connect. Cloning is cheap.
///
/// It is made from a credential and an assignment, so it also works after a restart of the program, without a
/// registration: the assignment can be [stored](Assignment). It keeps no password: each connection needs a
/// new [`sign_in`](Self::sign_in). Of the clones, and of all programs with this device id, only one can be
/// connected at a time: the hub ends the older connection of a device.
///
/// ```no_run
/// use std::time::{Duration, SystemTime};
///
/// use azure_dps_device::{Assignment, Credential, HubAccess};
///
/// # async fn example(credential: Credential) -> Result<(), Box<dyn std::error::Error>> {
/// let assignment: Assignment = serde_json::from_slice(&std::fs::read("assignment.json")?)?;
/// let access = HubAccess::new(credential, &assignment)?;
///
/// let hour = Duration::from_secs(3600);
/// let sign_in = access.sign_in(hour, SystemTime::now().into())?;
/// let stream = access.connect().await?;
/// // Next, an MQTT 3.1.1 library sends CONNECT on the stream.
/// let (client_id, user_name) = (access.client_id(), access.user_name());
/// let password = sign_in.password();
/// # let _ = (stream, client_id, user_name, password);
/// # Ok(())
/// # }
/// ```
///
/// With the feature `hub` it also opens the connection. The guide `hub.md` has the topics of a hub.
#[derive(Clone, Debug)]
pub struct HubAccess {
    credential: Credential,
    hub: String,
    device_id: String,
    model_id: Option<String>,
    #[cfg(feature = "hub")]
    dialer: Dialer,
}

impl HubAccess {
    /// The way to the hub of `assignment`. `credential` is the one with which the device registered, or one
    /// with a certificate that the service issued in that registration.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when the assignment says that the hub does not speak MQTT 3.1.1
    /// (`connectionProfile`).
    pub fn new(credential: Credential, assignment: &Assignment) -> Result<Self> {
        check_profile(assignment)?;
        Ok(Self {
            credential,
            hub: assignment.hub().to_owned(),
            device_id: assignment.device_id().to_owned(),
            model_id: None,
            #[cfg(feature = "hub")]
            dialer: Dialer::new(Endpoint::new(assignment.hub())?, MQTT),
        })
    }

    /// Announces the model of an IoT Plug and Play device, for example `dtmi:com:example:Thermostat;1`.
    #[must_use]
    pub fn with_model_id(mut self, model_id: impl Into<String>) -> Self {
        self.model_id = Some(model_id.into());
        self
    }

    /// The host name of the hub.
    pub fn hub(&self) -> &str {
        &self.hub
    }

    /// The client id of the MQTT CONNECT: the device id.
    pub fn client_id(&self) -> &str {
        &self.device_id
    }

    /// The user name of the MQTT CONNECT: `{hub}/{deviceId}/?api-version=2021-04-12`, and the model.
    ///
    /// Hub and device id are not percent-encoded, because a hub does not decode them; the values behind `?`
    /// are.
    ///
    /// Source: "Communicate with an IoT hub using the MQTT protocol"; the Python device SDK, "URL Encoding
    /// (MQTT)".
    pub fn user_name(&self) -> String {
        let mut name = format!("{}/{}/?api-version={API_VERSION}", self.hub, self.device_id);
        if let Some(model) = &self.model_id {
            name.push_str("&model-id=");
            name.push_str(&percent_encode(model));
        }
        name
    }

    /// Signs in for one connection that begins at `now`. `ttl` is the lifetime of the password; one hour is
    /// common. With a TPM this call blocks while the TPM signs.
    ///
    /// # Errors
    /// [`ErrorKind::Credential`] when the certificate is not valid at `now` or the TPM cannot sign,
    /// [`ErrorKind::Config`] when the password would expire after the year 9999.
    pub fn sign_in(&self, ttl: Duration, now: OffsetDateTime) -> Result<SignIn> {
        self.credential.check(now)?;
        let expires = registration_token::expiry(now, ttl)?;
        let token = self.credential.hub_token(&self.hub, &self.device_id, expires)?;
        Ok(SignIn::new(token, now, ttl))
    }
}

/// Hubs with another profile than `classic` speak MQTT 5. Without a profile a hub is a classic one.
pub(crate) fn check_profile(assignment: &Assignment) -> Result<()> {
    match &assignment.state().connection_profile {
        None | Some(ConnectionProfile::Classic) => Ok(()),
        Some(other) => {
            let profile: String = other.as_str().chars().take(LONGEST_SHOWN).collect();
            let message = format!(
                "the hub has the connectionProfile {profile:?}, and this client supports \"classic\" hubs only, \
                 which speak MQTT 3.1.1: assign the device to a classic hub"
            );
            Err(Error::new(ErrorKind::Unsupported, message))
        }
    }
}

const API_VERSION: &str = "2021-04-12";
const LONGEST_SHOWN: usize = 80;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    const HOUR: Duration = Duration::from_secs(3600);

    fn credential() -> Credential {
        Credential::symmetric_key("dev-1".parse().unwrap(), KEY.parse().unwrap())
    }

    fn access(device_id: &str) -> HubAccess {
        HubAccess::new(credential(), &Assignment::new("hub.example", device_id).unwrap()).unwrap()
    }

    #[test]
    fn a_hub_decodes_no_id_so_none_is_encoded() {
        for id in ["dev-1", "X:1;a-b.c+d%_#*?!(),=@$'"] {
            let access = access(id);
            assert_eq!(access.client_id(), id);
            assert_eq!(access.user_name(), format!("hub.example/{id}/?api-version=2021-04-12"));
        }
    }

    #[test]
    fn the_model_follows_the_version_percent_encoded() {
        let access = access("dev-1").with_model_id("dtmi:com:example:Thermostat;1&x=y");
        assert_eq!(
            access.user_name(),
            "hub.example/dev-1/?api-version=2021-04-12&model-id=dtmi%3Acom%3Aexample%3AThermostat%3B1%26x%3Dy"
        );
    }

    #[test]
    fn each_sign_in_has_a_password_of_its_own() {
        let (access, now) = (access("dev#1"), OffsetDateTime::from_unix_timestamp(1_767_225_600).unwrap());
        let sign_in = access.sign_in(HOUR, now).unwrap();
        let password = sign_in.password().unwrap();
        assert!(password.starts_with("SharedAccessSignature sr=hub.example%2Fdevices%2Fdev%231&sig="));
        assert!(password.ends_with("&se=1767229200"), "no policy at the end");
        assert_eq!(sign_in.expires(), Some(now + HOUR));
        assert_eq!(sign_in.renew_at(), Some(now + HOUR * 8 / 10));
        let later = access.sign_in(HOUR, now + HOUR).unwrap();
        assert_ne!(later.password(), sign_in.password());
        assert!(!format!("{access:?} {sign_in:?}").contains("sig="));
        let far = access.sign_in(Duration::from_secs(u64::MAX), now).unwrap_err();
        assert_eq!(far.kind(), ErrorKind::Config);
    }

    #[test]
    fn a_hub_that_speaks_mqtt_5_is_refused_with_its_profile() {
        for (profile, part) in [
            (json!(null), None),
            (json!("classic"), None),
            (json!("mqttV5"), Some("\"mqttV5\"")),
            (json!("later\n"), Some("\"later\\n\"")),
        ] {
            let body = json!({"assignedHub": "h", "deviceId": "d", "connectionProfile": profile});
            let assignment: Assignment = serde_json::from_value(body).unwrap();
            match (HubAccess::new(credential(), &assignment), part) {
                (Ok(_), None) => {}
                (Err(error), Some(part)) => {
                    assert_eq!(error.kind(), ErrorKind::Unsupported);
                    assert!(error.to_string().contains(part), "{error}");
                }
                (result, _) => panic!("{profile}: {result:?}"),
            }
        }
    }
}
