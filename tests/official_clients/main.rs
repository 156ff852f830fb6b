//! The official Microsoft clients, unmodified, against the emulator.
//!
//! `DPS_INTEROP_NODE` names the folder where `npm ci` installed those for Node, `DPS_INTEROP_PYTHON` the virtual
//! environment with those for Python; `cargo xtask test` does all of it. Without it each test
//! passes without a peer, and the run says so, so that `cargo test` needs Rust only. The module of a test
//! names its peer.

// Clippy allows these in test functions only, and the modules are test code too.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used
)]

mod device_client;
#[path = "tpm.rs"]
mod official_device_client_with_a_tpm;
#[path = "hub_device.rs"]
mod official_device_clients_at_their_hub;
#[path = "mqtt_amqp.rs"]
mod official_device_clients_over_mqtt_and_amqp;
#[path = "x509.rs"]
mod official_device_clients_with_certificates;
#[path = "hub_service.rs"]
mod official_hub_service_clients;
#[path = "device.rs"]
mod official_node_device_client_1_9_1;
#[path = "service.rs"]
mod official_service_clients;
#[path = "service_access.rs"]
mod official_service_clients_and_their_credentials;
#[path = "service_bulk.rs"]
mod official_service_clients_in_bulk;
mod scenarios;
mod service_client;
mod stage;
