//! Writes of back ends to twins.
//!
//! | request | tags and desired properties |
//! | --- | --- |
//! | PATCH | merged; an absent part stays |
//! | PUT | replaced; an absent part becomes empty |
//!
//! Members that begin with `$`, and everything else of a twin, are ignored, because clients send back the twin
//! that they have read.

use time::OffsetDateTime;

use crate::api::hub::found::{check_tags, found_mut, object, quoted};
use crate::api::hub::refusal::HubRefusal;
use crate::call::answer::Answer;
use crate::call::hub::HubRequest;
use crate::call::schema::Body;
use crate::json::{Map, Value};
use crate::records::hubs::twin::TwinWrite;
use crate::state::State;

pub(super) fn write(
    state: &mut State,
    request: &HubRequest,
    id: &str,
    body: &Body,
    replaces: bool,
    now: OffsetDateTime,
) -> Result<Answer, HubRefusal> {
    let (tag, device) = found_mut(state, &request.hub, id)?;
    if let Some(wanted) = &request.if_match {
        check_tags(&device.twin.etag(), wanted)?;
    }
    let write = read(body, replaces).map_err(HubRefusal::invalid)?;
    device.write_twin(write, tag, now).map_err(HubRefusal::invalid)?;
    Ok(Answer::ok(device.twin()).with_etag(&quoted(&device.twin.etag())))
}

fn read(body: &Body, replaces: bool) -> Result<TwinWrite, String> {
    let members = &object(body)?;
    let part = |name: &str, value: Option<&Value>| match value {
        None | Some(Value::Null) => Ok(replaces.then(Map::new)),
        Some(Value::Object(members)) => Ok(Some(without_system_members(members))),
        Some(_) => Err(format!("{name} must be an object")),
    };
    let properties = match members.get("properties") {
        None | Some(Value::Null) => None,
        Some(properties @ Value::Object(_)) => properties.get("desired"),
        Some(_) => return Err("properties must be an object".to_owned()),
    };
    let tags = part("tags", members.get("tags"))?;
    Ok(TwinWrite { tags, desired: part("properties.desired", properties)?, replaces })
}

fn without_system_members(members: &Map) -> Map {
    let kept = members.iter().filter(|(name, _)| !["$version", "$metadata"].contains(&name.as_str()));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;

    #[test]
    fn a_patch_keeps_absent_parts_and_a_put_empties_them() {
        let map = |value: Value| value.as_object().cloned();
        let whole = json!({
            "deviceId": "d1", "etag": "x", "version": 3, "tags": {"n": 1},
            "properties": {"desired": {"a": 1, "$version": 2, "$metadata": {}}, "reported": {"b": 1}},
        });
        for replaces in [false, true] {
            let wanted = TwinWrite { tags: map(json!({"n": 1})), desired: map(json!({"a": 1})), replaces };
            assert_eq!(given(&whole, replaces), Ok(wanted));
        }
        for empty in
            [json!({}), json!({"tags": null, "properties": {"desired": null}}), json!({"properties": null})]
        {
            assert_eq!(given(&empty, false), Ok(TwinWrite::default()), "{empty}");
            let wanted = TwinWrite { tags: map(json!({})), desired: map(json!({})), replaces: true };
            assert_eq!(given(&empty, true), Ok(wanted), "{empty}");
        }
    }

    #[test]
    fn a_part_that_is_not_an_object_is_named() {
        for (body, why) in [
            (json!([]), "the body is not a JSON object"),
            (json!({"tags": 1}), "tags must be an object"),
            (json!({"properties": []}), "properties must be an object"),
            (json!({"properties": {"desired": "x"}}), "properties.desired must be an object"),
        ] {
            assert_eq!(given(&body, false), Err(why.to_owned()));
        }
    }

    fn given(body: &Value, replaces: bool) -> Result<TwinWrite, String> {
        read(&Body { bytes: body.to_string().into_bytes(), json: true }, replaces)
    }
}
