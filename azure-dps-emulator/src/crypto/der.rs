//! Decides whether bytes are DER: the tag of a sequence (0x30), then a definite length in its shortest form
//! that fits the bytes exactly. Text may begin with 0x30 too: it is the character `0`.

/// Whether the bytes are one complete sequence in DER and nothing else.
pub(crate) fn is_der(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0x30) && total_length(bytes) == Some(bytes.len())
}

/// The length of the first element with its header, as the header states it. `None` unless it has the
/// shortest form.
pub(crate) fn total_length(bytes: &[u8]) -> Option<usize> {
    let (header, content) = match *bytes {
        [_, short @ 0..=0x7f, ..] => (2, usize::from(short)),
        [_, 0x81, a @ 0x80..=0xff, ..] => (3, usize::from(a)),
        [_, 0x82, a @ 1..=0xff, b, ..] => (4, usize::from(u16::from_be_bytes([a, b]))),
        [_, 0x83, a @ 1..=0xff, b, c, ..] => (5, u32::from_be_bytes([0, a, b, c]).try_into().ok()?),
        [_, 0x84, a @ 1..=0xff, b, c, d, ..] => (6, u32::from_be_bytes([a, b, c, d]).try_into().ok()?),
        _ => return None,
    };
    content.checked_add(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_complete_sequence_with_the_shortest_length_is_der() {
        let with = |header: &[u8], length: usize| [header, &vec![7; length]].concat();
        for (header, length) in [
            (&[0x30, 0][..], 0),
            (&[0x30, 0x7f], 0x7f),
            (&[0x30, 0x81, 0x80], 0x80),
            (&[0x30, 0x82, 1, 0], 0x100),
            (&[0x30, 0x83, 1, 0, 0], 0x1_0000),
            (&[0x30, 0x84, 1, 0, 0, 0], 0x100_0000),
        ] {
            assert!(is_der(&with(header, length)), "{header:x?}");
            assert!(!is_der(&with(header, length + 1)), "{header:x?}");
            assert!(length == 0 || !is_der(&with(header, length - 1)), "{header:x?}");
        }
        for (header, length) in [
            (&[0x30, 0x81, 0x7f][..], 0x7f),
            (&[0x30, 0x82, 0, 0x80], 0x80),
            (&[0x30, 0x80], 0),
            (&[0x31, 0], 0),
            (&[0x30], 0),
            (&[], 0),
            (b"0 s:CN = device\n-----BEGIN CERTIFICATE-----\n", 0),
        ] {
            assert!(!is_der(&with(header, length)), "{header:x?}");
        }
    }
}
