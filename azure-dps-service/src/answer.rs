//! The body of an answer, as the model that the caller expects.

use azure_dps_core::http::HttpAnswer;
use azure_dps_core::{Error, Result};
use serde::de::DeserializeOwned;

pub(crate) fn decode<T: DeserializeOwned>(answer: &HttpAnswer) -> Result<T> {
    serde_json::from_slice(&answer.body).map_err(|why| Error::from_json(&why))
}
