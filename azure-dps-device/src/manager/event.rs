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
    /// When the certificate that the device signs in with expires; the newest one, if all have expired. `None`
    /// without an issued certificate.
    pub certificate_expires: Option<OffsetDateTime>,
    /// The next attempt to register or to connect. `None` while an attempt is under way, online, and after the
    /// end.
    pub next_attempt: Option<OffsetDateTime>,
    /// The newest error that nothing has ended yet. An error of the service stays until the device is assigned,
    /// one of the hub until it is connected, one of a store until the store works again. A connection ends those
    /// of the service and of certificates too, unless a renewal has failed.
    pub last_error: Option<Arc<Error>>,
}

impl Snapshot {
    /// The whole days until the issued certificate expires, rounded down: 0 on its last day, -1 on the day
    /// after.
    pub fn certificate_days_left(&self, now: OffsetDateTime) -> Option<i64> {
        let left = (self.certificate_expires? - now).whole_nanoseconds();
        // The years of a date have fewer days than an i64.
        i64::try_from(left.div_euclid(time::Duration::DAY.whole_nanoseconds())).ok()
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

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn the_days_of_a_certificate_are_negative_from_the_moment_on_at_which_it_expires() {
        let now = datetime!(2026-11-26 08:00 UTC);
        for (left, days) in [
            (time::Duration::days(2), 2),
            (time::Duration::days(2) - time::Duration::NANOSECOND, 1),
            (time::Duration::ZERO, 0),
            (-time::Duration::NANOSECOND, -1),
            (-time::Duration::DAY, -1),
            (-time::Duration::hours(25), -2),
        ] {
            let snapshot = Snapshot { certificate_expires: Some(now + left), ..Snapshot::default() };
            assert_eq!(snapshot.certificate_days_left(now), Some(days), "{left}");
        }
        assert_eq!(Snapshot::default().certificate_days_left(now), None);
    }
}
