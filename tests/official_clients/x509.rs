//! Registration with certificates, as the official device clients for Node (1.9.1) and Python (2.14.0, MQTT
//! only) do it.

use azure_dps_emulator::{Emulator, KeyedCertificate, Pki, RefuseAt};
use serde_json::{Value, json};

use crate::device_client::Peer;
use crate::official_node_device_client_1_9_1::enroll;
use crate::scenarios::scenarios;
use crate::stage::Stage;

scenarios! {
    {
        a_device_gets_in_by_its_own_certificate,
        a_device_of_a_group_gets_in_by_its_chain_of_two_intermediates,
        a_device_of_a_group_is_refused_without_its_intermediates,
        a_foreign_certificate_is_refused_at_connect,
    }
    node_1_9_1_https: Node("http") {}
    node_1_9_1_mqtt: Node("mqtt") {}
    node_1_9_1_mqtt_ws: Node("mqtt-ws") {}
    node_1_9_1_amqp: Node("amqp") {}
    node_1_9_1_amqp_ws: Node("amqp-ws") {}
    python_2_14_0_mqtt: Python("mqtt") {}
    python_2_14_0_mqtt_ws: Python("mqtt-ws") {}
}

async fn a_device_gets_in_by_its_own_certificate(peer: Peer) {
    let Some(stage) = Stage::start().await else { return };
    let device = Pki::new(["dev1"], 0).unwrap().devices.remove(0);
    let x509 = json!({"clientCertificates": {"primary": {"certificate": device.certificate_pem}}});
    enroll(&stage, json!({"registrationId": "dev1", "attestation": {"type": "x509", "x509": x509}})).await;

    let state = peer.device(&stage).await.register(credential(&device, &device.chain_pem)).await.unwrap();

    assert_eq!((&state["status"], &state["deviceId"]), (&json!("assigned"), &json!("dev1")));
}

async fn a_device_of_a_group_gets_in_by_its_chain_of_two_intermediates(peer: Peer) {
    let Some(stage) = Stage::start().await else { return };
    let device = plant(&stage).await.devices.remove(0);

    let state = peer.device(&stage).await.register(credential(&device, &device.chain_pem)).await.unwrap();

    assert_eq!((&state["status"], &state["deviceId"]), (&json!("assigned"), &json!("sensor-042")));
}

async fn a_device_of_a_group_is_refused_without_its_intermediates(peer: Peer) {
    let Some(stage) = Stage::start().await else { return };
    let pki = plant(&stage).await;
    let device = &pki.devices[0];

    let refused = peer.device(&stage).await.register(credential(device, &device.certificate_pem)).await;

    assert_refused(peer, &refused.unwrap_err());
    assert!(stage.cause().contains(&pki.intermediates[1].name), "{}", stage.cause());
}

async fn a_foreign_certificate_is_refused_at_connect(peer: Peer) {
    let Some(stage) = Stage::with(Emulator::builder().refuse_at(RefuseAt::Connect)).await else { return };
    let pki = plant(&stage).await;

    let refused = peer.device(&stage).await.register(credential(&pki.foreign, &pki.foreign.chain_pem)).await;

    assert_refused(peer, &refused.unwrap_err());
}

/// A group by a root, two intermediates below it, and one device below those.
async fn plant(stage: &Stage) -> Pki {
    let pki = Pki::new(["sensor-042"], 2).unwrap();
    let x509 = json!({"signingCertificates": {"primary": {"certificate": pki.root.certificate_pem}}});
    enroll(stage, json!({"enrollmentGroupId": "plant", "attestation": {"type": "x509", "x509": x509}})).await;
    pki
}

fn credential(of: &KeyedCertificate, chain: &str) -> Value {
    json!({"registrationId": of.name, "chain": chain, "privateKey": of.private_key_pem})
}

/// Each client names the refusal in its own way, and the Python client in one of the errors that led to its own.
fn assert_refused(peer: Peer, error: &Value) {
    let text = error.to_string();
    let named = match peer {
        Peer::Node("amqp" | "amqp-ws") => ["amqp:unauthorized-access"; 2],
        Peer::Node(_) => ["UnauthorizedError", "Not authorized"],
        Peer::Python(_) => ["CredentialError", "status code 401"],
    };
    assert!(named.iter().any(|name| text.contains(name)), "{text}");
}
