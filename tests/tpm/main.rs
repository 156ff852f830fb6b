//! `TssTpm` on software TPMs. tpm2-tools on a second TPM makes the blobs that a service would send, and looks into the
//! TPM from outside; what happens between device and service is in `registration`.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)] // Test code.

mod connection;
mod identity;
mod keys;
mod registration;
mod simulator;
mod tools;
