//! [azure-dps-service]: https://docs.rs/azure-dps-service
//! [certificates.md]: crate::guides::certificates
//! [emulator.md]: https://docs.rs/azure-dps-emulator/latest/azure_dps_emulator/guides/emulator/index.html
//! [environment.md]: crate::guides::environment
//! [fleets.md]: crate::guides::fleets
//! [hub.md]: crate::guides::hub
//! [lifecycle.md]: https://docs.rs/azure-dps-service/latest/azure_dps_service/guides/lifecycle/index.html
//! [manager.md]: crate::guides::manager
//! [monitoring.md]: crate::guides::monitoring
//! [networks.md]: crate::guides::networks
//! [tpm.md]: crate::guides::tpm
//! [x509.md]: crate::guides::x509
//!
#![doc = include_str!("../README.md")]
// docs.rs labels each item with the features that it needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub use azure_dps_core as core;

#[cfg(all(doc, not(doctest)))]
pub mod guides;

mod assignment;
pub use assignment::{Assignment, Summary};

mod client;
pub use client::{DeviceClient, Lookup, Register};

mod credential;
pub use credential::Credential;

mod deadline;

mod device;

mod driver;

#[cfg(any(feature = "amqp", feature = "https", feature = "mqtt"))]
mod environment;

mod hub;
#[cfg(feature = "hub")]
pub use hub::HubStream;
pub use hub::{HubAccess, SignIn};

#[cfg(feature = "manager")]
pub mod manager;

mod policy;
pub use policy::RegistrationPolicy;

#[cfg(all(fuzzing, feature = "amqp", feature = "mqtt", feature = "ws"))]
#[doc(hidden)]
pub mod fuzzing;

mod registration_token;

mod run;

#[cfg(any(feature = "amqp", feature = "hub", feature = "mqtt"))]
mod stream;

mod tpm;
pub use tpm::blob::ActivationBlob;
pub use tpm::contract::{Slot, Tpm, TpmKeys};
#[cfg(feature = "tpm")]
pub use tpm::tss::{TssTpm, TssTpmBuilder};

#[cfg(any(feature = "amqp", feature = "https", feature = "hub", feature = "mqtt"))]
mod trust;

pub mod transport;
#[cfg(feature = "amqp")]
pub use transport::amqp::Amqp;
pub use transport::auto::Auto;
#[cfg(feature = "https")]
pub use transport::https::Https;
#[cfg(feature = "mqtt")]
pub use transport::mqtt::Mqtt;
