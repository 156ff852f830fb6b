//! The management port: plain HTTP on the loopback address, one route for each call of the library.
//!
//! | route | answer |
//! | --- | --- |
//! | `GET /health` | 200 `{"status": "ok"}` |
//! | `GET /ca.pem` | 200, the certificate authority |
//! | `GET /journal`, `/enrollments`, `/registrations`, `/hubs`, `/billing` | 200, JSON |
//! | `GET /hubs/{hub}/devices`, `/hubs/{hub}/devices/{id}` | 200, JSON: identities and twins |
//! | `DELETE /hubs/{hub}/devices/{id}` | 204 |
//! | `GET /hub-keys/{registrationId}` | 200 `{"primaryKey": "…"}`: what a TPM signs with at its hub |
//! | `POST /reset` | 204 |
//! | `POST /faults` with a fault or an array of them | 204 |
//! | `POST /pki` with `{"devices": ["…"], "intermediates": n}` | 200, a test PKI; nothing of it is kept |
//! | `GET /certificates`, `/certificates/{name}` | 200, JSON: the uploaded certificates of authorities, or one of them |
//! | `PUT /certificates/{name}` with `{"certificate": "…", "isVerified": bool}` | 204; either member may be left out |
//! | `DELETE /certificates/{name}` | 204 |
//! | `GET /allocation` | 200 `{"allocationPolicy": "…", "latencies": […]}`: what the instance says |
//! | `PUT /allocation` with the same | 200, the same; either member may be left out |
//! | `PUT /clock` with `{"now": "…"}`, `{"now": null}` or `{"advanceSeconds": n}` | 200 `{"now": "…"}` |

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::json::{self, Map, Value, json};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::net::TcpStream;

use super::{Unread, collect};
use crate::allocation::Latencies;
use crate::authorities::CaCertificate;
use crate::clock;
use crate::fault::{Effect, Fault, Front, Operation};
use crate::journal::Entry;
use crate::pki::Pki;
use crate::service::Service;
use crate::settings::DefaultAllocation;

/// Serves one connection until either side ends it.
pub(super) async fn serve(stream: TcpStream, ca_pem: Arc<str>, service: Arc<Service>) {
    let respond = service_fn(|request: Request<Incoming>| {
        let (ca_pem, service) = (Arc::clone(&ca_pem), Arc::clone(&service));
        async move {
            let (head, mut body) = request.into_parts();
            let answer = match collect(&mut body).await {
                Ok(body) => route(head.method.as_str(), head.uri.path(), &body, &ca_pem, &service),
                Err(Unread::TooLarge) => {
                    Err((StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 1 MiB".to_owned()))
                }
                Err(Unread::BrokeOff) => Err(bad("the body broke off".to_owned())),
                Err(Unread::TooSlow) => {
                    Err((StatusCode::REQUEST_TIMEOUT, "the body took too long".to_owned()))
                }
            };
            Ok::<_, Infallible>(response(answer))
        }
    });
    let served =
        http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), respond).await;
    if let Err(error) = served {
        tracing::debug!(%error, "management connection ended");
    }
}

enum Reply {
    Json(Value),
    Pem(String),
    Nothing,
}

type Routed = Result<Reply, (StatusCode, String)>;

fn route(method: &str, path: &str, body: &[u8], ca_pem: &str, service: &Service) -> Routed {
    match (method, path) {
        ("GET", "/health") => Ok(Reply::Json(json!({"status": "ok"}))),
        ("GET", "/ca.pem") => Ok(Reply::Pem(ca_pem.to_owned())),
        ("GET", "/journal") => {
            Ok(Reply::Json(service.journal().entries().iter().map(Entry::to_json).collect()))
        }
        ("GET", "/enrollments") => Ok(Reply::Json(service.enrollments())),
        ("GET", "/registrations") => Ok(Reply::Json(service.registrations())),
        ("GET", "/hubs") => Ok(Reply::Json(service.hubs())),
        ("GET", "/billing") => Ok(Reply::Json(service.billed().to_json())),
        ("POST", "/reset") => {
            service.reset();
            Ok(Reply::Nothing)
        }
        ("POST", "/pki") => read(body).and_then(pki).map(Reply::Json).map_err(bad),
        ("POST", "/faults") => {
            let faults = read(body).and_then(|body| match body {
                Value::Array(faults) => faults.into_iter().map(fault).collect::<Result<Vec<_>, _>>(),
                other => Ok(vec![fault(other)?]),
            });
            for fault in faults.map_err(bad)? {
                service.inject(fault);
            }
            Ok(Reply::Nothing)
        }
        ("PUT", "/clock") => {
            read(body).and_then(|body| set_clock(body, service)).map_err(bad)?;
            Ok(Reply::Json(json!({"now": clock::timestamp(service.now())})))
        }
        ("GET", "/allocation") => Ok(Reply::Json(service.change_rules(|_| ()).to_json())),
        ("PUT", "/allocation") => {
            let (policy, latencies) = read(body).and_then(allocation).map_err(bad)?;
            let rules = service.change_rules(|rules| {
                rules.policy = policy.unwrap_or(rules.policy);
                rules.latencies = latencies.unwrap_or_else(|| rules.latencies.clone());
            });
            Ok(Reply::Json(rules.to_json()))
        }
        ("GET", "/certificates") => Ok(Reply::Json(service.certificates())),
        (_, known) if ROUTES.contains(&known) => {
            Err((StatusCode::METHOD_NOT_ALLOWED, format!("{known} does not know {method}")))
        }
        (_, path) => match path.split('/').collect::<Vec<_>>().as_slice() {
            ["", "certificates", name @ ..] => certificate(method, &name.join("/"), body, service),
            ["", "hubs", hub, "devices", id @ ..] => devices(method, hub, id, service),
            ["", "hub-keys", id] => hub_key(method, &percent_decode_str(id).decode_utf8_lossy(), service),
            _ => Err((StatusCode::NOT_FOUND, format!("there are only {}", ROUTES.join(", ")))),
        },
    }
}

fn bad(message: String) -> (StatusCode, String) {
    (StatusCode::BAD_REQUEST, message)
}

fn read(body: &[u8]) -> Result<Value, String> {
    json::read(body).map_err(|error| format!("the body is not JSON: {error}"))
}

/// The policy of the instance and all its latencies; each may be left out.
fn allocation(body: Value) -> Result<(Option<DefaultAllocation>, Option<Latencies>), String> {
    let Value::Object(body) = body else { return Err("the body is a JSON object".to_owned()) };
    if let Some(name) = body.keys().find(|name| !["allocationPolicy", "latencies"].contains(&name.as_str())) {
        return Err(format!("an allocation has no {name}; there are allocationPolicy and latencies"));
    }
    let policy = word(&body, "allocationPolicy")?.map(|word| {
        DefaultAllocation::read(word)
            .ok_or_else(|| format!("allocationPolicy {word} is none of hashed, geoLatency, static"))
    });
    let latencies = body.get("latencies").map(|tables| latencies(tables).ok_or(BAD_LATENCIES));
    Ok((policy.transpose()?, latencies.transpose()?))
}

fn latencies(tables: &Value) -> Option<Latencies> {
    let mut latencies = Latencies::default();
    for table in tables.as_array()? {
        let regions = table["regions"].as_object()?.iter().map(|(region, millis)| {
            millis
                .as_u64()
                .and_then(|millis| u32::try_from(millis).ok())
                .map(|millis| (region.clone(), millis))
        });
        latencies.set(table["devices"].as_str()?, regions.collect::<Option<Vec<_>>>()?);
    }
    Some(latencies)
}

fn pki(body: Value) -> Result<Value, String> {
    let Value::Object(body) = body else { return Err("the body is a JSON object".to_owned()) };
    if let Some(name) = body.keys().find(|name| !["devices", "intermediates"].contains(&name.as_str())) {
        return Err(format!("a test PKI has no {name}; there are devices and intermediates"));
    }
    let devices = match body.get("devices") {
        None => Vec::new(),
        Some(Value::Array(ids)) => {
            let ids = ids.iter().map(|id| id.as_str().ok_or("devices is an array of strings"));
            ids.collect::<Result<Vec<_>, _>>()?
        }
        Some(_) => return Err("devices is an array of strings".to_owned()),
    };
    let intermediates = number(&body, "intermediates")?.unwrap_or(1);
    let pki = Pki::new(devices, usize::try_from(intermediates).unwrap_or(usize::MAX));
    pki.map(|pki| pki.to_json()).map_err(|error| error.to_string())
}

fn certificate(method: &str, name: &str, body: &[u8], service: &Service) -> Routed {
    let unknown = || (StatusCode::NOT_FOUND, format!("there is no certificate {name}"));
    match method {
        "GET" => service.certificate(name).map(Reply::Json).ok_or_else(unknown),
        "DELETE" => service.delete_certificate(name).then_some(Reply::Nothing).ok_or_else(unknown),
        "PUT" => match read(body).and_then(upload).map_err(bad)? {
            (Some(text), verified) => {
                let given =
                    CaCertificate { name: name.to_owned(), text, verified: verified.unwrap_or(false) };
                service.upload(given).map_err(|error| bad(error.to_string()))?;
                Ok(Reply::Nothing)
            }
            (None, Some(verified)) if service.mark_certificate(name, verified) => Ok(Reply::Nothing),
            (None, Some(_)) => Err(unknown()),
            (None, None) => Err(bad("the body must have certificate, isVerified, or both".to_owned())),
        },
        _ => Err((StatusCode::METHOD_NOT_ALLOWED, format!("/certificates/{name} does not know {method}"))),
    }
}

fn devices(method: &str, hub: &str, id: &[&str], service: &Service) -> Routed {
    let unknown = |what: String| (StatusCode::NOT_FOUND, format!("there is no {what}"));
    let id = match id {
        [] if method == "GET" => {
            let devices = service.hub_devices(hub).ok_or_else(|| unknown(format!("hub {hub}")))?;
            return Ok(Reply::Json(devices));
        }
        [id] => percent_decode_str(id).decode_utf8_lossy(),
        _ => return Err((StatusCode::METHOD_NOT_ALLOWED, format!("devices do not know {method}"))),
    };
    let unknown = || unknown(format!("device {id} on hub {hub}"));
    match method {
        "GET" => service.hub_device(hub, &id).map(Reply::Json).ok_or_else(unknown),
        "DELETE" => service.delete_hub_device(hub, &id).then_some(Reply::Nothing).ok_or_else(unknown),
        _ => Err((StatusCode::METHOD_NOT_ALLOWED, format!("a device does not know {method}"))),
    }
}

fn hub_key(method: &str, id: &str, service: &Service) -> Routed {
    if method != "GET" {
        return Err((StatusCode::METHOD_NOT_ALLOWED, format!("/hub-keys/{id} does not know {method}")));
    }
    match service.hub_key(id) {
        Some(key) => Ok(Reply::Json(json!({"primaryKey": key}))),
        None => Err((StatusCode::NOT_FOUND, format!("{id} was not assigned to a hub by a TPM"))),
    }
}

/// The certificate of an upload, and whether it is verified; each may be left out.
fn upload(body: Value) -> Result<(Option<String>, Option<bool>), String> {
    let Value::Object(body) = body else { return Err("the body is a JSON object".to_owned()) };
    if let Some(name) = body.keys().find(|name| !["certificate", "isVerified"].contains(&name.as_str())) {
        return Err(format!("a certificate has no {name}; there are certificate and isVerified"));
    }
    let verified = match body.get("isVerified") {
        None | Some(Value::Null) => None,
        Some(value) => Some(value.as_bool().ok_or("isVerified must be true or false")?),
    };
    Ok((word(&body, "certificate")?.map(str::to_owned), verified))
}

fn set_clock(body: Value, service: &Service) -> Result<(), String> {
    let members = match &body {
        Value::Object(members) => members.iter().map(|(name, value)| (name.as_str(), value)).collect(),
        _ => Vec::new(),
    };
    match members.as_slice() {
        [("now", Value::Null)] => service.reset_clock(),
        [("now", Value::String(text))] => {
            let now = OffsetDateTime::parse(text, &Rfc3339)
                .map_err(|_| "now is no time such as 2026-05-04T09:15:27Z".to_owned())?;
            service.set_clock(SystemTime::from(now));
        }
        [("advanceSeconds", seconds)] => {
            let by = seconds.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            service.advance_clock(by.ok_or("advanceSeconds is no number of seconds, or a negative one")?);
        }
        _ => return Err("the body must have either now, a time or null, or advanceSeconds".to_owned()),
    }
    Ok(())
}

/// Reads a fault; a member or word that is not known is named.
fn fault(given: Value) -> Result<Fault, String> {
    let Value::Object(given) = given else { return Err("a fault is a JSON object".to_owned()) };
    if let Some(name) = given.keys().find(|name| !FAULT_MEMBERS.contains(&name.as_str())) {
        return Err(format!("a fault has no {name}; there are {}", FAULT_MEMBERS.join(", ")));
    }
    let mut fault = Fault::new(effect(&given)?);
    fault = match word(&given, "front")? {
        None => fault,
        Some(word) => match Front::ALL.into_iter().find(|front| front.word() == word) {
            Some(front) => fault.over(front),
            None => {
                let words = Front::ALL.map(Front::word).join(", ");
                return Err(format!("front {word} is none of {words}"));
            }
        },
    };
    fault = match word(&given, "operation")? {
        None => fault,
        Some("connect") => fault.on(Operation::Connect),
        Some("register") => fault.on(Operation::Register),
        Some("poll") => fault.on(Operation::Poll),
        Some("lookup") => fault.on(Operation::Lookup),
        Some("service") => fault.on(Operation::Service),
        Some(other) => {
            return Err(format!("operation {other} is none of connect, register, poll, lookup, service"));
        }
    };
    if let Some(id) = word(&given, "registrationId")? {
        fault = fault.of(id);
    }
    if let Some(nth) = number(&given, "nth")? {
        fault = fault.nth(at_least_1("nth", nth)?);
    }
    if let Some(count) = number(&given, "count")? {
        fault = fault.times(at_least_1("count", count)?);
    }
    fault.can_act().then_some(fault).ok_or_else(|| NEVER_ACTS.to_owned())
}

fn effect(given: &Map) -> Result<Effect, String> {
    let status = number(given, "status")?;
    let retry_after = number(given, "retryAfter")?;
    let word = word(given, "effect")?.ok_or("effect is missing")?;
    if (status.is_some() && word != "status")
        || (retry_after.is_some() && !["status", "throttle"].contains(&word))
    {
        return Err(format!("status and retryAfter do not belong to effect {word}"));
    }
    match word {
        "throttle" => Ok(Effect::Refuse { status: 429, retry_after: Some(retry_after.unwrap_or(0)) }),
        "status" => {
            let status = status.and_then(|status| u16::try_from(status).ok());
            let status = status.filter(|status| (400..600).contains(status));
            Ok(Effect::Refuse { status: status.ok_or("status must be 400 to 599")?, retry_after })
        }
        "hangUp" => Ok(Effect::HangUp),
        "garbage" => Ok(Effect::Garbage),
        "stall" => Ok(Effect::Stall),
        "wrongRid" => Ok(Effect::WrongRid),
        "duplicateReply" => Ok(Effect::DuplicateReply),
        other => Err(format!(
            "effect {other} is none of throttle, status, hangUp, garbage, stall, wrongRid, duplicateReply"
        )),
    }
}

fn word<'a>(given: &'a Map, name: &str) -> Result<Option<&'a str>, String> {
    match given.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_str().map(Some).ok_or_else(|| format!("{name} must be a string")),
    }
}

fn number(given: &Map, name: &str) -> Result<Option<u32>, String> {
    match given.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
            number.map(Some).ok_or_else(|| format!("{name} must be a whole number"))
        }
    }
}

fn at_least_1(name: &str, number: u32) -> Result<u32, String> {
    (number > 0).then_some(number).ok_or_else(|| format!("{name} must be at least 1"))
}

fn response(answer: Routed) -> Response<Full<Bytes>> {
    let json = "application/json; charset=utf-8";
    let (status, content_type, body) = match answer {
        Ok(Reply::Json(body)) => (StatusCode::OK, json, body.to_string()),
        Ok(Reply::Pem(pem)) => (StatusCode::OK, "application/x-pem-file", pem),
        Ok(Reply::Nothing) => (StatusCode::NO_CONTENT, json, String::new()),
        Err((status, message)) => (status, json, json!({"message": message}).to_string()),
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

const BAD_LATENCIES: &str =
    r#"latencies is no array of {"devices": "berlin-*", "regions": {"westeurope": 12}}"#;
const NEVER_ACTS: &str = "the fault would never act: connect does not come over https, lookup and service come over \
                          https only, and wrongRid and duplicateReply are for register and poll over the others";
const ROUTES: [&str; 15] = [
    "/health",
    "/ca.pem",
    "/journal",
    "/enrollments",
    "/registrations",
    "/hubs",
    "/billing",
    "/reset",
    "/faults",
    "/pki",
    "/clock",
    "/certificates",
    "/allocation",
    "/hub-keys/{registrationId}",
    "/hubs/{hostName}/devices",
];
const FAULT_MEMBERS: [&str; 8] =
    ["effect", "status", "retryAfter", "front", "operation", "registrationId", "nth", "count"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_read_with_all_its_conditions() {
        let given = json!({
            "effect": "throttle", "retryAfter": 3, "front": "mqtt", "operation": "poll", "registrationId": "dev1",
            "nth": 2, "count": 4,
        });

        let wanted = Fault::throttle(3).over(Front::Mqtt).on(Operation::Poll).of("dev1").nth(2).times(4);
        assert_eq!(fault(given), Ok(wanted));
        assert_eq!(fault(json!({"effect": "status", "status": 503})), Ok(Fault::status(503)));
        assert_eq!(fault(json!({"effect": "duplicateReply"})), Ok(Fault::duplicate_reply()));
    }

    #[test]
    fn what_is_wrong_with_a_fault_is_named() {
        for (given, wanted) in [
            (json!([]), "a fault is a JSON object"),
            (json!({}), "effect is missing"),
            (json!({"effect": "status"}), "status must be 400 to 599"),
            (json!({"effect": "status", "status": 200}), "status must be 400 to 599"),
            (
                json!({"effect": "stall", "status": 500}),
                "status and retryAfter do not belong to effect stall",
            ),
            (json!({"effect": "stall", "nth": -1}), "nth must be a whole number"),
            (json!({"effect": "stall", "nth": 0}), "nth must be at least 1"),
            (json!({"effect": "stall", "count": 0}), "count must be at least 1"),
            (json!({"effect": "duplicateReply", "front": "https"}), NEVER_ACTS),
            (json!({"effect": "stall", "front": "mqtt", "operation": "lookup"}), NEVER_ACTS),
            (
                json!({"effect": "stall", "front": "smtp"}),
                "front smtp is none of https, mqtt, mqtt-ws, amqp, amqp-ws",
            ),
            (
                json!({"effect": "stall", "times": 1}),
                "a fault has no times; there are effect, status, retryAfter, front, operation, registrationId, nth, count",
            ),
        ] {
            assert_eq!(fault(given), Err(wanted.to_owned()));
        }
    }
}
