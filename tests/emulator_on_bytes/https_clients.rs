//! Traits of official device clients that are not run here, over HTTPS: each is a byte peer that sends what
//! the client sends and takes only what the client takes.
//!
//! Traits: docs/wire/device-https.md. The tokens were signed by another program and end in the year 2100;
//! they differ in what is encoded, in the case of the hex digits and in the policy, and are all for `dev:1`
//! with `PRIMARY`.

use azure_dps_emulator::Emulator;
use azure_dps_tests::emulated::{Emulated, PRIMARY};
use serde_json::{Value, json};

const CSHARP_TOKEN: &str = "SharedAccessSignature sr=0ne00EMU1A7%2Fregistrations%2Fdev%3A1&sig=ODe1LREluLe%2BX%2BL%2FGDRDqgadGcwmzHwAgdAKyxRGQ5c%3D&se=4102444800&skn=registration";
const C_TOKEN: &str = "SharedAccessSignature sr=0ne00EMU1A7%2fregistrations%2fdev%3a1&sig=X%2fHYPZMkK8JEo5NB%2bbtBSG9rLPuT1f6TnW6X3lJk%2bJs%3d&se=4102444800&skn=registration";
const JAVA_TOKEN: &str = "SharedAccessSignature sr=0ne00EMU1A7/registrations/dev:1&sig=5qyM6YdS88KJe6tyQMRymTSpKrcFcBnZXnrDTrBpR0o%3D&se=4102444800&skn=";
const IDENTITY_SERVICE_TOKEN: &str = "SharedAccessSignature sr=0ne00emu1a7/registrations/dev:1&sig=GUZtfOmuzZTVLPiHu1itgm%2F%2FGnpJxBEnd%2FTaeRXtdfM%3D&se=4102444800&skn=registration";

/// Register counts as accepted with 202 only; the ids in paths are escaped segment by segment.
#[tokio::test]
async fn the_csharp_client_takes_202_only_and_escapes_ids() {
    let peer = start().await;
    let head = format!(
        "User-Agent: Microsoft.Azure.Devices.Provisioning.Client/1.19.4 (.NET 8.0; Linux; X64)\r\n\
         Authorization: {CSHARP_TOKEN}\r\nContent-Type: application/json; charset=utf-8\r\n"
    );
    let path = "/0ne00EMU1A7/registrations/dev%3A1";
    let body = r#"{"registrationId":"dev:1"}"#;
    let register =
        peer.client.ask("PUT", &format!("{path}/register?api-version=2019-03-31"), &head, body).await;
    assert_eq!(register.status, 202);
    assert_eq!(register.body["status"], "assigning");
    let poll = format!("{path}/operations/{}?api-version=2019-03-31", register.operation());
    let result = wait(&peer, &poll, &head, "").await;
    assert!(result["registrationState"].is_object(), "the client fails without it");
}

/// The header is called `UserAgent`, hex digits are in lower case, and every JSON body must have `status`;
/// while assigning also `operationId`.
#[tokio::test]
async fn the_c_client_misspells_a_header_and_wants_an_operation_id_in_every_poll() {
    let peer = start().await;
    let head = format!(
        "UserAgent: prov_device_client/1.0\r\nAccept: application/json\r\n\
         Content-Type: application/json; charset=utf-8\r\nConnection: keep-alive\r\nAuthorization: {C_TOKEN}\r\n"
    );
    let path = "/0ne00EMU1A7/registrations/dev%3a1";
    let body = r#"{ "registrationId":"dev:1" }"#;
    let register =
        peer.client.ask("PUT", &format!("{path}/register?api-version=2021-06-01"), &head, body).await;
    assert!((200..=226).contains(&register.status));
    let poll = format!("{path}/operations/{}?api-version=2021-06-01", register.operation());
    let first = peer.client.ask("GET", &poll, &head, "").await;
    assert_eq!((first.body["status"].as_str(), first.operation()), (Some("assigning"), register.operation()));
    let result = wait(&peer, &poll, &head, "").await;
    assert!(result["registrationState"]["assignedHub"].is_string());
    assert!(result["registrationState"]["deviceId"].is_string());
}

/// The token has an empty policy and an unescaped resource, the payload is a JSON text, header names are in
/// lower case.
#[tokio::test]
async fn the_java_client_sends_its_payload_as_text_and_an_empty_policy() {
    let peer = start().await;
    let head = format!(
        "authorization: {JAVA_TOKEN}\r\nuser-agent: com.microsoft.azure.sdk.iot.dps\r\naccept: application/json\r\n\
         content-type: application/json; charset=utf-8\r\n"
    );
    let path = "/0ne00EMU1A7/registrations/dev:1";
    let body = r#"{"registrationId":"dev:1","payload":"{\"a\":1}"}"#;
    let register =
        peer.client.ask("PUT", &format!("{path}/register?api-version=2019-03-31"), &head, body).await;
    assert!(register.status <= 300 && register.body["operationId"].is_string());
    let poll = format!("{path}/operations/{}?api-version=2019-03-31", register.operation());
    let result = wait(&peer, &poll, &head, "").await;
    let state = &result["registrationState"];
    assert!(state["registrationId"].is_string() && state["status"].is_string());
}

/// The audience is in lower case; register counts as accepted with 202 only, the content type must be JSON,
/// and every state but `assigning`, `assigned` and `failed` is an error to it.
#[tokio::test]
async fn the_identity_service_lowers_the_audience_and_reads_strictly() {
    let peer = start().await;
    let head = format!(
        "Content-Type: application/json\r\nAuthorization: {IDENTITY_SERVICE_TOKEN}\r\nUser-Agent: iotedge\r\n"
    );
    let path = "/0ne00EMU1A7/registrations/dev:1";
    let body = r#"{"registrationId":"dev:1"}"#;
    let register =
        peer.client.ask("PUT", &format!("{path}/register?api-version=2021-06-01"), &head, body).await;
    assert_eq!(register.status, 202);
    assert!(register.header("content-type").unwrap().contains("application/json"));
    let poll = format!("{path}/operations/{}?api-version=2021-06-01", register.operation());
    let first = peer.client.ask("GET", &poll, &head, "").await;
    assert_eq!(first.body["registrationState"]["registrationId"], "dev:1");
    let result = wait(&peer, &poll, &head, "").await;
    assert_eq!(result["status"], "assigned");
    assert!(result["registrationState"]["assignedHub"].is_string());
}

/// A poll has a body; the Node client sends one with every GET, and the connection must go on.
#[tokio::test]
async fn a_get_with_a_body_leaves_the_connection_in_order() {
    let peer = start().await;
    let head = format!("Authorization: {CSHARP_TOKEN}\r\nContent-Type: application/json; charset=utf-8\r\n");
    let path = "/0ne00EMU1A7/registrations/dev:1";
    let register =
        peer.client.ask("PUT", &format!("{path}/register?api-version=2019-03-31"), &head, "{}").await;
    let poll = format!("{path}/operations/{}?api-version=2019-03-31", register.operation());
    wait(&peer, &poll, &head, "{}").await;
    assert_eq!(peer.emulator.connections(), 1);
}

/// The command line looks the registration up with a POST.
#[tokio::test]
async fn the_azure_cli_looks_the_registration_up() {
    let peer = start().await;
    let head = format!("Authorization: {CSHARP_TOKEN}\r\nContent-Type: application/json\r\n");
    let path = "/0ne00EMU1A7/registrations/dev:1";
    let body = r#"{"registrationId":"dev:1","payload":{"a":1}}"#;
    let register =
        peer.client.ask("PUT", &format!("{path}/register?api-version=2026-11-01"), &head, body).await;
    let poll = format!("{path}/operations/{}?api-version=2026-11-01", register.operation());
    wait(&peer, &poll, &head, "").await;
    let body = r#"{"registrationId":"dev:1"}"#;
    let lookup = peer.client.ask("POST", &format!("{path}?api-version=2026-11-01"), &head, body).await;
    assert_eq!((lookup.status, lookup.body["status"].as_str()), (200, Some("assigned")));
    assert!(lookup.body.get("operationId").is_none(), "a bare registration");
}

/// An emulator in which `dev:1` is enrolled.
async fn start() -> Emulated {
    let keys =
        json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": PRIMARY, "secondaryKey": PRIMARY}});
    let seed = json!({"enrollments": [{"registrationId": "dev:1", "attestation": keys}]});
    Emulated::start(Emulator::builder().polls(1).seed_json(seed.to_string())).await
}

/// Polls until the registration has ended, as every client does.
async fn wait(peer: &Emulated, target: &str, head: &str, body: &str) -> Value {
    for _ in 0..3 {
        let reply = peer.client.ask("GET", target, head, body).await;
        if reply.status == 200 {
            assert_eq!(reply.body["status"], "assigned");
            return reply.body;
        }
        assert_eq!((reply.status, reply.body["status"].as_str()), (202, Some("assigning")));
    }
    unreachable!("the emulator assigns after one poll")
}
