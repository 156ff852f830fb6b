//! A place in the journal, from which a reader goes on later.
//!
//! | the reader gives | it gets the entries |
//! | --- | --- |
//! | a cursor of this journal | with larger numbers |
//! | a cursor from before a reset or a restart | all that are kept, and that it begins anew |
//! | a number | with larger numbers |
//! | a number that the journal has not reached, because it was reset | all that are kept |

use std::fmt;

/// The place behind an entry. As text, the number of the journal in hexadecimal digits, `-`, and that of the
/// entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The number of the journal, which every reset and every start changes.
    pub(crate) journal: u64,
    pub(crate) seq: u64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.journal, self.seq)
    }
}

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    Number(u64),
    Cursor(Cursor),
}

impl Since {
    /// Reads a number or a cursor; `None` if the text is neither.
    pub(crate) fn read(text: &str) -> Option<Self> {
        match text.split_once('-') {
            None => number(text).map(Since::Number),
            Some((journal, seq)) => {
                let is_hex = journal.len() == 16 && journal.bytes().all(|byte| byte.is_ascii_hexdigit());
                let journal = u64::from_str_radix(journal, 16).ok().filter(|_| is_hex)?;
                Some(Since::Cursor(Cursor { journal, seq: number(seq)? }))
            }
        }
    }

    /// The number behind which a reader of this journal begins, and whether its cursor is of another one.
    pub(super) fn resolve(self, end: Cursor) -> (u64, bool) {
        match self {
            Since::Number(seq) if seq > end.seq => (0, false),
            Since::Number(seq) => (seq, false),
            Since::Cursor(cursor) if cursor.journal == end.journal => (cursor.seq, false),
            Since::Cursor(_) => (0, true),
        }
    }
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let cursor = Cursor { journal: 0x18a3, seq: 57 };

        assert_eq!(cursor.to_string(), "00000000000018a3-57");
        assert_eq!(Since::read(&cursor.to_string()), Some(Since::Cursor(cursor)));
        assert_eq!(Since::read("57"), Some(Since::Number(57)));
        for text in ["", "-", "-1", "+1", "1.5", "x", "18a3-57", "00000000000018a3-", "+0000000000018a3-1"] {
            assert_eq!(Since::read(text), None, "{text}");
        }
        assert_eq!(Since::read("18446744073709551616"), None, "larger than 64 bits");
    }

    #[test]
    fn a_reader_from_before_a_reset_begins_anew() {
        let end = Cursor { journal: 2, seq: 5 };

        for (since, wanted) in [
            (Since::Number(3), (3, false)),
            (Since::Number(5), (5, false)),
            (Since::Number(6), (0, false)),
            (Since::Cursor(Cursor { journal: 2, seq: 4 }), (4, false)),
            (Since::Cursor(Cursor { journal: 1, seq: 4 }), (0, true)),
        ] {
            assert_eq!(since.resolve(end), wanted, "{since:?}");
        }
    }
}
