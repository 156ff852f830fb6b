//! Recordings of the live service: JSON in the order in which it was recorded, and in what an answer differs
//! from one.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

/// A JSON value whose members keep their order.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl Node {
    pub fn read(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// A member, or null.
    pub fn get(&self, name: &str) -> &Node {
        self.members().iter().find(|(known, _)| known == name).map_or(&Node::Null, |(_, value)| value)
    }

    pub fn get_mut(&mut self, name: &str) -> Option<&mut Node> {
        let Node::Object(members) = self else { return None };
        members.iter_mut().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    pub fn members(&self) -> &[(String, Node)] {
        match self {
            Node::Object(members) => members,
            _ => &[],
        }
    }

    pub fn items(&self) -> &[Node] {
        match self {
            Node::List(items) => items,
            _ => &[],
        }
    }

    /// A text; the empty one if it is something else.
    pub fn text(&self) -> &str {
        match self {
            Node::Text(text) => text,
            _ => "",
        }
    }

    pub fn is_null(&self) -> bool {
        *self == Node::Null
    }

    fn kind(&self) -> &'static str {
        match self {
            Node::Null => "null",
            Node::Bool(_) => "a truth value",
            Node::Number(_) => "a number",
            Node::Text(_) => "a text",
            Node::List(_) => "a list",
            Node::Object(_) => "an object",
        }
    }
}

/// The value as JSON without white space.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        match self {
            Node::Null => f.write_str("null"),
            Node::Bool(flag) => write!(f, "{flag}"),
            Node::Number(digits) => f.write_str(digits),
            Node::Text(text) => f.write_str(&quoted(text)),
            Node::List(items) => {
                let items: Vec<String> = items.iter().map(Node::to_string).collect();
                write!(f, "[{}]", items.join(","))
            }
            Node::Object(members) => {
                let members = members.iter().map(|(name, value)| format!("{}:{value}", quoted(name)));
                write!(f, "{{{}}}", members.collect::<Vec<_>>().join(","))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Null)
            }

            fn visit_bool<E>(self, flag: bool) -> Result<Node, E> {
                Ok(Node::Bool(flag))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Node, E> {
                Ok(Node::Number(number.to_string()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Node, E> {
                Ok(Node::Number(number.to_string()))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Node, E> {
                Ok(Node::Number(number.to_string()))
            }

            fn visit_str<E>(self, text: &str) -> Result<Node, E> {
                Ok(Node::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Node::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Node::Object(members))
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

/// In what an answer differs from a recorded one: members that are missing, more, null, or in another order,
/// at every level; values, and of those that differ from instance to instance the form.
pub fn differences(recorded: &Node, answered: &Node) -> Vec<String> {
    let mut found = Vec::new();
    compare(recorded, answered, "", "", &mut found);
    found
}

/// In what an answer differs from a recorded one in which keys are shortened to their beginning.
pub fn masked_differences(recorded: &Node, answered: &Node) -> Vec<String> {
    let name = "authenticationKey";
    let (key, mut answered) = (recorded.get(name).text(), answered.clone());
    let own = answered.get_mut(name).unwrap();
    assert!(own.text().starts_with(key.trim_end_matches('…')), "{own}");
    *own = Node::Text(key.to_owned());
    differences(recorded, &answered)
}

/// In what a head differs; `more` are headers that may be there although they were not recorded, `*` any.
pub fn header_differences(recorded: &Node, head: &str, more: &[&str]) -> Vec<String> {
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    let answered: BTreeMap<String, &str> = lines.map(|(name, value)| (name.to_lowercase(), value)).collect();
    let recorded: BTreeMap<String, &str> =
        recorded.members().iter().map(|(name, value)| (name.to_lowercase(), value.text())).collect();
    let mut found = Vec::new();
    for (name, wanted) in &recorded {
        let path = |url: &str| url.splitn(4, '/').nth(3).unwrap_or_default().to_owned();
        match (name.as_str(), answered.get(name)) {
            (_, None) => found.push(format!("header {name} is missing")),
            ("date", _) => {}
            ("x-ms-request-id", Some(id)) if is_hex_groups(id, &[8, 4, 4, 4, 12]) => {}
            ("location", Some(url)) if path(url) == path(wanted) => {}
            (_, Some(value)) if value != wanted => {
                found.push(format!("header {name}: recorded {wanted}; answered {value}"));
            }
            _ => {}
        }
    }
    let all = more.contains(&"*");
    let extra = answered
        .keys()
        .filter(|name| !all && !recorded.contains_key(*name) && !more.contains(&name.as_str()));
    found.extend(extra.map(|name| format!("header {name} was not recorded")));
    found
}

fn compare(recorded: &Node, answered: &Node, path: &str, name: &str, found: &mut Vec<String>) {
    match (recorded, answered) {
        (Node::Object(recorded), Node::Object(answered)) => {
            let names = |members: &[(String, Node)]| -> Vec<String> {
                members.iter().map(|(name, _)| name.clone()).collect()
            };
            if names(recorded) != names(answered) {
                let (recorded, answered) = (names(recorded).join(" "), names(answered).join(" "));
                return found.push(format!("{path}: recorded {recorded}; answered {answered}"));
            }
            for ((name, recorded), (_, answered)) in recorded.iter().zip(answered) {
                compare(recorded, answered, &format!("{path}/{name}"), name, found);
            }
        }
        (Node::List(recorded), Node::List(answered)) => {
            if recorded.len() != answered.len() {
                let (recorded, answered) = (recorded.len(), answered.len());
                return found.push(format!("{path}: recorded {recorded} items; answered {answered}"));
            }
            for (at, (recorded, answered)) in recorded.iter().zip(answered).enumerate() {
                compare(recorded, answered, &format!("{path}/{at}"), name, found);
            }
        }
        (Node::Text(recorded), Node::Text(answered)) => {
            if let Some(why) = text_difference(name, recorded, answered) {
                found.push(format!("{path}: {why}"));
            }
        }
        (recorded, answered) if recorded.kind() != answered.kind() => {
            found.push(format!("{path}: recorded {}; answered {}", recorded.kind(), answered.kind()));
        }
        (recorded, answered) if recorded != answered => {
            found.push(format!("{path}: recorded {recorded}; answered {answered}"));
        }
        _ => {}
    }
}

/// The recorded text has to pass each form too, or the form is wrong.
fn text_difference(name: &str, recorded: &str, answered: &str) -> Option<String> {
    let form: (&str, fn(&str) -> bool) = match name {
        _ if name.ends_with("Utc") => ("a time without trailing zeros", is_time),
        "etag" => ("base64 of a quoted tag", is_tag),
        "operationId" => ("an operation id", is_operation_id),
        "trackingId" => ("a GUID", |text| is_hex_groups(text, &[8, 4, 4, 4, 12])),
        name if OF_ITS_OWN.contains(&name) => ("a text", |text| !text.is_empty()),
        _ => {
            return (recorded != answered).then(|| format!("recorded {recorded}; answered {answered}"));
        }
    };
    let (what, fits) = form;
    let wrong = [recorded, answered].into_iter().find(|text| !fits(text));
    wrong.map(|text| format!("{text} is not {what}; recorded {recorded}"))
}

/// `YYYY-MM-DDThh:mm:ss` with up to seven digits behind a point, of which the last one is not 0, and `Z`.
pub fn is_time(text: &str) -> bool {
    let Some((seconds, rest)) = text.split_at_checked(19) else { return false };
    let digit = |b: u8| b.is_ascii_digit();
    let whole = seconds.bytes().zip(b"0000-00-00T00:00:00".iter()).all(|(b, form)| match form {
        b'0' => digit(b),
        form => b == *form,
    });
    let fraction = match rest.strip_suffix('Z') {
        Some("") => true,
        Some(fraction) => fraction.strip_prefix('.').is_some_and(|digits| {
            (1..=7).contains(&digits.len()) && digits.bytes().all(digit) && !digits.ends_with('0')
        }),
        None => false,
    };
    whole && fraction
}

/// Base64 of a quoted 8-4-4-4-12 text whose third group ends in `00` (`0800` in the one instance, `0100` in
/// another), whose fourth is `0000`, and whose last one is a time in hex seconds and `0000`.
pub fn is_tag(text: &str) -> bool {
    let decoded = BASE64_STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.is_some_and(|text| {
        text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).is_some_and(|tag| {
            is_hex_groups(tag, &[8, 4, 4, 4, 12])
                && tag.get(16..24) == Some("00-0000-")
                && tag.ends_with("0000")
        })
    })
}

/// A generation, 16 hex digits that are the same for every operation of a device, and a GUID.
pub fn is_operation_id(text: &str) -> bool {
    let mut parts = text.splitn(3, '.');
    parts.next().is_some_and(|generation| ["4", "5"].contains(&generation))
        && parts.next().is_some_and(|device| is_hex_groups(device, &[16]))
        && parts.next().is_some_and(|guid| is_hex_groups(guid, &[8, 4, 4, 4, 12]))
}

/// Groups of lower-case hex digits of these lengths, with dashes between them.
pub fn is_hex_groups(text: &str, lengths: &[usize]) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let is_hex = |group: &str| group.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    groups.len() == lengths.len()
        && groups.iter().zip(lengths).all(|(group, length)| group.len() == *length && is_hex(group))
}

/// What each instance, device or run has its own text for.
const OF_ITS_OWN: [&str; 8] = [
    "primaryKey",
    "secondaryKey",
    "sha1Thumbprint",
    "sha256Thumbprint",
    "subjectName",
    "issuerName",
    "serialNumber",
    "assignedHub",
];
