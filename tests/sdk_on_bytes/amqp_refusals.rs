//! The SDK's AMQP transport when the service ends a link, the session or the connection, with or without a reason.

use std::time::{Duration, Instant};

use azure_dps_core::ErrorKind;
use azure_dps_tests::amqp_bytes::*;
use azure_dps_tests::amqp_service::*;
use azure_dps_tests::registration::{assigned, assigning, register};
use azure_dps_tests::{PATIENCE, TlsListener};
use tokio::time::timeout;

use super::amqp::{client, once};

/// Variants of a refusal that servers were seen to choose between, with the JSON that has the reason.
#[tokio::test]
async fn a_refusal_while_attaching_is_a_refused_credential() {
    for way in ["close", "end", "detach", "late detach", "detach without the second attach"] {
        let listener = TlsListener::start().await;
        let registration = register(client(&listener));
        let mut talk = AmqpService::signed_in(&listener).await;
        talk.begun().await;
        let why = failure("amqp:unauthorized-access", r#"{"errorCode":401002,"trackingId":"t-1"}"#, &[]);
        let receiver = talk.hear(ATTACH).await;
        match way {
            "close" => talk.say(CLOSE, vec![why]).await,
            "end" => talk.say(END, vec![why]).await,
            "detach" => {
                let mut refused = attach_fields(&receiver);
                refused[5] = Value::Null;
                talk.say(ATTACH, refused).await;
                talk.say(DETACH, vec![Value::Uint(0), Value::Bool(true), why]).await;
            }
            "late detach" => {
                talk.say(ATTACH, attach_fields(&receiver)).await;
                let sender = talk.hear(ATTACH).await;
                talk.say(ATTACH, attach_fields(&sender)).await;
                talk.say(FLOW, flow_fields()).await;
                talk.hear(TRANSFER).await;
                talk.say(DETACH, vec![Value::Uint(0), Value::Bool(true), why]).await;
            }
            _ => {
                talk.say(ATTACH, attach_fields(&receiver)).await;
                talk.hear(ATTACH).await;
                talk.say(DETACH, vec![Value::Uint(0), Value::Bool(true), why]).await;
            }
        }
        let error = registration.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{way}: {error:?}");
        assert_eq!(error.service().and_then(|service| service.code), Some(401002), "{way}");
    }
}

#[tokio::test]
async fn a_connection_that_is_closed_for_throttling_is_made_again_when_the_service_says() {
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let why =
        || failure("com.microsoft:device-container-throttled", "", &[(symbol("retry-after"), string("1"))]);

    // While it connects.
    let mut talk = AmqpService::signed_in(&listener).await;
    talk.begun().await;
    let closed = Instant::now();
    talk.say(CLOSE, vec![why()]).await;

    // In place of a reply.
    let (mut talk, _) = AmqpService::requested(&listener).await;
    assert!(closed.elapsed() >= Duration::from_secs(1), "retry-after was not heard");
    let closed = Instant::now();
    talk.say(CLOSE, vec![why()]).await;

    let (mut talk, request) = AmqpService::requested(&listener).await;
    assert!(closed.elapsed() >= Duration::from_secs(1), "retry-after was not heard");
    talk.accept_request(&request).await;
    talk.reply(&request, &[], &assigned()).await;
    talk.leave().await;
    assert_eq!(registration.await.unwrap().unwrap().summary().unwrap().connects, 3);
}

#[tokio::test]
async fn a_connection_that_ends_between_two_requests_is_noticed_at_once_and_registers_anew() {
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let (mut talk, request) = AmqpService::requested(&listener).await;
    talk.accept_request(&request).await;
    talk.reply(&request, &[("retry-after", string("30"))], &assigning()).await;
    talk.hear(DISPOSITION).await;
    talk.say(CLOSE, vec![failure("amqp:connection:forced", "maintenance", &[])]).await;
    let (mut talk, request) = AmqpService::requested(&listener).await;
    talk.accept_request(&request).await;
    talk.reply(&request, &[], &assigned()).await;
    talk.leave().await;
    assert_eq!(registration.await.unwrap().unwrap().summary().unwrap().connects, 2);
}

#[tokio::test]
async fn a_refusal_counts_even_if_the_peer_is_gone_right_after_it() {
    for step in ["begin", "attach", "transfer"].into_iter().cycle().take(60) {
        let listener = TlsListener::start().await;
        let registration = register(once(&listener));
        let mut talk = AmqpService::until(step, &listener).await;
        talk.say(CLOSE, vec![failure("amqp:unauthorized-access", r#"{"errorCode":401002}"#, &[])]).await;
        drop(talk);
        let error = registration.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{step}: {error:?}");
    }
}

#[tokio::test]
async fn the_end_of_the_sending_link_is_noticed_while_a_reply_is_waited_for_and_between_requests() {
    let refusal = || failure("amqp:unauthorized-access", r#"{"errorCode":401002}"#, &[]);
    for replied in [false, true] {
        let listener = TlsListener::start().await;
        let registration = register(client(&listener));
        let (mut talk, request) = AmqpService::requested(&listener).await;
        talk.accept_request(&request).await;
        if replied {
            talk.reply(&request, &[("retry-after", string("30"))], &assigning()).await;
            talk.hear(DISPOSITION).await;
        }
        talk.say(DETACH, vec![Value::Uint(1), Value::Bool(true), refusal()]).await;
        // Sooner than the limit of an answer, and than the pause before the next request.
        let error = timeout(PATIENCE / 2, registration).await.unwrap().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "replied {replied}: {error:?}");
    }
}
