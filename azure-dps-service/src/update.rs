//! Read, edit, write: the safe way to change a record that the service can only replace.

use std::hash::{BuildHasher as _, RandomState};

use azure_dps_core::models::AttestationType;
use azure_dps_core::{Error, ErrorKind, Result};

use crate::collection::Collection;
use crate::resource::Enrollment;

impl<R: Enrollment> Collection<R> {
    /// Changes a record: reads it, calls `edit`, and writes it back if no other client changed it in the
    /// meantime. Otherwise it repeats all of this after a pause, at most five rounds and within the time of
    /// one call.
    ///
    /// It also reads the symmetric keys, which [`get`](Self::get) hides, because a write replaces the whole
    /// record, and the effect of missing keys is not documented. `edit` may be called more than once.
    ///
    /// Rights: `EnrollmentRead` and `EnrollmentWrite`. Billed: two calls, with symmetric keys three, for
    /// every round.
    ///
    /// ```no_run
    /// use azure_dps_service::core::models::ProvisioningStatus;
    ///
    /// # async fn example(service: azure_dps_service::ServiceClient) -> azure_dps_service::core::Result<()> {
    /// service
    ///     .enrollments()
    ///     .update("sensor-042", |enrollment| enrollment.provisioning_status = Some(ProvisioningStatus::Disabled))
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_not_found`] when the record does not exist, [`Error::is_precondition_failed`] when other
    /// clients changed it in every round. Also when it changed while the edit may have been applied: then
    /// [`Error::maybe_applied`] is true, and no further round follows, because it could apply the edit twice.
    /// [`ErrorKind::Config`] when `edit` changes the id.
    pub async fn update(&self, id: &str, mut edit: impl FnMut(&mut R) + Send) -> Result<R> {
        let mut call = self.pipeline.begin();
        let mut pauses = self.pipeline.retry.with_retries(ROUNDS - 1).start(RandomState::new().hash_one(id));
        loop {
            let mut record = self.get_by(id, &mut call).await?;
            let Some(tag) = record.tag().map(str::to_owned) else {
                return Err(Error::new(ErrorKind::Protocol, "the service returned a record without an etag"));
            };
            if record.attestation().attestation_type() == AttestationType::SymmetricKey {
                record.set_attestation(self.attestation_mechanism_by(id, &mut call).await?);
            }
            let own = record.id().to_owned();
            edit(&mut record);
            if record.id() != own {
                let message =
                    format!("the edit changed the id {own:?} to {:?}: an id cannot be changed", record.id());
                return Err(Error::new(ErrorKind::Config, message));
            }
            match self.put(&record, Some(&tag), &mut call).await {
                // If this edit may have been applied, another round could apply it twice.
                Err(error) if error.is_precondition_failed() && !error.maybe_applied() => {
                    if !call.pause(pauses.pause(None)).await {
                        return Err(error);
                    }
                }
                written => return written,
            }
        }
    }
}

const ROUNDS: u32 = 5;
