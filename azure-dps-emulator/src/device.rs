//! The device API: register, poll, look up. Who the device is comes first, then what it asks for.
//!
//! A registration is decided on when it begins, or when a webhook has answered; polls only tell how it ends.

use crate::json::{Map, Value, json};
use std::time::Duration;

use time::OffsetDateTime;

use crate::allocation::Choice;
use crate::answer::{Answer, HUB_NOT_FOUND, INVALID, Refusal, UNKNOWN_ID_SCOPE};
use crate::attest::tpm::{Challenges, Keys};
use crate::attest::{self, Grounds, Match, Via};
use crate::attestation::Attestation;
use crate::auth;
use crate::clock::Moment;
use crate::enrollments::Enrollment;
use crate::fault::Operation;
use crate::hubs::{Arrival, Authentication};
use crate::ids;
use crate::registrations::{Outcome, Record, Wait};
use crate::reprovision::Reprovision;
use crate::schema::{self, Body, DEVICE_REGISTRATION};
use crate::service::{Presented, State};
use crate::settings::{RefuseAt, Settings};
use crate::webhook::{self, Advice, Errand, NoAdvice, Ticket};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DeviceOperation {
    /// Nothing but the proof of who the device is, on a connection that carries its requests.
    Connect,
    /// The same before the connection can name an api-version.
    SignIn,
    /// A TPM shows its keys, before the connection can name an api-version.
    Challenge,
    /// The TPM answers, and shows its keys again; this is never put off until it registers.
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
        moment: Moment,
    ) -> Result<Answer, Refusal> {
        let now = moment.told;
        let can_wait = matches!(operation, DeviceOperation::Connect | DeviceOperation::SignIn);
        if can_wait && settings.refuse_at == RefuseAt::Register {
            return Ok(Answer::no_content());
        }
        let known_scope = match id_scope.eq_ignore_ascii_case(&settings.id_scope) {
            true => Ok(()),
            false => Err(Refusal::new(UNKNOWN_ID_SCOPE, "ID scope not found")),
        };
        match operation {
            DeviceOperation::Challenge => {
                return self.challenge(registration_id, known_scope, presented, now);
            }
            DeviceOperation::Prove => {
                known_scope?;
                read_keys(presented)?.check(registration_id, &self.individuals)?;
            }
            DeviceOperation::Register if presented.is_without_token_but_with_tpm() => {
                known_scope?;
                return self.challenge_or_refuse(registration_id, presented, settings, now);
            }
            _ => known_scope?,
        }
        let grounds = Grounds {
            individuals: &self.individuals,
            groups: &self.groups,
            authorities: &self.authorities,
            require_verified_ca: settings.require_verified_ca,
            now,
        };
        let found = admit(id_scope, registration_id, presented, &grounds, &mut self.challenges)?;
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
                let plan = self.plan(registration_id, &found, presented, &body, settings);
                let csr = body
                    .contains_key("csr")
                    .then(|| "csr has no effect: no certificate is issued".to_owned());
                let warning = found.warning.or(csr);
                let operation_id = self.registrations.begin(
                    registration_id,
                    (found.via, found.proof),
                    wait(settings, moment),
                    &mut self.ids,
                    now,
                );
                let mut errand = None;
                match plan {
                    Plan::End(outcome) => self.registrations.decide(registration_id, outcome),
                    Plan::Place(advice, placing) => {
                        self.place(registration_id, advice, placing, settings, now);
                    }
                    Plan::Ask { url, question, offered, placing } => {
                        let ticket = Ticket {
                            registration_id: registration_id.to_owned(),
                            operation_id: operation_id.clone(),
                            life: self.life,
                            offered,
                            placing,
                        };
                        errand = Some(Errand { url, question, ticket });
                    }
                }
                // Clients refuse an answer that is final at once, and a registrationState in this one.
                let body = json!({"operationId": operation_id, "status": "assigning"});
                Ok(Answer { warning, errand, ..Answer::accepted(body, settings.retry_after) })
            }
            DeviceOperation::Poll { operation_id } => {
                self.meters.poll(registration_id, now)?;
                let record =
                    self.registrations.poll(registration_id, &operation_id, &mut self.ids, moment)?;
                let body = json!({
                    "operationId": operation_id,
                    "status": record.status(),
                    "registrationState": record.for_device(presented.api_version()),
                });
                match record.status() {
                    "assigning" => Ok(Answer::accepted(body, settings.retry_after)),
                    _ => {
                        let warning = record.warning();
                        Ok(Answer { warning, ..Answer::ok(body).with_cause(record.cause()) })
                    }
                }
            }
            DeviceOperation::Lookup => {
                let body = read_registration(registration_id, presented, settings)?;
                if body.contains_key("csr") {
                    return Err(Refusal::invalid("csr does not belong into a status lookup"));
                }
                let record = self.registrations.get(registration_id)?;
                Ok(Answer::ok(record.for_device(presented.api_version())).with_cause(record.cause()))
            }
        }
    }

    /// Challenges a device over HTTPS, where it understands a refusal in the place of the challenge.
    fn challenge_or_refuse(
        &mut self,
        registration_id: &str,
        presented: &Presented,
        settings: &Settings,
        now: OffsetDateTime,
    ) -> Result<Answer, Refusal> {
        let keys = read_keys(presented)?;
        keys.check(registration_id, &self.individuals)?;
        presented.check_api_version(settings)?;
        read_registration(registration_id, presented, settings)?;
        Ok(Answer::challenge(&self.challenges.issue(registration_id, keys, now)?))
    }

    /// Challenges a device over AMQP: whoever shows keys gets a challenge for them, and is refused at the token if need be.
    ///
    /// Clients do not notice a refusal in the place of the challenge, and this one does not tell who is enrolled.
    fn challenge(
        &mut self,
        registration_id: &str,
        known_scope: Result<(), Refusal>,
        presented: &Presented,
        now: OffsetDateTime,
    ) -> Result<Answer, Refusal> {
        let keys = read_keys(presented)?;
        let sealed = match known_scope.and_then(|()| keys.check(registration_id, &self.individuals)) {
            Ok(()) => self.challenges.issue(registration_id, keys, now)?,
            Err(_) => keys.seal_for_nobody(registration_id)?,
        };
        Ok(Answer::challenge(&sealed))
    }
}

/// How a registration goes on.
enum Plan {
    End(Outcome),
    Place(Advice, Placing),
    Ask { url: String, question: Value, offered: Vec<String>, placing: Placing },
}

/// What is known of a placement before the hub is.
pub(crate) struct Placing {
    device_id: String,
    capabilities: Value,
    initial_twin: Value,
    reprovision: Reprovision,
    /// The key that the device has at its hub, if it is that of the same TPM.
    hub_key: Option<Vec<u8>>,
}

impl State {
    fn plan(
        &self,
        registration_id: &str,
        found: &Match<'_>,
        presented: &Presented,
        body: &Map,
        settings: &Settings,
    ) -> Plan {
        let enrollment = found.enrollment;
        if !enrollment.enabled {
            return Plan::End(Outcome::Disabled);
        }
        let record = self.registrations.find(registration_id);
        let current = record.and_then(Record::current);
        let device_id = record
            .and_then(|record| record.current_device_id(&found.via))
            .unwrap_or_else(|| new_device_id(registration_id, &found.via, enrollment));
        let reprovision = enrollment.allocation.reprovision(presented.api_version());
        let kept = current.map(|(hub, _)| hub).filter(|_| reprovision == Reprovision::Never);
        let placing = Placing {
            device_id: device_id.to_owned(),
            capabilities: enrollment.member("capabilities").clone(),
            initial_twin: enrollment.member("initialTwin").clone(),
            reprovision,
            hub_key: record.and_then(|record| record.hub_key_of(&found.proof)).map(<[u8]>::to_vec),
        };
        let linked = &settings.enrolling.hubs;
        let payload = body.get("payload");
        match enrollment.allocation.choose(registration_id, kept, &self.rules, linked) {
            Choice::Hub(hub) => {
                let hook = settings.on_payload.as_ref();
                let payload = hook.and_then(|hook| hook(payload.unwrap_or(&Value::Null)));
                Plan::Place(
                    Advice { hub: hub.to_owned(), initial_twin: None, payload, ignored: Vec::new() },
                    placing,
                )
            }
            Choice::Webhook(url) => {
                let offered = enrollment.allocation.offered(kept, linked);
                let leaf = presented.certificates.first();
                let question = webhook::question(registration_id, found, leaf, current, payload, &offered);
                Plan::Ask { url: url.to_owned(), question, offered, placing }
            }
            Choice::Nothing(cause) => {
                let message = "IoTHub not found.".to_owned();
                Plan::End(Outcome::Failed { code: HUB_NOT_FOUND, message, cause })
            }
        }
    }

    /// Brings a device to a hub and decides so on its registration.
    fn place(
        &mut self,
        registration_id: &str,
        advice: Advice,
        placing: Placing,
        settings: &Settings,
        now: OffsetDateTime,
    ) {
        let Advice { hub, initial_twin, payload, ignored } = advice;
        let warning = (!ignored.is_empty())
            .then(|| format!("ignored in the answer of the webhook: {}", ignored.join(", ")));
        let Placing { device_id, capabilities, initial_twin: enrolled, reprovision, hub_key } = placing;
        let current = self.registrations.find(registration_id).and_then(Record::current);
        let stays = current == Some((&hub, &device_id));
        let hub_key = hub_key.filter(|_| stays);
        let authentication = match self.registrations.equip(registration_id, hub_key.as_deref()) {
            Ok(proof) => Authentication::of(proof),
            Err(Refusal { code, message, cause, .. }) => {
                return self.registrations.decide(registration_id, Outcome::Failed { code, message, cause });
            }
        };
        let initial_twin = initial_twin.unwrap_or(enrolled);
        let arrival = Arrival { device_id: device_id.clone(), authentication, capabilities, initial_twin };
        let current = self.registrations.find(registration_id).and_then(Record::current);
        let step = reprovision.step(current.map(|(hub, _)| hub), &hub, settings.reset_in_place);
        let substatus = self.hubs.place(step, current, &hub, arrival, now);
        let outcome = Outcome::Assigned { hub, device_id, substatus, payload, warning };
        self.registrations.decide(registration_id, outcome);
    }

    /// Decides on a registration by what a webhook said, unless nobody waits for that any more.
    pub(crate) fn conclude(
        &mut self,
        ticket: Ticket,
        advice: Result<Advice, NoAdvice>,
        settings: &Settings,
        now: OffsetDateTime,
    ) {
        let Ticket { registration_id, operation_id, life, placing, .. } = ticket;
        if life != self.life || !self.registrations.awaits(&registration_id, &operation_id) {
            return;
        }
        match advice {
            Ok(advice) => self.place(&registration_id, advice, placing, settings, now),
            Err(no) => self.registrations.decide(&registration_id, no.into()),
        }
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
        false => Err(Refusal::not_found(format!(
            "{registration_id} cannot be a registration id: it has 1 to 128 letters, digits, `:`, `.`, `_` and `-`, begins with \
             a letter or digit, and ends with one or with `-`"
        ))),
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
) -> Result<Map, Refusal> {
    let body = match presented.body.is_blank() {
        true => Map::new(),
        false => read_members(&presented.body)?,
    };
    schema::check_names(DEVICE_REGISTRATION, &body, settings.strictness, "").map_err(Refusal::invalid)?;
    let body = schema::clean(DEVICE_REGISTRATION, body, "").map_err(Refusal::unreadable)?;
    match body.get("registrationId").and_then(Value::as_str) {
        Some(named) if !named.eq_ignore_ascii_case(registration_id) => {
            Err(Refusal::invalid("registrationId is not the id in the path"))
        }
        _ => Ok(body),
    }
}

fn read_keys(presented: &Presented) -> Result<Keys, Refusal> {
    let body = read_members(&presented.body)?;
    Keys::read(body.get("tpm").unwrap_or(&Value::Null))
}

/// Reads a body that must be there, whatever its members are.
fn read_members(body: &Body) -> Result<Map, Refusal> {
    schema::object(body).map_err(|refusal| match refusal.code {
        INVALID => Refusal::unreadable(refusal.cause),
        _ => refusal,
    })
}

fn wait(settings: &Settings, now: Moment) -> Wait {
    let told = Duration::from_secs(settings.retry_after.into());
    settings.polls.map_or_else(|| Wait::Until(now.after(told.saturating_sub(EARLY))), Wait::Polls)
}

/// Timers of clients are a little early at times.
const EARLY: Duration = Duration::from_millis(100);

fn new_device_id<'a>(registration_id: &'a str, via: &Via, enrollment: &'a Enrollment) -> &'a str {
    match (via, &enrollment.device_id) {
        (Via::Individual, Some(device_id)) => device_id,
        (Via::Individual, None) => &enrollment.id,
        (Via::Group(_), _) => registration_id,
    }
}
