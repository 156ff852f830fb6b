//! The calls on one kind of record.

use std::marker::PhantomData;
use std::sync::Arc;

use azure_dps_core::models::{
    AttestationMechanism, AttestationType, BulkItem, DeviceRegistrationState, EnrollmentGroup,
    IndividualEnrollment,
};
use azure_dps_core::{Error, HttpAnswer, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::pipeline::Pipeline;
use crate::request::{ANY, Operation};
use crate::settle;

/// One kind of record of an instance. It holds its own handle of the client, so it can move into a task.
#[derive(Clone, Debug)]
pub struct Collection<R> {
    pub(crate) pipeline: Arc<Pipeline>,
    kind: PhantomData<fn() -> R>,
}

impl<R: Resource> Collection<R> {
    pub(crate) fn new(pipeline: Arc<Pipeline>) -> Self {
        Self { pipeline, kind: PhantomData }
    }

    /// Reads a record.
    ///
    /// Symmetric keys are never in it: ask [`attestation_mechanism`](Self::attestation_mechanism) for them. An X.509
    /// certificate comes back as its description. Right: `EnrollmentRead`, for registration records
    /// `RegistrationStatusRead`. Billed.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when there is none.
    pub async fn get(&self, id: &str) -> Result<R> {
        decode(&self.pipeline.call(&Operation::get(R::COLLECTION, id)?).await?)
    }

    /// Deletes a record, whatever its version.
    ///
    /// Deleting an enrollment keeps the device at its hub. Deleting a group keeps the registration records of its
    /// devices. Deleting a registration record keeps hub and enrollment. Right: `EnrollmentWrite`, for registration
    /// records `RegistrationStatusWrite`. Billed.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when there is none.
    pub async fn delete(&self, id: &str) -> Result<()> {
        self.pipeline.call(&Operation::delete(R::COLLECTION, id, None)?).await.map(drop)
    }

    /// Deletes a record if it still has this tag. Rights and costs as [`delete`](Self::delete).
    ///
    /// # Errors
    /// [`Error::is_precondition_failed`] when somebody changed it since, [`Error::is_not_found`] when there is none.
    pub async fn delete_if_match(&self, id: &str, etag: &str) -> Result<()> {
        self.pipeline.call(&Operation::delete(R::COLLECTION, id, Some(etag))?).await.map(drop)
    }
}

impl<R: Enrollment> Collection<R> {
    /// Creates a record, or replaces the version that was read.
    ///
    /// Without an `etag` in it the record must not exist yet; with one, exactly that version is replaced. What is left
    /// out of a replacement is gone or falls back to its default; [`update`](Self::update) is safer. The answer holds
    /// the symmetric keys, also those that the service generated.
    ///
    /// When the answer is lost, the record is read: if it says what was sent, the call has succeeded, else the error
    /// says that it [may have been applied](Error::may_have_been_applied). Right: `EnrollmentWrite`. Billed.
    ///
    /// # Errors
    /// [`Error::is_conflict`] when it exists already, [`Error::is_precondition_failed`] when somebody changed it.
    /// [`ErrorKind::Config`](azure_dps_core::ErrorKind::Config) before anything is sent when a private key, or a text that
    /// is none, stands in the place of a certificate.
    pub async fn create_or_update(&self, resource: &R) -> Result<R> {
        self.put(resource, resource.tag()).await
    }

    /// Replaces a record, whatever its version; its `etag` does not count. What is left out is gone or falls back to
    /// its default. Right: `EnrollmentWrite`. Billed.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when there is none to replace.
    pub async fn replace(&self, resource: &R) -> Result<R> {
        self.put(resource, Some(ANY)).await
    }

    /// How the devices of this enrollment prove who they are, with the symmetric keys that [`get`](Self::get) hides.
    ///
    /// Right: `EnrollmentRead` or `EnrollmentWrite`; with Entra ID an action of its own. Billed.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when there is no such enrollment.
    #[doc(alias = "getIndividualEnrollmentAttestationMechanism")]
    pub async fn attestation_mechanism(&self, id: &str) -> Result<AttestationMechanism> {
        decode(&self.pipeline.call(&Operation::attestation_mechanism(R::COLLECTION, id)?).await?)
    }

    pub(crate) async fn put(&self, resource: &R, if_match: Option<&str>) -> Result<R> {
        resource.attestation().check()?;
        let operation = Operation::create_or_update(R::COLLECTION, resource.id(), if_match, resource)?;
        match self.pipeline.call(&operation).await {
            Err(doubt) if operation.must_look_after(&doubt) => {
                tracing::info!(id = resource.id(), "the answer to a write was lost; reading the record");
                self.find_applied(resource).await.ok_or(doubt)
            }
            answer => decode(&answer?),
        }
    }

    /// The record with its keys, if it says what was sent; for use after a lost answer.
    pub(crate) async fn find_applied(&self, sent: &R) -> Option<R> {
        let mut found = self.get(sent.id()).await.ok()?;
        if !settle::is_applied(&json(sent)?, &json(&found)?) {
            return None;
        }
        if found.attestation().attestation_type() == AttestationType::SymmetricKey {
            // A read hides the keys.
            let keys = self.attestation_mechanism(sent.id()).await.ok()?;
            if !settle::are_keys_applied(&json(sent.attestation())?, &json(&keys)?) {
                return None;
            }
            found.set_attestation(keys);
        }
        Some(found)
    }
}

pub(crate) fn decode<T: DeserializeOwned>(answer: &HttpAnswer) -> Result<T> {
    serde_json::from_slice(&answer.body).map_err(|why| Error::from_json(&why))
}

fn json(value: &impl Serialize) -> Option<serde_json::Value> {
    serde_json::to_value(value).ok()
}

/// A kind of record that an instance holds. Sealed: the service's three are all there are.
pub trait Resource: sealed::Resource + Serialize + DeserializeOwned + Send + Sync + 'static {}

/// A record that can be written: an individual enrollment or an enrollment group. Sealed.
pub trait Enrollment: Resource + sealed::Enrollment + BulkItem {}

impl<R: sealed::Resource + Serialize + DeserializeOwned + Send + Sync + 'static> Resource for R {}
impl<R: Resource + sealed::Enrollment + BulkItem> Enrollment for R {}

pub(crate) mod sealed {
    use super::AttestationMechanism;

    pub trait Resource {
        /// The first segment of the path.
        const COLLECTION: &'static str;
    }

    pub trait Enrollment {
        fn id(&self) -> &str;
        fn tag(&self) -> Option<&str>;
        fn attestation(&self) -> &AttestationMechanism;
        fn set_attestation(&mut self, attestation: AttestationMechanism);
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
                self.etag.as_deref()
            }

            fn attestation(&self) -> &AttestationMechanism {
                &self.attestation
            }

            fn set_attestation(&mut self, attestation: AttestationMechanism) {
                self.attestation = attestation;
            }
        }
    };
}

enrollment!(IndividualEnrollment, "enrollments", registration_id);
enrollment!(EnrollmentGroup, "enrollmentGroups", enrollment_group_id);
