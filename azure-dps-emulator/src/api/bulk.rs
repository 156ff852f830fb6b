//! Bulk operations: one mode for up to ten enrollments. A malformed request is refused as a whole; a bad item
//! is reported, and the other items are still carried out.

use std::collections::HashSet;

use crate::json::{Map, Value, json};
use time::OffsetDateTime;

use crate::call::answer::Answer;
use crate::call::kind::Kind;
use crate::call::schema::{self, Body, Strictness};
use crate::call::versions;
use crate::ids;
use crate::refusal::Refusal;
use crate::state::State;
use crate::state::settings::Settings;

/// A bulk operation with a valid structure.
#[derive(Debug)]
struct Bulk {
    mode: Mode,
    items: Vec<Item>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Create,
    Update,
    UpdateIfMatch,
    Delete,
}

#[derive(Debug)]
struct Item {
    id: String,
    etag: Value,
    members: Map,
}

/// Carries out the items in their order. The answer names the items that failed, and the journal says why.
pub(super) fn run(
    state: &mut State,
    kind: Kind,
    body: &Body,
    api_version: &str,
    settings: &Settings,
    now: OffsetDateTime,
) -> Result<Answer, Refusal> {
    let bulk = read(kind, schema::object(body)?, settings.strictness).map_err(Refusal::invalid)?;
    let count = bulk.items.len();
    let (mut errors, mut causes) = (Vec::new(), Vec::new());
    for item in bulk.items {
        let id = item.id.clone();
        if let Err(refusal) = run_item(state, kind, bulk.mode, item, api_version, settings, now) {
            causes.push(format!("{id} ({}: {})", refusal.code, refusal.cause));
            errors.push(json!({
                (kind.id_member()): id,
                "errorCode": refusal.code,
                "errorStatus": refusal.message,
            }));
        }
    }
    let cause =
        (!causes.is_empty()).then(|| format!("{} of {count} failed: {}", causes.len(), causes.join("; ")));
    Ok(Answer::ok(json!({"errors": errors, "isSuccessful": errors.is_empty()})).with_cause(cause))
}

fn run_item(
    state: &mut State,
    kind: Kind,
    mode: Mode,
    item: Item,
    api_version: &str,
    settings: &Settings,
    now: OffsetDateTime,
) -> Result<(), Refusal> {
    let Item { id, etag, members } = item;
    let tag = || match &etag {
        Value::Null => Ok(None),
        Value::String(tag) if tag.trim().is_empty() => Ok(None),
        Value::String(tag) => Ok(Some(tag.as_str())),
        _ => Err(Refusal::invalid("etag must be a string")),
    };
    let if_match = match mode {
        Mode::Create => None,
        // The service refuses an update of an existing enrollment by an item without an etag.
        Mode::Update => {
            state.enrollments(kind).get(&id)?;
            tag()?
        }
        Mode::UpdateIfMatch => Some(tag()?.ok_or_else(|| Refusal::invalid("etag is missing"))?),
        Mode::Delete => return state.delete_enrollment(kind, &id, tag()?),
    };
    let mut members = schema::clean(kind.model(), members, &"").map_err(Refusal::invalid)?;
    versions::check(&mut members, api_version, settings.strictness).map_err(Refusal::invalid)?;
    state.put_enrollment(kind, &id, members, if_match, settings, now).map(drop)
}

/// Checks the structure: the mode, the number of items, their ids, and the names of all members.
fn read(kind: Kind, mut body: Map, strictness: Strictness) -> Result<Bulk, String> {
    let name = match kind {
        Kind::Individual => "enrollments",
        Kind::Group => "enrollmentGroups",
    };
    schema::check_names(&[("mode", schema::Shape::Any), (name, schema::Shape::Any)], &body, strictness, &"")?;
    let mode = match body.get("mode").unwrap_or(&Value::Null) {
        Value::Null => return Err("mode is missing".to_owned()),
        Value::String(word) => MODES.iter().find(|(known, _)| known == word).map(|(_, mode)| *mode),
        _ => None,
    };
    let mode = mode.ok_or("mode must be one of create, update, updateIfMatchETag, delete")?;
    let items = match body.remove(name) {
        None | Some(Value::Null) => return Err(format!("{name} is missing")),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(format!("{name} must be an array")),
    };
    if items.is_empty() {
        return Err(format!("{name} is empty"));
    }
    if items.len() > MOST_ITEMS {
        return Err(format!("{name} has {} items; {MOST_ITEMS} are the most", items.len()));
    }
    let mut ids = HashSet::new();
    let read_item = |(at, given)| {
        let item = read_item(kind, given, strictness, &format!("{name}[{at}]"))?;
        if ids.insert(ids::key(&item.id)) {
            Ok(item)
        } else {
            Err(format!("{name}[{at}].{}: {} is there twice", kind.id_member(), item.id))
        }
    };
    let items = items.into_iter().enumerate().map(read_item).collect::<Result<_, _>>()?;
    Ok(Bulk { mode, items })
}

fn read_item(kind: Kind, given: Value, strictness: Strictness, path: &str) -> Result<Item, String> {
    let Value::Object(members) = given else { return Err(format!("{path} must be an object")) };
    schema::check_names(kind.model(), &members, strictness, &format_args!("{path}."))?;
    let id = match members.get(kind.id_member()) {
        Some(Value::String(id)) if !id.is_empty() => id.clone(),
        None | Some(Value::Null | Value::String(_)) => {
            return Err(format!("{path}.{} is missing", kind.id_member()));
        }
        Some(_) => return Err(format!("{path}.{} must be a string", kind.id_member())),
    };
    let etag = members.get("etag").cloned().unwrap_or_default();
    Ok(Item { id, etag, members })
}

/// One client library spells a mode in another letter case than the service.
const MODES: &[(&str, Mode)] = &[
    ("create", Mode::Create),
    ("update", Mode::Update),
    ("updateIfMatchETag", Mode::UpdateIfMatch),
    ("updateIfMatchEtag", Mode::UpdateIfMatch),
    ("delete", Mode::Delete),
];
const MOST_ITEMS: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_has_its_word_and_one_has_two() {
        for (word, mode) in MODES {
            let bulk = parse(json!({"mode": word, "enrollments": [{"registrationId": "a", "etag": "x"}]}));
            let bulk = bulk.unwrap();
            assert_eq!((bulk.mode, bulk.items[0].etag.as_str()), (*mode, Some("x")));
        }
    }

    #[test]
    fn a_refusal_says_what_is_wrong_with_the_structure() {
        let items = |count: usize| -> Value {
            (0..count).map(|number| json!({"registrationId": format!("a{number}")})).collect()
        };
        assert_eq!(parse(json!({"mode": "delete", "enrollments": items(10)})).unwrap().items.len(), 10);
        for (body, wanted) in [
            (json!({"enrollments": items(1)}), "mode is missing"),
            (json!({"mode": null, "enrollments": items(1)}), "mode is missing"),
            (
                json!({"mode": "Create", "enrollments": items(1)}),
                "mode must be one of create, update, updateIfMatchETag, delete",
            ),
            (
                json!({"mode": 1, "enrollments": items(1)}),
                "mode must be one of create, update, updateIfMatchETag, delete",
            ),
            (json!({"mode": "create"}), "enrollments is missing"),
            (json!({"mode": "create", "enrollments": {}}), "enrollments must be an array"),
            (json!({"mode": "create", "enrollments": []}), "enrollments is empty"),
            (
                json!({"mode": "create", "enrollments": items(11)}),
                "enrollments has 11 items; 10 are the most",
            ),
            (json!({"mode": "create", "enrollments": [1]}), "enrollments[0] must be an object"),
            (json!({"mode": "create", "enrollments": [{}]}), "enrollments[0].registrationId is missing"),
            (
                json!({"mode": "create", "enrollments": [{"registrationId": ""}]}),
                "enrollments[0].registrationId is missing",
            ),
            (
                json!({"mode": "create", "enrollments": [{"registrationId": 7}]}),
                "enrollments[0].registrationId must be a string",
            ),
            (
                json!({"mode": "create", "enrollments": [{"registrationId": "a"}, {"registrationId": "A"}]}),
                "enrollments[1].registrationId: A is there twice",
            ),
            (
                json!({"mode": "create", "enrollmentGroups": items(1)}),
                "no api-version knows enrollmentGroups",
            ),
            (
                json!({"mode": "create", "enrollments": [{"registrationId": "a", "attestation": {"typ": 1}}]}),
                "no api-version knows enrollments[0].attestation.typ",
            ),
        ] {
            assert_eq!(parse(body).unwrap_err(), wanted);
        }
    }

    fn parse(body: Value) -> Result<Bulk, String> {
        let Value::Object(body) = body else { panic!("{body}") };
        read(Kind::Individual, body, Strictness::Strict)
    }
}
