//! Guides: one page for each purpose.
//!
//! - [Certificates](certificates)
//! - [Environment variables](environment)
//! - [Fleets](fleets)
//! - [Hub](hub)
//! - [Provisioning manager](manager)
//! - [Monitoring](monitoring)
//! - [Networks](networks)
//! - [TPM](tpm)
//! - [X.509](x509)

/// [emulator.md]: https://docs.rs/azure-dps-emulator/latest/azure_dps_emulator/guides/emulator/index.html
/// [enrollments.md]: https://docs.rs/azure-dps-service/latest/azure_dps_service/guides/enrollments/index.html
/// [hub.md]: crate::guides::hub
///
#[doc = include_str!("../docs/certificates.md")]
pub mod certificates {}

/// [networks.md]: crate::guides::networks
///
#[doc = include_str!("../docs/environment.md")]
pub mod environment {}

#[doc = include_str!("../docs/fleets.md")]
pub mod fleets {}

/// [certificates.md]: crate::guides::certificates
/// [manager.md]: crate::guides::manager
/// [networks.md]: crate::guides::networks
///
#[doc = include_str!("../docs/hub.md")]
pub mod hub {}

/// [certificates.md]: crate::guides::certificates
/// [environment.md]: crate::guides::environment
/// [hub.md]: crate::guides::hub
/// [monitoring.md]: crate::guides::monitoring
///
#[doc = include_str!("../docs/manager.md")]
pub mod manager {}

/// [emulator.md]: https://docs.rs/azure-dps-emulator/latest/azure_dps_emulator/guides/emulator/index.html
///
#[doc = include_str!("../docs/monitoring.md")]
pub mod monitoring {}

/// [hub.md]: crate::guides::hub
///
#[doc = include_str!("../docs/networks.md")]
pub mod networks {}

/// [hub.md]: crate::guides::hub
///
#[doc = include_str!("../docs/tpm.md")]
pub mod tpm {}

/// [emulator.md]: https://docs.rs/azure-dps-emulator/latest/azure_dps_emulator/guides/emulator/index.html
/// [hub.md]: crate::guides::hub
///
#[doc = include_str!("../docs/x509.md")]
pub mod x509 {}
