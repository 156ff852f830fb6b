//! Direct methods: the calls that wait for a device, and its answers.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::json::Value;
use crate::records::hubs::call_error::HubCallError;
use crate::records::hubs::limits::{LARGEST_PAYLOAD, MOST_CALLS};

/// A call of a direct method.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use azure_dps_emulator::MethodCall;
///
/// let call = MethodCall::new("reboot")
///     .with_payload(serde_json::json!({"delay": 5}))
///     .with_response_timeout(Duration::from_secs(10));
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a call does nothing before it is made"]
pub struct MethodCall {
    pub(crate) name: String,
    pub(crate) payload: Value,
    pub(crate) connect_timeout: Duration,
    pub(crate) response_timeout: Duration,
}

impl MethodCall {
    /// A call of this method with the payload `null`. It waits 30 seconds for the answer, and not at all for
    /// a device that does not listen to methods.
    pub fn new(name: impl Into<String>) -> Self {
        MethodCall {
            name: name.into(),
            payload: Value::Null,
            connect_timeout: Duration::ZERO,
            response_timeout: RESPONSE_TIMEOUT,
        }
    }

    /// Sets the payload, which has at most 128 KiB.
    pub fn with_payload(mut self, payload: impl Into<serde_json::Value>) -> Self {
        self.payload = payload.into().into();
        self
    }

    /// Waits so long until the device listens to methods.
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Waits so long for the answer of the device.
    pub fn with_response_timeout(mut self, timeout: Duration) -> Self {
        self.response_timeout = timeout;
        self
    }
}

/// The answer of a device to a direct method.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MethodAnswer {
    /// The status that the device chose.
    pub status: i32,
    /// The payload; null if the device sent none.
    pub payload: serde_json::Value,
}

/// A call that was made: how long its caller waits, and the two events, each of which comes at most once.
pub(crate) struct Ticket {
    /// How long to wait until the device listens; `None` if it did when the call was made.
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) response_timeout: Duration,
    pub(crate) handed_over: oneshot::Receiver<()>,
    pub(crate) answered: oneshot::Receiver<(i32, Value)>,
}

/// The calls that wait for one device.
#[derive(Default)]
pub(crate) struct Calls {
    waiting: Vec<Waiting>,
    count: u64,
}

struct Waiting {
    rid: String,
    /// Until its caller begins to wait.
    ticket: Option<Ticket>,
    /// The call, until it is handed over to the connection of the device.
    call: Option<(String, String, oneshot::Sender<()>)>,
    /// Until the device answers.
    answer: Option<oneshot::Sender<(i32, Value)>>,
}

impl Calls {
    /// Adds a call to a device that listens to methods or does not, and returns its request id.
    ///
    /// # Errors
    /// Says why the call cannot be made.
    pub(crate) fn add(&mut self, call: &MethodCall, listens: bool) -> Result<String, HubCallError> {
        if !is_topic_level(&call.name) {
            return Err(HubCallError::MethodName(call.name.clone()));
        }
        let payload = call.payload.to_string();
        if payload.len() > LARGEST_PAYLOAD {
            return Err(HubCallError::PayloadTooLarge(payload.len()));
        }
        if !listens && call.connect_timeout.is_zero() {
            return Err(HubCallError::NotOnline(Duration::ZERO));
        }
        if self.waiting.len() == MOST_CALLS {
            return Err(HubCallError::TooManyCalls);
        }
        self.count += 1;
        let rid = self.count.to_string();
        let ((hand_over, handed_over), (answer, answered)) = (oneshot::channel(), oneshot::channel());
        let ticket = Ticket {
            connect_timeout: (!listens).then_some(call.connect_timeout),
            response_timeout: call.response_timeout,
            handed_over,
            answered,
        };
        let call = Some((call.name.clone(), payload, hand_over));
        self.waiting.push(Waiting { rid: rid.clone(), ticket: Some(ticket), call, answer: Some(answer) });
        Ok(rid)
    }

    /// The ticket of a call, for its caller. The device may have answered before, and the ticket has the answer.
    pub(crate) fn claim(&mut self, rid: &str) -> Option<Ticket> {
        let ticket = self.waiting.iter_mut().find(|waiting| waiting.rid == rid)?.ticket.take();
        self.remove_settled();
        ticket
    }

    /// The next call that the device has not got: its request id, its name and its payload.
    pub(crate) fn hand_over(&mut self) -> Option<(String, String, String)> {
        self.waiting.iter_mut().find_map(|waiting| {
            let (name, payload, hand_over) = waiting.call.take()?;
            let _caller_is_gone = hand_over.send(());
            Some((waiting.rid.clone(), name, payload))
        })
    }

    /// Passes on an answer; returns whether a call with this request id waits.
    pub(crate) fn answer(&mut self, rid: &str, status: i32, payload: Value) -> bool {
        let handed_over = |waiting: &&mut Waiting| waiting.rid == rid && waiting.call.is_none();
        let Some(waiting) = self.waiting.iter_mut().find(handed_over) else { return false };
        let is_new = waiting.answer.take().is_some_and(|answer| answer.send((status, payload)).is_ok());
        self.remove_settled();
        is_new
    }

    /// Removes the calls that the device has answered and whose callers have their tickets.
    fn remove_settled(&mut self) {
        self.waiting.retain(|waiting| waiting.ticket.is_some() || waiting.answer.is_some());
    }

    /// Removes a call whose caller has left.
    pub(crate) fn abandon(&mut self, rid: &str) {
        self.waiting.retain(|waiting| waiting.rid != rid);
    }
}

/// Returns whether a name is one level of a topic.
fn is_topic_level(name: &str) -> bool {
    (1..=128).contains(&name.len()) && !name.chars().any(|c| c.is_control() || "/?#+".contains(c))
}

/// The default of IoT Hub.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;

    #[test]
    fn an_answer_finds_its_call_once() {
        let mut calls = Calls::default();
        let mut first = add(&mut calls, "a");
        let mut second = add(&mut calls, "b");

        assert!(!calls.answer("1", 200, Value::Null), "the device does not have it yet");
        assert_eq!(calls.hand_over(), Some(("1".into(), "a".into(), "null".into())));
        assert_eq!(first.handed_over.try_recv(), Ok(()));
        assert_eq!(calls.hand_over(), Some(("2".into(), "b".into(), "null".into())));
        assert_eq!(calls.hand_over(), None);
        assert!(calls.answer("2", 404, json!({"why": 1})));
        assert_eq!(second.answered.try_recv(), Ok((404, json!({"why": 1}))));
        assert!(!calls.answer("2", 200, Value::Null));
        calls.abandon("1");
        assert!(!calls.answer("1", 200, Value::Null));
        assert!(first.answered.try_recv().is_err());
    }

    #[test]
    fn an_answer_that_comes_before_its_caller_waits_is_kept() {
        let mut calls = Calls::default();
        let rid = calls.add(&MethodCall::new("a"), true).unwrap();
        calls.hand_over();
        assert!(calls.answer(&rid, 200, Value::Null));
        assert!(!calls.answer(&rid, 200, Value::Null));

        let mut ticket = calls.claim(&rid).unwrap();
        assert_eq!(ticket.answered.try_recv(), Ok((200, Value::Null)));
        assert!(calls.waiting.is_empty());
    }

    #[test]
    fn a_call_that_cannot_be_made_is_refused() {
        let mut calls = Calls::default();
        for name in ["", "a/b", "a?", "a#", "+", "a\n", &"n".repeat(129)] {
            let refused = calls.add(&MethodCall::new(name), true);
            assert_eq!(refused, Err(HubCallError::MethodName(name.to_owned())));
        }
        let large = MethodCall::new("a").with_payload("x".repeat(LARGEST_PAYLOAD - 1));
        assert_eq!(calls.add(&large, true), Err(HubCallError::PayloadTooLarge(LARGEST_PAYLOAD + 1)));
        let offline = calls.add(&MethodCall::new("a"), false);
        assert_eq!(offline, Err(HubCallError::NotOnline(Duration::ZERO)));
        let patient = MethodCall::new("a").with_connect_timeout(Duration::from_secs(1));
        let rid = calls.add(&patient, false).unwrap();
        assert_eq!(calls.claim(&rid).unwrap().connect_timeout, Some(Duration::from_secs(1)));
        assert!(calls.claim(&rid).is_none(), "one caller waits");
        for _ in 1..MOST_CALLS {
            add(&mut calls, "a");
        }
        assert_eq!(calls.add(&MethodCall::new("a"), true), Err(HubCallError::TooManyCalls));
        calls.abandon(&rid);
        add(&mut calls, "a");
    }

    fn add(calls: &mut Calls, name: &str) -> Ticket {
        let rid = calls.add(&MethodCall::new(name), true).unwrap();
        calls.claim(&rid).unwrap()
    }
}
