//! The routes of devices at their hubs, below `/hubs/{hub}/devices/{id}/`.
//!
//! | route | answer |
//! | --- | --- |
//! | `GET telemetry`, `?last=n` | 200, JSON: the telemetry that is kept, or the last `n`, the oldest first |
//! | `POST telemetry` with `{"after": n, "withinSeconds": s}` | 200, the first message with a larger number; 504 |
//! | `PATCH desired` with a patch | 200 `{"version": n}` |
//! | `POST methods` with a call as over the REST API of hubs | 200 `{"status": n, "payload": …}`; 409; 504 |
//! | `POST messages` with `{"body": "…"}` or `{"base64": "…"}`, and properties | 204 |
//! | `POST disconnect` | 200 `{"wasConnected": bool}` |

use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use hyper::StatusCode;

use super::members::word;
use super::query::{Query, shown};
use crate::instance::Instance;
use crate::json::{self, Map, Value, json};
use crate::records::hubs::call_error::HubCallError;
use crate::records::hubs::message::CloudMessage;
use crate::records::hubs::method::MethodCall;

/// Answers a request to a route of a device; `None` is an answer without a body.
pub(super) async fn route(
    method: &str,
    hub: &str,
    id: &str,
    (verb, query): (&str, &Query),
    body: &[u8],
    instance: &Instance,
) -> Result<Option<Value>, (StatusCode, String)> {
    let bad = |message: String| (StatusCode::BAD_REQUEST, message);
    match (method, verb) {
        ("GET", "telemetry") => {
            let last = query.get(LAST).map_or(Ok(usize::MAX), last).map_err(bad)?;
            let kept = instance.telemetry(hub, id);
            let latest = kept.iter().skip(kept.len().saturating_sub(last));
            Ok(Some(latest.map(|telemetry| telemetry.to_json()).collect()))
        }
        ("POST", "telemetry") => {
            let (after, within) = wait(body).map_err(bad)?;
            let found = instance.wait_for_telemetry(hub, id, after, within).await.map_err(refusal)?;
            Ok(Some(found.to_json()))
        }
        ("PATCH", "desired") => {
            let patch = object(body).map_err(bad)?;
            let version = instance.set_desired(hub, id, patch).map_err(refusal)?;
            Ok(Some(json!({"version": version})))
        }
        ("POST", "methods") => {
            let call = method_call(body).map_err(bad)?;
            let (status, payload) = instance.invoke_method(hub, id, &call).await.map_err(refusal)?;
            Ok(Some(json!({"status": status, "payload": payload})))
        }
        ("POST", "messages") => {
            let message = message(body).map_err(bad)?;
            instance.send_to_device(hub, id, message).map_err(refusal)?;
            Ok(None)
        }
        ("POST", "disconnect") => {
            let was_connected = instance.disconnect(hub, id).map_err(refusal)?;
            Ok(Some(json!({"wasConnected": was_connected})))
        }
        (_, verb) if VERBS.contains(&verb) => {
            Err((StatusCode::METHOD_NOT_ALLOWED, format!("{verb} of a device does not know {method}")))
        }
        _ => Err((StatusCode::NOT_FOUND, format!("a device has only {}", VERBS.join(", ")))),
    }
}

fn refusal(error: HubCallError) -> (StatusCode, String) {
    let status = match error {
        HubCallError::UnknownHub(_) | HubCallError::UnknownDevice { .. } => StatusCode::NOT_FOUND,
        HubCallError::NotOnline(_) => StatusCode::CONFLICT,
        HubCallError::NoAnswer(_) | HubCallError::NoTelemetry(_) => StatusCode::GATEWAY_TIMEOUT,
        HubCallError::TooManyCalls | HubCallError::TooManyMessages => StatusCode::TOO_MANY_REQUESTS,
        HubCallError::MessageTooLarge(_) | HubCallError::PayloadTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        HubCallError::Twin(_) | HubCallError::MethodName(_) => StatusCode::BAD_REQUEST,
    };
    (status, error.to_string())
}

fn last(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("last must be a whole number of messages; it is {}", shown(text)))
}

fn wait(body: &[u8]) -> Result<(u64, Duration), String> {
    let given = known(body, "a wait", &["after", "withinSeconds"])?;
    let after = given.get("after").map_or(Some(0), Value::as_u64).ok_or("after must be a whole number")?;
    Ok((after, seconds(&given, "withinSeconds")?.ok_or("withinSeconds is missing")?))
}

fn method_call(body: &[u8]) -> Result<MethodCall, String> {
    let names = ["methodName", "payload", "connectTimeoutInSeconds", "responseTimeoutInSeconds"];
    let given = known(body, "a call", &names)?;
    let mut call = MethodCall::new(word(&given, "methodName")?.ok_or("methodName is missing")?);
    call.payload = given.get("payload").cloned().unwrap_or_default();
    if let Some(timeout) = seconds(&given, "connectTimeoutInSeconds")? {
        call = call.with_connect_timeout(timeout);
    }
    if let Some(timeout) = seconds(&given, "responseTimeoutInSeconds")? {
        call = call.with_response_timeout(timeout);
    }
    Ok(call)
}

fn message(body: &[u8]) -> Result<CloudMessage, String> {
    let given = known(body, "a message", &["body", "base64", "properties", "systemProperties"])?;
    let body = match (word(&given, "body")?, word(&given, "base64")?) {
        (Some(text), None) => text.as_bytes().to_vec(),
        (None, Some(text)) => BASE64_STANDARD.decode(text).map_err(|_| "base64 is not base64")?,
        (None, None) => Vec::new(),
        (Some(_), Some(_)) => return Err("body and base64 exclude each other".to_owned()),
    };
    let mut message = CloudMessage::new(body);
    for (member, prefix) in [("systemProperties", "$."), ("properties", "")] {
        let properties = match given.get(member) {
            None => continue,
            Some(Value::Object(properties)) => properties,
            Some(_) => return Err(format!("{member} must be an object")),
        };
        for (name, value) in properties {
            let value = value.as_str().ok_or_else(|| format!("{member}.{name} must be a string"))?;
            message = message.with_property(format!("{prefix}{name}"), value);
        }
    }
    Ok(message)
}

/// Reads an object that has these members only.
fn known(body: &[u8], what: &str, names: &[&str]) -> Result<Map, String> {
    let given = object(body)?;
    if let Some(name) = given.keys().find(|name| !names.contains(&name.as_str())) {
        return Err(format!("{what} has no {name}; there are {}", names.join(", ")));
    }
    Ok(given)
}

fn object(body: &[u8]) -> Result<Map, String> {
    match json::read(body) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err("the body is a JSON object".to_owned()),
        Err(error) => Err(format!("the body is not JSON: {error}")),
    }
}

fn seconds(given: &Map, name: &str) -> Result<Option<Duration>, String> {
    match given.get(name) {
        None => Ok(None),
        Some(value) => {
            let seconds = value.as_f64().filter(|seconds| (0.0..=LONGEST_WAIT).contains(seconds));
            let wanted = || format!("{name} must be a number of seconds, at most {LONGEST_WAIT}");
            seconds.map(|seconds| Some(Duration::from_secs_f64(seconds))).ok_or_else(wanted)
        }
    }
}

/// The member of the query with which a reader asks for the latest telemetry only.
pub(super) const LAST: &str = "last";
const VERBS: [&str; 5] = ["telemetry", "desired", "methods", "messages", "disconnect"];
const LONGEST_WAIT: f64 = 300.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_a_text_or_bytes_and_properties() {
        let given = json!({
            "base64": "AAE=", "properties": {"a": "1"}, "systemProperties": {"mid": "7"},
        });

        let wanted = CloudMessage::new([0, 1]).with_system_property("mid", "7").with_property("a", "1");
        assert_eq!(message(given.to_string().as_bytes()), Ok(wanted));
        assert_eq!(message(br#"{"body":"x"}"#), Ok(CloudMessage::new("x")));
    }

    #[test]
    fn an_error_says_what_is_wrong() {
        let cause = |read: fn(&[u8]) -> Result<(), String>, body: &str| read(body.as_bytes()).unwrap_err();
        let read_message = |body: &[u8]| message(body).map(|_| ());
        let read_call = |body: &[u8]| method_call(body).map(|_| ());
        let read_wait = |body: &[u8]| wait(body).map(|_| ());

        for (why, wanted) in [
            (cause(read_message, "[]"), "the body is a JSON object"),
            (cause(read_message, r#"{"body":"x","base64":""}"#), "body and base64 exclude each other"),
            (cause(read_message, r#"{"base64":"!"}"#), "base64 is not base64"),
            (cause(read_message, r#"{"properties":{"a":1}}"#), "properties.a must be a string"),
            (
                cause(read_message, r#"{"text":"x"}"#),
                "a message has no text; there are body, base64, properties, systemProperties",
            ),
            (cause(read_call, "{}"), "methodName is missing"),
            (
                cause(read_call, r#"{"methodName":"a","responseTimeoutInSeconds":-1}"#),
                "responseTimeoutInSeconds must be a number of seconds, at most 300",
            ),
            (cause(read_wait, "{}"), "withinSeconds is missing"),
            (cause(read_wait, r#"{"within":1}"#), "a wait has no within; there are after, withinSeconds"),
        ] {
            assert_eq!(why, wanted);
        }
    }
}
