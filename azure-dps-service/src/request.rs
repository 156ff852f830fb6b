//! From an operation to its request. Pure: no runtime, no clock, no credential.

use azure_dps_core::{Error, ErrorKind, HttpMethod, HttpRequest, Result};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

/// One operation of the service API.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    /// The name in the service's words, for spans.
    pub(crate) name: &'static str,
    pub(crate) method: HttpMethod,
    pub(crate) path: String,
    pub(crate) if_match: Option<String>,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) repeat: Repeat,
}

/// What may be done when the answer to an operation is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Repeating it changes nothing: reads, and replacing whatever is there.
    Freely,
    /// Repeating it may find the record gone already, which is what was wanted.
    UntilGone,
    /// Repeating it may be refused because the first attempt succeeded: creates and conditional writes.
    AfterLooking,
}

impl Operation {
    pub(crate) fn get(collection: &str, id: &str) -> Result<Self> {
        Ok(Self {
            name: "get",
            method: HttpMethod::Get,
            path: format!("/{collection}/{}", segment(id)?),
            if_match: None,
            body: None,
            repeat: Repeat::Freely,
        })
    }

    pub(crate) fn create_or_update(
        collection: &str,
        id: &str,
        if_match: Option<&str>,
        resource: &impl Serialize,
    ) -> Result<Self> {
        let unwritable =
            |why| Error::new(ErrorKind::Config, "the record cannot be written as JSON").with_source(why);
        Ok(Self {
            name: "create_or_update",
            method: HttpMethod::Put,
            body: Some(serde_json::to_vec(resource).map_err(unwritable)?),
            if_match: if_match.map(str::to_owned),
            repeat: if if_match == Some(ANY) { Repeat::Freely } else { Repeat::AfterLooking },
            ..Self::get(collection, id)?
        })
    }

    pub(crate) fn delete(collection: &str, id: &str, if_match: Option<&str>) -> Result<Self> {
        Ok(Self {
            name: "delete",
            method: HttpMethod::Delete,
            if_match: if_match.map(str::to_owned),
            repeat: Repeat::UntilGone,
            ..Self::get(collection, id)?
        })
    }

    pub(crate) fn attestation_mechanism(collection: &str, id: &str) -> Result<Self> {
        let get = Self::get(collection, id)?;
        let path = format!("{}/attestationmechanism", get.path);
        Ok(Self { name: "attestation_mechanism", method: HttpMethod::Post, path, ..get })
    }

    /// Whether it changes anything.
    pub(crate) fn writes(&self) -> bool {
        matches!(self.method, HttpMethod::Put | HttpMethod::Delete)
    }

    /// The request without its authorization.
    pub(crate) fn http(&self, api_version: &str, user_agent: &str) -> HttpRequest {
        let mut headers =
            vec![("accept", "application/json".to_owned()), ("user-agent", user_agent.to_owned())];
        if let Some(tag) = &self.if_match {
            headers.push(("if-match", tag.clone()));
        }
        HttpRequest {
            method: self.method,
            target: format!("{}?api-version={api_version}", self.path),
            headers,
            body: self.body.clone(),
        }
    }
}

/// The id as one path segment.
fn segment(id: &str) -> Result<String> {
    let refuse = |why: &str| Err(Error::new(ErrorKind::Config, format!("the id {why}")));
    match id {
        "" => refuse("is empty"),
        "." | ".." => refuse(&format!("{id:?} would change the path of the request")),
        _ => Ok(utf8_percent_encode(id, SEGMENT).to_string()),
    }
}

/// The `If-Match` of an unconditional write.
pub(crate) const ANY: &str = "*";

/// One path segment: everything but RFC 3986's unreserved characters is encoded.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[cfg(test)]
mod tests {
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

    #[test]
    fn an_id_is_one_segment_whatever_it_holds() {
        let (_, target, ..) = sent(Operation::get("enrollmentGroups", "a/b c?ü:"));
        assert_eq!(target, "/enrollmentGroups/a%2Fb%20c%3F%C3%BC%3A?api-version=2021-10-01");
        for id in ["", ".", ".."] {
            assert_eq!(Operation::get("enrollments", id).unwrap_err().kind(), ErrorKind::Config, "{id:?}");
        }
    }

    #[test]
    fn only_writes_that_could_be_refused_by_themselves_are_looked_after() {
        let put = |tag| Operation::create_or_update("enrollments", "s", tag, &json!({})).unwrap().repeat;
        assert_eq!(put(None), Repeat::AfterLooking);
        assert_eq!(put(Some("\"1\"")), Repeat::AfterLooking);
        assert_eq!(put(Some(ANY)), Repeat::Freely);
        assert_eq!(Operation::delete("enrollments", "s", None).unwrap().repeat, Repeat::UntilGone);
    }
}
