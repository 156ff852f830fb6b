//! Traits of official device clients that are not run here, over HTTPS: each is a byte peer that sends what the client
//! sends and takes only what the client takes.
//!
//! Traits: docs/wire/device-https.md. The tokens were signed by another program and end in the year 2100; they differ in
//! what is encoded, in the case of the hex digits and in the policy, and are all for `dev:1` with `KEY`.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)] // Test code.

use std::sync::Arc;

use azure_dps_emulator::Emulator;
use azure_dps_tests::{Shown, header, read_answer, trusting};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const CSHARP_TOKEN: &str = "SharedAccessSignature sr=0ne00EMU1A7%2Fregistrations%2Fdev%3A1&sig=ODe1LREluLe%2BX%2BL%2FGDRDqgadGcwmzHwAgdAKyxRGQ5c%3D&se=4102444800&skn=registration";
const C_TOKEN: &str = "SharedAccessSignature sr=0ne00EMU1A7%2fregistrations%2fdev%3a1&sig=X%2fHYPZMkK8JEo5NB%2bbtBSG9rLPuT1f6TnW6X3lJk%2bJs%3d&se=4102444800&skn=registration";
const JAVA_TOKEN: &str = "SharedAccessSignature sr=0ne00EMU1A7/registrations/dev:1&sig=5qyM6YdS88KJe6tyQMRymTSpKrcFcBnZXnrDTrBpR0o%3D&se=4102444800&skn=";
const IDENTITY_SERVICE_TOKEN: &str = "SharedAccessSignature sr=0ne00emu1a7/registrations/dev:1&sig=GUZtfOmuzZTVLPiHu1itgm%2F%2FGnpJxBEnd%2FTaeRXtdfM%3D&se=4102444800&skn=registration";

/// Register counts as accepted with 202 only; the ids in paths are escaped segment by segment.
#[tokio::test]
async fn the_csharp_client_takes_202_only_and_escapes_ids() {
    let mut peer = Peer::start().await;
    let head = format!(
        "User-Agent: Microsoft.Azure.Devices.Provisioning.Client/1.19.4 (.NET 8.0; Linux; X64)\r\n\
         Authorization: {CSHARP_TOKEN}\r\nContent-Type: application/json; charset=utf-8\r\n"
    );
    let path = "/0ne00EMU1A7/registrations/dev%3A1";
    let body = r#"{"registrationId":"dev:1"}"#;
    let register = peer.ask("PUT", &format!("{path}/register?api-version=2019-03-31"), &head, body).await;
    assert_eq!(register.status, 202);
    assert_eq!(register.body["status"], "assigning");
    let poll = format!("{path}/operations/{}?api-version=2019-03-31", register.operation());
    let result = peer.poll(&poll, &head, "").await;
    assert!(result["registrationState"].is_object(), "the client fails without it");
}

/// The header is called `UserAgent`, hex digits are in lower case, and every JSON body must have `status`; while
/// assigning also `operationId`.
#[tokio::test]
async fn the_c_client_misspells_a_header_and_wants_an_operation_id_in_every_poll() {
    let mut peer = Peer::start().await;
    let head = format!(
        "UserAgent: prov_device_client/1.0\r\nAccept: application/json\r\n\
         Content-Type: application/json; charset=utf-8\r\nConnection: keep-alive\r\nAuthorization: {C_TOKEN}\r\n"
    );
    let path = "/0ne00EMU1A7/registrations/dev%3a1";
    let body = r#"{ "registrationId":"dev:1" }"#;
    let register = peer.ask("PUT", &format!("{path}/register?api-version=2021-06-01"), &head, body).await;
    assert!((200..=226).contains(&register.status));
    let poll = format!("{path}/operations/{}?api-version=2021-06-01", register.operation());
    let first = peer.ask("GET", &poll, &head, "").await;
    assert_eq!((first.body["status"].as_str(), first.operation()), (Some("assigning"), register.operation()));
    let result = peer.poll(&poll, &head, "").await;
    assert!(result["registrationState"]["assignedHub"].is_string());
    assert!(result["registrationState"]["deviceId"].is_string());
}

/// The token has an empty policy and an unescaped resource, the payload is a JSON text, header names are in lower case.
#[tokio::test]
async fn the_java_client_sends_its_payload_as_text_and_an_empty_policy() {
    let mut peer = Peer::start().await;
    let head = format!(
        "authorization: {JAVA_TOKEN}\r\nuser-agent: com.microsoft.azure.sdk.iot.dps\r\naccept: application/json\r\n\
         content-type: application/json; charset=utf-8\r\n"
    );
    let path = "/0ne00EMU1A7/registrations/dev:1";
    let body = r#"{"registrationId":"dev:1","payload":"{\"a\":1}"}"#;
    let register = peer.ask("PUT", &format!("{path}/register?api-version=2019-03-31"), &head, body).await;
    assert!(register.status <= 300 && register.body["operationId"].is_string());
    let poll = format!("{path}/operations/{}?api-version=2019-03-31", register.operation());
    let result = peer.poll(&poll, &head, "").await;
    let state = &result["registrationState"];
    assert!(state["registrationId"].is_string() && state["status"].is_string());
}

/// The audience is in lower case; register counts as accepted with 202 only, the content type must be JSON, and every
/// state but `assigning`, `assigned` and `failed` is an error to it.
#[tokio::test]
async fn the_identity_service_lowers_the_audience_and_reads_strictly() {
    let mut peer = Peer::start().await;
    let head = format!(
        "Content-Type: application/json\r\nAuthorization: {IDENTITY_SERVICE_TOKEN}\r\nUser-Agent: iotedge\r\n"
    );
    let path = "/0ne00EMU1A7/registrations/dev:1";
    let body = r#"{"registrationId":"dev:1"}"#;
    let register = peer.ask("PUT", &format!("{path}/register?api-version=2021-06-01"), &head, body).await;
    assert_eq!(register.status, 202);
    assert!(header(&register.head, "content-type").unwrap().contains("application/json"));
    let poll = format!("{path}/operations/{}?api-version=2021-06-01", register.operation());
    let first = peer.ask("GET", &poll, &head, "").await;
    assert_eq!(first.body["registrationState"]["registrationId"], "dev:1");
    let result = peer.poll(&poll, &head, "").await;
    assert_eq!(result["status"], "assigned");
    assert!(result["registrationState"]["assignedHub"].is_string());
}

/// A poll has a body; the Node client sends one with every GET, and the connection must go on.
#[tokio::test]
async fn a_get_with_a_body_leaves_the_connection_in_order() {
    let mut peer = Peer::start().await;
    let head = format!("Authorization: {CSHARP_TOKEN}\r\nContent-Type: application/json; charset=utf-8\r\n");
    let path = "/0ne00EMU1A7/registrations/dev:1";
    let register = peer.ask("PUT", &format!("{path}/register?api-version=2019-03-31"), &head, "{}").await;
    let poll = format!("{path}/operations/{}?api-version=2019-03-31", register.operation());
    peer.poll(&poll, &head, "{}").await;
    assert_eq!(peer.emulator.connections(), 1);
}

/// The command line looks the registration up with a POST.
#[tokio::test]
async fn the_azure_cli_looks_the_registration_up() {
    let mut peer = Peer::start().await;
    let head = format!("Authorization: {CSHARP_TOKEN}\r\nContent-Type: application/json\r\n");
    let path = "/0ne00EMU1A7/registrations/dev:1";
    let body = r#"{"registrationId":"dev:1","payload":{"a":1}}"#;
    let register = peer.ask("PUT", &format!("{path}/register?api-version=2026-11-01"), &head, body).await;
    let poll = format!("{path}/operations/{}?api-version=2026-11-01", register.operation());
    peer.poll(&poll, &head, "").await;
    let body = r#"{"registrationId":"dev:1"}"#;
    let lookup = peer.ask("POST", &format!("{path}?api-version=2026-11-01"), &head, body).await;
    assert_eq!((lookup.status, lookup.body["status"].as_str()), (200, Some("assigned")));
    assert!(lookup.body.get("operationId").is_none(), "a bare registration");
}

/// One connection to an emulator in which `dev:1` is enrolled.
struct Peer {
    emulator: Shown,
    stream: TlsStream<TcpStream>,
}

struct Answer {
    status: u16,
    head: String,
    body: Value,
}

impl Answer {
    fn operation(&self) -> &str {
        self.body["operationId"].as_str().unwrap()
    }
}

impl Peer {
    async fn start() -> Self {
        let keys = json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": KEY, "secondaryKey": KEY}});
        let seed = json!({"enrollments": [{"registrationId": "dev:1", "attestation": keys}]});
        let emulator = Emulator::builder().polls(1).seed_json(seed.to_string()).start().await.unwrap();
        let stream = TcpStream::connect(("127.0.0.1", emulator.https_port())).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream =
            TlsConnector::from(Arc::new(trusting(emulator.ca_pem()))).connect(name, stream).await.unwrap();
        Self { emulator: Shown(emulator), stream }
    }

    /// Polls until the registration has ended, as every client does.
    async fn poll(&mut self, target: &str, head: &str, body: &str) -> Value {
        for _ in 0..3 {
            let answer = self.ask("GET", target, head, body).await;
            if answer.status == 200 {
                assert_eq!(answer.body["status"], "assigned");
                return answer.body;
            }
            assert_eq!((answer.status, answer.body["status"].as_str()), (202, Some("assigning")));
        }
        unreachable!("the emulator assigns after one poll")
    }

    async fn ask(&mut self, method: &str, target: &str, head: &str, body: &str) -> Answer {
        let port = self.emulator.https_port();
        let length = if method == "GET" && body.is_empty() {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        let request =
            format!("{method} {target} HTTP/1.1\r\nHost: localhost:{port}\r\n{head}{length}\r\n{body}");
        self.stream.write_all(request.as_bytes()).await.unwrap();
        let (head, body) = read_answer(&mut self.stream).await;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: serde_json::from_str(&body).unwrap() }
    }
}
