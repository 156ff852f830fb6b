//! Assigns a device to a hub.

use time::OffsetDateTime;

use crate::issuance::{Due, Wanted};
use crate::json::Value;
use crate::records::hubs::{Authentication, NewIdentity};
use crate::records::outcome::Outcome;
use crate::records::registrations::Record;
use crate::records::reprovision::Reprovision;
use crate::refusal::Refusal;
use crate::state::State;
use crate::state::settings::Settings;

/// The parts of a placement that are known before the hub is chosen.
pub(crate) struct Placement {
    pub(super) device_id: String,
    pub(super) capabilities: Value,
    pub(super) initial_twin: Value,
    pub(super) reprovision: Reprovision,
    /// The key that the device has at its current hub, if the same TPM got it.
    pub(super) hub_key: Option<Vec<u8>>,
    pub(super) certificate: Option<Wanted>,
}

/// The decision of an allocation policy or a webhook.
#[derive(Debug, PartialEq)]
pub(crate) struct Decision {
    pub(crate) hub: String,
    /// Replaces the initial twin of the enrollment.
    pub(crate) initial_twin: Option<Value>,
    pub(crate) payload: Option<Value>,
    /// The members of the webhook's answer that have no effect and may be misspelt.
    pub(crate) ignored: Vec<String>,
}

/// Assigns a device to a hub, which decides its registration.
pub(super) fn place(
    state: &mut State,
    registration_id: &str,
    decision: Decision,
    placement: Placement,
    settings: &Settings,
    now: OffsetDateTime,
) {
    let Decision { hub, initial_twin, payload, ignored } = decision;
    let warning = (!ignored.is_empty())
        .then(|| format!("ignored in the answer of the webhook: {}", ignored.join(", ")));
    let Placement { device_id, capabilities, initial_twin: enrolled, reprovision, hub_key, certificate } =
        placement;
    let current = state.registrations.find(registration_id).and_then(Record::current);
    let stays = current == Some((&hub, &device_id));
    let hub_key = hub_key.filter(|_| stays);
    let authentication = match state.registrations.assign_hub_key(registration_id, hub_key.as_deref()) {
        Ok(proof) => Authentication::of(proof),
        Err(Refusal { code, message, cause, .. }) => {
            return state.registrations.decide(registration_id, Outcome::Failed { code, message, cause });
        }
    };
    let initial_twin = initial_twin.unwrap_or(enrolled);
    let identity = NewIdentity { device_id: device_id.clone(), authentication, capabilities, initial_twin };
    let current = state.registrations.find(registration_id).and_then(Record::current);
    let step = reprovision.step(current.map(|(hub, _)| hub), &hub, settings.reset_in_place);
    let substatus = state.hubs.place(step, current, &hub, identity, now);
    let certificate = certificate.map_or(Due::Nothing, Due::Wanted);
    let connection_profile = settings.connection_profile.clone();
    let outcome =
        Outcome::Assigned { hub, device_id, substatus, payload, certificate, connection_profile, warning };
    state.registrations.decide(registration_id, outcome);
}
