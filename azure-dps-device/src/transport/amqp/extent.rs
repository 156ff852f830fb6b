//! The lengths inside encoded values. The library allocates what they announce before it looks whether that much came.
//!
//! Source: AMQP 1.0, part 1.2.

/// Whether encoded values, one behind the other, end where their lengths say, and no length leads out of them.
///
/// Arrays of compound values and of values without a width are none that a peer of ours has a use for.
pub(crate) fn fits(mut values: &[u8]) -> bool {
    while let Some((code, rest)) = values.split_first() {
        let Some(rest) = behind(*code, rest) else { return false };
        values = rest;
    }
    true
}

/// What stands behind a value, or behind the head of a compound one, whose members are values themselves.
fn behind(code: u8, bytes: &[u8]) -> Option<&[u8]> {
    let wide = code & 0x10 != 0;
    match code >> 4 {
        0 if code == DESCRIBED => Some(bytes),
        4 => Some(bytes),
        width @ 5..=9 => bytes.get(1 << (width - 5)..),
        0xa | 0xb => Some(sized(bytes, wide)?.1),
        0xc | 0xd => {
            let (members, _) = sized(bytes, wide)?;
            let (count, _) = number(members, wide)?;
            // The library counts the members of a map down by two.
            (code & MAP == 0 || count % 2 == 0).then_some(())?;
            Some(number(number(bytes, wide)?.1, wide)?.1)
        }
        0xe | 0xf => {
            let (array, rest) = sized(bytes, wide)?;
            let (count, array) = number(array, wide)?;
            let (code, mut elements) = array.split_first()?;
            matches!(code >> 4, 5..=0xb).then_some(())?;
            for _ in 0..count {
                elements = behind(*code, elements)?;
            }
            elements.is_empty().then_some(rest)
        }
        _ => None,
    }
}

/// The bytes that a length announces, and those behind them.
fn sized(bytes: &[u8], wide: bool) -> Option<(&[u8], &[u8])> {
    let (length, bytes) = number(bytes, wide)?;
    bytes.split_at_checked(length)
}

/// A length or a count, of four bytes or of one.
fn number(bytes: &[u8], wide: bool) -> Option<(usize, &[u8])> {
    if wide {
        let (number, rest) = bytes.split_first_chunk()?;
        Some((usize::try_from(u32::from_be_bytes(*number)).ok()?, rest))
    } else {
        let (number, rest) = bytes.split_first()?;
        Some((usize::from(*number), rest))
    }
}

/// The constructor in front of a descriptor, which is a value, and of what it describes.
const DESCRIBED: u8 = 0;
/// What tells the constructor of a map from that of a list.
const MAP: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_every_width_fit() {
        for values in [
            &b""[..],
            b"\x40\x56\x01\x60\0\0\x70\0\0\0\0\x80\0\0\0\0\0\0\0\0\x98................",
            b"\xa3\x05PLAIN\xb0\0\0\0\x02ab",
            b"\0\x53\x44\xc0\x03\x01\x50\x00",
            b"\0\x53\x42\xd0\0\0\0\x07\0\0\0\x01\xa0\x01x",
            b"\0\x53\x40\xc0\x10\x01\xe0\x0d\x02\xa3\x05PLAIN\x04EXTR",
            b"\xf0\0\0\0\x09\0\0\0\x02\x60\0\x01\0\x02",
        ] {
            assert!(fits(values), "{values:x?}");
        }
    }

    #[test]
    fn a_length_that_leads_out_of_the_values_is_seen() {
        for values in [
            &b"\xa0\x02x"[..],
            b"\xb0\xff\xff\xff\xff\x01",
            b"\0\x53\x42\xc0\x07\x01\xb0\xff\xff\xff\xff\x01",
            b"\0\xb3\xb3\xb3\xb3\x53\x42",
            b"\xc0\x05\x01\x40",
            b"\xc0\0",
            b"\xd0\xff\xff\xff\xff\0\0\0\x01",
            b"\xe0\x05\x01\xb3\xff\xff\xff",
            b"\x71\0",
        ] {
            assert!(!fits(values), "{values:x?}");
        }
    }

    #[test]
    fn an_array_has_the_elements_that_it_announces_and_no_more() {
        for array in [
            &b"\xe0\x03\x02\x53\x01"[..],
            b"\xe0\x04\x01\x53\x01\x02",
            b"\xf0\0\0\0\x05\xff\xff\xff\xff\x40",
            b"\xe0\x03\x01\x45\x45",
            b"\xe0\x04\x01\xc0\x01\0",
            b"\xe0\x01\0",
        ] {
            assert!(!fits(array), "{array:x?}");
        }
    }

    #[test]
    fn a_map_has_pairs() {
        assert!(fits(b"\xc1\x05\x02\xa1\x01a\x40"));
        assert!(fits(b"\xd1\0\0\0\x04\0\0\0\0"));
        assert!(!fits(b"\xc1\x04\x01\xa1\x01a"));
        assert!(!fits(b"\xd1\0\0\0\x05\0\0\0\x01\x40"));
    }

    #[test]
    fn what_is_no_constructor_is_refused() {
        for code in [0x01, 0x10, 0x2f, 0x30] {
            assert!(!fits(&[code]), "{code:x}");
        }
    }
}
