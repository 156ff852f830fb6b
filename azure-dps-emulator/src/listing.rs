//! Listings: which page a request asks for, and the token by which the next one goes on.
//!
//! A token names the listing that it belongs to and the last id of its page. So it stays good when records come and go,
//! and can be used any number of times.

use base64::prelude::{BASE64_STANDARD, Engine};

use crate::answer::Refusal;
use crate::enrollments::Kind;
use crate::ids;

/// What is listed.
#[derive(Clone, Copy)]
pub(crate) enum Listing<'a> {
    Enrollments(Kind),
    /// The registration records of the devices that a group let in.
    RegistrationsOf(&'a str),
}

impl Listing<'_> {
    fn item_type(self) -> &'static str {
        match self {
            Listing::Enrollments(Kind::Individual) => "Enrollment",
            Listing::Enrollments(Kind::Group) => "EnrollmentGroup",
            Listing::RegistrationsOf(_) => "DeviceRegistration",
        }
    }

    /// What stands before the id in a token.
    fn prefix(self) -> String {
        match self {
            Listing::Enrollments(_) => format!("{}/", self.item_type()),
            Listing::RegistrationsOf(group) => format!("{}/{}/", self.item_type(), ids::key(group)),
        }
    }
}

/// The headers by which a request asks for a page, as they were sent.
#[derive(Default)]
pub(crate) struct PageHeaders {
    pub(crate) max_item_count: Option<String>,
    pub(crate) continuation: Option<String>,
}

/// A page that is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) size: usize,
    /// The key of the id after which it begins.
    pub(crate) after: Option<String>,
}

impl Wanted {
    pub(crate) fn read(listing: Listing<'_>, headers: &PageHeaders) -> Result<Self, Refusal> {
        let size = headers.max_item_count.as_deref().map(page_size).transpose()?;
        let after = headers.continuation.as_deref().map(|token| position(listing, token)).transpose()?;
        Ok(Wanted { size: size.unwrap_or(LARGEST_PAGE), after })
    }

    /// Takes the items of the page; they come in order, with their keys, and begin behind `after`.
    pub(crate) fn fill<'a, T>(
        &self,
        listing: Listing<'_>,
        items: impl Iterator<Item = (&'a str, T)>,
    ) -> (Page, Vec<T>) {
        let mut items = items.peekable();
        let (mut taken, mut last) = (Vec::new(), None);
        while taken.len() < self.size {
            let Some((key, item)) = items.next() else { break };
            taken.push(item);
            last = Some(key);
        }
        let last = last.filter(|_| items.peek().is_some());
        let continuation = last.map(|key| BASE64_STANDARD.encode(format!("{}{key}", listing.prefix())));
        (Page { item_type: listing.item_type(), size: self.size, continuation }, taken)
    }
}

/// What the answer says about its page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) item_type: &'static str,
    pub(crate) size: usize,
    /// Present only when there is more.
    pub(crate) continuation: Option<String>,
}

fn page_size(text: &str) -> Result<usize, Refusal> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u32>() {
        Ok(size @ 1..) if digits => Ok(usize::try_from(size).unwrap_or(LARGEST_PAGE).min(LARGEST_PAGE)),
        _ => Err(Refusal::invalid("x-ms-max-item-count must be a whole number from 1")),
    }
}

fn position(listing: Listing<'_>, token: &str) -> Result<String, Refusal> {
    let text = BASE64_STANDARD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let text = text.filter(|text| text.contains('/'));
    let text = text.ok_or_else(|| Refusal::invalid("x-ms-continuation is no token of this service"))?;
    let key = text.strip_prefix(&listing.prefix()).filter(|key| ids::is_valid(key));
    key.map(str::to_owned)
        .ok_or_else(|| Refusal::invalid("x-ms-continuation is the token of another listing"))
}

/// The page size when none is asked for, and the largest one. What the service takes is not documented.
const LARGEST_PAGE: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    const INDIVIDUALS: Listing<'_> = Listing::Enrollments(Kind::Individual);

    #[test]
    fn pages_follow_each_other_until_there_is_no_more() {
        let (page, first) = ask(INDIVIDUALS, Some("2"), None, &["a", "b", "c", "d"]);
        assert_eq!((page.item_type, page.size, first), ("Enrollment", 2, vec!["a", "b"]));
        let token = page.continuation.unwrap();

        for _ in 0..2 {
            let (page, last) = ask(INDIVIDUALS, Some("2"), Some(&token), &["a", "b", "c", "d"]);
            assert_eq!(
                (page.continuation, last),
                (None, vec!["c", "d"]),
                "no token on the last page, even a full one"
            );
        }
    }

    #[test]
    fn a_token_stays_good_when_records_come_and_go() {
        let (page, _) = ask(INDIVIDUALS, Some("2"), None, &["a", "b", "c"]);
        let token = page.continuation.as_deref();

        assert_eq!(ask(INDIVIDUALS, None, token, &["a0", "c", "d"]).1, ["c", "d"], "b has gone, a0 has come");
        assert_eq!(ask(INDIVIDUALS, None, token, &["a"]).1, [""; 0]);
    }

    #[test]
    fn a_page_has_1_to_100_items() {
        for (asked, size) in [(None, 100), (Some("1"), 1), (Some("100"), 100), (Some("2147483647"), 100)] {
            assert_eq!(ask(INDIVIDUALS, asked, None, &["a"]).0.size, size);
        }
        for size in ["", "0", "-1", "+1", "1.5", "many", "99999999999"] {
            let headers = PageHeaders { max_item_count: Some(size.into()), continuation: None };
            let refusal = Wanted::read(INDIVIDUALS, &headers).unwrap_err();
            assert_eq!(refusal.cause, "x-ms-max-item-count must be a whole number from 1", "{size}");
        }
    }

    #[test]
    fn a_token_belongs_to_its_listing() {
        let listings = [
            INDIVIDUALS,
            Listing::Enrollments(Kind::Group),
            Listing::RegistrationsOf("plant"),
            Listing::RegistrationsOf("plan"),
        ];
        for (at, listing) in listings.into_iter().enumerate() {
            let (page, _) = ask(listing, Some("1"), None, &["a", "b"]);
            for (other, listing) in listings.into_iter().enumerate() {
                let headers = PageHeaders { max_item_count: None, continuation: page.continuation.clone() };
                match Wanted::read(listing, &headers) {
                    Ok(wanted) => assert_eq!((at, wanted.after.as_deref()), (other, Some("a"))),
                    Err(refusal) => {
                        assert_ne!(at, other);
                        assert_eq!(refusal.cause, "x-ms-continuation is the token of another listing");
                    }
                }
            }
        }
        assert!(
            ask(Listing::RegistrationsOf("PLANT"), None, Some("RGV2aWNlUmVnaXN0cmF0aW9uL3BsYW50L2E="), &[])
                .1
                .is_empty()
        );
        for token in ["", "%", "AAAA", "bm9uZQ=="] {
            let headers = PageHeaders { max_item_count: None, continuation: Some(token.into()) };
            let refusal = Wanted::read(INDIVIDUALS, &headers).unwrap_err();
            assert_eq!(
                (refusal.code, refusal.cause.as_str()),
                (400_000, "x-ms-continuation is no token of this service")
            );
        }
    }

    fn ask<'a>(
        listing: Listing<'_>,
        size: Option<&str>,
        token: Option<&str>,
        ids: &[&'a str],
    ) -> (Page, Vec<&'a str>) {
        let headers =
            PageHeaders { max_item_count: size.map(str::to_owned), continuation: token.map(str::to_owned) };
        let wanted = Wanted::read(listing, &headers).unwrap();
        let behind = ids.iter().filter(|id| wanted.after.as_deref().is_none_or(|after| **id > after));
        wanted.fill(listing, behind.map(|id| (*id, *id)))
    }
}
