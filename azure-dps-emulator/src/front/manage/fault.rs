//! Reads faults from the body of `POST /faults`, and writes those that wait in the same form.

use std::time::Duration;

use hyper::StatusCode;

use super::members::{number, word};
use super::reply::{Reply, Routed, bad, read};
use crate::call::request::{Operation, Protocol};
use crate::instance::Instance;
use crate::json::{Map, Value, json};
use crate::state::fault::{Effect, Fault, FaultError};

/// `POST /faults`.
pub(super) fn inject(body: &[u8], instance: &Instance) -> Routed {
    let faults = read(body).and_then(faults).map_err(bad)?;
    let injected = instance.inject(faults);
    injected.map(|()| Reply::Nothing).map_err(|error| match error {
        FaultError::TooMany => (StatusCode::TOO_MANY_REQUESTS, error.to_string()),
        _ => bad(error.to_string()),
    })
}

/// Reads one fault or an array of them.
///
/// # Errors
/// Says what is wrong with the first fault that cannot be read or can never act.
fn faults(body: Value) -> Result<Vec<Fault>, String> {
    match body {
        Value::Array(faults) => faults.into_iter().map(fault).collect(),
        other => Ok(vec![fault(other)?]),
    }
}

/// Reads a fault. The error names an unknown member or word.
fn fault(given: Value) -> Result<Fault, String> {
    let Value::Object(given) = given else { return Err("a fault is a JSON object".to_owned()) };
    if let Some(name) = given.keys().find(|name| !MEMBERS.contains(&name.as_str()) && *name != EARLIER_TIMES)
    {
        return Err(format!("a fault has no {name}; there are {}", MEMBERS.join(", ")));
    }
    let mut fault = Fault::new(effect(&given)?);
    fault = match word(&given, "front")? {
        None => fault,
        Some(word) => match Protocol::ALL.into_iter().find(|protocol| protocol.word() == word) {
            Some(protocol) => fault.over(protocol),
            None => {
                let words = Protocol::ALL.map(Protocol::word).join(", ");
                return Err(format!("front {word} is none of {words}"));
            }
        },
    };
    fault = match word(&given, "operation")? {
        None => fault,
        Some(word) => match Operation::ALL.into_iter().find(|operation| operation.word() == word) {
            Some(operation) => fault.on(operation),
            None => {
                let words = Operation::ALL.map(Operation::word).join(", ");
                return Err(format!("operation {word} is none of {words}"));
            }
        },
    };
    if let Some(id) = word(&given, "registrationId")? {
        fault = fault.of(id);
    }
    if let Some(nth) = number(&given, "nth")? {
        fault = fault.nth(at_least_1("nth", nth)?);
    }
    if given.contains_key("times") && given.contains_key(EARLIER_TIMES) {
        return Err(format!("times and {EARLIER_TIMES} mean the same: give one of them"));
    }
    for name in ["times", EARLIER_TIMES] {
        if let Some(times) = number(&given, name)? {
            fault = fault.times(at_least_1(name, times)?);
        }
    }
    fault.check().map_err(|error| error.to_string())?;
    Ok(fault)
}

fn effect(given: &Map) -> Result<Effect, String> {
    let status = number(given, "status")?;
    let retry_after = number(given, "retryAfter")?;
    let ms = number(given, "ms")?;
    let word = word(given, "effect")?.ok_or("effect is missing")?;
    if (status.is_some() && word != "status")
        || (retry_after.is_some() && !["status", "throttle"].contains(&word))
    {
        return Err(format!("status and retryAfter do not belong to effect {word}"));
    }
    if ms.is_some() && word != "delay" {
        return Err(format!("ms does not belong to effect {word}"));
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
        "delay" => {
            let ms = ms.ok_or("ms is missing: how many milliseconds later the answer is sent")?;
            Ok(Effect::Delay(Duration::from_millis(ms.into())))
        }
        "wrongRid" => Ok(Effect::WrongRid),
        "duplicateReply" => Ok(Effect::DuplicateReply),
        other => Err(format!(
            "effect {other} is none of throttle, status, hangUp, garbage, stall, delay, wrongRid, \
             duplicateReply"
        )),
    }
}

/// Writes a fault with all its members, such that [`faults`] reads it back. `nth` and `times` are those that are
/// left.
pub(super) fn to_json(fault: &Fault) -> Value {
    let (word, status, retry_after, delay) = match fault.effect {
        Effect::Refuse { status: 429, retry_after: Some(seconds) } => ("throttle", None, Some(seconds), None),
        Effect::Refuse { status, retry_after } => ("status", Some(u32::from(status)), retry_after, None),
        Effect::HangUp => ("hangUp", None, None, None),
        Effect::Garbage => ("garbage", None, None, None),
        Effect::Stall => ("stall", None, None, None),
        Effect::Delay(by) => ("delay", None, None, Some(u32::try_from(by.as_millis()).unwrap_or(u32::MAX))),
        Effect::WrongRid => ("wrongRid", None, None, None),
        Effect::DuplicateReply => ("duplicateReply", None, None, None),
    };
    json!({
        "effect": word,
        "status": status,
        "retryAfter": retry_after,
        "ms": delay,
        "front": (fault.protocol.map(Protocol::word)),
        "operation": (fault.operation.map(Operation::word)),
        "registrationId": fault.id,
        "nth": fault.nth,
        "times": fault.times,
    })
}

fn at_least_1(name: &str, number: u32) -> Result<u32, String> {
    (number > 0).then_some(number).ok_or_else(|| format!("{name} must be at least 1"))
}

const MEMBERS: [&str; 9] =
    ["effect", "status", "retryAfter", "ms", "front", "operation", "registrationId", "nth", "times"];
/// An alias of `times`.
const EARLIER_TIMES: &str = "count";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_read_with_all_its_conditions() {
        let given = json!({
            "effect": "throttle", "retryAfter": 3, "front": "mqtt", "operation": "poll", "registrationId": "dev1",
            "nth": 2, "times": 4,
        });

        let wanted = Fault::throttle(3).over(Protocol::Mqtt).on(Operation::Poll).of("dev1").nth(2).times(4);
        assert_eq!(fault(given), Ok(wanted));
        assert_eq!(fault(json!({"effect": "status", "status": 503})), Ok(Fault::status(503)));
        assert_eq!(fault(json!({"effect": "duplicateReply"})), Ok(Fault::duplicate_reply()));
        assert_eq!(fault(json!({"effect": "stall", "count": 4})), Ok(Fault::stall().times(4)));
        let delay = Fault::delay(Duration::from_millis(50));
        assert_eq!(fault(json!({"effect": "delay", "ms": 50})), Ok(delay));
    }

    #[test]
    fn a_fault_that_waits_is_written_as_it_is_read() {
        for given in [
            Fault::throttle(3).over(Protocol::AmqpWs).on(Operation::Poll).of("dev1").nth(2).times(4),
            Fault::status(429),
            Fault::status(503),
            Fault::new(Effect::Refuse { status: 503, retry_after: Some(7) }),
            Fault::hang_up(),
            Fault::garbage(),
            Fault::stall(),
            Fault::delay(Duration::from_millis(50)),
            Fault::wrong_rid(),
            Fault::duplicate_reply(),
        ] {
            assert_eq!(fault(to_json(&given)), Ok(given));
        }
    }

    #[test]
    fn an_error_says_what_is_wrong_with_a_fault() {
        let never_met = FaultError::NeverMet.to_string();
        for (given, wanted) in [
            (json!([]), "a fault is a JSON object"),
            (json!({}), "effect is missing"),
            (json!({"effect": "status"}), "status must be 400 to 599"),
            (json!({"effect": "status", "status": 200}), "status must be 400 to 599"),
            (
                json!({"effect": "stall", "status": 500}),
                "status and retryAfter do not belong to effect stall",
            ),
            (json!({"effect": "stall", "nth": -1}), "nth must be a whole number, at most 4294967295"),
            (
                json!({"effect": "stall", "times": 4_294_967_296_u64}),
                "times must be a whole number, at most 4294967295",
            ),
            (json!({"effect": "stall", "times": 0}), "times must be at least 1"),
            (
                json!({"effect": "stall", "times": 2, "count": 2}),
                "times and count mean the same: give one of them",
            ),
            (json!({"effect": "stall", "ms": 1}), "ms does not belong to effect stall"),
            (json!({"effect": "delay"}), "ms is missing: how many milliseconds later the answer is sent"),
            (
                json!({"effect": "stall", "registrationId": "a".repeat(129)}),
                "an id has at most 128 characters",
            ),
            (json!({"effect": "stall", "nth": 0}), "nth must be at least 1"),
            (json!({"effect": "stall", "count": 0}), "count must be at least 1"),
            (json!({"effect": "duplicateReply", "front": "https"}), &never_met),
            (json!({"effect": "stall", "front": "mqtt", "operation": "lookup"}), &never_met),
            (
                json!({"effect": "stall", "front": "smtp"}),
                "front smtp is none of https, mqtt, mqtt-ws, amqp, amqp-ws",
            ),
            (
                json!({"effect": "stall", "repeat": 1}),
                "a fault has no repeat; there are effect, status, retryAfter, ms, front, operation, \
                 registrationId, nth, times",
            ),
        ] {
            assert_eq!(fault(given), Err(wanted.to_owned()));
        }
    }
}
