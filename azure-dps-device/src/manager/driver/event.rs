//! What the loop reports to the driver.

use std::time::Duration;

use crate::manager::connector::EndReason;
use crate::manager::memory::{Certificate, Place};

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Assigned(Assigned),
    RegistrationFailed(Failure),
    LookedUp(Found),
    HubConnected,
    HubEnded(EndReason),
    Reprovision,
    Stop,
    Saved(bool),
}

/// A registration that succeeded.
#[derive(Clone, Debug)]
pub(crate) struct Assigned {
    pub(crate) place: Place,
    pub(crate) certificate: Option<Certificate>,
    /// The name of the transport that worked.
    pub(crate) transport: Option<String>,
}

/// Why a registration failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It can succeed later, with any credential.
    Passing { retry_after: Option<Duration> },
    /// The service, or this device, refuses the credential.
    Refused,
}

/// What a look-up found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    SamePlace,
    Moved,
    /// The look-up failed.
    Nothing,
}
