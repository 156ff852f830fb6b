//! The device API over HTTPS, from the first request to the assignment.

use azure_dps_emulator::Emulator;
use azure_dps_tests::emulated::Emulated;
use azure_dps_tests::soft_tpm::ENDORSEMENT_KEY;
use serde_json::{Value, json};

use crate::tokens::{
    DEV1, DEV1_SECONDARY, DEV1_WRONG_KEY, SENSOR, SENSOR_GROUP_KEY, SENSOR_SECONDARY, SENSOR_UPPER,
};

#[tokio::test]
async fn a_device_registers_and_polls_until_it_has_a_hub() {
    let peer = Emulated::with_one_poll().await;
    peer.enroll("dev1", json!({"deviceId": "line-3", "allocationPolicy": "static", "iotHubs": [HUB_2]}))
        .await;

    let register = peer.device("PUT", "dev1/register", DEV1, r#"{"registrationId":"dev1"}"#).await;

    assert_eq!(register.status, 202);
    let operation = register.body["operationId"].as_str().unwrap();
    assert_eq!(register.body, json!({"operationId": operation, "status": "assigning"}));
    assert_eq!(register.header("retry-after"), Some("0"));
    assert_eq!(register.header("content-type"), Some("application/json; charset=utf-8"));
    let register_url =
        format!("https://localhost:{}/0ne00EMU1A7/registrations/dev1/register", peer.emulator.https_port());
    assert_eq!(register.header("location"), Some(register_url.as_str()));

    let poll = peer.device("GET", &format!("dev1/operations/{operation}"), DEV1, "{}").await;

    assert_eq!(poll.status, 202);
    assert_eq!(poll.header("location"), Some(register_url.as_str()));
    assert_eq!(
        poll.body,
        json!({
            "operationId": operation, "status": "assigning",
            "registrationState": {"registrationId": "dev1", "status": "assigning"},
        })
    );

    let result = peer.device("GET", &format!("dev1/operations/{operation}"), DEV1, "{}").await;

    assert_eq!(result.status, 200);
    assert_eq!(result.header("retry-after"), None);
    assert_eq!(result.body["operationId"], operation);
    assert_eq!(result.body["status"], "assigned");
    let state = &result.body["registrationState"];
    assert_eq!(state["registrationId"], "dev1");
    assert_eq!(state["status"], "assigned");
    assert_eq!(state["substatus"], "initialAssignment");
    assert_eq!(state["assignedHub"], HUB_2);
    assert_eq!(state["deviceId"], "line-3");
    assert!(state.get("symmetricKey").is_none(), "{state}");
    let created = state["createdDateTimeUtc"].as_str().unwrap();
    assert!(created.len() <= "2026-01-01T00:00:00.0000000Z".len() && created.ends_with('Z'), "{created}");
    assert!(state["etag"].as_str().unwrap().starts_with("Ij"));
    assert!(state.get("payload").is_none());
}

#[tokio::test]
async fn a_device_may_use_either_key_and_any_body() {
    let peer = Emulated::with_one_poll().await;
    peer.enroll("dev1", json!({})).await;

    for token in [DEV1, DEV1_SECONDARY] {
        for body in ["", "{}", " ", r#"{"payload":null}"#, r#"{ "registrationId":"DEV1", "payload":"text" }"#]
        {
            let answer = peer.device("PUT", "dev1/register", token, body).await;
            assert_eq!(answer.status, 202, "{body} {}", answer.body);
        }
    }
}

#[tokio::test]
async fn a_group_lets_its_devices_in_by_derived_keys() {
    let peer = Emulated::with_one_poll().await;
    peer.enroll_group("plant", json!({})).await;

    for (id, token) in
        [("sensor-042", SENSOR), ("sensor-042", SENSOR_SECONDARY), ("SENSOR-042", SENSOR_UPPER)]
    {
        let state = peer.register_with(id, token, "{}").await;
        assert_eq!(state["status"], "assigned");
        assert_eq!(state["deviceId"], "sensor-042");
        assert!(state.get("symmetricKey").is_none(), "{state}");
    }
    for token in [SENSOR_GROUP_KEY, DEV1] {
        let id = if token == DEV1 { "dev1" } else { "sensor-042" };
        let answer = peer.device("PUT", &format!("{id}/register"), token, "{}").await;
        assert_eq!((answer.status, answer.code()), (401, 401_002));
    }
}

#[tokio::test]
async fn an_individual_enrollment_comes_before_every_group() {
    let peer = Emulated::with_one_poll().await;
    peer.enroll_group("plant", json!({})).await;
    let tpm = json!({"type": "tpm", "tpm": {"endorsementKey": ENDORSEMENT_KEY}});
    let tpm = json!({"registrationId": "sensor-042", "attestation": tpm}).to_string();
    assert_eq!(peer.service("PUT", "/enrollments/sensor-042", &tpm).await.status, 200);

    let blocked = peer.device("PUT", "sensor-042/register", SENSOR, "{}").await;

    assert_eq!((blocked.status, blocked.code()), (401, 401_002));
    assert_eq!(peer.service("DELETE", "/enrollments/sensor-042", "").await.status, 204);
    assert_eq!(peer.register_with("sensor-042", SENSOR, "{}").await["status"], "assigned");
}

#[tokio::test]
async fn a_disabled_enrollment_leaves_a_disabled_record() {
    let peer = Emulated::with_one_poll().await;
    peer.enroll("dev1", json!({"provisioningStatus": "disabled"})).await;
    peer.enroll_group("plant", json!({"provisioningStatus": "disabled"})).await;

    for (id, token, cause) in [
        ("dev1", DEV1, "enrollment dev1 is disabled"),
        ("sensor-042", SENSOR, "enrollment group plant is disabled"),
    ] {
        let state = peer.register_with(id, token, "{}").await;

        assert_eq!(state["status"], "disabled");
        assert!(state.get("assignedHub").is_none());
        assert_eq!(peer.emulator.journal().pop().unwrap().cause.as_deref(), Some(cause));
        let record = peer.service("GET", &format!("/registrations/{id}"), "").await;
        assert_eq!(record.body["status"], "disabled");
        assert!(record.body["etag"].is_string());
    }
}

#[tokio::test]
async fn a_payload_goes_in_and_another_one_comes_out() {
    let builder = Emulator::builder().polls(1).on_payload(|payload| Some(json!({"echo": payload})));
    let peer = Emulated::start(builder).await;
    peer.enroll("dev1", json!({})).await;

    for (body, payload) in [
        (
            r#"{"payload":{"modelId":"dtmi:x;1","list":[true,null,"ü"]}}"#,
            json!({"modelId": "dtmi:x;1", "list": [true, null, "ü"]}),
        ),
        (r#"{"payload":"{}"}"#, json!("{}")),
        (r#"{"payload":7}"#, json!(7)),
        ("", Value::Null),
    ] {
        assert_eq!(peer.register_with("dev1", DEV1, body).await["payload"], json!({"echo": payload}));
    }
    assert_eq!(peer.service("GET", "/registrations/dev1", "").await.body["payload"], json!({"echo": null}));
}

#[tokio::test]
async fn a_registration_can_be_looked_up_by_the_device() {
    let peer = Emulated::with_one_poll().await;
    peer.enroll("dev1", json!({})).await;

    let before = peer.device("POST", "dev1", DEV1, r#"{"registrationId":"dev1"}"#).await;
    assert_eq!((before.status, before.code()), (404, 404_201));
    let assigned = peer.register_with("dev1", DEV1, "{}").await;
    let after = peer.device("POST", "dev1", DEV1, "").await;
    assert_eq!((after.status, &after.body), (200, &assigned));
    let with_csr = peer.device("POST", "dev1", DEV1, r#"{"csr":"MIIB"}"#).await;
    assert_eq!((with_csr.status, with_csr.code()), (400, 400_000));
}

/// Whether the emulator's clock runs or is stopped.
#[tokio::test]
async fn a_device_that_waits_as_it_is_told_is_assigned_at_its_first_poll() {
    let peer = Emulated::start(Emulator::builder().retry_after(3_600)).await;
    peer.enroll("dev1", json!({})).await;
    for stands_still in [false, true] {
        if stands_still {
            peer.emulator.set_clock(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_900_000_000));
        }
        let register = peer.device("PUT", "dev1/register", DEV1, "{}").await;
        let path = format!("dev1/operations/{}", register.body["operationId"].as_str().unwrap());
        for _ in 0..3 {
            let early = peer.device("GET", &path, DEV1, "").await;
            assert_eq!((early.status, early.header("retry-after")), (202, Some("3600")));
        }
        peer.emulator.advance_clock(std::time::Duration::from_secs(3_600));
        let poll = peer.device("GET", &path, DEV1, "").await;
        assert_eq!((poll.status, &poll.body["status"]), (200, &json!("assigned")));
    }
}

#[tokio::test]
async fn a_device_that_need_not_wait_is_assigned_at_its_first_poll() {
    let peer = Emulated::start(Emulator::builder()).await;
    peer.enroll("dev1", json!({})).await;
    let register = peer.device("PUT", "dev1/register", DEV1, "{}").await;

    let path = format!("dev1/operations/{}", register.body["operationId"].as_str().unwrap());

    assert_eq!(peer.device("GET", &path, DEV1, "").await.status, 200);
}

#[tokio::test]
async fn an_operation_is_known_to_its_device_only() {
    let peer = Emulated::with_one_poll().await;
    peer.enroll("dev1", json!({})).await;
    peer.enroll_group("plant", json!({})).await;
    let register = peer.device("PUT", "dev1/register", DEV1, "{}").await;
    let operation = register.body["operationId"].as_str().unwrap();

    let other_device = peer.device("GET", &format!("sensor-042/operations/{operation}"), SENSOR, "").await;
    let other_operation = peer.device("GET", "dev1/operations/5.0.0", DEV1, "").await;
    let other_key = peer.device("GET", &format!("dev1/operations/{operation}"), DEV1_WRONG_KEY, "").await;

    assert_eq!((other_device.status, other_device.code()), (404, 404_203));
    assert_eq!((other_operation.status, other_operation.code()), (404, 404_203));
    assert_eq!((other_key.status, other_key.code()), (401, 401_002));
}

#[tokio::test]
async fn a_second_registration_follows_the_reprovision_policy() {
    for (policy, hub, substatus) in [
        (json!({"updateHubAssignment": true, "migrateDeviceData": true}), HUB_2, "deviceDataMigrated"),
        (json!({"updateHubAssignment": true, "migrateDeviceData": false}), HUB_2, "deviceDataReset"),
        (json!({"updateHubAssignment": false, "migrateDeviceData": false}), HUB_1, "initialAssignment"),
    ] {
        let peer = Emulated::with_one_poll().await;
        peer.enroll("dev1", json!({"allocationPolicy": "static", "iotHubs": [HUB_1]})).await;
        let first = peer.register_with("dev1", DEV1, "{}").await;
        assert_eq!(
            (&first["assignedHub"], &first["substatus"]),
            (&json!(HUB_1), &json!("initialAssignment"))
        );
        assert_eq!(peer.register_with("dev1", DEV1, "{}").await["substatus"], "initialAssignment");

        let moved = json!({
            "registrationId": "dev1", "attestation": {"type": "symmetricKey"},
            "allocationPolicy": "static", "iotHubs": [HUB_2], "reprovisionPolicy": policy,
        });
        assert_eq!(peer.service_if("PUT", "/enrollments/dev1", "*", &moved.to_string()).await.status, 200);
        let second = peer.register_with("dev1", DEV1, "{}").await;

        assert_eq!((&second["assignedHub"], &second["substatus"]), (&json!(hub), &json!(substatus)));
        assert_ne!(
            second["createdDateTimeUtc"], first["createdDateTimeUtc"],
            "each registration shows its own"
        );
        assert_ne!(second["etag"], first["etag"]);
    }
}

const HUB_1: &str = "emulator-hub-1.azure-devices.net";

const HUB_2: &str = "emulator-hub-2.azure-devices.net";
