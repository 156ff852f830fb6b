//! The two activities of a device: at the service, and at its hub.

use std::time::Instant;

use super::step::Login;

/// Why a registration is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    FirstBoot,
    Failed,
    Stuck,
    Refused,
    /// The hub has refused the device, and the look-up named no other one.
    LookedUp,
    /// The hub cannot be reached, and the service does not say that the device still belongs there.
    Unreachable,
    /// The application or the back end has asked for it.
    Wanted,
    /// For a certificate.
    Renewal,
}

#[derive(Debug)]
pub(super) enum Service {
    Idle,
    Due {
        at: Instant,
        why: Why,
    },
    /// A registration that has tried so many credentials before this one, of which the service has `refused` one.
    /// `sent` once the loop knows of it.
    Registering {
        tried: usize,
        refused: bool,
        sent: bool,
        why: Why,
    },
    /// `refused` if the hub has refused the device; else it cannot be reached.
    LookingUp {
        sent: bool,
        refused: bool,
    },
}

#[derive(Debug)]
pub(super) enum Hub {
    Idle,
    Due { at: Instant },
    Connecting { login: Login, until: Instant },
    Online { login: Login },
    Closing { until: Instant, asked: bool },
}

impl Why {
    /// A registration that was asked for is still wanted after a failure.
    pub(super) fn after_failure(self) -> Self {
        match self {
            Self::Wanted | Self::Renewal | Self::Unreachable => self,
            Self::Refused | Self::LookedUp => Self::Refused,
            Self::FirstBoot | Self::Failed | Self::Stuck => Self::Failed,
        }
    }

    /// The same after the service has refused the device.
    pub(super) fn after_refusal(self) -> Self {
        match self {
            Self::Wanted | Self::Renewal | Self::Unreachable => self,
            _ => Self::Stuck,
        }
    }

    /// Whether a connection to the hub makes the registration needless.
    pub(super) fn ends_with_a_connection(self) -> bool {
        match self {
            Self::Failed | Self::Stuck | Self::Refused | Self::LookedUp | Self::Unreachable => true,
            Self::FirstBoot | Self::Wanted | Self::Renewal => false,
        }
    }
}
