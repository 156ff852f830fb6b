//! The AMQP transport against a peer that speaks literal frames: what is on the wire, and every way a peer can fail.
//!
//! Expected values: AMQP 1.0, and frames that the official Node.js client (azure-iot-provisioning-device 1.9.1) was seen
//! to send, apart from the api-version, the names of container and links, and the limits.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)] // Test code.

use std::future::IntoFuture as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use azure_dps_core::{Endpoint, Error, ErrorKind};
use azure_dps_device::{Amqp, Assignment, Credential, DeviceClient, RegistrationPolicy, Slot, Tpm, TpmKeys};
use azure_dps_tests::{RawPeer, TlsListener, closed_port, device};
use serde_amqp::Value;
use serde_amqp::described::Described;
use serde_amqp::descriptor::Descriptor;
use serde_amqp::primitives::{Array, Binary, OrderedMap, Symbol};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

const ID: &str = "interop-sym-01";
const KEY: &str = "LUu96OcIySTuTZ+HPaNcqIX1hHXsJEZv4e5FPvaM2Rk=";
const ADDRESS: &str = "0ne00ABCDEF/registrations/interop-sym-01";
const SASL: [u8; 8] = *b"AMQP\x03\x01\0\0";
const AMQP: [u8; 8] = *b"AMQP\0\x01\0\0";

// The descriptors of AMQP 1.0, parts 2, 3 and 5.
const OPEN: u8 = 0x10;
const BEGIN: u8 = 0x11;
const ATTACH: u8 = 0x12;
const FLOW: u8 = 0x13;
const TRANSFER: u8 = 0x14;
const DISPOSITION: u8 = 0x15;
const DETACH: u8 = 0x16;
const END: u8 = 0x17;
const CLOSE: u8 = 0x18;
const ERROR: u8 = 0x1d;
const ACCEPTED: u8 = 0x24;
const REJECTED: u8 = 0x25;
const RELEASED: u8 = 0x26;
const SOURCE: u8 = 0x28;
const TARGET: u8 = 0x29;
const MECHANISMS: u8 = 0x40;
const INIT: u8 = 0x41;
const CHALLENGE: u8 = 0x42;
const RESPONSE: u8 = 0x43;
const OUTCOME: u8 = 0x44;
const PROPERTIES: u8 = 0x73;
const APPLICATION_PROPERTIES: u8 = 0x74;
const DATA: u8 = 0x75;
const VALUE: u8 = 0x77;

#[tokio::test]
async fn a_registration_is_signed_in_attached_and_transferred_as_documented() {
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let mut talk = Talk::accept(&listener).await;

    assert_eq!(talk.header().await, SASL);
    talk.raw(&SASL).await;
    talk.offer(&["PLAIN", "EXTERNAL", "TPM", "ANONYMOUS"]).await;
    let init = talk.hear_sasl(INIT).await;
    assert_eq!(init[0], symbol("PLAIN"));
    let plain = String::from_utf8(bytes(&init[1])).unwrap();
    let [authorization, user, password] = plain.split('\0').collect::<Vec<_>>().try_into().unwrap();
    assert_eq!((authorization, user), ("", ADDRESS));
    let token = "SharedAccessSignature sr=0ne00ABCDEF%2Fregistrations%2Finterop-sym-01&sig=";
    assert!(password.starts_with(token) && password.contains("&skn=registration"), "{password}");
    assert_eq!(init[2], string("localhost"));
    talk.judge(0).await;

    assert_eq!(talk.header().await, AMQP);
    talk.raw(&AMQP).await;
    let open = talk.hear(OPEN).await;
    assert!(text(&open[0]).len() == 32, "a container id that nobody else has");
    assert_eq!(open[1], string("localhost"));
    talk.say(OPEN, open_fields()).await;
    talk.hear(BEGIN).await;
    talk.say(BEGIN, begin_fields()).await;

    let receiver = talk.hear(ATTACH).await;
    assert_eq!(
        (&receiver[1], &receiver[2]),
        (&Value::Uint(0), &Value::Bool(true)),
        "the receiving link first"
    );
    let (code, source) = described(&receiver[5]);
    assert_eq!((code, &source[0]), (SOURCE, &string(ADDRESS)));
    assert_eq!(described(&receiver[6]).0, TARGET);
    has_properties(&receiver);
    talk.say(ATTACH, attach_fields(&receiver)).await;

    let sender = talk.hear(ATTACH).await;
    assert_eq!((&sender[1], &sender[2]), (&Value::Uint(1), &Value::Bool(false)));
    let (code, target) = described(&sender[6]);
    assert_eq!((code, &target[0]), (TARGET, &string(ADDRESS)));
    assert_ne!(sender[0], receiver[0], "the links have names of their own");
    has_properties(&sender);
    talk.say(ATTACH, attach_fields(&sender)).await;
    talk.say(FLOW, flow_fields()).await;

    let request = talk.hear_request().await;
    assert_eq!(
        request.properties,
        [
            ("iotdps-operation-type", string("iotdps-register")),
            ("iotdps-forceRegistration", Value::Bool(false))
        ]
        .map(owned)
    );
    assert_eq!(
        request.body,
        (DATA, Value::Binary(Binary::from(br#"{"registrationId":"interop-sym-01"}"#.to_vec())))
    );
    talk.accept_request(&request).await;
    talk.reply(&request, &[("retry-after", string("0"))], &assigning()).await;
    let disposition = talk.hear(DISPOSITION).await;
    assert_eq!((&disposition[0], described(&disposition[4]).0), (&Value::Bool(true), ACCEPTED));

    let poll = talk.hear_request().await;
    assert_eq!(
        poll.properties,
        [
            ("iotdps-operation-type", string("iotdps-get-operationstatus")),
            ("iotdps-operation-id", string("op-1"))
        ]
        .map(owned)
    );
    assert_eq!(poll.body, (VALUE, string("")));
    assert_ne!(poll.correlation_id, request.correlation_id, "each request has its own");
    talk.accept_request(&poll).await;
    talk.reply(&poll, &[], &assigned()).await;
    talk.hear(DISPOSITION).await;

    for (code, handle) in [(DETACH, 1), (DETACH, 0)] {
        let fields = talk.hear(code).await;
        assert_eq!((&fields[0], &fields[1]), (&Value::Uint(handle), &Value::Bool(true)));
        talk.say(code, fields[..2].to_vec()).await;
    }
    for code in [END, CLOSE] {
        talk.hear(code).await;
        talk.say(code, vec![]).await;
    }
    assert_eq!(talk.frame().await, None, "and the connection ends");

    let assignment = registration.await.unwrap().unwrap();
    let summary = assignment.summary();
    assert_eq!((assignment.hub(), summary.transport, summary.requests), ("hub.example", "AMQP", 2));
}

// SASL

#[tokio::test]
async fn every_outcome_of_sasl_is_a_kind() {
    for (code, kind) in [
        (1, ErrorKind::Unauthorized),
        (2, ErrorKind::Connect),
        (3, ErrorKind::Protocol),
        (4, ErrorKind::Connect),
    ] {
        let listener = TlsListener::start().await;
        let registration = register(once(&listener));
        let mut talk = Talk::offered(&listener).await;
        talk.judge(code).await;
        let error = registration.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(&format!("SASL outcome {code}")), "{error}");
    }
}

#[tokio::test]
async fn sasl_that_is_not_understood_ends_the_registration() {
    let mechanisms = sasl_frame(MECHANISMS, vec![Value::Array(Array(vec![symbol("PLAIN")]))]);
    let mut longer = mechanisms.clone();
    longer.extend_from_slice(b"more than was announced");
    let mut truncated = mechanisms.clone();
    truncated[3] -= 4;
    let cases: [(&str, Vec<u8>); 11] = [
        ("the header of AMQP", AMQP.to_vec()),
        ("HTTP", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        ("no body", [&SASL[..], &[0, 0, 0, 8, 2, 1, 0, 0]].concat()),
        ("a body of one byte", [&SASL[..], &[0, 0, 0, 9, 2, 1, 0, 0, 0]].concat()),
        ("a length below its own", [&SASL[..], &[0, 0, 0, 4, 2, 1, 0, 0]].concat()),
        ("a length of 4 GiB", [&SASL[..], &[0xff, 0xff, 0xff, 0xff, 2, 1, 0, 0]].concat()),
        ("a frame of AMQP", [&SASL[..], &[0, 0, 0, 12, 2, 0, 0, 0, 0, 0x53, 0x40, 0x45]].concat()),
        (
            "a data offset beyond the frame",
            [&SASL[..], &[0, 0, 0, 12, 9, 1, 0, 0, 0, 0x53, 0x40, 0x45]].concat(),
        ),
        ("a frame that ends in the middle of its body", [&SASL[..], &truncated].concat()),
        (
            "other mechanisms",
            [&SASL[..], &sasl_frame(MECHANISMS, vec![Value::Array(Array(vec![symbol("ANONYMOUS")]))])]
                .concat(),
        ),
        ("an outcome before the offer", [&SASL[..], &sasl_frame(OUTCOME, vec![Value::Ubyte(0)])].concat()),
    ];
    for (case, bytes) in cases {
        let listener = TlsListener::start().await;
        let registration = register(client(&listener));
        let mut talk = Talk::accept(&listener).await;
        talk.header().await;
        talk.raw(&bytes).await;
        let error = registration.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{case}: {error:?}");
    }
    // What stands behind a frame is the next one.
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let mut talk = Talk::accept(&listener).await;
    talk.header().await;
    talk.raw(&[&SASL[..], &longer].concat()).await;
    let error = registration.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
}

#[tokio::test]
async fn an_extended_header_is_passed_over_and_an_array_may_be_a_single_symbol() {
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let mut talk = Talk::accept(&listener).await;
    talk.header().await;
    talk.raw(&SASL).await;
    let body = performative(MECHANISMS, vec![Value::Array(Array(vec![symbol("PLAIN")]))]);
    let length = u32::try_from(12 + body.len()).unwrap().to_be_bytes();
    talk.raw(&[&length[..], &[3, 1, 0, 0], b"more", &body].concat()).await;
    assert_eq!(talk.hear_sasl(INIT).await[0], symbol("PLAIN"));
    talk.judge(1).await;
    assert_eq!(registration.await.unwrap().unwrap_err().kind(), ErrorKind::Unauthorized);
}

/// Expected values: the SASL frames of the official Node.js device client 1.9.1 with a TPM.
#[tokio::test]
async fn a_tpm_answers_the_challenge_while_it_connects() {
    let listener = TlsListener::start().await;
    // Longer than the peer may take: a slow chip is no silent peer.
    let tpm = Arc::new(FakeTpm { pause: Duration::from_millis(500), ..FakeTpm::default() });
    let credential = Credential::tpm("interop-tpm-01".parse().unwrap(), Arc::clone(&tpm) as Arc<dyn Tpm>);
    let registration = register(device("0ne00ABCDEF", credential, Amqp::new(listener.endpoint())));
    let mut talk = Talk::accept(&listener).await;
    talk.header().await;
    talk.raw(&SASL).await;
    talk.offer(&["PLAIN", "EXTERNAL", "TPM", "ANONYMOUS"]).await;
    let init = talk.hear_sasl(INIT).await;
    assert_eq!(init[0], symbol("TPM"));
    assert_eq!(bytes(&init[1]), b"\x000ne00ABCDEF\0interop-tpm-01\0e\0k");
    for (challenge, response) in [(&b"\0"[..], &b"\0srk"[..]), (b"\x80first ", b"\0")] {
        talk.challenge(challenge).await;
        assert_eq!(bytes(&talk.hear_sasl(RESPONSE).await[0]), response);
    }
    talk.challenge(b"\xc1second").await;
    let response = String::from_utf8(bytes(&talk.hear_sasl(RESPONSE).await[0])).unwrap();
    let token = "\0SharedAccessSignature sr=0ne00ABCDEF%2Fregistrations%2Finterop-tpm-01&sig=";
    assert!(response.starts_with(token) && response.contains("&skn=registration"), "{response}");
    talk.judge(0).await;
    talk.attached().await;
    let request = talk.hear_request().await;
    let body = String::from_utf8(bytes(&request.body.1)).unwrap();
    assert_eq!(
        body,
        r#"{"registrationId":"interop-tpm-01","tpm":{"endorsementKey":"ZQBr","storageRootKey":"c3Jr"}}"#
    );
    talk.accept_request(&request).await;
    let assigned = json!({ "operationId": "o", "status": "assigned", "registrationState": {
        "registrationId": "interop-tpm-01", "assignedHub": "hub.example", "deviceId": "d", "status": "assigned",
        "tpm": { "authenticationKey": "aWRlbnRpdHk=" } } });
    talk.reply(&request, &[], &assigned.to_string()).await;
    talk.leave().await;
    registration.await.unwrap().unwrap();
    let expected = [(Slot::Challenge, b"first second".to_vec()), (Slot::Identity, b"identity".to_vec())];
    assert_eq!(*tpm.imported.lock().unwrap(), expected);
}

#[tokio::test]
async fn a_challenge_in_pieces_that_do_not_fit_is_refused() {
    for challenges in [&[&b""[..]][..], &[b"\x81early"], &[b"\x80a", b"\xc2b"], &[b"\x7f"]] {
        let listener = TlsListener::start().await;
        let credential = Credential::tpm("dev-1".parse().unwrap(), Arc::new(FakeTpm::default()));
        let registration = register(device("0ne00ABCDEF", credential, Amqp::new(listener.endpoint())));
        let mut talk = Talk::offered(&listener).await;
        for challenge in challenges {
            talk.challenge(challenge).await;
        }
        let error = registration.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{challenges:?}: {error}");
    }
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let mut talk = Talk::offered(&listener).await;
    talk.challenge(b"\0").await;
    assert_eq!(
        registration.await.unwrap().unwrap_err().kind(),
        ErrorKind::Protocol,
        "PLAIN has no challenge"
    );
}

// Requests and replies

#[tokio::test]
async fn a_rejected_request_carries_all_the_evidence() {
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let (mut talk, request) = Talk::requested(&listener).await;
    let body = json!({ "errorCode": 401002, "trackingId": "t-1", "message": "Unauthorized" }).to_string();
    talk.settle(&request, rejected("amqp:unauthorized-access", &body, &[])).await;
    let error = registration.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    let service = error.service().unwrap();
    assert_eq!((service.code, service.tracking_id.as_deref()), (Some(401002), Some("t-1")));
}

#[tokio::test]
async fn throttling_is_waited_out_on_the_same_connection() {
    for name in ["retry-after", "Retry-After"].map(symbol) {
        let listener = TlsListener::start().await;
        let registration = register(client(&listener));
        let (mut talk, request) = Talk::requested(&listener).await;
        let state = rejected(
            "com.microsoft:device-container-throttled",
            r#"{"errorCode":429001}"#,
            &[(name.clone(), string("1"))],
        );
        talk.settle(&request, state).await;
        let asked = Instant::now();
        let request = talk.hear_request().await;
        assert!(asked.elapsed() >= Duration::from_millis(900), "{name:?} was not heard");
        talk.accept_request(&request).await;
        talk.reply(&request, &[], &assigned()).await;
        talk.leave().await;
        assert_eq!(registration.await.unwrap().unwrap().summary().connects, 1);
    }
}

#[tokio::test]
async fn retry_after_has_two_spellings_and_many_types() {
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let (mut talk, mut request) = Talk::requested(&listener).await;
    for property in
        [("retry-after", Value::Int(0)), ("Retry-After", string("0")), ("retry-after", Value::Ulong(0))]
    {
        talk.accept_request(&request).await;
        talk.reply(&request, &[property], &assigning()).await;
        talk.hear(DISPOSITION).await;
        request = talk.hear_request().await;
    }
    talk.accept_request(&request).await;
    talk.reply(&request, &[("retry-after", Value::Uint(1))], &assigning()).await;
    talk.hear(DISPOSITION).await;
    let asked = Instant::now();
    request = talk.hear_request().await;
    assert!(asked.elapsed() >= Duration::from_millis(900));
    talk.accept_request(&request).await;
    talk.reply(&request, &[], &assigned()).await;
    talk.leave().await;
    registration.await.unwrap().unwrap();
}

#[tokio::test]
async fn only_the_reply_to_the_own_request_counts_and_it_may_overtake_the_acknowledgement() {
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let (mut talk, request) = Talk::requested(&listener).await;
    let stranger = Request { correlation_id: string("somebody-else"), ..request.clone() };
    talk.reply(&stranger, &[], r#"{"errorCode":401000}"#).await;
    talk.reply(&request, &[], &assigned()).await;
    talk.leave().await;
    assert_eq!(registration.await.unwrap().unwrap().hub(), "hub.example");
}

#[tokio::test]
async fn a_reply_without_a_correlation_id_is_taken() {
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let (mut talk, request) = Talk::requested(&listener).await;
    talk.accept_request(&request).await;
    talk.reply(&Request { correlation_id: Value::Null, ..request }, &[], &assigned()).await;
    talk.leave().await;
    assert_eq!(registration.await.unwrap().unwrap().hub(), "hub.example");
}

#[tokio::test]
async fn a_reply_that_is_no_data_and_a_request_given_back_are_told_apart() {
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let (mut talk, request) = Talk::requested(&listener).await;
    let message = [performative(PROPERTIES, correlation(&request)), section(VALUE, string("{}"))].concat();
    talk.transfer(&message).await;
    assert_eq!(registration.await.unwrap().unwrap_err().kind(), ErrorKind::Protocol);

    let listener = TlsListener::start().await;
    let registration = register(once(&listener));
    let (mut talk, request) = Talk::requested(&listener).await;
    talk.settle(&request, to_value(RELEASED, vec![])).await;
    assert_eq!(registration.await.unwrap().unwrap_err().kind(), ErrorKind::Io);
}

#[tokio::test]
async fn a_payload_larger_than_the_service_takes_is_refused_before_it_is_sent() {
    let listener = TlsListener::start().await;
    let client = client(&listener);
    let registration = tokio::spawn(async move { client.register().payload("x".repeat(100_000)).await });
    let mut talk = Talk::signed_in(&listener).await;
    talk.attached().await;
    let error = registration.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
    assert!(error.to_string().contains("65536 bytes"), "{error}");
}

#[tokio::test]
async fn a_payload_larger_than_a_frame_goes_out_in_several() {
    let listener = TlsListener::start().await;
    let client = client(&listener);
    let registration = tokio::spawn(async move { client.register().payload("x".repeat(20_000)).await });
    let mut talk = Talk::signed_in(&listener).await;
    talk.frame_size = 4096;
    talk.attached().await;
    let request = talk.hear_request().await;
    assert!(bytes(&request.body.1).len() > 20_000);
    talk.accept_request(&request).await;
    talk.reply(&request, &[], &assigned()).await;
    talk.leave().await;
    registration.await.unwrap().unwrap();
}

// Refusals by the end of a link, of the session, of the connection

/// Variants of a refusal that servers were seen to choose between, with the JSON that tells the reason.
#[tokio::test]
async fn a_refusal_while_attaching_is_a_refused_credential() {
    for way in ["close", "end", "detach", "late detach", "detach without the second attach"] {
        let listener = TlsListener::start().await;
        let registration = register(client(&listener));
        let mut talk = Talk::signed_in(&listener).await;
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
    let mut talk = Talk::signed_in(&listener).await;
    talk.begun().await;
    talk.say(CLOSE, vec![why()]).await;
    let closed = Instant::now();

    // In place of a reply.
    let (mut talk, _) = Talk::requested(&listener).await;
    assert!(closed.elapsed() >= Duration::from_millis(900), "retry-after was not heard");
    talk.say(CLOSE, vec![why()]).await;
    let closed = Instant::now();

    let (mut talk, request) = Talk::requested(&listener).await;
    assert!(closed.elapsed() >= Duration::from_millis(900), "retry-after was not heard");
    talk.accept_request(&request).await;
    talk.reply(&request, &[], &assigned()).await;
    talk.leave().await;
    assert_eq!(registration.await.unwrap().unwrap().summary().connects, 3);
}

#[tokio::test]
async fn a_connection_that_ends_between_two_requests_is_noticed_at_once_and_registers_anew() {
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let (mut talk, request) = Talk::requested(&listener).await;
    talk.accept_request(&request).await;
    talk.reply(&request, &[("retry-after", string("30"))], &assigning()).await;
    talk.hear(DISPOSITION).await;
    talk.say(CLOSE, vec![failure("amqp:connection:forced", "maintenance", &[])]).await;
    let (mut talk, request) = Talk::requested(&listener).await;
    talk.accept_request(&request).await;
    talk.reply(&request, &[], &assigned()).await;
    talk.leave().await;
    assert_eq!(registration.await.unwrap().unwrap().summary().connects, 2);
}

// Peers that go, stall, or speak something else

/// The steps of a connection, each up to what the peer is then waited for.
const STEPS: [&str; 8] =
    ["SASL header", "SASL offer", "SASL outcome", "AMQP header", "open", "begin", "attach", "transfer"];

/// Goes along until the step, which is left unanswered.
async fn until(step: &str, listener: &TlsListener) -> Talk {
    let mut talk = Talk::accept(listener).await;
    let at = STEPS.iter().position(|other| *other == step).unwrap();
    talk.header().await;
    if at > 0 {
        talk.raw(&SASL).await;
    }
    if at > 1 {
        talk.offer(&["PLAIN"]).await;
        talk.hear_sasl(INIT).await;
    }
    if at > 2 {
        talk.judge(0).await;
        talk.header().await;
    }
    if at > 3 {
        talk.raw(&AMQP).await;
        talk.hear(OPEN).await;
    }
    if at > 4 {
        talk.say(OPEN, open_fields()).await;
        talk.hear(BEGIN).await;
    }
    if at > 5 {
        talk.say(BEGIN, begin_fields()).await;
    }
    if at == 6 {
        talk.hear(ATTACH).await;
    }
    if at > 6 {
        talk.linked().await;
        talk.hear_request().await;
    }
    talk
}

#[tokio::test]
async fn a_peer_that_falls_silent_ends_when_the_step_may_take_no_longer() {
    for step in STEPS {
        let listener = TlsListener::start().await;
        let registration = register(once(&listener));
        let _talk = until(step, &listener).await;
        let silent = Instant::now();
        let error = registration.await.unwrap().unwrap_err();
        assert!(silent.elapsed() < Duration::from_secs(2), "{step}: {:?}", silent.elapsed());
        assert_eq!(error.kind(), ErrorKind::Io, "{step}: {error:?}");
        assert!(error.to_string().contains("within 300ms"), "{step}: {error}");
    }
}

#[tokio::test]
async fn a_peer_that_goes_at_any_step_is_a_lost_connection() {
    for step in STEPS {
        let listener = TlsListener::start().await;
        let registration = register(once(&listener));
        drop(until(step, &listener).await);
        let error = registration.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{step}: {error:?}");
    }
}

/// The steps that the library takes.
fn steps_of_the_library() -> impl Iterator<Item = &'static str> {
    STEPS.into_iter().skip(3)
}

/// What a client comes to that gets these bytes in place of an answer, and then nothing more.
async fn told(step: &'static str, bytes: Vec<u8>) -> Error {
    let listener = TlsListener::start().await;
    let policy = RegistrationPolicy::new().with_connect_attempts(1);
    let registration = register(client(&listener).with_policy(policy));
    let mut talk = until(step, &listener).await;
    talk.raw(&bytes).await;
    let error = registration.await.unwrap().unwrap_err();
    drop(talk);
    error
}

#[tokio::test]
async fn what_is_no_amqp_ends_the_registration_at_any_step() {
    let cases: [(&str, &[u8]); 6] = [
        ("text", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        ("a frame larger than agreed", &[0, 0xff, 0xff, 0xff, 2, 0, 0, 0]),
        ("a body that ends too early", &[0, 0, 0, 12, 2, 0, 0, 0, 0, 0x53, 0x14, 0xc0]),
        ("an unknown performative", &[0, 0, 0, 12, 2, 0, 0, 0, 0, 0x53, 0x99, 0x45]),
        ("an open out of turn", &[0, 0, 0, 16, 2, 0, 0, 0, 0, 0x53, 0x10, 0xc0, 3, 1, 0xa1, 0]),
        ("the end of a session that is none", &[0, 0, 0, 12, 2, 0, 0, 77, 0, 0x53, 0x17, 0x45]),
    ];
    let started = Instant::now();
    let mut told_all = tokio::task::JoinSet::new();
    for (case, garbage) in cases {
        for step in steps_of_the_library().filter(|step| !(case.starts_with("an open") && *step == "open")) {
            told_all.spawn(async move { (case, step, told(step, garbage.to_vec()).await) });
        }
    }
    while let Some(outcome) = told_all.join_next().await {
        let (case, step, error) = outcome.unwrap();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{case}, {step}: {error:?}");
    }
    assert!(started.elapsed() < Duration::from_secs(4), "the library waits for an answer to its close");
}

/// Each of these ends the process, or keeps it busy for minutes, when it reaches the library.
#[tokio::test]
async fn frames_that_the_library_does_not_survive_do_not_reach_it() {
    let nested = [[0, 0x53, 1].repeat(5000), vec![0x40]].concat();
    let short = (0..8u8).map(|length| {
        let rest = vec![0; usize::from(length).saturating_sub(4)];
        [vec![0, 0, 0, length], rest].concat()
    });
    let deep = [frame(0, &[section(VALUE, Value::Null), nested.clone()].concat()), frame(0, &nested)];
    let wide = performative(
        DISPOSITION,
        vec![
            Value::Bool(true),
            Value::Uint(1),
            Value::Uint(u32::MAX),
            Value::Bool(true),
            to_value(ACCEPTED, vec![]),
        ],
    );
    let frames: Vec<_> = short.chain(deep).chain([frame(0, &wide)]).collect();
    for step in steps_of_the_library().skip(1) {
        for bytes in &frames {
            let started = Instant::now();
            let error = told(step, bytes.clone()).await;
            assert_eq!(
                error.kind(),
                ErrorKind::Protocol,
                "{step}, {:?}: {error:?}",
                bytes.first_chunk::<20>()
            );
            assert!(started.elapsed() < Duration::from_secs(2), "{step}");
        }
    }
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let (mut talk, _) = Talk::requested(&listener).await;
    talk.transfer(&[&[0, 0x53, VALUE], &nested[..]].concat()).await;
    assert_eq!(registration.await.unwrap().unwrap_err().kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn a_refusal_counts_even_if_the_peer_is_gone_right_after_it() {
    for step in ["begin", "attach", "transfer"].into_iter().cycle().take(60) {
        let listener = TlsListener::start().await;
        let registration = register(once(&listener));
        let mut talk = until(step, &listener).await;
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
        let (mut talk, request) = Talk::requested(&listener).await;
        talk.accept_request(&request).await;
        if replied {
            talk.reply(&request, &[("retry-after", string("30"))], &assigning()).await;
            talk.hear(DISPOSITION).await;
        }
        talk.say(DETACH, vec![Value::Uint(1), Value::Bool(true), refusal()]).await;
        let told = Instant::now();
        let error = registration.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "replied {replied}: {error:?}");
        assert!(told.elapsed() < Duration::from_secs(2), "replied {replied}");
    }
}

/// The service does so with a certificate that it does not know.
#[tokio::test]
async fn a_service_that_wants_sasl_did_not_take_the_certificate() {
    let listener = TlsListener::start().await;
    let own = azure_dps_emulator::Pki::new(["dev-1"], 0).unwrap().devices.remove(0);
    let identity = azure_dps_core::Identity::from_pem(&own.chain_pem, &own.private_key_pem).unwrap();
    let credential = Credential::x509(identity).unwrap();
    let registration = register(device("0ne00ABCDEF", credential, Amqp::new(listener.endpoint())));
    let mut talk = Talk::accept(&listener).await;
    assert_eq!(talk.header().await, AMQP);
    talk.raw(&SASL).await;
    let error = registration.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error:?}");
    assert!(error.to_string().contains("did not accept the device's certificate"), "{error}");
}

#[tokio::test]
async fn nobody_there_and_nobody_trusted_are_told_apart() {
    let endpoint = Endpoint::new("localhost").unwrap().with_port(closed_port().await);
    let error = device("0ne00ABCDEF", credential(), Amqp::new(endpoint)).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);

    let peer = RawPeer::silent().await;
    let endpoint = Endpoint::new("localhost").unwrap().with_port(peer.port);
    let limited = Amqp::new(endpoint.with_connect_timeout(Duration::from_millis(200)));
    let error = device("0ne00ABCDEF", credential(), limited).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.to_string().contains("within 200ms"), "{error}");
}

#[tokio::test]
async fn a_lookup_is_refused_before_anything_is_sent() {
    let endpoint = Endpoint::new("localhost").unwrap().with_port(closed_port().await);
    for transport in [Amqp::new(endpoint.clone()), Amqp::new(endpoint).with_websocket()] {
        let error = device("0ne00ABCDEF", credential(), transport).lookup().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("use HTTPS"), "{error}");
    }
}

/// The library's tasks read until their stream ends, which a peer that stalls never does by itself.
#[cfg(target_os = "linux")]
#[test]
fn dropping_a_registration_leaves_no_task_and_no_socket_even_if_the_peer_stalls() {
    let there = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let here = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for step in STEPS {
        let listener = Arc::new(there.block_on(TlsListener::start()));
        let peer = Arc::clone(&listener);
        let stalling = there.spawn(async move { until(step, &peer).await });
        here.block_on(async {
            let endpoint = listener.endpoint().with_exchange_timeout(Duration::from_secs(60));
            let client = device("0ne00ABCDEF", credential(), Amqp::new(endpoint));
            let mut registration = client.register().into_future();
            // The peer keeps its side open while ours is dropped.
            let _talk = tokio::select! {
                result = &mut registration => panic!("{step}: {result:?}"),
                talk = stalling => talk.unwrap(),
            };
            assert_eq!(client_sockets(listener.port), 1, "{step}: the connection is open");
            drop(registration);
            let dropped = Instant::now();
            loop {
                let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
                let sockets = client_sockets(listener.port);
                if (tasks, sockets) == (0, 0) {
                    break;
                }
                assert!(
                    dropped.elapsed() < Duration::from_secs(5),
                    "{step}: {tasks} tasks and {sockets} sockets are left"
                );
                tokio::task::yield_now().await;
            }
        });
    }
}

// Helpers

fn credential() -> Credential {
    Credential::symmetric_key(ID.parse().unwrap(), KEY.parse().unwrap())
}

fn client(listener: &TlsListener) -> DeviceClient {
    // Longer than the pauses that the tests ask for.
    let endpoint = listener.endpoint().with_exchange_timeout(Duration::from_secs(5));
    device("0ne00ABCDEF", credential(), Amqp::new(endpoint))
}

/// A client that gives up when a connection fails, and waits briefly for answers.
fn once(listener: &TlsListener) -> DeviceClient {
    let policy = RegistrationPolicy::new().with_connect_attempts(1);
    device("0ne00ABCDEF", credential(), Amqp::new(listener.endpoint())).with_policy(policy)
}

type Registration = tokio::task::JoinHandle<Result<Assignment, Error>>;

fn register(client: DeviceClient) -> Registration {
    tokio::spawn(async move { client.register().await })
}

fn assigning() -> String {
    json!({ "operationId": "op-1", "status": "assigning" }).to_string()
}

fn assigned() -> String {
    json!({ "operationId": "op-1", "status": "assigned", "registrationState": {
        "registrationId": ID, "assignedHub": "hub.example", "deviceId": "d", "status": "assigned" } })
    .to_string()
}

#[derive(Debug, Default)]
struct FakeTpm {
    pause: Duration,
    imported: Mutex<Vec<(Slot, Vec<u8>)>>,
}

impl Tpm for FakeTpm {
    fn public_keys(&self) -> azure_dps_core::Result<TpmKeys> {
        Ok(TpmKeys { endorsement_key: b"e\0k".to_vec(), storage_root_key: b"srk".to_vec() })
    }

    fn import(&self, blob: &[u8], slot: Slot) -> azure_dps_core::Result<()> {
        std::thread::sleep(self.pause);
        self.imported.lock().unwrap().push((slot, blob.to_vec()));
        Ok(())
    }

    fn sign(&self, _: Slot, _: &[u8]) -> azure_dps_core::Result<Vec<u8>> {
        Ok(b"signature".to_vec())
    }
}

/// A request as it was heard.
#[derive(Clone, Debug)]
struct Request {
    delivery: Value,
    correlation_id: Value,
    properties: Vec<(String, Value)>,
    /// The descriptor of the body's section, and what is in it.
    body: (u8, Value),
}

/// One AMQP conversation in literal frames.
#[derive(Debug)]
struct Talk {
    stream: TlsStream<TcpStream>,
    /// What our open says.
    frame_size: u32,
    replies: u32,
}

impl Talk {
    async fn accept(listener: &TlsListener) -> Self {
        Self { stream: listener.accept_stream().await, frame_size: 65536, replies: 0 }
    }

    /// A client that was offered all mechanisms and has chosen one.
    async fn offered(listener: &TlsListener) -> Self {
        let mut talk = Self::accept(listener).await;
        talk.header().await;
        talk.raw(&SASL).await;
        talk.offer(&["TPM", "PLAIN"]).await;
        talk.hear_sasl(INIT).await;
        talk
    }

    async fn signed_in(listener: &TlsListener) -> Self {
        let mut talk = Self::offered(listener).await;
        talk.judge(0).await;
        talk
    }

    async fn requested(listener: &TlsListener) -> (Self, Request) {
        let mut talk = Self::signed_in(listener).await;
        talk.attached().await;
        let request = talk.hear_request().await;
        (talk, request)
    }

    async fn begun(&mut self) {
        assert_eq!(self.header().await, AMQP);
        self.raw(&AMQP).await;
        self.hear(OPEN).await;
        let mut open = open_fields();
        open[2] = Value::Uint(self.frame_size);
        self.say(OPEN, open).await;
        self.hear(BEGIN).await;
        self.say(BEGIN, begin_fields()).await;
    }

    /// Goes on until requests may come.
    async fn attached(&mut self) {
        self.begun().await;
        self.linked().await;
    }

    async fn linked(&mut self) {
        for _ in 0..2 {
            let link = self.hear(ATTACH).await;
            self.say(ATTACH, attach_fields(&link)).await;
        }
        self.say(FLOW, flow_fields()).await;
    }

    async fn header(&mut self) -> [u8; 8] {
        let mut header = [0; 8];
        self.stream.read_exact(&mut header).await.unwrap();
        header
    }

    async fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The next frame: its type and body. `None` at the end.
    async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let length = self.stream.read_u32().await.ok()? as usize;
        let mut rest = vec![0; length - 4];
        self.stream.read_exact(&mut rest).await.unwrap();
        assert_eq!(rest[0], 2, "no extended header");
        Some((rest[1], rest[4..].to_vec()))
    }

    async fn hear_sasl(&mut self, code: u8) -> Vec<Value> {
        let (kind, body) = self.frame().await.unwrap();
        assert_eq!(kind, 1, "a frame of SASL");
        fields_of(&body, code).0
    }

    /// The fields of the next performative, which has to be this one unless it is a flow.
    async fn hear(&mut self, code: u8) -> Vec<Value> {
        self.hear_with_payload(code).await.0
    }

    async fn hear_with_payload(&mut self, code: u8) -> (Vec<Value>, Vec<u8>) {
        loop {
            let (kind, body) = self.frame().await.unwrap();
            assert_eq!(kind, 0, "a frame of AMQP");
            // A frame without a body keeps the connection alive.
            if !body.is_empty() && (body[2] != FLOW || code == FLOW) {
                return fields_of(&body, code);
            }
        }
    }

    async fn hear_request(&mut self) -> Request {
        let (first, mut message) = self.hear_with_payload(TRANSFER).await;
        let mut more = first.get(5) == Some(&Value::Bool(true));
        while more {
            let (next, part) = self.hear_with_payload(TRANSFER).await;
            message.extend_from_slice(&part);
            more = next.get(5) == Some(&Value::Bool(true));
        }
        assert_eq!(first[0], Value::Uint(1), "on the sending link");
        assert_eq!(first.get(4).unwrap_or(&Value::Null), &Value::Bool(false), "unsettled");
        let (mut rest, mut request) = (message.as_slice(), None);
        let (mut correlation_id, mut properties) = (Value::Null, Vec::new());
        while !rest.is_empty() {
            let (section, after) = rest.split_at(described_length(rest));
            rest = after;
            let (code, value) = from_bytes(section);
            match (code, value) {
                (PROPERTIES, Value::List(fields)) => correlation_id = fields[5].clone(),
                (APPLICATION_PROPERTIES, Value::Map(map)) => {
                    properties = map.into_iter().map(|(name, value)| (text(&name), value)).collect();
                }
                (DATA | VALUE, value) => request = Some((code, value)),
                other => panic!("{other:?}"),
            }
        }
        Request { delivery: first[1].clone(), correlation_id, properties, body: request.unwrap() }
    }

    async fn say(&mut self, code: u8, fields: Vec<Value>) {
        self.frame_of(0, &performative(code, fields)).await;
    }

    async fn frame_of(&mut self, kind: u8, body: &[u8]) {
        self.raw(&frame(kind, body)).await;
    }

    async fn offer(&mut self, mechanisms: &[&str]) {
        let offers = mechanisms.iter().map(|name| symbol(name)).collect();
        self.frame_of(1, &performative(MECHANISMS, vec![Value::Array(Array(offers))])).await;
    }

    async fn challenge(&mut self, bytes: &[u8]) {
        self.frame_of(1, &performative(CHALLENGE, vec![Value::Binary(Binary::from(bytes.to_vec()))])).await;
    }

    async fn judge(&mut self, code: u8) {
        self.frame_of(1, &performative(OUTCOME, vec![Value::Ubyte(code)])).await;
    }

    async fn accept_request(&mut self, request: &Request) {
        self.settle(request, to_value(ACCEPTED, vec![])).await;
    }

    async fn settle(&mut self, request: &Request, state: Value) {
        let delivery = request.delivery.clone();
        self.say(DISPOSITION, vec![Value::Bool(true), delivery.clone(), delivery, Value::Bool(true), state])
            .await;
    }

    async fn reply(&mut self, request: &Request, properties: &[(&str, Value)], body: &str) {
        let map = properties.iter().map(|(name, value)| (string(name), value.clone())).collect();
        let message = [
            performative(PROPERTIES, correlation(request)),
            section(APPLICATION_PROPERTIES, Value::Map(map)),
            section(DATA, Value::Binary(Binary::from(body.as_bytes().to_vec()))),
        ];
        self.transfer(&message.concat()).await;
    }

    /// Says goodbye to whatever is ended, until the client is gone.
    async fn leave(mut self) {
        while let Some((_, body)) = self.frame().await {
            match body.get(2) {
                Some(&DETACH) => self.say(DETACH, fields_of(&body, DETACH).0[..2].to_vec()).await,
                Some(code @ &(END | CLOSE)) => self.say(*code, vec![]).await,
                _ => {}
            }
        }
    }

    async fn transfer(&mut self, message: &[u8]) {
        let id = self.replies;
        self.replies += 1;
        let tag = Value::Binary(Binary::from(id.to_be_bytes().to_vec()));
        let fields = vec![
            Value::Uint(0),
            Value::Uint(id),
            tag,
            Value::Uint(0),
            Value::Bool(false),
            Value::Bool(false),
        ];
        self.frame_of(0, &[performative(TRANSFER, fields), message.to_vec()].concat()).await;
    }
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(8 + body.len()).unwrap().to_be_bytes();
    [&length[..], &[2, kind, 0, 0], body].concat()
}

fn sasl_frame(code: u8, fields: Vec<Value>) -> Vec<u8> {
    frame(1, &performative(code, fields))
}

fn performative(code: u8, fields: Vec<Value>) -> Vec<u8> {
    section(code, Value::List(fields))
}

fn section(code: u8, value: Value) -> Vec<u8> {
    serde_amqp::to_vec(&Value::Described(Box::new(Described {
        descriptor: Descriptor::Code(code.into()),
        value,
    })))
    .unwrap()
}

/// A described list inside another value.
fn to_value(code: u8, fields: Vec<Value>) -> Value {
    Value::Described(Box::new(Described {
        descriptor: Descriptor::Code(code.into()),
        value: Value::List(fields),
    }))
}

fn failure(condition: &str, description: &str, info: &[(Value, Value)]) -> Value {
    let info: OrderedMap<Value, Value> = info.iter().cloned().collect();
    to_value(ERROR, vec![symbol(condition), string(description), Value::Map(info)])
}

fn rejected(condition: &str, description: &str, info: &[(Value, Value)]) -> Value {
    to_value(REJECTED, vec![failure(condition, description, info)])
}

fn correlation(request: &Request) -> Vec<Value> {
    let mut fields = vec![Value::Null; 5];
    fields.push(request.correlation_id.clone());
    fields
}

fn open_fields() -> Vec<Value> {
    vec![string("peer"), Value::Null, Value::Uint(65536), Value::Ushort(8191), Value::Uint(240_000)]
}

fn begin_fields() -> Vec<Value> {
    vec![Value::Ushort(0), Value::Uint(0), Value::Uint(5000), Value::Uint(5000), Value::Uint(31)]
}

/// The answer to an attach: the other role, the same name, handle and termini.
fn attach_fields(attach: &[Value]) -> Vec<Value> {
    let we_send = attach[2] == Value::Bool(true);
    let termini = [attach[5].clone(), attach[6].clone()];
    let [source, target] = termini;
    let first = if we_send { Value::Uint(0) } else { Value::Null };
    vec![
        attach[0].clone(),
        attach[1].clone(),
        Value::Bool(!we_send),
        Value::Null,
        Value::Null,
        source,
        target,
        Value::Null,
        Value::Null,
        first,
        Value::Ulong(65536),
    ]
}

/// Credit for the link with the handle 1.
fn flow_fields() -> Vec<Value> {
    vec![
        Value::Uint(0),
        Value::Uint(5000),
        Value::Uint(0),
        Value::Uint(5000),
        Value::Uint(1),
        Value::Uint(0),
        Value::Uint(50),
    ]
}

fn has_properties(attach: &[Value]) {
    let Value::Map(properties) = &attach[13] else { panic!("{attach:?}") };
    let mut properties: Vec<_> = properties.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    properties.sort();
    assert_eq!(properties[0], (symbol("com.microsoft:api-version"), "2021-10-01".to_owned()));
    assert_eq!(properties[1].0, symbol("com.microsoft:client-version"));
    assert!(properties[1].1.starts_with("azure-dps-device/"), "{properties:?}");
    assert_eq!(properties.len(), 2);
}

/// The fields of a performative, filled up with nulls, and the payload behind it.
fn fields_of(body: &[u8], code: u8) -> (Vec<Value>, Vec<u8>) {
    let (head, payload) = body.split_at(described_length(body));
    let (heard, Value::List(mut fields)) = from_bytes(head) else { panic!("{head:?}") };
    assert_eq!(heard, code, "0x{heard:x} in place of 0x{code:x}: {fields:?}");
    fields.resize(fields.len().max(15), Value::Null);
    (fields, payload.to_vec())
}

/// How long the described value at the beginning is: AMQP 1.0, part 1.2.
fn described_length(bytes: &[u8]) -> usize {
    assert_eq!(bytes[..2], [0, 0x53], "a described value with a small descriptor");
    match bytes[3] >> 4 {
        0x4 => 4,
        0xa | 0xc | 0xe => 5 + usize::from(bytes[4]),
        _ => 8 + u32::from_be_bytes(bytes[4..8].try_into().unwrap()) as usize,
    }
}

fn from_bytes(bytes: &[u8]) -> (u8, Value) {
    let Value::Described(described) = serde_amqp::from_slice(bytes).unwrap() else { panic!("{bytes:?}") };
    let Descriptor::Code(code) = described.descriptor else { panic!("{described:?}") };
    (u8::try_from(code).unwrap(), described.value)
}

fn described(value: &Value) -> (u8, Vec<Value>) {
    let Value::Described(described) = value else { panic!("{value:?}") };
    let (Descriptor::Code(code), Value::List(fields)) = (&described.descriptor, &described.value) else {
        panic!("{described:?}")
    };
    (u8::try_from(*code).unwrap(), fields.clone())
}

fn owned((name, value): (&str, Value)) -> (String, Value) {
    (name.to_owned(), value)
}

fn string(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn symbol(text: &str) -> Value {
    Value::Symbol(Symbol::from(text))
}

fn text(value: &Value) -> String {
    let Value::String(text) = value else { panic!("{value:?}") };
    text.clone()
}

fn bytes(value: &Value) -> Vec<u8> {
    let Value::Binary(bytes) = value else { panic!("{value:?}") };
    bytes.to_vec()
}

/// The sockets of this process that are connected to a port on the loopback interface.
#[cfg(target_os = "linux")]
fn client_sockets(port: u16) -> usize {
    let port = format!(":{port:04X}");
    ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .into_iter()
        .flat_map(|table| {
            std::fs::read_to_string(table).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>()
        })
        .filter(|line| {
            let columns: Vec<_> = line.split_whitespace().collect();
            // Column 9 is the inode: 0 when no process holds the socket any more.
            columns[2].ends_with(&port) && columns[9] != "0"
        })
        .count()
}
