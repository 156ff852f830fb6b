//! Registration over HTTPS with symmetric keys, as `azure-iot-provisioning-device` 1.9.1 does it.

use azure_dps_emulator::Emulator;
use serde_json::{Value, json};

use crate::service_client::{GROUP, INDIVIDUAL, Peer};
use crate::stage::Stage;

#[tokio::test]
async fn a_device_polls_until_it_has_a_hub() {
    let Some(stage) = Stage::with(Emulator::builder().polls(1)).await else { return };
    enroll(&stage, json!({"registrationId": "dev1", "attestation": keys(), "deviceId": "line-3"})).await;

    let state = stage.device().await.register(json!({"registrationId": "dev1", "key": KEY})).await.unwrap();

    assert_eq!(state["status"], "assigned");
    assert_eq!(state["substatus"], "initialAssignment");
    assert_eq!(state["registrationId"], "dev1");
    assert_eq!(state["deviceId"], "line-3");
    assert!(stage.emulator().hubs().iter().any(|hub| state["assignedHub"] == hub.as_str()), "{state}");
    assert_eq!(stage.requests("/dev1/register"), [("PUT".to_owned(), 202)]);
    assert_eq!(stage.requests("/dev1/operations/"), [("GET".to_owned(), 202), ("GET".to_owned(), 200)]);
}

#[tokio::test]
async fn a_device_that_comes_back_keeps_its_hub() {
    let Some(stage) = Stage::start().await else { return };
    enroll(&stage, json!({"registrationId": "dev1", "attestation": keys()})).await;
    let mut device = stage.device().await;
    let credential = json!({"registrationId": "dev1", "key": KEY});

    let first = device.register(credential.clone()).await.unwrap();
    let second = device.register(credential).await.unwrap();

    assert_eq!(second["assignedHub"], first["assignedHub"]);
    assert_ne!(second["createdDateTimeUtc"], first["createdDateTimeUtc"]);
}

#[tokio::test]
async fn a_device_of_a_group_gets_in_by_its_derived_key() {
    let Some(stage) = Stage::start().await else { return };
    enroll(&stage, json!({"enrollmentGroupId": "plant", "attestation": keys()})).await;
    let credential = json!({"registrationId": "sensor-042", "groupKey": KEY});

    let state = stage.device().await.register(credential).await.unwrap();

    assert_eq!(state["status"], "assigned");
    assert_eq!(state["deviceId"], "sensor-042");
    assert!(state.get("symmetricKey").is_none(), "{state}");
}

#[tokio::test]
async fn a_payload_goes_in_and_another_one_comes_back() {
    let echo = Emulator::builder().on_payload(|payload| Some(json!({"echo": payload})));
    let Some(stage) = Stage::with(echo).await else { return };
    enroll(&stage, json!({"registrationId": "dev1", "attestation": keys()})).await;
    let mut device = stage.device().await;

    for payload in [json!({"modelId": "dtmi:x;1", "list": [true, null, "ü"]}), json!("text"), json!(7)] {
        let request = json!({"registrationId": "dev1", "key": KEY, "payload": payload});
        let state = device.register(request).await.unwrap();
        assert_eq!(state["payload"], json!({"echo": payload}));
    }
}

#[tokio::test]
async fn a_wrong_key_is_refused() {
    let Some(stage) = Stage::start().await else { return };
    enroll(&stage, json!({"registrationId": "dev1", "attestation": keys()})).await;

    let error =
        stage.device().await.register(json!({"registrationId": "dev1", "key": OTHER_KEY})).await.unwrap_err();

    assert_eq!(error["name"], "UnauthorizedError");
    assert_eq!(error["status"], 401);
    assert_eq!(error["body"]["errorCode"], 401_002);
    assert_eq!(
        stage.cause(),
        "signature matches neither the primary nor the secondary key of enrollment dev1"
    );
}

#[tokio::test]
async fn a_group_key_itself_is_refused() {
    let Some(stage) = Stage::start().await else { return };
    enroll(&stage, json!({"enrollmentGroupId": "plant", "attestation": keys()})).await;
    let credential = json!({"registrationId": "sensor-042", "key": KEY});

    let error = stage.device().await.register(credential).await.unwrap_err();

    assert_eq!(error["name"], "UnauthorizedError");
    let cause = stage.cause();
    assert!(cause.contains("the signature does not match a key derived from a group"), "{cause}");
}

#[tokio::test]
async fn a_device_without_an_enrollment_is_not_found() {
    let Some(stage) = Stage::start().await else { return };

    let error =
        stage.device().await.register(json!({"registrationId": "dev1", "key": KEY})).await.unwrap_err();

    assert_eq!(error["message"], "Not found");
    assert_eq!(error["status"], 404);
    assert_eq!(error["body"]["errorCode"], 404_201);
}

#[tokio::test]
async fn a_disabled_enrollment_ends_in_a_status_that_the_client_does_not_know() {
    let Some(stage) = Stage::start().await else { return };
    enroll(
        &stage,
        json!({"registrationId": "dev1", "attestation": keys(), "provisioningStatus": "disabled"}),
    )
    .await;

    let error =
        stage.device().await.register(json!({"registrationId": "dev1", "key": KEY})).await.unwrap_err();

    assert_eq!((&error["name"], &error["message"]), (&json!("SyntaxError"), &json!("status is disabled")));
    assert_eq!(error["result"]["status"], "disabled");
    assert_eq!(error["result"]["registrationState"]["status"], "disabled");
    assert_eq!(stage.cause(), "enrollment dev1 is disabled");
}

/// Creates an enrollment or a group with the official service client for Node.
pub(crate) async fn enroll(stage: &Stage, record: Value) {
    let kind = if record.get("enrollmentGroupId").is_some() { GROUP } else { INDIVIDUAL };
    Peer::Node.service(stage).await.put(kind, record).await.unwrap();
}

pub(crate) fn keys() -> Value {
    json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": KEY, "secondaryKey": SECOND_KEY}})
}

pub(crate) const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const SECOND_KEY: &str = "YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODk=";
pub(crate) const OTHER_KEY: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";
