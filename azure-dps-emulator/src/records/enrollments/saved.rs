//! The saved form of enrollments: the shape of the service API, with keys and certificates, as in a seed.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use serde::Serialize;

use crate::call::schema;
use crate::ids;
use crate::json::{Map, Value};
use crate::records::allocation::Allocation;
use crate::records::attestation::Attestation;
use crate::records::enrollments::{Enrolling, Enrollment, Enrollments, View};
use crate::records::store::Records;
use crate::records::store::saved::{Numbered, SavedRecords, Written};

impl Enrollments {
    pub(crate) fn saved(&self) -> impl Serialize + '_ {
        Written(&self.records, |enrollment: &Enrollment| Value::from(enrollment.saved()))
    }

    /// Adds the enrollments of a saved store to an empty one.
    ///
    /// # Errors
    /// Says which enrollment breaks which rule.
    pub(crate) fn restore(
        &mut self,
        saved: SavedRecords<Value>,
        enrolling: &Enrolling,
    ) -> Result<(), String> {
        self.records = Records::after(saved.created);
        for (at, Numbered { number, record }) in saved.records.into_iter().enumerate() {
            let restored = self.restore_one(number, record, enrolling);
            restored.map_err(|why| format!("records[{at}]: {why}"))?;
        }
        Ok(())
    }

    fn restore_one(&mut self, number: u64, record: Value, enrolling: &Enrolling) -> Result<(), String> {
        let Value::Object(given) = record else { return Err("is not an object".to_owned()) };
        let enrollment = self.read(&given, enrolling)?;
        // Every member counts: an enrollment that is saved again must be the same.
        let saved = enrollment.saved();
        if let Some((name, _)) = given.iter().find(|(name, value)| saved.get(name) != Some(value)) {
            return Err(format!("{name} is not as the emulator saves it"));
        }
        self.check_unused(&enrollment.id, &enrollment.attestation).map_err(|refusal| refusal.cause)?;
        let id = enrollment.id.clone();
        self.index.add(self.kind, &id, &enrollment.attestation);
        self.records.restore(&id, number, enrollment).map_err(|why| format!("{id}: {why}"))
    }

    fn read(&self, given: &Map, enrolling: &Enrolling) -> Result<Enrollment, String> {
        let refused = |refusal: crate::refusal::Refusal| refusal.cause;
        let text = |name: &str| {
            given.get(name).and_then(Value::as_str).ok_or_else(|| format!("{name} is missing, or not a text"))
        };
        let time = |name: &str| {
            OffsetDateTime::parse(text(name)?, &Rfc3339).map_err(|_| format!("{name} is not a time"))
        };
        let id = text(self.kind.id_member())?.to_owned();
        if !ids::is_valid(&id) {
            return Err(format!("{} is not a valid id", self.kind.id_member()));
        }
        let (etag, created, updated) =
            (text("etag")?.to_owned(), time("createdDateTimeUtc")?, time("lastUpdatedDateTimeUtc")?);
        let mut members = schema::clean(self.kind.model(), given.clone(), &"")?;
        let attestation = members.remove("attestation");
        let attestation = Attestation::read(self.kind, attestation.as_ref(), None).map_err(refused)?;
        let allocation = Allocation::read(&members, &enrolling.hubs).map_err(refused)?;
        if let Some(why) = given.get("deviceId").and_then(Value::as_str).and_then(ids::why_not_a_device_id) {
            return Err(format!("deviceId {why}"));
        }
        members.shrink_to_fit();
        let word = |name: &str| members.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        Ok(Enrollment {
            kind: self.kind,
            attestation,
            allocation,
            enabled: word("provisioningStatus") != Some("disabled"),
            device_id: word("deviceId").map(str::to_owned),
            etag,
            created,
            updated,
            id,
            members,
        })
    }
}

impl Enrollment {
    fn saved(&self) -> Map {
        self.to_members(self.attestation.saved(), None, View::Whole)
    }
}
