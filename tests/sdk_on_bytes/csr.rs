//! A registration with a certificate signing request: the literal bodies over each protocol.
//!
//! Expected values: DPS device REST API 2026-11-01, DeviceRegistration.

use std::sync::Arc;

use azure_dps_core::models::ApiVersion;
use azure_dps_core::{CertificateRequest, ErrorKind};
use azure_dps_device::{Amqp, Assignment, Credential, Mqtt};
use azure_dps_tests::amqp_bytes::*;
use azure_dps_tests::amqp_service::AmqpService;
use azure_dps_tests::mqtt_bytes::take_text;
use azure_dps_tests::mqtt_service::{ACCEPTED, MqttService, reply};
use azure_dps_tests::registration::{ID, assigned as assigned_text, credential};
use azure_dps_tests::{Act, Peer, TlsListener, body, device};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{CertificateParams, CustomExtension, DnType, KeyPair};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::https::{OPERATION, PaperTpm, assigned, assigned_body, assigning};

fn request() -> CertificateRequest {
    CertificateRequest::generate(&ID.parse().unwrap()).unwrap()
}

/// The body, by the specification: the request as base64 of DER, without armour and line breaks.
fn expected(request: &CertificateRequest) -> String {
    format!(r#"{{"registrationId":"interop-sym-01","csr":"{}"}}"#, BASE64.encode(request.der()))
}

fn line(request: &str) -> &str {
    request.lines().next().unwrap()
}

#[tokio::test]
async fn the_body_has_the_request_and_the_url_the_api_version_2026_11_01() {
    let (request, peer) = (request(), Peer::start([assigning(), assigned()]).await);
    peer.device(credential()).register().csr(&request).await.unwrap();

    let requests = peer.requests();
    let path = "/0ne00ABCDEF/registrations/interop-sym-01";
    assert_eq!(line(&requests[0]), format!("PUT {path}/register?api-version=2026-11-01 HTTP/1.1"));
    assert_eq!(body(&requests[0]), expected(&request));
    let poll = format!("GET {path}/operations/{OPERATION}?api-version=2026-11-01 HTTP/1.1");
    assert_eq!((line(&requests[1]), body(&requests[1])), (poll.as_str(), ""));
}

#[tokio::test]
async fn a_request_and_a_payload_are_members_side_by_side() {
    let (request, peer) = (request(), Peer::start([assigned()]).await);
    peer.device(credential()).register().csr(&request).payload(json!({"model": 7})).await.unwrap();
    let csr = request.to_base64();
    let expected = format!(r#"{{"registrationId":"interop-sym-01","payload":{{"model":7}},"csr":"{csr}"}}"#);
    assert_eq!(body(&peer.requests()[0]), expected);
}

#[tokio::test]
async fn an_api_version_that_was_set_is_kept() {
    for version in [ApiVersion::V2025_07_01Preview, "2026-11-02-preview".into()] {
        let peer = Peer::start([assigned()]).await;
        let client = peer.device(credential()).with_api_version(version.clone());
        client.register().csr(&request()).await.unwrap();
        let sent = format!("api-version={version} ");
        assert!(peer.requests()[0].contains(&sent), "{}", peer.requests()[0]);
    }
}

#[tokio::test]
async fn other_calls_of_the_same_client_are_without_the_request_and_its_api_version() {
    let state = json!({ "registrationId": ID, "status": "assigned" }).to_string();
    let peer = Peer::start([assigned(), assigned(), Act::json("200 OK", "", &state)]).await;
    let client = peer.device(credential());
    client.register().csr(&request()).await.unwrap();
    client.register().await.unwrap();
    client.lookup().await.unwrap();
    for other in &peer.requests()[1..] {
        assert!(line(other).ends_with("?api-version=2021-10-01 HTTP/1.1"), "{other}");
        assert_eq!(body(other), r#"{"registrationId":"interop-sym-01"}"#);
    }
    assert_eq!(client.api_version(), &ApiVersion::V2021_10_01);
}

#[tokio::test]
async fn what_the_service_would_not_issue_for_is_refused_before_anything_is_sent() {
    let peer = Peer::start([]).await;
    let client = peer.device(credential());
    let foreign = CertificateRequest::generate(&"another".parse().unwrap()).unwrap();
    let error = client.register().csr(&foreign).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("\"another\"") && error.to_string().contains(ID), "{error}");

    let old = client.with_api_version(ApiVersion::V2021_10_01);
    let error = old.register().csr(&request()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("2021-10-01") && error.to_string().contains("2026-11-01"), "{error}");
    assert_eq!(peer.connections(), 0);
}

#[tokio::test]
async fn a_tpm_sends_the_request_again_after_the_challenge() {
    let challenge = json!({ "authenticationKey": BASE64.encode(b"challenge"), "keyName": "registration" });
    let last = assigned_body(json!({ "tpm": { "authenticationKey": BASE64.encode(b"identity") } }));
    let challenge = Act::json("401 Unauthorized", "", &challenge.to_string());
    let peer = Peer::start([challenge, Act::json("200 OK", "", &last)]).await;
    let client = peer.device(Credential::tpm(ID.parse().unwrap(), Arc::new(PaperTpm::default())));
    let request = request();
    client.register().csr(&request).await.unwrap();

    let csr = request.to_base64();
    let expected = format!(
        r#"{{"registrationId":"interop-sym-01","tpm":{{"endorsementKey":"AQID","storageRootKey":"BAUG"}},"csr":"{csr}"}}"#
    );
    for request in &peer.requests()[..2] {
        assert_eq!(body(request), expected);
    }
}

#[tokio::test]
async fn a_registration_that_is_repeated_has_the_same_request() {
    let busy = Act::json("503 Service Unavailable", "Retry-After: 0\r\n", "{}");
    let (request, peer) = (request(), Peer::start([Act::Close, busy, assigned()]).await);
    peer.device(credential()).register().csr(&request).await.unwrap();
    let requests = peer.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests.iter().all(|sent| body(sent) == expected(&request)));
}

/// A registration with this request.
fn register(
    client: azure_dps_device::DeviceClient,
    request: &CertificateRequest,
) -> JoinHandle<azure_dps_core::Result<Assignment>> {
    let request = request.clone();
    tokio::spawn(async move { client.register().csr(&request).await })
}

/// As large as one can be: 8 KB of base64.
fn largest() -> CertificateRequest {
    let key = KeyPair::generate().unwrap();
    let made = |padding: usize| {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, ID);
        let content = [&[4, 0x82][..], &u16::try_from(padding).unwrap().to_be_bytes(), &vec![7; padding]];
        params.custom_extensions =
            vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 311, 1], content.concat())];
        params.serialize_request(&key).unwrap().der().to_vec()
    };
    // The length of a signature varies by a few bytes.
    let padding = 6144 - 8 - (made(1000).len() - 1000);
    let request = CertificateRequest::from_der(made(padding)).unwrap();
    assert!(request.to_base64().len() > 8 * 1024 - 32);
    request
}

#[tokio::test]
async fn mqtt_has_the_api_version_in_the_user_name_and_the_request_in_the_packet() {
    for request in [request(), largest()] {
        let listener = TlsListener::start().await;
        let client = device("0ne00ABCDEF", credential(), Mqtt::new(listener.endpoint()));
        let registration = register(client, &request);
        let mut talk = MqttService::accept(&listener).await;
        let (_, connect) = talk.hear().await.unwrap();
        let mut rest = connect.as_slice();
        take_text(&mut rest);
        rest = &rest[4..];
        take_text(&mut rest);
        let user = take_text(&mut rest);
        let expected_user =
            "0ne00ABCDEF/registrations/interop-sym-01/api-version=2026-11-01&ClientVersion=azure-dps-device";
        assert!(user.starts_with(expected_user), "{user}");
        talk.say(&ACCEPTED).await;
        let (_, subscribe) = talk.hear().await.unwrap();
        talk.say(&[0x90, 3, subscribe[0], subscribe[1], 1]).await;

        let sent = talk.request().await;
        assert_eq!(sent.topic, "$dps/registrations/PUT/iotdps-register/?$rid=2");
        assert_eq!(String::from_utf8(sent.payload).unwrap(), expected(&request));
        talk.publish(1, 1, &reply(200, "2", ""), &assigned_text()).await;
        registration.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn amqp_has_the_api_version_in_the_links_and_the_request_in_the_message() {
    for request in [request(), largest()] {
        let listener = TlsListener::start().await;
        let client = device("0ne00ABCDEF", credential(), Amqp::new(listener.endpoint()));
        let registration = register(client, &request);
        let mut talk = AmqpService::signed_in(&listener).await;
        talk.begun().await;
        for _ in 0..2 {
            let link = talk.hear(ATTACH).await;
            let Value::Map(properties) = &link[13] else { panic!("{link:?}") };
            let version = (symbol("com.microsoft:api-version"), string("2026-11-01"));
            assert!(properties.contains(&version), "{properties:?}");
            talk.say(ATTACH, azure_dps_tests::amqp_service::attach_fields(&link)).await;
        }
        talk.say(FLOW, azure_dps_tests::amqp_service::flow_fields()).await;
        let sent = talk.hear_request().await;
        assert_eq!(sent.body, (DATA, binary(expected(&request).as_bytes())));
        talk.accept_request(&sent).await;
        talk.reply(&sent, &[], &assigned_text()).await;
        talk.leave().await;
        registration.await.unwrap().unwrap();
    }
}
