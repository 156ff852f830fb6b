//! Reads the platform's trust store on a thread that may block.

use azure_dps_core::{Endpoint, Result};

/// Reads the trust store if the next TLS configuration of `endpoint` needs it and the process has not read
/// it.
///
/// # Errors
/// [`ErrorKind::Tls`](azure_dps_core::ErrorKind::Tls) when the platform has no usable trust store.
pub(crate) async fn read(endpoint: &Endpoint) -> Result<()> {
    if !endpoint.reads_trust_store() {
        return Ok(());
    }
    let endpoint = endpoint.clone();
    let reading = tokio::task::spawn_blocking(move || endpoint.client_config().map(drop));
    // It is only cancelled when the runtime shuts down.
    reading.await.unwrap_or(Ok(()))
}
