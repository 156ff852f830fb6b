//! Custom allocation: what a webhook is asked, and what becomes of its answer.

use std::time::Duration;

use azure_dps_emulator::{EmulatorBuilder, Pki};
use azure_dps_tests::emulated::{Emulated, VERSION};
use azure_dps_tests::http_client::HttpClient;
use azure_dps_tests::tls::presenting;
use azure_dps_tests::webhook::{Act, Webhook};
use azure_dps_tests::{CLOSED_PORT, RawPeer, body, pass, peer};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::allocation::{A, B, C, hubs};

const LIMIT: Duration = Duration::from_secs(60);

/// An emulator that waits long for its webhook.
fn patient() -> EmulatorBuilder {
    hubs().webhook_timeout(LIMIT)
}

#[tokio::test]
async fn a_webhook_is_asked_about_the_device_without_secrets() {
    let hook = Webhook::start(|_| Act::Answer(200, json!({"iotHubHostName": A}))).await;
    let peer = Emulated::start(patient()).await;
    peer.enroll_group("plant", custom(&hook, json!({"iotHubs": [A, B]}))).await;
    let enrolled = peer.service("GET", "/enrollmentGroups/plant", "").await.body;

    peer.register("sensor-042", json!({"payload": {"modelId": "x"}})).await;
    peer.register("sensor-042", json!({})).await;

    let [first, second] = hook.asked().try_into().unwrap();
    assert_eq!(
        (first.line.as_str(), first.content_type.as_str()),
        ("POST /pick?code=secret", "application/json; charset=utf-8")
    );
    let mut record = enrolled;
    record["customAllocationDefinition"]["webhookUrl"] = format!("http://{}/pick?****", hook.address).into();
    assert_eq!(record["attestation"], json!({"type": "symmetricKey"}));
    assert_eq!(
        first.body,
        json!({
            "enrollmentGroup": record,
            "deviceRuntimeContext": {
                "registrationId": "sensor-042", "symmetricKey": {}, "payload": {"modelId": "x"},
            },
            "linkedHubs": [A, B],
        })
    );
    assert_eq!(
        second.body["deviceRuntimeContext"],
        json!({
            "registrationId": "sensor-042", "symmetricKey": {},
            "currentIotHubHostName": A, "currentDeviceId": "sensor-042",
        })
    );
}

#[tokio::test]
async fn a_webhook_gets_the_certificate_of_the_device() {
    let hook = Webhook::start(|_| Act::Answer(200, json!({"iotHubHostName": C}))).await;
    let pki = Pki::new(["dev1"], 1).unwrap();
    let device = &pki.devices[0];
    let peer = Emulated::start(patient()).await;
    let certificates = json!({"clientCertificates": {"primary": {"certificate": device.certificate_pem}}});
    let attestation = json!({"type": "x509", "x509": certificates});
    peer.enroll("dev1", custom(&hook, json!({"attestation": attestation}))).await;

    let client =
        HttpClient::new("localhost", peer.emulator.https_port(), presenting(peer.emulator.ca_pem(), device));
    let target = "/0ne00EMU1A7/registrations/dev1/register?api-version=2021-10-01";
    assert_eq!(client.ask("PUT", target, "", "").await.status, 202);

    hook.asked_once().await;
    let asked = hook.asked().remove(0).body;
    let leaf = CertificateDer::from_pem_slice(device.certificate_pem.as_bytes()).unwrap();
    assert_eq!(
        asked["deviceRuntimeContext"],
        json!({"registrationId": "dev1", "x509": {"clientCertificate": BASE64_STANDARD.encode(leaf)}})
    );
    assert_eq!(asked["linkedHubs"], json!([A, B, C]), "all that are linked");
    let reported = &asked["individualEnrollment"]["attestation"]["x509"]["clientCertificates"]["primary"];
    assert!(reported["info"].is_object() && reported["certificate"].is_null());
}

#[tokio::test]
async fn the_answer_of_a_webhook_is_obeyed_and_its_payload_kept() {
    let hook = Webhook::start(|n| {
        let payload = json!({"call": n});
        Act::Answer(200, json!({"iotHubHostName": B.to_uppercase(), "payload": payload}))
    })
    .await;
    let peer = Emulated::start(patient()).await;
    peer.enroll("dev1", custom(&hook, json!({}))).await;

    for call in 1..=2 {
        let state = peer.register("dev1", json!({})).await;
        assert_eq!((&state["assignedHub"], &state["payload"]), (&json!(B), &json!({"call": call})));
        let kept = peer.service("GET", "/registrations/dev1", "").await.body;
        assert_eq!(kept["payload"], json!({"call": call}));
    }
}

#[tokio::test]
async fn the_twin_of_a_webhook_counts_when_a_device_is_new_or_reset_by_a_move() {
    let twin = |n: usize| json!({"tags": {"call": n}});
    let hook = Webhook::start(move |n| {
        let (hub, twin) =
            [(A, twin(1)), (A, twin(2)), (B, twin(3)), (B, twin(4)), (C, json!(null))][n - 1].clone();
        Act::Answer(200, json!({"iotHubHostName": hub, "initialTwin": twin}))
    })
    .await;
    let peer = Emulated::start(patient()).await;
    let enroll = async |migrate: bool| {
        let policy = json!({"updateHubAssignment": true, "migrateDeviceData": migrate});
        let own = json!({"tags": {"enrollment": true}});
        peer.enroll("dev1", custom(&hook, json!({"reprovisionPolicy": policy, "initialTwin": own}))).await;
    };
    for (migrate, hub, substatus, tags) in [
        (true, A, "initialAssignment", json!({"call": 1})),
        (false, A, "initialAssignment", json!({"call": 1})),
        (true, B, "deviceDataMigrated", json!({"call": 1})),
        (true, B, "initialAssignment", json!({"call": 1})),
        (false, C, "deviceDataReset", json!({"enrollment": true})),
    ] {
        enroll(migrate).await;
        let state = peer.register("dev1", json!({})).await;
        assert_eq!((&state["assignedHub"], &state["substatus"]), (&json!(hub), &json!(substatus)));
        assert_eq!(peer.emulator.hub_device(hub, "dev1").unwrap()["twin"]["tags"], tags, "{substatus}");
    }
}

#[tokio::test]
async fn a_device_that_never_moves_leaves_the_webhook_no_choice() {
    let hook = Webhook::start(|n| {
        let hub = [A, B, A][n - 1];
        Act::Answer(200, json!({"iotHubHostName": hub}))
    })
    .await;
    let peer = Emulated::start(patient()).await;
    let never = json!({"reprovisionPolicy": {"updateHubAssignment": false, "migrateDeviceData": false}});
    peer.enroll("dev1", custom(&hook, never)).await;
    assert_eq!(peer.register("dev1", json!({})).await["assignedHub"], A);

    let refused = peer.register("dev1", json!({})).await;
    let kept = peer.register("dev1", json!({})).await;

    assert_eq!((&refused["status"], &refused["errorCode"]), (&json!("failed"), &json!(400_207)));
    assert_eq!((&kept["assignedHub"], &kept["substatus"]), (&json!(A), &json!("initialAssignment")));
    let offered: Vec<Value> =
        hook.asked().into_iter().map(|asked| asked.body["linkedHubs"].clone()).collect();
    assert_eq!(offered, [json!([A, B, C]), json!([A]), json!([A])]);
}

#[tokio::test]
async fn what_a_webhook_does_wrong_fails_the_registration() {
    let hook = Webhook::start(|n| match n {
        1 => Act::Answer(400, json!({"message": "no hub for this model"})),
        2 => Act::Answer(200, json!({"iotHubHostName": "elsewhere.example"})),
        3 => Act::Answer(200, json!([])),
        4 => Act::Hang,
        _ => Act::Answer(200, json!({"iotHubHostName": A})),
    })
    .await;
    let peer = Emulated::start(patient()).await;
    peer.enroll("dev1", custom(&hook, json!({}))).await;
    let url = format!("http://{}/pick?****", hook.address);

    for (message, cause) in [
        ("Custom allocation failed with status code: 400", "the webhook answered 400: no hub for this model"),
        (
            "Custom allocation failed: the response names no linked hub.",
            "the webhook chose `elsewhere.example`, which is not one of hub-a.example, hub-b.example, hub-c.example",
        ),
        (
            "Custom allocation failed: the response cannot be used.",
            "the answer of the webhook: it is not a JSON object",
        ),
        ("Custom allocation failed: no response in time.", "no answer within 60 s"),
    ] {
        let silence = async {
            hook.asked_times(4).await;
            pass(LIMIT).await;
        };
        let registered = peer.register("dev1", json!({}));
        let state = match cause.starts_with("no answer") {
            true => tokio::join!(registered, silence).0,
            false => registered.await,
        };
        assert_eq!((&state["status"], &state["errorCode"]), (&json!("failed"), &json!(400_207)));
        assert_eq!(state["errorMessage"], message);
        assert_eq!(peer.cause(), format!("{url}: {cause}"));
    }
    assert_eq!(hook.asked().len(), 4, "nothing is asked twice");
    assert_eq!(peer.register("dev1", json!({})).await["status"], "assigned", "from the start again");
}

#[tokio::test]
async fn a_webhook_on_a_closed_port_fails_the_registration() {
    let peer = Emulated::start(patient()).await;
    for (url, cause) in [
        (format!("http://127.0.0.1:{}/?code=secret", CLOSED_PORT), "refused"),
        ("ftp://127.0.0.1/".to_owned(), "ftp://127.0.0.1/: the URL of the webhook is neither http nor https"),
        ("pick".to_owned(), "pick: the URL of the webhook is neither http nor https"),
    ] {
        let definition = json!({"webhookUrl": url, "apiVersion": "2021-10-01"});
        let members = json!({"allocationPolicy": "custom", "customAllocationDefinition": definition});
        peer.enroll("dev1", members).await;
        let state = peer.register("dev1", json!({})).await;
        assert_eq!(state["errorMessage"], "Custom allocation failed: no response.");
        assert!(peer.cause().contains(cause) && !peer.cause().contains("secret"), "{}", peer.cause());
    }
}

/// It answers as soon as it has seen the path, and is gone before it has read the body. The URL has a query
/// and no path.
#[tokio::test]
async fn a_webhook_may_answer_before_it_has_read_everything() {
    let hook = RawPeer::start(|mut stream| async move {
        let mut line = [0; 19];
        stream.read_exact(&mut line).await.unwrap();
        assert_eq!(&line, b"POST /?code=secret ");
        let answer = json!({"iotHubHostName": C, "payload": "x".repeat(1000)}).to_string();
        let head =
            format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", answer.len());
        stream.write_all(format!("{head}{answer}").as_bytes()).await.unwrap();
    })
    .await;
    let peer = Emulated::start(patient()).await;
    let url = format!("http://127.0.0.1:{}?code=secret", hook.port);
    let definition = json!({"webhookUrl": url, "apiVersion": "2021-10-01"});
    peer.enroll("dev1", json!({"allocationPolicy": "custom", "customAllocationDefinition": definition}))
        .await;
    for _ in 0..20 {
        let state = peer.register("dev1", json!({"payload": "y".repeat(20_000)})).await;
        assert_eq!(state["assignedHub"], C, "{}", peer.cause());
    }
}

#[tokio::test]
async fn a_webhook_over_https_is_trusted_by_its_authority_only() {
    let answer = peer::Act::json("200 OK", "", &json!({"iotHubHostName": C}).to_string());
    let hook = peer::Peer::start([answer]).await;
    let definition =
        json!({"webhookUrl": format!("https://localhost:{}/pick", hook.port), "apiVersion": "2021-10-01"});
    let members = json!({"allocationPolicy": "custom", "customAllocationDefinition": definition});
    let (reported, stranger) =
        (Emulated::start(patient().webhook_ca(&hook.ca_pem)).await, Emulated::start(patient()).await);
    reported.enroll("dev1", members.clone()).await;
    stranger.enroll("dev1", members).await;

    let refused = stranger.register("dev1", json!({})).await;
    assert_eq!(refused["errorMessage"], "Custom allocation failed: no response.");
    assert!(stranger.cause().contains("UnknownIssuer"), "{}", stranger.cause());
    assert_eq!(reported.register("dev1", json!({})).await["assignedHub"], C);
    let asked = hook.requests().remove(0);
    assert!(asked.starts_with("POST /pick HTTP/1.1\r\n"), "{asked}");
    let asked: Value = serde_json::from_str(body(&asked)).unwrap();
    assert_eq!(asked["deviceRuntimeContext"]["registrationId"], "dev1");
}

#[tokio::test]
async fn others_go_on_while_a_webhook_takes_its_time() {
    let (hook, go) = Webhook::held_back(json!({"iotHubHostName": A}), None).await;
    let peer = Emulated::start(patient()).await;
    peer.enroll("slow", custom(&hook, json!({}))).await;
    peer.enroll("slow-too", custom(&hook, json!({}))).await;
    peer.enroll("quick", json!({})).await;
    let slow = peer.begin("slow", VERSION, json!({})).await;
    let slow_too = peer.begin("slow-too", VERSION, json!({})).await;

    assert_eq!(peer.register("quick", json!({})).await["status"], "assigned");
    hook.asked_times(2).await;
    for _ in 0..5 {
        let polled = peer.poll("slow", VERSION, &slow).await;
        assert_eq!(
            (&polled["status"], &polled["registrationState"]["status"]),
            (&json!("assigning"), &json!("assigning"))
        );
    }
    assert_eq!(peer.service("GET", "/registrations/slow", "").await.body["status"], "assigning");

    go.notify_waiters();
    assert_eq!(peer.finish("slow", VERSION, &slow).await["assignedHub"], A);
    assert_eq!(peer.finish("slow-too", VERSION, &slow_too).await["assignedHub"], A);
}

#[tokio::test]
async fn calls_of_webhooks_that_wait_have_a_limit_beyond_which_registrations_fail() {
    let (hook, go) = Webhook::held_back(json!({"iotHubHostName": A}), None).await;
    let peer = Emulated::start(patient()).await;
    peer.enroll("dev1", custom(&hook, json!({}))).await;
    let large = json!({"payload": "x".repeat(200_000)});
    let mut begun = 0;
    loop {
        let operation = peer.begin("dev1", VERSION, large.clone()).await;
        let polled = peer.poll("dev1", VERSION, &operation).await;
        if polled["status"] != "assigning" {
            let state = &polled["registrationState"];
            assert_eq!((&state["status"], &state["errorCode"]), (&json!("failed"), &json!(400_207)));
            let message = "Custom allocation failed: too many calls wait for an answer.";
            assert_eq!(state["errorMessage"], message);
            break;
        }
        begun += 1;
        assert!(begun < 100, "there is no limit");
    }
    assert!(begun > 10, "{begun}");

    hook.asked_times(begun).await;
    go.notify_waiters();
    hook.answered(begun).await;
    let operation = loop {
        let operation = peer.begin("dev1", VERSION, large.clone()).await;
        if peer.poll("dev1", VERSION, &operation).await["status"] == "assigning" {
            break operation;
        }
    };
    hook.asked_times(begun + 1).await;
    go.notify_waiters();
    assert_eq!(peer.finish("dev1", VERSION, &operation).await["assignedHub"], A);
}

#[tokio::test]
async fn only_the_latest_registration_waits_for_an_answer() {
    let second = || Act::Answer(200, json!({"iotHubHostName": B, "payload": "second"}));
    let first = json!({"iotHubHostName": A, "payload": "first"});
    let (hook, go) = Webhook::held_back(first, Some(second)).await;
    let peer = Emulated::start(patient()).await;
    peer.enroll("dev1", custom(&hook, json!({}))).await;
    let first = peer.begin("dev1", VERSION, json!({})).await;
    hook.asked_once().await;

    let state = peer.register("dev1", json!({})).await;
    go.notify_waiters();
    hook.answered(2).await;

    assert_eq!((&state["assignedHub"], &state["payload"]), (&json!(B), &json!("second")));
    assert_eq!(peer.finish("dev1", VERSION, &first).await, state, "the record is one");
}

#[tokio::test]
async fn an_answer_to_a_call_before_a_reset_is_ignored() {
    let (hook, go) = Webhook::held_back(json!({"iotHubHostName": A}), Some(|| Act::Hang)).await;
    let peer = Emulated::start(patient()).await;
    let enrolled = custom(&hook, json!({}));
    peer.enroll("dev1", enrolled.clone()).await;
    let before = peer.begin("dev1", VERSION, json!({})).await;
    hook.asked_once().await;
    peer.emulator.reset();
    peer.enroll("dev1", enrolled).await;
    let after = peer.begin("dev1", VERSION, json!({})).await;
    assert_eq!(after, before, "ids count from 1 again");
    hook.asked_times(2).await;

    go.notify_waiters();
    hook.answered(1).await;

    for _ in 0..5 {
        assert_eq!(peer.poll("dev1", VERSION, &after).await["status"], "assigning");
    }
}

/// The members of an enrollment with custom allocation by this webhook.
fn custom(hook: &Webhook, members: Value) -> Value {
    let url = format!("http://{}/pick?code=secret", hook.address);
    let mut all = json!({
        "allocationPolicy": "custom",
        "customAllocationDefinition": {"webhookUrl": url, "apiVersion": "2021-10-01"},
    });
    all.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    all
}
