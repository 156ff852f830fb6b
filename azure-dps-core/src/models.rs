//! The JSON of the service API and the device API: resources, requests, results.
//!
//! The types have the service's names and public fields. A field contains the text on the wire, so that every
//! body of the service can be parsed. Three rules hold throughout:
//!
//! - **Nothing is lost.** Unknown words are kept (`as_str()` returns them), and resources that are written
//!   back keep unknown members in `other`.
//! - **Absent and `null` are the same.** Both become `None`, and `None` is not written. A member that is not
//!   an `Option` gets the value that a missing member means: an empty text, 0, `false` (in a re-provisioning
//!   policy `true`), the date 0001-01-01 as the service prints an unset one, no attestation. A `null` in a
//!   list is removed. Only the id of a record is required.
//! - **Secrets are not printed.** `Debug` hides keys, certificates, payloads and unknown members.
//!
//! The models describe the API versions 2021-10-01, 2025-07-01-preview and 2026-11-01. Members of other
//! versions are in `other`. The documentation of a member that 2021-10-01 does not have names its versions.

pub(crate) mod api_version;
pub use api_version::ApiVersion;

pub(crate) mod attestation;
pub use attestation::symmetric_key::SymmetricKeyAttestation;
pub use attestation::tpm::TpmAttestation;
pub use attestation::x509::{
    X509Attestation, X509CaReferences, X509CertificateInfo, X509CertificateWithInfo, X509Certificates,
};
pub use attestation::{AttestationMechanism, AttestationType};

mod bulk;
pub use bulk::{BulkError, BulkItem, BulkMode, BulkOperation, BulkResult};

mod date_time;

mod enrollment;
pub use enrollment::{EnrollmentGroup, IndividualEnrollment, ProvisioningStatus};

mod error_code;

pub(crate) mod error_details;
pub use error_details::ProvisioningServiceErrorDetails;

mod nulls;

mod policy;
pub use policy::{AllocationPolicy, CustomAllocationDefinition, DeviceCapabilities, ReprovisionPolicy};

mod query;
pub use query::QuerySpecification;

pub(crate) mod registration;
pub use registration::{
    AssignedDeviceSubstatus, ConnectionProfile, DeviceRegistration, DeviceRegistrationState,
    EnrollmentStatus, RegistrationOperationStatus, SymmetricKeyRegistrationResult, TpmChallenge,
    TpmRegistrationResult, X509RegistrationResult,
};

mod twin;
pub use twin::{InitialTwin, InitialTwinProperties, TwinCollection};

pub use crate::sensitive::OtherMembers;
