//! Devices at their hubs on the management port. The requests are literal.

use azure_dps_tests::hub_device::*;
use azure_dps_tests::mqtt_device::MqttDevice;
use azure_dps_tests::site::{A, hubs};
use serde_json::json;

#[tokio::test]
async fn the_management_port_has_the_calls_of_the_library() {
    let site = assigned_with(hubs().manage_port(0)).await;
    let mut device = MqttDevice::at_hub(&site.peer.emulator).await;
    for filter in [DESIRED, METHODS, MESSAGES] {
        device.listen(filter, 0).await;
    }
    let ask = async |method: &str, verb: &str, body: &str| {
        site.peer.manage(method, &format!("/hubs/{A}/devices/dev1/{verb}"), body).await
    };

    device.publish_acknowledged(1, &format!("{EVENTS}%24.ct=a&b=c"), "{\"t\":1}").await;
    let (status, kept) = ask("GET", "telemetry", "").await;
    assert_eq!((status, &kept[0]["json"], &kept[0]["body"]), (200, &json!({"t": 1}), &json!("eyJ0IjoxfQ==")));
    assert_eq!(
        (&kept[0]["properties"], &kept[0]["systemProperties"]),
        (&json!({"b": "c"}), &json!({"content-type": "a"}))
    );
    let found = ask("POST", "telemetry", r#"{"after":0,"withinSeconds":9}"#).await;
    assert_eq!(found, (200, kept[0].clone()));
    assert_eq!(ask("POST", "telemetry", r#"{"after":1,"withinSeconds":0.01}"#).await.0, 504);
    device.publish_acknowledged(2, EVENTS, "2").await;
    let (_, both) = ask("GET", "telemetry?last=9", "").await;
    assert_eq!((both.as_array().unwrap().len(), &both[0]), (2, &kept[0]));
    assert_eq!(ask("GET", "telemetry?last=1", "").await, (200, json!([both[1]])));
    assert_eq!(ask("GET", "telemetry?last=0", "").await, (200, json!([])));

    assert_eq!(ask("PATCH", "desired", r#"{"led":1}"#).await, (200, json!({"version": 2})));
    assert_eq!(device.published().await.body, json!({"led": 1, "$version": 2}));

    assert_eq!(ask("POST", "messages", r#"{"body":"x","properties":{"a":"b"}}"#).await.0, 204);
    let message = device.published().await;
    assert!(message.topic.ends_with("&a=b") && message.payload == b"x", "{message:?}");

    let answer = async {
        let request = device.published().await;
        device.publish(0, 0, &request.topic.replace("POST/m/", "res/200/"), "2").await;
    };
    let (called, ()) = tokio::join!(ask("POST", "methods", r#"{"methodName":"m","payload":1}"#), answer);
    assert_eq!(called, (200, json!({"status": 200, "payload": 2})));

    assert_eq!(ask("POST", "disconnect", "").await, (200, json!({"wasConnected": true})));
    assert_eq!(device.hear().await, None);
    assert_eq!(ask("POST", "disconnect", "").await, (200, json!({"wasConnected": false})));
    assert_eq!(ask("POST", "methods", r#"{"methodName":"m"}"#).await.0, 409);
}

#[tokio::test]
async fn requests_that_cannot_be_carried_out_say_why() {
    let site = assigned_with(hubs().manage_port(0)).await;
    for (method, path, body, status, message) in [
        ("PATCH", "hub-a.example/devices/dev1/desired", "[]", 400, "the body is a JSON object"),
        ("PATCH", "hub-a.example/devices/dev1/desired", r#"{"a.b":1}"#, 400, "the twin cannot be written"),
        ("PATCH", "hub-a.example/devices/dev9/desired", "{}", 404, "device dev9 is not registered at hub"),
        ("PATCH", "elsewhere.example/devices/dev1/desired", "{}", 404, "hub elsewhere.example is not linked"),
        ("PUT", "hub-a.example/devices/dev1/desired", "{}", 405, "desired of a device does not know PUT"),
        ("GET", "hub-a.example/devices/dev1/else", "", 404, "a device has only telemetry, desired"),
        ("POST", "hub-a.example/devices/dev1/messages", r#"{"text":"x"}"#, 400, "a message has no text"),
        ("POST", "hub-a.example/devices/dev1/telemetry", "{}", 400, "withinSeconds is missing"),
    ] {
        let (found, answer) = site.peer.manage(method, &format!("/hubs/{path}"), body).await;
        assert_eq!(found, status, "{path}");
        assert!(answer["message"].as_str().unwrap().starts_with(message), "{answer}");
    }
}

#[tokio::test]
async fn faults_at_hubs_can_be_injected() {
    let site = assigned_with(hubs().manage_port(0)).await;
    let fault = r#"{"effect":"status","status":503,"operation":"hubConnect","registrationId":"dev1"}"#;

    assert_eq!(site.peer.manage("POST", "/faults", fault).await.0, 204);

    let mut device = MqttDevice::connect(&site.peer.emulator).await;
    assert_eq!(device.sign_in(&hub_connect()).await, 3);
    let (status, answer) =
        site.peer.manage("POST", "/faults", r#"{"effect":"stall","operation":"hub"}"#).await;
    assert_eq!(status, 400);
    assert!(
        answer["message"].as_str().unwrap().ends_with("hubConnect, hubTwin, hubTelemetry, hubService"),
        "{answer}"
    );
}
