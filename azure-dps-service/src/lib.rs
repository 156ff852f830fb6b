//! [access.md]: crate::guides::access
//! [allocation.md]: crate::guides::allocation
//! [azure-dps-device]: https://docs.rs/azure-dps-device
//! [emulator.md]: https://docs.rs/azure-dps-emulator/latest/azure_dps_emulator/guides/emulator/index.html
//! [enrollments.md]: crate::guides::enrollments
//! [environment.md]: https://docs.rs/azure-dps-device/latest/azure_dps_device/guides/environment/index.html
//! [iac.md]: crate::guides::iac
//! [lifecycle.md]: crate::guides::lifecycle
//! [monitoring.md]: https://docs.rs/azure-dps-device/latest/azure_dps_device/guides/monitoring/index.html
//!
#![doc = include_str!("../README.md")]
// docs.rs labels each item with the features that it needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub use azure_dps_core as core;

#[cfg(all(doc, not(doctest)))]
pub mod guides;

#[cfg(feature = "client")]
mod answer;

#[cfg(feature = "client")]
mod bulk;

#[cfg(feature = "client")]
mod call;

#[cfg(feature = "client")]
mod client;
#[cfg(feature = "client")]
pub use client::{ServiceClient, ServiceClientBuilder};

#[cfg(feature = "client")]
mod collection;
#[cfg(feature = "client")]
pub use collection::Collection;

#[cfg(feature = "client")]
mod credential;
#[cfg(feature = "client")]
pub use credential::Credential;
#[cfg(feature = "entra")]
pub use credential::ENTRA_SCOPE;

#[cfg(feature = "client")]
mod environment;

#[cfg(feature = "client")]
mod gate;

#[cfg(feature = "client")]
mod pages;
#[cfg(feature = "client")]
pub use pages::{Page, Pages, Unreadable};

#[cfg(feature = "client")]
mod pipeline;

#[cfg(feature = "client")]
mod request;

#[cfg(feature = "client")]
mod resource;
#[cfg(feature = "client")]
pub use resource::{Enrollment, Resource};

#[cfg(feature = "client")]
mod settle;

#[cfg(feature = "client")]
mod since;

#[cfg(feature = "client")]
mod update;

#[cfg(feature = "client")]
mod version;

pub mod webhook;
