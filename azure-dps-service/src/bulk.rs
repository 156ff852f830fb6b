//! Several enrollments in one call.

use azure_dps_core::models::{BulkError, BulkMode, BulkOperation, BulkResult};
use azure_dps_core::{Error, ErrorKind, Result};

use crate::collection::decode;
use crate::request::{Operation, Repeat};
use crate::{Collection, Enrollment};

impl<R: Enrollment> Collection<R> {
    /// Does the same to up to ten enrollments in one call, one after the other and each on its own.
    ///
    /// The call succeeds even when every item failed: the errors in the result name those that did, the others are
    /// done. An id that stands twice, or a member that the service does not know, makes the whole call fail, and then
    /// nothing is done. The answer holds no records; keys that the service generated are told by
    /// [`attestation_mechanism`](Self::attestation_mechanism). [`BulkMode::Update`] and
    /// [`BulkMode::UpdateIfMatchETag`] replace records: what an item leaves out is gone, and a record that was read
    /// holds no symmetric keys; [`update`](Self::update) takes care of both. [`BulkMode::Delete`] looks at the ids only,
    /// and at the tags of those items that have one.
    ///
    /// When the answer is lost, `Update` and `Delete` are repeated. After the other modes each record is read: if all
    /// of them say what was sent, the call has succeeded, else the error says that it
    /// [may have been applied](Error::may_have_been_applied). Right: `EnrollmentWrite`. Billed as one call.
    ///
    /// ```no_run
    /// use azure_dps_service::core::models::{AttestationMechanism, BulkMode, IndividualEnrollment};
    ///
    /// # async fn example(service: azure_dps_service::ServiceClient) -> azure_dps_service::core::Result<()> {
    /// let enrollments: Vec<_> = (0..25)
    ///     .map(|n| IndividualEnrollment::new(format!("sensor-{n}"), AttestationMechanism::symmetric_key_generated()))
    ///     .collect();
    /// for ten in enrollments.chunks(10) {
    ///     let result = service.enrollments().run_bulk_operation(BulkMode::Create, ten).await?;
    ///     for error in &result.errors {
    ///         println!("{error}");
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for no item or more than ten, or a private key in the place of a certificate, before anything
    /// is sent.
    #[doc(alias = "runBulkEnrollmentOperation")]
    #[doc(alias = "RunBulkEnrollmentOperationAsync")]
    pub async fn run_bulk_operation(&self, mode: BulkMode, items: &[R]) -> Result<BulkResult> {
        check_count(items.len())?;
        items.iter().try_for_each(|item| item.attestation().check())?;
        let operation = Operation::run_bulk_operation(R::COLLECTION, &BulkOperation::new(mode, items))?;
        let carried = match self.pipeline.carry_out(&operation).await {
            Err(doubt) if operation.must_look_after(&doubt) => {
                tracing::info!(
                    items = items.len(),
                    "the answer to a bulk operation was lost; reading the records"
                );
                for item in items {
                    if self.find_applied(item).await.is_none() {
                        return Err(doubt);
                    }
                }
                return Ok(BulkResult::new(Vec::new()));
            }
            carried => carried?,
        };
        let result: BulkResult = decode(&carried.answer)?;
        if carried.repeated { self.without_echoes(operation.repeat, items, result).await } else { Ok(result) }
    }

    /// Leaves out the errors that an earlier attempt of the same call explains.
    async fn without_echoes(&self, repeat: Repeat, items: &[R], result: BulkResult) -> Result<BulkResult> {
        let mut errors = Vec::new();
        for error in &result.errors {
            let is_echo = match repeat {
                Repeat::Freely => false,
                Repeat::UntilGone => error.is_not_found(),
                Repeat::AfterLooking if error.is_conflict() || error.is_precondition_failed() => {
                    match find(items, error) {
                        Some(item) => self.find_applied(item).await.is_some(),
                        None => false,
                    }
                }
                Repeat::AfterLooking => false,
            };
            if !is_echo {
                errors.push(error.clone());
            }
        }
        Ok(if errors.len() < result.errors.len() { BulkResult::new(errors) } else { result })
    }
}

fn find<'a, R: Enrollment>(items: &'a [R], error: &BulkError) -> Option<&'a R> {
    let id = error.id()?;
    items.iter().find(|item| item.id().eq_ignore_ascii_case(id))
}

fn check_count(count: usize) -> Result<()> {
    let why = match count {
        0 => "a bulk operation needs at least one item".to_owned(),
        1..=LIMIT => return Ok(()),
        _ => format!(
            "a bulk operation takes at most {LIMIT} items, not {count}; call it once for each of `items.chunks({LIMIT})`"
        ),
    };
    Err(Error::new(ErrorKind::Config, why))
}

/// Source: DPS service REST API 2021-10-01, RunBulkOperation.
const LIMIT: usize = 10;
