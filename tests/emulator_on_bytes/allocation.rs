//! Which hub a device gets, over the wire: the policies, and custom allocation with a webhook of this test's own.

// Clippy allows these in test functions only, and the helpers below are test code too.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use azure_dps_emulator::{DefaultAllocation, Emulator, EmulatorBuilder, Hub, Pki};
use azure_dps_tests::emulated::Emulated;
use azure_dps_tests::{Act, Peer, RawPeer, body, closed_port, trusting};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use reqwest::Method;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

const A: &str = "hub-a.example";
const B: &str = "hub-b.example";
const C: &str = "hub-c.example";

// The webhook

#[tokio::test]
async fn a_webhook_is_asked_about_the_device_without_secrets() {
    let hook = Webhook::start(|_| Reply::Answer(200, json!({"iotHubHostName": A}))).await;
    let peer = Emulated::start(hubs()).await;
    peer.enroll_group("plant", custom(&hook, json!({"iotHubs": [A, B]}))).await;
    let enrolled = peer.service(Method::GET, "/enrollmentGroups/plant", None).await.1;

    peer.register("sensor-042", json!({"payload": {"modelId": "x"}})).await;
    peer.register("sensor-042", json!({})).await;

    let [first, second] = hook.asked().try_into().unwrap();
    assert_eq!((first.line.as_str(), first.content_type.as_str()), ("POST /pick?code=secret", JSON));
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
    let hook = Webhook::start(|_| Reply::Answer(200, json!({"iotHubHostName": C}))).await;
    let pki = Pki::new(["dev1"], 1).unwrap();
    let device = &pki.devices[0];
    let peer = Emulated::start(hubs()).await;
    let certificates = json!({"clientCertificates": {"primary": {"certificate": device.certificate_pem}}});
    let attestation = json!({"type": "x509", "x509": certificates});
    peer.enroll("dev1", custom(&hook, json!({"attestation": attestation}))).await;

    let certificates =
        CertificateDer::pem_slice_iter(device.chain_pem.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(device.private_key_pem.as_bytes()).unwrap();
    let mut config = trusting(peer.emulator.ca_pem());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let signing = rustls::sign::CertifiedKey::from_der(certificates, key, &provider).unwrap();
    config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(signing));
    let client = reqwest::Client::builder().tls_backend_preconfigured(config).no_proxy().build().unwrap();
    let url = format!(
        "https://localhost:{}/0ne00EMU1A7/registrations/dev1/register?api-version=2021-10-01",
        peer.emulator.https_port()
    );
    assert_eq!(client.put(url).send().await.unwrap().status(), 202);

    hook.asked_once().await;
    let asked = hook.asked().remove(0).body;
    let leaf = CertificateDer::from_pem_slice(device.certificate_pem.as_bytes()).unwrap();
    assert_eq!(
        asked["deviceRuntimeContext"],
        json!({"registrationId": "dev1", "x509": {"clientCertificate": BASE64_STANDARD.encode(leaf)}})
    );
    assert_eq!(asked["linkedHubs"], json!([A, B, C]), "all that are linked");
    let told = &asked["individualEnrollment"]["attestation"]["x509"]["clientCertificates"]["primary"];
    assert!(told["info"].is_object() && told["certificate"].is_null());
}

#[tokio::test]
async fn the_answer_of_a_webhook_is_obeyed_and_its_payload_kept() {
    let hook = Webhook::start(|n| {
        let payload = json!({"call": n});
        Reply::Answer(200, json!({"iotHubHostName": B.to_uppercase(), "payload": payload}))
    })
    .await;
    let peer = Emulated::start(hubs()).await;
    peer.enroll("dev1", custom(&hook, json!({}))).await;

    for call in 1..=2 {
        let state = peer.register("dev1", json!({})).await;
        assert_eq!((&state["assignedHub"], &state["payload"]), (&json!(B), &json!({"call": call})));
        let kept = peer.service(Method::GET, "/registrations/dev1", None).await.1;
        assert_eq!(kept["payload"], json!({"call": call}));
    }
}

#[tokio::test]
async fn the_twin_of_a_webhook_counts_when_a_device_is_new_or_reset_by_a_move() {
    let twin = |n: usize| json!({"tags": {"call": n}});
    let hook = Webhook::start(move |n| {
        let (hub, twin) =
            [(A, twin(1)), (A, twin(2)), (B, twin(3)), (B, twin(4)), (C, json!(null))][n - 1].clone();
        Reply::Answer(200, json!({"iotHubHostName": hub, "initialTwin": twin}))
    })
    .await;
    let peer = Emulated::start(hubs()).await;
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
        Reply::Answer(200, json!({"iotHubHostName": hub}))
    })
    .await;
    let peer = Emulated::start(hubs()).await;
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
        1 => Reply::Answer(400, json!({"message": "no hub for this model"})),
        2 => Reply::Answer(200, json!({"iotHubHostName": "elsewhere.example"})),
        3 => Reply::Answer(200, json!([])),
        4 => Reply::Hang,
        _ => Reply::Answer(200, json!({"iotHubHostName": A})),
    })
    .await;
    let peer = Emulated::start(hubs().webhook_timeout(Duration::from_millis(150))).await;
    peer.enroll("dev1", custom(&hook, json!({}))).await;
    let url = format!("http://{}/pick?****", hook.address);

    for (message, cause) in [
        ("Custom allocation failed with status code: 400", "the webhook answered 400: no hub for this model"),
        (
            "Custom allocation failed: the response names no linked hub.",
            "the webhook chose `elsewhere.example`, which is none of hub-a.example, hub-b.example, hub-c.example",
        ),
        (
            "Custom allocation failed: the response cannot be used.",
            "the answer of the webhook: it is not a JSON object",
        ),
        ("Custom allocation failed: no response in time.", "no answer within 0.15 s"),
    ] {
        let state = peer.register("dev1", json!({})).await;
        assert_eq!((&state["status"], &state["errorCode"]), (&json!("failed"), &json!(400_207)));
        assert_eq!(state["errorMessage"], message);
        assert_eq!(peer.cause(), format!("{url}: {cause}"));
    }
    assert_eq!(hook.asked().len(), 4, "nothing is asked twice");
    assert_eq!(peer.register("dev1", json!({})).await["status"], "assigned", "from the start again");
}

#[tokio::test]
async fn a_webhook_that_nobody_serves_fails_the_registration() {
    let peer = Emulated::start(hubs()).await;
    for (url, cause) in [
        (format!("http://127.0.0.1:{}/?code=secret", closed_port().await), "refused"),
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

/// It answers as soon as it has seen the path, and is gone before it has read the body. The URL has a query and no path.
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
    let peer = Emulated::start(hubs()).await;
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
    let answer = Act::json("200 OK", "", &json!({"iotHubHostName": C}).to_string());
    let hook = Peer::start([answer]).await;
    let definition =
        json!({"webhookUrl": format!("https://localhost:{}/pick", hook.port), "apiVersion": "2021-10-01"});
    let members = json!({"allocationPolicy": "custom", "customAllocationDefinition": definition});
    let (told, stranger) =
        (Emulated::start(hubs().webhook_ca(&hook.ca_pem)).await, Emulated::start(hubs()).await);
    told.enroll("dev1", members.clone()).await;
    stranger.enroll("dev1", members).await;

    let refused = stranger.register("dev1", json!({})).await;
    assert_eq!(refused["errorMessage"], "Custom allocation failed: no response.");
    assert!(stranger.cause().contains("UnknownIssuer"), "{}", stranger.cause());
    assert_eq!(told.register("dev1", json!({})).await["assignedHub"], C);
    let asked = hook.requests().remove(0);
    assert!(asked.starts_with("POST /pick HTTP/1.1\r\n"), "{asked}");
    let asked: Value = serde_json::from_str(body(&asked)).unwrap();
    assert_eq!(asked["deviceRuntimeContext"]["registrationId"], "dev1");
}

#[tokio::test]
async fn others_go_on_while_a_webhook_takes_its_time() {
    let go = Arc::new(Notify::new());
    let hook = Webhook::start({
        let go = Arc::clone(&go);
        move |_| Reply::After(Arc::clone(&go), json!({"iotHubHostName": A}))
    })
    .await;
    let peer = Emulated::start(hubs()).await;
    peer.enroll("slow", custom(&hook, json!({}))).await;
    peer.enroll("slow-too", custom(&hook, json!({}))).await;
    peer.enroll("quick", json!({})).await;
    let slow = peer.begin("slow", V, json!({})).await;
    let slow_too = peer.begin("slow-too", V, json!({})).await;

    assert_eq!(peer.register("quick", json!({})).await["status"], "assigned");
    hook.asked_times(2).await;
    for _ in 0..5 {
        let polled = peer.poll("slow", V, &slow).await;
        assert_eq!(
            (&polled["status"], &polled["registrationState"]["status"]),
            (&json!("assigning"), &json!("assigning"))
        );
    }
    assert_eq!(peer.service(Method::GET, "/registrations/slow", None).await.1["status"], "assigning");

    go.notify_waiters();
    assert_eq!(peer.finish("slow", V, &slow).await["assignedHub"], A);
    assert_eq!(peer.finish("slow-too", V, &slow_too).await["assignedHub"], A);
}

#[tokio::test]
async fn calls_of_webhooks_that_wait_have_a_limit_beyond_which_registrations_fail() {
    let go = Arc::new(Notify::new());
    let hook = Webhook::start({
        let go = Arc::clone(&go);
        move |_| Reply::After(Arc::clone(&go), json!({"iotHubHostName": A}))
    })
    .await;
    let peer = Emulated::start(hubs()).await;
    peer.enroll("dev1", custom(&hook, json!({}))).await;
    let large = json!({"payload": "x".repeat(200_000)});
    let mut begun = 0;
    loop {
        let operation = peer.begin("dev1", V, large.clone()).await;
        let polled = peer.poll("dev1", V, &operation).await;
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
        let operation = peer.begin("dev1", V, large.clone()).await;
        if peer.poll("dev1", V, &operation).await["status"] == "assigning" {
            break operation;
        }
    };
    hook.asked_times(begun + 1).await;
    go.notify_waiters();
    assert_eq!(peer.finish("dev1", V, &operation).await["assignedHub"], A);
}

#[tokio::test]
async fn only_the_latest_registration_waits_for_an_answer() {
    let go = Arc::new(Notify::new());
    let hook = Webhook::start({
        let go = Arc::clone(&go);
        move |n| match n {
            1 => Reply::After(Arc::clone(&go), json!({"iotHubHostName": A, "payload": "first"})),
            _ => Reply::Answer(200, json!({"iotHubHostName": B, "payload": "second"})),
        }
    })
    .await;
    let peer = Emulated::start(hubs()).await;
    peer.enroll("dev1", custom(&hook, json!({}))).await;
    let first = peer.begin("dev1", V, json!({})).await;
    hook.asked_once().await;

    let state = peer.register("dev1", json!({})).await;
    go.notify_waiters();
    hook.answered(2).await;

    assert_eq!((&state["assignedHub"], &state["payload"]), (&json!(B), &json!("second")));
    assert_eq!(peer.finish("dev1", V, &first).await, state, "the record is one");
}

#[tokio::test]
async fn an_answer_from_before_a_reset_is_for_nobody() {
    let go = Arc::new(Notify::new());
    let hook = Webhook::start({
        let go = Arc::clone(&go);
        move |n| match n {
            1 => Reply::After(Arc::clone(&go), json!({"iotHubHostName": A})),
            _ => Reply::Hang,
        }
    })
    .await;
    let peer = Emulated::start(hubs()).await;
    let enrolled = custom(&hook, json!({}));
    peer.enroll("dev1", enrolled.clone()).await;
    let before = peer.begin("dev1", V, json!({})).await;
    hook.asked_once().await;
    peer.emulator.reset();
    peer.enroll("dev1", enrolled).await;
    let after = peer.begin("dev1", V, json!({})).await;
    assert_eq!(after, before, "ids count from 1 again");
    hook.asked_times(2).await;

    go.notify_waiters();
    hook.answered(1).await;

    for _ in 0..5 {
        assert_eq!(peer.poll("dev1", V, &after).await["status"], "assigning");
    }
}

// The policies

#[tokio::test]
async fn an_enrollment_without_a_policy_follows_the_instance() {
    let peer = Emulated::start(hubs().allocation(DefaultAllocation::Static)).await;
    peer.enroll_group("plant", json!({})).await;
    assert_eq!(
        peer.service(Method::GET, "/enrollmentGroups/plant", None).await.1.get("allocationPolicy"),
        None
    );

    let failed = peer.register("sensor-1", json!({})).await;
    assert_eq!((&failed["status"], &failed["errorCode"]), (&json!("failed"), &json!(401_001)));
    assert_eq!(peer.cause(), "allocation policy static needs exactly one candidate hub, and there are 3");

    peer.emulator.set_allocation(DefaultAllocation::Hashed);
    let mut found = BTreeSet::new();
    for n in 0..30 {
        found.insert(peer.register(&format!("sensor-{n}"), json!({})).await["assignedHub"].to_string());
    }
    assert_eq!(found.len(), 3);
}

#[tokio::test]
async fn a_device_goes_where_the_latency_is_lowest() {
    let builder = Emulator::builder()
        .hub(Hub::new(A).with_region("westeurope"))
        .hub(Hub::new(B).with_region("eastus"))
        .allocation(DefaultAllocation::GeoLatency)
        .latencies("berlin-*", [("westeurope", 12), ("eastus", 95)])
        .latencies("boston-*", [("westeurope", 90), ("eastus", 8)]);
    let peer = Emulated::start(builder).await;
    peer.enroll_group("plant", json!({})).await;

    assert_eq!(peer.register("berlin-1", json!({})).await["assignedHub"], A);
    assert_eq!(peer.register("boston-1", json!({})).await["assignedHub"], B);
    peer.emulator.set_latencies("berlin-1", [("eastus", 1)]);
    let moved = peer.register("berlin-1", json!({})).await;
    assert_eq!((&moved["assignedHub"], &moved["substatus"]), (&json!(B), &json!("deviceDataMigrated")));
    assert_eq!(peer.register("berlin-2", json!({})).await["assignedHub"], A);
}

#[tokio::test]
async fn a_policy_may_begin_with_a_capital_and_hubs_need_one() {
    let peer = Emulated::start(hubs()).await;
    let put = async |members: Value| peer.put("/enrollments", "registrationId", "dev1", members).await;

    let (status, refused) = put(json!({"iotHubs": [A]})).await;
    assert_eq!((status, &refused["errorCode"]), (400, &json!(400_004)));
    let (status, stored) = put(json!({"iotHubs": [A], "allocationPolicy": "Hashed"})).await;
    assert_eq!((status, &stored["allocationPolicy"]), (200, &json!("hashed")));
    let (_, stored) = put(json!({"allocationPolicy": "GeoLatency"})).await;
    assert_eq!(stored["allocationPolicy"], "geoLatency");
    let (status, _) = put(json!({"allocationPolicy": "HASHED"})).await;
    assert_eq!(status, 400);
}

const V: &str = "2021-10-01";
const JSON: &str = "application/json; charset=utf-8";

/// An emulator with three hubs.
fn hubs() -> EmulatorBuilder {
    Emulator::builder().hub(A).hub(B).hub(C)
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

/// What the webhook does with a request.
enum Reply {
    Answer(u16, Value),
    /// As soon as everybody is notified.
    After(Arc<Notify>, Value),
    Hang,
}

#[derive(Clone, Debug)]
struct Asked {
    line: String,
    content_type: String,
    body: Value,
}

/// A server that is asked for hubs. Dropping it ends it.
struct Webhook {
    address: String,
    log: Arc<Log>,
    _task: JoinSet<()>,
}

#[derive(Default)]
struct Log {
    asked: Mutex<Vec<Asked>>,
    answered: Mutex<usize>,
    changed: Notify,
}

impl Webhook {
    /// `script` gets the number of the request, from 1.
    async fn start(script: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (log, script) = (Arc::new(Log::default()), Arc::new(script));
        let mut task = JoinSet::new();
        let served = Arc::clone(&log);
        task.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (log, script) = (Arc::clone(&served), Arc::clone(&script));
                let answer = service_fn(move |request: Request<Incoming>| {
                    let (log, script) = (Arc::clone(&log), Arc::clone(&script));
                    async move { Ok::<_, Infallible>(log.answer(request, script.as_ref()).await) }
                });
                open.spawn(async move {
                    let _ended = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        });
        Webhook { address, log, _task: task }
    }

    fn asked(&self) -> Vec<Asked> {
        self.log.asked.lock().unwrap().clone()
    }

    async fn asked_once(&self) {
        self.asked_times(1).await;
    }

    async fn asked_times(&self, times: usize) {
        self.log.wait(|log| log.asked.lock().unwrap().len() >= times).await;
    }

    async fn answered(&self, times: usize) {
        self.log.wait(|log| *log.answered.lock().unwrap() >= times).await;
    }
}

impl Log {
    async fn answer(
        &self,
        request: Request<Incoming>,
        script: &impl Fn(usize) -> Reply,
    ) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let asked = Asked {
            line: format!("{} {}", head.method, head.uri),
            content_type: head.headers["content-type"].to_str().unwrap().to_owned(),
            body: serde_json::from_slice(&body).unwrap(),
        };
        let reply = {
            let mut log = self.asked.lock().unwrap();
            log.push(asked);
            script(log.len())
        };
        let (status, body) = match reply {
            Reply::Answer(status, body) => (status, body),
            Reply::After(go, body) => {
                let notified = go.notified();
                self.changed.notify_waiters();
                notified.await;
                (200, body)
            }
            Reply::Hang => {
                self.changed.notify_waiters();
                future::pending().await
            }
        };
        *self.answered.lock().unwrap() += 1;
        self.changed.notify_waiters();
        Response::builder().status(status).body(Full::from(body.to_string())).unwrap()
    }

    async fn wait(&self, done: impl Fn(&Log) -> bool) {
        let waited = async {
            loop {
                let changed = self.changed.notified();
                if done(self) {
                    return;
                }
                changed.await;
            }
        };
        timeout(Duration::from_secs(20), waited).await.unwrap();
    }
}
