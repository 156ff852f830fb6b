//! The two kinds of enrollment.

use crate::call::schema::{self, Model};

/// The kind of an enrollment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Individual,
    Group,
}

impl Kind {
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Kind::Individual => "an individual enrollment",
            Kind::Group => "an enrollment group",
        }
    }

    pub(crate) fn model(self) -> &'static Model {
        match self {
            Kind::Individual => schema::INDIVIDUAL_ENROLLMENT,
            Kind::Group => schema::ENROLLMENT_GROUP,
        }
    }

    pub(crate) fn id_member(self) -> &'static str {
        match self {
            Kind::Individual => "registrationId",
            Kind::Group => "enrollmentGroupId",
        }
    }
}
