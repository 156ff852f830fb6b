//! The emulator's HTTPS front judged by clients in literal bytes: what each of them sends, and what it insists on.
//!
//! The tokens were signed by another program and end in the year 2100.

// Clippy allows these in test functions only, and the helpers below are test code too.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use std::sync::Arc;

use azure_dps_emulator::Emulator;
use azure_dps_tests::Shown;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const CSHARP: &str = "SharedAccessSignature sr=0ne00EMU1A7%2Fregistrations%2Fdev1&sig=P1wMru%2FbYLuUEm38goUGiCB1G0FvU29FyUvULNCa0Us%3D&se=4102444800&skn=registration";
const C: &str = "SharedAccessSignature sr=0ne00EMU1A7%2fregistrations%2fdev1&sig=CvYQofVDffk3a26Mlzdacx4Qs9sBXcpHDOBwIM6IZf8%3d&se=4102444800&skn=registration";
const JAVA: &str = "SharedAccessSignature sr=0ne00EMU1A7/registrations/dev1&sig=Eha5Nv0%2BAsNWUBJWm8pu8XmoeaRF%2FOwq0N1%2BJ%2BEhB6k%3D&se=4102444800&skn=";
const IDENTITY_SERVICE: &str = "SharedAccessSignature sr=0ne00emu1a7/registrations/dev1&sig=zKVUx%2BUQl0b%2FPzoDXRpuSqJ7dOIk2DejDMcDC8z7aVQ%3D&se=4102444800&skn=registration";
const PRIMARY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// It takes nothing but 202 for a register request, and encodes the path segment by segment.
#[tokio::test]
async fn the_csharp_client_wants_202_and_a_state_at_the_end() {
    let (emulator, mut peer) = start().await;
    let headers = format!(
        "User-Agent: Microsoft.Azure.Devices.Provisioning.Client/1.19.2 (.NET 8.0.0; Linux; X64)\r\nAuthorization: {CSHARP}\r\n\
         Content-Type: application/json; charset=utf-8\r\n"
    );

    let state = peer
        .register(
            "/0ne00EMU1A7/registrations/%64ev1",
            "2019-03-31",
            &headers,
            r#"{"registrationId":"dev1"}"#,
            "",
        )
        .await;

    assert_eq!(state["assignedHub"], emulator.hubs()[0]);
    assert_eq!(emulator.connections(), 1);
}

/// It names its agent in a header of its own, its host with a port, and parses every body whatever the status is.
#[tokio::test]
async fn the_c_client_names_the_port_and_parses_every_body() {
    let (emulator, mut peer) = start().await;
    let headers = format!(
        "UserAgent: prov_device_client/1.0\r\nAccept: application/json\r\nConnection: keep-alive\r\n\
         Content-Type: application/json; charset=utf-8\r\nAuthorization: {C}\r\n"
    );

    let body = r#"{ "registrationId":"dev1" }"#;
    let state = peer.register("/0ne00EMU1A7/registrations/dev1", "2021-06-01", &headers, body, "").await;

    assert!(state["assignedHub"].is_string() && state["deviceId"].is_string());
    let missing = "/0ne00EMU1A7/registrations/dev1/operations/5.x?api-version=2021-06-01";
    let (status, _, body) = peer.ask("GET", missing, &headers, "").await;
    assert_eq!((status, &body["errorCode"]), (404, &json!(404_202)));
    assert_eq!(emulator.connections(), 1, "one connection carries it all");
}

/// Its header names are in lower case, its policy name is empty, and its payload is a JSON text in a string.
#[tokio::test]
async fn the_java_client_sends_lower_case_headers_and_an_empty_policy() {
    let (_emulator, mut peer) = start().await;
    let headers = format!(
        "authorization: {JAVA}\r\nUser-Agent: x\r\nAccept: application/json\r\ncontent-type: application/json; charset=utf-8\r\n"
    );

    let body = r#"{"registrationId":"dev1","payload":"{\"a\":1}"}"#;
    let state = peer.register("/0ne00EMU1A7/registrations/dev1", "2019-03-31", &headers, body, "").await;

    // It refuses a state without these two.
    assert_eq!((&state["registrationId"], &state["status"]), (&json!("dev1"), &json!("assigned")));
}

/// Its audience is in lower case, and it looks for the id in the state while it is assigning.
#[tokio::test]
async fn the_identity_service_signs_a_lower_case_audience() {
    let (_emulator, mut peer) = start().await;
    let headers = format!(
        "Content-Type: application/json\r\nAuthorization: {IDENTITY_SERVICE}\r\nUser-Agent: aziot-identityd\r\n"
    );

    let state = peer
        .register(
            "/0ne00EMU1A7/registrations/dev1",
            "2018-11-01",
            &headers,
            r#"{"registrationId":"dev1"}"#,
            "",
        )
        .await;

    assert_eq!(state["status"], "assigned");
}

/// It sends a body with its polls.
#[tokio::test]
async fn the_node_client_polls_with_a_body() {
    let (_emulator, mut peer) = start().await;
    let headers = format!(
        "Accept: application/json\r\nContent-Type: application/json; charset=utf-8\r\nAuthorization: {JAVA}registration\r\n\
         Request-Id: 66637297-ee10-4344-b4f2-6e1dd96b3da3\r\nUser-Agent: azure-iot-provisioning-device/1.9.2\r\n"
    );

    let body = r#"{"registrationId":"dev1"}"#;
    let path = "/0ne00EMU1A7/registrations/dev1";
    let state = peer.register(path, "2019-03-31&forceRegistration=true", &headers, body, "{}").await;

    assert_eq!(state["status"], "assigned");
}

/// A client in literal bytes.
struct Peer {
    stream: TlsStream<TcpStream>,
    port: u16,
}

impl Peer {
    /// Registers and polls to the end, and gives the registration state.
    async fn register(
        &mut self,
        path: &str,
        version: &str,
        headers: &str,
        body: &str,
        poll_body: &str,
    ) -> Value {
        let register = format!("{path}/register?api-version={version}");
        let (status, head, answer) = self.ask("PUT", &register, headers, body).await;
        assert_eq!((status, &answer["status"]), (202, &json!("assigning")), "{answer}");
        assert!(answer.get("registrationState").is_none());
        assert!(head.contains("\r\nretry-after: 3\r\n"), "{head}");
        assert!(head.contains("\r\ncontent-type: application/json; charset=utf-8\r\n"), "{head}");
        let operation = answer["operationId"].as_str().unwrap();
        let poll = format!("{path}/operations/{operation}?api-version={version}");
        let (status, _, answer) = self.ask("GET", &poll, headers, poll_body).await;
        assert_eq!((status, &answer["operationId"]), (202, &json!(operation)));
        assert_eq!(answer["registrationState"], json!({"registrationId": "dev1", "status": "assigning"}));
        let (status, head, answer) = self.ask("GET", &poll, headers, poll_body).await;
        assert_eq!((status, &answer["operationId"]), (200, &json!(operation)));
        assert!(!head.contains("\r\nretry-after: "), "{head}");
        answer["registrationState"].clone()
    }

    async fn ask(&mut self, method: &str, target: &str, headers: &str, body: &str) -> (u16, String, Value) {
        let (port, length) = (self.port, body.len());
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost:{port}\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        );
        self.stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        loop {
            if let Some((head, body)) = answer.split_once("\r\n\r\n") {
                let length = head.split("content-length: ").nth(1).unwrap().lines().next().unwrap();
                if body.len() == length.parse::<usize>().unwrap() {
                    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                    return (status, format!("{head}\r\n"), serde_json::from_str(body).unwrap());
                }
            }
            let mut chunk = [0; 4096];
            let length = self.stream.read(&mut chunk).await.unwrap();
            assert_ne!(length, 0, "the connection ended");
            answer += std::str::from_utf8(&chunk[..length]).unwrap();
        }
    }
}

async fn start() -> (Shown, Peer) {
    let attestation = json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": PRIMARY}});
    let enrollment =
        json!({"registrationId": "dev1", "attestation": attestation, "allocationPolicy": "geoLatency"});
    let seed = json!({"enrollments": [enrollment]}).to_string();
    let emulator = Shown(Emulator::builder().retry_after(3).seed_json(seed).start().await.unwrap());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(emulator.ca_pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let port = emulator.https_port();
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), stream).await;
    let peer = Peer { stream: stream.unwrap(), port };
    (emulator, peer)
}
