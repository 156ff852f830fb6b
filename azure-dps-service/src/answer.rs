//! The body of an answer, as the model that the caller expects.

use azure_dps_core::Result;
use azure_dps_core::http::HttpAnswer;
use azure_dps_core::plumbing::read_json;
use serde::de::DeserializeOwned;

/// What the values of an answer may take in memory, in bytes: a page of 10,000 enrollments fits.
const MOST_IN_MEMORY: usize = 64 * 1024 * 1024;

pub(crate) fn decode<T: DeserializeOwned>(answer: &HttpAnswer) -> Result<T> {
    read_json(&answer.body, MOST_IN_MEMORY)
}
