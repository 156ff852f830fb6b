//! Registration with TPMs, as the official device client for Node (1.9.1) does it with the official package for TPMs
//! (1.9.3), each on a software TPM 2.0 of another project.

use azure_dps_emulator::{Emulator, Fault, Operation};
use azure_dps_tests::evidence;
use azure_dps_tests::swtpm::Swtpm;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::official_node_device_client_1_9_1::enroll;
use crate::stage::{Client, NODE_DEVICE, Stage, transport_name};

macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        mod https {
            $(#[tokio::test] async fn $name() { super::$name("http").await })*
        }

        mod amqp {
            $(#[tokio::test] async fn $name() { super::$name("amqp").await })*
        }

        mod amqp_ws {
            $(#[tokio::test] async fn $name() { super::$name("amqp-ws").await })*
        }
    };
}

scenarios! {
    a_tpm_registers_and_signs_for_its_hub,
    a_device_that_comes_back_signs_with_the_same_key,
    a_tpm_that_is_not_the_enrolled_one_is_refused,
    a_tpm_that_is_not_enrolled_is_refused,
    a_tpm_that_is_enrolled_with_a_key_is_refused,
    a_refused_answer_is_noticed,
}

/// The registration id is the one that the package derives from the endorsement key.
async fn a_tpm_registers_and_signs_for_its_hub(transport: &'static str) {
    let Some(stage) = Stage::start().await else { return };
    let Some(mut device) = Device::start(&stage, transport).await else { return };
    let id = device.id.clone();
    enroll(&stage, device.enrollment(&id)).await;

    let result = device.register(&id).await.unwrap();

    let state = &result["registrationState"];
    assert_eq!(id.len(), 52);
    assert_eq!((&state["status"], &state["deviceId"]), (&json!("assigned"), &json!(id)));
    assert!(stage.emulator().hubs().iter().any(|hub| state["assignedHub"] == hub.as_str()), "{state}");
    // As much as a TPM takes at once, and more.
    for length in [40, 1_024, 1_025, 5_000] {
        let text = "x".repeat(length);
        assert_eq!(device.sign(&text).await, signature(stage.emulator(), &id, &text), "{length} bytes");
    }
    evidence::registered(NODE_DEVICE, transport_name(transport), "TPM, individual");
}

async fn a_device_that_comes_back_signs_with_the_same_key(transport: &'static str) {
    let Some(stage) = Stage::start().await else { return };
    let Some(mut device) = Device::start(&stage, transport).await else { return };
    enroll(&stage, device.enrollment("gw-7")).await;

    device.register("gw-7").await.unwrap();
    let first = device.sign("text").await;
    device.register("gw-7").await.unwrap();

    assert_eq!(device.sign("text").await, first);
    assert_eq!(first, signature(stage.emulator(), "gw-7", "text"));
}

async fn a_tpm_that_is_not_the_enrolled_one_is_refused(transport: &'static str) {
    let Some(stage) = Stage::start().await else { return };
    let Some(mut device) = Device::start(&stage, transport).await else { return };
    let Some(other) = Device::start(&stage, transport).await else { return };
    enroll(&stage, other.enrollment("gw-7")).await;

    let error = device.register("gw-7").await.unwrap_err();

    assert_refused(transport, &error);
    assert_eq!(stage.cause(), "the endorsement key differs from that of enrollment gw-7");
    assert_eq!(stage.emulator().hub_key("gw-7"), None);
}

async fn a_tpm_that_is_not_enrolled_is_refused(transport: &'static str) {
    let Some(stage) = Stage::start().await else { return };
    let Some(mut device) = Device::start(&stage, transport).await else { return };

    let error = device.register("gw-7").await.unwrap_err();

    match transport {
        // What it says of an answer that is not 401.
        "http" => {
            let message = "The server did NOT respond with an unauthorized error.  For a TPM challenge this is incorrect.";
            assert_eq!(error["message"], message, "{error}");
        }
        _ => assert_refused(transport, &error),
    }
    assert_eq!(stage.cause(), "gw-7 has no individual enrollment, and groups cannot attest TPMs");
}

async fn a_tpm_that_is_enrolled_with_a_key_is_refused(transport: &'static str) {
    let Some(stage) = Stage::start().await else { return };
    let Some(mut device) = Device::start(&stage, transport).await else { return };
    let key = json!({"type": "symmetricKey"});
    enroll(&stage, json!({"registrationId": "gw-7", "attestation": key})).await;

    let error = device.register("gw-7").await.unwrap_err();

    assert_refused(transport, &error);
    assert_eq!(stage.cause(), "enrollment gw-7 is for attestation by symmetricKey, not by tpm");
}

/// Over HTTPS the client is refused in the place of the challenge, over AMQP at its token.
fn assert_refused(transport: &str, error: &Value) {
    let (member, wanted) = match transport {
        "http" => {
            ("message", "The server did NOT respond with an appropriately formatted authentication blob.")
        }
        // Of a refused SASL exchange, the client reports only that it is not connected.
        _ => ("name", "NotConnectedError"),
    };
    assert_eq!(error[member], wanted, "{error}");
}

async fn a_refused_answer_is_noticed(transport: &'static str) {
    let Some(stage) = Stage::start().await else { return };
    let Some(mut device) = Device::start(&stage, transport).await else { return };
    enroll(&stage, device.enrollment("gw-7")).await;
    // Over HTTPS the first register request asks for the challenge.
    let fault = match transport {
        "http" => Fault::status(401).on(Operation::Register).nth(2),
        _ => Fault::status(401).on(Operation::Connect),
    };
    stage.emulator().inject(fault).unwrap();

    let error = device.register("gw-7").await.unwrap_err();

    let name = if transport == "http" { "UnauthorizedError" } else { "NotConnectedError" };
    assert_eq!(error["name"], name, "{error}");
}

/// The official client and the TPM that it works on.
struct Device<'a> {
    client: Client,
    stage: &'a Stage,
    transport: &'static str,
    endorsement_key: String,
    id: String,
    _tpm: Swtpm,
}

impl<'a> Device<'a> {
    async fn start(stage: &'a Stage, transport: &'static str) -> Option<Self> {
        let tpm = Swtpm::start()?;
        let mut client = stage.tpm_client(tpm.port()).await;
        let keys = client.ask(json!({"do": "keys"})).await.unwrap();
        let text = |name: &str| keys[name].as_str().unwrap().to_owned();
        let (endorsement_key, id) = (text("endorsementKey"), text("registrationId"));
        Some(Self { client, stage, transport, endorsement_key, id, _tpm: tpm })
    }

    fn enrollment(&self, id: &str) -> Value {
        let tpm = json!({"type": "tpm", "tpm": {"endorsementKey": self.endorsement_key}});
        json!({"registrationId": id, "attestation": tpm})
    }

    async fn register(&mut self, id: &str) -> Result<Value, Value> {
        let request = json!({
            "do": "register", "transport": self.transport, "idScope": self.stage.emulator().id_scope(),
            "registrationId": id,
        });
        self.client.ask(request).await
    }

    async fn sign(&mut self, text: &str) -> Value {
        self.client.ask(json!({"do": "sign", "text": text})).await.unwrap()
    }
}

/// What a hub computes that has the key of the device.
fn signature(emulator: &Emulator, id: &str, text: &str) -> Value {
    let key = BASE64.decode(emulator.hub_key(id).unwrap()).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(text.as_bytes());
    BASE64.encode(mac.finalize().into_bytes()).into()
}
