//! Addresses of links, which are also the user names of SASL PLAIN: text only.

use percent_encoding::percent_decode_str;

/// The device that an address names.
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) id_scope: String,
    pub(super) registration_id: String,
}

impl Address {
    /// Reads `{idScope}/registrations/{registrationId}`, with or without a slash before it, or as a URL.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let path = match text.split_once("://") {
            Some((_, rest)) => rest.split_once('/')?.1,
            None => text.strip_prefix('/').unwrap_or(text),
        };
        let path = percent_decode_str(path).decode_utf8().ok()?;
        let mut parts = path.split('/');
        let (id_scope, word, id) = (parts.next()?, parts.next()?, parts.next()?);
        let complete = parts.next().is_none() && !id_scope.is_empty() && !id.is_empty();
        (complete && word.eq_ignore_ascii_case("registrations"))
            .then(|| Address { id_scope: id_scope.to_owned(), registration_id: id.to_owned() })
    }
}

/// Returns whether clients use this address at a hub: `$cbs`, or below `devices` or `messages`.
pub(super) fn is_of_hub(text: &str) -> bool {
    let path =
        text.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or(text, |(_, path)| path);
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    ["$cbs", "devices", "messages"].iter().any(|word| first.eq_ignore_ascii_case(word))
}

/// Ids are case-insensitive.
impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        self.id_scope.eq_ignore_ascii_case(&other.id_scope)
            && self.registration_id.eq_ignore_ascii_case(&other.registration_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spellings_of_all_clients_are_the_same_address() {
        let wanted = Address { id_scope: "0ne1".into(), registration_id: "dev1".into() };
        for text in [
            "0ne1/registrations/dev1",
            "/0ne1/registrations/dev1",
            "amqps://localhost:5671/0ne1/registrations/dev1",
            "0NE1/Registrations/Dev1",
            "0ne1%2Fregistrations%2Fdev1",
        ] {
            assert_eq!(Address::parse(text), Some(wanted.clone()), "{text}");
        }
        let spelled = Address::parse("0ne1/registrations/Dev%3a1").unwrap();
        assert_eq!(spelled.registration_id, "Dev:1");
    }

    #[test]
    fn addresses_of_a_hub_are_recognized() {
        for hub in [
            "$cbs",
            "/devices/dev1/messages/events",
            "devices/dev1/messages/devicebound",
            "amqps://hub-1.azure-devices.net/devices/dev1/twin",
            "/messages/devicebound",
        ] {
            assert!(is_of_hub(hub), "{hub}");
        }
        for other in ["", "dev1", "0ne1/devices/dev1", "amqps://0ne1", "0ne1/registrations/"] {
            assert!(!is_of_hub(other), "{other}");
        }
    }

    #[test]
    fn nothing_else_is_an_address() {
        for text in [
            "",
            "dev1",
            "0ne1/devices/dev1",
            "0ne1/registrations/",
            "//registrations/dev1",
            "0ne1/registrations/dev1/register",
            "amqps://0ne1",
            "0ne1/registrations/%ff",
        ] {
            assert_eq!(Address::parse(text), None, "{text}");
        }
    }
}
