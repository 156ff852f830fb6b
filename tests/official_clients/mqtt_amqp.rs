//! Registration over MQTT and AMQP with symmetric keys, as the official device clients for Node (1.9.1) and Python
//! (2.14.0, MQTT only) do it.

use azure_dps_emulator::{Emulator, RefuseAt};
use serde_json::json;

use crate::device_client::Peer;
use crate::official_node_device_client_1_9_1::{KEY, OTHER_KEY, enroll, keys};
use crate::scenarios::scenarios;
use crate::stage::Stage;

scenarios! {
    {
        a_device_polls_until_it_has_a_hub,
        a_device_of_a_group_gets_in_by_its_derived_key,
        a_payload_goes_in_and_another_one_comes_back,
        a_wrong_key_is_refused_at_register,
        a_wrong_key_is_refused_at_connect,
    }
    node_1_9_1_mqtt: Node("mqtt") {}
    node_1_9_1_mqtt_ws: Node("mqtt-ws") {}
    node_1_9_1_amqp: Node("amqp") {}
    node_1_9_1_amqp_ws: Node("amqp-ws") {}
    python_2_14_0_mqtt: Python("mqtt") {}
    python_2_14_0_mqtt_ws: Python("mqtt-ws") {}
}

async fn a_device_polls_until_it_has_a_hub(peer: Peer) {
    let Some(stage) = Stage::with(Emulator::builder().polls(1)).await else { return };
    enroll(&stage, json!({"registrationId": "dev1", "attestation": keys(), "deviceId": "line-3"})).await;

    let state =
        peer.device(&stage).await.register(json!({"registrationId": "dev1", "key": KEY})).await.unwrap();

    assert_eq!((&state["status"], &state["deviceId"]), (&json!("assigned"), &json!("line-3")));
    assert!(stage.emulator().hubs().iter().any(|hub| state["assignedHub"] == hub.as_str()), "{state}");
    let asked = |status| (peer.word(), status);
    assert_eq!(stage.requests("iotdps-register"), [asked(202)]);
    assert_eq!(stage.requests("iotdps-get-operationstatus"), [asked(202), asked(200)]);
}

async fn a_device_of_a_group_gets_in_by_its_derived_key(peer: Peer) {
    let Some(stage) = Stage::start().await else { return };
    enroll(&stage, json!({"enrollmentGroupId": "plant", "attestation": keys()})).await;
    let credential = json!({"registrationId": "sensor-042", "groupKey": KEY});

    let state = peer.device(&stage).await.register(credential).await.unwrap();

    assert_eq!((&state["status"], &state["deviceId"]), (&json!("assigned"), &json!("sensor-042")));
}

async fn a_payload_goes_in_and_another_one_comes_back(peer: Peer) {
    let echo = Emulator::builder().on_payload(|payload| Some(json!({"echo": payload})));
    let Some(stage) = Stage::with(echo).await else { return };
    enroll(&stage, json!({"registrationId": "dev1", "attestation": keys()})).await;
    let payload = json!({"modelId": "dtmi:x;1", "list": [true, null, 7]});

    let request = json!({"registrationId": "dev1", "key": KEY, "payload": payload});
    let state = peer.device(&stage).await.register(request).await.unwrap();

    assert_eq!(state["payload"], json!({"echo": payload}));
}

async fn a_wrong_key_is_refused_at_register(peer: Peer) {
    let Some(stage) = Stage::start().await else { return };
    refused(peer, &stage).await;
    assert_eq!(stage.requests("iotdps-register"), [(peer.word(), 401)]);
}

async fn a_wrong_key_is_refused_at_connect(peer: Peer) {
    let Some(stage) = Stage::with(Emulator::builder().refuse_at(RefuseAt::Connect)).await else { return };
    refused(peer, &stage).await;
    assert!(stage.requests("iotdps-register").is_empty());
}

async fn refused(peer: Peer, stage: &Stage) {
    enroll(stage, json!({"registrationId": "dev1", "attestation": keys()})).await;
    let wrong = json!({"registrationId": "dev1", "key": OTHER_KEY});

    let error = peer.device(stage).await.register(wrong).await.unwrap_err();

    let text = error.to_string();
    // Each client names the refusal in its own way, and the Python client in one of the errors that led to its own.
    let named = match peer {
        // Of a refused SASL exchange, the client reports only that it is not connected.
        Peer::Node("amqp" | "amqp-ws") => ["amqp:unauthorized-access", "NotConnectedError"],
        Peer::Node(_) => ["UnauthorizedError", "Not authorized"],
        Peer::Python(_) => ["CredentialError", "status code 401"],
    };
    assert!(named.iter().any(|name| text.contains(name)), "{text}");
    assert_eq!(
        stage.cause(),
        "signature matches neither the primary nor the secondary key of enrollment dev1"
    );
}
