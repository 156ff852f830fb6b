//! Decides which frames may reach the AMQP library. The library trusts the length of some frames, loops over
//! every delivery that a frame names, and keeps the parts of a message without a limit. Without the guard a
//! peer could end the process, keep it busy, or fill its memory. Pure.
//!
//! Source: AMQP 1.0, part 2.3 (framing), 2.7 (performatives).

use std::collections::BTreeMap;

use super::encoding::{DESCRIBED, Item, are_values};
use crate::transport::contract::LONGEST_REPLY;

/// Passes whole frames that are well-formed and harmless.
#[derive(Default)]
pub(crate) struct Guard {
    /// The bytes of a frame that is not complete yet.
    begun: Vec<u8>,
    greeted: bool,
    bare: bool,
    unfinished: Unfinished,
}

/// The link that a transfer belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Link {
    channel: u16,
    handle: u64,
}

/// Messages that arrive in several transfers.
#[derive(Default)]
struct Unfinished {
    messages: BTreeMap<Link, Vec<u8>>,
    /// The memory that they take, including the library's overhead for each part.
    held: usize,
}

impl Unfinished {
    fn add(&mut self, link: Link, part: &[u8]) -> Result<(), Refused> {
        self.held += part.len() + COST_OF_A_PART;
        if self.held > MOST_HELD {
            return Err(Refused::Frame("an incomplete message that exceeds the limit"));
        }
        let message = self.messages.entry(link).or_default();
        if message.len() + part.len() > LONGEST_MESSAGE {
            return Err(Refused::Frame("a message of more than 260 KiB"));
        }
        message.extend_from_slice(part);
        Ok(())
    }

    fn take(&mut self, link: Link) -> Vec<u8> {
        let message = self.messages.remove(&link).unwrap_or_default();
        if self.messages.is_empty() {
            self.held = 0;
        }
        message
    }
}

/// Why the guard stops reading from the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The peer requires SASL.
    Sasl,
    /// The header, a frame or a message is not acceptable, for this reason.
    Frame(&'static str),
}

impl Guard {
    /// With `bare` the client connects without SASL, and the peer may answer that it requires it.
    pub(crate) fn new(bare: bool) -> Self {
        Self { bare, ..Self::default() }
    }

    /// Takes the bytes that arrived and returns those that may reach the library: the header and whole
    /// frames.
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Refused> {
        self.begun.extend_from_slice(bytes);
        let mut passed = 0;
        while let Some(length) = self.next(passed)? {
            passed += length;
        }
        if passed == 0 {
            // Nothing is complete: a frame that arrives byte by byte is not copied each time.
            return Ok(Vec::new());
        }
        let rest = self.begun.split_off(passed);
        Ok(std::mem::replace(&mut self.begun, rest))
    }

    /// Returns the length of the header or frame at `at`, if it is complete and harmless.
    fn next(&mut self, at: usize) -> Result<Option<usize>, Refused> {
        let bytes = self.begun.get(at..).unwrap_or_default();
        let Some((prefix, _)) = bytes.split_first_chunk::<PREFIX>() else {
            // A length that is not allowed is refused at once: its frame may never be complete.
            let short = self.greeted
                && bytes.first_chunk().is_some_and(|length| !LENGTHS.contains(&u32::from_be_bytes(*length)));
            return if short { Err(Refused::Frame(LENGTH)) } else { Ok(None) };
        };
        if !self.greeted {
            return match prefix {
                AMQP => {
                    self.greeted = true;
                    Ok(Some(PREFIX))
                }
                SASL if self.bare => Err(Refused::Sasl),
                _ => Err(Refused::Frame("not a header of AMQP 1.0")),
            };
        }
        let [l0, l1, l2, l3, offset, _, c0, c1] = *prefix;
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        if !LENGTHS.contains(&length) {
            return Err(Refused::Frame(LENGTH));
        }
        let Some(frame) = bytes.get(..length as usize) else { return Ok(None) };
        if offset != OFFSET {
            return Err(Refused::Frame("a data offset that is not 2"));
        }
        let transfer = judge(frame.get(PREFIX..).unwrap_or_default())?;
        if let Some(Transfer { handle, more, part }) = transfer {
            let link = Link { channel: u16::from_be_bytes([c0, c1]), handle };
            self.unfinished.add(link, part)?;
            if !more && !are_values(&self.unfinished.take(link)) {
                return Err(Refused::Frame("a message that cannot be decoded"));
            }
        }
        Ok(Some(length as usize))
    }
}

/// A part of a message.
struct Transfer<'a> {
    handle: u64,
    more: bool,
    part: &'a [u8],
}

fn judge(body: &[u8]) -> Result<Option<Transfer<'_>>, Refused> {
    if body.is_empty() {
        // An empty frame keeps the connection alive.
        return Ok(None);
    }
    let (code, fields, rest) =
        performative(body).ok_or(Refused::Frame("a frame without a valid performative"))?;
    let number = |index: usize| fields.get(index).and_then(Item::number);
    match code {
        TRANSFER => {
            let more = fields.get(5).is_some_and(Item::is_true);
            Ok(Some(Transfer { handle: number(0).unwrap_or_default(), more, part: rest }))
        }
        DISPOSITION => {
            let first = number(1).unwrap_or_default();
            match number(2).unwrap_or(first).saturating_sub(first) {
                0..=MOST_DELIVERIES => Ok(None),
                _ => Err(Refused::Frame("a disposition for more deliveries than can be pending")),
            }
        }
        _ => Ok(None),
    }
}

/// Splits a frame into the code and the fields of its performative and the payload after it.
fn performative(body: &[u8]) -> Option<(u64, Vec<Item<'_>>, &[u8])> {
    let (whole, rest) = body.split_at_checked(body.len() - described_rest(body)?.len())?;
    if !are_values(whole) {
        return None;
    }
    let (code, list) = Item::split(whole.get(1..)?)?;
    let (list, _) = Item::split(list)?;
    let mut fields = Vec::new();
    let mut content = list.content;
    while !content.is_empty() {
        let (item, rest) = Item::split_described(content)?;
        fields.push(item);
        content = rest;
    }
    (matches!(list.constructor, LIST0 | LIST8 | LIST32)).then_some((code.number()?, fields, rest))
}

/// Returns the bytes after a described value. A performative's descriptor and list are not described
/// themselves.
fn described_rest(bytes: &[u8]) -> Option<&[u8]> {
    let [DESCRIBED, rest @ ..] = bytes else { return None };
    let (_, rest) = Item::split(rest)?;
    Some(Item::split(rest)?.1)
}

/// The header that begins AMQP 1.0.
pub(super) const AMQP: &[u8; PREFIX] = b"AMQP\0\x01\0\0";
const SASL: &[u8; PREFIX] = b"AMQP\x03\x01\0\0";
/// The largest frame that this client accepts, and announces in its open.
pub(super) const LARGEST_FRAME: u32 = 64 * 1024;
/// Length, data offset, type and channel of a frame.
const PREFIX: usize = 8;
const LENGTHS: std::ops::RangeInclusive<u32> = PREFIX as u32..=LARGEST_FRAME;
const LENGTH: &str = "a frame whose length is not allowed";
/// The data offset of a frame without an extended header, in words. The library assumes it without checking.
const OFFSET: u8 = 2;
/// The longest reply, and what AMQP adds to it.
const LONGEST_MESSAGE: usize = LONGEST_REPLY + 4 * 1024;
/// The limit for all incomplete messages together, with the cost of their parts.
const MOST_HELD: usize = 1024 * 1024;
const COST_OF_A_PART: usize = 4 * 1024;
/// More than can be pending on one connection.
const MOST_DELIVERIES: u64 = 10_000;
const LIST0: u8 = 0x45;
const LIST8: u8 = 0xc0;
const LIST32: u8 = 0xd0;
const TRANSFER: u64 = 0x14;
const DISPOSITION: u64 = 0x15;

#[cfg(test)]
mod tests {
    use super::super::encoding::DEEPEST;
    use super::*;

    const OPEN: &[u8] = &[0, 0, 0, 16, 2, 0, 0, 0, 0, 0x53, 0x10, 0xc0, 3, 1, 0xa1, 0];
    const ALIVE: &[u8] = &[0, 0, 0, 8, 2, 0, 0, 0];

    fn greeted() -> Guard {
        let mut guard = Guard::default();
        assert_eq!(guard.pass(AMQP).unwrap(), AMQP);
        guard
    }

    fn frame(body: &[u8]) -> Vec<u8> {
        [&u32::try_from(8 + body.len()).unwrap().to_be_bytes()[..], &[2, 0, 0, 0], body].concat()
    }

    fn transfer(more: bool, part: &[u8]) -> Vec<u8> {
        let more = if more { 0x41 } else { 0x42 };
        frame(&[&[0, 0x53, 0x14, 0xc0, 8, 6, 0x43, 0x43, 0xa0, 0, 0x43, 0x42, more][..], part].concat())
    }

    #[test]
    fn the_header_and_whole_frames_pass_in_pieces_of_any_length() {
        let all = [AMQP, OPEN, ALIVE, &transfer(false, &[0, 0x53, 0x75, 0xa0, 1, 7])].concat();
        let mut guard = Guard::default();
        let passed: Vec<u8> = all.iter().flat_map(|byte| guard.pass(&[*byte]).unwrap()).collect();
        assert_eq!(passed, all);
        assert_eq!(Guard::default().pass(&all).unwrap(), all);
    }

    #[test]
    fn another_header_is_refused() {
        assert_eq!(Guard::new(true).pass(SASL), Err(Refused::Sasl));
        assert!(matches!(Guard::new(false).pass(SASL), Err(Refused::Frame(_))));
        assert!(Guard::default().pass(b"HTTP/1.1 400").is_err());
    }

    #[test]
    fn lengths_that_the_library_does_not_survive_are_refused_at_once() {
        for length in [0u32, 3, 4, 7, 65_537, u32::MAX] {
            assert_eq!(greeted().pass(&length.to_be_bytes()), Err(Refused::Frame(LENGTH)), "{length}");
        }
    }

    #[test]
    fn nested_values_are_counted_in_frames_and_in_messages_of_several_transfers() {
        let nested = |depth: usize| [[0, 0x53, 1].repeat(depth), vec![0x40]].concat();
        for (depth, fits) in [(DEEPEST - 1, true), (1000, false), (20_000, false)] {
            let message = nested(depth);
            assert_eq!(greeted().pass(&transfer(false, &message)).is_ok(), fits, "{depth}");
            let (first, second) = message.split_at(message.len() / 2);
            let mut guard = greeted();
            guard.pass(&transfer(true, first)).unwrap();
            assert_eq!(guard.pass(&transfer(false, second)).is_ok(), fits, "{depth} in two transfers");
        }
        // Lists within lists, in a message and in a field of a performative.
        let lists = (0..60).fold(vec![0x45], |inner, _| {
            [&[0xc0, u8::try_from(inner.len() + 1).unwrap(), 1], &inner[..]].concat()
        });
        assert!(greeted().pass(&transfer(false, &lists)).is_err());
        assert!(
            greeted()
                .pass(&frame(
                    &[&[0, 0x53, 0x11, 0xc0, u8::try_from(lists.len() + 1).unwrap(), 1], &lists[..]].concat()
                ))
                .is_err()
        );
    }

    #[test]
    fn a_disposition_for_more_deliveries_than_can_be_pending_is_refused() {
        let disposition = |last: u32| {
            let last = last.to_be_bytes();
            frame(&[&[0, 0x53, 0x15, 0xc0, 8, 3, 0x41, 0x43, 0x70][..], &last].concat())
        };
        assert!(greeted().pass(&disposition(31)).is_ok());
        assert!(greeted().pass(&disposition(u32::MAX)).is_err());
    }

    #[test]
    fn a_message_that_does_not_end_is_refused() {
        let mut guard = greeted();
        let part = vec![0; 60_000];
        assert!((0..20).any(|_| guard.pass(&transfer(true, &part)).is_err()));
        let mut guard = greeted();
        assert!((0..300).any(|_| guard.pass(&transfer(true, &[])).is_err()), "empty parts");
    }

    #[test]
    fn incomplete_messages_share_one_limit_across_links() {
        let on_channel = |channel: u16| {
            let mut frame = transfer(true, &[0; 60_000]);
            frame[6..8].copy_from_slice(&channel.to_be_bytes());
            frame
        };
        let on_handle = |handle: u16| {
            let [high, low] = handle.to_be_bytes();
            let head = [0, 0x53, 0x14, 0xc0, 12, 6, 0x70, 0, 0, high, low, 0x43, 0xa0, 0, 0x43, 0x42, 0x41];
            frame(&[&head[..], &[0; 60_000]].concat())
        };
        for transfer in [&on_channel as &dyn Fn(u16) -> Vec<u8>, &on_handle] {
            let mut guard = greeted();
            let accepted = (0..1_000).take_while(|number| guard.pass(&transfer(*number)).is_ok()).count();
            assert!((1..20).contains(&accepted), "{accepted}");
        }
    }

    #[test]
    fn complete_messages_do_not_count_towards_the_limit() {
        let mut guard = greeted();
        let value = [&[0, 0x53, 0x75, 0xb0, 0, 0, 0xea, 0x60], &[0; 60_000][..]].concat();
        assert!((0..100).all(|_| guard.pass(&transfer(false, &value)).is_ok()));
    }

    #[test]
    fn a_data_offset_that_the_library_does_not_expect_is_refused() {
        for offset in [0, 1, 3, 6, 255] {
            let mut frame = OPEN.to_vec();
            frame[4] = offset;
            assert!(greeted().pass(&frame).is_err(), "{offset}");
        }
    }
}
