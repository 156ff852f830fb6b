//! Continuation tokens in the form of the service, which passes on those of its store: base64 of a JSON array
//! with a token and a range.
//!
//! The emulator uses only the last part of the token: a digest of the listing's name, and the position after
//! which the next page begins. So the same place has the same token for every page size.

use base64::prelude::{BASE64_STANDARD, Engine};
use sha2::{Digest, Sha256};

use crate::json::{self, json};
use crate::records::store::{PARTITIONS, Place, Position};

/// Why a token cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    NoToken,
    OfAnotherListing,
}

/// Makes the token for the place after a position, in the listing with this name.
pub(super) fn write(listing: &str, position: &Position) -> String {
    let (kind, place, label) = match position {
        Position::Store(Place { partition, number }) => {
            let place = [&[*partition][..], &number.to_be_bytes(), &[0; 5]].concat();
            (OF_STORE, place, partition + 1)
        }
        Position::Id(key) => (OF_IDS, key.clone().into_bytes(), 0),
    };
    let bytes = [&[kind][..], &seal(listing), &place].concat();
    let id = BASE64_STANDARD.encode(digest(&bytes));
    let bytes = BASE64_STANDARD.encode(bytes);
    let token = format!("+RID:~{id}#RT:1#TRC:{label}#ISV:2#IEO:65551#QCF:8{MARK}{bytes}");
    let (min, max) = match position {
        Position::Store(place) => (bound(place.partition), bound(place.partition + 1)),
        Position::Id(_) => (String::new(), "FF".to_owned()),
    };
    BASE64_STANDARD.encode(json!([{"token": token, "range": {"min": min, "max": max}}]).to_string())
}

/// Reads the position from a token of the listing with this name.
pub(super) fn read(listing: &str, token: &str) -> Result<Position, Unreadable> {
    let (sealed, position) = take_apart(token).ok_or(Unreadable::NoToken)?;
    if sealed != seal(listing) {
        return Err(Unreadable::OfAnotherListing);
    }
    if write(listing, &position) == token { Ok(position) } else { Err(Unreadable::NoToken) }
}

fn take_apart(token: &str) -> Option<(Vec<u8>, Position)> {
    let array = json::read(&BASE64_STANDARD.decode(token).ok()?).ok()?;
    let (_, bytes) = array.as_array()?.first()?.get("token")?.as_str()?.rsplit_once(MARK)?;
    let bytes = BASE64_STANDARD.decode(bytes).ok()?;
    let (kind, rest) = bytes.split_first()?;
    let (sealed, place) = rest.split_at_checked(SEAL)?;
    let position = match *kind {
        OF_STORE => {
            let (partition, rest) = place.split_first()?;
            let number = u64::from_be_bytes(rest.first_chunk().copied()?);
            let partition = Some(*partition).filter(|partition| *partition < PARTITIONS)?;
            Position::Store(Place { partition, number })
        }
        OF_IDS => Position::Id(String::from_utf8(place.to_vec()).ok()?),
        _ => return None,
    };
    Some((sealed.to_vec(), position))
}

fn seal(listing: &str) -> Vec<u8> {
    digest(listing.as_bytes())
}

fn digest(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).iter().take(SEAL).copied().collect()
}

/// The beginning of a partition's range.
fn bound(partition: u8) -> String {
    format!("05C1{:02X}CD673398", 0xC1 + 8 * u32::from(partition))
}

const OF_STORE: u8 = 1;
const OF_IDS: u8 = 2;
const MARK: &str = "#FPC:";
/// The number of bytes of the digest in a token.
const SEAL: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_written_and_read_and_belongs_to_its_listing() {
        let store = |partition, number| Position::Store(Place { partition, number });
        for position in [
            store(0, 1),
            store(PARTITIONS - 1, u64::MAX),
            Position::Id("a".into()),
            Position::Id("x".repeat(128)),
        ] {
            let token = write("Enrollment", &position);

            assert_eq!(read("Enrollment", &token), Ok(position));
            assert_eq!(read("EnrollmentGroup", &token), Err(Unreadable::OfAnotherListing));
        }
    }

    #[test]
    fn a_token_has_the_form_of_the_service() {
        let token = write("Enrollment", &Position::Store(Place { partition: 2, number: 57 }));

        assert_eq!((token.len(), token.ends_with('=')), (244, true), "220 and 248 were recorded");
        let text = String::from_utf8(BASE64_STANDARD.decode(&token).unwrap()).unwrap();
        let (begin, end) =
            (r#"[{"token":"+RID:~"#, r#"","range":{"min":"05C1D1CD673398","max":"05C1D9CD673398"}}]"#);
        assert!(text.starts_with(begin) && text.ends_with(end), "{text}");
    }

    #[test]
    fn other_texts_are_refused() {
        let token = write("l", &Position::Store(Place { partition: 4, number: 7 }));
        let inside = BASE64_STANDARD.decode(&token).unwrap();
        let spaced = BASE64_STANDARD.encode([inside.as_slice(), b" "].concat());
        let other_range = String::from_utf8(inside).unwrap().replace("05C1", "05C2");

        for text in
            ["", "%", "AAAA", "W10=", "W3t9XQ==", &spaced, &BASE64_STANDARD.encode(other_range), &token[4..]]
        {
            assert_eq!(read("l", text), Err(Unreadable::NoToken), "{text}");
        }
    }
}
