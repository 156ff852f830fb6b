//! The query of a management request: its members by name, percent-decoded. A route says which it knows.

use percent_encoding::percent_decode_str;

use crate::state::journal::one_line;

/// The members of a query.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query(Vec<(&'static str, String)>);

impl Query {
    /// Reads the query of a request to `path`, which knows these members.
    ///
    /// # Errors
    /// Says which member the path does not know, is given twice, or cannot be read.
    pub(super) fn read(path: &str, text: &str, known: &[&'static str]) -> Result<Self, String> {
        let mut members: Vec<(&'static str, String)> = Vec::new();
        for member in text.split('&').filter(|member| !member.is_empty()) {
            let (name, value) = member.split_once('=').unwrap_or((member, ""));
            let name = decoded(name).and_then(|name| known.iter().copied().find(|known| *known == name));
            let name = name.ok_or_else(|| unknown(path, member, known))?;
            if members.iter().any(|(given, _)| *given == name) {
                return Err(format!("{name} is given twice"));
            }
            let value = decoded(value).ok_or_else(|| {
                format!("{name} must be UTF-8 with `%` and two digits for some bytes; it is {}", shown(value))
            })?;
            members.push((name, value));
        }
        Ok(Query(members))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| *given == name).map(|(_, value)| value.as_str())
    }
}

/// A value as it is shown in an error: on one line, and not longer than [`LONGEST_SHOWN`].
pub(super) fn shown(value: &str) -> String {
    match value.char_indices().nth(LONGEST_SHOWN) {
        _ if value.is_empty() => "empty".to_owned(),
        None => one_line(value),
        Some((end, _)) => format!("{}…", one_line(value.get(..end).unwrap_or_default())),
    }
}

/// `None` if a `%` is not followed by two hexadecimal digits, or if the bytes are not UTF-8.
fn decoded(text: &str) -> Option<String> {
    let mut after_signs = text.split('%').skip(1);
    let is_encoded = after_signs
        .all(|rest| rest.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)));
    let decoded = percent_decode_str(text).decode_utf8().ok().filter(|_| is_encoded)?;
    Some(decoded.into_owned())
}

fn unknown(path: &str, member: &str, known: &[&str]) -> String {
    let such_as = name_of(member).map_or_else(String::new, |name| format!(" such as {name}"));
    match known {
        [] => format!("{path} knows no query member{such_as}; it has none"),
        known => format!("{path} knows no query member{such_as}; it has {}", known.join(", ")),
    }
}

/// The name of a member. The rest may be a secret in the wrong place, such as a key in base64, which ends
/// with `=`.
fn name_of(member: &str) -> Option<&str> {
    let (name, value) = member.split_once('=')?;
    let is_name = (1..=20).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_$.".contains(&byte));
    (is_name && !value.trim_matches('=').is_empty()).then_some(name)
}

const LONGEST_SHOWN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 2] = ["id", "wait"];

    #[test]
    fn members_are_decoded_and_their_order_does_not_matter() {
        let query = Query::read("/journal", "&wait=5&&i%64=a%2Bb%C3%A4&", &KNOWN).unwrap();

        assert_eq!((query.get("id"), query.get("wait")), (Some("a+bä"), Some("5")));
        assert_eq!(Query::read("/health", "&&", &[]), Ok(Query::default()));
    }

    #[test]
    fn an_error_names_the_member_and_what_there_is() {
        for (text, wanted) in [
            ("wait=1&wait=2", "wait is given twice"),
            ("wait=1&w%61it=1", "wait is given twice"),
            ("id=%", "id must be UTF-8 with `%` and two digits for some bytes; it is %"),
            ("id=%4", "id must be UTF-8 with `%` and two digits for some bytes; it is %4"),
            ("id=%zz", "id must be UTF-8 with `%` and two digits for some bytes; it is %zz"),
            ("id=%ff", "id must be UTF-8 with `%` and two digits for some bytes; it is %ff"),
            ("id=%+1", "id must be UTF-8 with `%` and two digits for some bytes; it is %+1"),
            ("top=1", "/journal knows no query member such as top; it has id, wait"),
            ("ID=1", "/journal knows no query member such as ID; it has id, wait"),
            ("c2VjcmV0==", "/journal knows no query member; it has id, wait"),
        ] {
            assert_eq!(Query::read("/journal", text, &KNOWN), Err(wanted.to_owned()), "{text}");
        }
        let none = Query::read("/health", "top=1", &[]);
        assert_eq!(none, Err("/health knows no query member such as top; it has none".to_owned()));
    }

    #[test]
    fn a_shown_value_is_short_and_on_one_line() {
        assert_eq!(shown("a\nb"), "a b");
        assert_eq!(shown(""), "empty");
        assert_eq!(shown(&"ä".repeat(65)), format!("{}…", "ä".repeat(64)));
    }
}
