//! Direct methods over the REST API: reads the call, and answers it when the device has.

use std::time::Duration;

use time::OffsetDateTime;

use crate::api::hub::found::{found_mut, object};
use crate::api::hub::refusal::HubRefusal;
use crate::call::answer::Answer;
use crate::call::hub::HubRequest;
use crate::call::schema::Body;
use crate::json::{Value, json};
use crate::records::hubs::call_error::HubCallError;
use crate::records::hubs::method::{MethodCall, RESPONSE_TIMEOUT};
use crate::state::State;

/// Begins a call. The answer is not the last one: it names the call that waits for the device.
pub(super) fn begin(
    state: &mut State,
    request: &HubRequest,
    id: &str,
    body: &Body,
) -> Result<Answer, HubRefusal> {
    let (_, device) = found_mut(state, &request.hub, id)?;
    let call = read(body).map_err(HubRefusal::invalid)?;
    let rid = device.begin_call(&call).map_err(refusal)?;
    Ok(Answer { waits_for: Some(rid), ..Answer::no_content() })
}

/// The answer to a call, once its outcome is known.
pub(crate) fn answer(
    outcome: Result<(i32, Value), HubCallError>,
    tracking_id: &str,
    now: OffsetDateTime,
) -> Answer {
    match outcome {
        Ok((status, payload)) => Answer::ok(json!({"status": status, "payload": payload})),
        Err(error) => refusal(error).into_answer(tracking_id, now),
    }
}

fn refusal(error: HubCallError) -> HubRefusal {
    let cause = error.to_string();
    let refusal = match error {
        HubCallError::NotOnline(_) => {
            HubRefusal::new(404, "DeviceNotOnline", "Timed out waiting for device to connect.")
        }
        HubCallError::NoAnswer(_) => {
            HubRefusal::new(504, "GatewayTimeout", "Timed out waiting for the response from device.")
        }
        HubCallError::TooManyCalls => HubRefusal::new(429, "ThrottlingException", cause.clone()),
        HubCallError::UnknownDevice { device_id, .. } => HubRefusal::unknown_device(&device_id),
        _ => HubRefusal::invalid(cause.clone()),
    };
    refusal.because(cause)
}

fn read(body: &Body) -> Result<MethodCall, String> {
    let members = &object(body)?;
    let name = members["methodName"].as_str().ok_or("methodName is not a string")?;
    let seconds = |name: &str, from: u64| match members.get(name).unwrap_or(&Value::Null) {
        Value::Null => Ok(None),
        value => match value.as_u64() {
            Some(seconds) if (from..=LONGEST).contains(&seconds) => Ok(Some(Duration::from_secs(seconds))),
            _ => Err(format!("{name} must be a whole number from {from} to {LONGEST}")),
        },
    };
    Ok(MethodCall {
        name: name.to_owned(),
        payload: members["payload"].clone(),
        connect_timeout: seconds("connectTimeoutInSeconds", 0)?.unwrap_or_default(),
        response_timeout: seconds("responseTimeoutInSeconds", SHORTEST_RESPONSE)?.unwrap_or(RESPONSE_TIMEOUT),
    })
}

// The limits of IoT Hub, in seconds.
const SHORTEST_RESPONSE: u64 = 5;
const LONGEST: u64 = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_a_name_and_limited_times() {
        let given = |body: Value| read(&Body { bytes: body.to_string().into_bytes(), json: true });
        let call = given(json!({
            "methodName": "reboot", "payload": {"a": 1}, "connectTimeoutInSeconds": 0, "responseTimeoutInSeconds": 5,
        }));
        let wanted = MethodCall::new("reboot").with_payload(serde_json::json!({"a": 1}));
        assert_eq!(call, Ok(wanted.with_response_timeout(Duration::from_secs(5))));
        assert_eq!(given(json!({"methodName": "x"})), Ok(MethodCall::new("x")));

        for (body, why) in [
            (json!({}), "methodName is not a string"),
            (
                json!({"methodName": "x", "responseTimeoutInSeconds": 4}),
                "responseTimeoutInSeconds must be a whole number from 5 to 300",
            ),
            (
                json!({"methodName": "x", "connectTimeoutInSeconds": 301}),
                "connectTimeoutInSeconds must be a whole number from 0 to 300",
            ),
        ] {
            assert_eq!(given(body), Err(why.to_owned()));
        }
    }
}
