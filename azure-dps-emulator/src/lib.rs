//! [emulator.md]: crate::guides::emulator
//! [hub.md]: crate::guides::hub
//! [certificates.md]: crate::guides::certificates
//!
#![doc = include_str!("../README.md")]
// docs.rs labels each item with the features that it needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod access;
mod api;
mod attest;
mod builder;
mod call;
mod clock;
mod crypto;
mod data_file;
mod emulator;
mod front;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(all(doc, not(doctest)))]
pub mod guides;
mod ids;
mod instance;
mod issuance;
mod json;
mod limited_file;
#[doc(hidden)]
pub mod plumbing;
mod records;
mod refusal;
mod report;
mod saved;
mod shown_name;
mod start_error;
mod state;

pub use access::entra::EntraRole;
pub use access::policy::{AccessPolicy, PolicyKeyFault};
pub use access::right::Right;
pub use builder::EmulatorBuilder;
pub use call::operation::{Operation, Protocol};
pub use crypto::base64_text::NotBase64;
pub use crypto::csr::KeyType;
pub use crypto::pki::{KeyedCertificate, Pki, PkiError};
pub use data_file::SaveError;
pub use emulator::Emulator;
pub use front::port::Listener;
pub use issuance::NotAccepted;
pub use issuance::policy::{CertificatePolicy, CertificatePolicyError};
pub use records::authorities::{CaCertificate, CaCertificateError};
pub use records::enrollments::OnKeylessUpdate;
pub use records::hub::{DefaultAllocation, Hub};
pub use records::hubs::call_error::HubCallError;
pub use records::hubs::message::CloudMessage;
pub use records::hubs::method::{MethodAnswer, MethodCall};
pub use start_error::StartError;
pub use state::billing::BilledOperations;
pub use state::fault::{Fault, FaultError};
pub use state::journal::Entry;
pub use state::quota::Quotas;
pub use state::saved::StateError;
pub use state::settings::RefuseAt;
pub use state::telemetry::Telemetry;
