//! The data that attestation judges with, and its result.

use time::OffsetDateTime;

use crate::records::authorities::Authorities;
use crate::records::enrollments::{Enrollment, Enrollments};
use crate::records::proof::{Proof, Via};

/// The enrollment of a device.
pub(crate) struct Match<'a> {
    pub(crate) enrollment: &'a Enrollment,
    pub(crate) via: Via,
    pub(crate) proof: Proof,
    /// What the service itself might not let pass.
    pub(crate) warning: Option<String>,
}

/// What a chain is judged by.
pub(crate) struct Grounds<'a> {
    pub(crate) individuals: &'a Enrollments,
    pub(crate) groups: &'a Enrollments,
    pub(crate) authorities: &'a Authorities,
    /// Whether a group with its own signing certificate needs a verified authority besides.
    pub(crate) require_verified_ca: bool,
    pub(crate) now: OffsetDateTime,
}
