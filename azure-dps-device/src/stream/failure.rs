//! The errors of a connected stream.

use std::io;
use std::time::Duration;

use azure_dps_core::{Error, ErrorKind};

/// The error when a connected stream fails.
pub(crate) fn lost(place: &str, why: io::Error) -> Error {
    Error::from_tls(&why, place).unwrap_or_else(|| {
        let (kind, message) = match why.kind() {
            io::ErrorKind::InvalidData => {
                (ErrorKind::Protocol, format!("received malformed data from {place}"))
            }
            _ => (ErrorKind::Io, format!("the connection to {place} was lost")),
        };
        Error::new(kind, message).with_source(why)
    })
}

/// The error when a connected peer does not answer within `limit`.
pub(crate) fn silent(place: &str, limit: Duration) -> Error {
    Error::new(ErrorKind::Io, format!("no answer from {place} within {limit:?}"))
}
