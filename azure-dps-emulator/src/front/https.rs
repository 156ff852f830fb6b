//! HTTPS: from requests to calls and from answers to responses. It knows paths and headers, and no rule.
//!
//! A request for a WebSocket ends HTTP: the other protocols go on with the connection.

use std::future;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{self, OnUpgrade};
use hyper::{Method, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::chunked::Chunked;
use super::websocket::{Messages, Upgrade};
use super::{amqp, mqtt};
use crate::api::hub::NO_HUB_HERE;
use crate::call::answer::Delivery;
use crate::call::kind::Kind;
use crate::call::request::DeviceOperation;
use crate::call::request::PageHeaders;
use crate::call::request::Protocol;
use crate::call::request::Request;
use crate::call::request::{BackEndOperation, BackEndRequest, DeviceRequest};
use crate::call::request::{HubOperation, HubRequest};
use crate::call::schema::Body;
use crate::call::{Call, Handled, Origin};
use crate::front::body::{BODY_LIMIT, LARGEST_HEAD, READ_DEADLINE, Unread, collect};
use crate::front::delay::hold_back;
use crate::front::peer::Peer;
use crate::instance::Instance;
use crate::refusal::{METHOD_NOT_ALLOWED, REQUEST_TIMEOUT, Refusal, TOO_LARGE, UNKNOWN_PATH};
use crate::state::fault::GARBAGE;

/// Serves one connection until either side ends it.
pub(crate) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    instance: Arc<Instance>,
    sessions: mqtt::Sessions,
) {
    let connection = peer.connection;
    let next = Arc::new(Mutex::new(None));
    let respond = service_fn(|request: hyper::Request<Incoming>| {
        let (peer, instance, next) = (peer.clone(), Arc::clone(&instance), Arc::clone(&next));
        async move { respond(request, peer, &instance, &next).await }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(READ_DEADLINE)
        .max_buf_size(LARGEST_HEAD)
        .serve_connection(TokioIo::new(stream), respond)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(connection, %error, "connection ended");
    }
    let next = next.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some((protocol, upgrade)) = next else { return };
    match timeout(READ_DEADLINE, upgrade).await {
        Ok(Ok(upgraded)) => {
            let messages = Messages::over(TokioIo::new(upgraded));
            let peer = Peer { protocol, ..peer };
            match protocol {
                Protocol::AmqpWs => amqp::serve(messages, peer, instance).await,
                _ => mqtt::serve(messages, peer, instance, sessions).await,
            }
        }
        _ => tracing::debug!(connection, "the client left before the WebSocket was open"),
    }
}

/// What comes after HTTP on this connection.
type Next = Mutex<Option<(Protocol, OnUpgrade)>>;

async fn respond(
    mut request: hyper::Request<Incoming>,
    peer: Peer,
    instance: &Instance,
    next: &Next,
) -> Result<hyper::Response<Chunked>, HungUp> {
    let host = host(request.uri(), request.headers());
    let hub = addressed_hub(instance, &host);
    // Hubs have WebSockets too, which are not emulated.
    let upgrade = hub.is_none().then(|| Upgrade::read(request.uri().path(), request.headers()));
    let wanted = match upgrade.flatten() {
        Some(Ok(wanted)) => {
            let on_upgrade = upgrade::on(&mut request);
            *next.lock().unwrap_or_else(PoisonError::into_inner) = Some((wanted.protocol, on_upgrade));
            return Ok(wanted.response());
        }
        Some(Err(refusal)) => Some(refusal),
        None => None,
    };
    let (head, body) = request.into_parts();
    let api_version = api_version(&head.uri);
    let path = segments(head.uri.path());
    let body = read(body).await;
    let request = match wanted {
        Some(refusal) => Err(refusal),
        None => path.as_deref().map_err(Refusal::clone).and_then(|path| {
            let resource = format!("{host}/{}", path.join("/"));
            match hub {
                Some(hub) => Ok(route_hub(&head.method, path, resource, hub, &head.headers)),
                None => route(&head.method, path, resource, &head.headers),
            }
        }),
    };
    let (body, request) = match (body, request) {
        (Ok(bytes), request) => (Body { bytes, json: is_json(&head.headers) }, request),
        (Err(refusal), _) => (Body::default(), Err(refusal)),
    };
    let for_device = matches!(request, Ok(Request::Device { .. }));
    let call = Call {
        origin: Origin {
            protocol: Protocol::Https,
            connection: peer.connection,
            method: head.method.to_string(),
            target: target(&head.uri, api_version.as_deref()),
        },
        authorization: text(&head.headers, header::AUTHORIZATION),
        certificates: peer.certificates,
        for_tpm: true,
        api_version,
        body,
        request,
    };
    let mut handled = instance.handle(call);
    if for_device && handled.answer.status == 401 {
        // The header is in no such answer of the service.
        handled.answer.error_code = None;
    }
    hold_back(handled.delay).await;
    match handled.delivery {
        Delivery::HangUp => return Err(HungUp),
        Delivery::Garbage => return Ok(garbage()),
        Delivery::Stall => future::pending().await,
        Delivery::Plain | Delivery::WrongRid | Delivery::Twice => {}
    }
    Ok(response(handled, &host, head.uri.path()))
}

/// A fault ends the connection in place of the answer.
#[derive(Debug, thiserror::Error)]
#[error("a fault hung up")]
struct HungUp;

/// Which operation a method and a path mean. Literals are compared without case; ids are kept as they are.
fn route(
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
    let instance = |id: &str, operation: Option<BackEndOperation>| {
        let asked = BackEndRequest {
            operation: operation.ok_or_else(wrong_method)?,
            id: id.to_owned(),
            if_match: text(headers, header::IF_MATCH),
            page: PageHeaders {
                max_item_count: text(headers, MAX_ITEM_COUNT),
                continuation: text(headers, CONTINUATION),
            },
        };
        Ok(Request::BackEnd { resource, asked })
    };
    let device = |id_scope: &str, registration_id: &str, operation: Option<DeviceOperation>| {
        let operation = operation.ok_or_else(wrong_method)?;
        Ok(Request::Device(DeviceRequest {
            id_scope: id_scope.to_owned(),
            registration_id: registration_id.to_owned(),
            operation,
        }))
    };
    let word = method.as_str();
    match (lower.as_slice(), path.as_slice()) {
        ([collection @ ("enrollments" | "enrollmentgroups")], _) => {
            instance("", (word == "POST").then_some(BackEndOperation::Bulk(kind(collection))))
        }
        ([collection @ ("enrollments" | "enrollmentgroups"), "query"], _) => {
            instance("", (word == "POST").then_some(BackEndOperation::List(kind(collection))))
        }
        ([collection @ ("enrollments" | "enrollmentgroups"), _], [_, id]) => {
            let kind = kind(collection);
            instance(
                id,
                match word {
                    "PUT" => Some(BackEndOperation::Put(kind)),
                    "GET" => Some(BackEndOperation::Get(kind)),
                    "DELETE" => Some(BackEndOperation::Delete(kind)),
                    _ => None,
                },
            )
        }
        ([collection @ ("enrollments" | "enrollmentgroups"), _, "attestationmechanism"], [_, id, _]) => {
            instance(id, (word == "POST").then_some(BackEndOperation::AttestationMechanism(kind(collection))))
        }
        (["registrations", _], [_, id]) => instance(
            id,
            match word {
                "GET" => Some(BackEndOperation::GetRegistration),
                "DELETE" => Some(BackEndOperation::DeleteRegistration),
                _ => None,
            },
        ),
        (["registrations", _, "query"], [_, id, _]) => {
            instance(id, (word == "POST").then_some(BackEndOperation::ListRegistrations))
        }
        ([_, "registrations", _], [id_scope, _, id]) => {
            device(id_scope, id, (word == "POST").then_some(DeviceOperation::Lookup))
        }
        ([_, "registrations", _, "register"], [id_scope, _, id, _]) => {
            device(id_scope, id, (word == "PUT").then_some(DeviceOperation::Register))
        }
        ([_, "registrations", _, "operations", _], [id_scope, _, id, _, operation]) => {
            let operation_id = (*operation).to_owned();
            device(id_scope, id, (word == "GET").then_some(DeviceOperation::Poll { operation_id }))
        }
        (["devices" | "twins" | "jobs" | "configurations" | "statistics" | "digitaltwins", ..], _) => {
            Err(unknown_path().because(format!("the path is that of an IoT hub; {NO_HUB_HERE}")))
        }
        _ => Err(unknown_path()),
    }
}

/// The linked hub whose host name the request carries; under a name of this machine there is only the service.
fn addressed_hub(instance: &Instance, host: &str) -> Option<String> {
    let name = &instance.settings().linked(host)?.host_name;
    let is_here = name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok();
    (!is_here).then(|| name.clone())
}

fn route_hub(
    method: &Method,
    path: &[String],
    resource: String,
    hub: String,
    headers: &HeaderMap,
) -> Request {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let operation = HubOperation::read(method.as_str(), &path);
    Request::Hub(HubRequest { resource, hub, operation, if_match: text(headers, header::IF_MATCH) })
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
fn segments(path: &str) -> Result<Vec<String>, Refusal> {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.strip_suffix('/')
        .unwrap_or(path)
        .split('/')
        .map(|segment| percent_decode_str(segment).decode_utf8().map(String::from))
        .collect::<Result<_, _>>()
        .map_err(|_| Refusal::invalid("the path is not UTF-8"))
}

async fn read(mut body: Incoming) -> Result<Vec<u8>, Refusal> {
    match collect(&mut body).await {
        Ok(bytes) => Ok(bytes.into()),
        Err(Unread::TooLarge) => {
            // A client that is still sending when the connection closes may never see the answer.
            let rest = Limited::new(body, DRAIN_LIMIT).collect();
            let _end = timeout(READ_DEADLINE, rest).await;
            Err(Refusal::new(TOO_LARGE, "the body is larger than 1 MiB"))
        }
        Err(Unread::BrokeOff) => Err(Refusal::invalid("the body broke off")),
        Err(Unread::TooSlow) => Err(Refusal::new(REQUEST_TIMEOUT, "the body took too long")),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    text(headers, header::CONTENT_TYPE).is_some_and(|content_type| {
        let media_type = content_type.split(';').next().unwrap_or_default();
        media_type.trim().eq_ignore_ascii_case("application/json")
    })
}

fn api_version(uri: &Uri) -> Option<String> {
    let parameters = uri.query()?.split('&');
    let (_, value) =
        parameters.filter_map(|pair| pair.split_once('=')).find(|(name, _)| *name == "api-version")?;
    Some(value.to_owned())
}

fn host(uri: &Uri, headers: &HeaderMap) -> String {
    text(headers, header::HOST).or_else(|| uri.authority().map(ToString::to_string)).unwrap_or_default()
}

/// The path and the api-version: whatever else is in a query may be a secret.
fn target(uri: &Uri, api_version: Option<&str>) -> String {
    match api_version {
        Some(version) => format!("{}?api-version={version}", uri.path()),
        None => uri.path().to_owned(),
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn response(handled: Handled, host: &str, path: &str) -> hyper::Response<Chunked> {
    let Handled { answer, request_id, .. } = handled;
    let has_body = answer.body.is_some();
    let body = answer.body.map(|body| body.to_string()).unwrap_or_default();
    let mut response = hyper::Response::new(Chunked::from(body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut insert = |name: HeaderName, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    };
    insert(HeaderName::from_static("x-ms-request-id"), request_id);
    insert(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000; includeSubDomains".into());
    if has_body {
        insert(header::CONTENT_TYPE, "application/json; charset=utf-8".into());
    }
    if let Some(code) = answer.error_code {
        insert(HeaderName::from_static("x-ms-error-code"), code.to_string());
    }
    if let Some(code) = answer.hub_error {
        insert(HeaderName::from_static("iothub-errorcode"), code.to_owned());
    }
    if let Some(etag) = answer.etag {
        insert(header::ETAG, etag);
    }
    if let Some(seconds) = answer.retry_after {
        insert(header::RETRY_AFTER, seconds.to_string());
    }
    if let Some(page) = answer.page {
        insert(HeaderName::from_static("x-ms-item-type"), page.item_type.to_owned());
        insert(header::X_CONTENT_TYPE_OPTIONS, "nosniff".into());
        if let Some(token) = page.continuation {
            insert(CONTINUATION, token);
        }
    }
    if answer.status == 202 {
        insert(header::LOCATION, register_url(host, path));
    }
    response
}

fn garbage() -> hyper::Response<Chunked> {
    let mut response = hyper::Response::new(Chunked::from(GARBAGE));
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// The URL of the register request, which the service names in the answers to polls too.
fn register_url(host: &str, path: &str) -> String {
    let device: Vec<&str> = path.trim_start_matches('/').split('/').take(3).collect();
    format!("https://{host}/{}/register", device.join("/"))
}

const MAX_ITEM_COUNT: HeaderName = HeaderName::from_static("x-ms-max-item-count");
const CONTINUATION: HeaderName = HeaderName::from_static("x-ms-continuation");
const DRAIN_LIMIT: usize = 8 * BODY_LIMIT;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_have_any_case_and_ids_keep_theirs() {
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
    fn other_paths_and_methods_are_told_apart() {
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

    #[test]
    fn of_the_query_only_the_api_version_is_kept() {
        let uri: Uri = "/a/b?forceRegistration=true&api-version=2021-10-01&sig=secret".parse().unwrap();

        let version = api_version(&uri);

        assert_eq!(version.as_deref(), Some("2021-10-01"));
        assert_eq!(target(&uri, version.as_deref()), "/a/b?api-version=2021-10-01");
    }

    #[test]
    fn a_poll_is_told_the_url_of_its_register_request() {
        let wanted = "https://localhost:1/0ne1/registrations/a%3Ab/register";

        assert_eq!(register_url("localhost:1", "/0ne1/registrations/a%3Ab/operations/5.A"), wanted);
        assert_eq!(register_url("localhost:1", "/0ne1/registrations/a%3Ab/register"), wanted);
    }

    fn routed(method: &str, path: &str) -> Result<String, u32> {
        let method: Method = method.parse().unwrap();
        let request = segments(path).and_then(|path| route(&method, &path, String::new(), &HeaderMap::new()));
        request.map_err(|refusal| refusal.code).map(|request| match request {
            Request::BackEnd { asked, .. } => format!("{} {:?}", asked.id, asked.operation),
            Request::Device(DeviceRequest { id_scope, registration_id, operation }) => {
                format!("{id_scope} {registration_id} {operation:?}")
            }
            Request::Hub(asked) => format!("{} {:?}", asked.hub, asked.operation),
        })
    }
}
