//! Finds the operation for a method and a path. Literals are case-insensitive; ids are kept as they are.

use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{Method, Uri};
use percent_encoding::percent_decode_str;

use crate::api::hub::NO_HUB_HERE;
use crate::call::hub::{HubOperation, HubRequest};
use crate::call::kind::Kind;
use crate::call::request::{
    BackEndOperation, BackEndRequest, DeviceOperation, DeviceRequest, PageHeaders, Request,
};
use crate::refusal::{METHOD_NOT_ALLOWED, Refusal, UNKNOWN_PATH};

/// A request to the provisioning service.
pub(super) fn route(
    method: &Method,
    path: &[String],
    resource: String,
    headers: &HeaderMap,
) -> Result<Request, Refusal> {
    let lower: Vec<String> = path.iter().map(|segment| segment.to_lowercase()).collect();
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    if path.iter().any(|segment| segment.is_empty()) {
        return Err(unknown_path());
    }
    let word = method.as_str();
    if let Some((id, operation)) = back_end(word, &lower, &path) {
        let request = BackEndRequest {
            operation: operation.ok_or_else(wrong_method)?,
            id: id.to_owned(),
            if_match: if_match(headers),
            page: page(headers),
        };
        return Ok(Request::BackEnd { resource, request });
    }
    if let Some((id_scope, registration_id, operation)) = device(word, &lower, &path) {
        return Ok(Request::Device(DeviceRequest {
            id_scope: id_scope.to_owned(),
            registration_id: registration_id.to_owned(),
            operation: operation.ok_or_else(wrong_method)?,
        }));
    }
    match lower.first() {
        Some(&("devices" | "twins" | "jobs" | "configurations" | "statistics" | "digitaltwins")) => {
            Err(unknown_path().because(format!("the path is that of an IoT hub; {NO_HUB_HERE}")))
        }
        _ => Err(unknown_path()),
    }
}

/// The id and the operation of a path of the back-end API. `None` if the path does not belong to it; the
/// operation is `None` if the path does not support the method.
fn back_end<'p>(
    method: &str,
    lower: &[&str],
    path: &[&'p str],
) -> Option<(&'p str, Option<BackEndOperation>)> {
    let post = |operation| (method == "POST").then_some(operation);
    Some(match (lower, path) {
        ([collection @ ("enrollments" | "enrollmentgroups")], _) => {
            ("", post(BackEndOperation::Bulk(kind(collection))))
        }
        ([collection @ ("enrollments" | "enrollmentgroups"), "query"], _) => {
            ("", post(BackEndOperation::List(kind(collection))))
        }
        ([collection @ ("enrollments" | "enrollmentgroups"), _], [_, id]) => {
            let kind = kind(collection);
            let operation = match method {
                "PUT" => Some(BackEndOperation::Put(kind)),
                "GET" => Some(BackEndOperation::Get(kind)),
                "DELETE" => Some(BackEndOperation::Delete(kind)),
                _ => None,
            };
            (id, operation)
        }
        ([collection @ ("enrollments" | "enrollmentgroups"), _, "attestationmechanism"], [_, id, _]) => {
            (id, post(BackEndOperation::AttestationMechanism(kind(collection))))
        }
        (["registrations", _], [_, id]) => {
            let operation = match method {
                "GET" => Some(BackEndOperation::GetRegistration),
                "DELETE" => Some(BackEndOperation::DeleteRegistration),
                _ => None,
            };
            (id, operation)
        }
        (["registrations", _, "query"], [_, id, _]) => (id, post(BackEndOperation::ListRegistrations)),
        _ => return None,
    })
}

/// The id scope, the registration id and the operation of a path of the device API, in the same way.
fn device<'p>(
    method: &str,
    lower: &[&str],
    path: &[&'p str],
) -> Option<(&'p str, &'p str, Option<DeviceOperation>)> {
    let [id_scope, _, id, ..] = path else { return None };
    let operation = match (lower, path) {
        ([_, "registrations", _], _) => (method == "POST").then_some(DeviceOperation::Lookup),
        ([_, "registrations", _, "register"], _) => (method == "PUT").then_some(DeviceOperation::Register),
        ([_, "registrations", _, "operations", _], [.., operation]) => {
            (method == "GET").then(|| DeviceOperation::Poll { operation_id: (*operation).to_owned() })
        }
        _ => return None,
    };
    Some((id_scope, id, operation))
}

/// A request to a linked hub.
pub(super) fn route_hub(
    method: &Method,
    path: &[String],
    resource: String,
    hub: String,
    uri: &Uri,
    headers: &HeaderMap,
) -> Request {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let operation = HubOperation::read(method.as_str(), &path);
    let (if_match, page, top) = (if_match(headers), page(headers), parameter(uri, "top"));
    Request::Hub(HubRequest { resource, hub, operation, if_match, page, top })
}

fn page(headers: &HeaderMap) -> PageHeaders {
    PageHeaders { max_item_count: text(headers, MAX_ITEM_COUNT), continuation: text(headers, CONTINUATION) }
}

fn kind(collection: &str) -> Kind {
    if collection == "enrollments" { Kind::Individual } else { Kind::Group }
}

fn unknown_path() -> Refusal {
    Refusal::new(UNKNOWN_PATH, "there is no such path")
}

fn wrong_method() -> Refusal {
    Refusal::new(METHOD_NOT_ALLOWED, "the path does not know this method")
}

/// Splits a path and decodes each segment once, so that an encoded slash stays inside its segment.
pub(super) fn segments(path: &str) -> Result<Vec<String>, Refusal> {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.strip_suffix('/')
        .unwrap_or(path)
        .split('/')
        .map(|segment| percent_decode_str(segment).decode_utf8().map(String::from))
        .collect::<Result<_, _>>()
        .map_err(|_| Refusal::invalid("the path is not UTF-8"))
}

/// A parameter of the query, as it was sent.
pub(super) fn parameter(uri: &Uri, name: &str) -> Option<String> {
    let mut pairs = uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    Some(pairs.find(|(known, _)| *known == name)?.1.to_owned())
}

/// A header as text.
pub(super) fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

const MAX_ITEM_COUNT: HeaderName = HeaderName::from_static("x-ms-max-item-count");
/// The header with the continuation token, in requests and answers.
pub(super) const CONTINUATION: HeaderName = HeaderName::from_static("x-ms-continuation");

/// An empty header counts as absent.
fn if_match(headers: &HeaderMap) -> Option<String> {
    text(headers, header::IF_MATCH).filter(|tag| !tag.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_case_insensitive_and_ids_keep_their_case() {
        for (method, path, wanted) in [
            ("PUT", "/enrollments/Dev-1", "Dev-1 Put(Individual)"),
            ("GET", "/ENROLLMENTS/a/", "a Get(Individual)"),
            ("DELETE", "/enrollmentGroups/g", "g Delete(Group)"),
            ("POST", "/enrollmentgroups/G/attestationMechanism", "G AttestationMechanism(Group)"),
            ("POST", "/enrollments", " Bulk(Individual)"),
            ("POST", "/Enrollments/", " Bulk(Individual)"),
            ("POST", "/enrollmentGroups", " Bulk(Group)"),
            ("POST", "/enrollments/query", " List(Individual)"),
            ("POST", "/enrollmentGroups/Query/", " List(Group)"),
            ("POST", "/registrations/G/query", "G ListRegistrations"),
            ("POST", "/registrations/registrations%2Fg/query", "registrations/g ListRegistrations"),
            ("POST", "/registrations/registrations/query", "registrations ListRegistrations"),
            ("GET", "/registrations/a%3Ab", "a:b GetRegistration"),
            ("DELETE", "/registrations/registrations%2Fa", "registrations/a DeleteRegistration"),
            ("POST", "/0ne1/registrations/Dev-1", "0ne1 Dev-1 Lookup"),
            ("PUT", "/0ne1/Registrations/a/Register/", "0ne1 a Register"),
            ("GET", "/0ne1/registrations/a/operations/5.A", "0ne1 a Poll { operation_id: \"5.A\" }"),
            ("GET", "/registrations/%2525", "%25 GetRegistration"),
        ] {
            assert_eq!(routed(method, path), Ok(wanted.into()), "{method} {path}");
        }
    }

    #[test]
    fn an_unknown_path_and_an_unsupported_method_have_different_codes() {
        for (method, path, wanted) in [
            ("GET", "/", 404_000),
            ("GET", "/enrollments", 405_000),
            ("PUT", "/enrollments/query", 405_000),
            ("GET", "/enrollmentGroups/query", 405_000),
            ("GET", "/registrations/g/query", 405_000),
            ("GET", "/enrollments//", 404_000),
            ("GET", "/a/b/c/d/e/f", 404_000),
            ("PUT", "/0ne1/registrations//register", 404_000),
            ("POST", "/enrollments/a", 405_000),
            ("GET", "/enrollments/a/attestationmechanism", 405_000),
            ("PUT", "/registrations/a", 405_000),
            ("GET", "/0ne1/registrations/a", 405_000),
            ("POST", "/0ne1/registrations/a/register", 405_000),
            ("GET", "/enrollments/%FF", 400_000),
        ] {
            assert_eq!(routed(method, path), Err(wanted), "{method} {path}");
        }
    }

    fn routed(method: &str, path: &str) -> Result<String, u32> {
        let method: Method = method.parse().unwrap();
        let request = segments(path).and_then(|path| route(&method, &path, String::new(), &HeaderMap::new()));
        request.map_err(|refusal| refusal.code).map(|request| match request {
            Request::BackEnd { request, .. } => format!("{} {:?}", request.id, request.operation),
            Request::Device(DeviceRequest { id_scope, registration_id, operation }) => {
                format!("{id_scope} {registration_id} {operation:?}")
            }
            Request::Hub(request) => format!("{} {:?}", request.hub, request.operation),
            Request::AtHub(_) => panic!("devices connect over MQTT"),
        })
    }
}
