//! The rights of access policies, and the right that an operation needs.

use crate::call::request::BackEndOperation;

/// A right on the service API that a shared access policy grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Right {
    /// Read and list enrollments and enrollment groups, and read their attestation mechanisms.
    EnrollmentRead,
    /// Create, replace and delete enrollments and enrollment groups, and read their attestation mechanisms.
    EnrollmentWrite,
    /// Read and list registration records.
    RegistrationStatusRead,
    /// Delete registration records.
    RegistrationStatusWrite,
    /// Change the configuration of the service. No request to the emulator needs it.
    ServiceConfig,
}

impl Right {
    /// All rights.
    pub const ALL: [Right; 5] = [
        Right::EnrollmentRead,
        Right::EnrollmentWrite,
        Right::RegistrationStatusRead,
        Right::RegistrationStatusWrite,
        Right::ServiceConfig,
    ];

    /// The name in Azure, such as `EnrollmentRead`.
    pub fn as_str(self) -> &'static str {
        match self {
            Right::EnrollmentRead => "EnrollmentRead",
            Right::EnrollmentWrite => "EnrollmentWrite",
            Right::RegistrationStatusRead => "RegistrationStatusRead",
            Right::RegistrationStatusWrite => "RegistrationStatusWrite",
            Right::ServiceConfig => "ServiceConfig",
        }
    }
}

/// The permission that a request to the back-end API needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    ReadEnrollments,
    /// For the attestation mechanism, which contains secrets.
    ReadSecrets,
    WriteEnrollments,
    ReadRegistrations,
    WriteRegistrations,
}

impl Need {
    pub(crate) fn of(operation: BackEndOperation) -> Self {
        match operation {
            BackEndOperation::Get(_) | BackEndOperation::List(_) => Need::ReadEnrollments,
            BackEndOperation::AttestationMechanism(_) => Need::ReadSecrets,
            BackEndOperation::Put(_) | BackEndOperation::Delete(_) | BackEndOperation::Bulk(_) => {
                Need::WriteEnrollments
            }
            BackEndOperation::GetRegistration | BackEndOperation::ListRegistrations => {
                Need::ReadRegistrations
            }
            BackEndOperation::DeleteRegistration => Need::WriteRegistrations,
        }
    }

    /// The rights, any one of which is enough.
    pub(crate) fn rights(self) -> &'static [Right] {
        match self {
            Need::ReadEnrollments => &[Right::EnrollmentRead],
            // Which of the two the service requires is not confirmed.
            Need::ReadSecrets => &[Right::EnrollmentRead, Right::EnrollmentWrite],
            Need::WriteEnrollments => &[Right::EnrollmentWrite],
            Need::ReadRegistrations => &[Right::RegistrationStatusRead],
            Need::WriteRegistrations => &[Right::RegistrationStatusWrite],
        }
    }
}
