//! The connections of an HTTPS client: a limited number at once, for all identities together.
//!
//! Each connection is a client of the HTTP library that serves one exchange at a time. One client for several
//! exchanges would open more connections than that: an exchange takes the connection that is ready first, a
//! returned or a new one, and the library keeps the other one as well.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reqwest::{Client, Proxy};
use rustls::ClientConfig;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::connector::{Connector, Returning};
use crate::endpoint::Endpoint;
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;

pub(super) struct Connections {
    endpoint: Endpoint,
    proxy: Option<Proxy>,
    limit: usize,
    /// A permit for each exchange. It hands them out in the order of the calls.
    permits: Semaphore,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The connections that serve no exchange; the most recently used one is the last.
    idle: VecDeque<Connection>,
    /// How many exchanges are in progress.
    exchanges: usize,
}

/// A connection to the server, open or to be opened by its next exchange.
pub(super) struct Connection {
    pub(super) client: Client,
    /// Identifies whose connection it is: the configuration contains the identity and its TLS sessions.
    tls: Arc<ClientConfig>,
    returning: Returning,
}

impl Connections {
    /// A `limit` of 0 counts as 1.
    pub(super) fn new(endpoint: Endpoint, proxy: Option<Proxy>, limit: usize) -> Self {
        let limit = limit.clamp(1, Semaphore::MAX_PERMITS);
        Self { endpoint, proxy, limit, permits: Semaphore::new(limit), state: Mutex::default() }
    }

    /// Connections to the same server with another limit.
    pub(super) fn with_limit(&self, limit: usize) -> Self {
        Self::new(self.endpoint.clone(), self.proxy.clone(), limit)
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Waits until an exchange may begin. Dropping the future gives up the place in the queue.
    pub(super) async fn begin(&self) -> Exchange<'_> {
        // The semaphore is never closed, so that there is always a permit.
        let permit = self.permits.acquire().await.ok();
        self.state().exchanges += 1;
        Exchange { connections: self, _permit: permit }
    }

    /// Closes the idle connections that use `tls`.
    pub(super) fn close(&self, tls: &Arc<ClientConfig>) {
        self.state().idle.retain(|connection| !Arc::ptr_eq(&connection.tls, tls));
    }

    fn make(&self, tls: &Arc<ClientConfig>) -> Result<Connection> {
        let returning = Returning::default();
        let connect = self.endpoint.connect_timeout();
        let mut builder = Client::builder()
            .tls_backend_preconfigured(ClientConfig::clone(tls))
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .tcp_nodelay(true)
            .connect_timeout(connect)
            .timeout(connect + self.endpoint.exchange_timeout())
            .pool_max_idle_per_host(1)
            .connector_layer(Connector::layer(&returning))
            .no_proxy();
        if let Some(proxy) = &self.proxy {
            builder = builder.proxy(proxy.clone());
        }
        match builder.build() {
            Ok(client) => Ok(Connection { client, tls: Arc::clone(tls), returning }),
            Err(why) => {
                Err(Error::new(ErrorKind::Config, "the HTTP client cannot be set up").with_source(why))
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to use one connection.
pub(super) struct Exchange<'c> {
    connections: &'c Connections,
    _permit: Option<SemaphorePermit<'c>>,
}

impl Exchange<'_> {
    /// An idle connection that uses `tls`, or a new one. For a new one beyond the limit the connection that
    /// has been idle for longest is closed. Dropping the connection closes it.
    pub(super) fn connection(&self, tls: &Arc<ClientConfig>) -> Result<Connection> {
        let closed = {
            let mut state = self.connections.state();
            let place = state.idle.iter().rposition(|connection| Arc::ptr_eq(&connection.tls, tls));
            if let Some(connection) = place.and_then(|place| state.idle.remove(place)) {
                return Ok(connection);
            }
            let is_full = state.exchanges + state.idle.len() > self.connections.limit;
            if is_full { state.idle.pop_front() } else { None }
        };
        drop(closed);
        self.connections.make(tls)
    }

    /// Returns the connection after a complete answer. `stays` says whether the server keeps it open.
    pub(super) fn give_back(self, connection: Connection, stays: bool) {
        connection.returning.answered(stays);
        self.connections.state().idle.push_back(connection);
    }
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        self.connections.state().exchanges -= 1;
    }
}
