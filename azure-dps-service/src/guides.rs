//! Guides: one page for each purpose.
//!
//! - [Access](access)
//! - [Allocation](allocation)
//! - [Enrollments](enrollments)
//! - [Coming from az, Bicep or ARM](iac)
//! - [The life of a device](lifecycle)

/// [emulator.md#who-may-use-the-service-api]: https://docs.rs/azure-dps-emulator/latest/azure_dps_emulator/guides/emulator/index.html#who-may-use-the-service-api
///
#[doc = include_str!("../docs/access.md")]
pub mod access {}

/// [emulator.md#what-is-on-the-hubs]: https://docs.rs/azure-dps-emulator/latest/azure_dps_emulator/guides/emulator/index.html#what-is-on-the-hubs
///
#[doc = include_str!("../docs/allocation.md")]
pub mod allocation {}

/// [access.md]: crate::guides::access
/// [fleets.md]: https://docs.rs/azure-dps-device/latest/azure_dps_device/guides/fleets/index.html
///
#[doc = include_str!("../docs/enrollments.md")]
pub mod enrollments {}

/// [access.md]: crate::guides::access
/// [enrollments.md]: crate::guides::enrollments
/// [x509.md]: https://docs.rs/azure-dps-device/latest/azure_dps_device/guides/x509/index.html
///
#[doc = include_str!("../docs/iac.md")]
pub mod iac {}

/// [enrollments.md]: crate::guides::enrollments
/// [x509.md#rolling-over]: https://docs.rs/azure-dps-device/latest/azure_dps_device/guides/x509/index.html#rolling-over
///
#[doc = include_str!("../docs/lifecycle.md")]
pub mod lifecycle {}
