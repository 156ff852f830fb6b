//! Listings: the page that a request asks for, and the continuation token of the next page.
//!
//! A token names its listing and the place where its page ends. So it stays valid while records are added and
//! removed, and a client can use it any number of times.

mod token;

use crate::api::listing::token::Unreadable;
use crate::call::answer::Page;
use crate::call::kind::Kind;
use crate::call::request::PageHeaders;
use crate::ids;
use crate::records::store::{Order, Position};
use crate::refusal::Refusal;

/// A collection that can be listed.
#[derive(Clone, Copy)]
pub(crate) enum Listing<'a> {
    Enrollments(Kind),
    /// The registration records of the devices that a group admitted.
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

    /// A name that no other listing has.
    fn name(self) -> String {
        match self {
            Listing::Enrollments(_) => self.item_type().to_owned(),
            Listing::RegistrationsOf(group) => format!("{}/{}", self.item_type(), ids::key(group)),
        }
    }
}

/// A request for a page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PageRequest {
    pub(crate) size: usize,
    /// The end of the previous page.
    pub(crate) behind: Option<Position>,
}

impl PageRequest {
    pub(crate) fn read(listing: Listing<'_>, order: Order, headers: &PageHeaders) -> Result<Self, Refusal> {
        let size = headers.max_item_count.as_deref().map(page_size).transpose()?;
        let behind = headers.continuation.as_deref().map(|token| position(listing, order, token));
        Ok(PageRequest { size: size.unwrap_or(LARGEST_PAGE), behind: behind.transpose()? })
    }

    /// Takes the items of the page from an iterator that is in order and begins after the previous page.
    pub(crate) fn fill<T>(
        &self,
        listing: Listing<'_>,
        items: impl Iterator<Item = (Position, T)>,
    ) -> (Page, Vec<T>) {
        let mut items = items.peekable();
        let (mut taken, mut last) = (Vec::new(), None);
        while taken.len() < self.size {
            let Some((position, item)) = items.next() else { break };
            taken.push(item);
            last = Some(position);
        }
        let last = last.filter(|_| items.peek().is_some());
        let continuation = last.map(|position| token::write(&listing.name(), &position));
        (Page { item_type: listing.item_type(), continuation }, taken)
    }
}

fn page_size(text: &str) -> Result<usize, Refusal> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u32>() {
        Ok(size @ 1..) if digits => Ok(usize::try_from(size).unwrap_or(LARGEST_PAGE).min(LARGEST_PAGE)),
        _ => Err(Refusal::invalid("x-ms-max-item-count must be a whole number from 1")),
    }
}

fn position(listing: Listing<'_>, order: Order, token: &str) -> Result<Position, Refusal> {
    let position = token::read(&listing.name(), token).map_err(|why| match why {
        Unreadable::NoToken => "x-ms-continuation is no token of this service",
        Unreadable::OfAnotherListing => "x-ms-continuation is the token of another listing",
    });
    match position.map_err(Refusal::invalid)? {
        position @ Position::Store(_) if order == Order::Store => Ok(position),
        position @ Position::Id(_) if order == Order::Ids => Ok(position),
        _ => Err(Refusal::invalid("x-ms-continuation is the token of a listing in another order")),
    }
}

/// The default page size and the largest one. The limit of the service is not documented.
const LARGEST_PAGE: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::store::Records;

    const INDIVIDUALS: Listing<'_> = Listing::Enrollments(Kind::Individual);

    #[test]
    fn pages_follow_each_other_until_the_last_one() {
        let records = records(&["a", "b", "c", "d"]);
        let (page, first) = ask(&records, INDIVIDUALS, Some("2"), None);
        assert_eq!((page.item_type, first), ("Enrollment", vec!["a", "b"]));
        let token = page.continuation.unwrap();

        for _ in 0..2 {
            let (page, last) = ask(&records, INDIVIDUALS, Some("2"), Some(&token));
            assert_eq!(
                (page.continuation, last),
                (None, vec!["c", "d"]),
                "no token on the last page, even a full one"
            );
        }
    }

    #[test]
    fn a_token_depends_on_the_place_and_not_on_the_page_size() {
        let records = records(&["a", "b", "c", "d", "e"]);
        let token = |size, behind| ask(&records, INDIVIDUALS, Some(size), behind).0.continuation.unwrap();

        assert_eq!(token("4", None), token("2", Some(&token("2", None))));
    }

    #[test]
    fn a_page_has_1_to_100_items() {
        for (header, size) in [(None, 100), (Some("1"), 1), (Some("100"), 100), (Some("2147483647"), 100)] {
            assert_eq!(wanted(INDIVIDUALS, header, None).unwrap().size, size);
        }
        for size in ["", "0", "-1", "+1", "1.5", "many", "99999999999"] {
            let refusal = wanted(INDIVIDUALS, Some(size), None).unwrap_err();
            assert_eq!(refusal.cause, "x-ms-max-item-count must be a whole number from 1", "{size}");
        }
    }

    #[test]
    fn a_token_belongs_to_its_listing_and_order() {
        let listings = [
            INDIVIDUALS,
            Listing::Enrollments(Kind::Group),
            Listing::RegistrationsOf("plant"),
            Listing::RegistrationsOf("plan"),
        ];
        let records = records(&["a", "b"]);
        for (at, listing) in listings.into_iter().enumerate() {
            let token = ask(&records, listing, Some("1"), None).0.continuation.unwrap();
            for (other, listing) in listings.into_iter().enumerate() {
                match wanted(listing, None, Some(&token)) {
                    Ok(wanted) => assert_eq!((at, wanted.behind), (other, Some(Position::Id("a".into())))),
                    Err(refusal) => {
                        assert_ne!(at, other);
                        assert_eq!(refusal.cause, "x-ms-continuation is the token of another listing");
                    }
                }
            }
            let headers = PageHeaders { max_item_count: None, continuation: Some(token) };
            let refusal = PageRequest::read(listing, Order::Store, &headers).unwrap_err();
            assert_eq!(refusal.cause, "x-ms-continuation is the token of a listing in another order");
        }
        let token = ask(&records, Listing::RegistrationsOf("plant"), Some("1"), None).0.continuation;
        assert!(wanted(Listing::RegistrationsOf("PLANT"), None, token.as_deref()).is_ok());
        let refusal = wanted(INDIVIDUALS, None, Some("AAAA")).unwrap_err();
        assert_eq!(
            (refusal.code, refusal.cause.as_str()),
            (400_000, "x-ms-continuation is no token of this service")
        );
    }

    fn records(ids: &[&'static str]) -> Records<&'static str> {
        let mut records = Records::default();
        for id in ids {
            records.put(id, *id);
        }
        records
    }

    fn ask(
        records: &Records<&'static str>,
        listing: Listing<'_>,
        size: Option<&str>,
        token: Option<&str>,
    ) -> (Page, Vec<&'static str>) {
        let wanted = wanted(listing, size, token).unwrap();
        wanted.fill(listing, records.behind(Order::Ids, wanted.behind.as_ref()).map(|(at, id)| (at, *id)))
    }

    fn wanted(listing: Listing<'_>, size: Option<&str>, token: Option<&str>) -> Result<PageRequest, Refusal> {
        let headers =
            PageHeaders { max_item_count: size.map(str::to_owned), continuation: token.map(str::to_owned) };
        PageRequest::read(listing, Order::Ids, &headers)
    }
}
