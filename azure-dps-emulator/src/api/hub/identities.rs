//! Writes and lists the identities of devices at a hub.
//!
//! | `PUT /devices/{id}` | outcome |
//! | --- | --- |
//! | the device is unknown, without `If-Match` or with `*` | created |
//! | the device is unknown, with an etag | 412 |
//! | the device is known, without `If-Match` | 409 |
//! | the device is known, with its etag or `*` | updated |
//!
//! An update without `authentication` keeps the credentials. Keys that a device with keys does not get are
//! made from its id, so that they are the same in every run.

use base64::prelude::{BASE64_STANDARD, Engine};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::api::hub::found::{check_tags, object, quoted};
use crate::api::hub::refusal::HubRefusal;
use crate::call::answer::Answer;
use crate::call::hub::HubRequest;
use crate::call::schema::Body;
use crate::ids;
use crate::json::{Value, json};
use crate::records::hubs::{Authentication, HubDevice, IdentityWrite};
use crate::state::State;

pub(super) fn put(
    state: &mut State,
    request: &HubRequest,
    id: &str,
    body: &Body,
    now: OffsetDateTime,
) -> Result<Answer, HubRefusal> {
    let known = state.hubs.find(&request.hub, id);
    match (known, request.if_match.as_deref()) {
        (Some(device), Some(wanted)) => check_tags(&device.etag(), wanted)?,
        (Some(_), None) => {
            let message = format!("A device with ID '{id}' is already registered.");
            return Err(HubRefusal::new(409, "DeviceAlreadyExists", message));
        }
        (None, Some(wanted)) => check_tags("", wanted)?,
        (None, None) => {}
    }
    if let Some(why) = ids::why_not_a_device_id(id) {
        return Err(HubRefusal::invalid(format!("the device id {why}")));
    }
    let write = read(body, id, known.map(HubDevice::authentication)).map_err(HubRefusal::invalid)?;
    let device = state.hubs.write(&request.hub, id, write, now);
    Ok(Answer::ok(device.identity()).with_etag(&quoted(&device.etag())))
}

pub(super) fn list(state: &State, request: &HubRequest) -> Result<Answer, HubRefusal> {
    let top = match request.top.as_deref().map(str::parse::<usize>) {
        None => MOST_LISTED,
        Some(Ok(top @ 1..=MOST_LISTED)) => top,
        Some(_) => {
            return Err(HubRefusal::invalid(format!("top must be a whole number from 1 to {MOST_LISTED}")));
        }
    };
    Ok(Answer::ok(state.hubs.of(&request.hub).take(top).map(HubDevice::identity).collect::<Value>()))
}

fn read(body: &Body, id: &str, known: Option<&Authentication>) -> Result<IdentityWrite, String> {
    let members = &object(body)?;
    match members["deviceId"].as_str() {
        Some(named) if named == id => {}
        _ => return Err("deviceId of the body is not the id in the path".to_owned()),
    }
    let disabled = match members["status"].as_str() {
        None | Some("enabled") => false,
        Some("disabled") => true,
        Some(other) => return Err(format!("status {other} is neither enabled nor disabled")),
    };
    let authentication = match (&members["authentication"], known) {
        (Value::Null, Some(known)) => known.clone(),
        (given, known) => authentication(given, id, known)?,
    };
    let capabilities = match &members["capabilities"] {
        Value::Null => json!({"iotEdge": false}),
        given @ Value::Object(_) => given.clone(),
        _ => return Err("capabilities must be an object".to_owned()),
    };
    let reason = members["statusReason"].as_str().map(str::to_owned);
    Ok(IdentityWrite { authentication, disabled, reason, capabilities })
}

fn authentication(given: &Value, id: &str, known: Option<&Authentication>) -> Result<Authentication, String> {
    let thumbprint = |name: &str| match given["x509Thumbprint"].get(name).unwrap_or(&Value::Null) {
        Value::Null => Ok(None),
        Value::String(text) if is_thumbprint(text) => Ok(Some(text.to_ascii_uppercase())),
        _ => Err(format!("{name} is not 40 or 64 hexadecimal digits")),
    };
    let (primary, secondary) = (thumbprint("primaryThumbprint")?, thumbprint("secondaryThumbprint")?);
    match given["type"].as_str() {
        Some("certificateAuthority") => Ok(Authentication::CertificateAuthority),
        Some("selfSigned") if primary.is_none() && secondary.is_none() => {
            Err("a device with selfSigned certificates needs a thumbprint".to_owned())
        }
        Some("selfSigned") => Ok(Authentication::SelfSigned { primary, secondary }),
        None if primary.is_some() || secondary.is_some() => {
            Ok(Authentication::SelfSigned { primary, secondary })
        }
        None | Some("sas") => {
            let known = match known {
                Some(Authentication::Sas { primary, secondary }) => Some((primary, secondary)),
                _ => None,
            };
            let key = |name: &str, known: Option<&Vec<u8>>| match given["symmetricKey"]
                .get(name)
                .unwrap_or(&Value::Null)
            {
                Value::Null => Ok(known.cloned().unwrap_or_else(|| made_key(id, name))),
                Value::String(text) => {
                    read_key(text).ok_or_else(|| format!("{name} is not base64 of 16 to 64 bytes"))
                }
                _ => Err(format!("{name} must be a string")),
            };
            Ok(Authentication::Sas {
                primary: key("primaryKey", known.map(|(primary, _)| primary))?,
                secondary: key("secondaryKey", known.map(|(_, secondary)| secondary))?,
            })
        }
        Some(other) => {
            Err(format!("authentication.type {other} is none of sas, selfSigned, certificateAuthority"))
        }
    }
}

/// A SHA-1 or SHA-256 thumbprint.
fn is_thumbprint(text: &str) -> bool {
    [40, 64].contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn read_key(text: &str) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(text).ok().filter(|key| (16..=64).contains(&key.len()))
}

fn made_key(id: &str, name: &str) -> Vec<u8> {
    Sha256::digest(format!("emulated {name} of {id}")).to_vec()
}

const MOST_LISTED: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_with_each_kind_of_credential() {
        let keys = json!({"primaryKey": KEY, "secondaryKey": KEY});
        let sas = Authentication::Sas { primary: vec![0; 16], secondary: vec![0; 16] };
        let print = "0123456789abcdef0123456789abcdef01234567";
        let self_signed = Authentication::SelfSigned { primary: Some(print.to_uppercase()), secondary: None };
        for (given, wanted) in [
            (json!({"type": "sas", "symmetricKey": keys}), sas.clone()),
            (json!({"symmetricKey": keys}), sas),
            (
                json!({"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": print}}),
                self_signed.clone(),
            ),
            (json!({"x509Thumbprint": {"primaryThumbprint": print}}), self_signed),
            (json!({"type": "certificateAuthority"}), Authentication::CertificateAuthority),
        ] {
            let body = json!({"deviceId": "d1", "authentication": given});
            assert_eq!(write(&body, None).unwrap().authentication, wanted, "{given}");
        }
    }

    #[test]
    fn absent_keys_are_made_and_stay() {
        let made = write(&json!({"deviceId": "d1"}), None).unwrap().authentication;
        let Authentication::Sas { primary, secondary } = &made else { panic!("keys are the default") };
        assert!(primary != secondary && primary.len() == 32);

        let again = write(&json!({"deviceId": "d1", "status": "disabled"}), Some(&made)).unwrap();
        assert!(again.disabled);
        assert_eq!(again.authentication, made);
        let rolled = json!({"deviceId": "d1", "authentication": {"symmetricKey": {"primaryKey": KEY}}});
        let Authentication::Sas { primary, secondary: kept } =
            write(&rolled, Some(&made)).unwrap().authentication
        else {
            panic!("it keeps its kind");
        };
        assert_eq!((primary, &kept), (vec![0; 16], secondary));
    }

    #[test]
    fn an_identity_that_cannot_be_used_is_refused_with_the_reason() {
        for (body, why) in [
            (json!({}), "deviceId of the body is not the id in the path"),
            (json!({"deviceId": "D1"}), "deviceId of the body is not the id in the path"),
            (json!({"deviceId": "d1", "status": "on"}), "status on is neither enabled nor disabled"),
            (json!({"deviceId": "d1", "capabilities": 1}), "capabilities must be an object"),
            (
                json!({"deviceId": "d1", "authentication": {"symmetricKey": {"primaryKey": "AAAA"}}}),
                "primaryKey is not base64 of 16 to 64 bytes",
            ),
            (
                json!({"deviceId": "d1", "authentication": {"type": "selfSigned"}}),
                "a device with selfSigned certificates needs a thumbprint",
            ),
            (
                json!({"deviceId": "d1", "authentication": {"x509Thumbprint": {"primaryThumbprint": "x"}}}),
                "primaryThumbprint is not 40 or 64 hexadecimal digits",
            ),
            (
                json!({"deviceId": "d1", "authentication": {"type": "none"}}),
                "authentication.type none is none of sas, selfSigned, certificateAuthority",
            ),
        ] {
            assert_eq!(write(&body, None).unwrap_err(), why);
        }
    }

    const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAA==";

    fn write(body: &Value, known: Option<&Authentication>) -> Result<IdentityWrite, String> {
        read(&Body { bytes: body.to_string().into_bytes(), json: true }, "d1", known)
    }
}
