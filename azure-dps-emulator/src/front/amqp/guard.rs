//! Checks every frame of a client before it reaches the AMQP library, which trusts its peer: it recurses for
//! each value in a value, allocates as many bytes as a length announces, loops over every number in the range
//! of a disposition, and keeps the parts of a message as long as they come. A broken or hostile client could
//! end the whole process.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};

use super::replies::Untaken;
use super::values::{Performative, are_values};

/// Assembles frames after the protocol header and checks each.
#[derive(Default)]
pub(super) struct Frames {
    bytes: BytesMut,
    unfinished: Unfinished,
    waiting: Waiting,
    untaken: Untaken,
    /// The number of sessions and links that the client has begun, including ended ones.
    begun: u32,
    /// The number of frames that passed since [`Frames::needs_pause`] last returned true.
    count: usize,
}

impl Frames {
    /// Shares the counts of messages that wait for an answer, and of replies that the client has not taken.
    pub(super) fn new(waiting: Waiting, untaken: Untaken) -> Self {
        Self { waiting, untaken, ..Self::default() }
    }

    /// Adds received bytes and returns the complete frames, or the reason to refuse the client.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Bytes, &'static str> {
        self.bytes.extend_from_slice(bytes);
        let mut complete = 0;
        while let Some((length, _)) = self.bytes.get(complete..).and_then(|rest| rest.split_first_chunk()) {
            let length = u32::from_be_bytes(*length);
            if !(PREFIX..=LARGEST_FRAME).contains(&length) {
                return Err("a frame is shorter than its header or longer than agreed");
            }
            let Some(frame) = self.bytes.get(complete..complete + length as usize) else { break };
            self.count += 1;
            self.begun += inspect(frame, &mut self.unfinished, &self.waiting, &self.untaken)?;
            complete += length as usize;
        }
        if self.untaken.pile_up() {
            return Err("the client does not take what it asks for");
        }
        if self.begun > MOST_BEGUN {
            return Err("more sessions and links are begun than a device needs");
        }
        Ok(self.bytes.split_to(complete).freeze())
    }

    /// Returns whether so many frames have passed that the library needs time to process them.
    pub(super) fn needs_pause(&mut self) -> bool {
        let needs_pause = self.count >= BURST;
        if needs_pause {
            self.count = 0;
        }
        needs_pause
    }
}

/// The messages that are not complete, by channel and handle.
#[derive(Default)]
struct Unfinished(HashMap<(u16, u64), Message>);

#[derive(Default)]
struct Message {
    bytes: Vec<u8>,
    parts: usize,
}

impl Unfinished {
    /// Adds a part to a message and returns its bytes so far.
    fn add(&mut self, link: (u16, u64), part: &[u8]) -> Result<&[u8], &'static str> {
        let cost = |bytes: usize, parts: usize| bytes + parts * COST_OF_A_PART;
        let held: usize = self.0.values().map(|message| cost(message.bytes.len(), message.parts)).sum();
        if held + cost(part.len(), 1) > MOST_HELD {
            return Err("a message does not end");
        }
        let message = self.0.entry(link).or_default();
        message.bytes.extend_from_slice(part);
        message.parts += 1;
        Ok(&message.bytes)
    }

    fn forget(&mut self, link: (u16, u64)) {
        self.0.remove(&link);
    }
}

/// The sizes of the messages that wait for an answer; clones share them.
#[derive(Clone, Default)]
pub(super) struct Waiting(Arc<Mutex<VecDeque<usize>>>);

impl Waiting {
    fn add(&self, message: usize) -> Result<(), &'static str> {
        let mut sizes = self.sizes();
        sizes.push_back(message + COST_OF_A_MESSAGE);
        let all: usize = sizes.iter().sum();
        if all > MOST_HELD { Err("more messages wait than the service takes at once") } else { Ok(()) }
    }

    /// Removes the oldest message, because messages are answered in the order in which they came.
    pub(super) fn answered(&self) {
        self.sizes().pop_front();
    }

    fn sizes(&self) -> MutexGuard<'_, VecDeque<usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checks one frame and returns how many sessions and links it begins.
fn inspect(
    frame: &[u8],
    unfinished: &mut Unfinished,
    waiting: &Waiting,
    untaken: &Untaken,
) -> Result<u32, &'static str> {
    let &[_, _, _, _, offset, _, c0, c1, ref body @ ..] = frame else { return Err("a frame has no header") };
    if offset != OFFSET {
        return Err("the data offset of a frame is not 2");
    }
    if body.is_empty() {
        return Ok(0);
    }
    let performative = Performative::read(body)
        .ok_or("a frame does not begin with a performative, or it is nested too deeply")?;
    let channel = u16::from_be_bytes([c0, c1]);
    if channel > HIGHEST_CHANNEL {
        return Err("a channel is higher than agreed");
    }
    let link = (channel, performative.number(0).unwrap_or_default());
    match performative.code {
        BEGIN => return Ok(1),
        ATTACH if performative.number(1).is_some_and(|handle| handle > u64::from(HIGHEST_HANDLE)) => {
            return Err("a handle is higher than agreed");
        }
        ATTACH => return Ok(1),
        TRANSFER if performative.is_true(ABORTED) => unfinished.forget(link),
        TRANSFER => {
            let message = unfinished.add(link, performative.payload)?;
            if !performative.is_true(MORE) {
                if !are_values(message) {
                    return Err("a message cannot be read, or is nested too deeply");
                }
                waiting.add(message.len())?;
                unfinished.forget(link);
            }
        }
        DISPOSITION => {
            let first = performative.number(1).unwrap_or_default();
            if body.len() > LARGEST_SIGNAL {
                return Err("a disposition is larger than a client needs");
            }
            if performative.number(2).unwrap_or(first).saturating_sub(first) > MOST_SETTLED {
                return Err("a disposition settles more than was sent");
            }
        }
        FLOW | DETACH | END if body.len() > LARGEST_SIGNAL => {
            return Err("a flow, detach or end is larger than a client needs");
        }
        FLOW if performative.is_true(ECHO) => untaken.add_flow(),
        DETACH => unfinished.forget(link),
        END => unfinished.0.retain(|(begun, _), _| *begun != channel),
        _ => {}
    }
    Ok(0)
}

pub(super) const LARGEST_FRAME: u32 = 64 * 1024;
/// Length, data offset, type and channel.
const PREFIX: u32 = 8;
/// The data offset of a frame without an extended header, in words.
const OFFSET: u8 = 2;
/// Frames after which the library gets time: it decodes frames faster than it processes them, and queues
/// 65,535 for each session.
const BURST: usize = 500;
/// The longest body of a frame that carries no message.
const LARGEST_SIGNAL: usize = 4 * 1024;
const BEGIN: u64 = 0x11;
const ATTACH: u64 = 0x12;
const FLOW: u64 = 0x13;
const TRANSFER: u64 = 0x14;
const DISPOSITION: u64 = 0x15;
const DETACH: u64 = 0x16;
const END: u64 = 0x17;
/// Fields of a transfer.
const MORE: usize = 5;
const ABORTED: usize = 9;
/// The field of a flow that asks for one in return.
const ECHO: usize = 9;
/// The memory for all incomplete messages. Each part counts with [`COST_OF_A_PART`], because the library
/// keeps the buffer in which it came. A message of 256 KiB fits even in the smallest frames of AMQP.
const MOST_HELD: usize = 2 * 1024 * 1024;
const COST_OF_A_PART: usize = 2 * 1024;
const COST_OF_A_MESSAGE: usize = 512;
/// The highest channel and handle; a device has one session with two links.
pub(super) const HIGHEST_CHANNEL: u16 = 7;
pub(super) const HIGHEST_HANDLE: u32 = 31;
/// The most sessions and links that one connection may begin; the library keeps some memory for each.
const MOST_BEGUN: u32 = 1_000;
const MOST_SETTLED: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(body: &[u8]) -> Vec<u8> {
        [&u32::try_from(8 + body.len()).unwrap().to_be_bytes()[..], &[2, 0, 0, 0], body].concat()
    }

    fn transfer(more: bool, payload: &[u8]) -> Vec<u8> {
        let more = if more { 0x41 } else { 0x42 };
        frame(&[&[0, 0x53, 0x14, 0xc0, 8, 6, 0x43, 0x43, 0xa0, 0, 0x43, 0x42, more], payload].concat())
    }

    fn nested(levels: usize) -> Vec<u8> {
        [[0, 0x53, 1].repeat(levels), vec![0x40]].concat()
    }

    #[test]
    fn frames_pass_when_they_are_complete() {
        let all = [frame(&[]), frame(&[0, 0x53, 0x18, 0x45]), transfer(false, &[0, 0x53, 0x75, 0xa0, 1, 7])]
            .concat();
        let mut frames = Frames::default();

        let gone: Vec<u8> = all.iter().flat_map(|byte| frames.take(&[*byte]).unwrap()).collect();

        assert_eq!(gone, all);
    }

    #[test]
    fn lengths_are_judged_before_the_frame_has_arrived() {
        for length in [0, 7, LARGEST_FRAME + 1, u32::MAX] {
            assert!(Frames::default().take(&length.to_be_bytes()).is_err(), "{length}");
        }
    }

    #[test]
    fn nesting_is_judged_in_performatives_and_in_whole_messages() {
        let message = nested(5000);
        let (half, other) = message.split_at(7000);
        let mut frames = Frames::default();

        assert!(Frames::default().take(&frame(&message)).is_err());
        assert!(Frames::default().take(&transfer(false, &message)).is_err());
        frames.take(&transfer(true, half)).unwrap();
        assert!(frames.take(&transfer(false, other)).is_err());
        assert!(Frames::default().take(&transfer(false, &nested(20))).is_ok());
    }

    #[test]
    fn descriptors_of_descriptors_are_refused() {
        assert!(Frames::default().take(&frame(&[0; 60_000])).is_err());
    }

    #[test]
    fn another_data_offset_than_the_library_reads_is_refused() {
        let open = frame(&[0, 0x53, 0x10, 0xc0, 3, 1, 0xa1, 0]);
        for offset in [0, 1, 3, 6, 255] {
            let mut frame = open.clone();
            frame[4] = offset;
            assert!(Frames::default().take(&frame).is_err(), "{offset}");
        }
        assert!(Frames::default().take(&open).is_ok());
    }

    #[test]
    fn messages_that_do_not_end_are_limited_together() {
        let part = vec![0; 60_000];
        let on = |channel: u16, handle: u8| {
            let mut frame = transfer(true, &part);
            frame[6..8].copy_from_slice(&channel.to_be_bytes());
            frame.splice(14..15, [0x52, handle]);
            frame[11] += 1;
            frame[12] = 6;
            let length = u32::try_from(frame.len()).unwrap();
            frame[..4].copy_from_slice(&length.to_be_bytes());
            frame
        };
        for number in [|_| (0, 0), |at: u8| (u16::from(at % 8), at / 8), |at| (0, at)] {
            let mut frames = Frames::default();
            let accepted = (0..40)
                .map(number)
                .take_while(|(channel, handle)| frames.take(&on(*channel, *handle)).is_ok());
            assert!(accepted.count() * part.len() <= MOST_HELD);
        }
    }

    #[test]
    fn messages_wait_for_an_answer_within_the_limit() {
        let waiting = Waiting::default();
        let mut frames = Frames::new(waiting.clone(), Untaken::default());
        let message = [&[0, 0x53, 0x75, 0xb0, 0, 0, 0xc3, 0x50][..], &[0; 50_000]].concat();
        for _ in 0..1_000 {
            frames.take(&transfer(false, &message)).unwrap();
            waiting.answered();
        }
        let accepted = (0..1_000).take_while(|_| frames.take(&transfer(false, &message)).is_ok()).count();
        assert!((10..=MOST_HELD / message.len()).contains(&accepted), "{accepted}");
    }

    #[test]
    fn channels_and_handles_are_limited_and_sessions_and_links_are_counted() {
        let on = |channel: u16, body: &[u8]| {
            let mut frame = frame(body);
            frame[6..8].copy_from_slice(&channel.to_be_bytes());
            frame
        };
        let begin = [0, 0x53, 0x11, 0x45];
        let attach = |handle: u8| [0, 0x53, 0x12, 0xc0, 6, 2, 0xa1, 1, b'a', 0x52, handle];
        assert!(Frames::default().take(&on(HIGHEST_CHANNEL, &begin)).is_ok());
        assert!(Frames::default().take(&on(HIGHEST_CHANNEL + 1, &begin)).is_err());
        assert!(Frames::default().take(&on(0, &attach(31))).is_ok());
        assert!(Frames::default().take(&on(0, &attach(32))).is_err());
        let mut frames = Frames::default();
        let accepted = (0..5_000).take_while(|_| frames.take(&on(0, &attach(0))).is_ok()).count();
        assert_eq!(accepted, usize::try_from(MOST_BEGUN).unwrap());
    }

    #[test]
    fn frames_without_a_message_are_small_and_come_in_bursts() {
        let flow = |size: usize| {
            let padding = [&[0xb0][..], &u32::try_from(size).unwrap().to_be_bytes(), &vec![0; size]].concat();
            let length = u32::try_from(4 + padding.len()).unwrap().to_be_bytes();
            frame(&[&[0, 0x53, 0x13, 0xd0][..], &length, &[0, 0, 0, 1], &padding].concat())
        };
        assert!(Frames::default().take(&flow(5_000)).is_err());
        let mut frames = Frames::default();
        for burst in 0..3 {
            frames.take(&flow(10).repeat(BURST - 1)).unwrap();
            assert!(!frames.needs_pause(), "{burst}");
            frames.take(&flow(10)).unwrap();
            assert!(frames.needs_pause(), "{burst}");
        }
    }

    #[test]
    fn parts_without_bytes_count_too() {
        let mut frames = Frames::default();
        let accepted = (0..100_000).take_while(|_| frames.take(&transfer(true, &[])).is_ok()).count();
        assert!(accepted <= MOST_HELD / COST_OF_A_PART, "{accepted}");
    }

    #[test]
    fn a_large_message_in_the_smallest_frames_passes() {
        let message = [&[0, 0x53, 0x75, 0xb0, 0, 4, 0, 0], &vec![0; 256 * 1024][..]].concat();
        let mut frames = Frames::default();
        let (last, parts) =
            message.chunks(490).collect::<Vec<_>>().split_last().map(|(a, b)| (*a, b.to_vec())).unwrap();
        for part in parts {
            frames.take(&transfer(true, part)).unwrap();
        }
        frames.take(&transfer(false, last)).unwrap();
    }

    #[test]
    fn aborted_messages_and_messages_of_an_ended_link_or_session_are_dropped() {
        let part = vec![0; 60_000];
        let abort =
            frame(&[0, 0x53, 0x14, 0xc0, 11, 10, 0x43, 0x40, 0x40, 0x40, 0x40, 0x42, 0x40, 0x40, 0x40, 0x41]);
        let detach = frame(&[0, 0x53, 0x16, 0xc0, 2, 1, 0x43]);
        let end = frame(&[0, 0x53, 0x17, 0x45]);
        for last in [abort, detach, end] {
            let mut frames = Frames::default();
            for _ in 0..100 {
                frames.take(&transfer(true, &part)).unwrap();
                frames.take(&last).unwrap();
            }
        }
    }

    #[test]
    fn a_disposition_may_settle_only_a_limited_range() {
        let disposition = |last: u32| {
            frame(&[&[0, 0x53, 0x15, 0xc0, 8, 3, 0x41, 0x43, 0x70][..], &last.to_be_bytes()].concat())
        };

        assert!(Frames::default().take(&disposition(9)).is_ok());
        assert!(Frames::default().take(&disposition(u32::MAX)).is_err());
    }
}
