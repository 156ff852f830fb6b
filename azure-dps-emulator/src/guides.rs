//! Guides: one page for each purpose.
//!
//! - [The emulator](emulator)
//! - [Certificates for signing requests](certificates)

/// [azure-dps-emulator]: crate
/// [certificates.md]: crate::guides::certificates
///
#[doc = include_str!("../docs/emulator.md")]
pub mod emulator {}

#[doc = include_str!("../docs/certificates.md")]
pub mod certificates {}
