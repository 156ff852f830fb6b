//! Every body of the published examples is read into its model, written again and compared, and its secrets must not
//! show in `Debug`. The vectors and where they come from: `vectors/README.md`.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)] // Test code.

use std::fs;
use std::path::{Path, PathBuf};

use azure_dps_core::models::{
    AttestationMechanism, BulkOperation, BulkResult, ConnectionProfile, DeviceRegistration,
    DeviceRegistrationState, EnrollmentGroup, IndividualEnrollment, QuerySpecification,
    RegistrationOperationStatus,
};
use azure_dps_core::{GroupKey, SasToken, SharedKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

#[test]
fn every_signature_and_every_derived_key_is_computed_alike() {
    let vectors: Vec<Value> = serde_json::from_str(include_str!("vectors/sas.json")).unwrap();
    let (mut signed, mut derived) = (0, 0);
    for vector in &vectors {
        let text = |name: &str| vector[name].as_str().unwrap_or_default();
        let name = text("name");
        match text("kind") {
            "sign" => {
                signed += 1;
                let key: SharedKey = text("key").parse().unwrap();
                let message = format!("{}\n{}", text("sr"), vector["se"]);
                assert_eq!(BASE64.encode(key.sign(message.as_bytes())), text("sig"), "{name}");
                if let Some(token) = vector["token"].as_str() {
                    assert_eq!(SasToken::parse(token).unwrap().expiry(), vector["se"], "{name}");
                }
            }
            "derive" => {
                derived += 1;
                let group: GroupKey = text("groupKey").parse().unwrap();
                let key = group.derive(&text("registrationId").parse().unwrap());
                assert_eq!(key.to_base64().as_str(), text("deviceKey"), "{name}");
            }
            _ => {}
        }
    }
    assert_eq!((signed, derived), (13, 4));
}

#[test]
fn bodies_of_the_service_api_survive() {
    for (vectors, expected) in SERVICE.map(published).into_iter().zip([36, 5, 36]) {
        assert_survival(&vectors, expected);
    }
}

#[test]
fn bodies_of_the_device_api_survive() {
    for (vectors, expected) in DEVICE.map(published).into_iter().zip([14, 9, 14, 2]) {
        assert_survival(&vectors, expected);
    }
}

#[test]
fn a_published_certificate_policy_is_read_into_its_members() {
    let bodies = SERVICE.map(published).concat();
    let mut policies = 0;
    for vector in bodies.iter().filter(|vector| vector["body"]["namespaceName"].is_string()) {
        let body = vector["body"].clone();
        let (members, other) = match vector["model"].as_str().unwrap() {
            "EnrollmentGroup" => {
                let read: EnrollmentGroup = serde_json::from_value(body).unwrap();
                let members =
                    [read.namespace_name, read.certificate_authority_name, read.certificate_policy_name];
                (members, read.other)
            }
            "IndividualEnrollment" => {
                let read: IndividualEnrollment = serde_json::from_value(body).unwrap();
                let members =
                    [read.namespace_name, read.certificate_authority_name, read.certificate_policy_name];
                (members, read.other)
            }
            other => panic!("{other} has a certificate policy"),
        };
        policies += 1;
        assert_eq!(members.map(Option::unwrap), ["mynamespace", "myCa", "myPolicy"]);
        assert!(other.is_empty(), "{other:?}");
    }
    assert_eq!(policies, 6);
}

#[test]
fn the_published_members_of_the_previews_are_read() {
    let vectors = |of: &'static str| published(of).into_iter().map(|vector| vector["body"].clone());
    let group = vectors(SERVICE[1]).find(|body| body["credentialPolicyName"].is_string()).unwrap();
    let group: EnrollmentGroup = serde_json::from_value(group).unwrap();
    assert_eq!(group.credential_policy_name.as_deref(), Some("srm"));
    let state = vectors(DEVICE[3]).find(|body| body["connectionProfile"].is_string()).unwrap();
    let state: DeviceRegistrationState = serde_json::from_value(state).unwrap();
    assert_eq!(state.connection_profile, Some(ConnectionProfile::MqttV5));
}

/// Nulls and an empty list of errors say nothing; everything else has to come back.
#[test]
fn recorded_bodies_of_the_service_api_survive() {
    let bodies: Vec<Value> = files("service").iter().flat_map(|file| recorded(file)).collect();

    assert_survival(&bodies, 182);
}

#[test]
fn recorded_bodies_of_the_device_api_survive() {
    let mut bodies = Vec::new();
    for file in files("device") {
        let recording: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let mut said = Vec::new();
        collect_bodies(&recording, &mut said);
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        bodies.extend(said.into_iter().filter_map(|body| {
            let has = |member: &str| body.get(member).is_some();
            let model = match () {
                () if has("operationId") => "RegistrationOperationStatus",
                () if has("registrationId") || has("payload") => "DeviceRegistration",
                // Errors and challenges are not models.
                () => return None,
            };
            Some(json!({"name": name, "model": model, "body": telling(body)}))
        }));
    }

    assert_survival(&bodies, 25);
}

#[test]
fn vectors_hold_secrets_to_look_for() {
    let secrets = SERVICE.into_iter().chain(DEVICE).flat_map(published).map(|vector| secrets(&vector).len());
    assert_eq!(secrets.sum::<usize>(), 262, "the names in SECRET_NAMES find other strings than before");
}

#[test]
fn comparison_knows_instants_from_texts() {
    let difference = |left: &str, right: &str| difference(&Value::from(left), &Value::from(right), "/at");
    assert_eq!(difference("2025-10-01T17:42:04.760Z", "2025-10-01T17:42:04.76Z"), None);
    assert!(difference("2025-10-01T17:42:04.760Z", "2025-10-01T17:42:04.761Z").is_some());
    assert!(difference("a", "A").is_some_and(|text| text.starts_with("/at: ")));
}

fn assert_survival(vectors: &[Value], expected: usize) {
    let failures: Vec<String> = vectors
        .iter()
        .filter_map(|vector| {
            let reason = survives(vector).err()?;
            Some(format!("{} ({}): {reason}", vector["name"], vector["model"]))
        })
        .collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    assert_eq!(vectors.len(), expected, "a vector was lost or added");
}

fn survives(vector: &Value) -> Result<(), String> {
    let body = &vector["body"];
    let (written, shown) = match vector["model"].as_str().unwrap_or_default() {
        "AttestationMechanism" => through!(AttestationMechanism, body),
        "BulkEnrollmentGroupOperation" => through!(BulkOperation<'_, EnrollmentGroup>, body),
        "BulkEnrollmentOperation" => through!(BulkOperation<'_, IndividualEnrollment>, body),
        "BulkEnrollmentGroupOperationResult" | "BulkEnrollmentOperationResult" => through!(BulkResult, body),
        "DeviceRegistration" => through!(DeviceRegistration, body),
        "DeviceRegistrationResult" | "DeviceRegistrationState" => through!(DeviceRegistrationState, body),
        "EnrollmentGroup" => through!(EnrollmentGroup, body),
        "IndividualEnrollment" => through!(IndividualEnrollment, body),
        "QuerySpecification" => through!(QuerySpecification, body),
        "RegistrationOperationStatus" => through!(RegistrationOperationStatus, body),
        "[DeviceRegistrationState]" => through!(Vec<DeviceRegistrationState>, body),
        "[EnrollmentGroup]" => through!(Vec<EnrollmentGroup>, body),
        "[IndividualEnrollment]" => through!(Vec<IndividualEnrollment>, body),
        other => return Err(format!("no model is called {other}")),
    };
    if let Some(difference) = difference(body, &written, "") {
        return Err(difference);
    }
    // Any output contains a published key of one letter.
    let mut secrets = secrets(vector).into_iter().filter(|secret| secret.len() > 1);
    match secrets.find(|secret| shown.contains(secret)) {
        Some(secret) => Err(format!("Debug shows {secret:?}")),
        None => Ok(()),
    }
}

/// Reads the body as a model and gives what the model writes and what it shows.
macro_rules! through {
    ($model:ty, $body:expr) => {{
        // From text, as it comes from the wire: positions and borrowed strings take another way than a `Value` does.
        let model: $model = serde_json::from_str(&$body.to_string()).map_err(|error| error.to_string())?;
        let again: $model = serde_json::from_value($body.clone()).map_err(|error| error.to_string())?;
        assert_eq!(model, again);
        (serde_json::to_value(&model).map_err(|error| error.to_string())?, format!("{model:?}\n{model:#?}"))
    }};
}
use through;

/// The first place where two JSON values differ; texts that are date-times are compared as instants.
fn difference(left: &Value, right: &Value, pointer: &str) -> Option<String> {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            if let Some(added) = right.keys().find(|name| !left.contains_key(*name)) {
                return Some(format!("{pointer}/{added}: written, but not in the vector"));
            }
            left.iter().find_map(|(name, value)| match right.get(name) {
                Some(other) => difference(value, other, &format!("{pointer}/{name}")),
                None => Some(format!("{pointer}/{name}: lost")),
            })
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => left
            .iter()
            .zip(right)
            .enumerate()
            .find_map(|(index, (left, right))| difference(left, right, &format!("{pointer}/{index}"))),
        (Value::String(left), Value::String(right)) if same_instant(left, right) => None,
        (left, right) => (left != right).then(|| format!("{pointer}: {left} became {right}")),
    }
}

fn files(plane: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/recordings").join(plane);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

/// Every body that is an object, at any place in a recording.
fn collect_bodies(value: &Value, bodies: &mut Vec<Value>) {
    let Value::Object(members) = value else {
        return value.as_array().into_iter().flatten().for_each(|item| collect_bodies(item, bodies));
    };
    for (name, value) in members {
        match (name.as_str(), value) {
            ("body", Value::Object(_)) => bodies.push(value.clone()),
            ("bodyText" | "payloadText", Value::String(text)) => {
                bodies.extend(serde_json::from_str(text).ok().filter(Value::is_object));
            }
            _ => collect_bodies(value, bodies),
        }
    }
}

/// The bodies of a recording as vectors: what was asked, what was answered, and the items of pages that were
/// kept in pieces.
fn recorded(file: &Path) -> Vec<Value> {
    let mut text = fs::read_to_string(file).unwrap();
    // A mask is the name of its member, which `Debug` may show.
    for mask in ["primaryKey", "secondaryKey", "certificate"] {
        text = text.replace(&format!(":\"{mask}\""), ":\"masked secret\"");
    }
    let recording: Value = serde_json::from_str(&text).unwrap();
    let name = file.file_stem().unwrap().to_string_lossy().into_owned();
    let exchanges = recording["interactions"].as_array().unwrap().iter().zip(0..);
    let bodies = exchanges.flat_map(|(exchange, at)| {
        let request = &exchange["request"];
        let (asked, answered) =
            models(request["method"].as_str().unwrap(), request["path"].as_str().unwrap());
        let response = &exchange["response"];
        let text = |text: &Value| text.as_str().map(|text| serde_json::from_str(text).unwrap());
        let pieces = response["bodyTextPieces"].as_array().into_iter().flatten();
        let pieces = pieces.map(|piece| format!("[{}]", piece["text"].as_str().unwrap()));
        let answers = [response["body"].clone(), text(&response["bodyText"]).unwrap_or_default()]
            .into_iter()
            .chain(pieces.map(|piece| serde_json::from_str(&piece).unwrap()));
        let asked = (format!("{name} #{at} request"), asked, request["body"].clone());
        let answered = answers.map(|body| (format!("{name} #{at} response"), answered, body));
        [asked].into_iter().chain(answered.collect::<Vec<_>>())
    });
    let said = bodies.filter(|(_, _, body)| !body.is_null());
    said.map(|(name, model, body)| json!({"name": name, "model": model, "body": telling(body)})).collect()
}

/// The models of the request and of the answer.
fn models(method: &str, path: &str) -> (&'static str, &'static str) {
    let path: Vec<&str> =
        path.split(['?', '/']).filter(|part| !part.contains('=') && !part.is_empty()).collect();
    match (method, path.as_slice()) {
        ("POST", ["enrollments", "query"]) => ("QuerySpecification", "[IndividualEnrollment]"),
        ("POST", ["enrollmentGroups", "query"]) => ("QuerySpecification", "[EnrollmentGroup]"),
        ("POST", ["registrations", _, "query"]) => ("", "[DeviceRegistrationState]"),
        ("POST", [_, _, "attestationmechanism"]) => ("", "AttestationMechanism"),
        ("POST", ["enrollments"]) => ("BulkEnrollmentOperation", "BulkEnrollmentOperationResult"),
        ("POST", ["enrollmentGroups"]) => {
            ("BulkEnrollmentGroupOperation", "BulkEnrollmentGroupOperationResult")
        }
        (_, ["enrollments", _]) => ("IndividualEnrollment", "IndividualEnrollment"),
        (_, ["enrollmentGroups", _]) => ("EnrollmentGroup", "EnrollmentGroup"),
        (_, ["registrations", _]) => ("", "DeviceRegistrationState"),
        other => panic!("no model is known for {other:?}"),
    }
}

/// A value without what says nothing.
fn telling(value: Value) -> Value {
    let says_nothing =
        |name: &str, value: &Value| value.is_null() || (name == "errors" && *value == json!([]));
    match value {
        Value::Array(items) => items.into_iter().map(telling).collect(),
        Value::Object(members) => Value::Object(
            members
                .into_iter()
                .filter(|(name, value)| !says_nothing(name, value))
                .map(|(name, value)| (name, telling(value)))
                .collect(),
        ),
        other => other,
    }
}

fn same_instant(left: &str, right: &str) -> bool {
    match (OffsetDateTime::parse(left, &Rfc3339), OffsetDateTime::parse(right, &Rfc3339)) {
        (Ok(left), Ok(right)) => left == right,
        _ => false,
    }
}

fn published(json: &str) -> Vec<Value> {
    serde_json::from_str(json).unwrap()
}

/// Every text in the body below a secret name.
fn secrets(vector: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect(&vector["body"], false, &mut found);
    found
}

fn collect(value: &Value, secret: bool, found: &mut Vec<String>) {
    match value {
        Value::String(text) if secret => found.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| collect(item, secret, found)),
        Value::Object(members) => members
            .iter()
            .for_each(|(name, value)| collect(value, secret || SECRET_NAMES.contains(&name.as_str()), found)),
        _ => (),
    }
}

const SERVICE: [&str; 3] = [
    include_str!("vectors/service-2021-10-01.json"),
    include_str!("vectors/service-2025-07-01-preview.json"),
    include_str!("vectors/service-2026-11-01.json"),
];
const DEVICE: [&str; 4] = [
    include_str!("vectors/device-2021-10-01.json"),
    include_str!("vectors/device-2025-07-01-preview.json"),
    include_str!("vectors/device-2026-11-01.json"),
    include_str!("vectors/device-2026-11-02-preview.json"),
];

const SECRET_NAMES: &[&str] = &[
    "primaryKey",
    "secondaryKey",
    "endorsementKey",
    "storageRootKey",
    "authenticationKey",
    "certificate",
    "payload",
];
