//! Several transports as one: the first that can connect.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use azure_dps_core::{Error, ErrorKind, Result};

use crate::transport::contract::{BoxFuture, Channel, Facts, Reply, Request, Session, Transport};
#[cfg(all(feature = "https", feature = "mqtt", feature = "ws"))]
use crate::transport::{https::Https, mqtt::Mqtt};

/// Tries transports in order until one connects.
///
/// It tries the next one only after [`ErrorKind::Connect`], or when a proxy refuses a port and a transport
/// with another port is left. Any other error is final: a server's certificate, a credential or the proxy's
/// credentials would be refused over another transport too. The transport that worked is tried first next
/// time, also by clones, until it cannot connect. [`Summary::transport`](crate::Summary) names it.
///
/// Each attempt takes as long as its endpoint allows ([`Endpoint::with_connect_timeout`]). A firewall that
/// drops packets silently costs that time once, not every time.
///
/// ```
/// use azure_dps_device::Auto;
///
/// let global = Auto::default(); // MQTT, MQTT over WebSockets, HTTPS
/// # let _ = global;
/// ```
///
/// [`Endpoint::with_connect_timeout`]: azure_dps_core::Endpoint::with_connect_timeout
#[derive(Clone)]
#[doc(alias = "TransportFallbackType")]
pub struct Auto {
    members: Arc<[Arc<dyn Transport>]>,
    /// The index of the member that worked last; [`NONE`] before the first success.
    worked: Arc<AtomicUsize>,
    /// The index of the member that failed to connect with its first request, as HTTPS does.
    failed: Arc<AtomicUsize>,
}

impl Auto {
    /// Tries these transports in this order.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the list is empty.
    pub fn of(members: impl IntoIterator<Item = Arc<dyn Transport>>) -> Result<Self> {
        let members: Arc<[_]> = members.into_iter().collect();
        if members.is_empty() {
            return Err(Error::new(ErrorKind::Config, "the list of transports is empty"));
        }
        Ok(Self::among(members))
    }

    /// Tries MQTT (port 8883), MQTT over WebSockets and HTTPS (port 443) at `endpoint`. A port that the
    /// endpoint sets applies to all three.
    #[cfg(all(feature = "https", feature = "mqtt", feature = "ws"))]
    pub fn new(endpoint: azure_dps_core::Endpoint) -> Self {
        let mqtt = Mqtt::new(endpoint.clone());
        let websocket = Mqtt::new(endpoint.clone()).with_websocket();
        let members: [Arc<dyn Transport>; 3] =
            [Arc::new(mqtt), Arc::new(websocket), Arc::new(Https::new(endpoint))];
        Self::among(members.into())
    }

    fn among(members: Arc<[Arc<dyn Transport>]>) -> Self {
        Self { members, worked: Arc::new(AtomicUsize::new(NONE)), failed: Arc::new(AtomicUsize::new(NONE)) }
    }

    /// The members with their indices: first the one that worked last, last the one that failed with its
    /// first request.
    fn in_order(&self) -> Vec<(usize, &Arc<dyn Transport>)> {
        let (first, last) = (self.worked.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed));
        let mut members: Vec<_> = self.members.iter().enumerate().collect();
        // The sort is stable: the others keep their order.
        members.sort_by_key(|(index, _)| (*index != first, *index == last));
        members
    }
}

#[cfg(all(feature = "https", feature = "mqtt", feature = "ws"))]
impl Default for Auto {
    /// The three transports at the global endpoint.
    fn default() -> Self {
        Self::new(azure_dps_core::Endpoint::global())
    }
}

impl Transport for Auto {
    fn check(&self, session: &Session) -> Result<()> {
        let mut refusal = None;
        for member in self.members.iter() {
            match member.check(session) {
                Ok(()) => return Ok(()),
                Err(error) => refusal = Some(error),
            }
        }
        refusal.map_or(Ok(()), Err)
    }

    /// The host of all members; `None` if they differ.
    fn host(&self) -> Option<&str> {
        let mut hosts = self.members.iter().map(|member| member.host());
        let first = hosts.next().flatten();
        first.filter(|first| hosts.all(|host| host == Some(first)))
    }

    fn prefer(&self, name: Option<&str>) {
        let index = match name {
            None => Some(NONE),
            name => self.members.iter().position(|member| member.name() == name),
        };
        if let Some(index) = index {
            self.worked.store(index, Ordering::Relaxed);
        }
    }

    fn connect(&self, session: Session) -> BoxFuture<'_, Result<Box<dyn Channel>>> {
        Box::pin(async move {
            let (mut tried, mut last) = (Vec::new(), None);
            let able = |(_, member): &(usize, &Arc<dyn Transport>)| member.check(&session).is_ok();
            // The ports that a proxy refuses, and whether all failures were such refusals.
            let (mut closed, mut only_closed) = (Vec::new(), true);
            for (index, member) in self.in_order().into_iter().filter(able) {
                if member.port().is_some_and(|port| closed.contains(&port)) {
                    continue;
                }
                match member.connect(session.clone()).await {
                    Ok(channel) => {
                        let (worked, failed) = (Arc::clone(&self.worked), Arc::clone(&self.failed));
                        return Ok(
                            Box::new(AutoChannel { channel, index, worked, failed }) as Box<dyn Channel>
                        );
                    }
                    Err(error) if error.kind() == ErrorKind::Connect || is_about_the_port(&error) => {
                        tracing::debug!(transport = ?member, %error, "not reachable this way");
                        match is_about_the_port(&error) {
                            true => closed.extend(member.port()),
                            false => only_closed = false,
                        }
                        forget(&self.worked, index);
                        tried.push(error.to_string());
                        last = Some(error);
                    }
                    Err(error) => return Err(error),
                }
            }
            if let Some(refusal) = last.take_if(|_| only_closed) {
                return Err(refusal);
            }
            let message = format!("no transport could reach the service: {}", tried.join("; "));
            let error = Error::new(ErrorKind::Connect, message);
            Err(match last {
                // The service's answer, with the time that it asks to wait, applies to every transport.
                Some(last) => match last.service().cloned() {
                    Some(service) => error.with_service(service).with_source(last),
                    None => error.with_source(last),
                },
                None => error,
            })
        })
    }
}

impl fmt::Debug for Auto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Auto").field(&self.members).finish()
    }
}

/// A channel that records its transport as working after the first answer, because HTTPS connects only with
/// its first request.
struct AutoChannel {
    channel: Box<dyn Channel>,
    index: usize,
    worked: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
}

impl Channel for AutoChannel {
    fn exchange<'a>(&'a mut self, request: &'a Request) -> BoxFuture<'a, Result<Reply>> {
        Box::pin(async move {
            let outcome = self.channel.exchange(request).await;
            match &outcome {
                Ok(_) => {
                    self.worked.store(self.index, Ordering::Relaxed);
                    forget(&self.failed, self.index);
                }
                Err(error) if error.kind() == ErrorKind::Connect => {
                    forget(&self.worked, self.index);
                    self.failed.store(self.index, Ordering::Relaxed);
                }
                Err(_) => {}
            }
            outcome
        })
    }

    fn idle(&mut self, wait: Duration) -> BoxFuture<'_, Result<()>> {
        self.channel.idle(wait)
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        self.channel.close()
    }

    fn facts(&self) -> Facts {
        self.channel.facts()
    }
}

/// Whether a proxy may allow another port. Refused credentials (407) are refused for every port.
fn is_about_the_port(error: &Error) -> bool {
    error.kind() == ErrorKind::Proxy && error.proxy_status().is_some_and(|status| status != 407)
}

fn forget(place: &AtomicUsize, index: usize) {
    // Another registration may have recorded another member meanwhile.
    let _ = place.compare_exchange(index, NONE, Ordering::Relaxed, Ordering::Relaxed);
}

const NONE: usize = usize::MAX;
