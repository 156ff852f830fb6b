//! Several enrollments in one request, at most ten. The service handles each item separately and always
//! answers 200.

use std::borrow::Cow;
use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, DeserializeOwned},
    ser::SerializeStruct,
};
use serde_json::{Map, Value};

use crate::models::enrollment::{EnrollmentGroup, IndividualEnrollment};
use crate::models::error_code;
use crate::open_enum::open_enum;
use crate::sensitive::OtherMembers;

/// The body of a bulk request: the same operation on several enrollments or several groups.
///
/// ```
/// use azure_dps_core::models::{AttestationMechanism, BulkMode, BulkOperation, IndividualEnrollment};
///
/// let enrollments = [IndividualEnrollment::new("sensor-042", AttestationMechanism::symmetric_key_generated())];
/// let body = serde_json::to_value(BulkOperation::new(BulkMode::Create, &enrollments))?;
/// assert_eq!(body["enrollments"][0]["registrationId"], "sensor-042");
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// Source: DPS service REST API 2021-10-01, BulkEnrollmentOperation and BulkEnrollmentGroupOperation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[doc(alias = "BulkEnrollmentOperation")]
#[doc(alias = "BulkEnrollmentGroupOperation")]
#[non_exhaustive]
pub struct BulkOperation<'a, R: BulkItem> {
    /// The operation on each item.
    pub mode: BulkMode,
    /// The items: at most ten, each id once. On the wire `enrollments` or `enrollmentGroups`.
    pub items: Cow<'a, [R]>,
}

impl<'a, R: BulkItem> BulkOperation<'a, R> {
    /// The same operation on all items.
    pub fn new(mode: BulkMode, items: impl Into<Cow<'a, [R]>>) -> Self {
        Self { mode, items: items.into() }
    }
}

impl<R: BulkItem> Serialize for BulkOperation<'_, R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut body = serializer.serialize_struct("BulkOperation", 2)?;
        body.serialize_field(R::MEMBER, &self.items)?;
        body.serialize_field(MODE, &self.mode)?;
        body.end()
    }
}

impl<'de, R: BulkItem> Deserialize<'de> for BulkOperation<'_, R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut members = Map::deserialize(deserializer)?;
        let mode = required(&mut members, MODE)?;
        let items: Vec<R> = required(&mut members, R::MEMBER)?;
        Ok(Self { mode, items: items.into() })
    }
}

fn required<T: DeserializeOwned, E: de::Error>(
    members: &mut Map<String, Value>,
    name: &'static str,
) -> Result<T, E> {
    let value = members.remove(name).ok_or_else(|| E::missing_field(name))?;
    serde_json::from_value(value).map_err(E::custom)
}

/// The items of a bulk request: [`IndividualEnrollment`] or [`EnrollmentGroup`].
pub trait BulkItem: Clone + Serialize + DeserializeOwned + sealed::Sealed {
    /// The member of the body that contains the items.
    const MEMBER: &'static str;
}

impl BulkItem for IndividualEnrollment {
    const MEMBER: &'static str = "enrollments";
}

impl BulkItem for EnrollmentGroup {
    const MEMBER: &'static str = "enrollmentGroups";
}

mod sealed {
    use crate::models::enrollment::{EnrollmentGroup, IndividualEnrollment};

    pub trait Sealed {}

    impl Sealed for IndividualEnrollment {}
    impl Sealed for EnrollmentGroup {}
}

open_enum! {
    /// The operation of a bulk request on each item.
    ///
    /// Source: DPS service REST API 2021-10-01, `mode` of BulkEnrollmentOperation (OperationMode).
    #[doc(alias = "BulkOperationMode")]
    #[doc(alias = "BulkEnrollmentMode")]
    #[doc(alias = "OperationMode")]
    pub enum BulkMode {
        /// Creates it; fails if it exists.
        Create = "create",
        /// Does not replace an item without an `etag`: the service answers 409201, for a group 409202, when
        /// the record exists. Its effect with an `etag` is not documented. Use
        /// [`UpdateIfMatchETag`](Self::UpdateIfMatchETag).
        Update = "update",
        /// Replaces it if its `etag` is that of the stored version. Use this mode to replace records.
        UpdateIfMatchETag = "updateIfMatchETag",
        /// Deletes it.
        Delete = "delete",
    }
}

/// The result of a bulk request.
///
/// The request succeeds with 200 even when every item failed: check `is_successful` or `errors`.
///
/// Source: DPS service REST API 2021-10-01, BulkEnrollmentOperationResult and
/// BulkEnrollmentGroupOperationResult.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[doc(alias = "BulkEnrollmentOperationResult")]
#[doc(alias = "BulkEnrollmentGroupOperationResult")]
#[doc(alias = "BulkOperationResult")]
#[must_use = "a bulk request succeeds even when its items failed"]
#[non_exhaustive]
pub struct BulkResult {
    /// Whether all items succeeded; anything but `true` counts as no.
    #[serde(deserialize_with = "is_true")]
    pub is_successful: bool,
    /// The items that failed; empty if none did. What cannot be read in an error is kept in it; a `null` is
    /// left out.
    #[serde(default, deserialize_with = "errors", skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<BulkError>,
}

impl BulkResult {
    /// The result of a request whose other items succeeded.
    pub fn new(errors: Vec<BulkError>) -> Self {
        Self { is_successful: errors.is_empty(), errors }
    }
}

fn is_true<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Value::deserialize(deserializer).map(|value| value == Value::Bool(true))
}

fn errors<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<BulkError>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Null => Vec::new(),
        Value::Array(errors) => {
            errors.into_iter().filter(|error| !error.is_null()).map(BulkError::read).collect()
        }
        error => vec![BulkError::read(error)],
    })
}

/// Why one item of a bulk request failed.
///
/// Source: DPS service REST API 2021-10-01, BulkEnrollmentOperationError and
/// BulkEnrollmentGroupOperationError.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[doc(alias = "BulkEnrollmentOperationError")]
#[doc(alias = "BulkEnrollmentGroupOperationError")]
#[doc(alias = "BulkOperationError")]
#[non_exhaustive]
pub struct BulkError {
    /// The enrollment, in a request about enrollments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registration_id: Option<String>,
    /// The group, in a request about groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enrollment_group_id: Option<String>,
    /// The code of the error: six digits in every answer of the service that is known, or an HTTP status. 0
    /// if the service gave none.
    #[serde(skip_serializing_if = "is_zero")]
    pub error_code: i32,
    /// Text for people; empty if the service gave none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error_status: String,
    /// Members that this crate does not know, and those whose value is of another type than documented.
    #[serde(flatten)]
    pub other: OtherMembers,
}

impl<'de> Deserialize<'de> for BulkError {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self::read)
    }
}

impl BulkError {
    /// Parses as much as possible: one malformed error must not hide the outcome of the other items.
    fn read(error: Value) -> Self {
        let mut members = match error {
            Value::Object(members) => members,
            Value::String(text) => return Self { error_status: text, ..Self::default() },
            other => return Self { error_status: other.to_string(), ..Self::default() },
        };
        let registration_id = take(&mut members, "registrationId", text);
        let enrollment_group_id = take(&mut members, "enrollmentGroupId", text);
        let error_code = take(&mut members, "errorCode", error_code::read).unwrap_or_default();
        let error_status = take(&mut members, "errorStatus", text).unwrap_or_default();
        Self { registration_id, enrollment_group_id, error_code, error_status, other: members.into() }
    }
}

/// Removes a member if it can be parsed or is `null`, and returns its value.
fn take<T>(members: &mut Map<String, Value>, name: &str, read: fn(&Value) -> Option<T>) -> Option<T> {
    let value = members.get(name)?;
    let found = read(value);
    if found.is_some() || value.is_null() {
        members.remove(name);
    }
    found
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn is_zero(code: &i32) -> bool {
    *code == 0
}

impl BulkError {
    /// The id of the item that failed: an enrollment or a group.
    pub fn id(&self) -> Option<&str> {
        self.registration_id.as_deref().or(self.enrollment_group_id.as_deref())
    }

    /// Whether the record to update or delete does not exist (404).
    pub fn is_not_found(&self) -> bool {
        self.has_status(404)
    }

    /// Whether the record to create exists already (409). To replace it, get it and send it with its `etag`
    /// and [`BulkMode::UpdateIfMatchETag`], or write it in a separate call.
    pub fn is_conflict(&self) -> bool {
        self.has_status(409)
    }

    /// Whether another client changed the record since it was read (412). Read it again.
    pub fn is_precondition_failed(&self) -> bool {
        self.has_status(412)
    }

    /// The code is six digits or an HTTP status.
    fn has_status(&self, status: i32) -> bool {
        self.error_code == status || self.error_code / 1000 == status
    }
}

impl fmt::Display for BulkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.id().unwrap_or("an item without id");
        match self.other.get("errorCode").and_then(Value::as_str) {
            Some(code) => write!(f, "{id}: code {code:?}")?,
            None => write!(f, "{id}: code {}", self.error_code)?,
        }
        if self.error_status.is_empty() { Ok(()) } else { write!(f, ", {:?}", self.error_status) }
    }
}

const MODE: &str = "mode";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::models::{AttestationMechanism, SymmetricKeyAttestation};

    #[test]
    fn each_kind_has_its_member() {
        let none = || serde_json::from_value::<AttestationMechanism>(json!({"type": "none"})).unwrap();
        let enrollments = [IndividualEnrollment::new("a", none())];
        let body = json!({"mode": "updateIfMatchETag", "enrollments": [{"registrationId": "a", "attestation": {"type": "none"}}]});
        let operation = BulkOperation::new(BulkMode::UpdateIfMatchETag, &enrollments);
        assert_eq!(serde_json::to_value(&operation).unwrap(), body);
        assert_eq!(serde_json::from_value::<BulkOperation<'_, _>>(body).unwrap(), operation);

        let groups = vec![EnrollmentGroup::new("g", none())];
        let body = json!({"mode": "later", "enrollmentGroups": [{"enrollmentGroupId": "g", "attestation": {"type": "none"}}]});
        let operation = BulkOperation::new("later".into(), groups);
        assert_eq!(serde_json::to_value(&operation).unwrap(), body);
        assert_eq!(serde_json::from_value::<BulkOperation<'_, _>>(body).unwrap(), operation);
    }

    #[test]
    fn items_and_mode_are_required() {
        for body in [json!({"mode": "create"}), json!({"enrollments": []}), json!({})] {
            assert!(serde_json::from_value::<BulkOperation<'_, IndividualEnrollment>>(body).is_err());
        }
    }

    #[test]
    fn errors_of_both_kinds_are_read() {
        let result: BulkResult = serde_json::from_value(json!({"isSuccessful": false, "errors": [
            {"registrationId": "a", "errorCode": 409201, "errorStatus": "Conflict"},
            {"enrollmentGroupId": "g", "registrationId": null, "errorCode": 412, "errorStatus": null}
        ]}))
        .unwrap();
        assert_eq!(result.errors.iter().map(BulkError::id).collect::<Vec<_>>(), [Some("a"), Some("g")]);
        assert!(result.errors[0].is_conflict() && result.errors[1].is_precondition_failed());
        assert_eq!(result.errors[0].to_string(), "a: code 409201, \"Conflict\"");
        assert_eq!(result.errors[1].to_string(), "g: code 412");
    }

    #[test]
    fn missing_and_null_errors_are_an_empty_list() {
        for body in [json!({"isSuccessful": true}), json!({"isSuccessful": true, "errors": null})] {
            let result: BulkResult = serde_json::from_value(body).unwrap();
            assert!(result.is_successful && result.errors.is_empty());
        }
        let result: BulkResult = serde_json::from_value(json!({"isSuccessful": null})).unwrap();
        assert!(!result.is_successful);
        assert!(serde_json::from_value::<BulkResult>(json!({})).is_err());
    }

    #[test]
    fn an_odd_error_does_not_hide_the_others() {
        let odd = json!([
            {"registrationId": "a", "errorCode": "409201", "errorStatus": "Conflict"},
            null,
            {"registrationId": "b", "errorCode": "Conflict"},
            {"registrationId": 7, "errorCode": null, "errorStatus": {"k": 1}},
            "it failed",
            [1]
        ]);
        let result: BulkResult =
            serde_json::from_value(json!({"isSuccessful": "no", "errors": odd})).unwrap();
        assert!(!result.is_successful);
        let shown: Vec<String> = result.errors.iter().map(BulkError::to_string).collect();
        assert_eq!(
            shown,
            [
                "a: code 409201, \"Conflict\"",
                "b: code \"Conflict\"",
                "an item without id: code 0",
                "an item without id: code 0, \"it failed\"",
                "an item without id: code 0, \"[1]\""
            ]
        );
        assert!(result.errors[0].is_conflict() && !result.errors[1].is_conflict());
        let kept = serde_json::to_value(&result.errors[2]).unwrap();
        assert_eq!(kept, json!({"registrationId": 7, "errorStatus": {"k": 1}}));
        let one: BulkResult =
            serde_json::from_value(json!({"isSuccessful": false, "errors": {"errorCode": 412}})).unwrap();
        assert!(one.errors[0].is_precondition_failed());
    }

    #[test]
    fn debug_never_shows_a_secret() {
        let keys = SymmetricKeyAttestation::new("marker-1", "marker-2");
        let items = [IndividualEnrollment::new("a", AttestationMechanism::symmetric_key(keys))];
        let shown = format!("{:?}", BulkOperation::new(BulkMode::Create, &items));
        assert!(!shown.contains("marker"), "{shown}");
    }
}
