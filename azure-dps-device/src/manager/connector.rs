//! The application's way to its hub: a trait, and what the manager and its implementation tell each other.

use std::fmt;
use std::sync::Arc;

use azure_dps_core::Error;
use tokio::sync::{mpsc, watch};

use crate::hub::HubAccess;
use crate::transport::contract::BoxFuture;

/// The application's connection to its hub. The manager decides when to connect and with what credential;
/// this trait connects and does the device's work.
///
/// ```
/// use azure_dps_device::HubAccess;
/// use azure_dps_device::manager::{EndReason, HubConnector, HubSession, SessionEnd};
/// use azure_dps_device::transport::BoxFuture;
///
/// #[derive(Debug)]
/// struct Thermostat;
///
/// impl HubConnector for Thermostat {
///     fn run<'a>(&'a self, access: HubAccess, session: HubSession) -> BoxFuture<'a, SessionEnd> {
///         Box::pin(async move {
///             let stream = match access.connect().await {
///                 Ok(stream) => stream,
///                 Err(error) => return SessionEnd::from_error(error),
///             };
///             // Next: MQTT CONNECT on the stream. After a CONNACK with the code 0:
///             session.connected();
///             // The device's work, until the connection is lost or the manager wants the end.
///             session.asked_to_end().await;
///             # drop(stream);
///             SessionEnd::new(EndReason::Closed)
///         })
///     }
/// }
/// ```
pub trait HubConnector: fmt::Debug + Send + Sync {
    /// Connects to the hub, reports that it is connected, and runs until the connection ends or
    /// [`HubSession::asked_to_end`] returns. Then it returns why. The manager drops the future when it takes
    /// too long to connect or to end, and when the manager itself is dropped.
    ///
    /// A connection whose password expires ends with [`EndReason::Closed`]: the manager connects again.
    fn run<'a>(&'a self, access: HubAccess, session: HubSession) -> BoxFuture<'a, SessionEnd>;
}

/// The link between a [`HubConnector`] and its manager during one connection: the connector reports that it
/// is connected, and the manager asks it to end.
#[derive(Clone, Debug)]
pub struct HubSession {
    connected: mpsc::Sender<()>,
    end: watch::Receiver<bool>,
}

impl HubSession {
    pub(crate) fn new(connected: mpsc::Sender<()>, end: watch::Receiver<bool>) -> Self {
        Self { connected, end }
    }

    /// Reports that the hub has accepted the device. Call it after the hub has answered, not when the stream
    /// is open: it resets the pauses between attempts, and proves a new certificate.
    pub fn connected(&self) {
        // A second report of one connection has no meaning, and no place in the channel.
        let _sent = self.connected.try_send(());
    }

    /// Waits until the manager wants the connection to end.
    pub async fn asked_to_end(&self) {
        let mut end = self.end.clone();
        // An error means that the manager is gone, which is an end too.
        let _asked = end.wait_for(|end| *end).await;
    }
}

/// Why a connection to the hub ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndReason {
    /// The hub does not accept the device: unknown, disabled, or a credential that it refuses.
    Refused,
    /// No connection was established, for a reason that passes: name look-up, TCP, proxy, TLS trust, a server
    /// that is busy.
    Unreachable,
    /// An established connection failed.
    Lost,
    /// The hub ended the connection because the device connected a second time. The manager stops, since two
    /// programs with one identity would take turns for ever.
    ///
    /// Over MQTT 3.1.1 a hub does not say why it ends a connection. A connector can tell by several connections
    /// in a row that the hub accepts and ends within seconds.
    TakenOver,
    /// The connection ended because one side wanted it to, for example before its password expired.
    Closed,
    /// The back end, or the device itself, wants a new registration.
    ProvisionAnew,
}

/// The end of a connection to the hub: why, and the error behind it.
#[derive(Clone, Debug)]
pub struct SessionEnd {
    reason: EndReason,
    error: Option<Arc<Error>>,
}

impl SessionEnd {
    /// An end without an error.
    pub fn new(reason: EndReason) -> Self {
        Self { reason, error: None }
    }

    /// The end that an error of [`HubAccess`] means: [`EndReason::Refused`] for a refused or unusable
    /// credential, [`EndReason::Unreachable`] otherwise, and for a certificate that is not valid yet because the
    /// clock of the device is behind.
    pub fn from_error(error: Error) -> Self {
        use azure_dps_core::ErrorKind::{Config, Credential, Unauthorized, Unsupported};
        let reason = match error.kind() {
            _ if error.not_before().is_some() => EndReason::Unreachable,
            Config | Credential | Unauthorized | Unsupported => EndReason::Refused,
            _ => EndReason::Unreachable,
        };
        Self::new(reason).with_error(error)
    }

    /// The end that the code of an MQTT 3.1.1 CONNACK means. `None` for 0, which accepts the device.
    ///
    /// | code | reason |
    /// | --- | --- |
    /// | 1, 2, 4, 5 | [`EndReason::Refused`] |
    /// | 3 and others | [`EndReason::Unreachable`] |
    pub fn from_connack(code: u8) -> Option<Self> {
        match code {
            0 => None,
            1 | 2 | 4 | 5 => Some(Self::new(EndReason::Refused)),
            _ => Some(Self::new(EndReason::Unreachable)),
        }
    }

    /// Adds the error behind the end. The manager's events show it.
    #[must_use]
    pub fn with_error(mut self, error: Error) -> Self {
        self.error = Some(Arc::new(error));
        self
    }

    /// Why the connection ended.
    pub fn reason(&self) -> EndReason {
        self.reason
    }

    /// The error behind the end.
    pub fn error(&self) -> Option<&Error> {
        self.error.as_deref()
    }

    pub(crate) fn into_parts(self) -> (EndReason, Option<Arc<Error>>) {
        (self.reason, self.error)
    }
}

#[cfg(test)]
mod tests {
    use azure_dps_core::ErrorKind;
    use time::OffsetDateTime;

    use super::*;

    #[test]
    fn a_certificate_that_is_not_valid_yet_is_not_a_refusal_of_the_hub() {
        let error = || Error::new(ErrorKind::Credential, "the certificate cannot be used");
        assert_eq!(SessionEnd::from_error(error()).reason(), EndReason::Refused);
        let early = error().with_not_before(OffsetDateTime::UNIX_EPOCH);
        assert_eq!(SessionEnd::from_error(early).reason(), EndReason::Unreachable);
    }
}
