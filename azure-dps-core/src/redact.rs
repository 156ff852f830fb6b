//! Removes secrets from text before it is shown.

/// Makes a peer's text fit for a log line: one line, at most 200 characters, without tokens and keys.
pub(crate) fn readable(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
    let lower = text.to_ascii_lowercase();
    if SECRET_MARKS.iter().any(|mark| lower.contains(mark)) || holds_key(&lower) {
        return "[left out: it contains a credential]".to_owned();
    }
    text.trim().to_owned()
}

/// Returns true when the text names a key and also contains something that could be its value. Text that only
/// states a rule about keys passes.
fn holds_key(lower: &str) -> bool {
    let mut named = KEYS.iter().flat_map(|name| lower.match_indices(name)).peekable();
    let mut words = lower.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '+' | '/' | '='));
    let may_be_key = named.peek().is_some() && words.any(|word| word.len() >= SHORTEST_KEY);
    may_be_key
        || named.any(|(at, name)| {
            let rest = lower.get(at + name.len()..).unwrap_or_default();
            rest.trim_start_matches(['"', '\'', '\\', ' ']).starts_with([':', '='])
        })
}

const SECRET_MARKS: [&str; 4] = ["sig=", "sharedaccesskey=", "authorization:", "bearer "];
/// 16 bytes in base64, without the padding.
const SHORTEST_KEY: usize = 22;
const KEYS: [&str; 3] = ["primarykey", "secondarykey", "authenticationkey"];

/// A URL for people: scheme, host and path. User info, query and fragment are replaced by `[redacted]`.
pub(crate) fn url_without_secrets(url: &str) -> String {
    let (rest, tail) = match url.find(['?', '#']) {
        Some(at) => (url.get(..at).unwrap_or_default(), "?[redacted]"),
        None => (url, ""),
    };
    let (scheme, rest) = match rest.find("://") {
        Some(at) => rest.split_at(at + "://".len()),
        None => ("", rest),
    };
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}[redacted]@{host}{path}{tail}"),
        None => format!("{scheme}{authority}{path}{tail}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_keeps_host_and_path_only() {
        for (url, shown) in [
            ("https://f.example/api/x?code=marker", "https://f.example/api/x?[redacted]"),
            ("https://f.example/api#marker", "https://f.example/api?[redacted]"),
            ("https://u:marker@f.example:8443/a@b", "https://[redacted]@f.example:8443/a@b"),
            ("f.example?x=https://marker", "f.example?[redacted]"),
            ("https://f.example", "https://f.example"),
            ("", ""),
        ] {
            assert_eq!(url_without_secrets(url), shown);
        }
    }
}
