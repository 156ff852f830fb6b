//! Guides: one page for each purpose.
//!
//! - [The emulator](emulator)

/// [azure-dps-emulator]: crate
///
#[doc = include_str!("../docs/emulator.md")]
pub mod emulator {}
