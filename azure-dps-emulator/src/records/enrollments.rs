//! Individual enrollments and enrollment groups: stores them, replaces them under `If-Match`, and returns
//! them.

mod saved;

use time::OffsetDateTime;

use crate::call::etag::check_tag;
use crate::call::kind::Kind;
use crate::call::schema::{Shape, Strictness};
use crate::call::versions;
use crate::clock;
use crate::ids::{self, Ids};
use crate::issuance::reference::Reference;
use crate::json::{Map, Value};
use crate::records::allocation::Allocation;
use crate::records::attestation::Attestation;
use crate::records::hub::Hub;
use crate::records::index::Index;
use crate::records::store::{Order, Position, Records};
use crate::refusal::{ENROLLMENT_EXISTS, GROUP_EXISTS, Refusal};

/// One enrollment.
pub(crate) struct Enrollment {
    kind: Kind,
    /// In the letter case of the first write.
    pub(crate) id: String,
    pub(crate) attestation: Attestation,
    pub(crate) allocation: Allocation,
    pub(crate) enabled: bool,
    /// The device id on the hub, if the enrollment sets one.
    pub(crate) device_id: Option<String>,
    pub(crate) etag: String,
    /// The members that clients write, except the attestation.
    members: Map,
    created: OffsetDateTime,
    updated: OffsetDateTime,
}

impl Enrollment {
    /// The enrollment as listings return it.
    pub(crate) fn public(&self, view: View<'_>) -> Map {
        self.to_members(self.attestation.public(), None, view)
    }

    /// The enrollment as GET returns it. An individual enrollment has the state of its device's registration.
    pub(crate) fn with_state(&self, state: Option<Map>, view: View<'_>) -> Map {
        self.to_members(self.attestation.public(), state, view)
    }

    /// The enrollment as PUT returns it: with its symmetric keys.
    pub(crate) fn with_secrets(&self, view: View<'_>) -> Map {
        self.to_members(self.attestation.with_secrets(), None, view)
    }

    /// A member that clients write, other than the attestation; null if it is absent.
    pub(crate) fn member(&self, name: &str) -> &Value {
        self.members.get(name).unwrap_or(&Value::Null)
    }

    /// The reference to a certificate policy.
    pub(crate) fn certificate_policy(&self) -> Reference<'_> {
        Reference::read(&self.members)
    }

    /// All members in the order of the model.
    fn to_members(&self, attestation: Value, state: Option<Map>, view: View<'_>) -> Map {
        let (mut attestation, mut state) = (Some(attestation), state.map(Value::Object));
        let member = |(name, _): &(&'static str, Shape)| {
            let value = match *name {
                "registrationState" => state.take(),
                "attestation" => attestation.take(),
                "etag" => Some(self.etag.as_str().into()),
                "createdDateTimeUtc" => Some(clock::timestamp(self.created).into()),
                "lastUpdatedDateTimeUtc" => Some(clock::timestamp(self.updated).into()),
                name => self.members.get(name).filter(|_| view.shows(name)).cloned(),
            };
            Some(((*name).to_owned(), value?))
        };
        self.kind.model().iter().filter_map(member).collect()
    }
}

/// The members of an enrollment that are shown.
#[derive(Clone, Copy)]
pub(crate) enum View<'a> {
    Whole,
    /// Those that an api-version knows.
    Of(&'a str),
}

impl View<'_> {
    fn shows(self, member: &str) -> bool {
        match self {
            View::Whole => true,
            View::Of(api_version) => versions::knows(api_version, member),
        }
    }
}

/// All enrollments of one kind.
pub(crate) struct Enrollments {
    kind: Kind,
    records: Records<Enrollment>,
    index: Index,
}

impl Enrollments {
    pub(crate) fn new(kind: Kind) -> Self {
        Enrollments { kind, records: Records::default(), index: Index::default() }
    }

    /// Creates an enrollment, or replaces it when `if_match` allows that.
    pub(crate) fn put(
        &mut self,
        id: &str,
        mut members: Map,
        if_match: Option<&str>,
        enrolling: &Enrolling,
        ids: &mut Ids,
        now: OffsetDateTime,
    ) -> Result<&Enrollment, Refusal> {
        let id_member = self.kind.id_member();
        if !ids::is_valid(id) {
            return Err(Refusal::invalid(format!("{id_member} is not a valid id")));
        }
        match members.get(id_member).and_then(Value::as_str) {
            None => return Err(Refusal::invalid(format!("{id_member} is missing"))),
            Some(named) if !named.eq_ignore_ascii_case(id) => {
                return Err(Refusal::invalid(format!("{id_member} is not the id in the path")));
            }
            Some(_) => {}
        }
        let device_id = members.get("deviceId").and_then(Value::as_str).unwrap_or_default();
        if let Some(why) = ids::why_not_a_device_id(device_id) {
            return Err(Refusal::invalid(format!("deviceId {why}")));
        }
        let stored = self.records.find(id);
        match (stored, if_match) {
            (Some(_), None) => return Err(self.already_exists()),
            (Some(stored), Some(tag)) => check_tag(&stored.etag, tag)?,
            (None, None) => {}
            (None, Some(_)) => return Err(self.not_found(id)),
        }

        let attestation = members.remove("attestation");
        let kept = stored.map(|stored| &stored.attestation).filter(|attestation| {
            enrolling.on_keyless_update == OnKeylessUpdate::Keep
                || !matches!(attestation, Attestation::SymmetricKey { .. })
        });
        let attestation = Attestation::read(self.kind, attestation.as_ref(), kept)?;
        self.check_unused(id, &attestation)?;
        if stored.is_none_or(|stored| stored.attestation.word() != attestation.word()) {
            self.check_room(attestation.word(), enrolling)?;
        }
        let allocation = Allocation::read(&members, &enrolling.hubs)?;
        if enrolling.strictness == Strictness::Strict {
            Reference::read(&members).check()?;
        }
        complete(&mut members);
        let id = stored.map_or_else(|| id.to_owned(), |stored| stored.id.clone());
        members.insert(id_member.into(), id.clone().into());
        members.shrink_to_fit();
        let text = |name: &str| members.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let enrollment = Enrollment {
            kind: self.kind,
            attestation,
            allocation,
            enabled: text("provisioningStatus") != Some("disabled"),
            device_id: text("deviceId").map(str::to_owned),
            etag: ids.etag(now),
            created: stored.map_or(now, |stored| stored.created),
            updated: now,
            members,
            id,
        };
        if let Some(stored) = stored {
            self.index.remove(&stored.id, &stored.attestation);
        }
        self.index.add(self.kind, &enrollment.id, &enrollment.attestation);
        Ok(self.records.put(&enrollment.id.clone(), enrollment))
    }

    pub(crate) fn get(&self, id: &str) -> Result<&Enrollment, Refusal> {
        self.find(id).ok_or_else(|| self.not_found(id))
    }

    pub(crate) fn delete(&mut self, id: &str, if_match: Option<&str>) -> Result<(), Refusal> {
        let stored = self.records.find(id).ok_or_else(|| self.not_found(id))?;
        if let Some(tag) = if_match {
            check_tag(&stored.etag, tag)?;
        }
        self.index.remove(&stored.id, &stored.attestation);
        self.records.remove(id);
        Ok(())
    }

    pub(crate) fn find(&self, id: &str) -> Option<&Enrollment> {
        self.records.find(id)
    }

    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// All of them in the order of their ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Enrollment> {
        self.records.iter()
    }

    /// The enrollments after a position, or all of them, in this order.
    pub(crate) fn behind(
        &self,
        order: Order,
        position: Option<&Position>,
    ) -> impl Iterator<Item = (Position, &Enrollment)> {
        self.records.behind(order, position)
    }

    /// Refuses a new group when the quota for its attestation type is used up.
    fn check_room(&self, attestation: &str, enrolling: &Enrolling) -> Result<(), Refusal> {
        let Some(limit) = enrolling.group_limit.filter(|_| self.kind == Kind::Group) else { return Ok(()) };
        let count = self.iter().filter(|group| group.attestation.word() == attestation).count();
        if u32::try_from(count).is_ok_and(|count| count < limit) {
            return Ok(());
        }
        let message =
            format!("there are {count} enrollment groups with attestation.type {attestation} already");
        Err(Refusal::invalid(message).because(format!("quota: {limit} groups of each attestation type")))
    }

    /// Refuses a device certificate that another individual enrollment already has.
    fn check_unused(&self, id: &str, attestation: &Attestation) -> Result<(), Refusal> {
        if self.kind == Kind::Group {
            return Ok(());
        }
        let holders = attestation.certificates().flat_map(|given| self.index.with_certificate(given));
        let other = holders.filter(|holder| !holder.eq_ignore_ascii_case(id)).min();
        match other.and_then(|other| self.find(other)) {
            None => Ok(()),
            Some(other) => {
                let message =
                    format!("attestation.x509: the certificate is in enrollment {} already", other.id);
                Err(Refusal::invalid(message))
            }
        }
    }

    fn already_exists(&self) -> Refusal {
        match self.kind {
            Kind::Individual => Refusal::new(ENROLLMENT_EXISTS, "Enrollment already exists."),
            Kind::Group => Refusal::new(GROUP_EXISTS, "EnrollmentGroup already exists."),
        }
    }

    fn not_found(&self, id: &str) -> Refusal {
        Refusal::not_found(format!("there is no {} {id}", self.kind.noun().trim_start_matches("an ")))
    }
}

/// Adds the defaults that the service adds. A missing status becomes `enabled`; a null stays null and admits
/// devices as well. Policies with some of their flags get the others; a policy that is missing or null stays
/// missing, and so does `allocationPolicy`, which then follows the instance.
fn complete(members: &mut Map) {
    if !members.contains_key("provisioningStatus") {
        members.insert("provisioningStatus".into(), "enabled".into());
    }
    for (name, flags) in FLAGS {
        if let Some(Value::Object(given)) = members.get_mut(name) {
            let flag = |(flag, default): &(&str, bool)| {
                let value = given.get(flag).cloned().unwrap_or_else(|| (*default).into());
                ((*flag).to_owned(), value)
            };
            *given = flags.iter().map(flag).collect();
        }
    }
}

/// The flags of policies with their defaults.
const FLAGS: [(&str, &[(&str, bool)]); 2] = [
    ("capabilities", &[("iotEdge", false)]),
    ("reprovisionPolicy", &[("updateHubAssignment", true), ("migrateDeviceData", true)]),
];

/// What happens to the symmetric keys of an enrollment when an update contains no keys.
///
/// Which of the two the service does is not confirmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnKeylessUpdate {
    /// The keys are kept.
    #[default]
    Keep,
    /// New keys are generated, and devices with the old keys are refused.
    Regenerate,
}

/// The settings that decide how an enrollment is judged and stored.
#[derive(Default)]
pub(crate) struct Enrolling {
    pub(crate) hubs: Vec<Hub>,
    pub(crate) on_keyless_update: OnKeylessUpdate,
    /// The quota of groups with the same attestation type.
    pub(crate) group_limit: Option<u32>,
    pub(crate) strictness: Strictness,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::pki::Pki;
    use crate::json::json;

    #[test]
    fn tags_match_in_base64_and_as_text_with_and_without_quotes() {
        let stored = "IjBhMDAxZjQyLTAwMDAtMDgwMC0wMDAwLTY0NjgwMWVkMDAwMCI=";
        let inside = "0a001f42-0000-0800-0000-646801ed0000";

        let quoted = [format!("\"{inside}\""), format!("\"{stored}\""), format!(" {stored} ")];
        for if_match in quoted.iter().map(String::as_str).chain(["*", "\"*\"", " * ", stored, inside]) {
            assert!(check_tag(stored, if_match).is_ok(), "{if_match}");
            assert!(if_match.contains('*') || check_tag(&quoted[0], if_match).is_ok(), "{if_match}");
        }
        let other = "IjBhMDAxZjQzLTAwMDAtMDgwMC0wMDAwLTY0NjgwMWVkMDAwMCI=";
        for if_match in ["", "\"\"", "\"", other, &other.to_lowercase(), "\"\"*\"\"", "Ig=="] {
            assert_eq!(check_tag(stored, if_match).unwrap_err().code, 412_001, "{if_match}");
        }
    }

    #[test]
    fn if_match_decides_between_creating_and_replacing() {
        let mut shelf = Shelf::new();

        assert_eq!(shelf.put("a", Some("*")).unwrap_err(), 404_201);
        assert_eq!(shelf.put("a", Some("\"x\"")).unwrap_err(), 404_201);
        let first = shelf.put("a", None).unwrap();
        assert_eq!(shelf.put("a", None).unwrap_err(), 409_202);
        assert_eq!(shelf.put("A", None).unwrap_err(), 409_202);
        let second = shelf.put("a", Some(&first)).unwrap();
        assert_eq!(shelf.put("a", Some(&first)).unwrap_err(), 412_001);
        let third = shelf.put("a", Some("*")).unwrap();
        assert!(first != second && second != third);
        assert_eq!(shelf.enrollments.delete("a", Some(&second)).unwrap_err().code, 412_001);
        assert!(shelf.enrollments.delete("A", Some(&third)).is_ok());
        assert_eq!(shelf.enrollments.delete("a", None).unwrap_err().code, 404_201);
        assert_eq!(shelf.enrollments.get("a").err().unwrap().cause, "there is no enrollment group a");
    }

    #[test]
    fn an_id_keeps_the_letter_case_of_its_first_write() {
        let mut shelf = Shelf::new();

        shelf.put("Plant", None).unwrap();
        shelf.put("PLANT", Some("*")).unwrap();

        assert_eq!(shelf.enrollments.get("plant").unwrap().public(View::Whole)["enrollmentGroupId"], "Plant");
    }

    #[test]
    fn partly_given_policies_are_completed() {
        let mut members = json!({"reprovisionPolicy": {"migrateDeviceData": false}, "capabilities": {}});

        complete(members.as_object_mut().unwrap());

        assert_eq!(
            members,
            json!({
                "reprovisionPolicy": {"updateHubAssignment": true, "migrateDeviceData": false},
                "capabilities": {"iotEdge": false},
                "provisioningStatus": "enabled",
            })
        );
    }

    #[test]
    fn an_update_without_keys_keeps_the_keys_or_generates_new_ones() {
        let mut shelf = Shelf::new();
        let keys = |shelf: &mut Shelf| {
            shelf.put("a", shelf.enrollments.find("a").map(|_| "*")).unwrap();
            shelf.enrollments.find("a").unwrap().attestation.with_secrets()
        };

        let first = keys(&mut shelf);
        assert_eq!(keys(&mut shelf), first);
        shelf.enrolling.on_keyless_update = OnKeylessUpdate::Regenerate;
        assert_ne!(keys(&mut shelf), first);
    }

    #[test]
    fn a_device_certificate_belongs_to_one_enrollment_until_that_is_deleted_or_gets_another() {
        let pki = Pki::new(["a", "b", "c"], 0).unwrap();
        let pems: Vec<&str> = pki.devices.iter().map(|device| device.certificate_pem.as_str()).collect();
        let (mut enrollments, mut ids) = (Enrollments::new(Kind::Individual), Ids::default());
        let put =
            |enrollments: &mut Enrollments, ids: &mut Ids, id: &str, [primary, secondary]: [usize; 2]| {
                let slot = |number: usize| json!({"certificate": pems[number]});
                let slots = json!({"primary": slot(primary), "secondary": slot(secondary)});
                let attestation = json!({"type": "x509", "x509": {"clientCertificates": slots}});
                let body = json!({"registrationId": id, "attestation": attestation});
                let (members, tag) = (body.as_object().unwrap().clone(), enrollments.find(id).map(|_| "*"));
                let put =
                    enrollments.put(id, members, tag, &Enrolling::default(), ids, OffsetDateTime::UNIX_EPOCH);
                put.map(|_| ()).map_err(|refusal| refusal.message)
            };
        let in_use =
            |id: &str| Err(format!("attestation.x509: the certificate is in enrollment {id} already"));

        assert_eq!(put(&mut enrollments, &mut ids, "Unit-2", [0, 0]), Ok(()));
        assert_eq!(put(&mut enrollments, &mut ids, "unit-2", [0, 1]), Ok(()));
        assert_eq!(put(&mut enrollments, &mut ids, "unit-1", [2, 0]), in_use("Unit-2"));
        assert_eq!(put(&mut enrollments, &mut ids, "unit-1", [2, 2]), Ok(()));
        assert_eq!(put(&mut enrollments, &mut ids, "unit-3", [0, 2]), in_use("unit-1"));
        assert_eq!(put(&mut enrollments, &mut ids, "unit-2", [1, 1]), Ok(()));
        assert_eq!(put(&mut enrollments, &mut ids, "unit-3", [0, 0]), Ok(()));
        assert!(enrollments.delete("unit-1", None).is_ok());
        assert_eq!(put(&mut enrollments, &mut ids, "unit-3", [2, 2]), Ok(()));
    }

    struct Shelf {
        enrolling: Enrolling,
        enrollments: Enrollments,
        ids: Ids,
    }

    impl Shelf {
        fn new() -> Self {
            Shelf {
                enrolling: Enrolling::default(),
                enrollments: Enrollments::new(Kind::Group),
                ids: Ids::default(),
            }
        }

        fn put(&mut self, id: &str, if_match: Option<&str>) -> Result<String, u32> {
            let body = json!({"enrollmentGroupId": id, "attestation": {"type": "symmetricKey"}});
            let members = body.as_object().unwrap().clone();
            self.enrollments
                .put(id, members, if_match, &self.enrolling, &mut self.ids, OffsetDateTime::UNIX_EPOCH)
                .map(|enrollment| enrollment.etag.clone())
                .map_err(|refusal| refusal.code)
        }
    }
}
