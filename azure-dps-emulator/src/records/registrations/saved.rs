//! The saved form of registration records.

use std::convert::identity;

use serde::{Serialize, Serializer};

use crate::clock::Moment;
use crate::issuance::Due;
use crate::issuance::authority::IssuingAuthority;
use crate::records::operation::Wait;
use crate::records::outcome::Outcome;
use crate::records::registrations::{KEPT, Record, Registrations};
use crate::records::store::Records;
use crate::records::store::saved::{Numbered, SavedRecords, Written};
use crate::refusal::WEBHOOK_FAILED;

impl Registrations {
    pub(crate) fn saved(&self) -> impl Serialize + '_ {
        Written(&self.records, identity::<&Record>)
    }

    /// The records of a saved store.
    ///
    /// # Errors
    /// Says which record breaks which rule.
    pub(crate) fn restored(
        saved: SavedRecords<Record>,
        authority: &IssuingAuthority,
        now: Moment,
    ) -> Result<Self, String> {
        let mut records = Records::after(saved.created);
        for (at, Numbered { number, mut record }) in saved.records.into_iter().enumerate() {
            record.resume(authority, now);
            let id = record.registration_id.clone();
            let restored = match record.operations.len() {
                1..=KEPT => records.restore(&id, number, record),
                count => Err(format!("has {count} operations, and there are 1 to {KEPT}")),
            };
            restored.map_err(|why| format!("records[{at}]: {id}: {why}"))?;
        }
        Ok(Registrations { records })
    }
}

impl Record {
    /// Goes on with a record that was saved at another time.
    fn resume(&mut self, authority: &IssuingAuthority, now: Moment) {
        for operation in &mut self.operations {
            if let Wait::Until(due) = &mut operation.wait {
                *due = now.due_at(due.shown);
            }
        }
        if let Some(Outcome::Assigned { certificate: Due::Issued(chain), .. }) = &mut self.outcome {
            authority.share(chain);
        }
    }
}

/// Writes the outcome of a registration. One that waits for its webhook is written as failed, because the
/// answer will not come.
pub(super) fn outcome<S: Serializer>(outcome: &Option<Outcome>, serializer: S) -> Result<S::Ok, S::Error> {
    match outcome {
        Some(outcome) => outcome.serialize(serializer),
        None => Outcome::Failed {
            code: WEBHOOK_FAILED,
            message: "Custom allocation failed: the emulator ended before the webhook answered.".to_owned(),
            cause: "the state was saved while the webhook was called, and the answer is lost".to_owned(),
        }
        .serialize(serializer),
    }
}
