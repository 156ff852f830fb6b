//! Functions for the other crates of this family. They may change in any release.

#[cfg(feature = "tls")]
pub use crate::certificate::CLOCK_SKEW;
pub use crate::cloud::misfit;
pub use crate::json::read_json;
pub use crate::percent::percent_encode;
pub use crate::retry::{Backoff, fraction, parse_retry_after};
#[cfg(feature = "tls")]
pub use crate::variables::{CA_FILE, Variables, trust_file, unusable};

/// The one certificate in a text that an enrollment can have, in DER: PEM, base64 of DER or base64 of PEM.
/// `None` when it cannot be read.
pub fn certificate_der(text: &str) -> Option<Vec<u8>> {
    crate::models::attestation::certificate_text::read(text).ok()
}

/// Replaces a file by one of mode 0600, complete or not at all.
#[cfg(feature = "tls")]
pub fn write_private_file(file: &std::path::Path, content: &[u8]) -> std::io::Result<()> {
    crate::private_file::replace(file, content)
}
