//! The list about faults, delays and deadlines.

use std::error::Error as _;
use std::time::{Duration, Instant};

use azure_dps_core::{Error, ErrorKind};
use azure_dps_device::Credential;
use azure_dps_emulator::{Emulator, Fault, Operation as Faulty};
use azure_dps_tests::after_silence;
use azure_dps_tests::journal::causes;
use azure_dps_tests::plant::{Over, Plant, Protocol, key};
use azure_dps_tests::tasks::settles;

/// Shorter than an answer may take.
const LIMIT: Duration = Duration::from_secs(20);

scenarios! {
    a_deadline_ends_a_registration_that_is_never_assigned,
    a_peer_that_stops_in_the_middle_is_a_typed_error,
    throttled_requests_are_repeated,
    throttling_without_end_is_one_error,
    faults_of_the_service_are_waited_out,
    a_peer_that_hangs_up_is_called_again,
    garbage_ends_the_registration,
    a_peer_that_stalls_ends_with_the_deadline,
    every_answer_comes_later_by_the_latency,
    an_answer_that_comes_later_holds_no_other_device_up,
    a_token_that_expired_by_the_service_clock_is_refused,
}

async fn a_deadline_ends_a_registration_that_is_never_assigned(over: Over) {
    let plant = Plant::with(over, Emulator::builder().polls(u32::MAX).retry_after(3_600)).await;
    let (primary, _) = plant.enroll("dev1").await;
    let error = plant.device(key("dev1", &primary)).register().timeout(LIMIT).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.operation_id().is_some());
    assert!(error.to_string().contains("not assigned yet"), "{error}");
}

async fn a_peer_that_stops_in_the_middle_is_a_typed_error(over: Over) {
    let plant = Plant::with(over, Emulator::builder().polls(u32::MAX)).await;
    let (primary, _) = plant.enroll("dev1").await;
    let client = plant.device(key("dev1", &primary));
    let registration = tokio::spawn(async move { client.register().timeout(Duration::from_secs(60)).await });
    let heard =
        || plant.emulator.journal().iter().filter(|entry| entry.id.as_deref() == Some("dev1")).count();
    settles(|| heard() >= 4).await;
    drop(plant);
    let error = registration.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    assert!(error.operation_id().is_some());
}

async fn throttled_requests_are_repeated(over: Over) {
    for operation in [Faulty::Register, Faulty::Poll] {
        let plant = Plant::start(over).await;
        let (primary, _) = plant.enroll("dev1").await;
        plant.emulator.inject(Fault::throttle(0).on(operation).of("dev1").times(2)).unwrap();
        let assignment = plant.device(key("dev1", &primary)).register().await.unwrap();
        assert_eq!(
            (assignment.summary().unwrap().requests, assignment.summary().unwrap().connects),
            (4, 1),
            "{operation:?}"
        );
    }
}

async fn throttling_without_end_is_one_error(over: Over) {
    for operation in [Faulty::Register, Faulty::Poll] {
        let plant = Plant::start(over).await;
        let (primary, _) = plant.enroll("dev1").await;
        plant.emulator.inject(Fault::throttle(1).on(operation).times(u32::MAX)).unwrap();
        let client = plant.device(key("dev1", &primary));
        let registration = tokio::spawn(async move { client.register().timeout(LIMIT).await });
        // A second refusal: the client has heard the first.
        settles(|| plant.emulator.journal().iter().any(|entry| entry.status == 429 && entry.repeats > 0))
            .await;
        let error = after_silence(LIMIT, registration).await.unwrap_err();
        // The deadline may pass in a pause, or while the request is repeated.
        let refusal = match error.kind() {
            ErrorKind::Timeout => error.source().and_then(|cause| cause.downcast_ref::<Error>()).unwrap(),
            _ => &error,
        };
        assert!(refusal.is_throttled() && refusal.is_retryable(), "{operation:?}: {error:?}");
    }
}

async fn faults_of_the_service_are_waited_out(over: Over) {
    for operation in [Faulty::Register, Faulty::Poll] {
        let plant = Plant::start(over).await;
        let (primary, _) = plant.enroll("dev1").await;
        plant.emulator.inject(Fault::status(503).on(operation)).unwrap();
        plant.device(key("dev1", &primary)).register().await.unwrap();
    }
}

async fn a_peer_that_hangs_up_is_called_again(over: Over) {
    for operation in [Faulty::Connect, Faulty::Register, Faulty::Poll] {
        if operation == Faulty::Connect && over.protocol == Protocol::Https {
            continue; // HTTPS has no step before the registration.
        }
        let plant = Plant::start(over).await;
        let (primary, _) = plant.enroll("dev1").await;
        plant.emulator.inject(Fault::hang_up().on(operation).of("dev1")).unwrap();
        let assignment = plant.device(key("dev1", &primary)).register().await.unwrap();
        assert_eq!(assignment.summary().unwrap().connects, 2, "{operation:?}");
    }
}

async fn garbage_ends_the_registration(over: Over) {
    for operation in [Faulty::Register, Faulty::Poll] {
        let plant = Plant::start(over).await;
        let (primary, _) = plant.enroll("dev1").await;
        plant.emulator.inject(Fault::garbage().on(operation).of("dev1")).unwrap();
        let error = plant.device(key("dev1", &primary)).register().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{operation:?}");
    }
}

async fn a_peer_that_stalls_ends_with_the_deadline(over: Over) {
    for operation in [Faulty::Register, Faulty::Poll] {
        let plant = Plant::start(over).await;
        let (primary, _) = plant.enroll("dev1").await;
        plant.emulator.inject(Fault::stall().on(operation).of("dev1")).unwrap();
        let client = plant.device(key("dev1", &primary));
        let registration = tokio::spawn(async move { client.register().timeout(LIMIT).await });
        settles(|| causes(&plant.emulator).contains("never sent")).await;
        let error = after_silence(LIMIT, registration).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{operation:?}");
        assert_eq!(error.operation_id().is_some(), operation == Faulty::Poll);
    }
}

async fn every_answer_comes_later_by_the_latency(over: Over) {
    let latency = Duration::from_millis(60);
    let plant = Plant::with(over, Emulator::builder().latency(latency)).await;
    let begun = Instant::now();
    let (primary, _) = plant.enroll("dev1").await;
    assert!(begun.elapsed() >= latency, "the service API");

    let begun = Instant::now();
    plant.device(key("dev1", &primary)).register().await.unwrap();

    // Over MQTT and AMQP there is the answer to the login too.
    let answers = if over.protocol == Protocol::Https { 2 } else { 3 };
    assert!(begun.elapsed() >= latency * answers, "{:?}", begun.elapsed());
}

async fn an_answer_that_comes_later_holds_no_other_device_up(over: Over) {
    let plant = Plant::start(over).await;
    let group = plant.group("plant").await;
    let client = |id: &str| plant.device(Credential::from_group(&group, id.parse().unwrap()));
    plant.emulator.inject(Fault::delay(Duration::from_millis(300)).on(Faulty::Register).of("late")).unwrap();
    plant.emulator.inject(Fault::delay(Duration::from_secs(3_600)).on(Faulty::Register).of("never")).unwrap();
    let (never, late) = (client("never"), client("late"));

    let waiting = tokio::spawn(async move { never.register().await });
    let begun = Instant::now();
    late.register().await.unwrap();
    let took = begun.elapsed();
    client("other").register().await.unwrap();

    assert!(took >= Duration::from_millis(300), "{took:?}");
    let causes: Vec<_> = plant.emulator.journal().into_iter().filter_map(|entry| entry.cause).collect();
    assert!(causes.contains(&"fault: the answer is sent 300ms later".to_owned()), "{causes:?}");
    waiting.abort();
}

async fn a_token_that_expired_by_the_service_clock_is_refused(over: Over) {
    let plant = Plant::start(over).await;
    let (primary, _) = plant.enroll("dev1").await;
    plant.emulator.advance_clock(Duration::from_secs(2 * 3600));
    let error = plant.device(key("dev1", &primary)).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(error.help().contains("the clock is right"), "{}", error.help());
    assert!(plant.cause().contains("expired"), "{}", plant.cause());
}

/// MQTT only: replies over HTTPS need no matching.
#[tokio::test]
async fn replies_without_a_request_and_second_replies_do_no_harm() {
    let plant = Plant::start(Over::MQTT).await;
    let (primary, _) = plant.enroll("dev1").await;
    plant.emulator.inject(Fault::duplicate_reply().times(2)).unwrap();
    plant.device(key("dev1", &primary)).register().await.unwrap();

    plant.emulator.inject(Fault::wrong_rid().on(Faulty::Register)).unwrap();
    let client = plant.device(key("dev1", &primary));
    let registration = tokio::spawn(async move { client.register().timeout(LIMIT).await });
    settles(|| causes(&plant.emulator).contains("wrong request id")).await;
    // The reply has arrived when another device is through.
    let (other, _) = plant.enroll("dev2").await;
    plant.device(key("dev2", &other)).register().await.unwrap();
    assert_eq!(after_silence(LIMIT, registration).await.unwrap_err().kind(), ErrorKind::Timeout);
}
