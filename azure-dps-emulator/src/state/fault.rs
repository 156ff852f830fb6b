//! Injected faults: the requests that they wait for, and what they do to them.
//!
//! | effect | the request is | HTTPS | MQTT | AMQP |
//! | --- | --- | --- | --- | --- |
//! | throttle, status | not carried out | the status | the status; CONNACK 3, 4, 5 | rejected; SASL 1, 2, 4 |
//! | hang up | carried out | closes the connection | the same | the same |
//! | garbage | carried out | 200 without JSON | the same; not an MQTT packet | the same; not a frame |
//! | stall | carried out | does not answer | the same | the same |
//! | delay | carried out | answers later | the same | the same |
//! | wrong rid | carried out | does not apply | unknown `$rid` | unknown correlation id |
//! | duplicate reply | carried out | does not apply | answers twice | the same |
//!
//! Behind a semicolon is the answer to a CONNECT or to SASL.
//!
//! At hubs the effects are those of MQTT and HTTPS. Telemetry has no answer besides its PUBACK: a status ends
//! the connection, a delay and a stall concern the PUBACK, and the other effects but hang up do not apply.

pub(crate) mod saved;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::call::answer::Delivery;
use crate::call::request::{DeviceOperation, DeviceRequest, Operation, Protocol, Request};
use crate::refusal::{REGISTERS_AT_ONCE, Refusal, THROTTLED};
use crate::report;

/// A fault to inject: the requests that it waits for, and what it does to them.
///
/// Without conditions it waits for the next request to the provisioning service, and acts once. It acts on a
/// request to a hub only if it names one of the operations at hubs. A fault acts on requests with wrong
/// credentials too. If several faults wait for a request, the one that was injected first acts.
/// [`Emulator::inject`](crate::Emulator::inject) refuses a fault that can never act, such as a duplicate
/// reply over HTTPS.
///
/// # Examples
///
/// ```
/// use azure_dps_emulator::{Emulator, Fault, Operation, Protocol};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let emulator = Emulator::start().await?;
///
/// // The first two polls of dev1 are answered 429 with `Retry-After: 1`.
/// emulator.inject(Fault::throttle(1).on(Operation::Poll).of("dev1").times(2))?;
/// // The second register request over MQTT never gets its answer.
/// emulator.inject(Fault::hang_up().on(Operation::Register).over(Protocol::Mqtt).nth(2))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a fault does nothing before it is injected"]
pub struct Fault {
    pub(crate) effect: Effect,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) operation: Option<Operation>,
    pub(crate) id: Option<String>,
    pub(crate) nth: u32,
    pub(crate) times: u32,
}

impl Fault {
    /// Answers 429 with this `retry-after`.
    pub fn throttle(retry_after_seconds: u32) -> Self {
        Self::new(Effect::Refuse { status: 429, retry_after: Some(retry_after_seconds) })
    }

    /// Answers with this status, from 400 to 599, without `retry-after`.
    pub fn status(status: u16) -> Self {
        Self::new(Effect::Refuse { status, retry_after: None })
    }

    /// Carries the request out and closes the connection without an answer.
    pub fn hang_up() -> Self {
        Self::new(Effect::HangUp)
    }

    /// Carries the request out and answers with a body that is not JSON.
    pub fn garbage() -> Self {
        Self::new(Effect::Garbage)
    }

    /// Carries the request out and never answers; the connection stays open.
    pub fn stall() -> Self {
        Self::new(Effect::Stall)
    }

    /// Carries the request out and delays the answer. Only this connection waits.
    ///
    /// The delay is added to [`EmulatorBuilder::latency`](crate::EmulatorBuilder::latency), which delays
    /// every answer.
    pub fn delay(by: Duration) -> Self {
        Self::new(Effect::Delay(by))
    }

    /// Carries the request out and answers with an unknown request id: `$rid` over MQTT, the correlation id
    /// over AMQP. HTTPS has no request ids.
    pub fn wrong_rid() -> Self {
        Self::new(Effect::WrongRid)
    }

    /// Carries the request out and answers twice, over MQTT and AMQP.
    pub fn duplicate_reply() -> Self {
        Self::new(Effect::DuplicateReply)
    }

    /// Waits only for requests over this protocol.
    pub fn over(mut self, protocol: Protocol) -> Self {
        self.protocol = Some(protocol);
        self
    }

    /// Waits only for requests of this kind.
    pub fn on(mut self, operation: Operation) -> Self {
        self.operation = Some(operation);
        self
    }

    /// Waits only for requests that name this registration id, enrollment id or group id, or at a hub this
    /// device id, which has at most 128 characters.
    pub fn of(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Acts from the `n`th matching request on, counted from 1; the default is 1.
    pub fn nth(mut self, n: u32) -> Self {
        self.nth = n;
        self
    }

    /// Acts on this many requests in a row, at least 1; the default is 1.
    pub fn times(mut self, count: u32) -> Self {
        self.times = count;
        self
    }

    pub(crate) fn new(effect: Effect) -> Self {
        Fault { effect, protocol: None, operation: None, id: None, nth: 1, times: 1 }
    }

    /// Refuses a fault that can never act.
    pub(crate) fn check(&self) -> Result<(), FaultError> {
        let id = self.id.as_deref().unwrap_or_default();
        let is_met = |protocol: Protocol| {
            let mut operations =
                Operation::ALL.into_iter().filter(|operation| operation.comes_over(protocol));
            operations.any(|operation| self.waits_for(&Target { protocol, operation, id }))
        };
        match self.effect {
            Effect::Refuse { status, .. } if !(400..600).contains(&status) => Err(FaultError::Status(status)),
            _ if self.nth == 0 => Err(FaultError::Nth),
            _ if self.times == 0 => Err(FaultError::Times),
            _ if id.chars().count() > LONGEST_ID => Err(FaultError::Id),
            _ if !Protocol::ALL.into_iter().any(is_met) => Err(FaultError::NeverMet),
            _ => Ok(()),
        }
    }

    fn waits_for(&self, target: &Target<'_>) -> bool {
        self.protocol.is_none_or(|protocol| protocol == target.protocol)
            && self.operation.map_or(!target.operation.is_at_hub(), |operation| operation == target.operation)
            && self.id.as_ref().is_none_or(|id| id.eq_ignore_ascii_case(target.id))
            && self.effect.applies_to(target)
    }
}

/// Why a fault cannot be injected. `{:?}` is the message, and `{:#?}` the name of the reason.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FaultError {
    /// The status is not from 400 to 599.
    #[error("status {0} must be 400 to 599")]
    Status(u16),
    /// [`Fault::nth`] is 0; counting begins at 1.
    #[error("nth must be at least 1")]
    Nth,
    /// [`Fault::times`] is 0; a fault acts at least once.
    #[error("times must be at least 1")]
    Times,
    /// The id is longer than the 128 characters that ids have at most.
    #[error("an id has at most {LONGEST_ID} characters")]
    Id,
    /// No request can meet the conditions.
    #[error(
        "the fault would never act: connect is not sent over https; lookup, service and hubService are sent \
         over https only; hubConnect, hubTwin and hubTelemetry are sent over mqtt only; wrongRid and \
         duplicateReply act on register, poll and hubTwin over mqtt and amqp only; garbage does not act on \
         hubTelemetry"
    )]
    NeverMet,
    /// More than 1,000 faults would wait.
    #[error(
        "at most {MOST_WAITING} faults can wait at the same time: let some of them act, or reset the \
         emulator, which removes all of them"
    )]
    TooMany,
}

impl fmt::Debug for FaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        report::debug(f, self, |f| match self {
            Self::Status(status) => f.debug_tuple("Status").field(status).finish(),
            Self::Nth => f.write_str("Nth"),
            Self::Times => f.write_str("Times"),
            Self::Id => f.write_str("Id"),
            Self::NeverMet => f.write_str("NeverMet"),
            Self::TooMany => f.write_str("TooMany"),
        })
    }
}

/// The properties of a request that faults compare.
pub(crate) struct Target<'a> {
    pub(crate) protocol: Protocol,
    pub(crate) operation: Operation,
    pub(crate) id: &'a str,
}

impl<'a> Target<'a> {
    /// `None` for requests that faults do not touch: answers to direct methods, and the request for a TPM's
    /// challenge. Clients ignore a failed challenge, so faults act on the token that follows.
    pub(crate) fn of(request: &'a Request, protocol: Protocol) -> Option<Self> {
        match request {
            Request::BackEnd { request, .. } => {
                Some(Target { protocol, operation: Operation::Service, id: &request.id })
            }
            Request::Device(DeviceRequest { operation: DeviceOperation::Challenge, .. }) => None,
            Request::Hub(request) => {
                Some(Target { protocol, operation: Operation::HubService, id: request.operation.id() })
            }
            Request::AtHub(request) => {
                Some(Target { protocol, operation: request.operation.kind()?, id: &request.device_id })
            }
            Request::Device(request) => {
                Some(Target { protocol, operation: request.operation.kind(), id: &request.registration_id })
            }
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub(crate) enum Effect {
    Refuse { status: u16, retry_after: Option<u32> },
    HangUp,
    Garbage,
    Stall,
    Delay(Duration),
    WrongRid,
    DuplicateReply,
}

impl Effect {
    fn applies_to(self, target: &Target<'_>) -> bool {
        match self {
            Effect::WrongRid | Effect::DuplicateReply => {
                target.protocol != Protocol::Https
                    && matches!(target.operation, Operation::Register | Operation::Poll | Operation::HubTwin)
            }
            Effect::Garbage => target.operation != Operation::HubTelemetry,
            _ => true,
        }
    }

    /// A description for the journal.
    pub(crate) fn cause(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Effect::Refuse { .. } => "fault: answered in place of the service",
            Effect::HangUp => "fault: hung up in place of the answer",
            Effect::Garbage => "fault: garbage in place of the answer",
            Effect::Stall => "fault: the answer is never sent",
            Effect::Delay(by) => return format!("fault: the answer is sent {by:?} later").into(),
            Effect::WrongRid => "fault: the answer has a wrong request id",
            Effect::DuplicateReply => "fault: the answer is sent twice",
        })
    }

    /// The delay of the answer.
    pub(crate) fn delay(self) -> Duration {
        match self {
            Effect::Delay(by) => by,
            _ => Duration::ZERO,
        }
    }

    /// How the front delivers the answer.
    pub(crate) fn delivery(self) -> Delivery {
        match self {
            Effect::Refuse { .. } | Effect::Delay(_) => Delivery::Plain,
            Effect::HangUp => Delivery::HangUp,
            Effect::Garbage => Delivery::Garbage,
            Effect::Stall => Delivery::Stall,
            Effect::WrongRid => Delivery::WrongRid,
            Effect::DuplicateReply => Delivery::Twice,
        }
    }
}

/// The answer of a fault in place of the service.
pub(crate) fn refusal(status: u16, operation: Option<Operation>) -> Refusal {
    let (code, message) = match status {
        // The service answers with this when one device registers several times at once.
        409 if operation
            .is_none_or(|operation| operation != Operation::Service && !operation.is_at_hub()) =>
        {
            (REGISTERS_AT_ONCE, "Precondition failed.".to_owned())
        }
        429 => (THROTTLED, "Operations are being throttled for this tenant".to_owned()),
        _ => (u32::from(status) * 1000, format!("Injected fault {status}")),
    };
    Refusal::new(code, message)
}

/// The body that every front sends as garbage.
pub(crate) const GARBAGE: &str = "<html>502 Bad Gateway</html>";

/// The injected faults that still have to act.
#[derive(Default)]
pub(crate) struct Faults {
    waiting: Vec<Fault>,
}

impl Faults {
    pub(crate) fn waiting(&self) -> &[Fault] {
        &self.waiting
    }

    /// Adds all of these faults, or none.
    ///
    /// # Errors
    /// Says why the first fault that cannot act is refused, or that too many faults wait. The number is
    /// limited because every request walks the list.
    pub(crate) fn inject(&mut self, faults: Vec<Fault>) -> Result<(), FaultError> {
        faults.iter().try_for_each(Fault::check)?;
        if self.waiting.len() + faults.len() > MOST_WAITING {
            return Err(FaultError::TooMany);
        }
        self.waiting.extend(faults);
        Ok(())
    }

    /// Counts a request for every fault that waits for it, and returns the effect of the one that acts.
    pub(crate) fn strike(&mut self, target: &Target<'_>) -> Option<Effect> {
        let mut acting = None;
        for fault in self.waiting.iter_mut().filter(|fault| fault.waits_for(target)) {
            if fault.nth > 1 {
                fault.nth -= 1;
            } else if acting.is_none() && fault.times > 0 {
                fault.times -= 1;
                acting = Some(fault.effect);
            }
        }
        self.waiting.retain(|fault| fault.times > 0);
        acting
    }
}

const MOST_WAITING: usize = 1_000;
const LONGEST_ID: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_acts_once_on_any_request() {
        let mut faults = waiting([Fault::hang_up()]);

        assert_eq!(faults.strike(&register(Protocol::Https, "a")), Some(Effect::HangUp));
        assert_eq!(faults.strike(&register(Protocol::Https, "a")), None);
    }

    #[test]
    fn a_fault_waits_for_a_request_that_meets_all_its_conditions() {
        let fault = Fault::stall().over(Protocol::Mqtt).on(Operation::Register).of("Dev1");
        let mut faults = waiting([fault]);

        assert_eq!(faults.strike(&register(Protocol::Https, "dev1")), None);
        assert_eq!(faults.strike(&register(Protocol::Mqtt, "dev2")), None);
        let poll = Target { operation: Operation::Poll, ..register(Protocol::Mqtt, "dev1") };
        assert_eq!(faults.strike(&poll), None);
        assert_eq!(faults.strike(&register(Protocol::Mqtt, "dev1")), Some(Effect::Stall));
    }

    #[test]
    fn a_fault_acts_from_the_nth_request_on_as_often_as_set() {
        let mut faults = waiting([Fault::garbage().nth(3).times(2)]);

        let acted: Vec<bool> =
            (0..6).map(|_| faults.strike(&register(Protocol::Https, "a")).is_some()).collect();

        assert_eq!(acted, [false, false, true, true, false, false]);
    }

    #[test]
    fn of_two_faults_the_first_acts_and_both_count() {
        let mut faults = waiting([Fault::throttle(7), Fault::status(500).nth(2)]);

        let throttled = Effect::Refuse { status: 429, retry_after: Some(7) };
        assert_eq!(faults.strike(&register(Protocol::Https, "a")), Some(throttled));
        let failed = Effect::Refuse { status: 500, retry_after: None };
        assert_eq!(faults.strike(&register(Protocol::Https, "a")), Some(failed));
    }

    #[test]
    fn a_wrong_rid_waits_for_a_request_over_mqtt_and_skips_https_and_connects() {
        let mut faults = waiting([Fault::wrong_rid()]);

        assert_eq!(faults.strike(&register(Protocol::Https, "a")), None);
        let connect = Target { operation: Operation::Connect, ..register(Protocol::Mqtt, "a") };
        assert_eq!(faults.strike(&connect), None);
        assert_eq!(faults.strike(&register(Protocol::Mqtt, "a")), Some(Effect::WrongRid));
    }

    #[test]
    fn only_a_fault_that_names_an_operation_at_hubs_acts_there() {
        let mut faults = waiting([Fault::stall(), Fault::hang_up().on(Operation::HubTwin).of("dev1")]);
        let twin = |id| Target { protocol: Protocol::MqttWs, operation: Operation::HubTwin, id };

        assert_eq!(faults.strike(&twin("dev2")), None);
        assert_eq!(faults.strike(&twin("dev1")), Some(Effect::HangUp));
        assert_eq!(faults.strike(&register(Protocol::Mqtt, "dev1")), Some(Effect::Stall));
    }

    #[test]
    fn a_fault_that_cannot_act_is_refused_with_the_reason() {
        for able in [
            Fault::stall(),
            Fault::delay(Duration::ZERO),
            Fault::throttle(0).times(u32::MAX).nth(u32::MAX).of("ä".repeat(128)),
            Fault::duplicate_reply().over(Protocol::AmqpWs),
            Fault::wrong_rid().on(Operation::Poll).of("dev1"),
            Fault::hang_up().on(Operation::Connect).over(Protocol::Mqtt),
            Fault::status(599).on(Operation::Lookup).over(Protocol::Https),
        ] {
            assert_eq!(able.check(), Ok(()), "{able:?}");
        }
        for (idle, why) in [
            (Fault::stall().times(0), FaultError::Times),
            (Fault::stall().nth(0), FaultError::Nth),
            (Fault::status(399), FaultError::Status(399)),
            (Fault::status(600), FaultError::Status(600)),
            (Fault::stall().of("a".repeat(129)), FaultError::Id),
            (Fault::duplicate_reply().over(Protocol::Https), FaultError::NeverMet),
            (Fault::wrong_rid().on(Operation::Connect), FaultError::NeverMet),
            (Fault::wrong_rid().on(Operation::Service), FaultError::NeverMet),
            (Fault::hang_up().on(Operation::Connect).over(Protocol::Https), FaultError::NeverMet),
            (Fault::status(500).on(Operation::Lookup).over(Protocol::Mqtt), FaultError::NeverMet),
            (Fault::status(500).on(Operation::HubConnect).over(Protocol::Amqp), FaultError::NeverMet),
            (Fault::stall().on(Operation::HubService).over(Protocol::Mqtt), FaultError::NeverMet),
            (Fault::garbage().on(Operation::HubTelemetry), FaultError::NeverMet),
            (Fault::wrong_rid().on(Operation::HubTelemetry), FaultError::NeverMet),
        ] {
            assert_eq!(idle.check(), Err(why), "{idle:?}");
        }
    }

    #[test]
    fn a_thousand_faults_may_wait_and_a_batch_beyond_that_is_refused_as_a_whole() {
        let mut faults = Faults::default();
        faults.inject(vec![Fault::stall(); 999]).unwrap();

        assert_eq!(faults.inject(vec![Fault::stall(); 2]), Err(FaultError::TooMany));
        assert_eq!(faults.waiting.len(), 999);
        faults.inject(vec![Fault::stall()]).unwrap();
        faults.strike(&register(Protocol::Https, "a"));
        assert_eq!(faults.inject(vec![Fault::stall()]), Ok(()), "one has acted");
        let mixed = vec![Fault::stall(), Fault::stall().times(0)];
        assert_eq!(Faults::default().inject(mixed), Err(FaultError::Times));
    }

    fn waiting<const N: usize>(faults: [Fault; N]) -> Faults {
        Faults { waiting: faults.into() }
    }

    fn register(protocol: Protocol, id: &str) -> Target<'_> {
        Target { protocol, operation: Operation::Register, id }
    }
}
