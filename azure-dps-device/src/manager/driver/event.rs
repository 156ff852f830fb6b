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
    /// Instead of a connection: the key store could not read the key of the certificate.
    KeyUnreadable,
    Reprovision,
    Stop,
    Saved(bool),
}

/// A registration that succeeded.
#[derive(Clone, Debug)]
pub(crate) struct Assigned {
    pub(crate) place: Place,
    pub(crate) issued: Issued,
    /// The name of the transport that worked.
    pub(crate) transport: Option<String>,
}

/// What became of the request for a certificate.
#[derive(Clone, Debug)]
pub(crate) enum Issued {
    /// None was asked for, or the enrollment issues none.
    Nothing,
    Certificate(Certificate),
    /// It does not fit, or its key could not be stored.
    Unusable,
}

/// Why a registration failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It can succeed later, with any credential.
    Passing { retry_after: Option<Duration> },
    /// The service, or this device, does not accept the credential. Another one may work.
    Credential,
    /// The clock of the device has not reached the certificate: nothing was sent. Another credential may work,
    /// and this one may work soon.
    Early,
    /// Neither another credential nor a short pause helps.
    Refused,
}

/// What a look-up found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    SamePlace,
    Elsewhere(Place),
    /// The device is assigned to no hub, or the look-up failed or is not possible.
    Nothing {
        retry_after: Option<Duration>,
    },
}
