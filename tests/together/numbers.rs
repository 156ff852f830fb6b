//! Numbers keep their digits: in a payload on its way to the webhook and back, over every transport, and in the
//! initial twin that the webhook gives.

use azure_dps_core::models::{AttestationMechanism, CustomAllocationDefinition, IndividualEnrollment};
use azure_dps_emulator::Emulator;
use azure_dps_tests::plant::{Over, Plant, Protocol, key, keys};
use azure_dps_tests::webhook::{Act, Webhook};
use serde_json::{Value, json};

const HUB: &str = "hub.example";

/// Numbers that readers without correct rounding change, in the last digit or entirely.
fn numbers() -> Value {
    json!([
        0.1,
        1e-7,
        123_456_789.123_456_79,
        5e-324,
        1.797_693_134_862_315_7e308,
        9_007_199_254_740_993_u64,
        14.646_918_791_571_295,
        -0.000_030_517_578_125_1,
    ])
}

async fn stay_as_they_are(over: Over) {
    let answer = json!({
        "iotHubHostName": HUB,
        "payload": { "returned": numbers() },
        "initialTwin": { "tags": { "n": numbers() }, "properties": { "desired": { "n": numbers() } } },
    });
    let hook = Webhook::start(move |_| Act::Answer(200, answer.clone())).await;
    let plant = Plant::with(over, Emulator::builder().hub(HUB)).await;
    let definition = CustomAllocationDefinition::new(format!("http://{}/pick", hook.address));
    let enrollment = IndividualEnrollment::new("dev1", AttestationMechanism::symmetric_key_generated())
        .with_custom_allocation(definition);
    let created = plant.service.enrollments().create_or_update(&enrollment).await.unwrap();
    let device = plant.device(key("dev1", &keys(&created.attestation).0));

    let assignment = device.register().payload(json!({ "sent": numbers() })).await.unwrap();

    assert_eq!(hook.asked()[0].body["deviceRuntimeContext"]["payload"], json!({ "sent": numbers() }));
    assert_eq!(assignment.payload(), Some(&json!({ "returned": numbers() })));
    let twin = &plant.emulator.hub_device(HUB, "dev1").unwrap()["twin"];
    assert_eq!(twin["tags"]["n"], numbers());
    assert_eq!(twin["properties"]["desired"]["n"], numbers());
}

macro_rules! over {
    ($($name:ident $protocol:ident),* $(,)?) => {
        $(#[tokio::test] async fn $name() { stay_as_they_are(Over::directly(Protocol::$protocol)).await })*
    };
}

over! {
    numbers_keep_their_digits_over_https Https,
    numbers_keep_their_digits_over_mqtt Mqtt,
    numbers_keep_their_digits_over_mqtt_on_websockets MqttWs,
    numbers_keep_their_digits_over_amqp Amqp,
    numbers_keep_their_digits_over_amqp_on_websockets AmqpWs,
}
