//! The encoding of AMQP values. The library decodes nested values by recursion, allocates as much as a length
//! says, and expects that maps have whole pairs, so everything it decodes is checked here first. Pure.
//!
//! Source: AMQP 1.0, part 1.6.

/// Returns whether the bytes are a sequence of values that are neither nested too deeply nor too many. One
/// byte can be a value, for which the library allocates about a hundred. The function reads each byte a fixed
/// number of times and keeps at most [`DEEPEST`] levels.
pub(crate) fn are_values(bytes: &[u8]) -> bool {
    let mut levels = vec![Level { rest: bytes, count: None, seen: 0, depth: 0 }];
    let mut left = MOST_VALUES;
    while let Some(level) = levels.last_mut() {
        if level.rest.is_empty() {
            if level.count.is_some_and(|count| count != level.seen) {
                return false;
            }
            levels.pop();
            continue;
        }
        let mut depth = level.depth;
        while let [DESCRIBED, rest @ ..] = level.rest {
            depth += 1;
            let Some((descriptor, rest)) = Item::split(rest) else { return false };
            if depth > DEEPEST || !descriptor.describes() {
                return false;
            }
            level.rest = rest;
        }
        let Some((item, rest)) = Item::split(level.rest) else { return false };
        level.rest = rest;
        level.seen += 1;
        match left.checked_sub(1 + item.elements()) {
            Some(fewer) => left = fewer,
            None => return false,
        }
        match item.inside() {
            Inside::Nothing => {}
            Inside::Values(inside, count) if depth < DEEPEST => {
                levels.push(Level { rest: inside, count: Some(count), seen: 0, depth: depth + 1 });
            }
            Inside::Values(..) | Inside::Malformed => return false,
        }
    }
    true
}

/// A sequence of values: those of a list or a map, or the outermost ones, which have no count.
struct Level<'a> {
    rest: &'a [u8],
    count: Option<u32>,
    seen: u32,
    depth: usize,
}

/// One value without a descriptor.
pub(super) struct Item<'a> {
    pub(super) constructor: u8,
    /// The bytes after the constructor and, for values of variable width, after the size and the count.
    pub(super) content: &'a [u8],
    count: u32,
}

enum Inside<'a> {
    Nothing,
    Values(&'a [u8], u32),
    Malformed,
}

impl<'a> Item<'a> {
    pub(super) fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&constructor, rest) = bytes.split_first()?;
        Self::of(constructor, rest)
    }

    /// A value whose constructor is not in front of it, as in an array.
    fn of(constructor: u8, rest: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (size, rest) = match constructor >> 4 {
            0x4 => (0, rest),
            0x5 => (1, rest),
            0x6 => (2, rest),
            0x7 => (4, rest),
            0x8 => (8, rest),
            0x9 => (16, rest),
            0xa | 0xc | 0xe => small(rest)?,
            0xb | 0xd | 0xf => large(rest)?,
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(size as usize)?;
        let (count, content) = match constructor >> 4 {
            0xc | 0xe => small(content)?,
            0xd | 0xf => large(content)?,
            _ => (0, content),
        };
        Some((Self { constructor, content, count }, rest))
    }

    /// Splits off a value that may be described, without its descriptors.
    pub(super) fn split_described(mut bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        while let [DESCRIBED, rest @ ..] = bytes {
            bytes = Self::split(rest)?.1;
        }
        Self::split(bytes)
    }

    /// The number of elements of an array, which are not checked as values.
    fn elements(&self) -> usize {
        if matches!(self.constructor >> 4, 0xe | 0xf) { self.count as usize } else { 0 }
    }

    fn inside(&self) -> Inside<'a> {
        match self.constructor >> 4 {
            0xc | 0xd if self.is_map() && self.count % 2 == 1 => Inside::Malformed,
            0xc | 0xd => Inside::Values(self.content, self.count),
            // An array names the constructor of its elements once. Arrays of compound values are refused,
            // because the library decodes them by recursion; the service only sends arrays of symbols.
            0xe | 0xf => match self.content.split_first() {
                None if self.count == 0 => Inside::Nothing,
                Some((constructor @ 0x50..=0xbf, elements)) if self.are_elements(*constructor, elements) => {
                    Inside::Nothing
                }
                _ => Inside::Malformed,
            },
            _ => Inside::Nothing,
        }
    }

    fn are_elements(&self, constructor: u8, mut bytes: &'a [u8]) -> bool {
        let mut seen = 0;
        while !bytes.is_empty() {
            let Some((_, rest)) = Self::of(constructor, bytes) else { return false };
            bytes = rest;
            seen += 1;
        }
        seen == self.count
    }

    fn is_map(&self) -> bool {
        matches!(self.constructor, 0xc1 | 0xd1)
    }

    /// Whether it can be a descriptor: a number or a symbol.
    fn describes(&self) -> bool {
        matches!(self.constructor, 0x44 | 0x53 | 0x80 | 0xa3 | 0xb3)
    }

    /// An unsigned number of any width.
    pub(super) fn number(&self) -> Option<u64> {
        match self.constructor {
            0x43 | 0x44 | 0x50 | 0x52 | 0x53 | 0x60 | 0x70 | 0x80 => {
                Some(self.content.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
            }
            _ => None,
        }
    }

    pub(super) fn is_true(&self) -> bool {
        self.constructor == 0x41 || (self.constructor == 0x56 && self.content != [0])
    }
}

fn small(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first()?;
    Some((u32::from(*number), rest))
}

fn large(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u32::from_be_bytes(*number), rest))
}

pub(super) const DESCRIBED: u8 = 0x00;
/// A message of the service has a few levels. The library has no limit: it would overflow the stack.
pub(super) const DEEPEST: usize = 32;
/// The limit of values in one frame or message. Those of the service have about thirty.
const MOST_VALUES: usize = 4_096;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_follow_each_other_and_end_where_the_bytes_end() {
        for bytes in [
            &[][..],
            &[0x40],
            &[0x43, 0xa1, 1, b'x'],
            &[0, 0x53, 0x75, 0xa0, 2, 1, 2],
            &[0, 0xa3, 3, b'a', b':', b'b', 0xc0, 4, 1, 0xb1, 0, 0],
            &[0xe0, 5, 2, 0xa3, 1, b'a', 0],
        ] {
            let whole = bytes.len() != 12;
            assert_eq!(are_values(bytes), whole, "{bytes:?}");
        }
    }

    #[test]
    fn lengths_and_counts_that_do_not_fit_are_refused() {
        for (what, bytes) in [
            ("four GiB", &[0xb0, 0xff, 0xff, 0xff, 0xff, 1][..]),
            ("a list of two with one element", &[0xc0, 2, 2, 0x40]),
            ("a list with more elements than it counts", &[0xc0, 3, 1, 0x40, 0x40]),
            ("half a pair", &[0xc1, 2, 1, 0x40]),
            ("four billion nulls", &[0xf0, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0x40]),
            (
                "an array with a symbol that is longer than the array",
                &[0xe0, 7, 2, 0xb1, 1, 0x9d, 0x3f, 0xfe, 0xff],
            ),
            ("an array of lists", &[0xe0, 4, 1, 0xc0, 1, 0]),
            ("a described value without a value", &[0, 0x53, 0x75]),
            ("a descriptor that is neither a number nor a symbol", &[0, 0x40, 0x40]),
            ("an unknown constructor", &[0x10]),
        ] {
            assert!(!are_values(bytes), "{what}");
        }
    }

    #[test]
    fn values_without_number_are_refused_whether_in_lists_in_arrays_or_beside_each_other() {
        let large = |constructor: u8, content: &[u8], count: u32| {
            let size = u32::try_from(4 + content.len()).unwrap();
            [&[constructor][..], &size.to_be_bytes(), &count.to_be_bytes(), content].concat()
        };
        for (number, fits) in [(1_000, true), (10_000, false)] {
            let values = vec![0x40; number as usize];
            assert_eq!(are_values(&values), fits, "beside each other");
            assert_eq!(are_values(&large(0xd0, &values, number)), fits, "in a list");
            assert_eq!(are_values(&large(0xd1, &values, number)), fits, "in a map");
            let elements = [&[0x50][..], &values].concat();
            assert_eq!(are_values(&large(0xf0, &elements, number)), fits, "in an array");
            assert_eq!(are_values(&[0, 0x53, 0x75, 0xa0, 0].repeat(number as usize)), fits, "sections");
        }
    }

    /// One way to put a value into another.
    #[derive(Clone, Copy, Debug)]
    enum Wrap {
        ByNumber,
        BySymbol,
        List,
        Map,
        /// The following are refused at any depth: no peer sends them, and the library decodes them by
        /// recursion.
        DescribedDescriptor,
        ListAsDescriptor,
        ArrayAsDescriptor,
        ArrayOfLists,
        ArrayOfDescribed,
        ArrayOfArrays,
    }

    impl Wrap {
        const ACCEPTED: [Self; 4] = [Self::ByNumber, Self::BySymbol, Self::List, Self::Map];
        const REFUSED: [Self; 6] = [
            Self::DescribedDescriptor,
            Self::ListAsDescriptor,
            Self::ArrayAsDescriptor,
            Self::ArrayOfLists,
            Self::ArrayOfDescribed,
            Self::ArrayOfArrays,
        ];

        fn around(self, inner: &[u8]) -> Vec<u8> {
            let sized = |constructor: u8, count: u32, content: &[u8]| {
                let size = u32::try_from(4 + content.len()).unwrap();
                [&[constructor][..], &size.to_be_bytes(), &count.to_be_bytes(), content].concat()
            };
            let array = |constructor: u8| sized(0xf0, 1, &[&[constructor], inner].concat());
            match self {
                Self::ByNumber => [&[0, 0x80, 0, 0, 0, 0, 0, 0, 0, 1], inner].concat(),
                Self::BySymbol => [&[0, 0xb3, 0, 0, 0, 1, b'a'], inner].concat(),
                Self::List => sized(0xd0, 2, &[&[0x43], inner].concat()),
                Self::Map => sized(0xd1, 2, &[inner, &[0x45]].concat()),
                Self::DescribedDescriptor => [&[0, 0, 0x53, 1], inner, &[0x40]].concat(),
                Self::ListAsDescriptor => [&[0][..], &sized(0xd0, 1, inner), &[0x40]].concat(),
                Self::ArrayAsDescriptor => [&[0][..], &array(0x53), &[0x40]].concat(),
                Self::ArrayOfLists => array(0xd0),
                Self::ArrayOfDescribed => array(0),
                Self::ArrayOfArrays => array(0xf0),
            }
        }
    }

    fn wraps(depth: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<Wrap>> {
        prop::collection::vec(prop::sample::select(&Wrap::ACCEPTED), depth)
    }

    fn nested(wraps: &[Wrap]) -> Vec<u8> {
        wraps.iter().fold(vec![0x40], |inner, wrap| wrap.around(&inner))
    }

    /// Checks on a small stack, which deep recursion would overflow.
    fn judge(bytes: Vec<u8>) -> bool {
        let checking = std::thread::Builder::new().stack_size(64 * 1024).spawn(move || are_values(&bytes));
        checking.unwrap().join().unwrap()
    }

    proptest! {
        #[test]
        fn mixed_values_are_refused_exactly_when_they_are_nested_too_deeply(
            wraps in prop_oneof![wraps(0..=DEEPEST + 4), wraps(0..1_500)], times in 1_usize..4,
        ) {
            prop_assert_eq!(judge(nested(&wraps).repeat(times)), wraps.len() <= DEEPEST);
        }

        #[test]
        fn values_that_no_peer_nests_are_refused_at_any_depth(
            inner in wraps(0..4), odd in prop::sample::select(&Wrap::REFUSED), outer in wraps(0..4),
            times in 1_usize..500,
        ) {
            let odd = (0..times).fold(nested(&inner), |inner, _| odd.around(&inner));
            prop_assert!(!judge(outer.iter().fold(odd, |inner, wrap| wrap.around(&inner))));
        }

        #[test]
        fn checking_repeated_bytes_of_any_kind_ends(
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
    fn descriptors_of_descriptors_are_refused() {
        assert!(!judge(vec![0; 60_000]));
    }
}
