//! An emulator whose only client is the SDK's.

use azure_dps_emulator::Emulator;
use azure_dps_service::ServiceClient;

use crate::{Shown, evidence, service_of};

/// Notes in the end what the client did.
#[derive(Debug)]
pub struct Ours(Shown);

impl std::ops::Deref for Ours {
    type Target = Emulator;

    fn deref(&self) -> &Emulator {
        &self.0
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        evidence::service_calls(concat!("azure-dps-service ", env!("CARGO_PKG_VERSION")), self);
    }
}

/// An emulator and a client with every right.
pub async fn emulator() -> (Ours, ServiceClient) {
    let emulator = Emulator::start().await.unwrap();
    let service = service_of(&emulator);
    (Ours(Shown(emulator)), service)
}
