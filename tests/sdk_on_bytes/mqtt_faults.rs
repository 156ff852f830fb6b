//! The SDK's MQTT transport when its peer refuses, vanishes, stalls or sends malformed packets.

use azure_dps_core::{Endpoint, ErrorKind};
use azure_dps_device::{Mqtt, RegistrationPolicy};
use azure_dps_tests::mqtt_service::{ACCEPTED, MqttService, reply};
use azure_dps_tests::registration::{assigning, credential, register};
use azure_dps_tests::{CLOSED_PORT, PATIENCE, RawPeer, TlsListener, after_silence, device, never_speaks_tls};
use tokio::io::AsyncWriteExt as _;

use super::mqtt::client;

/// Cut after each packet of the client in turn, three times in a row: never a hang, always a kind.
#[tokio::test]
async fn a_peer_that_goes_at_any_step_is_a_lost_connection() {
    for step in 0..4 {
        let listener = TlsListener::start().await;
        let registration = register(client(&listener));
        for _ in 0..3 {
            let mut talk = MqttService::accept(&listener).await;
            if step > 0 {
                talk.hear().await.unwrap();
            }
            if step > 1 {
                talk.say(&ACCEPTED).await;
                talk.hear().await.unwrap();
            }
            if step > 2 {
                talk.say(&[0x90, 3, 0, 1, 1]).await;
                talk.hear().await.unwrap();
            }
        }
        let error = registration.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "step {step}: {error}");
    }
}

#[tokio::test]
async fn a_peer_that_falls_silent_ends_when_the_step_may_take_no_longer() {
    for step in 0..3 {
        let listener = TlsListener::start().await;
        let policy = RegistrationPolicy::new().with_connect_attempts(1);
        let registration = register(client(&listener).with_policy(policy));
        let mut talk = MqttService::accept(&listener).await;
        talk.hear().await.unwrap();
        if step > 0 {
            talk.say(&ACCEPTED).await;
            talk.hear().await.unwrap();
        }
        if step > 1 {
            talk.say(&[0x90, 3, 0, 1, 1]).await;
            talk.hear().await.unwrap();
        }
        let error = after_silence(PATIENCE, registration).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "step {step}");
        assert!(error.to_string().contains("within 30s"), "{error}");
    }
}

#[tokio::test]
async fn malformed_packets_end_the_registration() {
    let cases: [(&str, &[u8]); 5] = [
        ("no packet of MQTT", &[0x00, 0x04, 1, 2, 3, 4]),
        ("a SUBACK before the CONNACK", &[0x90, 3, 0, 1, 1]),
        ("an unknown CONNACK code", &[0x20, 2, 0, 99]),
        ("a packet larger than agreed", &[0x30, 0xff, 0xff, 0xff, 0x7f]),
        ("a packet of clients", &[0xC0, 0]),
    ];
    for (case, bytes) in cases {
        let listener = TlsListener::start().await;
        let registration = register(client(&listener));
        let mut talk = MqttService::accept(&listener).await;
        talk.hear().await.unwrap();
        talk.say(bytes).await;
        let error = registration.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{case}: {error:?}");
    }
}

#[tokio::test]
async fn a_topic_that_is_not_one_of_a_reply_ends_the_registration() {
    for topic in ["$dps/registrations/res/200", "$iothub/twin/res/200/?$rid=2"] {
        let listener = TlsListener::start().await;
        let registration = register(client(&listener));
        let (mut talk, ..) = MqttService::requested(&listener).await;
        talk.publish(1, 1, topic, "{}").await;
        assert_eq!(registration.await.unwrap().unwrap_err().kind(), ErrorKind::Protocol);
    }
}

#[tokio::test]
async fn a_refused_subscription_is_a_refused_credential() {
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let mut talk = MqttService::accept(&listener).await;
    talk.hear().await.unwrap();
    talk.say(&ACCEPTED).await;
    talk.hear().await.unwrap();
    talk.say(&[0x90, 3, 0, 1, 0x80]).await;
    assert_eq!(registration.await.unwrap().unwrap_err().kind(), ErrorKind::Unauthorized);
}

#[tokio::test]
async fn a_stalled_poll_ends_with_the_deadline_and_names_the_operation() {
    let listener = TlsListener::start().await;
    let client = client(&listener);
    // Shorter than an answer may take.
    let limit = PATIENCE / 2;
    let registration = tokio::spawn(async move { client.register().timeout(limit).await });
    let (mut talk, rid, ..) = MqttService::requested(&listener).await;
    talk.publish(1, 1, &reply(202, &rid, ""), &assigning()).await;
    talk.hear().await.unwrap();
    talk.request().await;
    let error = after_silence(limit, registration).await.unwrap_err();
    assert_eq!((error.kind(), error.operation_id()), (ErrorKind::Timeout, Some("op-1")));
}

#[tokio::test]
async fn a_closed_port_and_an_untrusted_server_are_different_kinds() {
    let endpoint = Endpoint::new("localhost").unwrap().with_port(CLOSED_PORT);
    let error = device("0ne00ABCDEF", credential(), Mqtt::new(endpoint)).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);

    let listener = TlsListener::start().await;
    let endpoint = listener.endpoint().trust_only(&TlsListener::start().await.ca_pem).unwrap();
    let client = device("0ne00ABCDEF", credential(), Mqtt::new(endpoint));
    let registration = register(client);
    let accepted = tokio::spawn(async move { listener.accept_stream().await });
    let error = registration.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    assert!(accepted.await.is_err());
}

#[tokio::test]
async fn a_peer_that_never_speaks_tls_ends_with_the_connect_limit() {
    let error = never_speaks_tls(credential(), Mqtt::new).await;
    assert_eq!(error.kind(), ErrorKind::Connect);

    let peer = RawPeer::start(|mut stream| async move {
        let _ = stream.write_all(b"220 smtp.example ESMTP\r\n").await;
        std::future::pending::<()>().await;
    })
    .await;
    let endpoint = Endpoint::new("localhost").unwrap().with_port(peer.port);
    let error = device("0ne00ABCDEF", credential(), Mqtt::new(endpoint)).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
}
