//! The data that attestation judges with, and its result.

use time::OffsetDateTime;

use crate::records::attestation::Attestation;
use crate::records::authorities::Authorities;
use crate::records::enrollments::{Enrollment, Enrollments};
use crate::records::proof::{Proof, Via};

/// The enrollment that admits a device.
pub(crate) struct Match<'a> {
    pub(crate) enrollment: &'a Enrollment,
    pub(crate) via: Via,
    pub(crate) proof: Proof,
    /// A difference to the service, which might refuse the device.
    pub(crate) warning: Option<String>,
}

/// The data that a credential is judged with.
pub(crate) struct Grounds<'a> {
    pub(crate) individuals: &'a Enrollments,
    pub(crate) groups: &'a Enrollments,
    pub(crate) authorities: &'a Authorities,
    /// Whether a group with its own signing certificate also needs a verified CA certificate.
    pub(crate) require_verified_ca: bool,
    /// The groups that are likely to admit the device, which are tried first.
    pub(crate) likely: Vec<String>,
    pub(crate) now: OffsetDateTime,
}

impl<'a> Grounds<'a> {
    /// The attestations of the likely groups.
    pub(crate) fn likely(&self) -> impl Iterator<Item = &'a Attestation> {
        self.likely.iter().filter_map(|id| self.groups.find(id)).map(|group| &group.attestation)
    }
}
