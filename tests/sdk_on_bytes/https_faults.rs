//! The HTTPS transport against servers that fail, are slow, or are not trusted.

use std::time::Duration;

use azure_dps_core::{Endpoint, ErrorKind};
use azure_dps_device::Https;
use azure_dps_tests::registration::{credential, register};
use azure_dps_tests::tasks::settles;
use azure_dps_tests::{
    Act, CLOSED_PORT, Certificate, PATIENCE, Peer, RawPeer, after_silence, device, never_speaks_tls, pass,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::https::{OPERATION, assigned, assigning};

#[tokio::test]
async fn throttling_and_faults_are_waited_out() {
    let throttled =
        |status| Act::json(status, "Retry-After: 0\r\n", r#"{"errorCode":429001,"message":"slow"}"#);
    let peer = Peer::start([
        throttled("429 Too Many Requests"),
        throttled("500 Internal Server Error"),
        assigning(),
        throttled("429 Too Many Requests"),
        assigned(),
    ])
    .await;
    let assignment = peer.device(credential()).register().await.unwrap();
    assert_eq!(assignment.summary().unwrap().requests, 5);
}

#[tokio::test]
async fn a_refused_key_is_one_error_with_all_the_evidence() {
    let refusal = r#"{"errorCode":401002,"trackingId":"4a7b0cd6","message":"Unauthorized","info":null,
        "timestampUtc":"2020-04-10T05:24:22.4718526Z"}"#;
    let peer = Peer::start([Act::json("401 Unauthorized", "", refusal)]).await;
    let error = peer.device(credential()).register().await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    let service = error.service().unwrap();
    assert_eq!((service.status, service.code), (401, Some(401002)));
    assert_eq!(
        error.to_string(),
        "the service refused the device's credential: status 401, code 401002, \"Unauthorized\", tracking id 4a7b0cd6"
    );
    assert!(error.help().contains("derived for exactly this registration id"));
    assert_eq!(peer.requests().len(), 1);
}

#[tokio::test]
async fn a_connection_cut_in_place_of_an_answer_is_made_again_and_the_operation_goes_on() {
    let peer = Peer::start([assigning(), Act::Close, assigned()]).await;
    let assignment = peer.device(credential()).register().await.unwrap();
    assert_eq!(assignment.summary().unwrap().connects, 2);
    assert!(peer.requests()[2].starts_with("GET "));
}

#[tokio::test]
async fn a_peer_that_always_cuts_is_given_up_after_three_connections() {
    let peer = Peer::start([Act::Close, Act::Close, Act::Close, Act::Close, Act::Close, Act::Close]).await;
    let error = peer.device(credential()).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("was lost before the answer was complete"), "{error}");
    assert!(error.help().contains("register again"));
}

#[tokio::test]
async fn half_an_answer_is_a_lost_connection() {
    let half = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"oper";
    let peer = Peer::start(std::iter::repeat_n(Act::AnswerAndClose(half.into()), 3)).await;
    let error = peer.device(credential()).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
}

#[tokio::test]
async fn no_answer_ends_when_the_exchange_may_take_no_longer() {
    let peer = Peer::start(std::iter::repeat_n(Act::Stall, 3)).await;
    let registration = register(peer.device(credential()));
    for requests in 1..=3 {
        settles(|| peer.requests().len() == requests).await;
        pass(2 * PATIENCE).await;
    }
    let error = registration.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("no complete answer from localhost"), "{error}");
    assert!(error.to_string().contains("within 60s"), "{error}");
    assert_eq!(peer.requests().len(), 3);
}

#[tokio::test]
async fn a_stalled_poll_ends_with_the_deadline_and_names_the_operation() {
    let peer = Peer::start([assigning(), Act::Stall]).await;
    let client = peer.device(credential());
    let registration = tokio::spawn(async move { client.register().timeout(PATIENCE).await });
    settles(|| peer.requests().len() == 2).await;
    let error = after_silence(PATIENCE, registration).await.unwrap_err();
    assert_eq!((error.kind(), error.operation_id()), (ErrorKind::Timeout, Some(OPERATION)));
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_a_protocol_error() {
    let peer = Peer::start([Act::AnswerAndClose("SSH-2.0-OpenSSH_9.2\r\n".into())]).await;
    let error = peer.device(credential()).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.to_string().ends_with("is not HTTP"), "{error}");
}

#[tokio::test]
async fn an_answer_of_something_else_is_a_protocol_error() {
    for (status, text) in [("200 OK", "<html>captive portal</html>"), ("200 OK", ""), ("302 Found", "{}")] {
        let peer = Peer::start([Act::json(status, "Location: https://localhost/\r\n", text)]).await;
        let error = peer.device(credential()).register().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{status} {text:?}");
        assert!(error.help().contains("is not one of the provisioning service"));
        assert_eq!(peer.requests().len(), 1, "a redirect is never followed");
    }
}

#[tokio::test]
async fn an_endless_answer_ends() {
    let chunk = format!("100000\r\n{}\r\n", "x".repeat(0x10_0000));
    let endless = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}", chunk.repeat(2));
    let peer = Peer::start([Act::Answer(endless)]).await;
    let error = peer.device(credential()).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.to_string().contains("262144 bytes"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_trusted_is_refused_and_the_reason_named() {
    for (certificate, reason) in [
        (Certificate::WrongName, "is for another host name"),
        (Certificate::Expired, "has expired"),
        (Certificate::Valid, "is signed by an unknown authority"),
    ] {
        let peer = Peer::with(certificate, []).await;
        let mut endpoint = peer.endpoint();
        if certificate == Certificate::Valid {
            endpoint = endpoint.trust_only(&Peer::start([]).await.ca_pem).unwrap();
        }
        let error = device("0ne00ABCDEF", credential(), Https::new(endpoint)).register().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tls);
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!((peer.requests().len(), peer.connections()), (0, 1), "never tried again");
    }
}

#[tokio::test]
async fn a_private_authority_is_not_among_the_roots_of_the_platform() {
    let peer = Peer::start([]).await;
    let endpoint = Endpoint::new("localhost").unwrap().with_port(peer.port);
    let error =
        device("0ne00ABCDEF", credential(), Https::new(endpoint.clone())).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls, "{error:?}");

    let peer = Peer::start([assigned()]).await;
    let endpoint = endpoint.with_port(peer.port).trust_also(&peer.ca_pem).unwrap();
    device("0ne00ABCDEF", credential(), Https::new(endpoint)).register().await.unwrap();
}

#[tokio::test]
async fn a_closed_port_is_a_connect_error() {
    let port = CLOSED_PORT;
    for host in ["localhost", "127.0.0.1", "no-such-host.invalid"] {
        let endpoint = Endpoint::new(host).unwrap().with_port(port).without_proxy();
        let error = device("0ne00ABCDEF", credential(), Https::new(endpoint)).register().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connect, "{host}: {error:?}");
        assert!(error.to_string().contains(&format!("no connection to {host}:{port}")), "{error}");
    }
}

#[tokio::test]
async fn a_peer_that_never_speaks_tls_ends_with_the_connect_limit() {
    let error = never_speaks_tls(credential(), Https::new).await;
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.to_string().contains("within 200ms"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_never_got_a_connection_is_no_lost_answer() {
    let peer = RawPeer::silent().await;
    let endpoint = Endpoint::new("localhost").unwrap().with_port(peer.port);
    let endpoint = endpoint
        .with_connect_timeout(Duration::from_millis(300))
        .with_exchange_timeout(Duration::from_millis(50));
    let error = device("0ne00ABCDEF", credential(), Https::new(endpoint)).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.to_string().contains("within 300ms"), "{error}");
}

#[tokio::test]
async fn a_peer_that_answers_without_tls_is_tried_again_and_named() {
    let peer = RawPeer::start(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let _ = stream.read(&mut [0; 1024]).await;
    })
    .await;
    let endpoint = Endpoint::new("localhost").unwrap().with_port(peer.port);
    let error = device("0ne00ABCDEF", credential(), Https::new(endpoint)).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect, "{error:?}");
    assert!(error.to_string().contains("does not speak TLS"), "{error}");
}

#[tokio::test]
async fn extreme_limits_are_no_limits_and_do_not_overflow() {
    let peer = Peer::start([assigning(), assigned()]).await;
    let endpoint = peer.endpoint().with_connect_timeout(Duration::MAX).with_exchange_timeout(Duration::MAX);
    let client = device("0ne00ABCDEF", credential(), Https::new(endpoint));
    client.register().timeout(Duration::MAX).await.unwrap();
    let error = client.register().timeout(Duration::ZERO).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}
