//! What the operations on one device have in common: they find its record, and compare tags.

use crate::api::hub::refusal::HubRefusal;
use crate::call::etag::check_tag;
use crate::call::schema::Body;
use crate::json::{self, Value};
use crate::records::hubs::HubDevice;
use crate::state::State;

pub(super) fn found<'a>(state: &'a State, hub: &str, id: &str) -> Result<&'a HubDevice, HubRefusal> {
    state.hubs.find(hub, id).ok_or_else(|| HubRefusal::unknown_device(id))
}

/// The device, and a tag for its new version.
pub(super) fn found_mut<'a>(
    state: &'a mut State,
    hub: &str,
    id: &str,
) -> Result<(u64, &'a mut HubDevice), HubRefusal> {
    let tag = state.hubs.next_tag();
    let device = state.hubs.find_mut(hub, id).ok_or_else(|| HubRefusal::unknown_device(id))?;
    Ok((tag, device))
}

/// Compares the tag of an identity or a twin with `If-Match`.
pub(super) fn check_tags(stored: &str, wanted: &str) -> Result<(), HubRefusal> {
    check_tag(stored, wanted).map_err(|_| {
        let message = format!("Device version did not match, existingVersion:{stored}");
        HubRefusal::new(412, "PreconditionFailed", message)
    })
}

pub(super) fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

/// Reads a body that must be a JSON object.
pub(super) fn object(body: &Body) -> Result<Value, String> {
    match json::read(&body.bytes) {
        Ok(object @ Value::Object(_)) => Ok(object),
        Ok(_) => Err("the body is not a JSON object".to_owned()),
        Err(error) => Err(format!("the body is not JSON: {error}")),
    }
}
