//! Walks over encoded values without decoding them: checks that they are complete and not nested too deeply,
//! and reads the numbers of a performative. Pure.
//!
//! Nothing here is recursive, so that nested values cannot exhaust the stack, and each byte is read a fixed
//! number of times, so that no input takes more than linear time.
//!
//! Source: AMQP 1.0, part 1.6 (encodings) and part 2.7 (performatives).

/// Returns whether the bytes are complete values, not nested too deeply and not too many. Their number is
/// limited because one byte can be a value, for which the library needs a hundred bytes of memory.
pub(super) fn are_values(mut bytes: &[u8]) -> bool {
    let mut left = MOST_VALUES;
    while !bytes.is_empty() {
        let Some(rest) = after_value(bytes, &mut left) else { return false };
        bytes = rest;
    }
    true
}

/// A described list with a numeric code, as every performative is.
pub(super) struct Performative<'b> {
    pub(super) code: u64,
    /// The fields that are numbers; a boolean is 1 or 0.
    fields: Vec<Option<u64>>,
    /// The bytes after it.
    pub(super) payload: &'b [u8],
}

impl<'b> Performative<'b> {
    pub(super) fn read(body: &'b [u8]) -> Option<Self> {
        let payload = after_value(body, &mut { MOST_VALUES })?;
        let (DESCRIBED, descriptor) = first(body)? else { return None };
        let (Part::Plain { number: Some(code), .. }, list) = split(descriptor)? else { return None };
        let (Part::Compound { content, is_list: true, .. }, _) = split(list)? else { return None };
        let mut fields = Vec::new();
        let mut rest = content;
        while !rest.is_empty() {
            fields.push(number(rest));
            rest = after_value(rest, &mut { MOST_VALUES })?;
        }
        Some(Performative { code, fields, payload })
    }

    pub(super) fn number(&self, field: usize) -> Option<u64> {
        self.fields.get(field).copied().flatten()
    }

    pub(super) fn is_true(&self, field: usize) -> bool {
        self.number(field) == Some(1)
    }
}

fn number(value: &[u8]) -> Option<u64> {
    match split(value)? {
        (Part::Plain { number, .. }, _) => number,
        _ => None,
    }
}

/// A value whose members are still to come.
struct Open<'b> {
    missing: usize,
    /// The bytes after a compound value; a described value ends where its only member ends.
    after: Option<&'b [u8]>,
}

/// Walks over one value and returns the bytes after it; `left` counts down the values that are still allowed.
fn after_value<'b>(bytes: &'b [u8], left: &mut usize) -> Option<&'b [u8]> {
    let mut open: Vec<Open<'_>> = Vec::new();
    let mut rest = bytes;
    loop {
        *left = left.checked_sub(1)?;
        match split(rest)? {
            (Part::Plain { elements, .. }, after) => {
                *left = left.checked_sub(elements)?;
                rest = after;
            }
            (Part::Described, value) => {
                open.push(Open { missing: 1, after: None });
                rest = value;
            }
            (Part::Compound { count, content, .. }, after) => {
                open.push(Open { missing: count, after: Some(after) });
                rest = content;
            }
        }
        if open.len() > DEEPEST {
            return None;
        }
        // Close every value that is complete, until one has another member.
        loop {
            let Some(innermost) = open.last_mut() else { return Some(rest) };
            if let Some(missing) = innermost.missing.checked_sub(1) {
                innermost.missing = missing;
                break;
            }
            match innermost.after {
                Some(_) if !rest.is_empty() => return None,
                Some(after) => rest = after,
                None => {}
            }
            open.pop();
        }
    }
}

/// The beginning of a value, without its members.
enum Part<'b> {
    /// A value without members, or an array, whose elements have none.
    Plain { number: Option<u64>, elements: usize },
    /// A descriptor; the described value follows.
    Described,
    /// A list or a map.
    Compound { count: usize, content: &'b [u8], is_list: bool },
}

/// Splits the beginning of a value from the bytes after it.
fn split(bytes: &[u8]) -> Option<(Part<'_>, &[u8])> {
    let (constructor, rest) = first(bytes)?;
    if constructor == DESCRIBED {
        let (descriptor, rest) = first(rest)?;
        // A number or a symbol, because the library reads no other descriptors.
        let describes = matches!(descriptor, 0x44 | 0x53 | 0x80 | 0xa3 | 0xb3);
        let (_, rest) = content(descriptor, rest).filter(|_| describes)?;
        return Some((Part::Described, rest));
    }
    let (inside, rest) = content(constructor, rest)?;
    let width_of_count = if constructor >> 4 & 1 == 0 { 1 } else { 4 };
    let part = match constructor >> 4 {
        4 => match constructor {
            // A list without members.
            0x45 => Part::Compound { count: 0, content: &[], is_list: true },
            0x41..=0x44 => Part::Plain { number: Some(u64::from(constructor == 0x41)), elements: 0 },
            _ => Part::Plain { number: None, elements: 0 },
        },
        5..=8 => Part::Plain { number: Some(big_endian(inside)), elements: 0 },
        0xc | 0xd => {
            let (count, content) = length(width_of_count, inside)?;
            let is_list = constructor & 0xf == 0;
            if !is_list && count % 2 == 1 {
                return None;
            }
            Part::Compound { count, content, is_list }
        }
        0xe | 0xf => {
            let (count, elements) = length(width_of_count, inside)?;
            (elements_in(elements)? == count).then_some(Part::Plain { number: None, elements: count })?
        }
        _ => Part::Plain { number: None, elements: 0 },
    };
    Some((part, rest))
}

/// The number of elements of an array, which share a constructor. Clients send arrays of symbols only;
/// elements that are compound, described or of width zero are refused.
fn elements_in(bytes: &[u8]) -> Option<usize> {
    let Some((&constructor, mut elements)) = bytes.split_first() else { return Some(0) };
    if !matches!(constructor >> 4, 5..=0xb) {
        return None;
    }
    let mut count = 0;
    while !elements.is_empty() {
        (_, elements) = content(constructor, elements)?;
        count += 1;
    }
    Some(count)
}

/// Splits the content that a constructor announces from the bytes after it.
fn content(constructor: u8, rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let (width, rest) = match constructor >> 4 {
        4 => (0, rest),
        5..=9 => (1 << ((constructor >> 4) - 5), rest),
        0xa | 0xc | 0xe => length(1, rest)?,
        0xb | 0xd | 0xf => length(4, rest)?,
        _ => return None,
    };
    rest.split_at_checked(width)
}

fn length(width: usize, bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_at_checked(width)?;
    Some((usize::try_from(big_endian(number)).ok()?, rest))
}

fn first(bytes: &[u8]) -> Option<(u8, &[u8])> {
    bytes.split_first().map(|(first, rest)| (*first, rest))
}

fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |all, byte| all << 8 | u64::from(*byte))
}

const DESCRIBED: u8 = 0;
/// Requests nest a few levels only.
const DEEPEST: usize = 32;
/// The limit for one frame or message; a request has about forty.
const MOST_VALUES: usize = 4_096;

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn too_many_values_are_refused_in_lists_in_arrays_and_in_sequence() {
        let long = |constructor: u8, count: u32, content: &[u8]| {
            let size = u32::try_from(4 + content.len()).unwrap();
            [&[constructor][..], &size.to_be_bytes(), &count.to_be_bytes(), content].concat()
        };
        for (count, fits) in [(1_000, true), (10_000, false)] {
            let nulls = vec![0x40; count as usize];
            let in_array = [&[0x50][..], &nulls].concat();
            assert_eq!(are_values(&nulls), fits);
            assert_eq!(are_values(&long(0xd0, count, &nulls)), fits);
            assert_eq!(are_values(&long(0xd1, count, &nulls)), fits);
            assert_eq!(are_values(&long(0xf0, count, &in_array)), fits);
            assert_eq!(are_values(&[0, 0x53, 0x75, 0xa0, 0].repeat(count as usize)), fits);
        }
    }

    /// A way to put a value into another.
    #[derive(Clone, Copy, Debug)]
    enum Wrap {
        Described,
        DescribedBySymbol,
        List,
        LongList,
        Map,
        LongMap,
    }

    impl Wrap {
        fn around(self, inner: &[u8]) -> Vec<u8> {
            let long = |constructor: u8, count: u32, members: &[u8]| {
                let size = u32::try_from(4 + members.len()).unwrap();
                [&[constructor][..], &size.to_be_bytes(), &count.to_be_bytes(), members].concat()
            };
            let short = |constructor: u8, count: u8, members: &[u8]| match u8::try_from(1 + members.len()) {
                Ok(size) => [&[constructor, size, count], members].concat(),
                Err(_) => long(constructor + 0x10, u32::from(count), members),
            };
            match self {
                Wrap::Described => [&[0, 0x53, 1], inner].concat(),
                Wrap::DescribedBySymbol => [&[0, 0xa3, 2, b'a', b'b'], inner].concat(),
                Wrap::List => short(0xc0, 2, &[inner, &[0x40]].concat()),
                Wrap::LongList => long(0xd0, 1, inner),
                Wrap::Map => short(0xc1, 2, &[&[0x43], inner].concat()),
                Wrap::LongMap => long(0xd1, 2, &[inner, &[0x43]].concat()),
            }
        }
    }

    /// Ways to nest that no client uses, and that are refused at any depth.
    #[derive(Clone, Copy, Debug)]
    enum Refused {
        DescribedDescriptor,
        ListAsDescriptor,
        ArrayAsDescriptor,
        ArrayOfLists,
        ArrayOfDescribed,
        ArrayOfArrays,
    }

    impl Refused {
        fn around(self, inner: &[u8]) -> Vec<u8> {
            let size = u32::try_from(5 + inner.len()).unwrap().to_be_bytes();
            let long = |constructor: u8, first: u8| {
                [&[constructor][..], &size, &[0, 0, 0, 1, first], inner].concat()
            };
            match self {
                Refused::DescribedDescriptor => [&[0, 0, 0x53, 1], inner, &[0x40]].concat(),
                Refused::ListAsDescriptor => [&[0][..], &long(0xd0, 0x40), &[0x40]].concat(),
                Refused::ArrayAsDescriptor => [&[0][..], &long(0xf0, 0x53), &[0x40]].concat(),
                Refused::ArrayOfLists => long(0xf0, 0xd0),
                Refused::ArrayOfDescribed => long(0xf0, 0),
                Refused::ArrayOfArrays => long(0xf0, 0xf0),
            }
        }
    }

    fn wraps(depth: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<Wrap>> {
        use Wrap::*;
        let any = prop::sample::select(vec![Described, DescribedBySymbol, List, LongList, Map, LongMap]);
        prop::collection::vec(any, depth)
    }

    fn refused() -> impl Strategy<Value = Refused> {
        use Refused::*;
        prop::sample::select(vec![
            DescribedDescriptor,
            ListAsDescriptor,
            ArrayAsDescriptor,
            ArrayOfLists,
            ArrayOfDescribed,
            ArrayOfArrays,
        ])
    }

    fn nested(wraps: &[Wrap]) -> Vec<u8> {
        wraps.iter().fold(vec![0x40], |inner, wrap| wrap.around(&inner))
    }

    /// Judges on a small stack, which recursion would overflow.
    fn judge(bytes: Vec<u8>) -> bool {
        thread::Builder::new()
            .stack_size(64 * 1024)
            .spawn(move || are_values(&bytes))
            .unwrap()
            .join()
            .unwrap()
    }

    proptest! {
        #[test]
        fn a_shallow_value_of_any_mixture_is_accepted(wraps in wraps(0..=DEEPEST)) {
            prop_assert!(judge(nested(&wraps)));
        }

        #[test]
        fn a_deep_value_of_any_mixture_is_refused(wraps in wraps(DEEPEST + 1..2_000)) {
            prop_assert!(!judge(nested(&wraps)));
        }

        #[test]
        fn values_in_sequence_are_not_deep(wraps in wraps(0..=DEEPEST), times in 1_usize..50) {
            prop_assert!(judge(nested(&wraps).repeat(times)));
        }

        #[test]
        fn nesting_that_no_client_uses_is_refused_at_any_depth(
            inner in wraps(0..4), odd in refused(), outer in wraps(0..4), times in 1_usize..500,
        ) {
            let odd = (0..times).fold(nested(&inner), |inner, _| odd.around(&inner));
            prop_assert!(!judge(outer.iter().fold(odd, |inner, wrap| wrap.around(&inner))));
        }

        #[test]
        fn the_walk_over_repeated_bytes_ends(
            unit in prop::collection::vec(prop_oneof![
                prop::sample::select(vec![0, 0x40, 0x45, 0x53, 0xa3, 0xc0, 0xc1, 0xd0, 0xd1, 0xe0, 0xf0]),
                any::<u8>(),
            ], 1..12),
            times in 1_usize..6_000,
        ) {
            judge(unit.repeat(times));
        }
    }

    #[test]
    fn wrong_counts_and_lengths_are_refused() {
        for bytes in [
            &[0xc0, 2, 2, 0x40][..],
            &[0xc0, 3, 1, 0x40, 0x40],
            &[0xc0, 2, 0, 0x40],
            &[0xc1, 2, 1, 0x40],
            &[0xd0, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0x40],
            &[0xb0, 0xff, 0xff, 0xff, 0xff],
            &[0xf0, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0x40],
            &[0xf0, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff],
            &[0xe0, 7, 2, 0xb1, 1, 0x9d, 0x3f, 0xfe, 0xff],
            &[0, 0x53],
            &[0, 0x40, 0x40],
            &[0x10],
        ] {
            assert!(!are_values(bytes), "{bytes:?}");
        }
        for bytes in [
            &[][..],
            &[0xe0, 5, 2, 0xa3, 1, b'a', 0, 0xa1, 0, 0xc1, 3, 2, 0x40, 0x41],
            &[0x45, 0xc0, 1, 0, 0xc0, 2, 1, 0x45, 0xe0, 1, 0],
        ] {
            assert!(are_values(bytes), "{bytes:?}");
        }
    }

    #[test]
    fn a_performative_is_a_described_list() {
        let body = [0, 0x53, 0x14, 0xc0, 8, 6, 0x43, 0x52, 7, 0x41, 0x40, 0xa1, 0, 0x42, 0xaa];
        assert!(Performative::read(&body).is_none(), "the list is longer than its members");
        let body = [0, 0x53, 0x14, 0xc0, 9, 6, 0x43, 0x52, 7, 0x41, 0x40, 0xa1, 0, 0x42, 0xaa];
        let performative = Performative::read(&body).unwrap();

        assert_eq!((performative.code, performative.payload), (0x14, &[0xaa][..]));
        assert_eq!(performative.fields, [Some(0), Some(7), Some(1), None, None, Some(0)]);
        for body in [&[0x45][..], &[0, 0x53, 1, 0x40], &[0, 0x53, 1, 0xc1, 1, 0], &[0, 0xa3, 1, b'a', 0x45]] {
            assert!(Performative::read(body).is_none(), "{body:?}");
        }
    }
}
