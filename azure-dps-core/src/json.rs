//! Parses the JSON of a peer within a limit of memory. Pure.

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::json_cost::cost;

/// Parses a JSON text whose values take at most `limit` bytes of memory, by an estimate that is on the high side.
///
/// Transports and clients limit the size of a text. This limits the memory of its values: a text of many small values,
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
/// [`ErrorKind::Protocol`] when the text exceeds the limit, is not JSON, or has another form than `T`. The message
/// quotes no value of the text.
pub fn read_json<T: DeserializeOwned>(text: &[u8], limit: usize) -> Result<T> {
    if cost(text) > limit {
        let message = format!("the answer has too many JSON values: they would take more than {limit} bytes");
        return Err(Error::new(ErrorKind::Protocol, message));
    }
    serde_json::from_slice(text).map_err(|why| Error::from_json(&why))
}

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
    fn a_text_that_is_not_json_is_an_error_with_any_limit() {
        for text in ["", "[", "{\"a\":", "\"", "\\", &"[".repeat(500)] {
            let error = read_json::<Value>(text.as_bytes(), usize::MAX).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol, "{text}");
        }
    }
}
