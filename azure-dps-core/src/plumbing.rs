//! What only the crates of this family need. It may change in any release.

pub use crate::percent::percent_encode;
pub use crate::retry::{Backoff, parse_retry_after};
