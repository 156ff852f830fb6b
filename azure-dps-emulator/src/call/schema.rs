//! The members of request bodies and the kinds of their values, from the published models of all
//! api-versions.
//!
//! The meaning of the values is judged elsewhere. Answers have their members in the order of these tables.

use std::fmt::Display;

use crate::json::{self, Map, Value};

use crate::refusal::{INVALID_API_VERSION, Refusal, UNSUPPORTED_MEDIA_TYPE};

/// Whether a member that no api-version knows makes the request invalid.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Strictness {
    #[default]
    Strict,
    Loose,
}

/// A request body as it arrived.
#[derive(Default)]
pub(crate) struct Body {
    pub(crate) bytes: Vec<u8>,
    /// Whether the client declares it as JSON.
    pub(crate) json: bool,
}

impl Body {
    pub(crate) fn is_blank(&self) -> bool {
        self.bytes.iter().all(u8::is_ascii_whitespace)
    }
}

pub(crate) type Model = [(&'static str, Shape)];

pub(crate) enum Shape {
    Text,
    Flag,
    /// Any JSON value.
    Any,
    /// Any JSON object.
    Map,
    TextList,
    /// One of these texts.
    Word(&'static [&'static str]),
    /// One of these texts, or null, which differs from an absent member.
    WordOrNull(&'static [&'static str]),
    /// One of these texts, whose first letter may be a capital; it is kept as it is written here.
    Named(&'static [&'static str]),
    /// The name of an Azure Device Registry namespace.
    Namespace,
    /// The name of an authority or a policy in such a namespace.
    PolicyName,
    Object(&'static Model),
    /// Set by the service; the value in a request is ignored.
    ReadOnly,
}

/// Judges the api-version that a request names.
pub(crate) fn check_api_version(api_version: Option<&str>, strictness: Strictness) -> Result<(), Refusal> {
    let refuse = |message| Err(Refusal::new(INVALID_API_VERSION, message));
    match api_version {
        None | Some("") => refuse("api-version is missing".to_owned()),
        Some(version) if API_VERSIONS.contains(&version) => Ok(()),
        Some(version) if strictness == Strictness::Loose && is_version(version) => Ok(()),
        Some(version) => refuse(format!("api-version {version} is not known")),
    }
}

/// Reads a required body.
///
/// The result has only known members, no read-only members, and nulls only where null differs from an absent
/// member.
pub(crate) fn read(model: &Model, body: &Body, strictness: Strictness) -> Result<Map, Refusal> {
    let members = object(body)?;
    check_names(model, &members, strictness, &"").map_err(Refusal::invalid)?;
    clean(model, members, &"").map_err(Refusal::invalid)
}

/// Reads a body that must be a JSON object, with any members.
pub(crate) fn object(body: &Body) -> Result<Map, Refusal> {
    if !body.json {
        return Err(Refusal::new(UNSUPPORTED_MEDIA_TYPE, "the body must be application/json"));
    }
    match json::read(&body.bytes) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(Refusal::invalid("the body is not a JSON object")),
        Err(error) => {
            let refusal = Refusal::invalid("the body is not JSON");
            let begins_with_mark = body.bytes.starts_with(BYTE_ORDER_MARK);
            let why = if begins_with_mark { "it begins with a byte order mark" } else { &error.to_string() };
            let cause = format!("{}: {why}", refusal.message);
            Err(refusal.because(cause))
        }
    }
}

/// Refuses, if `strictness` says so, a member that the model does not know. `path` precedes its name in the
/// message.
pub(crate) fn check_names(
    model: &Model,
    members: &Map,
    strictness: Strictness,
    path: &dyn Display,
) -> Result<(), String> {
    for (name, value) in members.iter().filter(|(_, value)| !value.is_null()) {
        match (model.iter().find(|(known, _)| known == name), value) {
            (None, _) if strictness == Strictness::Strict => {
                return Err(format!("no api-version knows {path}{name}"));
            }
            (Some((_, Shape::Object(model))), Value::Object(members)) => {
                check_names(model, members, strictness, &format_args!("{path}{name}."))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Collects the paths of members that the model does not know, at every level, up to [`MOST_NAMED`].
pub(crate) fn unknown(model: &Model, members: &Map, path: &str, found: &mut Vec<String>) {
    for (name, value) in members.iter() {
        if found.len() == MOST_NAMED {
            return;
        }
        match (model.iter().find(|(known, _)| known == name), value) {
            (None, _) => found.push(format!("{path}{}", name.chars().take(64).collect::<String>())),
            (Some((_, Shape::Object(model))), Value::Object(members)) => {
                unknown(model, members, &format!("{path}{name}."), found);
            }
            _ => {}
        }
    }
}

/// Returns the members that the model knows, in its order. `path` precedes their names in messages.
pub(crate) fn clean(model: &Model, mut members: Map, path: &dyn Display) -> Result<Map, String> {
    let mut kept = Map::new();
    for (name, shape) in model.iter().filter(|(_, shape)| !matches!(shape, Shape::ReadOnly)) {
        let counts = |value: &Value| !value.is_null() || matches!(shape, Shape::WordOrNull(_));
        if let Some(value) = members.remove(name).filter(counts) {
            kept.insert((*name).to_owned(), clean_value(shape, value, &format_args!("{path}{name}"))?);
        }
    }
    Ok(kept)
}

fn clean_value(shape: &Shape, value: Value, path: &dyn Display) -> Result<Value, String> {
    let is_text_with = |rule: fn(&str) -> bool| value.as_str().is_some_and(rule);
    let (fits, wanted) = match shape {
        Shape::Any | Shape::ReadOnly => (true, ""),
        Shape::Text => (value.is_string(), "a string"),
        Shape::Flag => (value.is_boolean(), "true or false"),
        Shape::Map => (value.is_object(), "an object"),
        Shape::TextList => {
            (value.as_array().is_some_and(|items| items.iter().all(Value::is_string)), "an array of strings")
        }
        Shape::WordOrNull(_) if value.is_null() => (true, ""),
        Shape::Word(words) | Shape::WordOrNull(words) => {
            let fits = value.as_str().is_some_and(|word| words.contains(&word));
            return if fits { Ok(value) } else { Err(format!("{path} must be one of {}", words.join(", "))) };
        }
        Shape::Named(words) => {
            let mut letters = value.as_str().unwrap_or_default().chars();
            let first = letters.next().map(|first| first.to_ascii_lowercase());
            let word: String = first.into_iter().chain(letters).collect();
            let is_known = words.contains(&word.as_str());
            return if is_known {
                Ok(word.into())
            } else {
                Err(format!("{path} must be one of {}", words.join(", ")))
            };
        }
        Shape::Namespace => {
            (is_text_with(is_namespace), "3 to 64 lower-case letters, digits and inner dashes")
        }
        Shape::PolicyName => {
            (is_text_with(is_policy_name), "3 to 63 letters, digits and dashes, beginning with no dash")
        }
        Shape::Object(model) => match value {
            Value::Object(members) => {
                return clean(model, members, &format_args!("{path}.")).map(Value::Object);
            }
            _ => (false, "an object"),
        },
    };
    if fits { Ok(value) } else { Err(format!("{path} must be {wanted}")) }
}

pub(crate) fn is_namespace(text: &str) -> bool {
    (3..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

pub(crate) fn is_policy_name(text: &str) -> bool {
    (3..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !text.starts_with('-')
}

/// Returns whether a text has the form of an api-version.
pub(crate) fn is_version(text: &str) -> bool {
    let date = text.strip_suffix("-preview").unwrap_or(text);
    date.len() == 10
        && date
            .bytes()
            .enumerate()
            .all(|(at, b)| if at == 4 || at == 7 { b == b'-' } else { b.is_ascii_digit() })
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The newest api-version, whose clients know every member.
pub(crate) const LATEST: &str = "2026-11-02-preview";
const API_VERSIONS: &[&str] = &[
    "2018-04-01",
    "2018-09-01-preview",
    "2018-11-01",
    "2019-01-15",
    "2019-03-31",
    "2019-04-15",
    "2021-06-01",
    "2021-10-01",
    "2021-11-01-preview",
    "2025-07-01-preview",
    "2026-04-01",
    "2026-07-01-preview",
    "2026-11-01",
    LATEST,
];

/// The members of an enrollment: those of its kind before and behind those that both kinds have, in the order of the
/// service.
macro_rules! enrollment {
    ([$($before:expr),*], [$($behind:expr),*]) => {
        &[
            $($before,)*
            ("attestation", Shape::Object(ATTESTATION)),
            ("capabilities", Shape::Object(CAPABILITIES)),
            ("iotHubHostName", Shape::Text),
            ("initialTwin", Shape::Object(INITIAL_TWIN)),
            // Only bulk operations compare the tag in the body.
            ("etag", Shape::ReadOnly),
            ("provisioningStatus", Shape::WordOrNull(PROVISIONING_STATUSES)),
            ("reprovisionPolicy", Shape::Object(REPROVISION_POLICY)),
            ("createdDateTimeUtc", Shape::ReadOnly),
            ("lastUpdatedDateTimeUtc", Shape::ReadOnly),
            ("allocationPolicy", Shape::Named(ALLOCATION_POLICIES)),
            ("iotHubs", Shape::TextList),
            ("customAllocationDefinition", Shape::Object(CUSTOM_ALLOCATION)),
            ("namespaceName", Shape::Namespace),
            ("certificateAuthorityName", Shape::PolicyName),
            ("certificatePolicyName", Shape::PolicyName),
            ("certificatePolicyResourceId", Shape::Text),
            ("credentialPolicyName", Shape::Text),
            ("clientCertificateIssuancePolicy", Shape::Object(ISSUANCE_POLICY)),
            ("serverCertificateIssuancePolicy", Shape::Object(ISSUANCE_POLICY)),
            ("trustBundleId", Shape::Text),
            $($behind,)*
        ]
    };
}

pub(crate) const INDIVIDUAL_ENROLLMENT: &Model = enrollment!(
    [
        ("registrationId", Shape::Text),
        ("deviceId", Shape::Text),
        ("registrationState", Shape::ReadOnly),
        ("optionalDeviceInformation", Shape::Map)
    ],
    [("deviceHostname", Shape::Text), ("deviceIpAddress", Shape::Text)]
);
pub(crate) const ENROLLMENT_GROUP: &Model = enrollment!([("enrollmentGroupId", Shape::Text)], []);

/// The most unknown members that a warning names.
const MOST_NAMED: usize = 8;
pub(crate) const QUERY_SPECIFICATION: &Model = &[("query", Shape::Text)];

pub(crate) const DEVICE_REGISTRATION: &Model = &[
    ("registrationId", Shape::Text),
    ("tpm", Shape::Object(TPM)),
    ("payload", Shape::Any),
    ("csr", Shape::Text),
    ("clientCertificateCsr", Shape::Text),
];

/// The answer of a custom allocation webhook.
pub(crate) const ALLOCATION_RESPONSE: &Model =
    &[("iotHubHostName", Shape::Text), ("initialTwin", Shape::Object(INITIAL_TWIN)), ("payload", Shape::Any)];

const ATTESTATION: &Model = &[
    ("type", Shape::Word(&["none", "tpm", "x509", "symmetricKey"])),
    ("tpm", Shape::Object(TPM)),
    ("x509", Shape::Object(X509)),
    ("symmetricKey", Shape::Object(&[("primaryKey", Shape::Text), ("secondaryKey", Shape::Text)])),
];
const TPM: &Model = &[("endorsementKey", Shape::Text), ("storageRootKey", Shape::Text)];
const X509: &Model = &[
    ("clientCertificates", Shape::Object(CERTIFICATES)),
    ("signingCertificates", Shape::Object(CERTIFICATES)),
    ("caReferences", Shape::Object(&[("primary", Shape::Text), ("secondary", Shape::Text)])),
];
const CERTIFICATES: &Model =
    &[("primary", Shape::Object(CERTIFICATE)), ("secondary", Shape::Object(CERTIFICATE))];
// `info` is read-only, but its thumbprint also says which stored certificate the client wants to keep.
const CERTIFICATE: &Model = &[("certificate", Shape::Text), ("info", Shape::Map)];
const CAPABILITIES: &Model = &[("iotEdge", Shape::Flag)];
const CUSTOM_ALLOCATION: &Model = &[("webhookUrl", Shape::Text), ("apiVersion", Shape::Text)];
const INITIAL_TWIN: &Model =
    &[("tags", Shape::Map), ("properties", Shape::Object(&[("desired", Shape::Map)]))];
const REPROVISION_POLICY: &Model =
    &[("updateHubAssignment", Shape::Flag), ("migrateDeviceData", Shape::Flag)];
const ISSUANCE_POLICY: &Model = &[("certificateAuthorityName", Shape::Text)];
const ALLOCATION_POLICIES: &[&str] = &["hashed", "geoLatency", "static", "custom"];
const PROVISIONING_STATUSES: &[&str] = &["enabled", "disabled"];

#[cfg(test)]
mod tests {
    use crate::json::json;

    use super::*;

    #[test]
    fn an_unknown_member_is_named() {
        assert_eq!(refusal(json!({"registrationID": "a"})), "no api-version knows registrationID");
        assert_eq!(
            refusal(json!({"attestation": {"symmetricKey": {"primarykey": "a"}}})),
            "no api-version knows attestation.symmetricKey.primarykey"
        );
        assert_eq!(
            refusal(json!({"initialTwin": {"reported": {}}})),
            "no api-version knows initialTwin.reported"
        );
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_named() {
        assert_eq!(
            refusal(json!({"capabilities": {"iotEdge": "yes"}})),
            "capabilities.iotEdge must be true or false"
        );
        assert_eq!(refusal(json!({"iotHubs": "a"})), "iotHubs must be an array of strings");
        assert_eq!(
            refusal(json!({"provisioningStatus": "on"})),
            "provisioningStatus must be one of enabled, disabled"
        );
        assert_eq!(refusal(json!({"initialTwin": []})), "initialTwin must be an object");
        assert!(refusal(json!({"namespaceName": "A"})).starts_with("namespaceName must be 3 to 64"));
    }

    #[test]
    fn nulls_and_read_only_members_are_accepted_and_dropped() {
        let body = json!({
            "registrationId": "a", "registrationState": {}, "createdDateTimeUtc": 5, "etag": "x", "deviceId": null,
            "unheardOf": null, "attestation": {"type": "tpm", "x509": null},
        });

        let read = read(INDIVIDUAL_ENROLLMENT, &json_body(body), Strictness::Strict).unwrap();

        assert_eq!(Value::Object(read), json!({"registrationId": "a", "attestation": {"type": "tpm"}}));
    }

    #[test]
    fn user_data_is_not_inspected() {
        let body = json!({
            "initialTwin": {"tags": {"any": null}, "properties": {"desired": {"count": "x"}}},
            "optionalDeviceInformation": {"a": 1},
        });

        let read = read(INDIVIDUAL_ENROLLMENT, &json_body(body.clone()), Strictness::Strict).unwrap();

        assert_eq!(Value::Object(read), body);
    }

    #[test]
    fn a_loose_emulator_drops_unknown_members() {
        let read =
            read(ENROLLMENT_GROUP, &json_body(json!({"registrationId": "a"})), Strictness::Loose).unwrap();

        assert!(read.is_empty());
    }

    #[test]
    fn a_body_must_be_declared_as_json_and_be_an_object() {
        let not_said = Body { bytes: b"{}".to_vec(), json: false };
        assert_eq!(read(DEVICE_REGISTRATION, &not_said, Strictness::Strict).unwrap_err().code, 415_000);
        for bytes in ["", "[]", "{", "1"] {
            let body = Body { bytes: bytes.into(), json: true };
            assert_eq!(read(DEVICE_REGISTRATION, &body, Strictness::Strict).unwrap_err().code, 400_000);
        }
        assert!(Body { bytes: b" ".to_vec(), json: false }.is_blank());
    }

    #[test]
    fn an_api_version_is_required_and_must_exist() {
        for version in API_VERSIONS {
            assert!(check_api_version(Some(version), Strictness::Strict).is_ok(), "{version}");
        }
        for version in [None, Some(""), Some("latest"), Some("2020-02-30"), Some("2021-10-01-beta")] {
            let refusal = check_api_version(version, Strictness::Strict).unwrap_err();
            assert_eq!(refusal.code, 400_001, "{version:?}");
        }
        assert!(check_api_version(Some("2030-01-01-preview"), Strictness::Loose).is_ok());
        assert!(check_api_version(Some("2030"), Strictness::Loose).is_err());
    }

    fn refusal(body: Value) -> String {
        read(INDIVIDUAL_ENROLLMENT, &json_body(body), Strictness::Strict).unwrap_err().cause
    }

    fn json_body(body: Value) -> Body {
        Body { bytes: body.to_string().into_bytes(), json: true }
    }
}
