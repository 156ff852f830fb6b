//! The requests of a connected device: its twin, its telemetry and its answers to direct methods.
//!
//! | request | answer |
//! | --- | --- |
//! | connect | 204, and the link of the device; or a refusal |
//! | get the twin | 200, both properties with their versions |
//! | report | 204 with the version as etag; 400 if the patch cannot be stored |
//! | telemetry | 204 |
//! | answer of a method | 204; 404 if no such call waits |
//! | anything on a connection that is not the device's any more | 409 |

use std::time::SystemTime;

use time::OffsetDateTime;

use crate::api::hub::admission::Claim;
use crate::api::hub::refusal::HubRefusal;
use crate::call::Presented;
use crate::call::answer::Answer;
use crate::call::hub::{AtHub, AtHubOperation, MessageProperties};
use crate::json::{self, Map, Value};
use crate::records::hub::Hub;
use crate::records::hubs::HubDevice;
use crate::records::hubs::limits::LARGEST_PAYLOAD;
use crate::records::hubs::link::Link;
use crate::state::State;
use crate::state::telemetry::Telemetry;

/// Answers a request of a device at a hub, which is `None` if it is not linked.
pub(crate) fn serve(
    state: &mut State,
    linked: Option<&Hub>,
    request: &AtHub,
    presented: Presented,
    tracking_id: &str,
    now: OffsetDateTime,
) -> Answer {
    let answered = match (linked, &request.operation) {
        (None, _) => Err(HubRefusal::new(
            400,
            "IotHubNotFound",
            format!(
                "the user name is for hub {}, which is not linked; the emulator has only the hubs that \
                     its start names",
                request.hub
            ),
        )),
        (Some(hub), AtHubOperation::Connect) => connect(state, hub, request, &presented, now),
        (Some(hub), operation) => connected(state, hub, request, operation, presented, now),
    };
    answered.unwrap_or_else(|refusal| refusal.into_reply(tracking_id, now))
}

fn connect(
    state: &mut State,
    hub: &Hub,
    request: &AtHub,
    presented: &Presented,
    now: OffsetDateTime,
) -> Result<Answer, HubRefusal> {
    let AtHub { device_id, connection, .. } = request;
    let expires = Claim { hub: &hub.host_name, device_id }.judge(state, presented, now)?;
    if let Some(device) = state.hubs.find_mut(&hub.host_name, device_id) {
        device.connect(Link::new(*connection, expires), now);
    }
    Ok(Answer::no_content())
}

fn connected(
    state: &mut State,
    hub: &Hub,
    request: &AtHub,
    operation: &AtHubOperation,
    presented: Presented,
    now: OffsetDateTime,
) -> Result<Answer, HubRefusal> {
    let ended = || HubRefusal::new(409, "ConnectionEnded", "the hub has ended this connection");
    let device = state.hubs.find_mut(&hub.host_name, &request.device_id).ok_or_else(ended)?;
    device.link_of(request.connection).ok_or_else(ended)?;
    device.was_active(now);
    match operation {
        AtHubOperation::Connect | AtHubOperation::GetTwin => Ok(Answer::ok(device.twin.for_device())),
        AtHubOperation::Report => report(device, &presented.body.bytes, now),
        AtHubOperation::Telemetry(properties) => {
            let message = telemetry(hub, &request.device_id, properties, presented.body.bytes, now);
            state.telemetry.keep(message);
            Ok(Answer::no_content())
        }
        AtHubOperation::AnswerMethod { rid, status } => {
            answer_method(device, rid, *status, &presented.body.bytes)
        }
    }
}

fn report(device: &mut HubDevice, body: &[u8], now: OffsetDateTime) -> Result<Answer, HubRefusal> {
    let patch = patch(body).map_err(|why| HubRefusal::invalid(format!("reported properties: {why}")))?;
    let version = device.twin.report(&patch, now).map_err(HubRefusal::invalid)?;
    Ok(Answer::no_content().with_etag(&version.to_string()))
}

/// Reads a patch. Members that begin with `$` at its top are dropped, because clients send back the whole twin
/// that they got.
fn patch(body: &[u8]) -> Result<Map, String> {
    if body.len() > LARGEST_PATCH {
        return Err(format!("a patch has at most {LARGEST_PATCH} bytes, not {}", body.len()));
    }
    match json::read(body) {
        Ok(Value::Object(patch)) => {
            Ok(patch.into_iter().filter(|(name, _)| name != "$version" && name != "$metadata").collect())
        }
        Ok(_) => Err("the patch is not a JSON object".to_owned()),
        Err(error) => Err(format!("the patch is not JSON: {error}")),
    }
}

fn telemetry(
    hub: &Hub,
    device_id: &str,
    properties: &MessageProperties,
    body: Vec<u8>,
    now: OffsetDateTime,
) -> Telemetry {
    let MessageProperties { application, system } = properties.clone();
    Telemetry {
        sequence: 0,
        time: SystemTime::from(now),
        hub: hub.host_name.clone(),
        device_id: device_id.to_owned(),
        body,
        properties: application,
        system_properties: system,
    }
}

fn answer_method(device: &mut HubDevice, rid: &str, status: i32, body: &[u8]) -> Result<Answer, HubRefusal> {
    if body.len() > LARGEST_PAYLOAD {
        return Err(HubRefusal::invalid(format!("the payload has more than {LARGEST_PAYLOAD} bytes")));
    }
    let payload = match body.trim_ascii() {
        [] => Value::Null,
        text => json::read(text).map_err(|error| {
            HubRefusal::invalid(format!("the payload of the answer is not JSON: {error}"))
        })?,
    };
    match device.calls.answer(rid, status, payload) {
        true => Ok(Answer::no_content()),
        false => {
            let message = format!("no call of a method with the request id {rid} waits for an answer");
            Err(HubRefusal::new(404, "MethodNotWaiting", message))
        }
    }
}

/// Twice the largest properties, because a patch can remove members too.
const LARGEST_PATCH: usize = 64 * 1024;
