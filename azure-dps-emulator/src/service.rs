//! The single door behind all fronts: a [`Call`] comes in, an [`Answer`] goes out, and the journal has both.
//!
//! Answers are computed under one lock and without waiting for anything; whatever takes time happens outside.
//! Credentials are judged before anything about the data or about the rest of the request is said.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use serde_json::Value;
use time::OffsetDateTime;

use crate::answer::{Answer, Refusal};
use crate::auth::{self, Policy};
use crate::clock::Clock;
use crate::device::DeviceOperation;
use crate::enrollments::{Enrollments, Kind};
use crate::ids::{self, Ids};
use crate::journal::{Entry, Journal};
use crate::registrations::Registrations;
use crate::schema::{self, Body, Strictness};

/// What stands in for a webhook: from the payload of a device to the payload for it.
pub(crate) type PayloadHook = Box<dyn Fn(&Value) -> Option<Value> + Send + Sync>;

/// Where a device with a wrong credential is told so over MQTT. The service has been seen to do both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefuseAt {
    /// The connection is refused with CONNACK 5, which carries no reason.
    Connect,
    /// The connection is accepted and the registration is answered 401 or 404, with error code and tracking id.
    #[default]
    Register,
}

/// What does not change while the emulator runs.
pub(crate) struct Settings {
    pub(crate) id_scope: String,
    pub(crate) policy: Policy,
    pub(crate) hubs: Vec<String>,
    pub(crate) polls: u32,
    pub(crate) retry_after: u32,
    pub(crate) strictness: Strictness,
    pub(crate) refuse_at: RefuseAt,
    pub(crate) on_payload: Option<PayloadHook>,
}

/// A request, in the words of the service and not of a protocol.
pub(crate) struct Call {
    pub(crate) origin: Origin,
    pub(crate) authorization: Option<String>,
    pub(crate) api_version: Option<String>,
    pub(crate) body: Body,
    /// A front refuses by itself what it cannot translate.
    pub(crate) request: Result<Request, Refusal>,
}

/// Where a request comes from, for the journal.
pub(crate) struct Origin {
    pub(crate) front: &'static str,
    pub(crate) connection: u64,
    pub(crate) method: String,
    pub(crate) target: String,
}

pub(crate) enum Request {
    Service {
        /// Host and path, which the token must cover.
        resource: String,
        id: String,
        if_match: Option<String>,
        operation: ServiceOperation,
    },
    Device {
        id_scope: String,
        registration_id: String,
        operation: DeviceOperation,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServiceOperation {
    Put(Kind),
    Get(Kind),
    Delete(Kind),
    AttestationMechanism(Kind),
    GetRegistration,
    DeleteRegistration,
}

/// An answer and the id under which the journal has it.
pub(crate) struct Handled {
    pub(crate) answer: Answer,
    pub(crate) request_id: String,
}

pub(crate) struct Service {
    settings: Settings,
    clock: Clock,
    state: Mutex<State>,
    journal: Journal,
}

/// Everything that changes.
pub(crate) struct State {
    pub(crate) individuals: Enrollments,
    pub(crate) groups: Enrollments,
    pub(crate) registrations: Registrations,
    pub(crate) ids: Ids,
    requests: u64,
}

impl Service {
    pub(crate) fn new(settings: Settings) -> Self {
        let state = State {
            individuals: Enrollments::new(Kind::Individual),
            groups: Enrollments::new(Kind::Group),
            registrations: Registrations::default(),
            ids: Ids::default(),
            requests: 0,
        };
        Service { settings, clock: Clock, state: Mutex::new(state), journal: Journal::default() }
    }

    pub(crate) fn handle(&self, call: Call) -> Handled {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        state.requests += 1;
        let seq = state.requests;
        let request_id = ids::tracking(seq);
        let Call { origin, authorization, api_version, body, request } = call;
        let id = request.as_ref().ok().map(|request| match request {
            Request::Service { id, .. } => id.clone(),
            Request::Device { registration_id, .. } => registration_id.clone(),
        });
        let presented = Presented { authorization, api_version, body };
        let answer = request
            .and_then(|request| self.answer(&mut state, request, presented, now))
            .unwrap_or_else(|refusal| refusal.into_answer(&request_id, now));

        tracing::debug!(
            seq,
            connection = origin.connection,
            method = %origin.method,
            target = %origin.target,
            status = answer.status,
            error_code = answer.error_code,
            "answered"
        );
        self.journal.record(Entry {
            seq,
            time: SystemTime::from(now),
            connection: origin.connection,
            front: origin.front,
            method: origin.method,
            target: origin.target,
            id,
            status: answer.status,
            error_code: answer.error_code,
            cause: answer.cause.clone(),
        });
        Handled { answer, request_id }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    fn answer(
        &self,
        state: &mut State,
        request: Request,
        presented: Presented,
        now: OffsetDateTime,
    ) -> Result<Answer, Refusal> {
        match request {
            Request::Service { resource, id, if_match, operation } => {
                auth::authorize_service(
                    presented.authorization.as_deref(),
                    &resource,
                    &self.settings.policy,
                    now,
                )?;
                presented.check_api_version(&self.settings)?;
                state.serve(operation, &id, if_match.as_deref(), &presented.body, &self.settings, now)
            }
            Request::Device { id_scope, registration_id, operation } => {
                state.serve_device(&id_scope, &registration_id, operation, &presented, &self.settings, now)
            }
        }
    }
}

/// What a request brings along besides what it asks for.
pub(crate) struct Presented {
    pub(crate) authorization: Option<String>,
    pub(crate) body: Body,
    api_version: Option<String>,
}

impl Presented {
    pub(crate) fn check_api_version(&self, settings: &Settings) -> Result<(), Refusal> {
        schema::check_api_version(self.api_version.as_deref(), settings.strictness)
    }
}

impl State {
    fn serve(
        &mut self,
        operation: ServiceOperation,
        id: &str,
        if_match: Option<&str>,
        body: &Body,
        settings: &Settings,
        now: OffsetDateTime,
    ) -> Result<Answer, Refusal> {
        match operation {
            ServiceOperation::Put(kind) => {
                let members = schema::read(kind.model(), body, settings.strictness)?;
                let enrollments = match kind {
                    Kind::Individual => &mut self.individuals,
                    Kind::Group => &mut self.groups,
                };
                let stored = enrollments.put(id, members, if_match, &settings.hubs, &mut self.ids, now)?;
                Ok(Answer::ok(stored.with_secrets()).with_etag(&stored.etag))
            }
            ServiceOperation::Get(kind) => {
                let enrollment = self.enrollments(kind).get(id)?;
                let mut body = enrollment.public();
                if let (Kind::Individual, Some(record)) = (kind, self.registrations.find(id)) {
                    body.insert("registrationState".into(), record.for_service().into());
                }
                Ok(Answer::ok(body).with_etag(&enrollment.etag))
            }
            ServiceOperation::Delete(Kind::Individual) => {
                self.individuals.delete(id, if_match)?;
                self.registrations.forget(id);
                Ok(Answer::no_content())
            }
            ServiceOperation::Delete(Kind::Group) => {
                self.groups.delete(id, if_match)?;
                Ok(Answer::no_content())
            }
            ServiceOperation::AttestationMechanism(kind) => {
                Ok(Answer::ok(self.enrollments(kind).get(id)?.attestation.with_secrets()))
            }
            ServiceOperation::GetRegistration => Ok(Answer::ok(self.registrations.get(id)?.for_service())),
            ServiceOperation::DeleteRegistration => {
                self.registrations.delete(id, if_match)?;
                Ok(Answer::no_content())
            }
        }
    }

    fn enrollments(&self, kind: Kind) -> &Enrollments {
        match kind {
            Kind::Individual => &self.individuals,
            Kind::Group => &self.groups,
        }
    }
}
