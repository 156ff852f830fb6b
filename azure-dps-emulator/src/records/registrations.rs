//! Registration records, one for each registration id, and the operations by which devices wait for them.
//!
//! | record | event | then |
//! | --- | --- | --- |
//! | absent, or settled | register | assigning |
//! | assigning | register | assigning, with one more operation; decisions count for the latest one only |
//! | assigning | decision | assigning: the outcome is not visible yet |
//! | assigning | poll that comes too early (see [`Wait`]) or before the decision | assigning |
//! | assigning | any other poll | settled: assigned, failed or disabled; a wanted certificate is issued |
//! | settled | poll of any of its operations | unchanged |
//! | any | delete | absent, and its operations are unknown |
//!
//! A record keeps its latest 256 operations.

pub(crate) mod saved;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::call::etag::check_tag;
use crate::call::versions;
use crate::clock::{self, Moment};
use crate::ids::Ids;
use crate::issuance::authority::IssuedChain;
use crate::issuance::{Due, Wanted};
use crate::json::{Map, Value, json};
use crate::records::operation::{Operation, Wait};
use crate::records::outcome::Outcome;
use crate::records::proof::{Proof, Via};
use crate::records::store::{Order, Position, Records};
use crate::records::tpm::Proven;
use crate::refusal::{Refusal, UNKNOWN_OPERATION};

/// One registration record.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Record {
    registration_id: String,
    via: Via,
    proof: Proof,
    /// The hub and device id of the last assignment, and how the device was enrolled then.
    assignment: Option<(String, String, Via)>,
    /// The TPM of the last assignment, with the key that it shares with its hub.
    equipped: Option<Proven>,
    /// Oldest first.
    operations: VecDeque<Operation>,
    /// The outcome of the latest operation, once it is decided.
    #[serde(serialize_with = "saved::outcome")]
    outcome: Option<Outcome>,
    /// Whether clients can see the outcome.
    settled: bool,
    etag: String,
    #[serde(with = "crate::saved::at")]
    created: OffsetDateTime,
    #[serde(with = "crate::saved::at")]
    updated: OffsetDateTime,
}

impl Record {
    /// The assigned hub, and the device id there.
    pub(crate) fn current(&self) -> Option<(&str, &str)> {
        self.assignment.as_ref().map(|(hub, id, _)| (hub.as_str(), id.as_str()))
    }

    /// The assigned device id, which the device keeps as long as it is enrolled in the same way.
    pub(crate) fn current_device_id(&self, via: &Via) -> Option<&str> {
        self.assignment.as_ref().filter(|(_, _, then)| then == via).map(|(_, id, _)| id.as_str())
    }

    /// The key that signs for the device at its hub, if its TPM got one.
    pub(crate) fn hub_key(&self) -> Option<&[u8]> {
        self.equipped.as_ref().and_then(Proven::hub_key)
    }

    /// The hub key, if the TPM that got it is the one in this proof.
    pub(crate) fn hub_key_of(&self, proof: &Proof) -> Option<&[u8]> {
        match (&self.equipped, proof) {
            (Some(before), Proof::Tpm(now)) if before.is_same_tpm(now) => before.hub_key(),
            _ => None,
        }
    }

    /// Returns whether the device last registered through an individual enrollment.
    pub(crate) fn is_individual(&self) -> bool {
        self.via == Via::Individual
    }

    /// Returns whether the device last registered through this group.
    pub(crate) fn is_of_group(&self, id: &str) -> bool {
        self.group().is_some_and(|group| group.eq_ignore_ascii_case(id))
    }

    /// The group through which the device last registered.
    pub(crate) fn group(&self) -> Option<&str> {
        match &self.via {
            Via::Group(group) => Some(group),
            Via::Individual => None,
        }
    }

    pub(crate) fn status(&self) -> &'static str {
        match self.visible_outcome() {
            None => ASSIGNING,
            Some(Outcome::Assigned { .. }) => "assigned",
            Some(Outcome::Failed { .. }) => "failed",
            Some(Outcome::Disabled) => "disabled",
        }
    }

    /// The warning about an assignment, for the journal.
    pub(crate) fn warning(&self) -> Option<String> {
        match self.visible_outcome()? {
            Outcome::Assigned { warning, .. } => warning.clone(),
            Outcome::Failed { .. } | Outcome::Disabled => None,
        }
    }

    /// Why a registration ended without a hub, for the journal.
    pub(crate) fn cause(&self) -> Option<String> {
        match (self.visible_outcome()?, &self.via) {
            (Outcome::Assigned { .. }, _) => None,
            (Outcome::Failed { cause, .. }, _) => Some(cause.clone()),
            (Outcome::Disabled, Via::Individual) => {
                Some(format!("enrollment {} is disabled", self.registration_id))
            }
            (Outcome::Disabled, Via::Group(group)) => Some(format!("enrollment group {group} is disabled")),
        }
    }

    fn begin_again(
        &mut self,
        operation: Operation,
        (via, proof): (Via, Proof),
        etag: String,
        now: OffsetDateTime,
    ) {
        (self.via, self.proof, self.etag) = (via, proof, etag);
        (self.outcome, self.settled) = (None, false);
        (self.created, self.updated) = (now, now);
        if self.operations.len() == KEPT {
            self.operations.pop_front();
        }
        self.operations.push_back(operation);
    }

    fn visible_outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref().filter(|_| self.settled)
    }

    /// The record as the service API returns it with this api-version.
    pub(crate) fn for_service(&self, api_version: &str) -> Map {
        self.state(api_version).collect()
    }

    /// The members of the record in the order of the service.
    fn state(&self, api_version: &str) -> impl Iterator<Item = (String, Value)> {
        let (mut hub, mut device_id, mut substatus, mut payload) = (None, None, None, None);
        let (mut error_code, mut error_message, mut profile) = (None, None, None);
        match self.visible_outcome() {
            None | Some(Outcome::Disabled) => {}
            Some(Outcome::Assigned {
                hub: at,
                device_id: id,
                substatus: how,
                payload: given,
                connection_profile,
                ..
            }) => {
                (hub, device_id) = (Some(at.as_str().into()), Some(id.as_str().into()));
                (substatus, payload) = (Some(how.word(api_version).into()), given.clone());
                profile = connection_profile.as_deref().map(Value::from);
            }
            Some(Outcome::Failed { code, message, .. }) => {
                (error_code, error_message) = (Some((*code).into()), Some(message.as_str().into()));
            }
        }
        let members = [
            ("registrationId", Some(self.registration_id.as_str().into())),
            ("createdDateTimeUtc", Some(clock::timestamp(self.created).into())),
            ("assignedHub", hub),
            ("deviceId", device_id),
            ("status", Some(self.status().into())),
            ("substatus", substatus),
            ("errorCode", error_code),
            ("errorMessage", error_message),
            ("lastUpdatedDateTimeUtc", Some(clock::timestamp(self.updated).into())),
            ("etag", Some(self.etag.as_str().into())),
            ("payload", payload),
            ("connectionProfile", profile.filter(|_| versions::knows(api_version, "connectionProfile"))),
        ];
        members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)))
    }

    /// The record as the device API returns it: id and status while assigning; once settled, all members and
    /// the attestation of the device.
    pub(crate) fn for_device(&self, api_version: &str) -> Value {
        if self.visible_outcome().is_none() {
            return json!({"registrationId": self.registration_id, "status": ASSIGNING});
        }
        let proof = self.proof.state_member(&self.via).map(|(name, proof)| (name.to_owned(), proof));
        Value::Object(proof.into_iter().chain(self.state(api_version)).collect())
    }

    /// The record as a poll of an operation returns it: with the certificate that was issued for it. Only the
    /// latest operation has one.
    pub(crate) fn for_poll(&self, operation_id: &str, api_version: &str) -> Value {
        let mut state = self.for_device(api_version);
        let is_latest = self.operations.back().is_some_and(|latest| latest.id == operation_id);
        if let (Some(Outcome::Assigned { certificate: Due::Issued(chain), .. }), Value::Object(members)) =
            (self.visible_outcome(), &mut state)
            && is_latest
            && versions::knows(api_version, CHAIN)
        {
            members.insert(CHAIN.to_owned(), chain.iter().map(Value::from).collect());
        }
        state
    }
}

/// The record that the service API returns for an enrolled device that has never registered.
pub(crate) fn unassigned(registration_id: &str) -> Map {
    let members = [("registrationId", registration_id), ("status", "unassigned")];
    members.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect()
}

/// All records.
#[derive(Default)]
pub(crate) struct Registrations {
    records: Records<Record>,
}

impl Registrations {
    /// Begins a registration without an outcome, and returns the id of its operation.
    pub(crate) fn begin(
        &mut self,
        registration_id: &str,
        (via, proof): (Via, Proof),
        wait: Wait,
        ids: &mut Ids,
        now: OffsetDateTime,
    ) -> String {
        let (etag, operation) = (ids.etag(now), ids.operation(registration_id));
        let begun = Operation { id: operation.clone(), wait };
        match self.records.find_mut(registration_id) {
            Some(record) => record.begin_again(begun, (via, proof), etag, now),
            None => {
                let record = Record {
                    registration_id: registration_id.to_owned(),
                    via,
                    proof,
                    assignment: None,
                    equipped: None,
                    operations: VecDeque::from([begun]),
                    outcome: None,
                    settled: false,
                    etag,
                    created: now,
                    updated: now,
                };
                self.records.put(registration_id, record);
            }
        }
        operation
    }

    /// Returns whether this is the latest operation of its record and its outcome is not decided.
    pub(crate) fn awaits(&self, registration_id: &str, operation_id: &str) -> bool {
        self.find(registration_id)
            .filter(|record| record.outcome.is_none())
            .and_then(|record| record.operations.back())
            .is_some_and(|latest| latest.id == operation_id)
    }

    /// Seals a hub key for a device with a TPM: the known one, or a new one. Returns the proof, which then
    /// also says how the device authenticates at its hub.
    pub(crate) fn assign_hub_key(
        &mut self,
        registration_id: &str,
        known: Option<&[u8]>,
    ) -> Result<&Proof, Refusal> {
        let record = self.records.find_mut(registration_id);
        let record = record.ok_or_else(|| Refusal::not_found("the record is gone"))?;
        if let Proof::Tpm(proven) = &mut record.proof {
            proven.deliver(known, registration_id)?;
        }
        Ok(&record.proof)
    }

    /// Decides the latest operation; the next poll that is not too early shows the outcome.
    pub(crate) fn decide(&mut self, registration_id: &str, outcome: Outcome) {
        let Some(record) = self.records.find_mut(registration_id) else { return };
        if let Outcome::Assigned { hub, device_id, .. } = &outcome {
            record.assignment = Some((hub.clone(), device_id.clone(), record.via.clone()));
            record.equipped = match &record.proof {
                Proof::Tpm(proven) => Some(proven.clone()),
                _ => None,
            };
        }
        record.outcome = Some(outcome);
    }

    /// Judges a poll, and returns the record as it is afterwards. `issue` makes the certificate of the device if
    /// this poll is the first that shows its assignment.
    pub(crate) fn poll(
        &mut self,
        registration_id: &str,
        operation_id: &str,
        ids: &mut Ids,
        now: Moment,
        issue: impl FnOnce(&Wanted) -> Result<IssuedChain, rcgen::Error>,
    ) -> Result<&Record, Refusal> {
        let unknown = || {
            let cause = format!("{registration_id} has no operation {operation_id}");
            Refusal::new(UNKNOWN_OPERATION, "Operation not found.").because(cause)
        };
        let record = self.records.find_mut(registration_id).ok_or_else(unknown)?;
        let operation = record.operations.iter_mut().find(|operation| operation.id == operation_id);
        let operation = operation.ok_or_else(unknown)?;
        if record.settled {
            return Ok(record);
        }
        if operation.wait.is_over(now)
            && let Some(outcome) = &mut record.outcome
        {
            outcome.complete(issue);
            record.settled = true;
            record.etag = ids.etag(now.shown);
            record.updated = now.shown;
        }
        Ok(record)
    }

    /// All records in the order of their ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Record> {
        self.records.iter()
    }

    /// The records after a position, or all of them, in this order.
    pub(crate) fn behind(
        &self,
        order: Order,
        position: Option<&Position>,
    ) -> impl Iterator<Item = (Position, &Record)> {
        self.records.behind(order, position)
    }

    pub(crate) fn find(&self, registration_id: &str) -> Option<&Record> {
        self.records.find(registration_id)
    }

    pub(crate) fn get(&self, registration_id: &str) -> Result<&Record, Refusal> {
        self.find(registration_id).ok_or_else(|| {
            Refusal::not_found(format!("{registration_id} has never registered"))
                .with_message("Registration not found")
        })
    }

    pub(crate) fn delete(&mut self, registration_id: &str, if_match: Option<&str>) -> Result<(), Refusal> {
        let record = self.get(registration_id)?;
        if let Some(tag) = if_match {
            check_tag(&record.etag, tag)?;
        }
        self.forget(registration_id);
        Ok(())
    }

    /// Removes the record, if there is one.
    pub(crate) fn forget(&mut self, registration_id: &str) {
        self.records.remove(registration_id);
    }
}

/// How many operations a record keeps.
const KEPT: usize = 256;
const ASSIGNING: &str = "assigning";
const CHAIN: &str = "issuedCertificateChain";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;
    use crate::records::reprovision::Substatus;

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    #[test]
    fn an_operation_is_assigning_for_as_many_polls_as_set() {
        for polls in 0..3 {
            let mut desk = Desk::default();
            let operation = desk.begin("Dev1", polls);

            for _ in 0..polls {
                assert_eq!(desk.poll("dev1", &operation).unwrap(), "assigning");
            }

            assert_eq!(desk.poll("dev1", &operation).unwrap(), "assigned");
            assert_eq!(desk.poll("DEV1", &operation).unwrap(), "assigned");
        }
    }

    #[test]
    fn polls_before_the_due_time_are_answered_assigning() {
        let mut clock = Clock::default();
        clock.set(NOW.into());
        for seconds in [0, 1, 3] {
            let mut desk = Desk::default();
            let due = clock.moment().after(Duration::from_secs(seconds));
            let operation = desk.begin_undecided("dev1", Wait::Until(due));
            desk.registrations.decide("dev1", assigned("dev1", Substatus::InitialAssignment));
            for _ in 0..seconds {
                assert_eq!(desk.poll_at("dev1", &operation, clock.moment()).unwrap(), "assigning");
                clock.advance(Duration::from_secs(1));
            }
            assert_eq!(desk.poll_at("dev1", &operation, clock.moment()).unwrap(), "assigned");
        }
    }

    #[test]
    fn a_new_registration_has_its_own_operation_and_the_same_record() {
        let mut desk = Desk::default();
        let first = desk.begin("dev1", 0);
        desk.poll("dev1", &first).unwrap();

        let second = desk.begin("DEV1", 1);

        assert_ne!(first, second);
        assert_eq!(desk.poll("dev1", &second).unwrap(), "assigning");
        assert_eq!(desk.poll("dev1", &second).unwrap(), "assigned");
        let record = desk.registrations.get("dev1").ok().unwrap();
        assert_eq!(record.registration_id, "dev1");
        assert_eq!(record.current(), Some(("hub-1.example", "DEV1")));
    }

    #[test]
    fn the_oldest_operation_is_dropped_to_make_room() {
        let mut desk = Desk::default();
        let operations: Vec<_> = (0..=KEPT).map(|_| desk.begin("dev1", 0)).collect();

        assert_eq!(desk.poll("dev1", &operations[0]).unwrap_err(), 404_203);
        assert_eq!(desk.poll("dev1", &operations[1]).unwrap(), "assigned");
    }

    #[test]
    fn an_operation_belongs_to_its_device() {
        let mut desk = Desk::default();
        let operation = desk.begin("dev1", 0);
        desk.begin("dev2", 0);

        assert_eq!(desk.poll("dev2", &operation).unwrap_err(), 404_203);
        assert_eq!(desk.poll("dev1", "5.0.0").unwrap_err(), 404_203);
    }

    #[test]
    fn deleting_a_record_deletes_its_operations() {
        let mut desk = Desk::default();
        let operation = desk.begin("dev1", 0);

        assert_eq!(desk.registrations.delete("dev1", Some("\"stale\"")).unwrap_err().code, 412_001);
        let etag = desk.registrations.get("dev1").ok().unwrap().etag.clone();
        assert!(desk.registrations.delete("dev1", Some(&format!("\"{etag}\""))).is_ok());

        assert_eq!(desk.poll("dev1", &operation).unwrap_err(), 404_203);
        assert_eq!(desk.registrations.delete("dev1", None).unwrap_err().code, 404_201);
    }

    #[test]
    fn an_undecided_registration_stays_assigning_and_only_its_latest_operation_waits() {
        let mut desk = Desk::default();
        let first = desk.begin_undecided("dev1", Wait::Polls(0));
        let second = desk.begin_undecided("dev1", Wait::Polls(0));

        assert_eq!(desk.poll("dev1", &second).unwrap(), "assigning");
        assert!(!desk.registrations.awaits("dev1", &first));
        assert!(desk.registrations.awaits("dev1", &second));
        desk.registrations.decide("dev1", assigned("dev1", Substatus::InitialAssignment));
        assert!(!desk.registrations.awaits("dev1", &second));

        assert_eq!(desk.poll("dev1", &second).unwrap(), "assigned");
    }

    #[test]
    fn old_clients_get_a_substatus_that_they_know() {
        let mut desk = Desk::default();
        let operation = desk.begin_undecided("dev1", Wait::Polls(0));
        desk.registrations.decide("dev1", assigned("dev1", Substatus::ReprovisionedToInitialAssignment));
        desk.poll("dev1", &operation).unwrap();

        let record = desk.registrations.get("dev1").ok().unwrap();
        for (version, substatus) in [
            ("2019-03-31", "initialAssignment"),
            ("2019-04-15", "reprovisionedToInitialAssignment"),
            ("2021-10-01", "reprovisionedToInitialAssignment"),
        ] {
            assert_eq!(record.for_service(version)["substatus"], substatus, "{version}");
            assert_eq!(record.for_device(version)["substatus"], substatus, "{version}");
        }
    }

    #[derive(Default)]
    struct Desk {
        registrations: Registrations,
        ids: Ids,
    }

    impl Desk {
        fn begin(&mut self, id: &str, polls: u32) -> String {
            let operation = self.begin_undecided(id, Wait::Polls(polls));
            self.registrations.decide(id, assigned(id, Substatus::InitialAssignment));
            operation
        }

        fn begin_undecided(&mut self, id: &str, wait: Wait) -> String {
            let proof = Proof::SymmetricKey { primary: Vec::new(), secondary: Vec::new() };
            self.registrations.begin(id, (Via::Individual, proof), wait, &mut self.ids, NOW)
        }

        fn poll(&mut self, id: &str, operation: &str) -> Result<&'static str, u32> {
            self.poll_at(id, operation, Clock::default().moment())
        }

        fn poll_at(&mut self, id: &str, operation: &str, now: Moment) -> Result<&'static str, u32> {
            match self.registrations.poll(id, operation, &mut self.ids, now, no_certificate) {
                Ok(record) => Ok(record.status()),
                Err(refusal) => Err(refusal.code),
            }
        }
    }
    fn no_certificate(_: &Wanted) -> Result<IssuedChain, rcgen::Error> {
        Err(rcgen::Error::CouldNotParseKeyPair)
    }

    fn assigned(id: &str, substatus: Substatus) -> Outcome {
        Outcome::Assigned {
            hub: "hub-1.example".into(),
            device_id: id.into(),
            substatus,
            certificate: Due::Nothing,
            connection_profile: None,
            payload: None,
            warning: None,
        }
    }
}
