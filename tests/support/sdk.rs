//! Clients of the SDK, set up for tests.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use azure_dps_core::models::ApiVersion;
use azure_dps_core::{Endpoint, Error, RetryPolicy};
use azure_dps_device::transport::Transport;
use azure_dps_device::{Credential, DeviceClient, RegistrationPolicy};
use azure_dps_emulator::Emulator;
use azure_dps_service::ServiceClient;

use crate::limits::PATIENCE;
use crate::listener::RawPeer;

/// A device client that waits no longer than the peer asks for.
pub fn device(scope: &str, credential: Credential, transport: impl Transport + 'static) -> DeviceClient {
    let policy = quick_policy(2);
    DeviceClient::new(scope.parse().unwrap(), credential, transport).with_policy(policy)
}

/// Repeats a request this often, and waits no longer than the peer asks for.
pub fn quick_policy(retries: u32) -> RegistrationPolicy {
    let retry = RetryPolicy::new().with_retries(retries).with_first_pause(Duration::from_millis(1));
    let policy = RegistrationPolicy::new().with_retry(retry);
    policy.with_poll_interval(Duration::ZERO).with_min_poll_interval(Duration::ZERO)
}

/// The endpoint of an emulator.
pub fn endpoint_of(emulator: &Emulator) -> Endpoint {
    Endpoint::new(emulator.host())
        .unwrap()
        .with_port(emulator.https_port())
        .trust_only(emulator.ca_pem())
        .unwrap()
}

/// A service client for an emulator.
pub fn service_of(emulator: &Emulator) -> ServiceClient {
    service_as(emulator, ApiVersion::DEFAULT)
}

/// A service client of this api-version for an emulator.
pub fn service_as(emulator: &Emulator, version: ApiVersion) -> ServiceClient {
    let builder = ServiceClient::builder_from_connection_string(&emulator.service_connection_string());
    let builder = builder.unwrap().trust_only(emulator.ca_pem()).unwrap();
    builder.api_version(version).build().unwrap()
}

/// The error of a registration through a peer that never speaks TLS, with a connect limit of 200 ms.
pub async fn never_speaks_tls<T: Transport + 'static>(
    credential: Credential,
    transport: impl FnOnce(Endpoint) -> T,
) -> Error {
    let peer = RawPeer::silent().await;
    let endpoint = Endpoint::new("localhost")
        .unwrap()
        .with_port(peer.port)
        .with_connect_timeout(Duration::from_millis(200));
    device("0ne00ABCDEF", credential, transport(endpoint)).register().await.unwrap_err()
}

/// Polls work at most this often and drops it; whether it ended, with success.
pub async fn finishes_within<T>(polls: usize, work: impl IntoFuture<Output = Result<T, Error>>) -> bool {
    let mut work = pin!(work.into_future());
    let mut polled = 0;
    poll_fn(|context| {
        if polled == polls {
            return Poll::Ready(false);
        }
        polled += 1;
        work.as_mut().poll(context).map(|result| {
            result.unwrap();
            true
        })
    })
    .await
}

/// An endpoint of a test server on this port.
pub(crate) fn endpoint_at(port: u16, ca_pem: &str) -> Endpoint {
    Endpoint::new("localhost")
        .unwrap()
        .with_port(port)
        .trust_only(ca_pem)
        .unwrap()
        .with_connect_timeout(PATIENCE)
        .with_exchange_timeout(PATIENCE)
}
