//! Read, change, write: the safe way to change a record that the service only replaces.

use azure_dps_core::models::AttestationType;
use azure_dps_core::{Error, ErrorKind, Result};

use crate::{Collection, Enrollment};

impl<R: Enrollment> Collection<R> {
    /// Changes a record: reads it, lets `edit` change it, and writes it back if nobody else did meanwhile; else all of
    /// it again, up to five times.
    ///
    /// The symmetric keys that a read hides are fetched first, so that the write carries them: a write replaces the
    /// whole record, and what happens to keys that are left out is not documented. `edit` may be called more than once.
    ///
    /// Rights: `EnrollmentRead` and `EnrollmentWrite`. Billed: two calls, with symmetric keys three, for every round.
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
    /// [`Error::is_not_found`] when there is none, [`Error::is_precondition_failed`] when it changed in every round.
    pub async fn update(&self, id: &str, mut edit: impl FnMut(&mut R) + Send) -> Result<R> {
        let mut round = 1;
        loop {
            let mut record = self.get(id).await?;
            let Some(tag) = record.tag().map(str::to_owned) else {
                return Err(Error::new(ErrorKind::Protocol, "the record that was read has no etag"));
            };
            if record.attestation().attestation_type() == AttestationType::SymmetricKey {
                record.set_attestation(self.attestation_mechanism(id).await?);
            }
            edit(&mut record);
            match self.put(&record, Some(&tag)).await {
                Err(error) if error.is_precondition_failed() && round < ROUNDS => round += 1,
                written => return written,
            }
        }
    }
}

const ROUNDS: u32 = 5;
