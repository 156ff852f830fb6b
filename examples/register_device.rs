//! Registers the device that the environment describes, and prints its hub. This file needs no other: copy it.
//!
//! In your `Cargo.toml`:
//!
//! ```toml
//! [dependencies]
//! azure-dps-device = "0.1" # until it is on crates.io: { path = "…/azure-dps-device" }
//! tokio = { version = "1", features = ["macros", "rt-multi-thread"] }
//! ```
//!
//! `cargo run --example register_device` reads `DPS_ID_SCOPE`, `DPS_REGISTRATION_ID`, and one of `DPS_KEY`,
//! `DPS_GROUP_KEY`, or `DPS_CERT_FILE` with `DPS_KEY_FILE`. At an emulator also `DPS_ENDPOINT` and
//! `DPS_CA_FILE`. The guide "Environment variables" of azure-dps-device has all variables.
#![allow(clippy::print_stdout)] // A sample prints for a person.

use azure_dps_device::DeviceClient;
use azure_dps_device::core::Result;

// A `main` that returns an error prints what failed, why, and what to do next.
#[tokio::main]
async fn main() -> Result<()> {
    let device = DeviceClient::from_env()?;
    let assignment = device.register().await?;
    let transport = assignment.summary().map_or("", |summary| summary.transport);
    println!("device {} is at {} (registered over {transport})", assignment.device_id(), assignment.hub());
    Ok(())
}
