//! Devices at their emulated hub, from registration to direct method, as the official device clients for Node
//! (`azure-iot-device` 1.18.4 with `azure-iot-device-mqtt` 1.16.4) and Python (2.14.0) do it.

use std::time::{Duration, SystemTime};

use azure_dps_emulator::{CloudMessage, Emulator, MethodCall, Pki};
use azure_dps_tests::evidence;
use azure_dps_tests::sas::for_hub;
use serde_json::{Value, json};

use crate::device_client::Peer;
use crate::official_node_device_client_1_9_1::{KEY, OTHER_KEY, enroll, keys};
use crate::scenarios::scenarios;
use crate::stage::{Client, Stage, transport_name};

scenarios! {
    {
        a_device_with_a_key_works_until_another_takes_its_place,
        a_device_with_a_certificate_works,
        a_wrong_key_is_refused,
        a_connection_ends_with_its_token,
    }
    node_1_18_4_mqtt: Node("mqtt") {}
    node_1_18_4_mqtt_ws: Node("mqtt-ws") {}
    python_2_14_0_mqtt: Python("mqtt") {}
    python_2_14_0_mqtt_ws: Python("mqtt-ws") {}
}

async fn a_device_with_a_key_works_until_another_takes_its_place(peer: Peer) {
    let Some(stage) = Stage::start().await else { return };
    enroll(&stage, enrollment(keys())).await;
    let mut first = Device::registered(peer, &stage, json!({"key": KEY})).await;

    first.connect(json!({"key": KEY})).await.unwrap();
    first.works().await;
    evidence::at_hub(peer.hub_device(), transport_name(peer.transport()), "symmetric key");

    let mut second = Device { client: stage.hub_device(peer).await, hub: first.hub.clone(), ..first };
    second.connect(json!({"key": KEY})).await.unwrap();
    first.client.ask(json!({"do": "lost"})).await.unwrap();
    let twin = second.client.ask(json!({"do": "start"})).await.unwrap();
    assert_eq!(twin["reported"]["interval"], 20, "the newer connection serves: {twin}");
}

async fn a_device_with_a_certificate_works(peer: Peer) {
    let Some(stage) = Stage::start().await else { return };
    let device = Pki::new(["dev1"], 0).unwrap().devices.remove(0);
    let x509 = json!({"clientCertificates": {"primary": {"certificate": device.certificate_pem}}});
    enroll(&stage, enrollment(json!({"type": "x509", "x509": x509}))).await;
    let credential = json!({"chain": device.chain_pem, "privateKey": device.private_key_pem});
    let mut device = Device::registered(peer, &stage, credential.clone()).await;

    device.connect(credential).await.unwrap();

    device.works().await;
    evidence::at_hub(peer.hub_device(), transport_name(peer.transport()), "X.509");
}

async fn a_wrong_key_is_refused(peer: Peer) {
    let Some(stage) = Stage::start().await else { return };
    enroll(&stage, enrollment(keys())).await;
    let mut device = Device::registered(peer, &stage, json!({"key": KEY})).await;

    let error = device.connect(json!({"key": OTHER_KEY})).await.unwrap_err();

    assert_unauthorized(peer, &error);
    assert!(stage.cause().contains("signature does not match the device's keys"), "{}", stage.cause());
}

/// The clock of the emulator goes on to the end of the token; the machine's does not.
async fn a_connection_ends_with_its_token(peer: Peer) {
    let Some(stage) = Stage::start().await else { return };
    enroll(&stage, enrollment(keys())).await;
    let mut device = Device::registered(peer, &stage, json!({"key": KEY})).await;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let token = for_hub(KEY, &device.hub, "dev1", i64::try_from(now).unwrap() + 3600);

    device.connect(json!({"token": token})).await.unwrap();
    device.client.ask(json!({"do": "start"})).await.unwrap();
    stage.emulator().advance_clock(Duration::from_secs(3601));
    device.client.ask(json!({"do": "lost"})).await.unwrap();

    let error = device.connect(json!({"token": token})).await.unwrap_err();
    assert_unauthorized(peer, &error);
    assert!(stage.cause().contains("the token expired"), "{}", stage.cause());
    stage.emulator().reset_clock();
    device.connect(json!({"token": token})).await.unwrap();
}

fn enrollment(attestation: Value) -> Value {
    let twin = json!({"tags": {}, "properties": {"desired": {"interval": 10}}});
    json!({"registrationId": "dev1", "attestation": attestation, "initialTwin": twin})
}

/// Each client names the refusal in its own way.
fn assert_unauthorized(peer: Peer, error: &Value) {
    let text = error.to_string();
    let named = match peer {
        Peer::Node(_) => "Not authorized",
        Peer::Python(_) => "CredentialError",
    };
    assert!(text.contains(named), "{text}");
}

/// The client of `dev1`, which is registered.
struct Device<'a> {
    peer: Peer,
    emulator: &'a Emulator,
    client: Client,
    hub: String,
}

impl<'a> Device<'a> {
    async fn registered(peer: Peer, stage: &'a Stage, credential: Value) -> Self {
        let emulator = stage.emulator();
        let mut device = Device { peer, emulator, client: stage.hub_device(peer).await, hub: String::new() };
        let scope = json!({"idScope": emulator.id_scope(), "registrationId": "dev1"});
        let state = device.ask("register", &[&scope, &credential]).await.unwrap();
        state["assignedHub"].as_str().unwrap().clone_into(&mut device.hub);
        device
    }

    async fn connect(&mut self, credential: Value) -> Result<Value, Value> {
        let device = json!({"hub": self.hub, "deviceId": "dev1"});
        self.ask("connect", &[&device, &credential]).await
    }

    /// Carries out what takes a transport.
    async fn ask(&mut self, operation: &str, members: &[&Value]) -> Result<Value, Value> {
        let mut request = json!({"do": operation, "transport": self.peer.transport()});
        for members in members {
            request.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        }
        self.client.ask(request).await
    }

    /// Twin, reported and desired properties, telemetry, direct method and message, once connected.
    async fn works(&mut self) {
        let Device { emulator, client, hub, .. } = self;
        let twin = client.ask(json!({"do": "start"})).await.unwrap();
        assert_eq!(twin["desired"], json!({"interval": 10, "$version": 1}), "{twin}");

        let patch = json!({"interval": 20, "parts": {"ü": [1, null]}});
        client.ask(json!({"do": "report", "patch": patch})).await.unwrap();
        let reported = &emulator.hub_device(hub, "dev1").unwrap()["twin"]["properties"]["reported"];
        assert_eq!((&reported["interval"], &reported["parts"]["ü"]), (&json!(20), &json!([1, null])));

        emulator.set_desired(hub, "dev1", json!({"interval": 30})).unwrap();
        let patch = client.ask(json!({"do": "desired"})).await.unwrap();
        assert_eq!(patch, json!({"interval": 30, "$version": 2}));

        let properties = json!({"a b": "c&d=ü", "alarm": ""});
        client.ask(json!({"do": "send", "body": "{\"t\":21}", "properties": properties})).await.unwrap();
        let telemetry = &emulator.telemetry(hub, "dev1")[0];
        assert_eq!(telemetry.body, b"{\"t\":21}");
        assert_eq!(telemetry.property("a b"), Some("c&d=ü"));
        assert_eq!(telemetry.property("alarm"), Some(""));
        assert_eq!(telemetry.system_property("content-type"), Some("application/json"));
        assert_eq!(telemetry.system_property("content-encoding"), Some("utf-8"));

        let payload = json!({"delay": 5, "why": "ü"});
        let call = MethodCall::new("echo").with_payload(payload.clone());
        let call = call.with_connect_timeout(Duration::from_secs(20));
        let answer = emulator.invoke_method(hub, "dev1", call).await.unwrap();
        assert_eq!((answer.status, answer.payload), (200, payload));

        let message = CloudMessage::new("hello").with_property("a b", "c&d");
        emulator.send_to_device(hub, "dev1", message).unwrap();
        let message = client.ask(json!({"do": "message"})).await.unwrap();
        assert_eq!(message, json!({"body": "hello", "properties": [["a b", "c&d"]]}));
    }
}
