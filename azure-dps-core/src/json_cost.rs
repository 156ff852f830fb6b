//! Estimates the memory that the values of a JSON text take once it is parsed. Pure.
//!
//! The values of a text can take a hundred times its size, so readers compare the estimate with a limit before they
//! parse. The estimate is on the high side.

/// The upper estimate in bytes, whatever type the values are parsed into.
pub(crate) fn cost(text: &[u8]) -> usize {
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

/// Half of the memory of a string besides its text.
const QUOTE: usize = 16;
/// The slot of an element or a member; collections reserve up to twice as many slots as they use.
const COMMA: usize = 100;
/// The slot of a member's name.
const COLON: usize = 80;
/// The first elements of an array, which are reserved at once.
const ARRAY: usize = 160;
/// A node of the map of members in `serde_json`, which has room for 11.
const OBJECT: usize = 650;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_inside_strings_cost_nothing() {
        let text = format!(r#""{}""#, r#"[{,:\\\""#.repeat(10_000));
        assert_eq!(cost(text.as_bytes()), text.len() + 2 * QUOTE);
    }
}
