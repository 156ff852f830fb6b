//! Guides: one page for each purpose.
//!
//! - [The emulator](emulator)
//! - [Certificates for signing requests](certificates)
//! - [A device at its hub](hub)

/// [azure-dps-emulator]: crate
/// [certificates.md]: crate::guides::certificates
/// [hub.md]: crate::guides::hub
///
#[doc = include_str!("../docs/emulator.md")]
pub mod emulator {}

#[doc = include_str!("../docs/certificates.md")]
pub mod certificates {}

/// [certificates.md]: crate::guides::certificates
/// [emulator.md]: crate::guides::emulator
///
#[doc = include_str!("../docs/hub.md")]
pub mod hub {}
