//! The emulator judged over the wire: literal requests, literal tokens, and nothing of the SDK.
//!
//! The tokens were signed by another program. They end in the year 2100, except those that are meant to be too old.

// Clippy allows these in test functions only, and the helpers below are test code too.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use azure_dps_emulator::{AccessPolicy, Emulator, Fault, Operation};
use azure_dps_tests::soft_tpm::ENDORSEMENT_KEY;
use azure_dps_tests::{recorded, trusting};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SERVICE: &str = "SharedAccessSignature sr=localhost&sig=fKT4xk%2BZLj1uxZzFcfAmLftBywuB9Y7c9SWGxupnvrE%3D&skn=provisioningserviceowner&se=4102444800";
const SERVICE_WITH_SCHEME_AND_PORT: &str = "SharedAccessSignature sr=https%3a%2f%2flocalhost%3a8443&sig=jlGefN%2BhbYSSuj4lIve1MQX5pOeI7Q6PzYKai7uJYmA%3D&se=4102444800&skn=provisioningserviceowner";
const SERVICE_WRONG_KEY: &str = "SharedAccessSignature sr=localhost&sig=S2Xf%2F8aiTC1TDrNqo5k1%2BaBcwvazVKYmnJv6NWiGedI%3D&se=4102444800&skn=provisioningserviceowner";
const SERVICE_EXPIRED: &str = "SharedAccessSignature sr=localhost&sig=plTOhR6eSi%2FXsOHUPW2AeenEsxd3vyot6W1wK18Gg3g%3D&se=1767225600&skn=provisioningserviceowner";
const SERVICE_ELSEWHERE: &str = "SharedAccessSignature sr=contoso.azure-devices-provisioning.net&sig=zH97wq8Ixes8nIUhW1LBBU2kEKV2Q6Reo5epiG4FOyE%3D&se=4102444800&skn=provisioningserviceowner";

/// dev1 with `PRIMARY`, in the style of the Node client.
const DEV1: &str = "SharedAccessSignature sr=0ne00EMU1A7/registrations/dev1&sig=Eha5Nv0%2BAsNWUBJWm8pu8XmoeaRF%2FOwq0N1%2BJ%2BEhB6k%3D&skn=registration&se=4102444800";
/// dev1 with `SECONDARY`, encoded in lower case and without a policy.
const DEV1_SECONDARY: &str = "SharedAccessSignature sr=0ne00EMU1A7%2fregistrations%2fdev1&sig=PlXAUpftK3cdo6C7RH9YYJolsZtsK1tGsZGfYQaoyUU%3D&se=4102444800";
const DEV1_WRONG_KEY: &str = "SharedAccessSignature sr=0ne00EMU1A7/registrations/dev1&sig=Y56WKKYjKujgpjttknh1mYAklgi%2Bv1ffS0fHK%2BbcGDs%3D&se=4102444800&skn=registration";
const DEV1_EXPIRED: &str = "SharedAccessSignature sr=0ne00EMU1A7/registrations/dev1&sig=Hwku5jSKYzCM%2FgF9q6mmTqm2SCFfszuWlm4YhSJ7Wf4%3D&se=1767225600&skn=registration";
/// sensor-042 with the key derived from `PRIMARY`, from `SECONDARY`, and with `PRIMARY` itself.
const SENSOR: &str = "SharedAccessSignature sr=0ne00EMU1A7%2Fregistrations%2Fsensor-042&sig=IcJC7HuQ7YbgrywaQH%2FwUTvwZlvXuUuUBsORFkDalWs%3D&se=4102444800&skn=registration";
const SENSOR_SECONDARY: &str = "SharedAccessSignature sr=0ne00EMU1A7%2Fregistrations%2Fsensor-042&sig=nAdyNAllIlWNSgBHWGQxdTLX%2F%2BFAcdLACVWaGwWT2dI%3D&se=4102444800&skn=";
const SENSOR_GROUP_KEY: &str = "SharedAccessSignature sr=0ne00EMU1A7%2Fregistrations%2Fsensor-042&sig=tXQG40BeG%2FyDyKXLmOpdvYtiALmv0eVygV%2FrbWw8ypA%3D&se=4102444800&skn=registration";
/// SENSOR-042 with the key derived from `PRIMARY` and the lower-case id.
const SENSOR_UPPER: &str = "SharedAccessSignature sr=0ne00EMU1A7%2Fregistrations%2FSENSOR-042&sig=m%2BcueNRnvfnm0FD8ER%2BT1U8q8lqmtcqfe%2BEzpGOiQo8%3D&se=4102444800&skn=registration";

const PRIMARY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const SECONDARY: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";

#[tokio::test]
async fn a_device_registers_and_polls_until_it_has_a_hub() {
    let peer = Peer::start().await;
    peer.enroll("dev1", json!({"deviceId": "line-3", "allocationPolicy": "static", "iotHubs": [HUB_2]}))
        .await;

    let register = peer.device("PUT", "dev1/register", DEV1, r#"{"registrationId":"dev1"}"#).await;

    assert_eq!(register.status, 202);
    let operation = register.body["operationId"].as_str().unwrap();
    assert_eq!(register.body, json!({"operationId": operation, "status": "assigning"}));
    assert_eq!(register.header("retry-after"), Some("0"));
    assert_eq!(register.header("content-type"), Some("application/json; charset=utf-8"));
    let register_url = peer.url("/0ne00EMU1A7/registrations/dev1/register");
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
    let peer = Peer::start().await;
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
async fn a_refused_device_learns_little_and_the_journal_everything() {
    let peer = Peer::start().await;
    peer.enroll("dev1", json!({})).await;
    let register = |path, token| peer.device("PUT", path, token, "{}");

    for (path, token, status, code, cause) in [
        (
            "dev1/register",
            DEV1_WRONG_KEY,
            401,
            401_002,
            "neither the primary nor the secondary key of enrollment dev1",
        ),
        ("dev1/register", DEV1_EXPIRED, 401, 401_000, "the token expired "),
        ("dev2/register", DEV1, 401, 401_000, "SAS audience is for another registration id: dev1"),
        ("dev1/register", SERVICE, 401, 401_000, "SAS audience is not 0ne00EMU1A7/registrations/dev1"),
        ("dev1/register", "Bearer abc", 401, 401_000, "not a SharedAccessSignature"),
        ("dev1/register", "", 401, 401_000, "there is no token, and no client certificate"),
        (
            "sensor-042/register",
            SENSOR,
            404,
            404_201,
            "sensor-042 has no individual enrollment, and no group",
        ),
    ] {
        let answer = register(path, token).await;

        assert_eq!((answer.status, answer.code()), (status, code), "{cause}");
        let entry = peer.emulator.journal().pop().unwrap();
        assert!(entry.cause.as_ref().unwrap().contains(cause), "{entry}");
        assert_eq!(entry.error_code, Some(code));
        assert!(!answer.body["message"].as_str().unwrap().contains("key of"), "{}", answer.body);
    }
}

#[tokio::test]
async fn an_error_has_four_members_and_two_headers() {
    let peer = Peer::start().await;

    let answer = peer.service("GET", "/enrollments/none", "").await;

    assert_eq!(answer.status, 404);
    let body = answer.body.as_object().unwrap();
    assert_eq!(body.keys().collect::<Vec<_>>(), ["errorCode", "message", "timestampUtc", "trackingId"]);
    assert_eq!(body["errorCode"], 404_201);
    assert_eq!(answer.header("x-ms-error-code"), Some("404201"));
    assert_eq!(answer.header("x-ms-request-id"), body["trackingId"].as_str());
}

#[tokio::test]
async fn an_unknown_id_scope_is_not_found() {
    let peer = Peer::start().await;

    let answer =
        peer.send("PUT", "/0ne00OTHER/registrations/dev1/register?api-version=2019-03-31", DEV1, "{}").await;

    assert_eq!((answer.status, answer.code()), (404, 404_001));
}

#[tokio::test]
async fn a_group_lets_its_devices_in_by_derived_keys() {
    let peer = Peer::start().await;
    peer.enroll_group("plant", json!({})).await;

    for (id, token) in
        [("sensor-042", SENSOR), ("sensor-042", SENSOR_SECONDARY), ("SENSOR-042", SENSOR_UPPER)]
    {
        let state = peer.register(id, token, "{}").await;
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
    let peer = Peer::start().await;
    peer.enroll_group("plant", json!({})).await;
    let tpm = json!({"type": "tpm", "tpm": {"endorsementKey": ENDORSEMENT_KEY}});
    let tpm = json!({"registrationId": "sensor-042", "attestation": tpm}).to_string();
    assert_eq!(peer.service("PUT", "/enrollments/sensor-042", &tpm).await.status, 200);

    let blocked = peer.device("PUT", "sensor-042/register", SENSOR, "{}").await;

    assert_eq!((blocked.status, blocked.code()), (401, 401_002));
    assert_eq!(peer.service("DELETE", "/enrollments/sensor-042", "").await.status, 204);
    assert_eq!(peer.register("sensor-042", SENSOR, "{}").await["status"], "assigned");
}

#[tokio::test]
async fn a_disabled_enrollment_leaves_a_disabled_record() {
    let peer = Peer::start().await;
    peer.enroll("dev1", json!({"provisioningStatus": "disabled"})).await;
    peer.enroll_group("plant", json!({"provisioningStatus": "disabled"})).await;

    for (id, token, cause) in [
        ("dev1", DEV1, "enrollment dev1 is disabled"),
        ("sensor-042", SENSOR, "enrollment group plant is disabled"),
    ] {
        let state = peer.register(id, token, "{}").await;

        assert_eq!(state["status"], "disabled");
        assert!(state.get("assignedHub").is_none());
        assert_eq!(peer.emulator.journal().pop().unwrap().cause.as_deref(), Some(cause));
        let record = peer.service("GET", &format!("/registrations/{id}"), "").await;
        assert_eq!(record.body["status"], "disabled");
        assert!(record.body["etag"].is_string());
    }
}

#[tokio::test]
async fn custom_allocation_is_stored_as_it_is_given() {
    let peer = Peer::start().await;
    let webhook = json!({"webhookUrl": "https://alloc.example/pick?code=1", "apiVersion": "2021-10-01"});
    peer.enroll("dev1", json!({"allocationPolicy": "custom", "customAllocationDefinition": webhook})).await;

    let told = peer.service("GET", "/enrollments/dev1", "").await.body;

    assert_eq!(told["customAllocationDefinition"], webhook);
}

#[tokio::test]
async fn a_payload_goes_in_and_another_one_comes_out() {
    let emulator = Emulator::builder()
        .polls(1)
        .on_payload(|payload| Some(json!({"echo": payload})))
        .start()
        .await
        .unwrap();
    let peer = Peer::of(emulator);
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
        assert_eq!(peer.register("dev1", DEV1, body).await["payload"], json!({"echo": payload}));
    }
    assert_eq!(peer.service("GET", "/registrations/dev1", "").await.body["payload"], json!({"echo": null}));
}

#[tokio::test]
async fn a_registration_can_be_looked_up_by_the_device() {
    let peer = Peer::start().await;
    peer.enroll("dev1", json!({})).await;

    let before = peer.device("POST", "dev1", DEV1, r#"{"registrationId":"dev1"}"#).await;
    assert_eq!((before.status, before.code()), (404, 404_201));
    let assigned = peer.register("dev1", DEV1, "{}").await;
    let after = peer.device("POST", "dev1", DEV1, "").await;
    assert_eq!((after.status, &after.body), (200, &assigned));
    let with_csr = peer.device("POST", "dev1", DEV1, r#"{"csr":"MIIB"}"#).await;
    assert_eq!((with_csr.status, with_csr.code()), (400, 400_000));
}

#[tokio::test]
async fn a_register_body_must_fit() {
    let peer = Peer::start().await;
    peer.enroll("dev1", json!({})).await;

    for (body, message) in [
        (r#"{"registrationId":"dev2"}"#, "registrationId is not the id in the path"),
        (r#"{"registrationID":"dev1"}"#, "no api-version knows registrationID"),
        (r#"{"tpm":{"ek":"a"}}"#, "no api-version knows tpm.ek"),
    ] {
        let answer = peer.device("PUT", "dev1/register", DEV1, body).await;
        assert_eq!((answer.status, answer.code()), (400, 400_000));
        assert_eq!(answer.body["message"], message);
    }
}

#[tokio::test]
async fn a_body_that_is_no_registration_is_refused_in_one_word_and_the_journal_says_why() {
    let peer = Peer::start().await;
    peer.enroll("dev1", json!({})).await;

    for (body, cause) in [
        ("{", "the body is not JSON: EOF while parsing an object at line 1 column 1"),
        (r#"{"registrationId":"dev1","payload":"{ "a": 1 }"}"#, "the body is not JSON: expected `,` or `}`"),
        (r#"{'registrationId':'dev1'}"#, "the body is not JSON: key must be a string at line 1 column 2"),
        (r#"{payload:{"a":1}}"#, "the body is not JSON: key must be a string at line 1 column 2"),
        (r#"{"payload":NaN}"#, "the body is not JSON: expected value"),
        (r#"{"payload":1}]"#, "the body is not JSON: trailing characters"),
        ("\u{feff}{}", "the body is not JSON: it begins with a byte order mark"),
        ("[]", "the body is not a JSON object"),
        ("\"{}\"", "the body is not a JSON object"),
        ("null", "the body is not a JSON object"),
        (r#"{"registrationId":7}"#, "registrationId must be a string"),
        (r#"{"tpm":"EK"}"#, "tpm must be an object"),
    ] {
        for (method, path) in [("PUT", "dev1/register"), ("POST", "dev1")] {
            let answer = peer.device(method, path, DEV1, body).await;
            assert_eq!((answer.status, answer.code()), (400, 400_012), "{body}");
            assert_eq!(answer.body["message"], "Deserialization error.");
            assert!(answer.body.get("info").is_none(), "{}", answer.body);
            let told = peer.emulator.journal().pop().unwrap().cause.unwrap();
            assert!(told.starts_with(cause), "{body}: {told}");
        }
    }
}

#[tokio::test]
async fn a_fault_answers_as_the_service_does_when_a_device_registers_several_times_at_once() {
    let peer = Peer::start().await;
    peer.enroll("dev1", json!({})).await;
    peer.emulator.inject(Fault::status(409).on(Operation::Register)).unwrap();

    let answer = peer.device("PUT", "dev1/register", DEV1, "{}").await;

    assert_eq!((answer.status, answer.code()), (409, 409_203));
    assert_eq!(answer.body["message"], "Precondition failed.");
    assert_eq!(peer.register("dev1", DEV1, "{}").await["status"], "assigned");
}

/// Whether the emulator's clock goes or stands still.
#[tokio::test]
async fn a_device_that_waits_as_it_is_told_is_assigned_at_its_first_poll() {
    let peer = Peer::of(Emulator::builder().retry_after(3_600).start().await.unwrap());
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
    let peer = Peer::of(Emulator::start().await.unwrap());
    peer.enroll("dev1", json!({})).await;
    let register = peer.device("PUT", "dev1/register", DEV1, "{}").await;

    let path = format!("dev1/operations/{}", register.body["operationId"].as_str().unwrap());

    assert_eq!(peer.device("GET", &path, DEV1, "").await.status, 200);
}

#[tokio::test]
async fn an_operation_is_known_to_its_device_only() {
    let peer = Peer::start().await;
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
        let peer = Peer::start().await;
        peer.enroll("dev1", json!({"allocationPolicy": "static", "iotHubs": [HUB_1]})).await;
        let first = peer.register("dev1", DEV1, "{}").await;
        assert_eq!(
            (&first["assignedHub"], &first["substatus"]),
            (&json!(HUB_1), &json!("initialAssignment"))
        );
        assert_eq!(peer.register("dev1", DEV1, "{}").await["substatus"], "initialAssignment");

        let moved = json!({
            "registrationId": "dev1", "attestation": {"type": "symmetricKey"},
            "allocationPolicy": "static", "iotHubs": [HUB_2], "reprovisionPolicy": policy,
        });
        assert_eq!(peer.service_if("PUT", "/enrollments/dev1", "*", &moved.to_string()).await.status, 200);
        let second = peer.register("dev1", DEV1, "{}").await;

        assert_eq!((&second["assignedHub"], &second["substatus"]), (&json!(hub), &json!(substatus)));
        assert_ne!(
            second["createdDateTimeUtc"], first["createdDateTimeUtc"],
            "each registration tells its own"
        );
        assert_ne!(second["etag"], first["etag"]);
    }
}

#[tokio::test]
async fn an_enrollment_is_created_with_keys_and_defaults() {
    let peer = Peer::start().await;

    let created = peer
        .service(
            "PUT",
            "/enrollments/Sensor-1",
            r#"{"registrationId":"Sensor-1","attestation":{"type":"symmetricKey"}}"#,
        )
        .await;

    assert_eq!(created.status, 200, "{}", created.body);
    assert_eq!(created.header("etag"), None);
    assert!(recorded::is_tag(created.body["etag"].as_str().unwrap()), "{}", created.body);
    assert_eq!(created.body["registrationId"], "Sensor-1");
    assert_eq!(created.body["provisioningStatus"], "enabled");
    for absent in ["capabilities", "reprovisionPolicy", "allocationPolicy", "registrationState"] {
        assert_eq!(created.body.get(absent), None, "{absent}");
    }
    assert_eq!(created.body["createdDateTimeUtc"], created.body["lastUpdatedDateTimeUtc"]);
    let keys = &created.body["attestation"]["symmetricKey"];
    assert_eq!(keys["primaryKey"].as_str().unwrap().len(), 44);
    assert_ne!(keys["primaryKey"], keys["secondaryKey"]);

    let read = peer.service("GET", "/enrollments/SENSOR-1/", "").await;
    assert_eq!(read.body["attestation"], json!({"type": "symmetricKey"}));
    assert_eq!(read.body["registrationId"], "Sensor-1");
    assert_eq!(read.header("etag"), None);
    let state = json!({"registrationId": "Sensor-1", "status": "unassigned"});
    assert_eq!(read.body["registrationState"], state, "a device that never registered");
    for body in ["", "{}"] {
        let mechanism = peer.service("POST", "/Enrollments/sensor-1/attestationMechanism", body).await;
        assert_eq!((mechanism.status, &mechanism.body), (200, &created.body["attestation"]));
    }
}

#[tokio::test]
async fn an_update_needs_a_tag_and_keeps_the_keys() {
    let peer = Peer::start().await;
    let body =
        r#"{"enrollmentGroupId":"g","attestation":{"type":"symmetricKey"},"provisioningStatus":"disabled"}"#;
    let created = peer.service("PUT", "/enrollmentGroups/g", body).await;
    let tag = created.body["etag"].as_str().unwrap();

    assert_eq!(peer.service("PUT", "/enrollmentGroups/g", body).await.code(), 409_202);
    let stale = peer.service_if("PUT", "/enrollmentGroups/g", "\"stale\"", body).await;
    assert_eq!((stale.status, stale.code()), (412, 412_001));
    let absent = peer.service_if("PUT", "/enrollmentGroups/h", "*", &body.replace("\"g\"", "\"h\"")).await;
    assert_eq!((absent.status, absent.code()), (404, 404_201));
    let updated = peer.service_if("PUT", "/enrollmentGroups/g", tag, body).await;
    assert_eq!(updated.status, 200);
    assert_ne!(updated.body["etag"], tag);
    assert_eq!(updated.body["attestation"], created.body["attestation"]);
    assert_eq!(peer.service_if("PUT", "/enrollmentGroups/g", "\"*\"", body).await.status, 200);
    assert_eq!(peer.service_if("DELETE", "/enrollmentGroups/g", tag, "").await.status, 412);
    let deleted = peer.service_if("DELETE", "/enrollmentGroups/g", "*", "").await;
    assert_eq!((deleted.status, deleted.body, deleted.headers.get("content-type")), (204, Value::Null, None));
    assert_eq!(peer.service("DELETE", "/enrollmentGroups/g", "").await.code(), 404_201);
    assert_eq!(peer.service("GET", "/enrollmentGroups/g", "").await.code(), 404_201);
}

#[tokio::test]
async fn what_an_enrollment_may_not_say_is_named() {
    let peer = Peer::start().await;
    let put = |members: Value| {
        let mut body = json!({"registrationId": "a", "attestation": {"type": "symmetricKey"}});
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        body.to_string()
    };

    for (members, message) in [
        (json!({"registrationId": "b"}), "registrationId is not the id in the path"),
        (json!({"registrationId": null}), "registrationId is missing"),
        (json!({"attestation": null}), "attestation is missing"),
        (json!({"colour": "red"}), "no api-version knows colour"),
        (json!({"iotHubs": ["far.azure-devices.net"]}), "iotHubs: hub far.azure-devices.net is not linked"),
        (
            json!({"allocationPolicy": "custom", "customAllocationDefinition": {"webhookUrl": "https://x"}}),
            "allocationPolicy custom needs customAllocationDefinition.apiVersion",
        ),
        (
            json!({"attestation": {"type": "x509", "x509": {"clientCertificates": {"primary": {"certificate": "?"}}}}}),
            "attestation.x509.clientCertificates.primary.certificate is neither PEM nor base64",
        ),
    ] {
        let answer = peer.service("PUT", "/enrollments/a", &put(members)).await;
        assert_eq!((answer.status, answer.code()), (400, 400_000));
        assert_eq!(answer.body["message"], message);
    }
    let bad_id = peer.service(
        "PUT",
        "/enrollments/a_",
        r#"{"registrationId":"a_","attestation":{"type":"symmetricKey"}}"#,
    );
    assert_eq!(bad_id.await.body["message"], "registrationId is not a valid id");
    assert_eq!(peer.service("GET", "/enrollments/a", "").await.status, 404);
}

#[tokio::test]
async fn read_only_members_and_nulls_pass() {
    let peer = Peer::start().await;
    let body = r#"{"registrationId":"a","registrationState":{},"etag":"x","createdDateTimeUtc":null,"lastUpdatedDateTimeUtc":"now",
        "attestation":{"type":"symmetricKey","tpm":null,"symmetricKey":{"primaryKey":"","secondaryKey":null}},"deviceId":null}"#;

    let answer = peer.service("PUT", "/enrollments/a", body).await;

    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_ne!(answer.body["etag"], "x");
}

#[tokio::test]
async fn a_loose_emulator_lets_unknown_members_pass() {
    let peer = Peer::of(Emulator::builder().loose().start().await.unwrap());

    let answer = peer
        .service(
            "PUT",
            "/enrollments/a",
            r#"{"registrationId":"a","attestation":{"type":"symmetricKey"},"colour":"red"}"#,
        )
        .await;

    assert_eq!(answer.status, 200);
    assert!(answer.body.get("colour").is_none());
}

#[tokio::test]
async fn a_certificate_is_described_and_kept_by_its_description() {
    let peer = Peer::start().await;
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = rcgen::CertificateParams::new(vec!["gw-7".into()]).unwrap().self_signed(&key).unwrap().pem();
    let body = |slot: Value| {
        json!({
            "registrationId": "gw-7",
            "attestation": {"type": "x509", "x509": {"clientCertificates": {"primary": slot}}},
        })
        .to_string()
    };

    let created = peer.service("PUT", "/enrollments/gw-7", &body(json!({"certificate": pem}))).await;

    assert_eq!(created.status, 200, "{}", created.body);
    let primary = created.body["attestation"]["x509"]["clientCertificates"]["primary"].clone();
    assert!(primary.get("certificate").is_none());
    assert_eq!(primary["info"]["version"], 3);
    assert_eq!(
        peer.service("GET", "/enrollments/gw-7", "").await.body["attestation"],
        created.body["attestation"]
    );
    let kept = peer.service_if("PUT", "/enrollments/gw-7", "*", &body(primary.clone())).await;
    assert_eq!((kept.status, &kept.body["attestation"]), (200, &created.body["attestation"]));
    let unknown = peer.service_if("PUT", "/enrollments/gw-7", "*", &body(json!({"info": {}}))).await;
    assert_eq!(unknown.body["message"], "attestation.x509.clientCertificates.primary.certificate is missing");
}

#[tokio::test]
async fn an_individual_enrollment_shows_and_takes_along_its_registration() {
    let peer = Peer::start().await;
    peer.enroll("dev1", json!({})).await;
    peer.register("dev1", DEV1, "{}").await;

    let shown = peer.service("GET", "/enrollments/dev1", "").await.body["registrationState"].clone();
    let record = peer.service("GET", "/registrations/DEV1", "").await;

    assert_eq!((record.status, &record.body), (200, &shown));
    assert_eq!(record.body["status"], "assigned");
    assert!(record.body.get("symmetricKey").is_none());
    assert_eq!(peer.service("DELETE", "/enrollments/dev1", "").await.status, 204);
    assert_eq!(peer.service("GET", "/registrations/dev1", "").await.code(), 404_201);
}

#[tokio::test]
async fn a_registration_outlives_its_group_and_can_be_deleted() {
    let peer = Peer::start().await;
    peer.enroll_group("plant", json!({})).await;
    let state = peer.register("sensor-042", SENSOR, "{}").await;
    assert_eq!(peer.service("DELETE", "/enrollmentGroups/plant", "").await.status, 204);

    let path = "/registrations/sensor-042";
    assert_eq!(peer.service("GET", path, "").await.body["status"], "assigned");
    assert_eq!(peer.service_if("DELETE", path, "\"stale\"", "").await.status, 412);
    let tag = format!("\"{}\"", state["etag"].as_str().unwrap());
    assert_eq!(peer.service_if("DELETE", path, &tag, "").await.status, 204);
    assert_eq!(peer.service("GET", path, "").await.code(), 404_201);
}

#[tokio::test]
async fn the_service_api_is_closed_without_the_right_token() {
    let peer = Peer::start().await;
    let path = "/enrollments/a?api-version=2021-10-01";

    for (token, code, cause) in [
        (SERVICE_WRONG_KEY, 401_002, "signature does not match the key of policy provisioningserviceowner"),
        (SERVICE_EXPIRED, 401_000, "the token expired "),
        (SERVICE_ELSEWHERE, 401_000, "SAS audience does not cover localhost:"),
        (DEV1, 401_000, "SAS audience does not cover localhost:"),
        ("Bearer abc", 401_000, "the bearer token has not three segments"),
    ] {
        let answer = peer.send("GET", path, token, "").await;
        assert_eq!((answer.status, answer.code()), (401, code), "{cause}");
        assert_eq!(answer.body["message"], "Unauthorized");
        let entry = peer.emulator.journal().pop().unwrap();
        assert!(entry.cause.as_ref().unwrap().starts_with(cause), "{entry}");
    }
    assert_eq!(peer.send("GET", path, SERVICE_WITH_SCHEME_AND_PORT, "").await.code(), 404_201);
}

#[tokio::test]
async fn requests_that_make_no_sense_are_told_so() {
    let peer = Peer::start().await;

    for (method, target, status) in [
        ("GET", "/enrollments/a", 400),
        ("GET", "/enrollments/a?api-version=", 400),
        ("GET", "/enrollments/a?api-version=2020-02-30", 400),
        ("GET", "/nothing?api-version=2021-10-01", 404),
        ("PATCH", "/enrollments/a?api-version=2021-10-01", 405),
        ("GET", "/enrollments/a/attestationmechanism?api-version=2021-10-01", 405),
        ("GET", "/enrollments/a?x=y&api-version=2018-04-01&forceRegistration=true", 404),
    ] {
        let answer = peer.send(method, target, SERVICE, "").await;
        assert_eq!(answer.status, status, "{method} {target}");
        assert_eq!(answer.code() / 1000, u32::from(status));
    }
    let unauthorized = peer.send("GET", "/enrollments/a", SERVICE_WRONG_KEY, "").await;
    assert_eq!(unauthorized.status, 401, "the credential comes before the api-version");
}

#[tokio::test]
async fn a_body_must_be_json_and_of_reasonable_size() {
    let peer = Peer::start().await;
    let url = peer.url("/enrollments/a?api-version=2021-10-01");
    let put = || peer.client.put(&url).header("authorization", SERVICE);

    let text = put().header("content-type", "text/plain").body("{}").send().await.unwrap();
    let untyped = put().body("{}").send().await.unwrap();
    let exact =
        put().header("content-type", "application/json").body(" ".repeat(1024 * 1024)).send().await.unwrap();
    let large =
        put().header("content-type", "application/json").body(" ".repeat(1024 * 1024 + 1)).send().await;

    assert_eq!(text.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(untyped.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(exact.status(), StatusCode::BAD_REQUEST);
    assert_eq!(large.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn the_journal_has_every_request_and_no_secret() {
    let peer = Peer::start().await;
    peer.enroll("dev1", json!({})).await;
    peer.register("dev1", DEV1, r#"{"payload":{"pin":"1234-secret"}}"#).await;
    peer.send("GET", "/registrations/x?api-version=2021-10-01&sig=hidden", DEV1_WRONG_KEY, "").await;

    let journal = peer.emulator.journal();

    let answers: Vec<_> = journal.iter().map(|entry| (entry.seq, entry.status)).collect();
    assert_eq!(answers, [(1, 200), (2, 202), (3, 202), (4, 200), (5, 401)]);
    assert_eq!(journal[1].id.as_deref(), Some("dev1"));
    assert_eq!((journal[1].protocol, journal[1].connection, journal[1].method.as_str()), ("https", 1, "PUT"));
    assert_eq!(journal[1].target, "/0ne00EMU1A7/registrations/dev1/register?api-version=2019-03-31");
    assert_eq!(journal[1].cause, None);
    let text = journal.iter().map(|entry| format!("{entry} {entry:?}\n")).collect::<String>();
    for secret in [PRIMARY, SECONDARY, "Eha5Nv0", "Y56WKKYj", "fKT4xk", "1234-secret", "hidden"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    assert!(text.contains("-> 401 (401000: SAS audience does not cover localhost:"), "{text}");
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let peer = Peer::start().await;
    peer.enroll("dev1", json!({})).await;
    peer.register("dev1", DEV1, "{}").await;

    assert_eq!(peer.emulator.connections(), 1);
}

#[tokio::test]
async fn emulators_live_side_by_side_and_end_with_their_handles() {
    let (one, two) = (Peer::start().await, Peer::start().await);
    one.enroll("dev1", json!({})).await;
    assert_ne!(one.emulator.https_port(), two.emulator.https_port());
    assert_ne!(one.emulator.ca_pem(), two.emulator.ca_pem());
    assert_eq!(two.service("GET", "/enrollments/dev1", "").await.status, 404);
    let strangers = client(two.emulator.ca_pem()).get(one.url("/")).send().await;
    assert!(strangers.unwrap_err().is_connect());

    let Peer { emulator, client } = one;
    let url = format!("https://localhost:{}/", emulator.https_port());
    drop(emulator);

    assert!(client.get(url).send().await.is_err());
    assert_eq!(two.service("GET", "/enrollments/dev1", "").await.status, 404);
}

#[tokio::test]
async fn both_loopback_addresses_answer_where_there_are_both() {
    let peer = Peer::start().await;
    let port = peer.emulator.https_port();
    let has_v6 = std::net::TcpListener::bind(("::1", 0)).is_ok();

    for host in if has_v6 { vec!["127.0.0.1", "[::1]"] } else { vec!["127.0.0.1"] } {
        let answer = peer.client.get(format!("https://{host}:{port}/")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{host}");
    }
}

#[tokio::test]
async fn the_official_host_names_are_in_the_certificate() {
    let emulator = Emulator::start().await.unwrap();
    let host = "contoso.azure-devices-provisioning.net";
    let address = ([127, 0, 0, 1], emulator.https_port()).into();
    let client = builder(emulator.ca_pem()).resolve(host, address).build().unwrap();

    let answer = client
        .get(format!("https://{host}:{}/enrollments/a?api-version=2021-10-01", emulator.https_port()))
        .header("authorization", SERVICE_ELSEWHERE)
        .send()
        .await
        .unwrap();

    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_peer_without_tls_is_left_alone() {
    let peer = Peer::start().await;
    let mut stranger = TcpStream::connect(("127.0.0.1", peer.emulator.https_port())).await.unwrap();

    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ended = stranger.read_to_end(&mut answer).await;

    assert!(!answer.starts_with(b"HTTP"));
    assert_eq!(peer.service("GET", "/enrollments/a", "").await.status, 404);
    assert_eq!(peer.emulator.connections(), 2);
}

#[tokio::test]
async fn settings_that_cannot_be_used_are_named() {
    let start =
        async |builder: azure_dps_emulator::EmulatorBuilder| builder.start().await.unwrap_err().to_string();

    assert_eq!(
        start(Emulator::builder().id_scope("a/b")).await,
        "`a/b` cannot be an ID scope: it can have ASCII letters and digits only"
    );
    for (key, why) in [("%", "is not base64"), ("", "is empty")] {
        assert_eq!(
            start(Emulator::builder().policy_key(key)).await,
            format!(
                "the primary key of policy `provisioningserviceowner` {why}; \
                 give one such as the output of `openssl rand -base64 32`"
            )
        );
    }
    assert_eq!(
        start(Emulator::builder().access_policy(AccessPolicy::new("a;b", []))).await,
        "`a;b` cannot be the name of an access policy: it can have ASCII letters, digits, `-`, `_` and `.` only"
    );
    for hub in ["a b", "a..b", "-a.example", "a.example.", "a.example:443", ""] {
        assert_eq!(
            start(Emulator::builder().hub(hub)).await,
            format!(
                "`{hub}` cannot be the host name of a hub: it has dots between labels of 1 to 63 ASCII letters, \
                 digits and `-`, which begin and end with a letter or a digit"
            )
        );
    }
    let taken = Emulator::start().await.unwrap();
    let refused = |port: u16, speech: &str| {
        format!(
            "cannot listen on 127.0.0.1:{port} for {speech}: the port is already in use; \
             choose another port, 0 picks a free one"
        )
    };
    let port = taken.https_port();
    assert_eq!(start(Emulator::builder().port(port)).await, refused(port, "HTTPS"));
    let port = taken.mqtt_port();
    assert_eq!(start(Emulator::builder().mqtt_port(port)).await, refused(port, "MQTT"));
    assert_eq!(start(Emulator::builder().hub("a.b").hub("A.B")).await, "hub `A.B` is linked twice");
    assert_eq!(
        start(Emulator::builder().seed_json(r#"{"enrollments":[{"registrationID":"a"}]}"#)).await,
        "the seed cannot be used: no api-version knows enrollments[0].registrationID"
    );
    assert_eq!(
        start(Emulator::builder().seed_json(r#"{"enrollmentGroups":[{"enrollmentGroupId":"a"}]}"#)).await,
        "the seed cannot be used: enrollmentGroups[0]: attestation is missing"
    );
}

#[tokio::test]
async fn the_connection_string_has_the_parts_that_clients_look_for() {
    let emulator = Emulator::builder().policy_key(PRIMARY).start().await.unwrap();

    assert_eq!(
        emulator.service_connection_string(),
        format!(
            "HostName=localhost:{};SharedAccessKeyName=provisioningserviceowner;SharedAccessKey={PRIMARY}",
            emulator.https_port()
        )
    );
}

const HUB_1: &str = "emulator-hub-1.azure-devices.net";
const HUB_2: &str = "emulator-hub-2.azure-devices.net";

/// An emulator and a client that trusts it.
struct Peer {
    emulator: Emulator,
    client: Client,
}

struct Reply {
    status: u16,
    headers: reqwest::header::HeaderMap,
    body: Value,
}

impl Peer {
    async fn start() -> Self {
        Self::of(Emulator::builder().polls(1).start().await.unwrap())
    }

    fn of(emulator: Emulator) -> Self {
        let client = client(emulator.ca_pem());
        Peer { emulator, client }
    }

    fn url(&self, target: &str) -> String {
        format!("https://localhost:{}{target}", self.emulator.https_port())
    }

    /// Puts an individual enrollment with the two keys.
    async fn enroll(&self, id: &str, members: Value) {
        self.put("/enrollments", "registrationId", id, members).await;
    }

    /// Puts an enrollment group with the two keys.
    async fn enroll_group(&self, id: &str, members: Value) {
        self.put("/enrollmentGroups", "enrollmentGroupId", id, members).await;
    }

    async fn put(&self, collection: &str, id_member: &str, id: &str, members: Value) {
        let keys = json!({"primaryKey": PRIMARY, "secondaryKey": SECONDARY});
        let mut body = json!({id_member: id, "attestation": {"type": "symmetricKey", "symmetricKey": keys}});
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let answer = self.service("PUT", &format!("{collection}/{id}"), &body.to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    /// Registers a device to the end and gives the registration state.
    async fn register(&self, id: &str, token: &str, body: &str) -> Value {
        let register = self.device("PUT", &format!("{id}/register"), token, body).await;
        assert_eq!(register.status, 202, "{}", register.body);
        let path = format!("{id}/operations/{}", register.body["operationId"].as_str().unwrap());
        assert_eq!(self.device("GET", &path, token, "").await.status, 202);
        let result = self.device("GET", &path, token, "").await;
        assert_eq!(result.status, 200, "{}", result.body);
        result.body["registrationState"].clone()
    }

    async fn device(&self, method: &str, path: &str, token: &str, body: &str) -> Reply {
        let target = format!("/0ne00EMU1A7/registrations/{path}?api-version=2019-03-31");
        self.send(method, &target, token, body).await
    }

    async fn service(&self, method: &str, path: &str, body: &str) -> Reply {
        self.send(method, &format!("{path}?api-version=2021-10-01"), SERVICE, body).await
    }

    async fn service_if(&self, method: &str, path: &str, if_match: &str, body: &str) -> Reply {
        let target = format!("{path}?api-version=2021-10-01");
        self.reply(self.request(method, &target, SERVICE, body).header("if-match", if_match)).await
    }

    async fn send(&self, method: &str, target: &str, token: &str, body: &str) -> Reply {
        self.reply(self.request(method, target, token, body)).await
    }

    fn request(&self, method: &str, target: &str, token: &str, body: &str) -> reqwest::RequestBuilder {
        self.client
            .request(method.parse::<Method>().unwrap(), self.url(target))
            .header("authorization", token)
            .header("content-type", "application/json; charset=utf-8")
            .body(body.to_owned())
    }

    async fn reply(&self, request: reqwest::RequestBuilder) -> Reply {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.text().await.unwrap();
        let body = if body.is_empty() { Value::Null } else { serde_json::from_str(&body).unwrap() };
        Reply { status, headers, body }
    }
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    fn code(&self) -> u32 {
        self.body["errorCode"].as_u64().and_then(|code| code.try_into().ok()).unwrap_or_default()
    }
}

fn client(ca_pem: &str) -> Client {
    builder(ca_pem).build().unwrap()
}

fn builder(ca_pem: &str) -> reqwest::ClientBuilder {
    Client::builder().tls_backend_preconfigured(trusting(ca_pem)).no_proxy()
}
