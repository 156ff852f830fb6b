//! After a lost answer: does the record that is there now say what was sent? Pure.
//!
//! The service adds members of its own (dates, the tag, the registration record), fills defaults, hides symmetric
//! keys, and answers a certificate with its description. Everything else must be equal, and the tag must be a new one.

use azure_dps_core::rustls::pki_types::CertificateDer;
use azure_dps_core::rustls::pki_types::pem::PemObject as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

/// What a look at the record says about a write whose outcome was in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The record is what the write makes of it.
    Applied,
    /// The record, or its absence, is what it was before the write.
    NotApplied,
    /// Somebody else wrote or deleted the record, before the write or after it.
    Unclear,
}

/// Judges a write of `sent`, which began after `since`, by the whole record that was found. Symmetric keys
/// are not compared.
///
/// | sent | found | |
/// |---|---|---|
/// | without a tag | nothing | not applied |
/// | with a tag | nothing | unclear: it was deleted |
/// | any | last written a day before `since` or earlier | not applied |
/// | with a tag | the same tag | not applied |
/// | any | the same, with a new tag or date | applied |
/// | any | anything else | unclear |
pub(crate) fn judge(sent: &Value, found: Option<&Value>, since: OffsetDateTime) -> Verdict {
    let tag = |of: &Value| of.get("etag").filter(|tag| !tag.is_null()).cloned();
    let Some(found) = found else {
        return if tag(sent).is_none() { Verdict::NotApplied } else { Verdict::Unclear };
    };
    if is_applied(sent, found, since) {
        return Verdict::Applied;
    }
    let written = found
        .as_object()
        .map(|found| date(found, "lastUpdatedDateTimeUtc").max(date(found, "createdDateTimeUtc")));
    let is_older = written.flatten().is_some_and(|written| written < since - MOST_SKEW);
    let has_same_tag = tag(sent).is_some_and(|sent| tag(found) == Some(sent));
    if is_older || has_same_tag { Verdict::NotApplied } else { Verdict::Unclear }
}

/// Whether `found` is what the service makes of `sent`, which was sent after `since`. Both are whole resources;
/// symmetric keys are not compared.
fn is_applied(sent: &Value, found: &Value, since: OffsetDateTime) -> bool {
    let (Value::Object(sent), Value::Object(found)) = (sent, found) else {
        return false;
    };
    let is_new = match (member(sent, "etag"), member(found, "etag")) {
        (Some(sent), Some(found)) => sent != found,
        (Some(_), None) => false,
        // A create: a record that is older, or was changed since, is somebody else's.
        (None, _) => {
            let (created, changed) =
                (date(found, "createdDateTimeUtc"), date(found, "lastUpdatedDateTimeUtc"));
            created == changed && created.is_none_or(|created| since - CLOCK_SKEW <= created)
        }
    };
    let names = || sent.keys().chain(found.keys()).filter(|name| !SERVER_SET.contains(&name.as_str()));
    is_new
        && names().all(|name| match (member(sent, name), member(found, name)) {
            (Some(sent), Some(found)) => match name.as_str() {
                "registrationId" | "enrollmentGroupId" => is_same_id(sent, found),
                "attestation" => is_same(&comparable(sent), &comparable(found)),
                _ => is_same(sent, found),
            },
            (Some(value), None) => is_nothing(name, value, sent),
            // The instance's own default policy and hubs may be filled in.
            (None, Some(value)) => {
                matches!(name.as_str(), "allocationPolicy" | "iotHubs") || is_nothing(name, value, found)
            }
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

/// Whether a member of this record with this value says no more than the member's absence.
fn is_nothing(name: &str, value: &Value, record: &Map<String, Value>) -> bool {
    match name {
        "provisioningStatus" => value == "enabled",
        "capabilities" => *value == json!({ "iotEdge": false }),
        "reprovisionPolicy" => *value == json!({ "updateHubAssignment": true, "migrateDeviceData": true }),
        "deviceId" => record.get("registrationId") == Some(value),
        "iotHubs" => value.as_array().is_some_and(Vec::is_empty),
        _ => value.as_object().is_some_and(Map::is_empty) || value == "",
    }
}

/// An attestation without what a read hides, and with thumbprints for certificates.
fn comparable(attestation: &Value) -> Value {
    let mut attestation = attestation.clone();
    if let Some(members) = attestation.as_object_mut() {
        members.remove("symmetricKey");
    }
    // The service may answer an empty key where none was given.
    if let Some(tpm) = attestation.get_mut("tpm").and_then(Value::as_object_mut) {
        tpm.retain(|name, value| name != "storageRootKey" || value != "");
    }
    for set in ["clientCertificates", "signingCertificates"] {
        for slot in ["primary", "secondary"] {
            if let Some(slot) = attestation.pointer_mut(&format!("/x509/{set}/{slot}")) {
                *slot = fingerprint(slot).map_or(Value::Null, Value::from);
            }
        }
    }
    attestation
}

/// The time that the service wrote into a member.
fn date(of: &Map<String, Value>, name: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(member(of, name)?.as_str()?, &Rfc3339).ok()
}

/// The SHA-256 thumbprint of a certificate slot, from its description or from the certificate itself.
fn fingerprint(slot: &Value) -> Option<String> {
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

/// How far the clock of this machine may be ahead of the service's.
const CLOCK_SKEW: Duration = Duration::minutes(10);

/// How far it is not ahead for certain: what is older was not written by this call.
const MOST_SKEW: Duration = Duration::days(1);

const SERVER_SET: [&str; 4] = ["etag", "createdDateTimeUtc", "lastUpdatedDateTimeUtc", "registrationState"];

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const SINCE: OffsetDateTime = datetime!(2026-01-01 00:05 UTC);

    fn is_applied(sent: &Value, found: &Value) -> bool {
        super::is_applied(sent, found, SINCE)
    }

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
    fn a_member_that_is_not_there_was_not_applied_unless_it_says_nothing() {
        let found =
            || json!({ "registrationId": "Dev-1", "attestation": { "type": "symmetricKey" }, "etag": "2" });
        let sent = |name: &str, value: Value| {
            with(
                json!({ "registrationId": "Dev-1", "attestation": { "type": "symmetricKey" }, "etag": "1" }),
                name,
                value,
            )
        };
        for (name, value) in [
            ("deviceId", json!("line-3")),
            ("iotHubs", json!(["a"])),
            ("allocationPolicy", json!("hashed")),
            ("provisioningStatus", json!("disabled")),
            ("initialTwin", json!({ "tags": { "a": 1 } })),
        ] {
            assert!(!is_applied(&sent(name, value), &found()), "{name}");
        }
        for (name, value) in
            [("deviceId", json!("Dev-1")), ("iotHubs", json!([])), ("provisioningStatus", json!("enabled"))]
        {
            assert!(is_applied(&sent(name, value), &found()), "{name}");
        }
    }

    #[test]
    fn the_tag_of_a_record_that_was_written_is_a_new_one() {
        let conditional = |etag: &str| with(sent(), "etag", json!(etag));
        assert!(is_applied(&conditional("\"0\""), &found()));
        assert!(!is_applied(&conditional("\"1\""), &found()), "nobody wrote");
    }

    #[test]
    fn a_record_that_was_created_before_or_changed_since_is_somebody_elses() {
        assert!(!super::is_applied(&sent(), &found(), SINCE + Duration::minutes(10)));
        let changed = with(found(), "lastUpdatedDateTimeUtc", json!("2026-01-01T00:01:00Z"));
        assert!(!is_applied(&sent(), &changed));
    }

    #[test]
    fn a_verdict_is_what_the_record_shows() {
        use Verdict::{Applied, NotApplied, Unclear};
        let conditional = |etag: &str| with(sent(), "etag", json!(etag));
        let other = with(found(), "deviceId", json!("other"));
        let of = |found: &Value, written: &str| with(found.clone(), "lastUpdatedDateTimeUtc", json!(written));
        let (long_ago, later) = ("2025-12-30T00:00:00Z", "2026-01-01T00:06:00Z");
        let created_long_ago = with(of(&other, long_ago), "createdDateTimeUtc", json!(long_ago));
        for (sent, found, verdict) in [
            (sent(), None, NotApplied),
            (conditional("\"0\""), None, Unclear),
            (sent(), Some(found()), Applied),
            (conditional("\"0\""), Some(found()), Applied),
            (conditional("\"1\""), Some(found()), NotApplied),
            (conditional("\"1\""), Some(other.clone()), NotApplied),
            (conditional("\"0\""), Some(of(&other, later)), Unclear),
            (conditional("\"0\""), Some(created_long_ago.clone()), NotApplied),
            (sent(), Some(other.clone()), Unclear),
            (sent(), Some(created_long_ago), NotApplied),
            (sent(), Some(json!("text")), Unclear),
        ] {
            assert_eq!(judge(&sent, found.as_ref(), SINCE), verdict, "{sent} {found:?}");
        }
    }

    #[test]
    fn attestations_are_compared_whole() {
        let tpm = |root: Value| {
            let tpm = json!({ "endorsementKey": "AA==", "storageRootKey": root });
            json!({ "type": "tpm", "tpm": tpm })
        };
        let of = |record: Value, attestation: Value| with(record, "attestation", attestation);
        assert!(is_applied(&of(sent(), tpm(json!(null))), &of(found(), tpm(json!("")))));
        assert!(!is_applied(&of(sent(), tpm(json!("AA=="))), &of(found(), tpm(json!("BB==")))));
        let newer = |detail: u8| json!({ "type": "ofANewerVersion", "detail": detail });
        assert!(!is_applied(&of(sent(), newer(1)), &of(found(), newer(2))));
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
