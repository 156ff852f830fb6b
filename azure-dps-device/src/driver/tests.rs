//! The rows of the driver's table, then its invariants over arbitrary replies.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use azure_dps_core::{RetryPolicy, ServiceError};
use proptest::prelude::*;
use serde_json::json;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(60);
const BODY: &[u8] = b"{}";

/// A driver and its clock. Each helper takes the steps to one state.
struct Bench {
    driver: Driver,
    now: Instant,
}

impl Bench {
    fn with(purpose: Purpose, credential: CredentialKind, policy: RegistrationPolicy) -> Self {
        let now = Instant::now();
        Self {
            driver: Driver::new(purpose, BODY.to_vec(), credential, policy, Deadline::new(now, LIMIT), 7),
            now,
        }
    }

    /// A registration with a symmetric key that waits for the reply.
    fn registering() -> Self {
        Self::registering_with(CredentialKind::SymmetricKey)
    }

    fn registering_with(credential: CredentialKind) -> Self {
        let mut bench = Self::with(Purpose::Register, credential, RegistrationPolicy::new());
        bench.connect();
        assert_eq!(bench.sent(), register());
        bench
    }

    /// A registration that is being assigned and waits for the reply to a poll.
    fn polling() -> Self {
        let mut bench = Self::registering();
        bench.reply(202, assigning()).unwrap();
        bench.wait();
        assert_eq!(bench.sent(), status_request());
        bench
    }

    fn step(&mut self) -> Result<Step> {
        self.driver.next(self.now)
    }

    fn connect(&mut self) {
        assert!(matches!(self.step(), Ok(Step::Connect)));
        self.driver.on_connected(true);
    }

    fn sent(&mut self) -> Operation {
        match self.step() {
            Ok(Step::Send(operation)) => operation,
            other => panic!("expected a request, got {other:?}"),
        }
    }

    fn wait(&mut self) -> Duration {
        match self.step() {
            Ok(Step::Wait(pause)) => {
                self.now += pause;
                pause
            }
            other => panic!("expected a pause, got {other:?}"),
        }
    }

    fn done(&mut self) -> DeviceRegistrationState {
        match self.step() {
            Ok(Step::Done(state)) => *state,
            other => panic!("expected the end, got {other:?}"),
        }
    }

    fn reply(&mut self, status: u16, body: Value) -> Result<()> {
        self.reply_after(status, None, body)
    }

    fn reply_after(&mut self, status: u16, retry_after: Option<u64>, body: Value) -> Result<()> {
        let retry_after = retry_after.map(Duration::from_secs);
        self.driver.on_reply(&Reply { status, retry_after, body: body.to_string().into_bytes() }, self.now)
    }

    fn lose(&mut self, kind: ErrorKind) -> Result<()> {
        self.driver.on_failure(Error::new(kind, "lost"), self.now)
    }
}

fn register() -> Operation {
    Operation::Register { body: BODY.to_vec() }
}

fn lookup() -> Operation {
    Operation::Lookup { body: BODY.to_vec() }
}

fn assigning() -> Value {
    json!({ "operationId": "op-1", "status": "assigning" })
}

fn assigned() -> Value {
    json!({ "operationId": "op-1", "status": "assigned", "registrationState": {
        "registrationId": "dev1", "assignedHub": "h.azure-devices.net", "deviceId": "d", "status": "assigned"
    } })
}

fn refusal(code: i32) -> Value {
    json!({ "errorCode": code, "trackingId": "t-1", "message": "no" })
}

fn status_request() -> Operation {
    Operation::Status { operation_id: "op-1".into() }
}

#[test]
fn assigned_to_the_registration_itself_is_done() {
    let mut bench = Bench::registering();
    bench.reply(200, assigned()).unwrap();
    assert_eq!(bench.done().assigned_hub.as_deref(), Some("h.azure-devices.net"));
}

#[test]
fn assigned_to_a_poll_is_done() {
    let mut bench = Bench::polling();
    bench.reply(200, assigned()).unwrap();
    assert_eq!(bench.done().device_id.as_deref(), Some("d"));
}

#[test]
fn assigned_without_hub_or_device_is_a_protocol_error() {
    for missing in ["assignedHub", "deviceId"] {
        let mut body = assigned();
        body["registrationState"].as_object_mut().unwrap().remove(missing);
        let error = Bench::polling().reply(200, body).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{missing}");
    }
    let error =
        Bench::polling().reply(200, json!({ "operationId": "op-1", "status": "assigned" })).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
}

#[test]
fn assigning_polls_after_retry_after() {
    let mut bench = Bench::registering();
    bench.reply_after(202, Some(3), assigning()).unwrap();
    assert_eq!(bench.wait(), 3 * SECOND);
    assert_eq!(bench.sent(), status_request());
}

#[test]
fn assigning_without_retry_after_polls_after_the_default() {
    let mut bench = Bench::registering();
    bench.reply(202, assigning()).unwrap();
    assert_eq!(bench.wait(), 2 * SECOND);
}

#[test]
fn retry_after_zero_polls_at_once_and_then_after_a_pause_that_grows() {
    let mut bench = Bench::registering();
    for _ in 0..2 {
        bench.reply_after(202, Some(0), assigning()).unwrap();
        assert_eq!(bench.sent(), status_request(), "at once");
    }
    for sixteenths in [1, 2, 4, 8, 16, 16, 16] {
        bench.reply_after(202, Some(0), assigning()).unwrap();
        assert_eq!(bench.wait(), SECOND * sixteenths / 16);
        assert_eq!(bench.sent(), status_request());
    }
    // Other pauses are obeyed in between, and do not start the row anew.
    bench.reply_after(202, Some(3), assigning()).unwrap();
    assert_eq!(bench.wait(), 3 * SECOND);
    assert_eq!(bench.sent(), status_request());
    bench.reply_after(202, Some(0), assigning()).unwrap();
    assert_eq!(bench.wait(), SECOND);
}

#[test]
fn retry_after_zero_in_a_refusal_is_no_reason_to_hurry() {
    for status in [408, 409, 429, 500, 503] {
        let mut bench = Bench::registering();
        bench.reply_after(status, Some(0), refusal(429001)).unwrap();
        assert!(bench.wait() >= SECOND, "{status}");
    }
}

#[test]
fn a_longer_shortest_pause_is_grown_into_as_well() {
    let policy = RegistrationPolicy::new().with_min_poll_interval(16 * SECOND);
    let mut polls = Polls::default();
    let pauses: Vec<_> = (0..8).map(|_| polls.pause(Some(Duration::ZERO), policy).as_secs()).collect();
    assert_eq!(pauses, [0, 0, 1, 2, 4, 8, 16, 16]);
}

#[test]
fn unassigned_is_polled_like_assigning() {
    let mut bench = Bench::polling();
    bench.reply(202, json!({ "operationId": "op-1", "status": "unassigned" })).unwrap();
    bench.wait();
    assert_eq!(bench.sent(), status_request());
}

#[test]
fn a_poll_may_have_its_status_in_the_state_only_and_no_operation_id() {
    let mut bench = Bench::polling();
    bench.reply(202, json!({ "registrationState": { "status": "assigning" } })).unwrap();
    bench.wait();
    assert_eq!(bench.sent(), status_request());
}

#[test]
fn a_wrong_credential_ends_at_once_with_the_answer_of_the_service() {
    for (status, mut bench) in
        [(401, Bench::registering()), (403, Bench::registering()), (401, Bench::polling())]
    {
        let error = bench.reply(status, refusal(401002)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
        let service = error.service().unwrap();
        assert_eq!((service.code, service.tracking_id.as_deref()), (Some(401002), Some("t-1")));
        assert_eq!(error.credential(), Some(CredentialKind::SymmetricKey));
    }
}

#[test]
fn throttled_and_failed_requests_are_repeated_after_retry_after() {
    let named = 7 * SECOND..8 * SECOND;
    for status in [408, 429, 500, 502, 503, 504] {
        let mut bench = Bench::registering();
        bench.reply_after(status, Some(7), refusal(429001)).unwrap();
        assert!(named.contains(&bench.wait()), "{status}");
        assert!(matches!(bench.sent(), Operation::Register { .. }));

        let mut bench = Bench::polling();
        bench.reply_after(status, Some(7), json!({})).unwrap();
        assert!(named.contains(&bench.wait()), "{status}");
        assert_eq!(bench.sent(), status_request());
    }
}

#[test]
fn registering_and_polling_have_separate_budgets() {
    let policy = RegistrationPolicy::new().with_retry(RetryPolicy::new().with_retries(1));
    let mut bench = Bench::with(Purpose::Register, CredentialKind::SymmetricKey, policy);
    bench.connect();
    bench.sent();
    bench.reply(500, refusal(500000)).unwrap();
    bench.wait();
    bench.sent();
    bench.reply(202, assigning()).unwrap();
    bench.wait();
    bench.sent();
    bench.reply(503, refusal(503000)).unwrap();
    bench.wait();
    bench.sent();
    let error = bench.reply_after(502, Some(9), refusal(502000)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Service);
    assert_eq!(error.service().unwrap().retry_after, Some(9 * SECOND));
    assert_eq!(error.operation_id(), Some("op-1"));
}

#[test]
fn throttled_requests_are_bounded_by_the_deadline_and_not_by_a_count() {
    let policy = RegistrationPolicy::new().with_retry(RetryPolicy::new().with_retries(1));
    for (status, retry_after) in [(429, Some(2)), (429, None), (503, Some(2))] {
        let mut bench = Bench::with(Purpose::Register, CredentialKind::SymmetricKey, policy);
        bench.connect();
        bench.sent();
        let start = bench.now;
        let mut throttled = 0;
        let error = loop {
            match bench.reply_after(status, retry_after, refusal(429001)) {
                Ok(()) => throttled += 1,
                Err(error) => break error,
            }
            bench.wait();
            bench.sent();
        };
        assert!(throttled > 3, "{status} {retry_after:?}: {throttled}");
        assert!(bench.now < start + LIMIT);
        assert_eq!(error.service().unwrap().status, status, "the error has the throttling answer");
    }
}

#[cfg(feature = "manager")]
#[test]
fn a_manager_waits_itself_when_the_service_throttles_but_not_while_its_registration_runs() {
    let policy = RegistrationPolicy::new().returning_when_throttled();
    for purpose in [Purpose::Register, Purpose::Lookup] {
        for (status, retry_after) in [(429, Some(2)), (429, None), (503, Some(2))] {
            let mut bench = Bench::with(purpose, CredentialKind::SymmetricKey, policy);
            bench.connect();
            bench.sent();
            let error = bench.reply_after(status, retry_after, refusal(429001)).unwrap_err();
            let pause = error.service().and_then(|service| service.retry_after);
            assert_eq!(pause, retry_after.map(Duration::from_secs));
        }
    }
    let mut bench = Bench::with(Purpose::Register, CredentialKind::SymmetricKey, policy);
    bench.connect();
    bench.sent();
    bench.reply(202, assigning()).unwrap();
    bench.wait();
    bench.sent();
    bench.reply_after(429, Some(2), refusal(429001)).unwrap();
    assert!(bench.wait() >= 2 * SECOND);
}

#[test]
fn connections_that_are_throttled_do_not_count_either() {
    let mut bench = Bench::with(Purpose::Register, CredentialKind::SymmetricKey, RegistrationPolicy::new());
    for _ in 0..5 {
        assert!(matches!(bench.step(), Ok(Step::Connect)));
        let service = ServiceError::from_answer(429, Some(2 * SECOND), b"{}");
        let failure = Error::new(ErrorKind::Connect, "throttled").with_service(service);
        bench.driver.on_failure(failure, bench.now).unwrap();
        assert!(bench.wait() >= 2 * SECOND);
    }
}

#[test]
fn the_timeout_names_the_failure_that_was_being_retried() {
    let cause = |error: &Error| {
        assert_eq!(error.kind(), ErrorKind::Timeout);
        let source = std::error::Error::source(error)?;
        source.downcast_ref::<Error>().and_then(Error::service).map(|service| service.status)
    };
    for mut bench in [Bench::registering(), Bench::polling()] {
        bench.reply(429, refusal(429001)).unwrap();
        bench.wait();
        bench.sent();
        assert_eq!(cause(&bench.driver.expired()), Some(429), "while the request is repeated");
    }
    let mut bench = Bench::polling();
    bench.reply(503, refusal(503000)).unwrap();
    bench.now += LIMIT;
    assert_eq!(cause(&bench.step().unwrap_err()), Some(503), "during the pause");

    let mut bench = Bench::registering();
    bench.lose(ErrorKind::Io).unwrap();
    bench.wait();
    assert!(matches!(bench.step(), Ok(Step::Connect)));
    let error = bench.driver.expired();
    assert_eq!(std::error::Error::source(&error).map(ToString::to_string).as_deref(), Some("lost"));

    let mut bench = Bench::registering();
    bench.reply(429, refusal(429001)).unwrap();
    bench.wait();
    bench.sent();
    bench.reply(202, assigning()).unwrap();
    assert_eq!(cause(&bench.driver.expired()), None, "an answer has ended the retry");
}

#[test]
fn a_policy_without_retries_does_not_repeat_a_throttled_request() {
    let policy = RegistrationPolicy::new().with_retry(RetryPolicy::never());
    let mut bench = Bench::with(Purpose::Register, CredentialKind::SymmetricKey, policy);
    bench.connect();
    bench.sent();
    assert!(bench.reply_after(429, Some(2), refusal(429001)).unwrap_err().is_throttled());
}

#[test]
fn the_random_part_of_retry_after_never_exceeds_the_deadline() {
    let asked = LIMIT - Duration::from_millis(1);
    let mut bench = Bench::registering();
    let reply = Reply { status: 429, retry_after: Some(asked), body: Vec::new() };
    bench.driver.on_reply(&reply, bench.now).unwrap();
    assert_eq!(bench.wait(), asked);
    bench.sent();
}

#[test]
fn a_conflicting_registration_registers_again_after_a_random_pause() {
    for mut bench in [Bench::registering(), Bench::polling()] {
        bench.reply(409, refusal(409203)).unwrap();
        bench.wait();
        assert!(matches!(bench.sent(), Operation::Register { .. }));
    }
}

#[test]
fn other_refusals_end_at_once_and_keep_the_answer() {
    for status in [400, 404, 405, 412, 413, 415] {
        let error = Bench::registering().reply(status, refusal(i32::from(status) * 1000)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Service);
        assert_eq!(error.service().unwrap().status, status);
        assert!(!error.is_retryable());
    }
}

#[test]
fn failed_and_disabled_end_the_registration_with_the_state() {
    for word in ["failed", "disabled"] {
        let body = json!({ "operationId": "op-1", "status": word, "registrationState": {
            "status": word, "errorCode": 401001, "errorMessage": "IoTHub not found."
        } });
        let error = Bench::polling().reply(200, body).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Registration);
        assert_eq!(error.state().unwrap().error_code, Some(401001));
        assert!(error.to_string().contains("401001"), "{error}");
    }
    let error =
        Bench::polling().reply(200, json!({ "operationId": "op-1", "status": "disabled" })).unwrap_err();
    assert_eq!(error.state().unwrap().status, Some(EnrollmentStatus::Disabled));
    assert!(error.help().contains("disabled"), "{}", error.help());
}

#[test]
fn an_answer_that_is_not_understood_is_named_and_ends_the_registration() {
    let cases = [
        (json!({ "operationId": "op-1", "status": "dreaming" }), "\"dreaming\""),
        (json!({ "operationId": "op-1" }), "no registration status"),
        (json!({ "status": "assigning" }), "no operationId"),
        (json!({ "operationId": "", "status": "assigning" }), "no operationId"),
        (json!("x"), "another type"),
        (json!({ "operationId": 5, "status": "assigning" }), "another type"),
    ];
    for (body, part) in cases {
        let error = Bench::registering().reply(202, body.clone()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{body}");
        assert!(error.to_string().contains(part), "{body}: {error}");
    }
}

#[test]
fn an_answer_that_cannot_be_read_is_not_quoted() {
    let reply = Reply { status: 200, retry_after: None, body: br#"{"operationId":["hunter2"]}"#.to_vec() };
    let mut bench = Bench::registering();
    let error = bench.driver.on_reply(&reply, bench.now).unwrap_err();
    assert!(!format!("{error:?} {error:#?} {error}").contains("hunter2"));
}

#[test]
fn a_status_that_the_service_does_not_send_is_a_protocol_error() {
    for status in [101, 302, 600, 0] {
        let error = Bench::registering().reply(status, json!({})).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert!(error.to_string().contains(&status.to_string()));
    }
}

#[test]
fn overlong_words_of_the_service_do_not_flood_errors_and_requests() {
    for id in ["x".repeat(1025), "5.a\r\n5.b".to_owned()] {
        let body = json!({ "operationId": id, "status": "assigning" });
        let error = Bench::registering().reply(202, body).unwrap_err();
        assert_eq!((error.kind(), error.operation_id()), (ErrorKind::Protocol, None));
        assert!(error.to_string().len() < 100, "{error}");
    }
    let body = json!({ "operationId": "op-1", "status": "x".repeat(5000) });
    let error = Bench::registering().reply(202, body).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.to_string().len() < 200, "{error}");
}

#[test]
fn after_a_lost_connection_the_driver_polls_where_operations_survive() {
    let mut bench = Bench::polling();
    bench.lose(ErrorKind::Io).unwrap();
    assert!(bench.wait() <= SECOND);
    bench.connect();
    assert_eq!(bench.sent(), status_request());
}

#[test]
fn after_a_lost_connection_the_driver_registers_where_operations_do_not_survive() {
    let mut bench = Bench::with(Purpose::Register, CredentialKind::SymmetricKey, RegistrationPolicy::new());
    assert!(matches!(bench.step(), Ok(Step::Connect)));
    bench.driver.on_connected(false);
    bench.sent();
    bench.reply(202, assigning()).unwrap();
    bench.wait();
    bench.sent();
    bench.lose(ErrorKind::Io).unwrap();
    bench.wait();
    bench.connect();
    assert!(matches!(bench.sent(), Operation::Register { .. }));
}

#[test]
fn a_connection_lost_while_waiting_is_made_again() {
    let mut bench = Bench::registering();
    bench.reply_after(202, Some(5), assigning()).unwrap();
    bench.wait();
    bench.lose(ErrorKind::Io).unwrap();
    bench.wait();
    bench.connect();
    assert_eq!(bench.sent(), status_request());
}

#[test]
fn three_connections_may_fail_in_a_row_and_a_reply_resets_the_count() {
    let mut bench = Bench::with(Purpose::Register, CredentialKind::SymmetricKey, RegistrationPolicy::new());
    for _ in 0..2 {
        assert!(matches!(bench.step(), Ok(Step::Connect)));
        bench.lose(ErrorKind::Connect).unwrap();
        bench.wait();
    }
    bench.connect();
    bench.sent();
    bench.reply(202, assigning()).unwrap();
    bench.wait();
    bench.sent();
    for _ in 0..2 {
        bench.lose(ErrorKind::Io).unwrap();
        bench.wait();
        assert!(matches!(bench.step(), Ok(Step::Connect)));
    }
    let error = bench.lose(ErrorKind::Connect).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert_eq!(error.operation_id(), Some("op-1"));
}

#[test]
fn pauses_grow_while_each_connection_is_lost_after_its_first_reply() {
    let mut bench = Bench::with(Purpose::Register, CredentialKind::SymmetricKey, RegistrationPolicy::new());
    let mut pauses = Vec::new();
    for _ in 0..5 {
        bench.connect();
        bench.sent();
        bench.reply(202, assigning()).unwrap();
        bench.wait();
        bench.sent();
        bench.lose(ErrorKind::Io).unwrap();
        pauses.push(bench.wait());
    }
    assert!(pauses[4] >= Duration::from_secs(8), "{pauses:?}");
}

#[test]
fn a_refused_certificate_or_credential_is_never_retried() {
    for kind in [ErrorKind::Tls, ErrorKind::Unauthorized, ErrorKind::Protocol, ErrorKind::Unsupported] {
        assert_eq!(Bench::registering().lose(kind).unwrap_err().kind(), kind);
    }
}

#[test]
fn a_wait_beyond_the_deadline_ends_at_once_with_its_cause() {
    let error = Bench::registering().reply_after(429, Some(3600), refusal(429001)).unwrap_err();
    assert!(error.is_throttled());
    assert!(error.to_string().contains("retry after 3600 s"), "{error}");

    let error = Bench::registering().reply_after(202, Some(3600), assigning()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("3600s") && error.to_string().contains("op-1"), "{error}");
}

#[test]
fn the_deadline_ends_everything_and_names_the_operation() {
    let mut bench = Bench::registering();
    bench.reply_after(202, Some(50), assigning()).unwrap();
    bench.now += LIMIT;
    let error = bench.step().unwrap_err();
    assert_eq!((error.kind(), error.operation_id()), (ErrorKind::Timeout, Some("op-1")));
}

#[test]
fn a_lookup_returns_any_state() {
    let mut bench = Bench::with(Purpose::Lookup, CredentialKind::SymmetricKey, RegistrationPolicy::new());
    bench.connect();
    assert_eq!(bench.sent(), lookup());
    bench.reply_after(429, Some(1), refusal(429001)).unwrap();
    bench.wait();
    assert!(matches!(bench.sent(), Operation::Lookup { .. }));
    bench.reply(200, json!({ "registrationId": "dev1", "status": "failed", "errorCode": 5 })).unwrap();
    assert_eq!(bench.done().error_code, Some(5));
}

#[test]
fn a_tpm_answers_the_challenge_and_registers_again() {
    let mut bench = Bench::registering_with(CredentialKind::Tpm);
    bench
        .reply(401, json!({ "message": "…", "authenticationKey": "AQID", "keyName": "registration" }))
        .unwrap();
    assert!(matches!(bench.step(), Ok(Step::Challenge(blob)) if blob == [1, 2, 3]));
    assert!(matches!(bench.sent(), Operation::Register { .. }));
    let mut body = assigned();
    body["registrationState"]["tpm"] = json!({ "authenticationKey": "BAUG" });
    bench.reply(200, body).unwrap();
    assert!(matches!(bench.step(), Ok(Step::Install(blob)) if blob == [4, 5, 6]));
    assert_eq!(bench.done().device_id.as_deref(), Some("d"));
}

#[test]
fn a_tpm_is_challenged_three_times_at_most() {
    let mut bench = Bench::registering_with(CredentialKind::Tpm);
    for _ in 0..3 {
        bench.reply(401, json!({ "authenticationKey": "AQID" })).unwrap();
        assert!(matches!(bench.step(), Ok(Step::Challenge(_))));
        bench.sent();
    }
    let error = bench.reply(401, json!({ "authenticationKey": "AQID" })).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
}

#[test]
fn a_401_to_a_tpm_without_a_challenge_is_a_refusal() {
    let error = Bench::registering_with(CredentialKind::Tpm).reply(401, refusal(401002)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert_eq!(error.credential(), Some(CredentialKind::Tpm));
}

#[test]
fn an_assignment_of_a_tpm_without_its_key_is_a_protocol_error() {
    let error = Bench::registering_with(CredentialKind::Tpm).reply(200, assigned()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
}

#[test]
fn a_key_ignores_a_challenge() {
    let error = Bench::registering().reply(401, json!({ "authenticationKey": "AQID" })).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
}

/// Returns when each device of a fleet is assigned, if all start at once. The service accepts `quota`
/// registrations in any minute; beyond that it answers 429 with the seconds until it accepts another one.
fn fleet(devices: usize, quota: usize) -> Vec<Duration> {
    const MINUTE: Duration = Duration::from_secs(60);
    let (start, limit) = (Instant::now(), 20 * MINUTE);
    let policy = RegistrationPolicy::new();
    let new = |seed| {
        let (key, deadline) = (CredentialKind::SymmetricKey, Deadline::new(start, limit));
        Driver::new(Purpose::Register, BODY.to_vec(), key, policy, deadline, seed)
    };
    let mut drivers: Vec<_> = (0..devices).map(|seed| new(seed as u64)).collect();
    let mut due: BinaryHeap<_> = (0..devices).map(|device| Reverse((start, device))).collect();
    let (mut window, mut done) = (VecDeque::new(), Vec::new());
    while let Some(Reverse((now, device))) = due.pop() {
        let driver = &mut drivers[device];
        loop {
            match driver.next(now).unwrap() {
                Step::Connect => driver.on_connected(true),
                Step::Wait(pause) => break due.push(Reverse((now + pause, device))),
                Step::Done(_) => break done.push(now - start),
                Step::Send(_) => {
                    while window.front().is_some_and(|at| now - *at >= MINUTE) {
                        window.pop_front();
                    }
                    let (status, wait) = if window.len() < quota {
                        window.push_back(now);
                        (200, None)
                    } else {
                        let wait = MINUTE - (now - window[0]);
                        (429, Some(Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))))
                    };
                    let body = if status == 200 { assigned() } else { refusal(429001) };
                    let reply = Reply { status, retry_after: wait, body: body.to_string().into_bytes() };
                    driver.on_reply(&reply, now).unwrap();
                }
                step => panic!("{step:?}"),
            }
        }
    }
    done
}

#[test]
fn a_fleet_of_seven_thousand_that_starts_at_once_is_assigned_within_eight_minutes() {
    let assigned = fleet(7000, 1000);
    assert_eq!(assigned.len(), 7000);
    // The quota alone makes it at least six minutes.
    let last = *assigned.last().unwrap();
    assert!(last > 6 * LIMIT && last < 8 * LIMIT, "{last:?}");
}

/// The outcome of one request.
#[derive(Clone, Debug)]
enum Event {
    Reply(u16, Option<u64>, Value),
    Lost(ErrorKind),
}

fn event() -> impl Strategy<Value = Event> {
    let status = prop_oneof![
        4 => Just(202_u16),
        2 => prop_oneof![Just(200_u16), Just(429), Just(500), Just(503), Just(409), Just(401), Just(408)],
        1 => any::<u16>(),
    ];
    let body = prop_oneof![
        4 => Just(assigning()),
        1 => Just(assigned()),
        1 => Just(json!({ "authenticationKey": "AQID" })),
        1 => Just(json!({})),
        1 => Just(json!({ "operationId": "op-2", "status": "unassigned" })),
    ];
    let retry_after = proptest::option::of(prop_oneof![Just(0_u64), 1_u64..20, Just(u64::MAX)]);
    prop_oneof![
        5 => (status, retry_after, body).prop_map(|(status, after, body)| Event::Reply(status, after, body)),
        1 => prop_oneof![Just(ErrorKind::Io), Just(ErrorKind::Connect)].prop_map(Event::Lost),
    ]
}

proptest! {
    #[test]
    fn any_replies_end_by_the_deadline_and_each_request_waits_for_a_reply(
        events in proptest::collection::vec(event(), 1..20),
        exchange_ms in 0_u64..5_000,
        tpm: bool,
        survive: bool,
        seed: u64,
    ) {
        let credential = if tpm { CredentialKind::Tpm } else { CredentialKind::SymmetricKey };
        let start = Instant::now();
        let (policy, deadline) = (RegistrationPolicy::new(), Deadline::new(start, LIMIT));
        let mut driver = Driver::new(Purpose::Register, BODY.to_vec(), credential, policy, deadline, seed);
        let mut events = events.into_iter().cycle();
        let (mut now, mut requests) = (start, 0_u32);
        let ended = loop {
            let step = match driver.next(now) {
                Ok(step) => step,
                Err(error) => break Err(error),
            };
            let outcome = match step {
                Step::Done(state) => break Ok(state),
                Step::Wait(pause) => {
                    now += pause;
                    prop_assert!(now <= start + LIMIT, "waited beyond the deadline");
                    Ok(())
                }
                Step::Connect => {
                    driver.on_connected(survive);
                    Ok(())
                }
                Step::Challenge(_) | Step::Install(_) => Ok(()),
                Step::Send(_) => {
                    requests += 1;
                    prop_assert!(driver.next(now).is_err(), "the driver took a step before the reply");
                    driver.state = State::Sent(match driver.context.operation_id {
                        Some(_) => Phase::Polling,
                        None => Phase::Registering,
                    });
                    now += Duration::from_millis(exchange_ms);
                    match events.next() {
                        Some(Event::Reply(status, after, body)) => {
                            let retry_after = after.map(Duration::from_secs);
                            let body = body.to_string().into_bytes();
                            driver.on_reply(&Reply { status, retry_after, body }, now)
                        }
                        Some(Event::Lost(kind)) => driver.on_failure(Error::new(kind, "lost"), now),
                        None => unreachable!("the events repeat"),
                    }
                }
            };
            if let Err(error) = outcome {
                break Err(error);
            }
        };
        prop_assert!(now <= start + LIMIT + Duration::from_millis(exchange_ms));
        // One request a second, up to three answered challenges, and six polls that the service wanted early.
        prop_assert!(requests <= 61 + 3 + 6, "{requests} requests in a minute");
        if let Err(error) = ended {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
