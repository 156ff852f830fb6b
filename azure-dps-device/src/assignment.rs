//! What a successful registration gives: the hub, the device id, and how it was obtained.

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
    /// The transport that was used, for example `HTTPS`.
    pub transport: &'static str,
    /// How often the client asked the transport to connect; 1 when nothing was lost.
    pub connects: u32,
    /// How many requests were sent: the registration and every poll.
    pub requests: u32,
    /// From the call to the assignment.
    pub elapsed: Duration,
}

impl Assignment {
    /// The parsed view of a state.
    ///
    /// # Errors
    /// As [`named`](Self::named).
    pub(crate) fn new(state: DeviceRegistrationState, summary: Summary) -> Result<Self> {
        let (hub, device_id) = Self::named(&state)?;
        Ok(Self { hub: hub.to_owned(), device_id: device_id.to_owned(), state, summary })
    }

    /// The hub and the device id of a state that is called assigned.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] when it names no hub or no device.
    pub(crate) fn named(state: &DeviceRegistrationState) -> Result<(&str, &str)> {
        fn text<'a>(value: &'a Option<String>, what: &str) -> Result<&'a str> {
            value.as_deref().filter(|text| !text.is_empty()).ok_or_else(|| {
                Error::new(ErrorKind::Protocol, format!("the service says assigned but names no {what}"))
            })
        }
        Ok((text(&state.assigned_hub, "hub")?, text(&state.device_id, "device id")?))
    }

    /// The host name of the assigned hub, for example `contoso.azure-devices.net`.
    #[doc(alias = "assignedHub")]
    pub fn hub(&self) -> &str {
        &self.hub
    }

    /// The device's id at that hub. It may differ from the registration id.
    pub fn device_id(&self) -> &str {
        &self.device_id
    }

    /// Whether this is the first assignment, and what became of the twin if the device moved.
    pub fn substatus(&self) -> Option<&AssignedDeviceSubstatus> {
        self.state.substatus.as_ref()
    }

    /// What a custom allocation function gave for this device.
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
    /// The whole connection: host [`hub`](Self::hub), port 8883 over TLS, client id [`device_id`](Self::device_id),
    /// this user name, and as password the token of [`Credential::hub_token`](crate::Credential::hub_token).
    ///
    /// The device id is not percent-encoded. Of Microsoft's clients the one for embedded C encodes `/ % # &` and those
    /// for C#, Node.js and Python encode nothing. `/` and `&` are in no hub's device ids; how a hub reads `%`, `#` and
    /// `?` here is not documented, so avoid these three in ids of devices that use MQTT.
    ///
    /// Source: "Communicate with an IoT hub using the MQTT protocol".
    pub fn hub_mqtt_user_name(&self) -> String {
        format!("{}/{}/?api-version={HUB_API_VERSION}", self.hub, self.device_id)
    }
}

const HUB_API_VERSION: &str = "2021-04-12";
