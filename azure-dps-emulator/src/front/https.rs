//! HTTPS: turns requests into calls and answers into responses. It knows paths and headers, and no rule of
//! the service.
//!
//! After an upgrade to a WebSocket, the front of MQTT or AMQP serves the connection.

mod route;

use std::future;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{self, OnUpgrade};
use hyper::{StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use self::route::{CONTINUATION, parameter, route, route_hub, segments, text};
use super::chunked::Chunked;
use super::websocket::{Messages, Upgrade};
use super::{amqp, mqtt};
use crate::call::answer::Delivery;
use crate::call::request::{Protocol, Request};
use crate::call::schema::Body;
use crate::call::{Call, Handled, Origin};
use crate::clock;
use crate::front::body::{BODY_LIMIT, DEVICE_BODY_LIMIT, LARGEST_HEAD, READ_DEADLINE, Unread, collect};
use crate::front::delay::hold_back;
use crate::front::peer::Peer;
use crate::instance::Instance;
use crate::refusal::{REQUEST_TIMEOUT, Refusal, TOO_LARGE};
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

/// The protocol after an upgrade of this connection.
type Next = Mutex<Option<(Protocol, OnUpgrade)>>;

async fn respond(
    mut request: hyper::Request<Incoming>,
    peer: Peer,
    instance: &Instance,
    next: &Next,
) -> Result<hyper::Response<Chunked>, HungUp> {
    let host = host(request.uri(), request.headers());
    let hub = addressed_hub(instance, &host);
    let upgrade = Upgrade::read(request.uri().path(), request.headers());
    // Hubs do not speak AMQP here.
    let is_spoken = |wanted: &Upgrade| hub.is_none() || wanted.protocol == Protocol::MqttWs;
    let wanted = match upgrade.filter(|wanted| wanted.as_ref().map_or(hub.is_none(), is_spoken)) {
        Some(Ok(wanted)) => {
            let on_upgrade = upgrade::on(&mut request);
            *next.lock().unwrap_or_else(PoisonError::into_inner) = Some((wanted.protocol, on_upgrade));
            return Ok(wanted.response());
        }
        Some(Err(refusal)) => Some(refusal),
        None => None,
    };
    let (head, body) = request.into_parts();
    let api_version = parameter(&head.uri, "api-version");
    let path = segments(head.uri.path());
    let request = match wanted {
        Some(refusal) => Err(refusal),
        None => path.as_deref().map_err(Refusal::clone).and_then(|path| {
            let resource = format!("{host}/{}", path.join("/"));
            match hub {
                Some(hub) => Ok(route_hub(&head.method, path, resource, hub, &head.uri, &head.headers)),
                None => route(&head.method, path, resource, &head.headers),
            }
        }),
    };
    let for_device = matches!(request, Ok(Request::Device { .. }));
    let body = read(body, if for_device { DEVICE_BODY_LIMIT } else { BODY_LIMIT }).await;
    let (body, request) = match (body, request) {
        (Ok(bytes), request) => (Body { bytes, json: is_json(&head.headers) }, request),
        (Err(refusal), _) => (Body::default(), Err(refusal)),
    };
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
    let mut handled = carry_out(instance, call).await;
    if for_device && handled.answer.status == 401 {
        // The service does not send this header here.
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

/// Carries out a call. A direct method takes as long as its device.
async fn carry_out(instance: &Instance, call: Call) -> Handled {
    let method_of = match &call.request {
        Ok(Request::Hub(request)) => {
            Some((call.origin.clone(), request.hub.clone(), request.operation.id().to_owned()))
        }
        _ => None,
    };
    let mut handled = instance.handle(call);
    match (handled.answer.waits_for.take(), method_of) {
        (Some(rid), Some((origin, hub, id))) => instance.finish_call(origin, &hub, &id, &rid, handled).await,
        _ => handled,
    }
}

/// A fault closes the connection instead of an answer.
#[derive(Debug, thiserror::Error)]
#[error("a fault hung up")]
struct HungUp;

/// The linked hub that the `Host` header names. `localhost` and IP addresses always name the provisioning
/// service.
fn addressed_hub(instance: &Instance, host: &str) -> Option<String> {
    let name = &instance.settings().linked(host)?.host_name;
    let is_here = name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok();
    (!is_here).then(|| name.clone())
}

async fn read(mut body: Incoming, limit: usize) -> Result<Vec<u8>, Refusal> {
    match collect(&mut body, limit).await {
        Ok(bytes) => Ok(bytes.into()),
        Err(Unread::TooLarge) => {
            // A client that is still sending when the connection closes may not see the answer.
            let rest = Limited::new(body, DRAIN_LIMIT).collect();
            let _end = timeout(READ_DEADLINE, rest).await;
            Err(Refusal::new(TOO_LARGE, format!("the body is larger than {} KiB", limit / 1024)))
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

fn host(uri: &Uri, headers: &HeaderMap) -> String {
    text(headers, header::HOST).or_else(|| uri.authority().map(ToString::to_string)).unwrap_or_default()
}

/// The path and the api-version, for the journal. The rest of the query may contain secrets.
fn target(uri: &Uri, api_version: Option<&str>) -> String {
    match api_version {
        Some(version) => format!("{}?api-version={version}", uri.path()),
        None => uri.path().to_owned(),
    }
}

fn response(handled: Handled, host: &str, path: &str) -> hyper::Response<Chunked> {
    let Handled { answer, request_id, time, .. } = handled;
    let has_body = answer.body.is_some();
    let body = answer.body.map(|body| body.to_string()).unwrap_or_default();
    let mut response = hyper::Response::new(Chunked::from(body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut insert = |name: HeaderName, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    };
    // By the emulator's clock, because clients compare it with the times in records.
    insert(header::DATE, clock::http_date(time));
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

/// The URL of the register request, which the service also sends in the answers to polls.
fn register_url(host: &str, path: &str) -> String {
    let device: Vec<&str> = path.trim_start_matches('/').split('/').take(3).collect();
    format!("https://{host}/{}/register", device.join("/"))
}

const DRAIN_LIMIT: usize = 8 * BODY_LIMIT;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_gets_only_the_api_version_of_a_query() {
        let uri: Uri = "/a/b?forceRegistration=true&api-version=2021-10-01&sig=secret".parse().unwrap();

        let version = parameter(&uri, "api-version");

        assert_eq!(version.as_deref(), Some("2021-10-01"));
        assert_eq!(target(&uri, version.as_deref()), "/a/b?api-version=2021-10-01");
    }

    #[test]
    fn a_poll_gets_the_url_of_its_register_request() {
        let wanted = "https://localhost:1/0ne1/registrations/a%3Ab/register";

        assert_eq!(register_url("localhost:1", "/0ne1/registrations/a%3Ab/operations/5.A"), wanted);
        assert_eq!(register_url("localhost:1", "/0ne1/registrations/a%3Ab/register"), wanted);
    }
}
