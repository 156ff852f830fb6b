//! The seed: the enrollments that exist from the start, read from JSON in the shapes of the service API and
//! judged by the same rules.

use crate::json::{self, Map, Value};

use crate::call::kind::Kind;
use crate::call::schema::{self, Strictness};

/// The text of a seed. It is read at each start of the state: the enrollments that it describes would take
/// several times its memory.
pub(crate) struct Seed {
    text: String,
    strictness: Strictness,
}

/// One enrollment, whose members have been checked.
pub(crate) struct SeedEntry {
    pub(crate) kind: Kind,
    pub(crate) id: String,
    pub(crate) members: Map,
    /// Its place in the file, such as `enrollments[0]`.
    pub(crate) path: String,
}

impl Seed {
    /// A text in the form `{"enrollments": […], "enrollmentGroups": […]}`; both members are optional.
    pub(crate) fn new(text: String, strictness: Strictness) -> Self {
        Seed { text, strictness }
    }

    /// The enrollments in the order in which they are added.
    ///
    /// # Errors
    /// Says which rule the text breaks, and where. The rules for the members of one enrollment are judged
    /// when the iterator reaches it.
    pub(crate) fn entries(&self) -> Result<impl Iterator<Item = Result<SeedEntry, String>>, String> {
        // Editors on Windows begin a file with a byte order mark.
        let text = self.text.strip_prefix('\u{feff}').unwrap_or(&self.text);
        let seed: Value = json::read_any(text).map_err(|error| format!("not JSON: {error}"))?;
        let Value::Object(collections) = seed else { return Err("not a JSON object".into()) };
        let mut read = Vec::new();
        for (name, collection) in collections {
            let kind = match name.as_str() {
                "enrollments" => Kind::Individual,
                "enrollmentGroups" => Kind::Group,
                _ => return Err(format!("{name} is neither enrollments nor enrollmentGroups")),
            };
            let Value::Array(items) = collection else { return Err(format!("{name} is not an array")) };
            read.push((kind, name, items));
        }
        let strictness = self.strictness;
        Ok(read.into_iter().flat_map(move |(kind, name, items)| {
            let items = items.into_iter().enumerate();
            items.map(move |(at, item)| entry(kind, item, strictness, format!("{name}[{at}]")))
        }))
    }
}

impl Default for Seed {
    fn default() -> Self {
        Seed::new("{}".to_owned(), Strictness::Strict)
    }
}

fn entry(kind: Kind, item: Value, strictness: Strictness, path: String) -> Result<SeedEntry, String> {
    let Value::Object(members) = item else { return Err(format!("{path} is not an object")) };
    schema::check_names(kind.model(), &members, strictness, &format_args!("{path}."))?;
    let members = schema::clean(kind.model(), members, &format_args!("{path}."))?;
    let id = members.get(kind.id_member()).and_then(Value::as_str);
    let id = id.ok_or_else(|| format!("{path}.{} is missing", kind.id_member()))?.to_owned();
    Ok(SeedEntry { kind, id, members, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_place_and_the_fault() {
        for (text, wanted) in [
            ("[]", "not a JSON object"),
            (r#"{"enrollment": []}"#, "enrollment is neither enrollments nor enrollmentGroups"),
            (r#"{"enrollments": {}}"#, "enrollments is not an array"),
            (r#"{"enrollments": [1]}"#, "enrollments[0] is not an object"),
            (
                r#"{"enrollments": [{"registrationId": "a"}, {"registrationID": "b"}]}"#,
                "no api-version knows enrollments[1].registrationID",
            ),
            (r#"{"enrollmentGroups": [{}]}"#, "enrollmentGroups[0].enrollmentGroupId is missing"),
            (
                r#"{"enrollmentGroups": [{"enrollmentGroupId": "a", "iotHubs": 1}]}"#,
                "enrollmentGroups[0].iotHubs must be an array of strings",
            ),
        ] {
            assert_eq!(refusal(text, Strictness::Strict), wanted);
        }
        assert!(refusal("{", Strictness::Strict).starts_with("not JSON: "));
    }

    #[test]
    fn a_loose_emulator_ignores_unknown_members() {
        let text = r#"{"enrollments": [{"registrationId": "a", "colour": "red"}]}"#;

        let seed = Seed::new(text.to_owned(), Strictness::Loose);

        let first = seed.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(first.id, "a");
        assert!(!first.members.contains_key("colour"));
    }

    fn refusal(text: &str, strictness: Strictness) -> String {
        let seed = Seed::new(text.to_owned(), strictness);
        let read = seed.entries().and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
        read.err().unwrap()
    }
}
