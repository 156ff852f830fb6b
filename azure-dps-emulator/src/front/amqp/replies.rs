//! The link for replies, and the count of replies that the client has not taken or not settled, because the
//! library keeps each reply until then.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fe2o3_amqp::Sender;
use fe2o3_amqp::link::SendError;
use fe2o3_amqp::link::delivery::DeliveryFut;
use fe2o3_amqp::types::messaging::Outcome;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};

use super::goodbye::Said;
use super::message::Outgoing;

/// A link to a client.
pub(super) struct Replies {
    pub(super) link: Sender,
    unsettled: FuturesUnordered<DeliveryFut<Result<Outcome, SendError>>>,
}

impl Replies {
    pub(super) fn on(link: Sender) -> Self {
        Self { link, unsettled: FuturesUnordered::new() }
    }

    /// Returns whether the client leaves more replies unsettled than allowed.
    pub(super) fn pile_up(&mut self) -> bool {
        while let Some(Some(_settled)) = self.unsettled.next().now_or_never() {}
        self.unsettled.len() >= MOST_REPLIES
    }

    /// Sends a reply. Waits for credit, but not for the client's disposition, which would never come after
    /// the connection is lost.
    pub(super) async fn send(&mut self, reply: Outgoing) -> Result<(), SendError> {
        self.unsettled.push(self.link.send_batchable(reply).await?);
        Ok(())
    }
}

/// Counts the replies and flows that the library still has to write on a connection. A session may take no
/// replies, and the library prefers reading to answering flows. Clones share the counts.
#[derive(Clone, Default)]
pub(super) struct Untaken {
    replies: Arc<AtomicUsize>,
    flows: Arc<AtomicUsize>,
}

impl Untaken {
    pub(super) fn add_reply(&self) {
        self.replies.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a flow that the client has requested.
    pub(super) fn add_flow(&self) {
        self.flows.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns whether more than the limit is untaken.
    pub(super) fn pile_up(&self) -> bool {
        [&self.replies, &self.flows].iter().any(|untaken| untaken.load(Ordering::Relaxed) >= MOST_REPLIES)
    }
}

fn less(untaken: &AtomicUsize, written: usize) {
    let less = |untaken: usize| Some(untaken.saturating_sub(written));
    let _before = untaken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
}

/// Finds replies and goodbyes in the bytes that the library writes.
pub(super) struct Written {
    untaken: Untaken,
    /// The number of bytes up to the next frame.
    ahead: usize,
    /// The beginning of a frame.
    begun: Vec<u8>,
}

impl Written {
    /// Begins with the protocol header of AMQP.
    pub(super) fn new(untaken: Untaken) -> Self {
        Self { untaken, ahead: HEADER, begun: Vec::new() }
    }

    pub(super) fn see(&mut self, mut bytes: &[u8]) -> Said {
        let (mut replies, mut flows, mut said) = (0, 0, Said::default());
        while !bytes.is_empty() {
            if self.ahead > 0 {
                let skipped = self.ahead.min(bytes.len());
                self.ahead -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            self.begun.extend(bytes.first());
            bytes = bytes.get(1..).unwrap_or_default();
            let Some((length, behind)) = self.begun.split_first_chunk() else { continue };
            let length = u32::from_be_bytes(*length) as usize;
            if self.begun.len() == length.min(HEADER + TRANSFER.len()) {
                replies += usize::from(behind.ends_with(&TRANSFER));
                flows += usize::from(behind.ends_with(&FLOW));
                said.end |= behind.ends_with(&END);
                said.close |= behind.ends_with(&CLOSE);
                self.ahead = length - self.begun.len();
                self.begun.clear();
            }
        }
        less(&self.untaken.replies, replies);
        less(&self.untaken.flows, flows);
        said
    }
}

/// The length of the protocol header, which is also that of a frame's header.
const HEADER: usize = 8;
/// The first bytes of a transfer after the frame's header.
const TRANSFER: [u8; 3] = [0, 0x53, 0x14];
const FLOW: [u8; 3] = [0, 0x53, 0x13];
const END: [u8; 3] = [0, 0x53, 0x17];
const CLOSE: [u8; 3] = [0, 0x53, 0x18];
/// The most untaken replies and flows of one connection, and the most unsettled replies of one link.
const MOST_REPLIES: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(body: &[u8]) -> Vec<u8> {
        [&u32::try_from(8 + body.len()).unwrap().to_be_bytes()[..], &[2, 0, 0, 0], body].concat()
    }

    #[test]
    fn replies_are_counted_however_their_bytes_are_split() {
        let transfer = frame(&[&[0, 0x53, 0x14, 0xc0][..], &[0x14; 300]].concat());
        let all = [
            b"AMQP\0\x01\0\0",
            &frame(&[])[..],
            &frame(&[0, 0x53, 0x10, 0x45]),
            &frame(&[0, 0x53, 0x13, 0x45]),
            &transfer,
            &transfer,
        ]
        .concat();
        for piece in [1, 7, 100, all.len()] {
            let untaken = Untaken::default();
            (0..10).for_each(|_| untaken.add_reply());
            (0..10).for_each(|_| untaken.add_flow());
            let mut written = Written::new(untaken.clone());

            all.chunks(piece).for_each(|bytes| {
                let said = written.see(bytes);
                assert!(!said.end && !said.close);
            });

            let left = [&untaken.replies, &untaken.flows].map(|left| left.load(Ordering::Relaxed));
            assert_eq!(left, [8, 9], "{piece}");
        }
    }

    #[test]
    fn goodbyes_are_found_however_their_bytes_are_split() {
        let all =
            [b"AMQP\0\x01\0\0", &frame(&[0, 0x53, 0x17, 0x45])[..], &frame(&[0, 0x53, 0x18, 0x45])].concat();
        for piece in [1, 7, 100] {
            let mut written = Written::new(Untaken::default());
            let said: Vec<_> = all.chunks(piece).map(|bytes| written.see(bytes)).collect();
            let counts =
                [said.iter().filter(|said| said.end).count(), said.iter().filter(|said| said.close).count()];
            assert_eq!(counts, [1, 1], "{piece}");
        }
    }
}
