//! The emulated instance: takes a [`Call`] from any front, returns an [`Answer`], and records both in the
//! journal.
//!
//! It computes answers under one lock and waits for nothing meanwhile. If a webhook has to decide, a
//! [`WebhookCall`] goes to its task, and the decision comes back through [`Instance::conclude`]. Credentials
//! are judged first, so that an unauthorized client learns nothing about the data or the rest of its request.

pub(crate) mod at_hubs;
mod hub_calls;
mod issuing;
mod overview;
mod saved;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use base64::prelude::{BASE64_STANDARD, Engine};
use time::OffsetDateTime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::access::right::Need;
use crate::api::placement::Decision;
use crate::api::webhook::{NoDecision, PendingRegistration, WebhookCall};
use crate::api::{back_end, device, hub, webhook};
use crate::call::answer::{Answer, Delivery};
use crate::call::kind::Kind;
use crate::call::request::{Operation, Request};
use crate::call::{Call, Handled, Origin, Presented, schema};
use crate::clock::{Clock, Moment};
use crate::ids;
use crate::issuance::authority::IssuingAuthority;
use crate::json::{Value, json};
use crate::records::allocation::Rules;
use crate::records::authorities::{Authority, CaCertificate, CaCertificateError};
use crate::records::enrollments::View;
use crate::records::hubs::HubDevice;
use crate::records::hubs::link::Link;
use crate::records::seed::Seed;
use crate::records::store::{Order, Position};
use crate::refusal::Refusal;
use crate::state::State;
use crate::state::billing::BilledOperations;
use crate::state::fault::{self, Effect, Fault, FaultError, Faults, Target};
use crate::state::journal::{self, Entry, Journal};
use crate::state::settings::Settings;

pub(crate) struct Instance {
    settings: Settings,
    seed: Seed,
    state: Mutex<State>,
    journal: Journal,
    /// The requests that may still begin to wait for the journal.
    journal_waits: Semaphore,
    /// Few requests have the whole state at a time, because its text takes memory.
    state_reads: Arc<Semaphore>,
    state_writes: Semaphore,
    webhook_calls: UnboundedSender<(WebhookCall, OwnedSemaphorePermit)>,
    /// The free memory for waiting calls, in bytes.
    webhook_room: Arc<Semaphore>,
}

impl Instance {
    /// An instance with the enrollments of the seed, and the webhook calls that a task has to send for it.
    ///
    /// # Errors
    /// Says what is wrong with the seed.
    pub(crate) fn new(
        settings: Settings,
        authority: IssuingAuthority,
        seed: Seed,
    ) -> Result<(Self, UnboundedReceiver<(WebhookCall, OwnedSemaphorePermit)>), String> {
        let state = Mutex::new(State::new(&settings, Arc::new(authority), &seed)?);
        let (webhook_calls, to_run) = unbounded_channel();
        let webhook_room = Arc::new(Semaphore::new(webhook::ROOM));
        let instance = Instance {
            settings,
            seed,
            state,
            journal: Journal::default(),
            journal_waits: Semaphore::new(MOST_JOURNAL_WAITS),
            state_reads: Arc::new(Semaphore::new(MOST_STATE_READS)),
            state_writes: Semaphore::new(1),
            webhook_calls,
            webhook_room,
        };
        Ok((instance, to_run))
    }

    pub(crate) fn handle(&self, call: Call) -> Handled {
        let mut state = self.state();
        let moment = state.clock.moment();
        let now = moment.shown;
        let seq = state.requests + 1;
        let request_id = ids::tracking(seq);
        let Call { origin, authorization, certificates, for_tpm, api_version, body, request } = call;
        let target = request.as_ref().ok().and_then(|request| Target::of(request, origin.protocol));
        let operation = target.as_ref().map(|target| target.operation);
        let connects = request.as_ref().is_ok_and(Request::connects);
        let id = request.as_ref().ok().map(|request| request.id().to_owned()).filter(|id| !id.is_empty());
        let effect = target.and_then(|target| state.faults.strike(&target));
        let presented = Presented { authorization, certificates, for_tpm, api_version, body };
        let (mut answer, webhook_call) = match effect {
            Some(Effect::Refuse { status, retry_after }) => {
                let refusal = match operation {
                    Some(Operation::HubService) => hub::fault_answer(status, &request_id, now),
                    _ => fault::refusal(status, operation).into_answer(&request_id, now),
                };
                (Answer { retry_after, ..refusal }, None)
            }
            _ => request
                .and_then(|request| self.answer(&mut state, request, presented, &request_id, moment))
                .unwrap_or_else(|refusal| (refusal.into_answer(&request_id, now), None)),
        };
        if let Some(webhook_call) = webhook_call {
            match Arc::clone(&self.webhook_room).try_acquire_many_owned(webhook_call.cost()) {
                // Sending fails only when the emulator stops.
                Ok(room) => {
                    let _sent = self.webhook_calls.send((webhook_call, room));
                }
                Err(_) => {
                    let cause =
                        "the webhook calls that wait for their answers use all the memory set aside for them";
                    let no = NoDecision::new("too many calls wait for an answer.", cause);
                    device::conclude(&mut state, webhook_call.pending, Err(no), &self.settings, now);
                }
            }
        }
        if let Some(operation) = operation {
            state.billed.count(operation, answer.status);
        }
        if let Some(effect) = effect {
            let own = answer.cause.take().filter(|_| !matches!(effect, Effect::Refuse { .. }));
            let causes = own.into_iter().chain([effect.cause().into_owned()]);
            answer.cause = Some(causes.collect::<Vec<_>>().join("; "));
        }
        // An accepted connection is not a request; the requests on it get their own entries.
        // A call of a method gets its entry when the device has answered.
        let is_journalled = (!connects || answer.cause.is_some()) && answer.waits_for.is_none();
        let entry = is_journalled.then(|| {
            state.requests = seq;
            self.record(origin, seq, now, id, &answer)
        });
        // A subscriber of the log may be slow, or call this instance.
        drop(state);
        if let Some(entry) = entry {
            entry.log();
        }
        let delivery = effect.map_or(Delivery::Plain, Effect::delivery);
        let delay = self.settings.latency.saturating_add(effect.map_or(Duration::ZERO, Effect::delay));
        Handled { answer, request_id, time: now, delivery, delay }
    }

    /// Decides a registration by the answer of its webhook.
    pub(crate) fn conclude(&self, pending: PendingRegistration, decision: Result<Decision, NoDecision>) {
        if let Err(no) = &decision {
            let id = &pending.registration_id;
            let cause = journal::one_line(&no.cause);
            tracing::debug!(registration_id = %id, cause, "webhook made no decision");
        }
        let mut state = self.state();
        let now = state.clock.now();
        device::conclude(&mut state, pending, decision, &self.settings, now);
    }

    fn record(
        &self,
        origin: Origin,
        seq: u64,
        now: OffsetDateTime,
        id: Option<String>,
        answer: &Answer,
    ) -> Arc<Entry> {
        self.journal.record(Entry {
            seq,
            time: SystemTime::from(now),
            connection: origin.connection,
            protocol: origin.protocol.word(),
            method: origin.method,
            target: origin.target,
            id,
            status: answer.status,
            error_code: answer.error_code,
            cause: answer.cause.clone(),
            warning: answer.warning.clone(),
            repeats: 0,
        })
    }

    /// Restores the state of the start, with the enrollments of the seed only. Connections stay open.
    pub(crate) fn reset(&self) {
        // A large seed takes seconds. Until then, devices are served from the state that they know.
        let authority = Arc::clone(self.state().issuance.authority());
        match State::new(&self.settings, authority, &self.seed) {
            Ok(fresh) => self.replace(fresh),
            // Cannot happen: the start has accepted the same seed.
            Err(error) => tracing::error!(%error, "the seed cannot be loaded again"),
        }
    }

    /// Injects all of these faults, or none.
    ///
    /// # Errors
    /// Says why one of them is refused, or that too many faults wait.
    pub(crate) fn inject(&self, faults: Vec<Fault>) -> Result<(), FaultError> {
        self.state().faults.inject(faults)
    }

    /// The faults that still have to act.
    pub(crate) fn faults(&self) -> Vec<Fault> {
        self.state().faults.waiting().to_vec()
    }

    pub(crate) fn clear_faults(&self) {
        self.state().faults = Faults::default();
    }

    pub(crate) fn clock(&self) -> Clock {
        self.state().clock
    }

    pub(crate) fn now(&self) -> OffsetDateTime {
        self.state().clock.now()
    }

    pub(crate) fn set_clock(&self, time: SystemTime) {
        self.change_clock(|clock| clock.set(time));
    }

    pub(crate) fn advance_clock(&self, by: Duration) {
        self.change_clock(|clock| clock.advance(by));
    }

    pub(crate) fn reset_clock(&self) {
        self.change_clock(|clock| *clock = Clock::default());
    }

    fn change_clock(&self, change: impl FnOnce(&mut Clock)) {
        let mut state = self.state();
        change(&mut state.clock);
        // Their tokens may have expired.
        state.hubs.iter().filter_map(HubDevice::link).for_each(Link::wake);
    }

    pub(crate) fn billed(&self) -> BilledOperations {
        self.state().billed
    }

    /// Both collections as GET returns them.
    pub(crate) fn enrollments(&self) -> Value {
        let state = self.state();
        let all = |kind: Kind| -> Vec<_> {
            state.enrollments(kind).iter().map(|one| one.public(View::Whole)).collect()
        };
        json!({"enrollments": all(Kind::Individual), "enrollmentGroups": all(Kind::Group)})
    }

    /// The enrollment after a position, or the first, with its own position, in the order of ids.
    pub(crate) fn enrollment_behind(
        &self,
        kind: Kind,
        position: Option<&Position>,
    ) -> Option<(Position, Value)> {
        let state = self.state();
        let (position, enrollment) = state.enrollments(kind).behind(Order::Ids, position).next()?;
        Some((position, enrollment.public(View::Whole).into()))
    }

    /// The registration record after a position, or the first, with its own position, in the order of ids.
    pub(crate) fn registration_behind(&self, position: Option<&Position>) -> Option<(Position, Value)> {
        let state = self.state();
        let (position, record) = state.registrations.behind(Order::Ids, position).next()?;
        Some((position, record.for_service(schema::LATEST).into()))
    }

    /// The device of a hub after an id, or the first, with its own id.
    pub(crate) fn hub_device_behind(&self, hub: &str, device_id: Option<&str>) -> Option<(String, Value)> {
        let state = self.state();
        let device = state.hubs.behind(hub, device_id)?;
        Some((device.id().to_owned(), device.to_json()))
    }

    /// All registration records as the service API returns them.
    pub(crate) fn registrations(&self) -> Value {
        self.state().registrations.iter().map(|record| record.for_service(schema::LATEST)).collect()
    }

    /// The key that signs for a device at its hub, in base64.
    pub(crate) fn hub_key(&self, registration_id: &str) -> Option<String> {
        self.state().registrations.find(registration_id)?.hub_key().map(|key| BASE64_STANDARD.encode(key))
    }

    pub(crate) fn upload(&self, given: CaCertificate) -> Result<(), CaCertificateError> {
        let mut state = self.state();
        let now = state.clock.now();
        state.authorities.put(given, now)
    }

    /// Returns whether a certificate has this name.
    pub(crate) fn mark_certificate(&self, name: &str, verified: bool) -> bool {
        self.state().authorities.mark(name, verified)
    }

    /// Returns whether a certificate had this name.
    pub(crate) fn delete_certificate(&self, name: &str) -> bool {
        self.state().authorities.delete(name)
    }

    pub(crate) fn certificate(&self, name: &str) -> Option<Value> {
        self.state().authorities.find(name).map(Authority::to_json)
    }

    /// The uploaded certificates in the order of their names.
    pub(crate) fn certificates(&self) -> Value {
        self.state().authorities.iter().map(Authority::to_json).collect()
    }

    /// The linked hubs with the number of their devices.
    pub(crate) fn hubs(&self) -> Value {
        let state = self.state();
        let hubs = self.settings.enrolling.hubs.iter().map(|hub| {
            json!({
                "hostName": hub.host_name,
                "weight": hub.weight,
                "region": hub.region,
                "applyAllocationPolicy": !hub.named_only,
                "devices": state.hubs.of(&hub.host_name).count(),
            })
        });
        hubs.collect()
    }

    /// The devices of a linked hub.
    pub(crate) fn hub_devices(&self, hub: &str) -> Option<Value> {
        let hub = self.settings.linked(hub)?;
        Some(self.state().hubs.of(&hub.host_name).map(HubDevice::to_json).collect())
    }

    pub(crate) fn hub_device(&self, hub: &str, device_id: &str) -> Option<Value> {
        self.state().hubs.find(hub, device_id).map(HubDevice::to_json)
    }

    /// Returns whether the hub had such a device.
    pub(crate) fn delete_hub_device(&self, hub: &str, device_id: &str) -> bool {
        self.state().hubs.remove(hub, device_id).is_some()
    }

    /// Changes the allocation rules, and returns the new ones.
    pub(crate) fn change_rules(&self, change: impl FnOnce(&mut Rules)) -> Rules {
        let mut state = self.state();
        change(&mut state.rules);
        state.rules.clone()
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    pub(crate) fn journal_waits(&self) -> &Semaphore {
        &self.journal_waits
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(
        &self,
        state: &mut State,
        request: Request,
        presented: Presented,
        request_id: &str,
        moment: Moment,
    ) -> Result<(Answer, Option<WebhookCall>), Refusal> {
        let now = moment.shown;
        match request {
            Request::Hub(request) => Ok((hub::serve(state, &request, &presented, request_id, now), None)),
            Request::AtHub(request) => {
                let linked = self.settings.linked(&request.hub);
                Ok((hub::at_hub::serve(state, linked, &request, presented, request_id, now), None))
            }
            Request::BackEnd { resource, request } => {
                let (authorization, need) = (presented.authorization.as_deref(), Need::of(request.operation));
                state.gate.admit(authorization, &resource, need, now)?;
                presented.check_api_version(self.settings.strictness)?;
                state.meters.service_operation(now)?;
                Ok((back_end::serve(state, &request, &presented, &self.settings, now)?, None))
            }
            Request::Device(request) => device::serve(state, &request, &presented, &self.settings, moment),
        }
    }
}

const MOST_STATE_READS: usize = 4;
const MOST_JOURNAL_WAITS: usize = 64;
