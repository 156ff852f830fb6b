//! The service API: what back ends ask for about enrollments, groups and registration records. Bulk operations are in
//! [`crate::bulk`].

use crate::json::{Map, Value};
use time::OffsetDateTime;

use crate::access::Need;
use crate::allocation::Allocation;
use crate::answer::{Answer, Refusal};
use crate::enrollments::{Enrollment, Kind};
use crate::listing::{Listing, PageHeaders, Wanted};
use crate::records::Order;
use crate::registrations::{Record, unassigned};
use crate::schema::{self, QUERY_SPECIFICATION};
use crate::service::{Presented, State};
use crate::settings::Settings;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServiceOperation {
    Put(Kind),
    Get(Kind),
    Delete(Kind),
    AttestationMechanism(Kind),
    List(Kind),
    Bulk(Kind),
    GetRegistration,
    DeleteRegistration,
    /// The id is that of a group.
    ListRegistrations,
}

impl ServiceOperation {
    pub(crate) fn need(self) -> Need {
        match self {
            ServiceOperation::Get(_) | ServiceOperation::List(_) => Need::ReadEnrollments,
            ServiceOperation::AttestationMechanism(_) => Need::ReadSecrets,
            ServiceOperation::Put(_) | ServiceOperation::Delete(_) | ServiceOperation::Bulk(_) => {
                Need::WriteEnrollments
            }
            ServiceOperation::GetRegistration | ServiceOperation::ListRegistrations => {
                Need::ReadRegistrations
            }
            ServiceOperation::DeleteRegistration => Need::WriteRegistrations,
        }
    }
}

/// What a request to the service API asks for.
pub(crate) struct Asked {
    pub(crate) operation: ServiceOperation,
    /// Empty where the operation is about a whole collection.
    pub(crate) id: String,
    pub(crate) if_match: Option<String>,
    pub(crate) page: PageHeaders,
}

impl State {
    pub(crate) fn serve_back_end(
        &mut self,
        asked: &Asked,
        presented: &Presented,
        settings: &Settings,
        now: OffsetDateTime,
    ) -> Result<Answer, Refusal> {
        let (body, api_version) = (&presented.body, presented.api_version());
        let Asked { id, page, .. } = asked;
        let if_match = asked.if_match.as_deref();
        match asked.operation {
            ServiceOperation::Put(kind) => {
                let members = schema::read(kind.model(), body, settings.strictness)?;
                let warning = Allocation::ignored(&members);
                let stored = self.put_enrollment(kind, id, members, if_match, settings, now)?;
                Ok(Answer { warning, ..Answer::ok(stored.with_secrets()) })
            }
            ServiceOperation::Get(kind) => {
                let enrollment = self.enrollments(kind).get(id)?;
                let state = (kind == Kind::Individual).then(|| match self.registrations.find(id) {
                    Some(record) => record.for_service(api_version),
                    None => unassigned(&enrollment.id),
                });
                Ok(Answer::ok(enrollment.with_state(state)))
            }
            ServiceOperation::Delete(kind) => {
                self.delete_enrollment(kind, id, if_match)?;
                Ok(Answer::no_content())
            }
            ServiceOperation::AttestationMechanism(kind) => {
                Ok(Answer::ok(self.enrollments(kind).get(id)?.attestation.with_secrets()))
            }
            ServiceOperation::List(kind) => {
                // The text of the query is never looked at: the service returns everything whatever it says.
                let query = schema::read(QUERY_SPECIFICATION, body, settings.strictness)?;
                let query = query.get("query").and_then(Value::as_str);
                let query = query.ok_or_else(|| Refusal::invalid("query is missing"))?;
                let warning = query.to_ascii_lowercase().contains("where").then(|| {
                    "the service does not look at the text of a query and returns everything: filter what comes back".to_owned()
                });
                Ok(Answer { warning, ..self.list(kind, page, settings.listing_order)? })
            }
            ServiceOperation::Bulk(kind) => self.run_bulk(kind, body, settings, now),
            ServiceOperation::GetRegistration => {
                Ok(Answer::ok(self.registrations.get(id)?.for_service(api_version)))
            }
            ServiceOperation::DeleteRegistration => {
                self.registrations.delete(id, if_match)?;
                Ok(Answer::no_content())
            }
            ServiceOperation::ListRegistrations => {
                self.list_registrations(id, page, settings.listing_order, api_version)
            }
        }
    }

    pub(crate) fn put_enrollment(
        &mut self,
        kind: Kind,
        id: &str,
        members: Map,
        if_match: Option<&str>,
        settings: &Settings,
        now: OffsetDateTime,
    ) -> Result<&Enrollment, Refusal> {
        let enrollments = match kind {
            Kind::Individual => &mut self.individuals,
            Kind::Group => &mut self.groups,
        };
        enrollments.put(id, members, if_match, &settings.enrolling, &mut self.ids, now)
    }

    /// Deletes an enrollment; the record of a device that an individual one let in goes too, those of a group stay.
    pub(crate) fn delete_enrollment(
        &mut self,
        kind: Kind,
        id: &str,
        if_match: Option<&str>,
    ) -> Result<(), Refusal> {
        match kind {
            Kind::Individual => {
                self.individuals.delete(id, if_match)?;
                if self.registrations.find(id).is_some_and(Record::is_of_its_own) {
                    self.registrations.forget(id);
                }
                Ok(())
            }
            Kind::Group => self.groups.delete(id, if_match),
        }
    }

    fn list(&self, kind: Kind, headers: &PageHeaders, order: Order) -> Result<Answer, Refusal> {
        let listing = Listing::Enrollments(kind);
        let wanted = Wanted::read(listing, order, headers)?;
        let enrollments = self.enrollments(kind).behind(order, wanted.behind.as_ref());
        let (page, items) = wanted.fill(listing, enrollments);
        let items: Value = items.into_iter().map(Enrollment::public).collect();
        Ok(Answer::ok(items).with_page(page))
    }

    fn list_registrations(
        &self,
        group: &str,
        headers: &PageHeaders,
        order: Order,
        api_version: &str,
    ) -> Result<Answer, Refusal> {
        let listing = Listing::RegistrationsOf(group);
        let wanted = Wanted::read(listing, order, headers)?;
        let records = self.registrations.behind(order, wanted.behind.as_ref());
        let (page, items) = wanted.fill(listing, records.filter(|(_, record)| record.is_of_group(group)));
        let nothing = items.is_empty() && self.groups.find(group).is_none();
        let cause = nothing.then(|| format!("there is no enrollment group {group}, and no record of one"));
        let items: Value = items.into_iter().map(|record| record.for_service(api_version)).collect();
        Ok(Answer::ok(items).with_page(page).with_cause(cause))
    }
}
