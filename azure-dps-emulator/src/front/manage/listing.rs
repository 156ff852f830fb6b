//! Listings that are written in pieces, each after the reader has taken the previous one. So a reader needs
//! memory for one piece only, however long the listing is and however slowly it reads, and nothing is locked
//! between two pieces. A listing contains every item that exists during all of its time; items that are added
//! or removed meanwhile may be missing.

use std::convert::Infallible;
use std::iter::once;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};

use crate::call::kind::Kind;
use crate::instance::Instance;
use crate::json::Value;
use crate::state::journal::Entry;

/// The body of an answer with a listing.
pub(super) struct Listing {
    pieces: Box<dyn Iterator<Item = Bytes> + Send>,
    /// The bytes that are left, if their number is known.
    left: Option<u64>,
}

impl Listing {
    pub(super) fn of<P: Into<Bytes> + 'static>(pieces: impl Iterator<Item = P> + Send + 'static) -> Self {
        Listing { pieces: Box::new(pieces.map(Into::into)), left: None }
    }

    /// States the size, so that a reader notices an answer that breaks off.
    pub(super) fn with_size(self, bytes: u64) -> Self {
        Listing { left: Some(bytes), ..self }
    }

    pub(super) fn journal(entries: Vec<Arc<Entry>>) -> Self {
        let mut entries = entries.into_iter().enumerate();
        Listing::of(array(move |_: Option<&usize>| entries.next().map(|(at, entry)| (at, entry.to_json()))))
    }

    pub(super) fn enrollments(instance: &Arc<Instance>) -> Self {
        let of = |kind| {
            let instance = Arc::clone(instance);
            array(move |last| instance.enrollment_behind(kind, last))
        };
        let begin = once(r#"{"enrollments":"#.to_owned()).chain(of(Kind::Individual));
        let rest = once(r#","enrollmentGroups":"#.to_owned()).chain(of(Kind::Group));
        Listing::of(begin.chain(rest).chain(once("}".to_owned())))
    }

    pub(super) fn registrations(instance: &Arc<Instance>) -> Self {
        let instance = Arc::clone(instance);
        Listing::of(array(move |last| instance.registration_behind(last)))
    }

    /// The devices of a hub; `None` if it is not linked.
    pub(super) fn hub_devices(instance: &Arc<Instance>, hub: &str) -> Option<Self> {
        let hub = instance.settings().linked(hub)?.host_name.clone();
        let instance = Arc::clone(instance);
        Some(Listing::of(array(move |last: Option<&String>| {
            instance.hub_device_behind(&hub, last.map(String::as_str))
        })))
    }
}

/// The text of an array. `behind` returns the item after a position, with its own position.
fn array<P>(mut behind: impl FnMut(Option<&P>) -> Option<(P, Value)>) -> impl Iterator<Item = String> {
    let (mut last, mut begun, mut ended) = (None, false, false);
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let mut text = String::new();
        while text.len() < PIECE {
            let Some((position, item)) = behind(last.as_ref()) else {
                ended = true;
                text += if begun { "]" } else { "[]" };
                break;
            };
            text.push(if begun { ',' } else { '[' });
            text += &item.to_string();
            (begun, last) = (true, Some(position));
        }
        Some(text)
    })
}

impl Body for Listing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.pieces.next();
        let sent = piece.as_ref().map_or(0, |piece| u64::try_from(piece.len()).unwrap_or_default());
        self.left = self.left.map(|left| left.saturating_sub(sent));
        Poll::Ready(piece.map(|text| Ok(Frame::data(text))))
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

const PIECE: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;

    #[test]
    fn an_array_comes_in_pieces_and_is_whole() {
        for count in [0, 1, 2, 10_000] {
            let next = |last: Option<&u32>| {
                let at = last.map_or(0, |last| last + 1);
                (at < count).then(|| (at, json!({"at": at})))
            };
            let pieces: Vec<String> = array(next).collect();
            assert!(pieces.iter().all(|piece| piece.len() < 2 * PIECE));
            let whole: Vec<serde_json::Value> = serde_json::from_str(&pieces.concat()).unwrap();
            assert_eq!(whole.len(), count as usize);
            assert!(whole.iter().enumerate().all(|(at, item)| item["at"] == at));
        }
    }
}
