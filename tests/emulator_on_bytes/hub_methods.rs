//! Direct methods at an emulated hub, called by the library and over the REST API. Literal topics and bodies.

use std::time::Duration;

use azure_dps_emulator::{HubCallError, MethodCall};
use azure_dps_tests::hub_device::*;
use azure_dps_tests::journal::{cause, last};
use azure_dps_tests::mqtt_device::MqttDevice;
use azure_dps_tests::site::A;
use serde_json::json;

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_device_answers_a_call_with_its_status_and_payload() {
    let site = assigned().await;
    let emulator = &site.peer.emulator;
    let mut device = MqttDevice::at_hub(emulator).await;
    device.listen(METHODS, 0).await;
    let call = MethodCall::new("reboot").with_payload(json!({"delay": 5}));

    let answer = async {
        let request = device.published().await;
        assert_eq!(request.topic, "$iothub/methods/POST/reboot/?$rid=1");
        assert_eq!(request.body, json!({"delay": 5}));
        device.publish(0, 0, "$iothub/methods/res/207/?$rid=1", "{\"ok\":true}").await;
    };
    let (called, ()) = tokio::join!(emulator.invoke_method(A, "dev1", call), answer);

    let called = called.unwrap();
    assert_eq!((called.status, called.payload), (207, json!({"ok": true})));
}

#[tokio::test]
async fn a_back_end_calls_over_the_rest_api() {
    let site = assigned().await;
    let mut device = MqttDevice::at_hub(&site.peer.emulator).await;
    device.listen(METHODS, 1).await;
    let call = json!({"methodName": "getMaxMinReport", "payload": null, "responseTimeoutInSeconds": 60});

    let answer = async {
        let request = device.published().await;
        device.acknowledge(&request).await;
        assert_eq!(request.topic, "$iothub/methods/POST/getMaxMinReport/?$rid=1");
        assert_eq!(request.payload, b"null");
        device.publish(1, 9, "$iothub/methods/res/200/?$rid=1", "").await;
    };
    let (reply, ()) = tokio::join!(site.write("POST", A, "/twins/dev1/methods", "", &call), answer);

    assert_eq!((reply.status, reply.body), (200, json!({"status": 200, "payload": null})));
    let entries = site.peer.emulator.journal();
    let entry = entries.iter().find(|entry| entry.target.starts_with("/twins/dev1/methods")).unwrap();
    assert_eq!((entry.status, entry.id.as_deref()), (200, Some("dev1")));
}

#[tokio::test]
async fn a_call_waits_for_the_device_to_listen() {
    let site = assigned().await;
    let emulator = &site.peer.emulator;
    let call = MethodCall::new("m").with_connect_timeout(LONG);

    let answer = async {
        let mut device = MqttDevice::at_hub(emulator).await;
        device.listen(METHODS, 0).await;
        let request = device.published().await;
        device.publish(0, 0, &request.topic.replace("POST/m/", "res/0/"), "1").await;
        // The answer is on its way while the connection is open.
        device.listen(TWIN_REPLIES, 0).await;
        device
    };
    let (called, _device) = tokio::join!(emulator.invoke_method(A, "dev1", call), answer);

    let called = called.unwrap();
    assert_eq!((called.status, called.payload), (0, json!(1)));
}

#[tokio::test]
async fn calls_that_no_device_answers_end_in_time() {
    let site = assigned().await;
    let emulator = &site.peer.emulator;
    let call = MethodCall::new("m");
    let offline = emulator.invoke_method(A, "dev1", call.clone()).await;
    assert_eq!(offline, Err(HubCallError::NotOnline(Duration::ZERO)));
    let short = Duration::from_millis(50);
    let waited = emulator.invoke_method(A, "dev1", call.clone().with_connect_timeout(short)).await;
    assert_eq!(waited, Err(HubCallError::NotOnline(short)));
    let over_rest = site.write("POST", A, "/twins/dev1/methods", "", &json!({"methodName": "m"})).await;
    assert_eq!((over_rest.status, over_rest.hub_error()), (404, "DeviceNotOnline"));
    assert!(
        cause(emulator).starts_with("the device is not connected with a subscription to"),
        "{}",
        cause(emulator)
    );

    let mut device = MqttDevice::at_hub(emulator).await;
    device.listen(METHODS, 0).await;
    let second = Duration::from_secs(1);
    let silent = emulator.invoke_method(A, "dev1", call.clone().with_response_timeout(second)).await;
    assert_eq!(silent, Err(HubCallError::NoAnswer(second)));
    assert_eq!(device.published().await.topic, "$iothub/methods/POST/m/?$rid=2");
    device.publish_acknowledged(1, "$iothub/methods/res/200/?$rid=2", "").await;
    let entry = last(emulator);
    assert_eq!(entry.status, 404, "too late");
    assert_eq!(entry.cause.as_deref(), Some("no call of a method with the request id 2 waits for an answer"));

    let deleted = async {
        device.published().await;
        emulator.delete_hub_device(A, "dev1");
    };
    let (called, ()) = tokio::join!(emulator.invoke_method(A, "dev1", call), deleted);
    assert!(matches!(called, Err(HubCallError::UnknownDevice { .. })), "{called:?}");
}

#[tokio::test]
async fn an_abandoned_call_makes_room() {
    let site = assigned().await;
    let emulator = &site.peer.emulator;
    let patient = MethodCall::new("m").with_connect_timeout(LONG);
    for _ in 0..40 {
        let call = emulator.invoke_method(A, "dev1", patient.clone());
        assert!(tokio::time::timeout(Duration::from_millis(1), call).await.is_err(), "it waits");
    }

    let calls: Vec<_> = (0..17).map(|_| emulator.invoke_method(A, "dev1", patient.clone())).collect();
    let calls = futures_util::future::select_all(calls.into_iter().map(Box::pin));
    let (first, _, rest) = tokio::time::timeout(LONG, calls).await.unwrap();

    assert_eq!(first, Err(HubCallError::TooManyCalls));
    assert_eq!(rest.len(), 16);
}

#[tokio::test]
async fn calls_that_cannot_be_made_are_refused() {
    let site = assigned().await;
    for (body, wanted) in [
        (json!({}), "methodName is not a string"),
        (json!({"methodName": "a/b"}), "the method name \"a/b\" must have 1 to 128 bytes"),
        (
            json!({"methodName": "m", "responseTimeoutInSeconds": 1}),
            "responseTimeoutInSeconds must be a whole",
        ),
        (json!({"methodName": "m", "payload": "x".repeat(131_072)}), "the payload has 131074 bytes"),
    ] {
        let reply = site.write("POST", A, "/twins/dev1/methods", "", &body).await;
        assert_eq!((reply.status, reply.hub_error()), (400, "ArgumentInvalid"), "{wanted}");
        assert!(reply.body["Message"].as_str().unwrap().contains(wanted), "{}", reply.body);
    }
    let reply = site.write("POST", A, "/twins/dev9/methods", "", &json!({"methodName": "m"})).await;
    assert_eq!((reply.status, reply.hub_error()), (404, "DeviceNotFound"));
}
