//! Several enrollments in one call.

use std::collections::HashSet;

use azure_dps_core::models::{ApiVersion, BulkError, BulkMode, BulkOperation, BulkResult};
use azure_dps_core::{Error, ErrorKind, Result};

use crate::call::{Call, Tries};
use crate::collection::Collection;
use crate::pipeline::may_repeat_after_reread;
use crate::request::{Operation, Repeat};
use crate::resource::Enrollment;
use crate::settle::{Condition, Verdict};
use crate::version;

impl<R: Enrollment> Collection<R> {
    /// Applies the same operation to up to ten enrollments in one call. The service handles each item
    /// separately.
    ///
    /// The call succeeds even when every item failed: the errors in the result name the items that failed,
    /// the others succeeded. The answer contains no records;
    /// [`attestation_mechanism`](Self::attestation_mechanism) returns keys that the service generated.
    ///
    /// [`BulkMode::UpdateIfMatchETag`] with the `etag` that was read replaces records: members that an item
    /// leaves out are removed, and a record that was read has no symmetric keys. [`update`](Self::update)
    /// handles both for one record. [`BulkMode::Update`] without an `etag` replaces nothing: the service
    /// answers with an error for each item that exists, 409201 or for groups 409202. To replace a record
    /// regardless of its version, use [`replace`](Self::replace).
    ///
    /// The order of the items is not documented, nor whether [`BulkMode::Delete`] compares the `etag` of an
    /// item: clear the tags of listed records before you delete them.
    ///
    /// When the answer is lost, the client repeats `Update` and `Delete`. After the other modes it reads each
    /// record: if all of them are new and equal to the items, the call has succeeded; otherwise it sends the
    /// operation again while retries are left. Items that fail because an earlier attempt was applied count
    /// as successes. If a record cannot be read, the error reports that the operation [may have been
    /// applied](Error::maybe_applied).
    ///
    /// Right: `EnrollmentWrite`; after a lost answer also `EnrollmentRead`. Billed as one call; after a lost
    /// answer up to two more for each item and attempt.
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
    /// [`ErrorKind::Config`], before anything is sent, for no item or more than ten, a repeated id, a private
    /// key instead of a certificate, or a member for certificates that the api-version of the client does not
    /// know. [`ErrorKind::Service`] when the service refuses the operation as a whole; then no item is
    /// changed.
    #[doc(alias = "runBulkEnrollmentOperation")]
    #[doc(alias = "RunBulkEnrollmentOperationAsync")]
    pub async fn run_bulk_operation(&self, mode: BulkMode, items: &[R]) -> Result<BulkResult> {
        check(items, &self.pipeline.api_version)?;
        let mut call = self.pipeline.begin();
        let bulk = BulkOperation::new(mode, items);
        let operation = Operation::run_bulk_operation(R::COLLECTION, &bulk)?;
        let mut tries = self.pipeline.tries(&operation);
        loop {
            let answered = self.pipeline.send_with_retries(&operation, &mut call, &mut tries).await;
            let error = match answered.and_then(|answer| tries.decode::<BulkResult>(&answer)) {
                Ok(result) if tries.may_echo => {
                    return Ok(self.without_echoes(&operation, &bulk, result, &tries, &mut call).await);
                }
                Err(error) if tries.must_reread_after(&operation, &error) => error,
                done => return done.map_err(|error| tries.end(error)),
            };
            tracing::info!(
                items = items.len(),
                "the outcome of a bulk operation is unknown; reading the records"
            );
            let Some(verdicts) = self.reread_all(&bulk, &tries, &mut call).await else {
                return Err(tries.end(error));
            };
            if verdicts.iter().all(|verdict| *verdict == Verdict::Applied) {
                return Ok(BulkResult::new(Vec::new()));
            }
            tries.doubt = verdicts.iter().any(|verdict| *verdict != Verdict::NotApplied);
            if !may_repeat_after_reread(&error) || !call.pause(tries.pause(&error)).await {
                return Err(tries.end(error));
            }
        }
    }

    /// The verdict on each item; `None` when a record cannot be read.
    async fn reread_all(
        &self,
        bulk: &BulkOperation<'_, R>,
        tries: &Tries,
        call: &mut Call,
    ) -> Option<Vec<Verdict>> {
        let mut verdicts = Vec::new();
        for item in bulk.items.iter() {
            verdicts.push(self.reread(item, condition(&bulk.mode, item), tries, call).await?.0);
        }
        Some(verdicts)
    }

    /// The result without the errors of items to which an earlier attempt was already applied.
    async fn without_echoes(
        &self,
        operation: &Operation,
        bulk: &BulkOperation<'_, R>,
        result: BulkResult,
        tries: &Tries,
        call: &mut Call,
    ) -> BulkResult {
        let mut errors = Vec::new();
        for error in &result.errors {
            let item = bulk.items.iter().find(|item| is_about(error, item.id()));
            let is_echo = match (operation.repeat, item) {
                (Repeat::UntilGone, _) => error.is_not_found(),
                (_, Some(item)) if error.is_conflict() || error.is_precondition_failed() => {
                    let reread = self.reread(item, condition(&bulk.mode, item), tries, call).await;
                    matches!(reread, Some((Verdict::Applied, _)))
                }
                _ => false,
            };
            if !is_echo {
                errors.push(error.clone());
            }
        }
        if errors.len() < result.errors.len() { BulkResult::new(errors) } else { result }
    }
}

/// The condition under which the service applies an item.
fn condition<'a, R: Enrollment>(mode: &BulkMode, item: &'a R) -> Condition<'a> {
    match (mode, item.tag()) {
        (BulkMode::Create, _) | (BulkMode::Update, None) => Condition::Absent,
        (BulkMode::Update | BulkMode::UpdateIfMatchETag, tag) => Condition::Version(tag),
        _ => Condition::Version(None),
    }
}

fn is_about(error: &BulkError, id: &str) -> bool {
    error.id().is_some_and(|own| own.eq_ignore_ascii_case(id))
}

/// Refuses operations that the service refuses as a whole, and items that must not be sent.
fn check<R: Enrollment>(items: &[R], api_version: &ApiVersion) -> Result<()> {
    let why = match items.len() {
        0 => "a bulk operation needs at least one item".to_owned(),
        1..=LIMIT => String::new(),
        count => format!(
            "a bulk operation takes at most {LIMIT} items, not {count}; call it once for each of \
             `items.chunks({LIMIT})`"
        ),
    };
    if !why.is_empty() {
        return Err(Error::new(ErrorKind::Config, why));
    }
    let mut ids = HashSet::new();
    for item in items {
        if !ids.insert(item.id().to_ascii_lowercase()) {
            let message =
                format!("{:?} is twice in the bulk operation; the case of an id does not matter", item.id());
            return Err(Error::new(ErrorKind::Config, message));
        }
        item.attestation().check()?;
        version::check_members(api_version, item)?;
    }
    Ok(())
}

/// Source: DPS service REST API 2021-10-01, RunBulkOperation.
const LIMIT: usize = 10;
