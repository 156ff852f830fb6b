//! What every call of the service client has: a deadline, a credential, and typed errors.

use azure_dps_core::models::{AttestationMechanism, BulkMode, IndividualEnrollment};
use azure_dps_core::{Endpoint, ErrorKind, SasToken};
use azure_dps_service::{Credential, ServiceClient};
use azure_dps_tests::back_end::{PRIMARY, builder_for, client, client_for, enrollment, refusal};
use azure_dps_tests::tasks::settles;
use azure_dps_tests::{Act, CLOSED_PORT, Certificate, PATIENCE, Peer, after_silence, header, pass};

#[tokio::test]
async fn a_call_ends_with_its_deadline() {
    let peer = Peer::start([Act::Stall]).await;
    let service = builder_for(peer.endpoint()).timeout(PATIENCE).build().unwrap();
    let call = tokio::spawn(async move { service.enrollments().create_or_update(&enrollment()).await });
    settles(|| peer.requests().len() == 1).await;
    let error = after_silence(PATIENCE, call).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.maybe_applied());
}

#[tokio::test]
async fn what_cannot_be_reached_trusted_or_understood_is_a_typed_error() {
    let closed = Endpoint::new("localhost").unwrap().with_port(CLOSED_PORT);
    let error = client_for(closed).enrollments().get("a").await.unwrap_err();
    assert_eq!((error.kind(), error.maybe_applied()), (ErrorKind::Connect, false));

    let peer = Peer::with(Certificate::Expired, []).await;
    assert_eq!(client(&peer).enrollments().get("a").await.unwrap_err().kind(), ErrorKind::Tls);

    for garbage in ["<html>", "", "[]", r#"{"registrationId":7,"attestation":{"type":"none"}}"#] {
        let peer = Peer::start([Act::json("200 OK", "", garbage)]).await;
        let error = client(&peer).enrollments().get("a").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{garbage:?}");
    }
    let peer = Peer::start([Act::AnswerAndClose("220 smtp.example ESMTP\r\n".into())]).await;
    assert_eq!(client(&peer).enrollments().get("a").await.unwrap_err().kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn the_time_limit_is_that_of_the_whole_call() {
    let peer = Peer::start(std::iter::repeat_n(Act::Stall, 4)).await;
    let service = builder_for(peer.endpoint()).timeout(3 * PATIENCE).build().unwrap();
    let call = tokio::spawn(async move { service.enrollments().create_or_update(&enrollment()).await });
    settles(|| peer.requests().len() == 1).await;
    pass(2 * PATIENCE).await;
    settles(|| peer.requests().len() == 2).await;
    let error = after_silence(PATIENCE, call).await.unwrap_err();
    assert!(error.maybe_applied());
    assert_eq!(peer.requests().len(), 2, "the second attempt has the rest of the time");
}

#[tokio::test]
async fn a_call_whose_time_is_over_tells_what_failed_before() {
    let slow = Act::json(
        "503 Service Unavailable",
        "",
        r#"{"errorCode":503000,"trackingId":"t-9","message":"busy"}"#,
    );
    let peer = Peer::start([slow, Act::Stall]).await;
    let service = builder_for(peer.endpoint()).timeout(PATIENCE).build().unwrap();
    let call = tokio::spawn(async move { service.enrollments().get("a").await });
    settles(|| peer.requests().len() == 2).await;
    let error = after_silence(PATIENCE, call).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("/enrollments/a"), "{error}");
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("t-9"));
}

#[tokio::test]
async fn a_private_key_in_the_place_of_a_certificate_is_never_sent() {
    let peer = Peer::start([]).await;
    let enrollments = client(&peer).enrollments();
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let wrong = [IndividualEnrollment::new("s", AttestationMechanism::x509_client(key.as_str()))];
    let errors = [
        enrollments.create_or_update(&wrong[0]).await.unwrap_err(),
        enrollments.replace(&wrong[0]).await.unwrap_err(),
        enrollments.run_bulk_operation(BulkMode::Create, &wrong).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("private key"), "{error}");
    }
    assert!(peer.requests().is_empty());
}

#[tokio::test]
async fn a_ready_token_is_sent_as_it_is_and_its_expiry_told_when_it_is_refused() {
    let text = "SharedAccessSignature sr=h&sig=c2ln&se=1767225600&skn=p";
    let peer = Peer::start([refusal("401 Unauthorized", 401000)]).await;
    let credential = Credential::token(SasToken::parse(text).unwrap());
    let service = ServiceClient::builder(peer.endpoint(), credential)
        .product("back-office/1.2")
        .unwrap()
        .product("east")
        .unwrap()
        .build()
        .unwrap();
    let error = service.enrollments().get("a").await.unwrap_err();
    assert!(error.to_string().contains("which has expired"), "{error}");
    let request = &peer.requests()[0];
    assert_eq!(header(request, "authorization"), Some(text));
    assert!(header(request, "user-agent").unwrap().ends_with(" (Rust) back-office/1.2 east"));
}

#[tokio::test]
async fn a_product_that_is_not_printable_ascii_is_refused_where_it_is_set() {
    let peer = Peer::start([]).await;
    let credential = Credential::policy("p", PRIMARY.parse().unwrap());
    let error =
        ServiceClient::builder(peer.endpoint(), credential).product("back-office\r\nx: y").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}
