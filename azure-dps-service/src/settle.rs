//! After a lost answer: does the stored record show that the write was applied? Pure.
//!
//! The service adds members (dates, the etag, the registration record), fills in defaults, hides symmetric
//! keys, and returns the description of a certificate instead of the certificate. If everything else is
//! equal, the record *says the same*. It *contradicts* the write if it has another attestation, device id,
//! status or allocation policy, because the service stores these unchanged. Any other difference may come
//! from the service.
//!
//! The service refuses a create if the record exists, so the verdict depends on when the record was created:
//!
//! | what a create finds | |
//! |---|---|
//! | nothing | not applied |
//! | a record created before the write began, changed since or not | not applied |
//! | a record that says the same, created since and unchanged | applied |
//! | a record that contradicts, created since and unchanged: other clients created it | not applied |
//! | a record created since and then changed: other clients may have changed ours | unclear |
//! | a record created since, with a difference that may come from the service | unclear |
//!
//! The service refuses a conditional write if the etag differs, so the verdict depends on the last write:
//!
//! | what a conditional write finds | |
//! |---|---|
//! | nothing: the record was deleted, before the write or after it | unclear |
//! | the etag that was sent | not applied |
//! | a record last written before the write began | not applied |
//! | a record that says the same, with a new etag | applied |
//! | any other record written since: before the write or after it | unclear |
//!
//! [`since`](crate::since) defines "before" and "since". The tests below are the rows.

use azure_dps_core::plumbing::certificate_der;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::since::Since;

/// The verdict on a write whose outcome was unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The record is the result of the write.
    Applied,
    /// The record, or its absence, is not the result of the write: the write was refused or did not arrive.
    NotApplied,
    /// Other clients wrote or deleted the record, either before the write or after it.
    Unclear,
}

/// The condition under which the service applies a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition<'a> {
    /// The record does not exist.
    Absent,
    /// The record has this etag; `None` when the condition is unknown.
    Version(Option<&'a str>),
}

/// Judges a write of `sent` by the complete record that was found. It does not compare symmetric keys.
pub(crate) fn judge(sent: &Value, condition: Condition<'_>, found: Option<&Value>, since: &Since) -> Verdict {
    let Some(found) = found else {
        let is_create = condition == Condition::Absent;
        return if is_create { Verdict::NotApplied } else { Verdict::Unclear };
    };
    let (Value::Object(sent), Value::Object(found)) = (sent, found) else {
        return Verdict::Unclear;
    };
    match condition {
        Condition::Absent => judge_create(sent, found, since),
        Condition::Version(tag) => judge_replacement(sent, tag, found, since),
    }
}

fn judge_create(sent: &Map<String, Value>, found: &Map<String, Value>, since: &Since) -> Verdict {
    let created = date(found, "createdDateTimeUtc");
    let is_unchanged = created == date(found, "lastUpdatedDateTimeUtc");
    if created.is_some_and(|created| since.is_older(created)) {
        Verdict::NotApplied
    } else if !is_unchanged {
        Verdict::Unclear
    } else if says_the_same(sent, found) && created.is_none_or(|created| since.may_be_own(created)) {
        Verdict::Applied
    } else if created.is_some() && contradicts(sent, found) {
        Verdict::NotApplied
    } else {
        Verdict::Unclear
    }
}

fn judge_replacement(
    sent: &Map<String, Value>,
    tag: Option<&str>,
    found: &Map<String, Value>,
    since: &Since,
) -> Verdict {
    let stored = member(found, "etag").and_then(Value::as_str);
    let written = date(found, "lastUpdatedDateTimeUtc").max(date(found, "createdDateTimeUtc"));
    let has_same_tag = tag.is_some_and(|tag| stored.is_some_and(|stored| is_same_tag(tag, stored)));
    let is_new = match tag {
        Some(_) => stored.is_some(),
        None => written.is_some_and(|written| since.may_be_own(written)),
    };
    if has_same_tag || written.is_some_and(|written| since.is_older(written)) {
        Verdict::NotApplied
    } else if is_new && says_the_same(sent, found) {
        Verdict::Applied
    } else {
        Verdict::Unclear
    }
}

/// Some clients put a tag in quotes, which the service does not count.
fn is_same_tag(sent: &str, stored: &str) -> bool {
    sent.trim_matches('"') == stored.trim_matches('"')
}

/// Whether `found` is what the service makes of `sent`. Both are whole records; symmetric keys are not
/// compared.
fn says_the_same(sent: &Map<String, Value>, found: &Map<String, Value>) -> bool {
    let mut names = sent.keys().chain(found.keys()).filter(|name| !SERVER_SET.contains(&name.as_str()));
    names.all(|name| match (member(sent, name), member(found, name)) {
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

/// Whether `found` has something in a place of `sent` that the service does not put there itself.
fn contradicts(sent: &Map<String, Value>, found: &Map<String, Value>) -> bool {
    let differs = |name| match (member(sent, name), member(found, name)) {
        (Some(sent), Some(value)) => sent != value,
        (None, Some(value)) => name != "allocationPolicy" && !is_nothing(name, value, found),
        _ => false,
    };
    ["deviceId", "provisioningStatus", "allocationPolicy"].into_iter().any(differs)
        || match (member(sent, "attestation"), member(found, "attestation")) {
            (Some(sent), Some(found)) => is_another_proof(&comparable(sent), &comparable(found)),
            _ => false,
        }
}

/// Whether two attestations have other types, or another key or certificate in the same place.
fn is_another_proof(sent: &Value, found: &Value) -> bool {
    let slots = ["client", "signing"]
        .into_iter()
        .flat_map(|set| ["primary", "secondary"].map(|slot| format!("/x509/{set}Certificates/{slot}")));
    let references = ["primary", "secondary"].map(|slot| format!("/x509/caReferences/{slot}"));
    let others = ["/type".to_owned(), "/tpm/endorsementKey".to_owned()];
    slots.chain(references).chain(others).any(|place| {
        match (sent.pointer(&place).and_then(Value::as_str), found.pointer(&place).and_then(Value::as_str)) {
            (Some(sent), Some(found)) => sent != found,
            _ => false,
        }
    })
}

/// Judges a record that [`judge`] finds applied by its symmetric keys. Keys that the service was to generate
/// match any.
pub(crate) fn judge_keys(sent: &Value, condition: Condition<'_>, found: &Value) -> Verdict {
    let is_applied = ["primaryKey", "secondaryKey"].iter().all(|name| {
        match sent.pointer(&format!("/symmetricKey/{name}")) {
            None | Some(Value::Null) => true,
            Some(Value::String(key)) if key.is_empty() => true,
            Some(key) => found.pointer(&format!("/symmetricKey/{name}")) == Some(key),
        }
    });
    match (is_applied, condition) {
        (true, _) => Verdict::Applied,
        // Another client created it with other keys, and it is unchanged since.
        (false, Condition::Absent) if found.pointer("/symmetricKey/primaryKey").is_some() => {
            Verdict::NotApplied
        }
        (false, _) => Verdict::Unclear,
    }
}

/// A null member counts as absent.
fn member<'a>(of: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    of.get(name).filter(|value| !value.is_null())
}

/// Equality in which null members of objects count as absent.
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

/// Whether this value of a member means the same as its absence.
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

/// The attestation without the members that a read hides, with thumbprints instead of certificates.
fn comparable(attestation: &Value) -> Value {
    let mut attestation = attestation.clone();
    if let Some(members) = attestation.as_object_mut() {
        members.remove("symmetricKey");
    }
    // The service may return an empty key where none was sent.
    if let Some(tpm) = attestation.get_mut("tpm").and_then(Value::as_object_mut) {
        tpm.retain(|name, value| name != "storageRootKey" || value != "");
    }
    for set in ["clientCertificates", "signingCertificates"] {
        for slot in ["primary", "secondary"] {
            if let Some(slot) = attestation.pointer_mut(&format!("/x509/{set}/{slot}")) {
                match fingerprint(slot) {
                    Some(thumbprint) => *slot = thumbprint.into(),
                    // A text that cannot be read stays, and equals no thumbprint.
                    None if slot.get("certificate").is_some_and(Value::is_string) => {}
                    None => *slot = Value::Null,
                }
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
        let der = certificate_der(text)?;
        return Some(Sha256::digest(der).iter().map(|byte| format!("{byte:02X}")).collect());
    }
    slot.pointer("/info/sha256Thumbprint").and_then(Value::as_str).map(str::to_ascii_uppercase)
}

const SERVER_SET: [&str; 4] = ["etag", "createdDateTimeUtc", "lastUpdatedDateTimeUtc", "registrationState"];

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const BEGAN: OffsetDateTime = datetime!(2026-01-01 00:00 UTC);

    fn as_create(sent: &Value, found: &Value) -> Verdict {
        judge(sent, Condition::Absent, Some(found), &Since::dated(BEGAN))
    }

    fn is_applied(sent: &Value, found: &Value) -> bool {
        as_create(sent, found) == Verdict::Applied
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
    fn any_other_difference_counts() {
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

    /// A record as it was found, created and last written then.
    fn dated(record: Value, created: &str, written: &str) -> Value {
        let record = with(record, "createdDateTimeUtc", json!(created));
        with(record, "lastUpdatedDateTimeUtc", json!(written))
    }

    const BEFORE: &str = "2025-12-31T23:59:50Z";
    const AFTER: &str = "2026-01-01T00:00:01Z";
    const LATER: &str = "2026-01-01T00:00:02Z";

    #[test]
    fn what_a_create_finds() {
        use Verdict::{Applied, NotApplied, Unclear};
        let other = || with(found(), "deviceId", json!("other"));
        let odd = || with(found(), "memberOfANewerVersion", json!(1));
        for (found, verdict) in [
            (None, NotApplied),
            (Some(dated(found(), BEFORE, BEFORE)), NotApplied),
            (Some(dated(other(), BEFORE, BEFORE)), NotApplied),
            (Some(dated(other(), BEFORE, AFTER)), NotApplied),
            (Some(dated(found(), AFTER, AFTER)), Applied),
            (Some(dated(other(), AFTER, AFTER)), NotApplied),
            (Some(dated(found(), AFTER, LATER)), Unclear),
            (Some(dated(other(), AFTER, LATER)), Unclear),
            (Some(dated(odd(), AFTER, AFTER)), Unclear),
            (Some(with(other(), "createdDateTimeUtc", json!(null))), Unclear),
            (Some(json!("text")), Unclear),
        ] {
            let judged = judge(&sent(), Condition::Absent, found.as_ref(), &Since::dated(BEGAN));
            assert_eq!(judged, verdict, "{found:?}");
        }
    }

    #[test]
    fn what_a_conditional_write_finds() {
        use Verdict::{Applied, NotApplied, Unclear};
        let other = || with(found(), "deviceId", json!("other"));
        for (tag, found, verdict) in [
            ("\"0\"", None, Unclear),
            ("\"1\"", Some(dated(other(), BEFORE, AFTER)), NotApplied),
            ("1", Some(dated(found(), BEFORE, AFTER)), NotApplied),
            ("\"0\"", Some(dated(other(), BEFORE, BEFORE)), NotApplied),
            ("\"0\"", Some(dated(found(), BEFORE, BEFORE)), NotApplied),
            ("\"0\"", Some(dated(found(), BEFORE, AFTER)), Applied),
            ("\"0\"", Some(dated(other(), BEFORE, AFTER)), Unclear),
            ("\"0\"", Some(with(found(), "etag", json!(null))), Unclear),
            ("\"0\"", Some(json!("text")), Unclear),
        ] {
            let judged = judge(&sent(), Condition::Version(Some(tag)), found.as_ref(), &Since::dated(BEGAN));
            assert_eq!(judged, verdict, "{tag} {found:?}");
        }
    }

    #[test]
    fn a_write_of_a_mode_that_is_not_known_is_judged_by_the_last_write() {
        let unknown =
            |found: &Value| judge(&sent(), Condition::Version(None), Some(found), &Since::dated(BEGAN));
        assert_eq!(unknown(&dated(found(), BEFORE, AFTER)), Verdict::Applied);
        assert_eq!(unknown(&dated(found(), BEFORE, BEFORE)), Verdict::NotApplied);
        let undated = dated(found(), "never", "never");
        assert_eq!(unknown(&undated), Verdict::Unclear);
        let absent = judge(&sent(), Condition::Version(None), None, &Since::dated(BEGAN));
        assert_eq!(absent, Verdict::Unclear);
    }

    #[test]
    fn a_record_contradicts_with_what_the_service_stores_as_it_comes() {
        let x509 = |set: &str, hash: &str| json!({ "type": "x509", "x509": { set: { "primary": { "info": { "sha256Thumbprint": hash } } } } });
        let tpm = |key: &str| json!({ "type": "tpm", "tpm": { "endorsementKey": key } });
        let named = |name: &str| json!({ "type": "x509", "x509": { "caReferences": { "primary": name } } });
        let symmetric = || json!({ "type": "symmetricKey" });
        for (name, sent_value, found_value, verdict) in [
            ("deviceId", json!("a"), json!("b"), Verdict::NotApplied),
            ("deviceId", json!(null), json!("b"), Verdict::NotApplied),
            ("provisioningStatus", json!("enabled"), json!("disabled"), Verdict::NotApplied),
            ("provisioningStatus", json!(null), json!("disabled"), Verdict::NotApplied),
            ("allocationPolicy", json!("static"), json!("hashed"), Verdict::NotApplied),
            ("allocationPolicy", json!(null), json!("hashed"), Verdict::Applied),
            ("attestation", tpm("AA=="), symmetric(), Verdict::NotApplied),
            ("attestation", tpm("AA=="), tpm("BB=="), Verdict::NotApplied),
            ("attestation", named("root"), named("other"), Verdict::NotApplied),
            (
                "attestation",
                x509("clientCertificates", "0A"),
                x509("clientCertificates", "0B"),
                Verdict::NotApplied,
            ),
            (
                "attestation",
                x509("signingCertificates", "0A"),
                x509("signingCertificates", "0B"),
                Verdict::NotApplied,
            ),
            ("initialTwin", json!({ "tags": { "a": 1 } }), json!({ "tags": { "a": 1.5 } }), Verdict::Unclear),
            ("iotHubs", json!(["A"]), json!(["a"]), Verdict::Unclear),
            ("capabilities", json!({ "iotEdge": true }), json!(null), Verdict::Unclear),
        ] {
            let (sent, found) = (with(sent(), name, sent_value), with(found(), name, found_value));
            assert_eq!(as_create(&sent, &found), verdict, "{sent} {found}");
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
        let pem = include_str!("../../tests/vectors/x509/p384.pem");
        let der = certificate_der(pem).unwrap();
        let hash: String = Sha256::digest(&der).iter().map(|byte| format!("{byte:02x}")).collect();
        let x509 =
            |slot: Value| json!({ "type": "x509", "x509": { "clientCertificates": { "primary": slot } } });
        let create = |text: &str| with(sent(), "attestation", x509(json!({ "certificate": text })));
        let same = with(found(), "attestation", x509(json!({ "info": { "sha256Thumbprint": hash } })));
        let other = with(found(), "attestation", x509(json!({ "info": { "sha256Thumbprint": "00" } })));
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        for text in
            [pem, &format!("0 s:CN = device\n{pem}"), &pem.replace("CERTIFICATE", "X509 CERTIFICATE"), &body]
        {
            assert!(is_applied(&create(text), &same), "{text}");
            assert!(!is_applied(&create(text), &other), "{text}");
        }
    }

    #[test]
    fn a_certificate_that_cannot_be_read_equals_none() {
        let x509 =
            |slot: Value| json!({ "type": "x509", "x509": { "clientCertificates": { "primary": slot } } });
        let pem = include_str!("../../tests/vectors/x509/p384.pem");
        let nothing = with(found(), "attestation", x509(json!({})));
        for text in [&pem.repeat(2), &pem.replace("-----BEGIN", "----BEGIN"), "AQID", "any text"] {
            let sent = with(sent(), "attestation", x509(json!({ "certificate": text })));
            assert_eq!(as_create(&sent, &nothing), Verdict::Unclear, "{text}");
        }
    }

    #[test]
    fn chosen_keys_must_be_there_and_generated_ones_may_be_any() {
        use Verdict::{Applied, NotApplied, Unclear};
        let keys = |a: &str, b: &str| json!({ "type": "symmetricKey", "symmetricKey": { "primaryKey": a, "secondaryKey": b } });
        let generated = json!({ "type": "symmetricKey" });
        for (sent, found, as_create, as_replacement) in [
            (keys("AAAA", ""), keys("AAAA", "BBBB"), Applied, Applied),
            (generated.clone(), keys("AAAA", "BBBB"), Applied, Applied),
            (keys("AAAA", "CCCC"), keys("AAAA", "BBBB"), NotApplied, Unclear),
            (keys("AAAA", ""), generated, Unclear, Unclear),
        ] {
            assert_eq!(judge_keys(&sent, Condition::Absent, &found), as_create);
            assert_eq!(judge_keys(&sent, Condition::Version(Some("1")), &found), as_replacement);
        }
    }
}
