//! The device API: register, poll, look up. Who the device is comes first, then what it asks for.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::answer::{Answer, HUB_NOT_FOUND, Refusal, UNKNOWN_ID_SCOPE, WEBHOOK_FAILED};
use crate::attest::tpm::{Challenges, Keys};
use crate::attest::{self, Grounds, Match, Proof, Via};
use crate::attestation::Attestation;
use crate::auth;
use crate::enrollments::Enrollment;
use crate::fault::Operation;
use crate::ids;
use crate::registrations::{Outcome, Record};
use crate::schema::{self, DEVICE_REGISTRATION};
use crate::service::{Presented, State};
use crate::settings::{RefuseAt, Settings};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DeviceOperation {
    /// Nothing but the proof of who the device is, on a connection that carries its requests.
    Connect,
    /// The same before the connection can name an api-version.
    SignIn,
    /// A TPM shows its keys, before the connection can name an api-version.
    Challenge,
    /// The TPM answers; this is never put off until it registers.
    Prove,
    Register,
    Poll {
        operation_id: String,
    },
    Lookup,
}

impl DeviceOperation {
    pub(crate) fn kind(&self) -> Operation {
        match self {
            DeviceOperation::Connect
            | DeviceOperation::SignIn
            | DeviceOperation::Challenge
            | DeviceOperation::Prove => Operation::Connect,
            DeviceOperation::Register => Operation::Register,
            DeviceOperation::Poll { .. } => Operation::Poll,
            DeviceOperation::Lookup => Operation::Lookup,
        }
    }
}

impl State {
    pub(crate) fn serve_device(
        &mut self,
        id_scope: &str,
        registration_id: &str,
        operation: DeviceOperation,
        presented: &Presented,
        settings: &Settings,
        now: OffsetDateTime,
    ) -> Result<Answer, Refusal> {
        let can_wait = matches!(operation, DeviceOperation::Connect | DeviceOperation::SignIn);
        if can_wait && settings.refuse_at == RefuseAt::Register {
            return Ok(Answer::no_content());
        }
        if !id_scope.eq_ignore_ascii_case(&settings.id_scope) {
            return Err(Refusal::new(UNKNOWN_ID_SCOPE, "ID scope not found"));
        }
        let asks = operation == DeviceOperation::Register && presented.is_without_token_but_with_tpm();
        if asks || operation == DeviceOperation::Challenge {
            return self.challenge(registration_id, &operation, presented, settings, now);
        }
        let grounds = Grounds {
            individuals: &self.individuals,
            groups: &self.groups,
            authorities: &self.authorities,
            require_verified_ca: settings.require_verified_ca,
            now,
        };
        let mut found = admit(id_scope, registration_id, presented, &grounds, &mut self.challenges)?;
        if !matches!(operation, DeviceOperation::SignIn | DeviceOperation::Prove) {
            presented.check_api_version(settings)?;
        }
        match operation {
            DeviceOperation::Connect
            | DeviceOperation::SignIn
            | DeviceOperation::Challenge
            | DeviceOperation::Prove => Ok(Answer::no_content()),
            DeviceOperation::Register => {
                self.meters.registration(now)?;
                let body = read_registration(registration_id, presented, settings)?;
                let record = self.registrations.find(registration_id);
                let outcome = decide(registration_id, &found, record, &body, settings);
                if let (Proof::Tpm(proven), Outcome::Assigned { hub, device_id, .. }) =
                    (&mut found.proof, &outcome)
                {
                    let known = record.and_then(|record| record.current_hub_key(proven, hub, device_id));
                    proven.deliver(known, registration_id)?;
                }
                let warning = found.warning;
                let operation_id = self.registrations.begin(
                    registration_id,
                    (found.via, found.proof),
                    outcome,
                    settings.polls,
                    &mut self.ids,
                    now,
                );
                // Clients refuse an answer that is final at once, and a registrationState in this one.
                let body = json!({"operationId": operation_id, "status": "assigning"});
                Ok(Answer { warning, ..Answer::accepted(body, settings.retry_after) })
            }
            DeviceOperation::Poll { operation_id } => {
                self.meters.poll(registration_id, now)?;
                let record = self.registrations.poll(registration_id, &operation_id, &mut self.ids, now)?;
                let body = json!({
                    "operationId": operation_id,
                    "status": record.status(),
                    "registrationState": record.for_device(),
                });
                match record.status() {
                    "assigning" => Ok(Answer::accepted(body, settings.retry_after)),
                    _ => Ok(Answer::ok(body).with_cause(record.cause())),
                }
            }
            DeviceOperation::Lookup => {
                let body = read_registration(registration_id, presented, settings)?;
                if body.contains_key("csr") {
                    return Err(Refusal::invalid("csr does not belong into a status lookup"));
                }
                let record = self.registrations.get(registration_id)?;
                Ok(Answer::ok(record.for_device()).with_cause(record.cause()))
            }
        }
    }

    fn challenge(
        &mut self,
        registration_id: &str,
        operation: &DeviceOperation,
        presented: &Presented,
        settings: &Settings,
        now: OffsetDateTime,
    ) -> Result<Answer, Refusal> {
        let body = schema::object(&presented.body)?;
        let tpm = body.get("tpm").unwrap_or(&Value::Null);
        let keys = Keys::read(registration_id, tpm, &self.individuals)?;
        if *operation == DeviceOperation::Register {
            presented.check_api_version(settings)?;
            read_registration(registration_id, presented, settings)?;
        }
        Ok(Answer::challenge(&self.challenges.issue(registration_id, keys, now)?))
    }
}

/// Finds the enrollment by what the device presents: a token, or the certificate of its connection.
///
/// Of both the token counts, unless there is an individual enrollment with certificates.
fn admit<'a>(
    id_scope: &str,
    registration_id: &str,
    presented: &Presented,
    grounds: &Grounds<'a>,
    challenges: &mut Challenges,
) -> Result<Match<'a>, Refusal> {
    let valid_id = || match ids::is_valid(registration_id) {
        true => Ok(()),
        false => Err(Refusal::not_found(format!("{registration_id} cannot be a registration id"))),
    };
    let wants_certificate = || {
        let enrollment = grounds.individuals.find(registration_id);
        enrollment.is_some_and(|enrollment| matches!(enrollment.attestation, Attestation::X509(_)))
    };
    let token = presented.authorization.as_deref().filter(|token| !token.trim().is_empty());
    match (token, presented.certificates.as_ref()) {
        (None, []) => Err(Refusal::unauthorized("there is no token, and no client certificate")),
        (Some(_), certificates) if certificates.is_empty() || !wants_certificate() => {
            let token = auth::device_token(token, id_scope, registration_id, grounds.now)?;
            valid_id()?;
            attest::by_token(registration_id, &token, grounds, presented.for_tpm.then_some(challenges))
        }
        (_, certificates) => {
            valid_id()?;
            attest::by_certificate(registration_id, certificates, grounds)
        }
    }
}

fn read_registration(
    registration_id: &str,
    presented: &Presented,
    settings: &Settings,
) -> Result<Map<String, Value>, Refusal> {
    let body = schema::read_optional(DEVICE_REGISTRATION, &presented.body, settings.strictness)?;
    match body.get("registrationId").and_then(Value::as_str) {
        Some(named) if !named.eq_ignore_ascii_case(registration_id) => {
            Err(Refusal::invalid("registrationId is not the id in the path"))
        }
        _ => Ok(body),
    }
}

fn decide(
    registration_id: &str,
    found: &Match<'_>,
    record: Option<&Record>,
    body: &Map<String, Value>,
    settings: &Settings,
) -> Outcome {
    let enrollment = found.enrollment;
    if !enrollment.enabled {
        return Outcome::Disabled;
    }
    if enrollment.allocation.is_custom() {
        let message = "Custom allocation failed: the emulator calls no webhooks.";
        return Outcome::Failed { code: WEBHOOK_FAILED, message };
    }
    let current = record.and_then(Record::current_hub);
    let Some((hub, substatus)) =
        enrollment.allocation.assign(registration_id, current, &settings.enrolling.hubs)
    else {
        return Outcome::Failed { code: HUB_NOT_FOUND, message: "IoTHub not found." };
    };
    let device_id = record
        .and_then(|record| record.current_device_id(&found.via))
        .unwrap_or_else(|| new_device_id(registration_id, &found.via, enrollment))
        .to_owned();
    let payload =
        settings.on_payload.as_ref().and_then(|hook| hook(body.get("payload").unwrap_or(&Value::Null)));
    Outcome::Assigned { hub, device_id, substatus, payload }
}

fn new_device_id<'a>(registration_id: &'a str, via: &Via, enrollment: &'a Enrollment) -> &'a str {
    match (via, &enrollment.device_id) {
        (Via::Individual, Some(device_id)) => device_id,
        (Via::Individual, None) => &enrollment.id,
        (Via::Group(_), _) => registration_id,
    }
}
