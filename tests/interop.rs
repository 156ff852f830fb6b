//! The official Microsoft clients, unmodified, against the emulator.
//!
//! `DPS_INTEROP_NODE` names the folder where `npm ci` installed them; `cargo xtask test` does both. Without it each test
//! passes without a peer, and the run says so, so that `cargo test` needs Rust only. The module of a test names its peer.

// Clippy allows these in test functions only, and the modules are test code too.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stderr, clippy::unwrap_used)]

#[path = "interop/device.rs"]
mod official_node_device_client_1_9_1;
#[path = "interop/service.rs"]
mod official_node_service_client_1_11_2;
#[path = "interop/stage.rs"]
mod stage;
