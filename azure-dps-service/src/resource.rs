//! The three kinds of record of an instance, and their properties that the calls need.

use azure_dps_core::models::{
    AttestationMechanism, BulkItem, DeviceRegistrationState, EnrollmentGroup, IndividualEnrollment,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A kind of record of an instance. Sealed: the service has three.
pub trait Resource: sealed::Resource + Serialize + DeserializeOwned + Send + Sync + 'static {}

/// A record that can be written: an individual enrollment or an enrollment group. Sealed.
pub trait Enrollment: Resource + sealed::Enrollment + BulkItem {}

impl<R: sealed::Resource + Serialize + DeserializeOwned + Send + Sync + 'static> Resource for R {}
impl<R: Resource + sealed::Enrollment + BulkItem> Enrollment for R {}

pub(crate) mod sealed {
    use azure_dps_core::models::AttestationMechanism;

    pub trait Resource {
        /// The first segment of the path.
        const COLLECTION: &'static str;
    }

    pub trait Enrollment {
        fn id(&self) -> &str;
        fn tag(&self) -> Option<&str>;
        fn attestation(&self) -> &AttestationMechanism;
        fn set_attestation(&mut self, attestation: AttestationMechanism);
        /// The members for certificates that are set, by their names on the wire.
        fn certificate_members(&self) -> Vec<&'static str>;
    }
}

impl sealed::Resource for DeviceRegistrationState {
    const COLLECTION: &'static str = "registrations";
}

macro_rules! enrollment {
    ($type:ty, $collection:literal, $id:ident) => {
        impl sealed::Resource for $type {
            const COLLECTION: &'static str = $collection;
        }

        impl sealed::Enrollment for $type {
            fn id(&self) -> &str {
                &self.$id
            }

            fn tag(&self) -> Option<&str> {
                self.etag.as_deref().filter(|tag| !tag.is_empty())
            }

            fn attestation(&self) -> &AttestationMechanism {
                &self.attestation
            }

            fn set_attestation(&mut self, attestation: AttestationMechanism) {
                self.attestation = attestation;
            }

            fn certificate_members(&self) -> Vec<&'static str> {
                [
                    ("namespaceName", &self.namespace_name),
                    ("certificateAuthorityName", &self.certificate_authority_name),
                    ("certificatePolicyName", &self.certificate_policy_name),
                    ("credentialPolicyName", &self.credential_policy_name),
                ]
                .into_iter()
                .filter_map(|(name, value)| value.is_some().then_some(name))
                .collect()
            }
        }
    };
}

enrollment!(IndividualEnrollment, "enrollments", registration_id);
enrollment!(EnrollmentGroup, "enrollmentGroups", enrollment_group_id);
