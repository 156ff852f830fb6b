//! The query `SELECT * FROM devices`, page by page. The items are twins in the order of the device ids.
//!
//! A continuation token names the hub and the last device of its page, so that it stays valid while devices
//! come and go.

use base64::prelude::{BASE64_STANDARD, Engine};

use crate::api::hub::found::object;
use crate::api::hub::refusal::HubRefusal;
use crate::call::answer::{Answer, Page};
use crate::call::hub::HubRequest;
use crate::call::schema::Body;
use crate::json::Value;
use crate::state::State;

pub(super) fn answer(state: &State, request: &HubRequest, body: &Body) -> Result<Answer, HubRefusal> {
    let members = &object(body).map_err(HubRefusal::invalid)?;
    let query = members["query"].as_str().ok_or_else(|| HubRefusal::invalid("query is not a string"))?;
    if !asks_for_all(query) {
        let message = "the emulated hub knows the query SELECT * FROM devices only";
        return Err(HubRefusal::new(501, "NotImplemented", message));
    }
    let size = match request.page.max_item_count.as_deref().map(str::parse::<usize>) {
        None => LARGEST_PAGE,
        Some(Ok(size @ 1..)) => size.min(LARGEST_PAGE),
        Some(_) => return Err(HubRefusal::invalid("x-ms-max-item-count must be a whole number from 1")),
    };
    let hub = request.hub.as_str();
    let mut behind = match request.page.continuation.as_deref() {
        None => None,
        Some(token) => Some(read_token(hub, token).ok_or_else(|| {
            HubRefusal::invalid("x-ms-continuation is not a token of this query at this hub")
        })?),
    };
    let mut twins = Vec::new();
    let mut next = state.hubs.behind(hub, behind.as_deref());
    while let Some(device) = next.filter(|_| twins.len() < size) {
        twins.push(device.twin());
        behind = Some(device.id().to_owned());
        next = state.hubs.behind(hub, behind.as_deref());
    }
    let continuation = behind.filter(|_| next.is_some()).map(|id| write_token(hub, &id));
    let items: Value = twins.into_iter().collect();
    Ok(Answer::ok(items).with_page(Page { item_type: "Twin", continuation }))
}

/// Compares the words without regard to case and white space.
fn asks_for_all(query: &str) -> bool {
    query.split_whitespace().map(str::to_lowercase).eq(["select", "*", "from", "devices"])
}

fn write_token(hub: &str, device_id: &str) -> String {
    BASE64_STANDARD.encode(format!("{}\n{device_id}", hub.to_ascii_lowercase()))
}

fn read_token(hub: &str, token: &str) -> Option<String> {
    let text = String::from_utf8(BASE64_STANDARD.decode(token).ok()?).ok()?;
    let (of, device_id) = text.split_once('\n')?;
    of.eq_ignore_ascii_case(hub).then(|| device_id.to_owned())
}

/// The largest page of IoT Hub, which is also the default.
const LARGEST_PAGE: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_query_is_known_in_every_spelling() {
        for query in ["SELECT * FROM devices", "select *\n from  DEVICES "] {
            assert!(asks_for_all(query), "{query}");
        }
        for query in
            ["", "SELECT * FROM devices WHERE x = 1", "SELECT deviceId FROM devices", "SELECT*FROM devices"]
        {
            assert!(!asks_for_all(query), "{query}");
        }
    }

    #[test]
    fn a_token_belongs_to_its_hub() {
        let token = write_token("Hub-A", "d\n1");

        assert_eq!(read_token("hub-a", &token).as_deref(), Some("d\n1"));
        assert_eq!(read_token("hub-b", &token), None);
        for broken in ["", "!", "AAAA"] {
            assert_eq!(read_token("hub-a", broken), None);
        }
    }
}
