//! Why a state cannot be restored.

use std::fmt;

use serde_json::error::Category;

use crate::report;
use crate::saved::COUNT_TOO_HIGH;

/// Why a saved state cannot be restored. `{:?}` is the message. It shows no key.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// A later version of the emulator has written the state.
    #[error(
        "the state has version {0}, and this emulator ({emulator}) reads version {VERSION}: use the emulator \
         that wrote it, or a later one",
        emulator = env!("CARGO_PKG_VERSION")
    )]
    Newer(u64),
    /// The text is not a state, is cut off, or breaks a rule; the text says where and why.
    #[error("the state cannot be restored: {0}")]
    Invalid(String),
    /// The state belongs to an emulator with another ID scope or other hubs.
    #[error("the state cannot be restored here: {0}")]
    OtherService(String),
}

impl StateError {
    pub(super) fn invalid(member: &str, why: String) -> Self {
        StateError::Invalid(format!("{member}: {why}"))
    }

    /// Names the member that an error is about.
    pub(super) fn within(member: &'static str) -> impl FnOnce(String) -> Self {
        move |why| Self::invalid(member, why)
    }

    /// Describes an error of the parser without the values that it shows, which may be keys.
    pub(super) fn unreadable(error: &serde_json::Error) -> Self {
        let place = format!("at line {} column {}", error.line(), error.column());
        StateError::Invalid(match error.classify() {
            Category::Eof => format!("it is cut off {place}"),
            Category::Syntax => format!("it is not JSON: {error}"),
            Category::Io | Category::Data => {
                let text = error.to_string();
                if text.starts_with(COUNT_TOO_HIGH) {
                    return StateError::Invalid(text);
                }
                let what = ["unknown field `", "missing field `", "duplicate field `"].into_iter().find_map(
                    |beginning| {
                        let (name, _) = text.strip_prefix(beginning)?.split_once('`')?;
                        let is_name = name.len() <= 32 && name.bytes().all(|b| b.is_ascii_alphanumeric());
                        is_name.then(|| format!("{} `{name}`", beginning.trim_end_matches(" field `")))
                    },
                );
                match what {
                    Some(what) => format!("{what} {place}", what = what.replace(" `", " member `")),
                    None => format!("a value has a wrong type or form {place}"),
                }
            }
        })
    }
}

impl fmt::Debug for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        report::debug(f, self, |f| match self {
            Self::Newer(version) => f.debug_tuple("Newer").field(version).finish(),
            Self::Invalid(why) => f.debug_tuple("Invalid").field(why).finish(),
            Self::OtherService(why) => f.debug_tuple("OtherService").field(why).finish(),
        })
    }
}

/// The version of the saved form. A change of the form that an earlier emulator cannot read increases it.
pub(super) const VERSION: u64 = 1;
