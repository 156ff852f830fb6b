//! Which bytes of a client are let through to the AMQP library. A client may be a test of a broken client, and the library
//! calls itself for each value in a value, reserves what a length asks for, believes the length of a frame and counts
//! every number up that a disposition names.

use std::collections::HashMap;

use super::LARGEST_FRAME;

/// Puts frames together and looks at each, behind the header.
#[derive(Default)]
pub(super) struct Frames {
    bytes: Vec<u8>,
    /// The parts of messages that are not complete, by channel and handle.
    messages: HashMap<(u16, u64), Vec<u8>>,
}

impl Frames {
    /// Adds what came and gives the frames that are complete; the reason if the client may not go on.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
        self.bytes.extend_from_slice(bytes);
        let mut complete = 0;
        while let Some((length, _)) = self.bytes.get(complete..).and_then(|rest| rest.split_first_chunk()) {
            let length = u32::from_be_bytes(*length);
            if !(PREFIX..=LARGEST_FRAME).contains(&length) {
                return Err("a frame is shorter than its header or longer than agreed");
            }
            let Some(frame) = self.bytes.get(complete..complete + length as usize) else { break };
            inspect(frame, &mut self.messages)?;
            complete += length as usize;
        }
        let rest = self.bytes.split_off(complete);
        Ok(std::mem::replace(&mut self.bytes, rest))
    }
}

fn inspect(frame: &[u8], messages: &mut HashMap<(u16, u64), Vec<u8>>) -> Result<(), &'static str> {
    let &[_, _, _, _, offset, _, c0, c1, ..] = frame else { return Err("a frame has no header") };
    let body = frame.get(usize::from(offset) * 4..).ok_or("the body of a frame lies outside")?;
    if body.is_empty() {
        return Ok(());
    }
    let (performative, payload) =
        value(body, DEEPEST).ok_or("a performative cannot be read, or is nested too deeply")?;
    let number = |field: usize| performative.fields.get(field).copied().flatten();
    match performative.code {
        Some(TRANSFER) => {
            let link = (u16::from_be_bytes([c0, c1]), number(0).unwrap_or_default());
            let message = messages.entry(link).or_default();
            message.extend_from_slice(payload);
            if message.len() > LARGEST_MESSAGE {
                return Err("a message does not end");
            }
            if number(5) == Some(1) {
                return Ok(());
            }
            let sound = are_values(message);
            messages.remove(&link);
            if sound { Ok(()) } else { Err("a message cannot be read, or is nested too deeply") }
        }
        Some(DISPOSITION) => {
            let first = number(1).unwrap_or_default();
            let settled = number(2).unwrap_or(first).saturating_sub(first);
            if settled > MOST_SETTLED { Err("a disposition settles more than was sent") } else { Ok(()) }
        }
        Some(_) => Ok(()),
        None => Err("a frame does not begin with a performative"),
    }
}

/// Tells whether nothing but whole values stands there, none nested too deeply.
pub(super) fn are_values(mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let Some((_, rest)) = value(bytes, DEEPEST) else { return false };
        bytes = rest;
    }
    true
}

/// What is worth knowing about a value.
#[derive(Default)]
struct Value {
    /// The number, if it is one; a truth is 1 or 0.
    number: Option<u64>,
    /// The code, if it is described by one.
    code: Option<u64>,
    /// The numbers among its members, if it is a list.
    fields: Vec<Option<u64>>,
}

/// Reads one value that is nested no deeper than `levels`, and gives what follows (AMQP 1.0, section 1.6).
fn value(bytes: &[u8], levels: u8) -> Option<(Value, &[u8])> {
    let levels = levels.checked_sub(1)?;
    let (&constructor, rest) = bytes.split_first()?;
    construct(constructor, rest, levels)
}

/// How many values without a constructor of their own stand there.
fn elements_of(constructor: u8, mut bytes: &[u8]) -> Option<usize> {
    let mut count = 0;
    while !bytes.is_empty() {
        (_, bytes) = construct(constructor, bytes, 1)?;
        count += 1;
    }
    Some(count)
}

fn construct(constructor: u8, rest: &[u8], levels: u8) -> Option<(Value, &[u8])> {
    if constructor == 0 {
        let (descriptor, rest) = value(rest, 1)?;
        let (described, rest) = value(rest, levels)?;
        return Some((Value { code: descriptor.number, ..described }, rest));
    }
    let (width, rest) = match constructor >> 4 {
        4 => (0, rest),
        5..=9 => (1 << ((constructor >> 4) - 5), rest),
        0xa | 0xc | 0xe => length(1, rest)?,
        0xb | 0xd | 0xf => length(4, rest)?,
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(width)?;
    let size_of_count = if constructor >> 4 & 1 == 0 { 1 } else { 4 };
    let found = match constructor >> 4 {
        4 => Value {
            number: matches!(constructor, 0x41..=0x44).then(|| u64::from(constructor == 0x41)),
            ..Value::default()
        },
        5..=8 => Value {
            number: Some(content.iter().fold(0, |all, byte| all << 8 | u64::from(*byte))),
            ..Value::default()
        },
        0xc | 0xd => {
            let (count, mut members) = length(size_of_count, content)?;
            let mut fields = Vec::new();
            while !members.is_empty() {
                let (member, rest) = value(members, levels)?;
                fields.push(member.number);
                members = rest;
            }
            let is_map = constructor & 0xf == 1;
            if fields.len() != count || (is_map && count % 2 == 1) {
                return None;
            }
            Value { fields, ..Value::default() }
        }
        0xe | 0xf => {
            let (count, elements) = length(size_of_count, content)?;
            // The elements share a constructor. Clients send arrays of symbols, none of lists or of nothing.
            let fits = elements.split_first().map_or(count == 0, |(constructor, elements)| {
                matches!(constructor >> 4, 5..=0xb) && elements_of(*constructor, elements) == Some(count)
            });
            fits.then(Value::default)?
        }
        _ => Value::default(),
    };
    Some((found, rest))
}

fn length(width: usize, bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_at_checked(width)?;
    Some((number.iter().fold(0, |all, byte| all << 8 | usize::from(*byte)), rest))
}

/// Length, data offset, type and channel.
const PREFIX: u32 = 8;
const TRANSFER: u64 = 0x14;
const DISPOSITION: u64 = 0x15;
const DEEPEST: u8 = 32;
const LARGEST_MESSAGE: usize = 1024 * 1024;
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
    fn frames_go_on_when_they_are_complete() {
        let all = [frame(&[]), frame(&[0, 0x53, 0x18, 0x45]), transfer(false, &[0, 0x53, 0x75, 0xa0, 1, 7])]
            .concat();
        let mut frames = Frames::default();

        let gone: Vec<u8> = all.iter().flat_map(|byte| frames.take(&[*byte]).unwrap()).collect();

        assert_eq!(gone, all);
    }

    #[test]
    fn lengths_are_judged_before_the_frame_is_there() {
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
    fn counts_and_lengths_have_to_be_true() {
        for bytes in [
            &[0xc0, 2, 2, 0x40][..],
            &[0xc1, 2, 1, 0x40],
            &[0xb0, 0xff, 0xff, 0xff, 0xff],
            &[0xf0, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0x40],
            &[0xe0, 7, 2, 0xb1, 1, 0x9d, 0x3f, 0xfe, 0xff],
            &[0, 0x53],
            &[0x10],
        ] {
            assert!(!are_values(bytes), "{bytes:?}");
        }
        assert!(are_values(&[0xe0, 5, 2, 0xa3, 1, b'a', 0, 0xa1, 0, 0xc1, 3, 2, 0x40, 0x41]));
    }

    #[test]
    fn a_disposition_settles_a_few() {
        let disposition = |last: u32| {
            frame(&[&[0, 0x53, 0x15, 0xc0, 8, 3, 0x41, 0x43, 0x70][..], &last.to_be_bytes()].concat())
        };

        assert!(Frames::default().take(&disposition(9)).is_ok());
        assert!(Frames::default().take(&disposition(u32::MAX)).is_err());
    }
}
