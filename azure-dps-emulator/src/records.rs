//! The data that the instance keeps, and the rules that hold for every request on it.

pub(crate) mod allocation;
pub(crate) mod attestation;
pub(crate) mod authorities;
pub(crate) mod enrollments;
pub(crate) mod hub;
pub(crate) mod hubs;
pub(crate) mod index;
pub(crate) mod latencies;
pub(crate) mod operation;
pub(crate) mod outcome;
pub(crate) mod proof;
pub(crate) mod registrations;
pub(crate) mod reprovision;
pub(crate) mod seed;
pub(crate) mod store;
pub(crate) mod tpm;
