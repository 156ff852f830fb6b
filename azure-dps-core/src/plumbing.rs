//! Functions for the other crates of this family. They may change in any release.

pub use crate::json::read_json;
pub use crate::percent::percent_encode;
pub use crate::retry::{Backoff, parse_retry_after};
