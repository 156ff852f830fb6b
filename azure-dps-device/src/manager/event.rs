//! What applications see of a manager: events as they happen, and a snapshot at any time.

use std::sync::Arc;
use std::time::Duration;

use azure_dps_core::Error;
use time::OffsetDateTime;
use tokio::sync::broadcast;

use super::state::ProvisioningState;

/// One thing that happened to a device.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ManagerEvent {
    /// When, by the wall clock.
    pub at: OffsetDateTime,
    /// What happened.
    pub happening: Happening,
    /// The state of the device after it.
    pub state: ProvisioningState,
    /// The error behind it.
    pub error: Option<Arc<Error>>,
    /// How long the device waits until it tries again to register or to connect. `None` while an attempt is
    /// under way, online, and after the end.
    pub next_attempt: Option<Duration>,
}

/// What happened to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Happening {
    /// The manager has started. The error says why a stored record could not be used.
    Started,
    /// A registration begins.
    Registering,
    /// The service assigned the device to a hub.
    Assigned,
    /// A registration failed.
    RegistrationFailed,
    /// The service was asked where the device is assigned, because its hub cannot be reached or refuses it. The
    /// snapshot has the hub, which may be another one.
    LookedUp,
    /// A connection to the hub begins.
    Connecting,
    /// The hub accepted the device.
    Connected,
    /// The connection to the hub ended, or was not established.
    Disconnected(super::connector::EndReason),
    /// Another credential than before works, because the service or the hub refused the one before. The
    /// snapshot has its index.
    CredentialChanged,
    /// The service issued a certificate. The hub has not seen it yet.
    CertificateIssued,
    /// The hub accepted a certificate for the first time. The private key of the one before it is deleted once
    /// the record is saved.
    CertificateProven,
    /// An issued certificate is not usable: its chain does not fit, or its key is gone. The manager asks for
    /// another one.
    CertificateUnusable,
    /// The key store cannot read, save or delete the private key of a certificate. The manager tries again to
    /// read or delete it; for a key that cannot be saved it asks for another certificate.
    KeyStoreFailed,
    /// The record could not be saved. The manager tries again.
    StoreFailed,
    /// The manager has stopped.
    Stopped,
}

/// The state of a device at one moment, for health checks and displays.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Snapshot {
    /// The state.
    pub state: ProvisioningState,
    /// Since when the device is in this state, by the wall clock.
    pub since: Option<OffsetDateTime>,
    /// The host name of the hub, if the device is assigned.
    pub hub: Option<String>,
    /// The device id at the hub, if the device is assigned.
    pub device_id: Option<String>,
    /// The index of the credential that worked last: 0 is the first one.
    pub credential: usize,
    /// The name of the transport that worked last.
    pub transport: Option<String>,
    /// When the certificate that the device signs in with expires. `None` without an issued certificate.
    pub certificate_expires: Option<OffsetDateTime>,
    /// The next attempt to register or to connect.
    pub next_attempt: Option<OffsetDateTime>,
    /// The last error. It stays until something succeeds while the device is online; one of a store, until the
    /// store works again.
    pub last_error: Option<Arc<Error>>,
}

impl Snapshot {
    /// The whole days until the issued certificate expires. Negative after that.
    pub fn certificate_days_left(&self, now: OffsetDateTime) -> Option<i64> {
        self.certificate_expires.map(|at| (at - now).whole_days())
    }
}

/// The events of a manager, which [`events`](super::ProvisioningManager::events) returns.
#[derive(Debug)]
pub struct Events(Option<broadcast::Receiver<ManagerEvent>>);

impl Events {
    /// Without a receiver the manager has stopped.
    pub(crate) fn new(receiver: Option<broadcast::Receiver<ManagerEvent>>) -> Self {
        Self(receiver)
    }

    /// Waits for the next event. `None` when the manager has stopped. A reader that is more than 64 events
    /// late misses the oldest ones. Dropping the future loses no event.
    pub async fn next(&mut self) -> Option<ManagerEvent> {
        let receiver = self.0.as_mut()?;
        loop {
            match receiver.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

/// How many events a reader may be late.
pub(crate) const MOST_EVENTS: usize = 64;
