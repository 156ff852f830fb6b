//! How the SDK signs in over AMQP: mechanisms, challenges, outcomes, and malformed SASL.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, mpsc};

use azure_dps_core::ErrorKind;
use azure_dps_device::{Amqp, Credential, Slot, Tpm, TpmKeys};
use azure_dps_tests::amqp_bytes::*;
use azure_dps_tests::amqp_service::*;
use azure_dps_tests::registration::register;
use azure_dps_tests::tasks::settles;
use azure_dps_tests::{PATIENCE, TlsListener, device, pass};
use serde_json::json;

use super::amqp::{client, once};

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
        let mut talk = AmqpService::offered(&listener).await;
        talk.judge(code).await;
        let error = registration.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(&format!("SASL outcome {code}")), "{error}");
    }
}

#[tokio::test]
async fn malformed_sasl_ends_the_registration() {
    let mechanisms = sasl_frame(MECHANISMS, vec![symbols(&["PLAIN"])]);
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
        ("other mechanisms", [&SASL[..], &sasl_frame(MECHANISMS, vec![symbols(&["ANONYMOUS"])])].concat()),
        ("an outcome before the offer", [&SASL[..], &sasl_frame(OUTCOME, vec![Value::Ubyte(0)])].concat()),
    ];
    for (case, bytes) in cases {
        let listener = TlsListener::start().await;
        let registration = register(client(&listener));
        let mut talk = AmqpService::accept(&listener).await;
        talk.header().await;
        talk.raw(&bytes).await;
        let error = registration.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{case}: {error:?}");
    }
    // The bytes behind a frame are the next one.
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let mut talk = AmqpService::accept(&listener).await;
    talk.header().await;
    talk.raw(&[&SASL[..], &longer].concat()).await;
    let error = registration.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
}

#[tokio::test]
async fn an_extended_header_is_passed_over_and_an_array_may_be_a_single_symbol() {
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let mut talk = AmqpService::accept(&listener).await;
    talk.header().await;
    talk.raw(&SASL).await;
    let body = performative(MECHANISMS, vec![symbols(&["PLAIN"])]);
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
    let (work, waiting_for_work) = mpsc::channel();
    let tpm = Arc::new(FakeTpm { slow: Some(Mutex::new(waiting_for_work)), ..FakeTpm::default() });
    // Longer than the peer may take: a slow chip is not a silent peer.
    let imports_slowly = async || {
        settles(|| tpm.imports.load(SeqCst)).await;
        pass(2 * PATIENCE).await;
        work.send(()).unwrap();
    };
    let credential = Credential::tpm("interop-tpm-01".parse().unwrap(), Arc::clone(&tpm) as Arc<dyn Tpm>);
    let registration = register(device("0ne00ABCDEF", credential, Amqp::new(listener.endpoint())));
    let mut talk = AmqpService::accept(&listener).await;
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
    imports_slowly().await;
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
    imports_slowly().await;
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
        let mut talk = AmqpService::offered(&listener).await;
        for challenge in challenges {
            talk.challenge(challenge).await;
        }
        let error = registration.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{challenges:?}: {error}");
    }
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let mut talk = AmqpService::offered(&listener).await;
    talk.challenge(b"\0").await;
    assert_eq!(
        registration.await.unwrap().unwrap_err().kind(),
        ErrorKind::Protocol,
        "PLAIN has no challenge"
    );
}

/// The service does so with a certificate that it does not know.
#[tokio::test]
async fn a_service_that_wants_sasl_did_not_take_the_certificate() {
    let listener = TlsListener::start().await;
    let own = azure_dps_emulator::Pki::new(["dev-1"], 0).unwrap().devices.remove(0);
    let identity = azure_dps_core::Identity::from_pem(&own.chain_pem, &own.private_key_pem).unwrap();
    let credential = Credential::x509(identity).unwrap();
    let registration = register(device("0ne00ABCDEF", credential, Amqp::new(listener.endpoint())));
    let mut talk = AmqpService::accept(&listener).await;
    assert_eq!(talk.header().await, AMQP);
    talk.raw(&SASL).await;
    let error = registration.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error:?}");
    assert!(error.to_string().contains("did not accept the device's certificate"), "{error}");
}

#[derive(Debug, Default)]
struct FakeTpm {
    /// If it is there, each import waits for one of these.
    slow: Option<Mutex<mpsc::Receiver<()>>>,
    /// Whether an import waits.
    imports: AtomicBool,
    imported: Mutex<Vec<(Slot, Vec<u8>)>>,
}

impl Tpm for FakeTpm {
    fn public_keys(&self) -> azure_dps_core::Result<TpmKeys> {
        Ok(TpmKeys { endorsement_key: b"e\0k".to_vec(), storage_root_key: b"srk".to_vec() })
    }

    fn import(&self, blob: &[u8], slot: Slot) -> azure_dps_core::Result<()> {
        if let Some(slow) = &self.slow {
            self.imports.store(true, SeqCst);
            slow.lock().unwrap().recv().unwrap();
            self.imports.store(false, SeqCst);
        }
        self.imported.lock().unwrap().push((slot, blob.to_vec()));
        Ok(())
    }

    fn sign(&self, _: Slot, _: &[u8]) -> azure_dps_core::Result<Vec<u8>> {
        Ok(b"signature".to_vec())
    }
}
