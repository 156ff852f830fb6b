//! The calls on one kind of record.

use std::marker::PhantomData;
use std::sync::Arc;

use azure_dps_core::Result;
use azure_dps_core::http::HttpAnswer;
use azure_dps_core::models::{AttestationMechanism, AttestationType};
use serde::Serialize;

use crate::answer::decode;
use crate::call::{Call, Tries};
use crate::pipeline::{Pipeline, may_repeat_after_reread};
use crate::request::{ANY, Operation};
use crate::resource::{Enrollment, Resource};
use crate::settle::{self, Condition, Verdict};
use crate::version;

/// The calls on one kind of record of an instance. A collection owns a handle of the client, so it can move
/// into a task.
///
/// An id has 1 to 128 ASCII letters, digits, `-`, `.`, `_` and `:`. Every call fails with
/// [`ErrorKind::Config`](azure_dps_core::ErrorKind::Config) for any other id before it sends anything,
/// because the service would bill the request and answer 400.
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
    /// It never contains symmetric keys; [`attestation_mechanism`](Self::attestation_mechanism) returns them.
    /// The service returns the description of an X.509 certificate instead of the certificate. Right:
    /// `EnrollmentRead`, for registration records `RegistrationStatusRead`. Billed.
    ///
    /// # Errors
    /// [`Error::is_not_found`](azure_dps_core::Error::is_not_found) when the record does not exist.
    pub async fn get(&self, id: &str) -> Result<R> {
        self.get_by(id, &mut self.pipeline.begin()).await
    }

    pub(crate) async fn get_by(&self, id: &str, call: &mut Call) -> Result<R> {
        decode(&self.pipeline.execute(&Operation::get(R::COLLECTION, id)?, call).await?)
    }

    /// Deletes a record regardless of its version.
    ///
    /// Deleting an enrollment keeps the device at its hub. Deleting a group keeps the registration records of
    /// its devices. Deleting a registration record keeps hub and enrollment. Right: `EnrollmentWrite`, for
    /// registration records `RegistrationStatusWrite`. Billed.
    ///
    /// # Errors
    /// [`Error::is_not_found`](azure_dps_core::Error::is_not_found) when the record does not exist.
    pub async fn delete(&self, id: &str) -> Result<()> {
        self.pipeline.call(&Operation::delete(R::COLLECTION, id, None)?).await.map(drop)
    }

    /// Deletes a record if it still has this `etag`. Rights and billing as for [`delete`](Self::delete).
    ///
    /// # Errors
    /// [`Error::is_precondition_failed`](azure_dps_core::Error::is_precondition_failed) when another client
    /// changed it since, [`Error::is_not_found`](azure_dps_core::Error::is_not_found) when the record does
    /// not exist.
    pub async fn delete_if_match(&self, id: &str, etag: &str) -> Result<()> {
        self.pipeline.call(&Operation::delete(R::COLLECTION, id, Some(etag))?).await.map(drop)
    }
}

impl<R: Enrollment> Collection<R> {
    /// Creates a record, or replaces the version that was read.
    ///
    /// Without an `etag` the record must not exist yet; with one, the call replaces exactly that version.
    /// Members that a replacement leaves out are removed or return to their defaults;
    /// [`update`](Self::update) is safer. The answer contains the symmetric keys, also those that the service
    /// generated.
    ///
    /// When the answer is lost, or a retry is refused and an earlier attempt may be the reason, the client
    /// reads the record. If the record is new and equal to `resource`, the call has succeeded. If the record
    /// shows that the write was not applied, the client sends it again while retries are left. If the record
    /// cannot be read, or other clients wrote it after this write began so that either is possible, the error
    /// reports that the write [may have been applied](azure_dps_core::Error::maybe_applied).
    ///
    /// Right: `EnrollmentWrite`; after a lost answer also `EnrollmentRead`. Billed; after a lost answer up to
    /// two calls more for each attempt.
    ///
    /// # Errors
    /// [`Error::is_conflict`](azure_dps_core::Error::is_conflict) when it exists already,
    /// [`Error::is_precondition_failed`](azure_dps_core::Error::is_precondition_failed) when another client
    /// changed it. [`ErrorKind::Config`](azure_dps_core::ErrorKind::Config) before anything is sent when a
    /// certificate is a private key or not a certificate, or when the api-version of the client does not know
    /// a member for certificates.
    pub async fn create_or_update(&self, resource: &R) -> Result<R> {
        self.put(resource, resource.tag(), &mut self.pipeline.begin()).await
    }

    /// Replaces a record regardless of its version and of its `etag`. Members that are left out are removed
    /// or return to their defaults. Right: `EnrollmentWrite`. Billed.
    ///
    /// # Errors
    /// [`Error::is_not_found`](azure_dps_core::Error::is_not_found) or
    /// [`Error::is_precondition_failed`](azure_dps_core::Error::is_precondition_failed) when the record does
    /// not exist; which of the two is not documented.
    pub async fn replace(&self, resource: &R) -> Result<R> {
        self.put(resource, Some(ANY), &mut self.pipeline.begin()).await
    }

    /// Reads the attestation mechanism of an enrollment, with the symmetric keys that [`get`](Self::get)
    /// hides.
    ///
    /// Right: `EnrollmentRead` or `EnrollmentWrite`; with Entra ID a separate action. Billed.
    ///
    /// # Errors
    /// [`Error::is_not_found`](azure_dps_core::Error::is_not_found) when the enrollment does not exist.
    #[doc(alias = "getIndividualEnrollmentAttestationMechanism")]
    pub async fn attestation_mechanism(&self, id: &str) -> Result<AttestationMechanism> {
        self.attestation_mechanism_by(id, &mut self.pipeline.begin()).await
    }

    pub(crate) async fn attestation_mechanism_by(
        &self,
        id: &str,
        call: &mut Call,
    ) -> Result<AttestationMechanism> {
        let operation = Operation::attestation_mechanism(R::COLLECTION, id)?;
        decode(&self.pipeline.execute(&operation, call).await?)
    }

    pub(crate) async fn put(&self, resource: &R, if_match: Option<&str>, call: &mut Call) -> Result<R> {
        resource.attestation().check()?;
        version::check_members(&self.pipeline.api_version, resource)?;
        let operation = Operation::create_or_update(R::COLLECTION, resource.id(), if_match, resource)?;
        let mut tries = self.pipeline.tries(&operation);
        loop {
            let written = self.pipeline.send_with_retries(&operation, call, &mut tries).await;
            let error = match written.and_then(|answer| tries.decode(&answer)) {
                Err(error) if tries.must_reread_after(&operation, &error) => error,
                written => return written.map_err(|error| tries.end(error)),
            };
            tracing::info!(id = resource.id(), "the outcome of a write is unknown; reading the record");
            let condition = if_match.map_or(Condition::Absent, |tag| Condition::Version(Some(tag)));
            match self.reread(resource, condition, &tries, call).await {
                Some((Verdict::Applied, Some(record))) => return Ok(record),
                Some((verdict, _)) => tries.doubt = verdict != Verdict::NotApplied,
                None => return Err(tries.end(error)),
            }
            if !may_repeat_after_reread(&error) || !call.pause(tries.pause(&error)).await {
                return Err(tries.end(error));
            }
        }
    }

    /// Reads the record and judges a write whose outcome is unknown. Returns the record too, with its keys if
    /// the write was applied. `None` when it cannot be read.
    pub(crate) async fn reread(
        &self,
        sent: &R,
        condition: Condition<'_>,
        tries: &Tries,
        call: &mut Call,
    ) -> Option<(Verdict, Option<R>)> {
        let answer = self.pipeline.execute(&Operation::get(R::COLLECTION, sent.id()).ok()?, call).await;
        let since = tries.since(answer.as_ref().ok().and_then(HttpAnswer::date))?;
        let mut found: R = match answer {
            Ok(answer) => decode(&answer).ok()?,
            Err(error) if error.is_not_found() => {
                return Some((settle::judge(&json(sent)?, condition, None, &since), None));
            }
            Err(_) => return None,
        };
        let verdict = settle::judge(&json(sent)?, condition, Some(&json(&found)?), &since);
        if verdict == Verdict::Applied
            && found.attestation().attestation_type() == AttestationType::SymmetricKey
        {
            // A read hides the keys.
            let keys = self.attestation_mechanism_by(sent.id(), call).await.ok()?;
            let verdict = settle::judge_keys(&json(sent.attestation())?, condition, &json(&keys)?);
            found.set_attestation(keys);
            return Some((verdict, Some(found)));
        }
        Some((verdict, Some(found)))
    }
}

fn json(value: &impl Serialize) -> Option<serde_json::Value> {
    serde_json::to_value(value).ok()
}
