//! Reads JSON that a peer sent. As values in memory a text can take a hundred times its own size, so what it
//! will take is estimated before it is parsed. Pure.

use serde::de::DeserializeOwned;

use crate::{Error, ErrorKind, Result};

/// Reads a JSON text whose values take at most `limit` bytes of memory by an estimate that is on the high side.
///
/// Transports and clients limit the size of a text. This limits what becomes of it: a text of many small values,
/// such as `[{"":0},{"":0}]`, takes 100 times its size once it is parsed.
///
/// ```
/// use azure_dps_core::plumbing::read_json;
///
/// let numbers: Vec<u8> = read_json(b"[1,2,3]", 64 * 1024)?;
/// assert_eq!(numbers, [1, 2, 3]);
/// assert!(read_json::<Vec<u8>>("[1,2,3]".as_bytes(), 100).is_err());
/// # Ok::<(), azure_dps_core::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Protocol`] when the text is beyond the limit, is not JSON, or has another form than `T`. No value
/// of the text is quoted.
pub fn read_json<T: DeserializeOwned>(text: &[u8], limit: usize) -> Result<T> {
    if cost(text) > limit {
        let message = format!("the answer has too many JSON values: they would take more than {limit} bytes");
        return Err(Error::new(ErrorKind::Protocol, message));
    }
    serde_json::from_slice(text).map_err(|why| Error::from_json(&why))
}

/// How many bytes the values of a text take at most, whatever type they are read into.
fn cost(text: &[u8]) -> usize {
    let (mut cost, mut in_string, mut escaped) = (text.len(), false, false);
    for byte in text {
        cost += match byte {
            _ if escaped => {
                escaped = false;
                0
            }
            b'\\' if in_string => {
                escaped = true;
                0
            }
            b'"' => {
                in_string = !in_string;
                QUOTE
            }
            _ if in_string => 0,
            b',' => COMMA,
            b':' => COLON,
            b'[' => ARRAY,
            b'{' => OBJECT,
            _ => 0,
        };
    }
    cost
}

/// Half of what a string takes besides its text.
const QUOTE: usize = 16;
/// The place of an element or a member, of which collections reserve up to twice as many as they have.
const COMMA: usize = 100;
/// The place of a member's name.
const COLON: usize = 80;
/// The first elements of an array, for which room is made at once.
const ARRAY: usize = 160;
/// A node of the map that `serde_json` keeps members in, which has room for 11.
const OBJECT: usize = 650;

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn texts_of_many_small_values_are_refused_before_they_are_parsed() {
        for item in ["[0]", "[[]]", r#"{"":0}"#, r#""""#, "0", r#"{"a":{"b":{}}}"#] {
            let wide = format!("[{}]", vec![item; 20_000].join(","));
            let error = read_json::<Value>(wide.as_bytes(), 1024 * 1024).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol, "{item}");
            assert!(error.to_string().contains("too many JSON values"), "{error}");
            assert!(read_json::<Value>(wide.as_bytes(), 64 * 1024 * 1024).is_ok(), "{item}");
        }
    }

    #[test]
    fn signs_inside_strings_cost_nothing() {
        let text = format!(r#""{}""#, r#"[{,:\\\""#.repeat(10_000));
        assert!(read_json::<String>(text.as_bytes(), text.len() + 2 * QUOTE).is_ok());
    }

    #[test]
    fn what_is_not_json_is_an_error_whatever_the_limit_says() {
        for text in ["", "[", "{\"a\":", "\"", "\\", &"[".repeat(500)] {
            let error = read_json::<Value>(text.as_bytes(), usize::MAX).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol, "{text}");
        }
    }
}
