//! Read, change, write: the safe way to change a record that the service only replaces.

use std::hash::{BuildHasher as _, RandomState};

use azure_dps_core::models::AttestationType;
use azure_dps_core::{Error, ErrorKind, Result};

use crate::collection::Collection;
use crate::resource::Enrollment;

impl<R: Enrollment> Collection<R> {
    /// Changes a record: reads it, lets `edit` change it, and writes it back if nobody else did meanwhile;
    /// else all of it again after a pause, five rounds at the most and within the time of one call.
    ///
    /// The symmetric keys that a read hides are fetched first, so that the write carries them: a write
    /// replaces the whole record, and what happens to keys that are left out is not documented. `edit` may be
    /// called more than once.
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
    /// [`Error::is_not_found`] when there is none, [`Error::is_precondition_failed`] when it changed in every
    /// round, or when it changed while it was in doubt whether the edit had been applied: then the error
    /// [says so](Error::maybe_applied), since another round could apply the edit twice.
    /// [`ErrorKind::Config`] when `edit` changes the id.
    pub async fn update(&self, id: &str, mut edit: impl FnMut(&mut R) + Send) -> Result<R> {
        let mut call = self.pipeline.begin();
        let mut pauses = self.pipeline.retry.with_retries(ROUNDS - 1).start(RandomState::new().hash_one(id));
        loop {
            let mut record = self.get_by(id, &mut call).await?;
            let Some(tag) = record.tag().map(str::to_owned) else {
                return Err(Error::new(ErrorKind::Protocol, "the record that was read has no etag"));
            };
            if record.attestation().attestation_type() == AttestationType::SymmetricKey {
                record.set_attestation(self.attestation_mechanism_by(id, &mut call).await?);
            }
            let own = record.id().to_owned();
            edit(&mut record);
            if record.id() != own {
                let message =
                    format!("the edit turned {own:?} into {:?}; an id cannot be changed", record.id());
                return Err(Error::new(ErrorKind::Config, message));
            }
            match self.put(&record, Some(&tag), &mut call).await {
                // While it is in doubt whether this edit was applied, another round could apply it twice.
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
