//! Reads the header of a DER element, and decides whether bytes are DER. Pure.
//!
//! Text that begins with the character `0`, as the output of `openssl s_client -showcerts` does, has the
//! first byte of DER. Only the length tells the two apart.
//!
//! | bytes | DER |
//! | --- | --- |
//! | 0x30, a length in its shortest form, and exactly so many bytes | yes |
//! | the same, with fewer or more bytes | no |
//! | a length with leading zeros, or a long form where the short form has room | no |
//! | an indefinite length (0x80), as in some .pfx files | no |
//! | another tag, text | no |

/// The tag of every certificate, private key and PKCS#12 file.
pub(crate) const SEQUENCE: u8 = 0x30;

/// A DER element and the bytes behind it.
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    /// Tag, length and content.
    pub(crate) whole: &'a [u8],
    pub(crate) content: &'a [u8],
    pub(crate) rest: &'a [u8],
}

/// Whether the bytes are one complete sequence in DER and nothing else.
pub(crate) fn is_der(bytes: &[u8]) -> bool {
    element(bytes).is_some_and(|element| element.tag == SEQUENCE && element.rest.is_empty())
}

/// The first element. `None` when it is cut off or its length is not in the shortest form.
pub(crate) fn element(bytes: &[u8]) -> Option<Element<'_>> {
    let (tag, header, length) = header(bytes)?;
    let (whole, rest) = bytes.split_at_checked(header.checked_add(length)?)?;
    Some(Element { tag, whole, content: whole.get(header..)?, rest })
}

/// The tag, the length of the header and the length of the content, which may be cut off.
pub(crate) fn header(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (&tag, bytes) = bytes.split_first()?;
    let (&first, bytes) = bytes.split_first()?;
    let Some(count) = first.checked_sub(0x80) else { return Some((tag, 2, usize::from(first))) };
    let count = usize::from(count);
    let digits = bytes.get(..count).filter(|_| (1..=4).contains(&count))?;
    let length = digits.iter().fold(0_usize, |sum, digit| (sum << 8) | usize::from(*digit));
    let is_shortest = length > 0x7f && digits.first() != Some(&0);
    is_shortest.then_some((tag, 2 + count, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_complete_sequence_with_the_shortest_length_is_der() {
        let with = |header: &[u8], length: usize| [header, &vec![7; length]].concat();
        for (bytes, expected) in [
            (with(&[0x30, 0], 0), true),
            (with(&[0x30, 0x7f], 127), true),
            (with(&[0x30, 0x81, 0x80], 128), true),
            (with(&[0x30, 0x82, 1, 0], 256), true),
            (with(&[0x30, 0x83, 1, 0, 0], 65536), true),
            (with(&[0x30, 0x82, 1, 0], 255), false),
            (with(&[0x30, 0x82, 1, 0], 257), false),
            (with(&[0x30, 0x81, 0x7f], 127), false),
            (with(&[0x30, 0x82, 0, 0x80], 128), false),
            (with(&[0x30, 0x80], 0), false),
            (with(&[0x30, 0x85, 0, 0, 0, 0, 1], 1), false),
            (with(&[0x31, 0], 0), false),
            (vec![0x30], false),
            (Vec::new(), false),
            (b"0 s:CN = device\n-----BEGIN CERTIFICATE-----\n".to_vec(), false),
        ] {
            assert_eq!(is_der(&bytes), expected, "{:?}", &bytes[..bytes.len().min(8)]);
        }
    }

    #[test]
    fn what_follows_an_element_is_apart_from_it() {
        let element = element(&[0x30, 2, 5, 0, 9]).unwrap();
        assert_eq!(
            (element.whole, element.content, element.rest),
            (&[0x30, 2, 5, 0][..], &[5, 0][..], &[9][..])
        );
    }
}
