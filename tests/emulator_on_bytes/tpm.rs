//! The emulator's attestation by TPM judged over HTTPS: literal requests, tokens signed here, and a TPM in software that
//! shares no code with the emulator; nothing of the SDK. What AMQP adds is in `emulator_amqp.rs`.

// Clippy allows these in test functions only, and the helpers below are test code too.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use azure_dps_emulator::{Emulator, EmulatorBuilder, Entry};
use azure_dps_tests::soft_tpm::{ENDORSEMENT_KEY, SoftTpm};
use azure_dps_tests::{Act, Peer as HttpPeer, Shown, body as body_of, read_answer, trusting};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

static TPM: LazyLock<SoftTpm> = LazyLock::new(SoftTpm::new);
static OTHER_TPM: LazyLock<SoftTpm> = LazyLock::new(SoftTpm::new);

const SCOPED: &str = "0ne00EMU1A7%2Fregistrations%2Fgw-7";
const EXPIRY: u64 = 4_102_444_800;

// The way in

/// Expected values: the challenge of the service as published with the Java client, and what every client reads of it.
#[tokio::test]
async fn a_tpm_gets_in_by_its_challenge_and_a_key_for_its_hub_in_the_end() {
    let mut peer = Peer::start().await;

    let challenge = peer.present(&TPM).await;

    assert_eq!((challenge.status, challenge.body.as_object().unwrap().len()), (401, 4));
    assert_eq!(challenge.body["message"], "Authorization required, resend request using supplied key");
    assert_eq!(challenge.body["unencryptedAuthenticationKey"], Value::Null);
    assert_eq!(challenge.body["keyName"], "registration");
    let sealed = challenge.body["authenticationKey"].as_str().unwrap();
    assert!(sealed.starts_with("ADQAI"), "{sealed}");
    let key = opened(&TPM, sealed);
    assert_eq!(key.len(), 32);

    let state = peer.register(&token(&key, SCOPED)).await;

    assert_eq!((&state["status"], &state["deviceId"]), (&json!("assigned"), &json!("gw-7")));
    let sealed = state["tpm"]["authenticationKey"].as_str().unwrap();
    assert!(sealed.starts_with("ADQAI"), "{sealed}");
    let hub_key = opened(&TPM, sealed);
    assert!(hub_key.len() == 32 && hub_key != key);
    let hub_key = BASE64.encode(hub_key);
    assert_eq!(peer.emulator.hub_key("GW-7").as_ref(), Some(&hub_key));
    let device = peer.emulator.hub_device(state["assignedHub"].as_str().unwrap(), "gw-7").unwrap();
    let authentication = &device["identity"]["authentication"];
    assert_eq!(
        (&authentication["type"], &authentication["symmetricKey"]["primaryKey"]),
        (&json!("sas"), &json!(hub_key))
    );
    assert_eq!(peer.statuses(), [401, 202, 202, 200]);
    assert_eq!(peer.last().cause, None);
}

#[tokio::test]
async fn what_is_sealed_for_one_tpm_opens_in_no_other_one() {
    let mut peer = Peer::start().await;
    let sealed = peer.present(&TPM).await.sealed();
    let blob = BASE64.decode(sealed).unwrap();

    assert_eq!(OTHER_TPM.open(&blob), Err("credential seed"));
    for (at, wanted) in [
        (4, "credential"),
        (36, "credential"),
        (56, "credential seed"),
        (316, "duplicate"),
        (348, "duplicate"),
        (458, "duplicate seed"),
        (732, "duplicate"),
    ] {
        let mut flipped = blob.clone();
        flipped[at] ^= 1;
        assert_eq!(TPM.open(&flipped), Err(wanted), "byte {at}");
    }
}

/// A storage root key of another TPM proves nothing: its credential is bound to both keys.
#[tokio::test]
async fn a_challenge_is_bound_to_both_keys() {
    let mut peer = Peer::start().await;
    let body = body(&TPM.endorsement_key(), &OTHER_TPM.storage_root_key());

    let sealed = peer.ask("PUT", "register", "", &body).await.sealed();

    assert_eq!(TPM.open(&BASE64.decode(sealed).unwrap()), Err("credential"));
}

/// The identity service leaves `tpm` out of its second request, the others send it again; hex digits of escapes have
/// either case, and the identity service writes the audience in lower case.
#[tokio::test]
async fn the_second_request_may_be_without_tpm_and_every_style_of_token_is_good() {
    let mut peer = Peer::start().await;
    let key = peer.challenged(&TPM).await;
    let presented = body(&TPM.endorsement_key(), &TPM.storage_root_key());
    for (resource, body) in [
        (SCOPED, presented.as_str()),
        ("0ne00EMU1A7%2fregistrations%2fgw-7", &presented),
        ("0ne00emu1a7/registrations/gw-7", r#"{"registrationId":"gw-7"}"#),
        (SCOPED, ""),
    ] {
        let answer = peer.ask("PUT", "register", &authorization(&token(&key, resource)), body).await;
        assert_eq!(answer.status, 202, "{resource}");
    }
}

#[tokio::test]
async fn the_key_for_the_hub_stays_with_the_tpm_the_device_and_the_hub() {
    let mut peer = Peer::start().await;
    let first = peer.hub_key(&TPM).await;
    assert_eq!(peer.hub_key(&TPM).await, first);
    // Also when it was out in between.
    peer.enroll(&TPM, json!({"provisioningStatus": "disabled"})).await;
    let key = peer.challenged(&TPM).await;
    assert_eq!(peer.register(&token(&key, SCOPED)).await["status"], "disabled");
    peer.enroll(&TPM, json!({})).await;
    assert_eq!(peer.hub_key(&TPM).await, first);

    peer.enroll(&OTHER_TPM, json!({})).await;
    let replaced = peer.hub_key(&OTHER_TPM).await;
    assert_ne!(replaced, first);

    let hubs = peer.emulator.hubs();
    let current = peer.emulator.registrations()[0]["assignedHub"].as_str().unwrap().to_owned();
    let other = hubs.into_iter().find(|hub| *hub != current).unwrap();
    peer.enroll(&OTHER_TPM, json!({"iotHubHostName": other})).await;
    assert_ne!(peer.hub_key(&OTHER_TPM).await, replaced);
}

#[tokio::test]
async fn a_webhook_is_told_the_keys_of_the_tpm_and_the_key_for_the_hub_waits_for_its_answer() {
    let hub = "hub-b.example";
    let answer = Act::json("200 OK", "", &json!({"iotHubHostName": hub}).to_string());
    let hook = HttpPeer::start([answer]).await;
    let builder = seeded().hub("hub-a.example").hub(hub).webhook_ca(&hook.ca_pem);
    let mut peer = Peer::with(builder).await;
    let url = format!("https://localhost:{}/", hook.port);
    let definition = json!({"webhookUrl": url, "apiVersion": "2021-10-01"});
    peer.enroll(&TPM, json!({"allocationPolicy": "custom", "customAllocationDefinition": definition})).await;

    let hub_key = peer.hub_key(&TPM).await;

    let device = peer.emulator.hub_device(hub, "gw-7").unwrap();
    let keys = &device["identity"]["authentication"]["symmetricKey"];
    assert_eq!(keys["primaryKey"], BASE64.encode(hub_key));
    let requests = hook.requests();
    let asked: Value = serde_json::from_str(body_of(&requests[0])).unwrap();
    let presented: Value =
        serde_json::from_str(&body(&TPM.endorsement_key(), &TPM.storage_root_key())).unwrap();
    assert_eq!(asked["deviceRuntimeContext"]["tpm"], presented["tpm"]);
    assert_eq!(asked["individualEnrollment"]["attestation"], json!({"type": "tpm"}));
}

#[tokio::test]
async fn a_new_start_forgets_challenges_and_keys() {
    let mut peer = Peer::start().await;
    peer.hub_key(&TPM).await;
    let key = peer.challenged(&TPM).await;

    peer.emulator.reset();

    assert_eq!(peer.emulator.hub_key("gw-7"), None);
    let refused = peer.ask("PUT", "register", &authorization(&token(&key, SCOPED)), "").await;
    assert_eq!((refused.status, refused.code()), (401, 401_002));
}

#[tokio::test]
async fn a_disabled_enrollment_is_challenged_and_ends_disabled_without_a_key() {
    let mut peer = Peer::start().await;
    peer.enroll(&TPM, json!({"provisioningStatus": "disabled"})).await;
    let key = peer.challenged(&TPM).await;

    let state = peer.register(&token(&key, SCOPED)).await;

    assert_eq!((&state["status"], &state["tpm"]), (&json!("disabled"), &json!({})));
    assert_eq!(peer.emulator.hub_key("gw-7"), None);
}

#[tokio::test]
async fn the_management_port_tells_the_key_of_a_hub_device() {
    let mut peer = Peer::with(seeded().manage_port(0)).await;
    let hub_key = peer.hub_key(&TPM).await;
    let get = async |path: &str| {
        let port = peer.emulator.manage_port().unwrap();
        get_plain(port, path).await
    };

    let told = (200, json!({"primaryKey": BASE64.encode(hub_key)}));
    assert_eq!((get("/hub-keys/gw-7").await, get("/hub-keys/gw%2D7").await), (told.clone(), told));
    let unknown = json!({"message": "gw-8 was not assigned to a hub by a TPM"});
    assert_eq!(get("/hub-keys/gw-8").await, (404, unknown));
}

// Time

#[tokio::test]
async fn a_challenge_has_to_be_answered_within_five_minutes_and_stays_answered() {
    let mut peer = Peer::start().await;
    let key = peer.challenged(&TPM).await;
    let head = authorization(&token(&key, SCOPED));
    peer.emulator.advance_clock(Duration::from_secs(301));

    let late = peer.ask("PUT", "register", &head, "").await;

    assert_eq!((late.status, late.code()), (401, 401_002));
    assert!(peer.cause().starts_with("the challenge for gw-7 expired "), "{}", peer.cause());

    let head = authorization(&token(&peer.challenged(&TPM).await, SCOPED));
    peer.emulator.advance_clock(Duration::from_secs(299));
    let operation = peer.ask("PUT", "register", &head, "").await.operation();
    peer.emulator.advance_clock(Duration::from_secs(3_600));
    assert_eq!(peer.ask("GET", &operation, &head, "").await.status, 202);
}

#[tokio::test]
async fn a_new_challenge_takes_the_place_of_the_one_before() {
    let mut peer = Peer::start().await;
    let (first, second) = (peer.challenged(&TPM).await, peer.challenged(&TPM).await);
    assert_ne!(first, second);

    let refused = peer.ask("PUT", "register", &authorization(&token(&first, SCOPED)), "").await;

    assert_eq!((refused.status, refused.code()), (401, 401_002));
    assert_eq!(peer.cause(), "signature does not match the key of the latest challenge for gw-7");
    assert_eq!(peer.register(&token(&second, SCOPED)).await["status"], "assigned");
}

// Refusals

#[tokio::test]
async fn keys_that_do_not_fit_get_an_error_and_no_challenge() {
    let mut peer = Peer::start().await;
    let (endorsement, root) = (TPM.endorsement_key(), TPM.storage_root_key());
    let with = |at: usize, byte: u8| {
        let mut changed = root.clone();
        changed[at] = byte;
        body(&endorsement, &changed)
    };
    let text = |endorsement: Value, root: Value| {
        json!({"tpm": {"endorsementKey": endorsement, "storageRootKey": root}}).to_string()
    };
    let (ek, srk) = (BASE64.encode(&endorsement), BASE64.encode(&root));
    for (body, status, code, cause) in [
        (
            body(&OTHER_TPM.endorsement_key(), &root),
            401,
            401_002,
            "the endorsement key differs from that of enrollment gw-7",
        ),
        (body(&root, &root), 401, 401_002, "the endorsement key differs from that of enrollment gw-7"),
        (with(9, 0x70), 400, 400_000, "tpm.storageRootKey lacks the attribute fixedTPM"),
        (with(7, 0x02), 400, 400_000, "tpm.storageRootKey lacks the attribute restricted"),
        (with(3, 0x23), 400, 400_000, "tpm.storageRootKey has type 0x0023, not 0x0001"),
        (
            body(&endorsement, &root[..283]),
            400,
            400_000,
            "tpm.storageRootKey is no TPM2B_PUBLIC: its first two bytes are not the length of the rest",
        ),
        (
            text(json!(ek), json!("%")),
            400,
            400_000,
            "tpm.storageRootKey is not base64: there is '%' at position 1",
        ),
        (text(json!(ek), json!("")), 400, 400_000, "tpm.storageRootKey is missing"),
        (text(Value::Null, json!(srk)), 400, 400_000, "tpm.endorsementKey is missing"),
        (
            json!({"tpm": {"endorsementKey": ek, "storageRootKey": srk}, "TPM": 1}).to_string(),
            400,
            400_000,
            "no api-version knows TPM",
        ),
    ] {
        let answer = peer.ask("PUT", "register", "", &body).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{cause}");
        assert!(answer.body.get("authenticationKey").is_none());
        assert_eq!(peer.cause(), cause);
    }
}

#[tokio::test]
async fn who_is_not_enrolled_by_tpm_gets_an_error_and_no_challenge() {
    let mut peer = Peer::start().await;
    let presented = body(&TPM.endorsement_key(), &TPM.storage_root_key());
    for (path, status, code, cause) in [
        (
            "/0ne00EMU1A7/registrations/gw-8",
            404,
            404_201,
            "gw-8 has no individual enrollment, and groups cannot attest TPMs",
        ),
        (
            "/0ne00EMU1A7/registrations/dev1",
            401,
            401_002,
            "enrollment dev1 is for attestation by symmetricKey, not by tpm",
        ),
        ("/0ne00000000/registrations/gw-7", 404, 404_001, "ID scope not found"),
    ] {
        let target = format!("{path}/register?api-version=2019-03-31");
        let presented = presented.replace("gw-7", path.rsplit('/').next().unwrap());
        let answer = peer.send("PUT", &target, "", &presented).await;
        assert_eq!((answer.status, answer.code()), (status, code));
        assert!(answer.body.get("authenticationKey").is_none());
        assert_eq!(peer.cause(), cause);
    }
}

#[tokio::test]
async fn without_its_keys_or_an_api_version_a_tpm_is_not_challenged() {
    let mut peer = Peer::start().await;
    for body in ["", "{}", r#"{"registrationId":"gw-7"}"#, r#"{"tpm":null}"#] {
        let answer = peer.ask("PUT", "register", "", body).await;
        assert_eq!((answer.status, answer.code()), (401, 401_000), "{body}");
    }
    let presented = body(&TPM.endorsement_key(), &TPM.storage_root_key());
    let answer = peer.send("PUT", "/0ne00EMU1A7/registrations/gw-7/register", "", &presented).await;
    assert_eq!((answer.status, answer.code()), (400, 400_001));
    // A look-up begins no registration.
    let target = "/0ne00EMU1A7/registrations/gw-7?api-version=2021-06-01";
    assert_eq!(peer.send("POST", target, "", &presented).await.code(), 401_000);
}

#[tokio::test]
async fn a_token_that_does_not_answer_the_challenge_is_refused() {
    let mut peer = Peer::start().await;
    let early = peer.ask("PUT", "register", &authorization(&token(&[1; 32], SCOPED)), "").await;
    assert_eq!(early.code(), 401_002);
    assert_eq!(peer.cause(), "gw-7 has no challenge that the token could answer");

    let key = peer.challenged(&TPM).await;
    let good = token(&key, SCOPED);
    for (token, code, cause) in [
        (
            token(&[1; 32], SCOPED),
            401_002,
            "signature does not match the key of the latest challenge for gw-7",
        ),
        (
            good.replace("4102444800", "4102444801"),
            401_002,
            "signature does not match the key of the latest challenge for gw-7",
        ),
        (
            token(&key, "0ne00EMU1A7%2Fregistrations%2Fgw-8"),
            401_000,
            "SAS audience is for another registration id: gw-8",
        ),
        (
            token(&key, "0ne00000000%2Fregistrations%2Fgw-7"),
            401_000,
            "SAS audience is for another id scope: 0ne00000000",
        ),
        (
            good.replace("skn=registration", "skn=other"),
            401_000,
            "the token names a policy other than registration",
        ),
    ] {
        let answer = peer.ask("PUT", "register", &authorization(&token), "").await;
        assert_eq!((answer.status, answer.code()), (401, code), "{cause}");
        assert_eq!(peer.cause(), cause);
    }
    peer.emulator.advance_clock(Duration::from_secs(1));
    assert_eq!(peer.register(&good).await["status"], "assigned");
}

#[tokio::test]
async fn a_challenge_is_void_when_the_enrollment_gets_another_tpm() {
    let mut peer = Peer::start().await;
    let key = peer.challenged(&TPM).await;
    peer.enroll(&OTHER_TPM, json!({})).await;

    let answer = peer.ask("PUT", "register", &authorization(&token(&key, SCOPED)), "").await;

    assert_eq!(answer.code(), 401_002);
    assert_eq!(
        peer.cause(),
        "the endorsement key of enrollment gw-7 has changed since the challenge was made"
    );
}

#[tokio::test]
async fn neither_keys_nor_blobs_are_in_the_journal_or_in_debug() {
    let mut peer = Peer::start().await;
    let sealed = peer.present(&TPM).await.sealed();
    let hub_key = peer.hub_key(&TPM).await;

    let told = format!("{:?} {:?}", *peer.emulator, peer.emulator.journal());

    for secret in [
        &sealed,
        &BASE64.encode(hub_key),
        &BASE64.encode(TPM.endorsement_key()),
        &BASE64.encode(TPM.storage_root_key()),
    ] {
        assert!(!told.contains(secret.as_str()));
    }
}

// The service's side

#[tokio::test]
async fn an_enrollment_keeps_an_endorsement_key_that_can_be_challenged_and_no_other_one() {
    let builder = Emulator::builder();
    let record = |key: &str| {
        let tpm = json!({"type": "tpm", "tpm": {"endorsementKey": key}});
        json!({"enrollments": [{"registrationId": "gw-7", "attestation": tpm}]}).to_string()
    };
    let emulator = builder.seed_json(record(ENDORSEMENT_KEY)).start().await.unwrap();
    let kept = &emulator.enrollments()["enrollments"][0]["attestation"]["tpm"];
    assert_eq!(*kept, json!({"endorsementKey": ENDORSEMENT_KEY}));

    let mut signing = TPM.endorsement_key();
    signing[7] = 0x05;
    for (key, why) in [
        ("AToA%".to_owned(), "attestation.tpm.endorsementKey is not base64"),
        ("AToAAQ==".to_owned(), "attestation.tpm.endorsementKey is no TPM2B_PUBLIC"),
        (BASE64.encode(signing), "attestation.tpm.endorsementKey lacks the attribute decrypt"),
    ] {
        let refused = Emulator::builder().seed_json(record(&key)).start().await.unwrap_err();
        assert!(refused.to_string().contains(why), "{refused}");
    }
}

/// One connection to an emulator in which `gw-7` is enrolled by TPM and `dev1` by symmetric key.
struct Peer {
    emulator: Shown,
    stream: TlsStream<TcpStream>,
}

struct Answer {
    status: u16,
    body: Value,
}

impl Answer {
    fn sealed(&self) -> String {
        assert_eq!(self.status, 401);
        self.body["authenticationKey"].as_str().unwrap().to_owned()
    }

    fn code(&self) -> u64 {
        self.body["errorCode"].as_u64().unwrap()
    }

    /// The path of its polls below that of the device.
    fn operation(&self) -> String {
        format!("operations/{}", self.body["operationId"].as_str().unwrap())
    }
}

impl Peer {
    async fn start() -> Self {
        Self::with(seeded()).await
    }

    async fn with(builder: EmulatorBuilder) -> Self {
        let emulator = Shown(builder.start().await.unwrap());
        let stream = TcpStream::connect(("127.0.0.1", emulator.https_port())).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream =
            TlsConnector::from(Arc::new(trusting(emulator.ca_pem()))).connect(name, stream).await.unwrap();
        Self { emulator, stream }
    }

    /// Replaces the enrollment.
    async fn enroll(&mut self, tpm: &SoftTpm, members: Value) {
        let mut record = enrollment(tpm);
        record.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let head = format!("Authorization: {}\r\nIf-Match: *\r\n", service_token(&self.emulator));
        let target = "/enrollments/gw-7?api-version=2021-10-01";
        let answer = self.send("PUT", target, &head, &record.to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    async fn present(&mut self, tpm: &SoftTpm) -> Answer {
        self.ask("PUT", "register", "", &body(&tpm.endorsement_key(), &tpm.storage_root_key())).await
    }

    /// The key of a new challenge.
    async fn challenged(&mut self, tpm: &SoftTpm) -> Vec<u8> {
        opened(tpm, &self.present(tpm).await.sealed())
    }

    /// The registration state at the end.
    async fn register(&mut self, token: &str) -> Value {
        let head = authorization(token);
        let registered = self.ask("PUT", "register", &head, "").await;
        assert_eq!(registered.status, 202, "{}", registered.body);
        assert!(registered.body.get("registrationState").is_none());
        loop {
            let mut answer = self.ask("GET", &registered.operation(), &head, "").await;
            if answer.status == 200 {
                return answer.body["registrationState"].take();
            }
            assert_eq!(answer.status, 202, "{}", answer.body);
        }
    }

    /// The key at the hub after a registration.
    async fn hub_key(&mut self, tpm: &SoftTpm) -> Vec<u8> {
        let key = self.challenged(tpm).await;
        let state = self.register(&token(&key, SCOPED)).await;
        opened(tpm, state["tpm"]["authenticationKey"].as_str().unwrap())
    }

    /// Asks for something below the path of the device.
    async fn ask(&mut self, method: &str, what: &str, head: &str, body: &str) -> Answer {
        let target = format!("/0ne00EMU1A7/registrations/gw-7/{what}?api-version=2019-03-31");
        self.send(method, &target, head, body).await
    }

    async fn send(&mut self, method: &str, target: &str, head: &str, body: &str) -> Answer {
        let length = body.len();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{head}Content-Length: {length}\r\n\r\n{body}"
        );
        self.stream.write_all(request.as_bytes()).await.unwrap();
        read(&mut self.stream).await
    }

    fn last(&self) -> Entry {
        self.emulator.journal().pop().unwrap()
    }

    fn cause(&self) -> String {
        self.last().cause.unwrap_or_default()
    }

    fn statuses(&self) -> Vec<u16> {
        self.emulator.journal().iter().map(|entry| entry.status).collect()
    }
}

async fn read(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Answer {
    let (head, body) = read_answer(stream).await;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, body: serde_json::from_str(&body).unwrap() }
}

/// A GET without TLS.
async fn get_plain(port: u16, path: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = read(&mut stream).await;
    (answer.status, answer.body)
}

fn seeded() -> EmulatorBuilder {
    let key = BASE64.encode([7; 32]);
    let keys = json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": key, "secondaryKey": key}});
    let other = json!({"registrationId": "dev1", "attestation": keys});
    Emulator::builder().polls(1).seed_json(json!({"enrollments": [enrollment(&TPM), other]}).to_string())
}

fn enrollment(tpm: &SoftTpm) -> Value {
    let keys = json!({"endorsementKey": BASE64.encode(tpm.endorsement_key())});
    json!({"registrationId": "gw-7", "attestation": {"type": "tpm", "tpm": keys}})
}

fn body(endorsement: &[u8], root: &[u8]) -> String {
    let keys = json!({"endorsementKey": BASE64.encode(endorsement), "storageRootKey": BASE64.encode(root)});
    json!({"registrationId": "gw-7", "tpm": keys}).to_string()
}

fn opened(tpm: &SoftTpm, sealed: &str) -> Vec<u8> {
    tpm.open(&BASE64.decode(sealed).unwrap()).unwrap()
}

fn authorization(token: &str) -> String {
    format!("Authorization: {token}\r\n")
}

/// A token whose audience is written as it is given.
fn token(key: &[u8], resource: &str) -> String {
    format!("SharedAccessSignature {}&skn=registration", signed(key, resource))
}

fn service_token(emulator: &Emulator) -> String {
    let connection = emulator.service_connection_string();
    let key = BASE64.decode(connection.split("SharedAccessKey=").nth(1).unwrap()).unwrap();
    format!("SharedAccessSignature {}&skn=provisioningserviceowner", signed(&key, "localhost"))
}

fn signed(key: &[u8], resource: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(format!("{resource}\n{EXPIRY}").as_bytes());
    let signature = BASE64.encode(mac.finalize().into_bytes());
    format!("sr={resource}&sig={}&se={EXPIRY}", utf8_percent_encode(&signature, NON_ALPHANUMERIC))
}
