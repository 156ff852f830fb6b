//! The text of an error for people: what failed and why, each on its own line. `main` prints the `Debug` of an
//! error, so `{:?}` has this text, and `{:#?}` has the structure.

use std::error::Error;
use std::fmt;

/// The `Debug` of an error: the report, or in the alternate form what `structure` writes.
pub(crate) fn debug(
    f: &mut fmt::Formatter<'_>,
    error: &dyn Error,
    structure: impl FnOnce(&mut fmt::Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    if f.alternate() {
        return structure(f);
    }
    write!(f, "{error}")?;
    let mut source = error.source();
    while let Some(cause) = source {
        write!(f, "\n  because {cause}")?;
        source = cause.source();
    }
    Ok(())
}
