//! Builds the request of an operation. Pure: no runtime, no clock, no credential.

use azure_dps_core::http::{HttpMethod, HttpRequest};
use azure_dps_core::models::{BulkMode, BulkOperation, QuerySpecification};
use azure_dps_core::plumbing::percent_encode;
use azure_dps_core::{Error, ErrorKind, RegistrationId, Result};
use serde::Serialize;

use crate::resource::Enrollment;

/// One operation of the service API.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    /// The name of the operation in the REST API, for spans.
    pub(crate) name: &'static str,
    pub(crate) method: HttpMethod,
    pub(crate) path: String,
    /// The headers of this operation; every request has others too.
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Option<Vec<u8>>,
    /// Whether it changes anything.
    pub(crate) writes: bool,
    pub(crate) repeat: Repeat,
}

/// How to continue when the answer to an operation is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Repeating it changes nothing: reads, lists, and unconditional replacements.
    Freely,
    /// A repetition may find the record already deleted, which is success.
    UntilGone,
    /// A repetition may be refused because the first attempt succeeded, so the record is read first: creates
    /// and conditional writes.
    AfterReread,
}

impl Operation {
    pub(crate) fn get(collection: &str, id: &str) -> Result<Self> {
        Ok(Self::read("get", HttpMethod::Get, format!("/{collection}/{}", segment(collection, id)?)))
    }

    pub(crate) fn create_or_update(
        collection: &str,
        id: &str,
        if_match: Option<&str>,
        resource: &impl Serialize,
    ) -> Result<Self> {
        Ok(Self {
            name: "create_or_update",
            method: HttpMethod::Put,
            headers: if_match_header(if_match),
            body: Some(json(resource)?),
            writes: true,
            repeat: if if_match == Some(ANY) { Repeat::Freely } else { Repeat::AfterReread },
            ..Self::get(collection, id)?
        })
    }

    pub(crate) fn delete(collection: &str, id: &str, if_match: Option<&str>) -> Result<Self> {
        Ok(Self {
            name: "delete",
            method: HttpMethod::Delete,
            headers: if_match_header(if_match),
            writes: true,
            repeat: Repeat::UntilGone,
            ..Self::get(collection, id)?
        })
    }

    pub(crate) fn attestation_mechanism(collection: &str, id: &str) -> Result<Self> {
        let path = format!("/{collection}/{}/attestationmechanism", segment(collection, id)?);
        Ok(Self::read("attestation_mechanism", HttpMethod::Post, path))
    }

    /// One page of all records of a collection.
    pub(crate) fn query(collection: &str, page: &PageRequest) -> Result<Self> {
        Self::page(format!("/{collection}/query"), page)
    }

    /// One page of the registration records of a group. The path has the group's id in the place of a
    /// registration id.
    pub(crate) fn query_group(group_id: &str, page: &PageRequest) -> Result<Self> {
        Self::page(format!("/registrations/{}/query", segment(GROUPS, group_id)?), page)
    }

    pub(crate) fn run_bulk_operation<R: Enrollment>(
        collection: &str,
        bulk: &BulkOperation<'_, R>,
    ) -> Result<Self> {
        bulk.items.iter().try_for_each(|item| segment(collection, item.id()).map(drop))?;
        let repeat = match bulk.mode {
            BulkMode::Update => Repeat::Freely,
            BulkMode::Delete => Repeat::UntilGone,
            _ => Repeat::AfterReread,
        };
        let read = Self::read("run_bulk_operation", HttpMethod::Post, format!("/{collection}"));
        Ok(Self { body: Some(json(bulk)?), writes: true, repeat, ..read })
    }

    fn page(path: String, page: &PageRequest) -> Result<Self> {
        let size = page.size.map(|size| ("x-ms-max-item-count", size.to_string()));
        let token = page.continuation.clone().map(|token| ("x-ms-continuation", token));
        let query =
            page.query.as_ref().map(|text| json(&QuerySpecification::new(text.as_str()))).transpose()?;
        let read = Self::read("query", HttpMethod::Post, path);
        Ok(Self { headers: size.into_iter().chain(token).collect(), body: query, ..read })
    }

    fn read(name: &'static str, method: HttpMethod, path: String) -> Self {
        Self { name, method, path, headers: Vec::new(), body: None, writes: false, repeat: Repeat::Freely }
    }

    /// The request without its authorization.
    pub(crate) fn http(&self, api_version: &str, user_agent: &str) -> HttpRequest {
        let common = [("accept", "application/json".to_owned()), ("user-agent", user_agent.to_owned())];
        HttpRequest {
            method: self.method,
            target: format!("{}?api-version={api_version}", self.path),
            headers: common.into_iter().chain(self.headers.iter().cloned()).collect(),
            body: self.body.clone(),
        }
    }
}

/// The page of a listing to request.
#[derive(Clone, Debug, Default)]
pub(crate) struct PageRequest {
    /// The query text, which the service requires and ignores. Without it the request has no body.
    pub(crate) query: Option<String>,
    /// The maximum number of items; without it the service chooses.
    pub(crate) size: Option<u32>,
    /// The continuation; without it the first page.
    pub(crate) continuation: Option<String>,
}

fn if_match_header(tag: Option<&str>) -> Vec<(&'static str, String)> {
    tag.map(|tag| ("if-match", tag.to_owned())).into_iter().collect()
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value)
        .map_err(|why| Error::new(ErrorKind::Config, "the record cannot be written as JSON").with_source(why))
}

/// The id as one path segment.
///
/// Refuses invalid ids, because the service would bill the request and answer 400.
fn segment(collection: &str, id: &str) -> Result<String> {
    // The documentation has one rule for registration ids and the other ids.
    RegistrationId::new(id).map_err(|why| {
        let what = if collection == GROUPS { "an enrollment group" } else { "a registration" };
        // The text may be a key by mistake. The source names the character and its position.
        let message = format!("the text cannot be the id of {what}: {ID_RULE}");
        Error::new(ErrorKind::Config, message).with_source(why)
    })?;
    Ok(percent_encode(id))
}

const GROUPS: &str = "enrollmentGroups";
const ID_RULE: &str =
    "an id has 1 to 128 ASCII letters, digits, `-`, `.`, `_` and `:`, and is not `.` or `..`";

/// The `If-Match` of an unconditional write.
pub(crate) const ANY: &str = "*";

#[cfg(test)]
mod tests {
    use azure_dps_core::models::{AttestationMechanism, IndividualEnrollment};
    use serde_json::json;

    use super::*;

    fn sent(operation: Result<Operation>) -> (HttpMethod, String, Option<String>, Option<String>) {
        let request = operation.unwrap().http("2021-10-01", "test");
        let if_match =
            request.headers.into_iter().find(|(name, _)| *name == "if-match").map(|(_, value)| value);
        (request.method, request.target, if_match, request.body.map(|body| String::from_utf8(body).unwrap()))
    }

    #[test]
    fn every_operation_has_its_documented_request() {
        let version = "?api-version=2021-10-01";
        assert_eq!(
            sent(Operation::get("enrollments", "s-1")),
            (HttpMethod::Get, format!("/enrollments/s-1{version}"), None, None)
        );
        assert_eq!(
            sent(Operation::create_or_update("enrollmentGroups", "g", None, &json!({ "a": 1 }))),
            (HttpMethod::Put, format!("/enrollmentGroups/g{version}"), None, Some(r#"{"a":1}"#.into()))
        );
        assert_eq!(
            sent(Operation::create_or_update("enrollments", "s", Some("\"0e00\""), &json!({}))),
            (HttpMethod::Put, format!("/enrollments/s{version}"), Some("\"0e00\"".into()), Some("{}".into()))
        );
        assert_eq!(
            sent(Operation::delete("registrations", "s", Some("IjB=="))),
            (HttpMethod::Delete, format!("/registrations/s{version}"), Some("IjB==".into()), None)
        );
        assert_eq!(
            sent(Operation::attestation_mechanism("enrollments", "s")),
            (HttpMethod::Post, format!("/enrollments/s/attestationmechanism{version}"), None, None)
        );
    }

    fn page(query: Option<&str>, size: Option<u32>, continuation: Option<&str>) -> PageRequest {
        PageRequest { query: query.map(str::to_owned), size, continuation: continuation.map(str::to_owned) }
    }

    #[test]
    fn headers_select_a_page() {
        let asked = |operation: Result<Operation>| {
            let request = operation.unwrap().http("2021-10-01", "test");
            let own: Vec<_> =
                request.headers.into_iter().filter(|(name, _)| name.starts_with("x-ms-")).collect();
            (request.method, request.target, own, request.body.map(|body| String::from_utf8(body).unwrap()))
        };
        assert_eq!(
            asked(Operation::query("enrollmentGroups", &page(Some("*"), Some(2), Some("t==")))),
            (
                HttpMethod::Post,
                "/enrollmentGroups/query?api-version=2021-10-01".into(),
                vec![("x-ms-max-item-count", "2".into()), ("x-ms-continuation", "t==".into())],
                Some(r#"{"query":"*"}"#.into())
            )
        );
        assert_eq!(
            asked(Operation::query_group("a:b", &page(None, None, None))),
            (HttpMethod::Post, "/registrations/a%3Ab/query?api-version=2021-10-01".into(), vec![], None)
        );
    }

    #[test]
    fn a_bulk_operation_is_repeated_as_its_mode_allows() {
        let enrollment = [IndividualEnrollment::new("s", AttestationMechanism::tpm("AA=="))];
        let bulk = |mode: BulkMode| {
            Operation::run_bulk_operation("enrollments", &BulkOperation::new(mode, &enrollment)).unwrap()
        };
        assert_eq!(bulk(BulkMode::Create).repeat, Repeat::AfterReread);
        assert_eq!(bulk(BulkMode::UpdateIfMatchETag).repeat, Repeat::AfterReread);
        assert_eq!(bulk("ofANewerVersion".into()).repeat, Repeat::AfterReread);
        assert_eq!(bulk(BulkMode::Update).repeat, Repeat::Freely);
        assert_eq!(bulk(BulkMode::Delete).repeat, Repeat::UntilGone);
        assert!(bulk(BulkMode::Delete).writes);
        assert_eq!(sent(Ok(bulk(BulkMode::Delete))).1, "/enrollments?api-version=2021-10-01");
    }

    #[test]
    fn every_operation_refuses_an_invalid_id_and_names_the_rule() {
        let (_, target, ..) = sent(Operation::get("enrollmentGroups", "Plant-7.a_b:c"));
        assert_eq!(target, "/enrollmentGroups/Plant-7.a_b%3Ac?api-version=2021-10-01");
        assert!(Operation::get("enrollments", &"a".repeat(128)).is_ok());
        let long = "a".repeat(129);
        for id in ["", ".", "..", "sensor 42", "a/b", "a?b", "a%20b", "a\n", "grün", &long] {
            let enrollment = [IndividualEnrollment::new(id, AttestationMechanism::tpm("AA=="))];
            for refused in [
                Operation::get("enrollments", id),
                Operation::get("registrations", id),
                Operation::create_or_update("enrollments", id, None, &json!({})),
                Operation::delete("enrollments", id, None),
                Operation::attestation_mechanism("enrollments", id),
                Operation::run_bulk_operation(
                    "enrollments",
                    &BulkOperation::new(BulkMode::Create, &enrollment),
                ),
            ] {
                let error = refused.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Config);
                let wanted = format!("the text cannot be the id of a registration: {ID_RULE}");
                assert_eq!(error.to_string(), wanted);
                assert!(error.report().contains("\n  because the registration id "), "{}", error.report());
            }
            let error = Operation::query_group(id, &page(None, None, None)).unwrap_err();
            assert!(error.to_string().contains("cannot be the id of an enrollment group: "), "{error}");
        }
    }

    #[test]
    fn only_writes_that_could_be_refused_by_themselves_are_looked_after() {
        let put = |tag| Operation::create_or_update("enrollments", "s", tag, &json!({})).unwrap().repeat;
        assert_eq!(put(None), Repeat::AfterReread);
        assert_eq!(put(Some("\"1\"")), Repeat::AfterReread);
        assert_eq!(put(Some(ANY)), Repeat::Freely);
        assert_eq!(Operation::delete("enrollments", "s", None).unwrap().repeat, Repeat::UntilGone);
    }
}
