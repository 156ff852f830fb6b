//! The back-end API: requests on enrollments, groups and registration records. Bulk operations are in
//! [`crate::api::bulk`].

use time::OffsetDateTime;

use crate::api::bulk;
use crate::api::listing::{Listing, PageRequest};
use crate::call::Presented;
use crate::call::answer::Answer;
use crate::call::kind::Kind;
use crate::call::request::{BackEndOperation, BackEndRequest, PageHeaders};
use crate::call::schema::{self, QUERY_SPECIFICATION};
use crate::call::versions;
use crate::issuance::reference::Reference;
use crate::json::Value;
use crate::records::allocation::Allocation;
use crate::records::enrollments::View;
use crate::records::registrations::unassigned;
use crate::records::store::Order;
use crate::refusal::Refusal;
use crate::state::State;
use crate::state::settings::Settings;

pub(crate) fn serve(
    state: &mut State,
    request: &BackEndRequest,
    presented: &Presented,
    settings: &Settings,
    now: OffsetDateTime,
) -> Result<Answer, Refusal> {
    let (body, api_version) = (&presented.body, presented.api_version());
    let BackEndRequest { id, page, .. } = request;
    let if_match = request.if_match.as_deref();
    match request.operation {
        BackEndOperation::Put(kind) => {
            let mut members = schema::read(kind.model(), body, settings.strictness)?;
            let removed = versions::check(&mut members, api_version, settings.strictness);
            let removed = removed.map_err(Refusal::invalid)?;
            let reference = Reference::read(&members);
            let no_policy = reference.find(state.issuance.policies()).err();
            let no_policy = no_policy.filter(|_| reference != Reference::None);
            let warnings = Allocation::ignored(&members).into_iter().chain(no_policy);
            let warnings: Vec<_> = warnings.chain(versions::ignored(&removed, api_version)).collect();
            let stored = state.put_enrollment(kind, id, members, if_match, settings, now)?;
            let answer = Answer::ok(stored.with_secrets(View::Of(api_version)));
            Ok(answer.with_warnings(warnings))
        }
        BackEndOperation::Get(kind) => {
            let enrollment = state.enrollments(kind).get(id)?;
            let record = (kind == Kind::Individual).then(|| match state.registrations.find(id) {
                Some(record) => record.for_service(api_version),
                None => unassigned(&enrollment.id),
            });
            Ok(Answer::ok(enrollment.with_state(record, View::Of(api_version))))
        }
        BackEndOperation::Delete(kind) => {
            state.delete_enrollment(kind, id, if_match)?;
            Ok(Answer::no_content())
        }
        BackEndOperation::AttestationMechanism(kind) => {
            Ok(Answer::ok(state.enrollments(kind).get(id)?.attestation.with_secrets()))
        }
        BackEndOperation::List(kind) => {
            // Like the service, the emulator ignores the text of the query and returns everything.
            let query = schema::read(QUERY_SPECIFICATION, body, settings.strictness)?;
            let query = query.get("query").and_then(Value::as_str);
            let query = query.ok_or_else(|| Refusal::invalid("query is missing"))?;
            let warning = query.to_ascii_lowercase().contains("where").then(|| {
                "the service ignores the text of a query and returns everything: filter the result".to_owned()
            });
            Ok(Answer { warning, ..list(state, kind, page, settings.listing_order, api_version)? })
        }
        BackEndOperation::Bulk(kind) => bulk::run(state, kind, body, api_version, settings, now),
        BackEndOperation::GetRegistration => {
            Ok(Answer::ok(state.registrations.get(id)?.for_service(api_version)))
        }
        BackEndOperation::DeleteRegistration => {
            state.registrations.delete(id, if_match)?;
            Ok(Answer::no_content())
        }
        BackEndOperation::ListRegistrations => {
            list_registrations(state, id, page, settings.listing_order, api_version)
        }
    }
}

fn list(
    state: &State,
    kind: Kind,
    headers: &PageHeaders,
    order: Order,
    api_version: &str,
) -> Result<Answer, Refusal> {
    let listing = Listing::Enrollments(kind);
    let wanted = PageRequest::read(listing, order, headers)?;
    let enrollments = state.enrollments(kind).behind(order, wanted.behind.as_ref());
    let (page, items) = wanted.fill(listing, enrollments);
    let items: Value = items.into_iter().map(|one| one.public(View::Of(api_version))).collect();
    Ok(Answer::ok(items).with_page(page))
}

fn list_registrations(
    state: &State,
    group: &str,
    headers: &PageHeaders,
    order: Order,
    api_version: &str,
) -> Result<Answer, Refusal> {
    let listing = Listing::RegistrationsOf(group);
    let wanted = PageRequest::read(listing, order, headers)?;
    let records = state.registrations.behind(order, wanted.behind.as_ref());
    let (page, items) = wanted.fill(listing, records.filter(|(_, record)| record.is_of_group(group)));
    let nothing = items.is_empty() && state.groups.find(group).is_none();
    let cause =
        nothing.then(|| format!("enrollment group {group} does not exist and has no registration records"));
    let items: Value = items.into_iter().map(|record| record.for_service(api_version)).collect();
    Ok(Answer::ok(items).with_page(page).with_cause(cause))
}
