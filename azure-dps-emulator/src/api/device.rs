//! The device API: register, poll, look up. The credential is judged before the request.
//!
//! The outcome of a registration is decided when the registration begins, or when its webhook has answered.
//! Polls only report it.

use std::time::Duration;

use time::OffsetDateTime;

use crate::api::certificate;
use crate::api::placement::{Decision, Placement, place};
use crate::api::webhook::{self, NoDecision, PendingRegistration, WebhookCall};
use crate::attest::grounds::{Grounds, Match};
use crate::attest::tpm::{Challenges, check_keys};
use crate::attest::{by_certificate, by_token};
use crate::call::Presented;
use crate::call::answer::Answer;
use crate::call::request::{DeviceOperation, DeviceRequest};
use crate::call::schema::{self, Body, DEVICE_REGISTRATION};
use crate::call::versions;
use crate::clock::Moment;
use crate::crypto::sas;
use crate::ids;
use crate::issuance::Wanted;
use crate::json::{self, Map, Value, json};
use crate::records::allocation::Choice;
use crate::records::attestation::Attestation;
use crate::records::enrollments::Enrollment;
use crate::records::operation::Wait;
use crate::records::outcome::Outcome;
use crate::records::proof::{Proof, Via};
use crate::records::registrations::Record;
use crate::records::reprovision::Reprovision;
use crate::records::tpm::Keys;
use crate::refusal::{HUB_NOT_FOUND, INVALID, Refusal, UNKNOWN_ID_SCOPE};
use crate::state::State;
use crate::state::settings::{RefuseAt, Settings};

/// Answers a request from a device. If a webhook has to decide its registration, returns the call to make.
pub(crate) fn serve(
    state: &mut State,
    request: &DeviceRequest,
    presented: &Presented,
    settings: &Settings,
    moment: Moment,
) -> Result<(Answer, Option<WebhookCall>), Refusal> {
    let DeviceRequest { id_scope, registration_id, operation } = request;
    let visit = Visit { registration_id, presented, settings, moment };
    let can_wait = matches!(operation, DeviceOperation::Connect | DeviceOperation::SignIn);
    if can_wait && settings.refuse_at == RefuseAt::Register {
        return Ok((Answer::no_content(), None));
    }
    let known_scope = match id_scope.eq_ignore_ascii_case(&settings.id_scope) {
        true => Ok(()),
        false => Err(Refusal::new(UNKNOWN_ID_SCOPE, "ID scope not found")),
    };
    match operation {
        DeviceOperation::Challenge => return Ok((visit.challenge(state, known_scope)?, None)),
        DeviceOperation::Prove => {
            known_scope?;
            check_keys(&read_keys(presented)?, registration_id, &state.individuals)?;
        }
        DeviceOperation::Register if presented.asks_for_tpm_challenge() => {
            known_scope?;
            return Ok((visit.challenge_or_refuse(state)?, None));
        }
        _ => known_scope?,
    }
    let recorded = state.registrations.find(registration_id).and_then(Record::group);
    let recent = state.recent_groups.likely(registration_id);
    let likely = recorded.into_iter().chain(recent).map(str::to_owned).collect();
    let grounds = Grounds {
        individuals: &state.individuals,
        groups: &state.groups,
        authorities: &state.authorities,
        require_verified_ca: settings.require_verified_ca,
        likely,
        now: moment.shown,
    };
    let found = admit(id_scope, registration_id, presented, &grounds, &mut state.challenges)?;
    if let Via::Group(group) = &found.via {
        state.recent_groups.note(registration_id, group);
    }
    if !matches!(operation, DeviceOperation::SignIn | DeviceOperation::Prove) {
        presented.check_api_version(settings.strictness)?;
    }
    match operation {
        DeviceOperation::Connect
        | DeviceOperation::SignIn
        | DeviceOperation::Challenge
        | DeviceOperation::Prove => Ok((Answer::no_content(), None)),
        DeviceOperation::Register => {
            state.meters.registration(moment.shown)?;
            let mut body = visit.read_registration()?;
            let (certificate, mut warnings) = visit.certificate(&found, &mut body, state)?;
            let plan = visit.plan(&found, &body, certificate, state);
            warnings.extend(found.warning);
            let proven = (found.via, found.proof);
            let (answer, webhook_call) = visit.register(state, proven, plan);
            Ok((answer.with_warnings(warnings), webhook_call))
        }
        DeviceOperation::Poll { operation_id } => Ok((visit.poll(state, operation_id)?, None)),
        DeviceOperation::Lookup => Ok((visit.look_up(state)?, None)),
    }
}

/// Decides a registration by the answer of its webhook, unless the registration does not wait for it any
/// more.
pub(crate) fn conclude(
    state: &mut State,
    pending: PendingRegistration,
    decision: Result<Decision, NoDecision>,
    settings: &Settings,
    now: OffsetDateTime,
) {
    let PendingRegistration { registration_id, operation_id, life, placement, .. } = pending;
    if life != state.life || !state.registrations.awaits(&registration_id, &operation_id) {
        return;
    }
    match decision {
        Ok(decision) => place(state, &registration_id, decision, placement, settings, now),
        Err(no) => state.registrations.decide(&registration_id, no.into()),
    }
}

/// One request from a device, with everything besides the state that its answer depends on.
struct Visit<'a> {
    registration_id: &'a str,
    presented: &'a Presented,
    settings: &'a Settings,
    moment: Moment,
}

/// The next step of a registration.
enum Plan {
    End(Outcome),
    Place(Decision, Placement),
    Call { url: String, question: Value, offered: Vec<String>, placement: Placement },
}

impl Visit<'_> {
    /// Challenges a device over HTTPS, where clients understand a refusal instead of the challenge.
    fn challenge_or_refuse(&self, state: &mut State) -> Result<Answer, Refusal> {
        let keys = read_keys(self.presented)?;
        check_keys(&keys, self.registration_id, &state.individuals)?;
        self.presented.check_api_version(self.settings.strictness)?;
        self.read_registration()?;
        Ok(Answer::challenge(&state.challenges.issue(self.registration_id, keys, self.moment.shown)?))
    }

    /// Challenges a device over AMQP. Clients ignore a refusal instead of the challenge, so every device that
    /// presents keys gets a challenge, and a device that is not admitted is refused at its token. The
    /// challenge also does not reveal which devices are enrolled.
    fn challenge(&self, state: &mut State, known_scope: Result<(), Refusal>) -> Result<Answer, Refusal> {
        let keys = read_keys(self.presented)?;
        let id = self.registration_id;
        let sealed = match known_scope.and_then(|()| check_keys(&keys, id, &state.individuals)) {
            Ok(()) => state.challenges.issue(id, keys, self.moment.shown)?,
            Err(_) => keys.seal_unknown_key(id)?,
        };
        Ok(Answer::challenge(&sealed))
    }

    fn register(&self, state: &mut State, proven: (Via, Proof), plan: Plan) -> (Answer, Option<WebhookCall>) {
        let (id, now) = (self.registration_id, self.moment.shown);
        let wait = wait(self.settings, self.moment);
        let operation_id = state.registrations.begin(id, proven, wait, &mut state.ids, now);
        let mut webhook_call = None;
        match plan {
            Plan::End(outcome) => state.registrations.decide(id, outcome),
            Plan::Place(decision, placement) => place(state, id, decision, placement, self.settings, now),
            Plan::Call { url, question, offered, placement } => {
                let pending = PendingRegistration {
                    registration_id: id.to_owned(),
                    operation_id: operation_id.clone(),
                    life: state.life,
                    offered,
                    placement,
                };
                webhook_call = Some(WebhookCall { url, question: question.to_string(), pending });
            }
        }
        // Clients refuse this answer if it is final or contains a registrationState.
        let body = json!({"operationId": operation_id, "status": "assigning"});
        (Answer::accepted(body, self.settings.retry_after), webhook_call)
    }

    /// The certificate that the device gets, and warnings for the journal.
    fn certificate(
        &self,
        found: &Match<'_>,
        body: &mut Map,
        state: &State,
    ) -> Result<(Option<Wanted>, Vec<String>), Refusal> {
        let api_version = self.presented.api_version();
        let removed = versions::check(body, api_version, self.settings.strictness);
        let removed = removed.map_err(Refusal::invalid)?;
        let csr = body.get("csr").and_then(Value::as_str);
        let reference = found.enrollment.certificate_policy();
        let (certificate, no_certificate) =
            certificate::wanted(self.registration_id, csr, reference, state.issuance.policies())?;
        let warnings = no_certificate.into_iter().chain(versions::ignored(&removed, api_version));
        Ok((certificate, warnings.collect()))
    }

    fn plan(&self, found: &Match<'_>, body: &Map, certificate: Option<Wanted>, state: &State) -> Plan {
        let (registration_id, settings) = (self.registration_id, self.settings);
        let enrollment = found.enrollment;
        if !enrollment.enabled {
            return Plan::End(Outcome::Disabled);
        }
        let record = state.registrations.find(registration_id);
        let current = record.and_then(Record::current);
        let device_id = record
            .and_then(|record| record.current_device_id(&found.via))
            .unwrap_or_else(|| new_device_id(registration_id, &found.via, enrollment));
        let reprovision = enrollment.allocation.reprovision(self.presented.api_version());
        let kept = current.map(|(hub, _)| hub).filter(|_| reprovision == Reprovision::Never);
        let placement = Placement {
            device_id: device_id.to_owned(),
            capabilities: enrollment.member("capabilities").clone(),
            initial_twin: enrollment.member("initialTwin").clone(),
            reprovision,
            hub_key: record.and_then(|record| record.hub_key_of(&found.proof)).map(<[u8]>::to_vec),
            certificate,
        };
        let linked = &settings.enrolling.hubs;
        let payload = body.get("payload");
        match enrollment.allocation.choose(registration_id, kept, &state.rules, linked) {
            Choice::Hub(hub) => {
                let hook = settings.on_payload.as_ref();
                let payload = hook.and_then(|hook| hook(payload.unwrap_or(&Value::Null)));
                if payload.as_ref().is_some_and(|payload| payload.depth() > json::DEEPEST) {
                    let cause =
                        format!("the payload of on_payload is nested deeper than {} levels", json::DEEPEST);
                    return Plan::End(NoDecision::new("the payload cannot be used.", cause).into());
                }
                let decision =
                    Decision { hub: hub.to_owned(), initial_twin: None, payload, ignored: Vec::new() };
                Plan::Place(decision, placement)
            }
            Choice::Webhook(url) => {
                let offered = enrollment.allocation.offered(kept, linked);
                let leaf = self.presented.certificates.first();
                let question = webhook::question(registration_id, found, leaf, current, payload, &offered);
                Plan::Call { url: url.to_owned(), question, offered, placement }
            }
            Choice::Nothing(cause) => {
                let message = "IoTHub not found.".to_owned();
                Plan::End(Outcome::Failed { code: HUB_NOT_FOUND, message, cause })
            }
        }
    }

    fn poll(&self, state: &mut State, operation_id: &str) -> Result<Answer, Refusal> {
        let id = self.registration_id;
        state.meters.poll(id, self.moment.shown)?;
        let issue = |wanted: &Wanted| state.issuance.issue(wanted, self.moment.shown);
        let record = state.registrations.poll(id, operation_id, &mut state.ids, self.moment, issue)?;
        let body = json!({
            "operationId": operation_id,
            "status": record.status(),
            "registrationState": record.for_poll(operation_id, self.presented.api_version()),
        });
        match record.status() {
            "assigning" => Ok(Answer::accepted(body, self.settings.retry_after)),
            _ => Ok(Answer { warning: record.warning(), ..Answer::ok(body).with_cause(record.cause()) }),
        }
    }

    fn look_up(&self, state: &mut State) -> Result<Answer, Refusal> {
        if self.read_registration()?.contains_key("csr") {
            return Err(Refusal::invalid("csr does not belong into a status lookup"));
        }
        let record = state.registrations.get(self.registration_id)?;
        Ok(Answer::ok(record.for_device(self.presented.api_version())).with_cause(record.cause()))
    }

    fn read_registration(&self) -> Result<Map, Refusal> {
        let body = match self.presented.body.is_blank() {
            true => Map::new(),
            false => read_members(&self.presented.body)?,
        };
        schema::check_names(DEVICE_REGISTRATION, &body, self.settings.strictness, &"")
            .map_err(Refusal::invalid)?;
        let body = schema::clean(DEVICE_REGISTRATION, body, &"").map_err(Refusal::unreadable)?;
        match body.get("registrationId").and_then(Value::as_str) {
            Some(named) if !named.eq_ignore_ascii_case(self.registration_id) => {
                Err(Refusal::invalid("registrationId is not the id in the path"))
            }
            _ => Ok(body),
        }
    }
}

/// Finds the enrollment by the credential of the device: a token, or the certificate of its connection.
///
/// If a device presents both, the token counts, unless its individual enrollment has certificates.
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
            "{registration_id} is not a valid registration id: it has 1 to 128 letters, digits, `:`, `.`, \
             `_` and `-`, begins with a letter or digit, and ends with a letter, digit or `-`"
        ))),
    };
    let wants_certificate = || {
        let enrollment = grounds.individuals.find(registration_id);
        enrollment.is_some_and(|enrollment| matches!(enrollment.attestation, Attestation::X509(_)))
    };
    let token = presented.authorization.as_deref().filter(|token| !token.trim().is_empty());
    match (token, presented.certificates.as_ref()) {
        (None, []) => Err(Refusal::unauthorized("the request has neither a token nor a client certificate")),
        (Some(_), certificates) if certificates.is_empty() || !wants_certificate() => {
            let token = sas::device_token(token, id_scope, registration_id, grounds.now)?;
            valid_id()?;
            by_token(registration_id, &token, grounds, presented.for_tpm.then_some(challenges))
        }
        (_, certificates) => {
            valid_id()?;
            by_certificate(registration_id, certificates, grounds)
        }
    }
}

fn read_keys(presented: &Presented) -> Result<Keys, Refusal> {
    let body = read_members(&presented.body)?;
    Keys::read(body.get("tpm").unwrap_or(&Value::Null))
}

/// Reads a required body with any members.
fn read_members(body: &Body) -> Result<Map, Refusal> {
    schema::object(body).map_err(|refusal| match refusal.code {
        INVALID => Refusal::unreadable(refusal.cause),
        _ => refusal,
    })
}

fn wait(settings: &Settings, now: Moment) -> Wait {
    let retry_after = Duration::from_secs(settings.retry_after.into());
    settings.polls.map_or_else(|| Wait::Until(now.after(retry_after.saturating_sub(EARLY))), Wait::Polls)
}

/// How early a poll may come, because timers of clients sometimes fire a little early.
const EARLY: Duration = Duration::from_millis(100);

fn new_device_id<'a>(registration_id: &'a str, via: &Via, enrollment: &'a Enrollment) -> &'a str {
    match (via, &enrollment.device_id) {
        (Via::Individual, Some(device_id)) => device_id,
        (Via::Individual, None) => &enrollment.id,
        (Via::Group(_), _) => registration_id,
    }
}
