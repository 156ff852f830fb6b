//! Opens the connection to a hub: where it is dialled, which server name TLS verifies, and over which carrier.
//!
//! | who answers | endpoint | name that TLS verifies |
//! |---|---|---|
//! | the hub | the hub's name, the default | the hub's |
//! | an emulator | its host and port | its host |
//! | a gateway with its own certificate | its host | its host |
//! | the hub behind an address without its name | that address | the hub's: `with_hub_as_server_name` |

use std::sync::Arc;

use azure_dps_core::rustls::ClientConfig;
use azure_dps_core::{Endpoint, Result};
use time::OffsetDateTime;

use super::{HubAccess, HubStream};
#[cfg(feature = "ws")]
use crate::stream::MQTT_WS;
use crate::transport::contract::Auth;

/// With the feature `hub`.
impl HubAccess {
    /// Dials another host than the hub's name, or dials it with other settings: port, proxy, trust roots, time
    /// limits. Default: `Endpoint::new(hub)`.
    ///
    /// TLS verifies the endpoint's host. That fits an emulator, and a gateway that forwards to the hub.
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: Endpoint) -> Self {
        self.dialer = self.dialer.with_endpoint(endpoint);
        self
    }

    /// Where the hub is dialled.
    pub fn endpoint(&self) -> &Endpoint {
        self.dialer.endpoint()
    }

    /// Asks for and verifies the hub's name in TLS, whatever host the endpoint names: for an endpoint that is
    /// only an address of the hub, such as the IP address of its private endpoint, or a relay that forwards
    /// TCP.
    #[must_use]
    pub fn with_hub_as_server_name(mut self) -> Self {
        self.dialer = self.dialer.with_server_name(self.hub.clone());
        self
    }

    /// Uses a WebSocket, on port 443 unless the endpoint names another: for networks that block port 8883.
    #[cfg(feature = "ws")]
    #[must_use]
    pub fn with_websocket(mut self) -> Self {
        self.dialer = self.dialer.with_carrier(MQTT_WS);
        self
    }

    /// The TLS configuration of the connection, for an MQTT library that dials by itself. With an X.509
    /// credential it presents the device's certificate. Such a library uses neither the proxy nor the time
    /// limits of the endpoint.
    ///
    /// The first call of the process reads the platform's trust store, which blocks; see
    /// [`Endpoint::reads_trust_store`].
    ///
    /// # Errors
    /// [`ErrorKind::Tls`](azure_dps_core::ErrorKind::Tls) when the platform has no usable trust store.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>> {
        let auth = self.credential.auth();
        self.dialer.client_config(auth.as_ref().and_then(Auth::identity))
    }

    /// Opens a connection on which MQTT can begin, within the endpoint's connect timeout (15 s by default).
    /// Dropping the future abandons the attempt.
    ///
    /// # Errors
    /// - [`ErrorKind::Credential`] when the certificate is not valid now.
    /// - [`ErrorKind::Connect`] when there is no connection, or the server refuses the WebSocket;
    ///   [`ErrorKind::Proxy`] when the proxy refuses it.
    /// - [`ErrorKind::Tls`] when the server's certificate is not trusted, [`ErrorKind::Unauthorized`] when the
    ///   server refuses the device's certificate in the handshake. With TLS 1.3 the refusal arrives later, as
    ///   an error of the first read, which [`Error::from_tls`](azure_dps_core::Error::from_tls) explains.
    /// - [`ErrorKind::Protocol`] when the server opens a WebSocket for another protocol, and
    ///   [`ErrorKind::Config`] when a variable of the environment is not a proxy.
    ///
    /// [`ErrorKind::Config`]: azure_dps_core::ErrorKind::Config
    /// [`ErrorKind::Connect`]: azure_dps_core::ErrorKind::Connect
    /// [`ErrorKind::Credential`]: azure_dps_core::ErrorKind::Credential
    /// [`ErrorKind::Protocol`]: azure_dps_core::ErrorKind::Protocol
    /// [`ErrorKind::Proxy`]: azure_dps_core::ErrorKind::Proxy
    /// [`ErrorKind::Tls`]: azure_dps_core::ErrorKind::Tls
    /// [`ErrorKind::Unauthorized`]: azure_dps_core::ErrorKind::Unauthorized
    pub async fn connect(&self) -> Result<HubStream> {
        self.credential.check(OffsetDateTime::now_utc())?;
        let auth = self.credential.auth();
        let stream = self.dialer.connect(auth.as_ref().and_then(Auth::identity)).await?;
        Ok(HubStream::new(stream, self.dialer.name(), self.dialer.place()))
    }
}
