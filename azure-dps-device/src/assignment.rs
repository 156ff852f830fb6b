//! The result of a successful registration: the hub, the device id, and how the registration went.

use std::time::Duration;

use azure_dps_core::models::{AssignedDeviceSubstatus, DeviceRegistrationState};
use azure_dps_core::{Error, ErrorKind, Result};
use serde_json::Value;

/// The assignment of a device to an IoT hub.
///
/// ```no_run
/// # async fn example(device: azure_dps_device::DeviceClient) -> azure_dps_device::core::Result<()> {
/// let assignment = device.register().await?;
/// println!("connect to {} as {}", assignment.hub(), assignment.device_id());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Assignment {
    hub: String,
    device_id: String,
    state: DeviceRegistrationState,
    summary: Summary,
}

/// How a registration went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// The name of the transport that was used, for example `HTTPS`.
    pub transport: &'static str,
    /// How often the client asked the transport to connect; 1 if no connection was lost.
    pub connects: u32,
    /// How many requests the client sent: the registration and every poll.
    pub requests: u32,
    /// The time from the call to the assignment.
    pub elapsed: Duration,
}

impl Assignment {
    /// Reads the hub and the device id from a state.
    ///
    /// # Errors
    /// As [`named`](Self::named).
    pub(crate) fn new(state: DeviceRegistrationState, summary: Summary) -> Result<Self> {
        let (hub, device_id) = Self::named(&state)?;
        Ok(Self { hub: hub.to_owned(), device_id: device_id.to_owned(), state, summary })
    }

    /// Returns the hub and the device id of a state with the status `assigned`.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] when one of them is missing or not valid.
    pub(crate) fn named(state: &DeviceRegistrationState) -> Result<(&str, &str)> {
        fn text<'a>(value: &'a Option<String>, what: &str) -> Result<&'a str> {
            value.as_deref().filter(|text| !text.is_empty()).ok_or_else(|| {
                Error::new(
                    ErrorKind::Protocol,
                    format!("the service assigned the device but did not name the {what}"),
                )
            })
        }
        let (hub, device_id) = (text(&state.assigned_hub, "hub")?, text(&state.device_id, "device id")?);
        for (value, name, fits) in
            [(hub, "assignedHub", is_host_name(hub)), (device_id, "deviceId", is_device_id(device_id))]
        {
            if !fits {
                let start: String = value.chars().take(LONGEST_SHOWN).collect();
                let message = format!("the service sent an invalid {name}: {start:?}");
                return Err(Error::new(ErrorKind::Protocol, message));
            }
        }
        Ok((hub, device_id))
    }

    /// The host name of the assigned hub, for example `contoso.azure-devices.net`.
    #[doc(alias = "assignedHub")]
    pub fn hub(&self) -> &str {
        &self.hub
    }

    /// The device's id at that hub. It can differ from the registration id.
    pub fn device_id(&self) -> &str {
        &self.device_id
    }

    /// Whether this is the first assignment, and whether the device's twin moved with it from another hub.
    pub fn substatus(&self) -> Option<&AssignedDeviceSubstatus> {
        self.state.substatus.as_ref()
    }

    /// The data that the custom allocation function returned for this device.
    pub fn payload(&self) -> Option<&Value> {
        self.state.payload.as_deref()
    }

    /// The whole registration state, as the service reported it.
    pub fn state(&self) -> &DeviceRegistrationState {
        &self.state
    }

    /// How the registration went.
    pub fn summary(&self) -> Summary {
        self.summary
    }

    /// The MQTT user name of this device at its hub: `{hub}/{deviceId}/?api-version=2021-04-12`.
    ///
    /// The other parameters of the connection are the host [`hub`](Self::hub), port 8883 with TLS, the client
    /// id [`device_id`](Self::device_id), and the token of
    /// [`Credential::hub_token`](crate::Credential::hub_token) as password.
    ///
    /// The device id is not percent-encoded. Microsoft's client for embedded C encodes `/ % # &`; those for
    /// C#, Node.js and Python do not encode. A hub does not allow `/` and `&` in device ids. How it reads
    /// `%`, `#` and `?` here is not documented, so avoid these three in the ids of devices that use MQTT.
    ///
    /// Source: "Communicate with an IoT hub using the MQTT protocol".
    pub fn hub_mqtt_user_name(&self) -> String {
        format!("{}/{}/?api-version={HUB_API_VERSION}", self.hub, self.device_id)
    }
}

fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

/// Source: IoT Hub, "Understand the identity registry": the characters and the length of a device id.
fn is_device_id(text: &str) -> bool {
    text.len() <= 128 && text.chars().all(|c| c.is_ascii_alphanumeric() || "-.%_*?!(),:=@$'+#;".contains(c))
}

const LONGEST_SHOWN: usize = 80;
const HUB_API_VERSION: &str = "2021-04-12";

#[cfg(test)]
mod tests {
    use super::*;

    fn named(hub: &str, device_id: &str) -> std::result::Result<(), String> {
        let mut state = DeviceRegistrationState::default();
        (state.assigned_hub, state.device_id) = (Some(hub.to_owned()), Some(device_id.to_owned()));
        match Assignment::named(&state) {
            Ok(_) => Ok(()),
            Err(why) => {
                assert_eq!(why.kind(), ErrorKind::Protocol);
                Err(why.to_string())
            }
        }
    }

    #[test]
    fn a_hub_that_is_not_a_host_name_is_refused_and_shown_escaped() {
        for hub in ["contoso.azure-devices.net", "localhost", "hub_1.example", "10.0.0.1"] {
            assert_eq!(named(hub, "dev-1"), Ok(()), "{hub}");
        }
        for hub in [
            "hub.azure-de#ices.net",
            "hub/../x",
            "a..b",
            "-a.example",
            "hub:443",
            "h\r\nx",
            "h\u{fc}b.example",
        ] {
            let why = named(hub, "dev-1").unwrap_err();
            assert!(why.contains("assignedHub") && !why.contains('\n'), "{why}");
        }
        assert!(named(&"a".repeat(5000), "dev-1").unwrap_err().len() < 200);
    }

    #[test]
    fn a_device_id_that_hubs_do_not_allow_is_refused() {
        assert_eq!(named("hub.example", "X:1;a-b.c+d%_#*?!(),=@$'"), Ok(()));
        for id in ["a b", "a/b", "a\nb", "\u{dc}nit", "a&b"] {
            assert!(named("hub.example", id).unwrap_err().contains("deviceId"), "{id}");
        }
        assert!(named("hub.example", &"a".repeat(129)).is_err());
    }
}
