//! After a lost answer: does the record that is there now say what was sent? Pure.
//!
//! The service adds members of its own (dates, the tag, the registration record), fills defaults, hides symmetric
//! keys, and answers a certificate with its description. Everything else must be equal.

use azure_dps_core::rustls::pki_types::CertificateDer;
use azure_dps_core::rustls::pki_types::pem::PemObject as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

/// Whether `found` is what the service makes of `sent`. Both are whole resources; symmetric keys are not compared.
pub(crate) fn is_applied(sent: &Value, found: &Value) -> bool {
    let (Value::Object(sent), Value::Object(found)) = (sent, found) else {
        return false;
    };
    let names = || sent.keys().chain(found.keys()).filter(|name| !SERVER_SET.contains(&name.as_str()));
    names().all(|name| match (member(sent, name), member(found, name)) {
        (Some(sent), Some(found)) => match name.as_str() {
            "registrationId" | "enrollmentGroupId" => is_same_id(sent, found),
            "attestation" => is_same_attestation(sent, found),
            _ => is_same(sent, found),
        },
        (Some(sent), None) => is_default(name, sent, sent),
        (None, Some(value)) => is_default(name, value, found.get("registrationId").unwrap_or(&Value::Null)),
        (None, None) => true,
    })
}

/// Whether the symmetric keys that were chosen are the ones that are there. Keys left to the service match any.
pub(crate) fn are_keys_applied(sent: &Value, found: &Value) -> bool {
    ["primaryKey", "secondaryKey"].iter().all(|name| match sent.pointer(&format!("/symmetricKey/{name}")) {
        None | Some(Value::Null) => true,
        Some(Value::String(key)) if key.is_empty() => true,
        Some(key) => found.pointer(&format!("/symmetricKey/{name}")) == Some(key),
    })
}

/// A null member is an absent one.
fn member<'a>(of: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    of.get(name).filter(|value| !value.is_null())
}

/// Equal, with null members of objects taken as absent.
fn is_same(sent: &Value, found: &Value) -> bool {
    match (sent, found) {
        (Value::Object(sent), Value::Object(found)) => {
            sent.keys().chain(found.keys()).all(|name| match (member(sent, name), member(found, name)) {
                (Some(sent), Some(found)) => is_same(sent, found),
                (sent, found) => sent.is_none() && found.is_none(),
            })
        }
        _ => sent == found,
    }
}

fn is_same_id(sent: &Value, found: &Value) -> bool {
    match (sent.as_str(), found.as_str()) {
        (Some(sent), Some(found)) => sent.eq_ignore_ascii_case(found),
        _ => false,
    }
}

/// Whether the service fills in this value where none was sent.
fn is_default(name: &str, value: &Value, registration_id: &Value) -> bool {
    match name {
        "provisioningStatus" => value == "enabled",
        "capabilities" => *value == json!({ "iotEdge": false }),
        "reprovisionPolicy" => *value == json!({ "updateHubAssignment": true, "migrateDeviceData": true }),
        "deviceId" => value == registration_id,
        // The instance's own default policy and hubs may be filled in.
        "allocationPolicy" | "iotHubs" => true,
        _ => value.as_object().is_some_and(Map::is_empty) || value == "",
    }
}

fn is_same_attestation(sent: &Value, found: &Value) -> bool {
    if sent.get("type") != found.get("type") {
        return false;
    }
    let part = |of: &Value, name: &str| of.get(name).cloned().unwrap_or(Value::Null);
    let tpm = |of: &Value| part(&part(of, "tpm"), "endorsementKey");
    if tpm(sent) != tpm(found)
        || !is_same(&part(&part(sent, "x509"), "caReferences"), &part(&part(found, "x509"), "caReferences"))
    {
        return false;
    }
    ["clientCertificates", "signingCertificates"].iter().all(|set| {
        ["primary", "secondary"].iter().all(|slot| {
            let at = format!("/x509/{set}/{slot}");
            fingerprint(sent.pointer(&at)) == fingerprint(found.pointer(&at))
        })
    })
}

/// The SHA-256 thumbprint of a certificate slot, from its description or from the certificate itself.
fn fingerprint(slot: Option<&Value>) -> Option<String> {
    let slot = slot?;
    if let Some(text) = slot.get("certificate").and_then(Value::as_str) {
        let der = der(text)?;
        return Some(Sha256::digest(der).iter().map(|byte| format!("{byte:02X}")).collect());
    }
    slot.pointer("/info/sha256Thumbprint").and_then(Value::as_str).map(str::to_ascii_uppercase)
}

/// PEM, base64 of DER, or base64 of PEM: the three forms that are in use.
fn der(text: &str) -> Option<Vec<u8>> {
    let from_pem = |pem: &[u8]| CertificateDer::from_pem_slice(pem).ok().map(|der| der.to_vec());
    from_pem(text.as_bytes()).or_else(|| {
        let bytes = BASE64.decode(text.split_ascii_whitespace().collect::<String>()).ok()?;
        from_pem(&bytes).or(Some(bytes))
    })
}

const SERVER_SET: [&str; 4] = ["etag", "createdDateTimeUtc", "lastUpdatedDateTimeUtc", "registrationState"];

#[cfg(test)]
mod tests {
    use super::*;

    fn sent() -> Value {
        json!({ "registrationId": "Dev-1", "attestation": { "type": "symmetricKey" }, "iotHubs": ["a"] })
    }

    fn found() -> Value {
        json!({
            "registrationId": "dev-1", "attestation": { "type": "symmetricKey", "symmetricKey": {} },
            "iotHubs": ["a"], "deviceId": "dev-1", "etag": "\"1\"", "createdDateTimeUtc": "2026-01-01T00:00:00Z",
            "lastUpdatedDateTimeUtc": "2026-01-01T00:00:00Z", "registrationState": { "status": "assigned" },
            "provisioningStatus": "enabled", "allocationPolicy": "hashed", "capabilities": { "iotEdge": false },
            "reprovisionPolicy": { "updateHubAssignment": true, "migrateDeviceData": true },
            "initialTwin": null, "optionalDeviceInformation": {}
        })
    }

    fn with(mut of: Value, name: &str, value: Value) -> Value {
        of[name] = value;
        of
    }

    #[test]
    fn server_set_members_and_defaults_do_not_matter() {
        assert!(is_applied(&sent(), &found()));
    }

    #[test]
    fn any_other_difference_does() {
        for (name, value) in [
            ("provisioningStatus", json!("disabled")),
            ("iotHubs", json!(["b"])),
            ("deviceId", json!("other")),
            ("registrationId", json!("dev-2")),
            ("capabilities", json!({ "iotEdge": true })),
            ("initialTwin", json!({ "tags": { "a": 1 } })),
            ("attestation", json!({ "type": "tpm", "tpm": { "endorsementKey": "AA==" } })),
            ("memberOfANewerVersion", json!(1)),
        ] {
            assert!(!is_applied(&sent(), &with(found(), name, value.clone())), "{name} {value}");
        }
        assert!(!is_applied(&with(sent(), "provisioningStatus", json!("disabled")), &found()));
        assert!(!is_applied(&with(sent(), "initialTwin", json!({ "tags": { "a": 1 } })), &found()));
        assert!(!is_applied(&sent(), &json!("text")));
    }

    #[test]
    fn nulls_are_absent_at_every_depth() {
        let twin = |tags: Value| json!({ "tags": tags, "properties": null });
        let left = with(sent(), "initialTwin", twin(json!({ "a": 1, "b": null })));
        let right = with(found(), "initialTwin", json!({ "tags": { "a": 1 } }));
        assert!(is_applied(&left, &right));
    }

    #[test]
    fn a_certificate_is_known_by_its_thumbprint() {
        let certificate = BASE64.encode(b"any bytes");
        let hash: String = Sha256::digest(b"any bytes").iter().map(|byte| format!("{byte:02x}")).collect();
        let x509 =
            |slot: Value| json!({ "type": "x509", "x509": { "clientCertificates": { "primary": slot } } });
        let sent = with(sent(), "attestation", x509(json!({ "certificate": certificate })));
        let same = with(found(), "attestation", x509(json!({ "info": { "sha256Thumbprint": hash } })));
        let other = with(found(), "attestation", x509(json!({ "info": { "sha256Thumbprint": "00" } })));
        assert!(is_applied(&sent, &same));
        assert!(!is_applied(&sent, &other));
    }

    #[test]
    fn chosen_keys_must_be_there_and_generated_ones_may_be_any() {
        let keys = |a: &str, b: &str| json!({ "type": "symmetricKey", "symmetricKey": { "primaryKey": a, "secondaryKey": b } });
        assert!(are_keys_applied(&keys("AAAA", ""), &keys("AAAA", "BBBB")));
        assert!(!are_keys_applied(&keys("AAAA", "CCCC"), &keys("AAAA", "BBBB")));
        assert!(are_keys_applied(&json!({ "type": "symmetricKey" }), &keys("AAAA", "BBBB")));
        assert!(!are_keys_applied(&keys("AAAA", ""), &json!({})));
    }
}
