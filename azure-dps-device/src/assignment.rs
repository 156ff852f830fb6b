//! The hub and the device id that a device was assigned: from a registration, from the application, or from
//! a store.

use std::time::Duration;

use azure_dps_core::models::{AssignedDeviceSubstatus, DeviceRegistrationState, EnrollmentStatus};
#[cfg(feature = "tls")]
use azure_dps_core::{CertificateRequest, IssuedCertificate};
use azure_dps_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
#[cfg(feature = "tls")]
use time::OffsetDateTime;

/// The assignment of a device to an IoT hub.
///
/// ```no_run
/// # async fn example(device: azure_dps_device::DeviceClient) -> azure_dps_device::core::Result<()> {
/// let assignment = device.register().await?;
/// println!("connect to {} as {}", assignment.hub(), assignment.device_id());
/// # Ok(())
/// # }
/// ```
///
/// A device keeps its assignment over a restart, so that it can go to its hub without a registration:
///
/// ```
/// use azure_dps_device::Assignment;
///
/// let assignment = Assignment::new("contoso.azure-devices.net", "sensor-042")?;
/// let stored = serde_json::to_string(&assignment)?;
/// assert_eq!(stored, r#"{"assignedHub":"contoso.azure-devices.net","deviceId":"sensor-042"}"#);
///
/// let assignment: Assignment = serde_json::from_str(&stored)?;
/// assert_eq!(assignment.hub(), "contoso.azure-devices.net");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The JSON has the members of the service's registration state, except `payload` and `tpm`: the payload can
/// contain secrets, and `tpm` contains the sealed key of the hub. To keep them too, serialize
/// [`state`](Self::state). An assignment is read from both forms; host name and device id are checked, and
/// unknown members are kept. If the registration had a certificate signing request, its public part is in the
/// member `csr`, so that [`issued_certificate`](Self::issued_certificate) works after a restart too; the
/// private key is never part of an assignment.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "DeviceRegistrationState")]
pub struct Assignment {
    hub: String,
    device_id: String,
    state: DeviceRegistrationState,
    summary: Option<Summary>,
    /// The request that was sent with the registration, without its key.
    #[cfg(feature = "tls")]
    csr: Option<CertificateRequest>,
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
    /// An assignment that the application knows, for example from a store or from the factory.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when `hub` is not a host name, or when hubs do not allow `device_id`. The message
    /// does not repeat them: one may be a key by mistake.
    pub fn new(hub: impl Into<String>, device_id: impl Into<String>) -> Result<Self> {
        let mut state = DeviceRegistrationState::default();
        (state.assigned_hub, state.device_id) = (Some(hub.into()), Some(device_id.into()));
        Self::of(state, None).map_err(|why| Error::new(ErrorKind::Config, why))
    }

    /// The assignment of a registration that has ended as `assigned`.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub(crate) fn registered(state: DeviceRegistrationState, summary: Summary) -> Result<Self> {
        Self::of(state, Some(summary)).map_err(protocol)
    }

    /// Adds the request that was sent with the registration.
    #[cfg(feature = "tls")]
    pub(crate) fn with_csr(mut self, csr: Option<CertificateRequest>) -> Self {
        self.csr = csr;
        self
    }

    /// Checks the hub and the device id of a state with the status `assigned`.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] when one of them is missing or not valid.
    pub(crate) fn check(state: &DeviceRegistrationState) -> Result<()> {
        named(state).map(drop).map_err(protocol)
    }

    #[cfg(not(feature = "tls"))]
    fn stored(state: DeviceRegistrationState) -> Result<Self> {
        Self::of(state, None).map_err(protocol)
    }

    /// An assignment with the certificate signing request that [`Serialize`] has added to its state.
    #[cfg(feature = "tls")]
    fn stored(mut state: DeviceRegistrationState) -> Result<Self> {
        let csr = match state.other.remove(CSR) {
            Some(Value::String(text)) => Some(CertificateRequest::from_base64(&text)?),
            Some(_) => {
                return Err(Error::new(ErrorKind::Config, "the csr of the stored assignment is not a text"));
            }
            None => None,
        };
        Ok(Self::of(state, None).map_err(protocol)?.with_csr(csr))
    }

    fn of(state: DeviceRegistrationState, summary: Option<Summary>) -> Result<Self, String> {
        let (hub, device_id) = named(&state)?;
        Ok(Self {
            hub: hub.to_owned(),
            device_id: device_id.to_owned(),
            state,
            summary,
            #[cfg(feature = "tls")]
            csr: None,
        })
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

    /// Returns the certificate that the service issued for the device, checked against the certificate signing
    /// request and the clock of this machine.
    ///
    /// Each call reads and checks the chain again. The assignment is valid whatever this returns.
    ///
    /// # Errors
    /// As [`issued_certificate_at`](Self::issued_certificate_at).
    #[cfg(feature = "tls")]
    #[doc(alias = "issuedCertificateChain")]
    pub fn issued_certificate(&self) -> Result<IssuedCertificate> {
        self.issued_certificate_at(OffsetDateTime::now_utc())
    }

    /// As [`issued_certificate`](Self::issued_certificate), at the time `now`: for devices that know the time
    /// from another source than the clock of the machine.
    ///
    /// # Errors
    /// - [`ErrorKind::CertificateNotRequested`] when the registration was made without
    ///   [`csr`](crate::Register::csr);
    /// - [`ErrorKind::CertificateNotIssued`] when the answer has no chain, because the enrollment has no
    ///   certificate policy;
    /// - [`ErrorKind::CertificateChain`] when the chain does not fit the request or the time; see
    ///   [`IssuedCertificate::new`].
    #[cfg(feature = "tls")]
    pub fn issued_certificate_at(&self, now: OffsetDateTime) -> Result<IssuedCertificate> {
        let Some(request) = &self.csr else {
            return Err(Error::new(
                ErrorKind::CertificateNotRequested,
                "this registration did not ask for a certificate: it was made without a certificate signing \
                 request",
            ));
        };
        let Some(chain) = self.state.issued_certificate_chain.as_deref() else {
            return Err(Error::new(
                ErrorKind::CertificateNotIssued,
                format!(
                    "the service assigned {:?} to {} and issued no certificate: the answer has no \
                     issuedCertificateChain",
                    self.device_id, self.hub
                ),
            ));
        };
        let texts = chain.as_array().and_then(|chain| chain.iter().map(Value::as_str).collect());
        let texts: Vec<&str> = texts.ok_or_else(|| {
            Error::new(ErrorKind::CertificateChain, "the issuedCertificateChain is not a list of texts")
        })?;
        IssuedCertificate::new(&texts, request, now)
    }

    /// How the registration went; `None` if the assignment does not come from a registration of this client.
    pub fn summary(&self) -> Option<Summary> {
        self.summary
    }
}

/// The record that a look-up returned, or that was stored.
impl TryFrom<DeviceRegistrationState> for Assignment {
    type Error = Error;

    /// # Errors
    /// [`ErrorKind::Registration`] when the status is `failed` or `disabled`, [`ErrorKind::Config`] when it is
    /// another one than `assigned`, and [`ErrorKind::Protocol`] when the hub or the device id is missing or
    /// not valid. A state without a status counts as assigned.
    fn try_from(state: DeviceRegistrationState) -> Result<Self> {
        let kind = match &state.status {
            None | Some(EnrollmentStatus::Assigned) => return Self::stored(state),
            Some(EnrollmentStatus::Failed | EnrollmentStatus::Disabled) => ErrorKind::Registration,
            Some(_) => ErrorKind::Config,
        };
        let status = start(state.status.as_ref().map_or("", EnrollmentStatus::as_str));
        let message =
            format!("the device is not assigned to a hub: the status of its registration is {status:?}");
        Err(Error::new(kind, message).with_state(state))
    }
}

impl Serialize for Assignment {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut state = self.state.clone();
        (state.payload, state.tpm) = (None, None);
        #[cfg(feature = "tls")]
        if let Some(request) = &self.csr {
            state.other.insert(CSR.to_owned(), request.to_base64().into());
        }
        state.serialize(serializer)
    }
}

/// The hub and the device id of a state; the error names the member that is missing or not valid.
fn named(state: &DeviceRegistrationState) -> Result<(&str, &str), String> {
    fn member<'a>(value: &'a Option<String>, name: &str, check: Check) -> Result<&'a str, String> {
        match value.as_deref() {
            None | Some("") => Err(format!("the assignment has no {name}")),
            Some(text) => match check(text) {
                Ok(()) => Ok(text),
                Err(why) => Err(format!("the {name} of the assignment {why}")),
            },
        }
    }
    let hub = member(&state.assigned_hub, "assignedHub", host_name)?;
    Ok((hub, member(&state.device_id, "deviceId", device_id)?))
}

fn protocol(what: String) -> Error {
    Error::new(ErrorKind::Protocol, what)
}

/// The beginning of a text, for messages.
fn start(text: &str) -> String {
    text.chars().take(LONGEST_SHOWN).collect()
}

fn host_name(text: &str) -> Result<(), String> {
    characters(text, 253, "-_.")?;
    let is_label =
        |label: &str| (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-');
    if text.split('.').all(is_label) {
        return Ok(());
    }
    Err("is not a host name: each part between dots has 1 to 63 characters, with no `-` at its ends"
        .to_owned())
}

/// Source: IoT Hub, "Understand the identity registry": the characters and the length of a device id.
fn device_id(text: &str) -> Result<(), String> {
    characters(text, 128, "-.%_*?!(),:=@$'+#;")
}

/// Checks that a text has ASCII letters, digits and these marks only, and not too many of them. The error names
/// a character and its position, and not the text.
fn characters(text: &str, most: usize, marks: &str) -> Result<(), String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || marks.contains(c);
    if let Some((at, found)) = text.chars().enumerate().find(|(_, c)| !is_allowed(*c)) {
        return Err(format!("has the character {found:?} at position {}", at + 1));
    }
    if text.len() > most {
        return Err(format!("has {} characters; the maximum is {most}", text.len()));
    }
    Ok(())
}

/// Checks a text, or says what is wrong with it.
type Check = fn(&str) -> Result<(), String>;

const LONGEST_SHOWN: usize = 80;
/// The member of a stored assignment for the certificate signing request. The service does not send it.
#[cfg(feature = "tls")]
const CSR: &str = "csr";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn checked(hub: &str, device_id: &str) -> Result<(), String> {
        let made = Assignment::new(hub, device_id).map_err(|why| {
            assert_eq!(why.kind(), ErrorKind::Config);
            why.to_string()
        });
        let body = json!({ "assignedHub": hub, "deviceId": device_id });
        let state: DeviceRegistrationState = serde_json::from_value(body.clone()).unwrap();
        let refusals = [
            Assignment::check(&state).map_err(|why| (why.kind(), why.to_string())).err(),
            Assignment::try_from(state).map_err(|why| (why.kind(), why.to_string())).err(),
        ];
        let read = serde_json::from_value::<Assignment>(body).map_err(|why| why.to_string());
        let expected = made.as_ref().err().map(|why| (ErrorKind::Protocol, why.clone()));
        assert_eq!(refusals, [expected.clone(), expected], "every way checks the same");
        assert_eq!(read.as_ref().err(), made.as_ref().err(), "also when it is read");
        made.map(drop)
    }

    #[test]
    fn a_hub_that_is_not_a_host_name_is_refused_and_not_repeated() {
        for hub in ["contoso.azure-devices.net", "localhost", "hub_1.example", "10.0.0.1"] {
            assert_eq!(checked(hub, "dev-1"), Ok(()), "{hub}");
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
            let why = checked(hub, "dev-1").unwrap_err();
            assert!(why.contains("assignedHub") && !why.contains('\n') && !why.contains(hub), "{why}");
        }
        let at = "the assignedHub of the assignment has the character '#' at position 13";
        assert_eq!(checked("hub.azure-de#ices.net", "dev-1").unwrap_err(), at);
        assert!(checked(&"a".repeat(5000), "dev-1").unwrap_err().len() < 200);
    }

    #[test]
    fn a_device_id_that_hubs_do_not_allow_is_refused() {
        assert_eq!(checked("hub.example", "X:1;a-b.c+d%_#*?!(),=@$'"), Ok(()));
        for id in ["a b", "a/b", "a\nb", "\u{dc}nit", "a&b"] {
            assert!(checked("hub.example", id).unwrap_err().contains("deviceId"), "{id}");
        }
        assert!(checked("hub.example", &"a".repeat(129)).is_err());
    }
    #[test]
    fn a_missing_hub_or_device_id_is_named() {
        for (hub, id, name) in [("", "dev-1", "assignedHub"), ("hub.example", "", "deviceId")] {
            assert_eq!(checked(hub, id), Err(format!("the assignment has no {name}")));
        }
        let error = serde_json::from_str::<Assignment>("{}").unwrap_err();
        assert_eq!(error.to_string(), "the assignment has no assignedHub");
    }

    fn full() -> Value {
        json!({
            "registrationId": "dev-1", "createdDateTimeUtc": "2022-08-31T22:02:50.5163352Z",
            "lastUpdatedDateTimeUtc": "2022-08-31T22:02:50.7370676Z", "assignedHub": "hub.example",
            "deviceId": "dev-1", "status": "assigned", "substatus": "initialAssignment", "etag": "IjYxMDAi",
            "payload": {"secret": 1}, "tpm": {"authenticationKey": "AAAA"}, "x509": {},
            "symmetricKey": {"enrollmentGroupId": "plant"}, "generationId": {"of": "later"}
        })
    }

    #[test]
    fn the_stored_form_is_that_of_the_service_without_payload_and_sealed_key() {
        let read: Assignment = serde_json::from_value(full()).unwrap();
        assert_eq!((read.hub(), read.device_id()), ("hub.example", "dev-1"));
        assert_eq!((read.payload(), read.summary()), (Some(&json!({"secret": 1})), None));
        let mut kept = full();
        kept.as_object_mut().unwrap().retain(|name, _| name != "payload" && name != "tpm");
        assert_eq!(serde_json::to_value(&read).unwrap(), kept);
        let again: Assignment = serde_json::from_value(kept.clone()).unwrap();
        assert_eq!(serde_json::to_value(&again).unwrap(), kept);
    }

    #[test]
    fn the_state_keeps_everything_for_those_who_ask() {
        let read: Assignment = serde_json::from_value(full()).unwrap();
        let all = serde_json::to_value(read.state()).unwrap();
        assert_eq!(all, full());
        assert_eq!(serde_json::from_value::<Assignment>(all).unwrap().state(), read.state());
    }

    #[test]
    fn a_state_that_is_not_assigned_is_refused_with_its_status() {
        for (status, kind) in [
            ("failed", ErrorKind::Registration),
            ("disabled", ErrorKind::Registration),
            ("assigning", ErrorKind::Config),
            ("unassigned", ErrorKind::Config),
            ("an unknown word", ErrorKind::Config),
        ] {
            let mut body = full();
            body["status"] = json!(status);
            let state: DeviceRegistrationState = serde_json::from_value(body.clone()).unwrap();
            let error = Assignment::try_from(state.clone()).unwrap_err();
            assert_eq!((error.kind(), error.state()), (kind, Some(&state)), "{error}");
            assert!(error.to_string().contains(&format!("{status:?}")), "{error}");
            let error = serde_json::from_value::<Assignment>(body).unwrap_err();
            assert!(error.to_string().contains(&format!("{status:?}")), "{error}");
        }
    }

    #[test]
    fn a_text_that_is_not_an_assignment_is_an_error() {
        let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
        let deep = format!(r#"{{"assignedHub":"h","deviceId":"d","x":{deep}}}"#);
        for text in [
            "",
            "null",
            "[]",
            "7",
            r#"{"assignedHub":7,"deviceId":"d"}"#,
            r#"{"assignedHub":"h","assignedHub":"i","deviceId":"d"}"#,
            r#"{"assignedHub":"h","deviceId":"d","status":{}}"#,
            &deep,
        ] {
            assert!(serde_json::from_str::<Assignment>(text).is_err(), "{text:.80}");
        }
    }

    #[test]
    fn debug_shows_no_payload_and_no_key() {
        let read: Assignment = serde_json::from_value(full()).unwrap();
        let shown = format!("{read:?} {read:#?}");
        assert!(!shown.contains("secret") && !shown.contains("AAAA"), "{shown}");
    }

    #[test]
    #[cfg(feature = "tls")]
    fn a_stored_assignment_keeps_the_request_and_the_chain_for_a_check_after_a_restart() {
        let request = CertificateRequest::from_pem(include_str!("../../tests/vectors/csr/p384.pem")).unwrap();
        let kind = |assignment: &Assignment| assignment.issued_certificate().unwrap_err().kind();
        let without = Assignment::new("hub.example", "sensor-042").unwrap();
        assert_eq!(kind(&without), ErrorKind::CertificateNotRequested);
        let with = without.with_csr(Some(request.clone()));
        assert_eq!(kind(&with), ErrorKind::CertificateNotIssued);

        let mut stored = serde_json::to_value(&with).unwrap();
        assert_eq!(stored["csr"], request.to_base64());
        let read: Assignment = serde_json::from_value(stored.clone()).unwrap();
        assert_eq!(kind(&read), ErrorKind::CertificateNotIssued);
        assert_eq!(serde_json::to_value(&read).unwrap(), stored);

        stored["issuedCertificateChain"] = json!(["AAAA"]);
        let read: Assignment = serde_json::from_value(stored.clone()).unwrap();
        assert_eq!(kind(&read), ErrorKind::CertificateChain);
        assert_eq!(serde_json::to_value(&read).unwrap(), stored);
        for damaged in [json!(7), json!("marker"), json!("AAAA")] {
            stored["csr"] = damaged;
            let error = serde_json::from_value::<Assignment>(stored.clone()).unwrap_err();
            assert!(!error.to_string().contains("marker"), "{error}");
        }
    }
}
