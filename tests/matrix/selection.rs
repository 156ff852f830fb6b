//! The rows and cases that run: all, or those that `DPS_MATRIX_ONLY` selects.

use std::fmt;

use crate::case::Case;
use crate::row::Title;

/// The text before `: ` is a part of the row's title, the text after it a part of the case's name.
#[derive(Debug)]
pub(crate) struct Selection(String);

impl Selection {
    pub(crate) fn read() -> Self {
        Self(std::env::var(VARIABLE).unwrap_or_default())
    }

    /// Selects one case.
    pub(crate) fn of(title: Title, case: &Case) -> Self {
        Self(format!("{title}: {}", case.name()))
    }

    pub(crate) fn has_row(&self, title: Title) -> bool {
        title.to_string().contains(self.parts().0)
    }

    pub(crate) fn has_case(&self, case: &Case) -> bool {
        case.name().contains(self.parts().1)
    }

    fn parts(&self) -> (&str, &str) {
        self.0.split_once(": ").unwrap_or((&self.0, ""))
    }
}

/// As it is set in a shell.
impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VARIABLE}='{}'", self.0)
    }
}

const VARIABLE: &str = "DPS_MATRIX_ONLY";
