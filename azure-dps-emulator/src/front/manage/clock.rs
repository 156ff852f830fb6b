//! The routes of the clock.

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::clock;
use crate::instance::Instance;
use crate::json::{Value, json};

/// `GET /clock`.
pub(super) fn to_json(instance: &Instance) -> Value {
    let clock = instance.clock();
    json!({"now": clock::timestamp(clock.now()), "isStopped": clock.is_stopped()})
}

/// The time by the clock.
pub(super) fn now(instance: &Instance) -> String {
    clock::timestamp(instance.now())
}

/// `PUT /clock`.
pub(super) fn set(body: Value, instance: &Instance) -> Result<(), String> {
    let members = match &body {
        Value::Object(members) => members.iter().map(|(name, value)| (name.as_str(), value)).collect(),
        _ => Vec::new(),
    };
    match members.as_slice() {
        [("now", Value::Null)] => instance.reset_clock(),
        [("now", Value::String(text))] => {
            let now = OffsetDateTime::parse(text, &Rfc3339)
                .map_err(|_| "now is not a time such as 2026-05-04T09:15:27Z".to_owned())?;
            instance.set_clock(SystemTime::from(now));
        }
        [("advanceSeconds", seconds)] => {
            let by = seconds.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            let by = by.ok_or("advanceSeconds is not a number of seconds, or is negative")?;
            if by > LONGEST_ADVANCE {
                return Err("advanceSeconds is more than a hundred years".to_owned());
            }
            instance.advance_clock(by);
        }
        _ => return Err("the body must have either now, a time or null, or advanceSeconds".to_owned()),
    }
    Ok(())
}

/// A hundred years, because the calendar ends with the year 9999.
const LONGEST_ADVANCE: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
