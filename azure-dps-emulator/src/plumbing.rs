//! Functions for the program. They may change in any release.

pub use crate::limited_file::text as limited_text;
pub use crate::shown_name::shown;
