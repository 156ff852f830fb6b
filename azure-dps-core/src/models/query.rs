//! The body of the listing calls.

use serde::{Deserialize, Serialize};

/// The body of a call that lists enrollments, groups or registration records.
///
/// The service requires the member but ignores its text and lists everything; filter the result.
///
/// Source: DPS service REST API 2021-10-01, QuerySpecification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QuerySpecification {
    /// An SQL-like text, such as `SELECT * FROM enrollments`.
    pub query: String,
}

impl QuerySpecification {
    /// A query with this text.
    pub fn new(query: impl Into<String>) -> Self {
        Self { query: query.into() }
    }
}
