//! What the driver asks of the loop, and at what time.

use std::time::Instant;

use time::OffsetDateTime;

/// The time, on both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) instant: Instant,
    pub(crate) wall: OffsetDateTime,
}

/// What the loop has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Save,
    /// Register with this credential.
    Register(usize),
    /// Look the registration up with this credential.
    LookUp(usize),
    Connect(Login),
    /// Ask the hub's connection to end.
    CloseHub,
    /// End the hub's connection without its help.
    DropHub,
    /// Wait for an event, until this time at most.
    Wait(Instant),
    End,
}

/// How the device signs in at its hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Login {
    Credential(usize),
    Proven,
    Candidate,
}
