//! What the emulator accepts, a later start reads again: each way by which a nested value comes into the state, at
//! the deepest level that is accepted.

use azure_dps_emulator::Emulator;
use azure_dps_tests::emulated::{Emulated, keys};
use azure_dps_tests::site::{A, Site, hubs, on};
use azure_dps_tests::webhook::{Act, Webhook};
use serde_json::{Value, json};

/// A value of so many levels.
fn deep(levels: usize) -> Value {
    (0..levels)
        .fold(json!(1), |inner, level| if level % 2 == 0 { json!({"a": inner}) } else { json!([inner]) })
}

/// An object of so many levels.
fn object(levels: usize) -> Value {
    json!({"a": deep(levels - 1)})
}

async fn assert_starts_again(peer: &Emulated, what: &str) {
    let state = peer.emulator.state_json().unwrap();
    let again = Emulator::builder().state_json(&state).start().await;
    assert!(again.is_ok(), "{what}: {again:?}");
}

#[tokio::test]
async fn enrollments_and_their_devices_are_read_again() {
    let Site { peer, .. } = Site::start(hubs()).await;
    let tags = |levels| on(A, json!({"initialTwin": {"tags": object(levels)}}));
    let desired = |levels| on(A, json!({"initialTwin": {"properties": {"desired": object(levels)}}}));

    for (id, members, deeper) in [("tags", tags(98), tags(99)), ("desired", desired(97), desired(98))] {
        peer.enroll(id, members.clone()).await;
        peer.enroll_group(id, members).await;
        assert_eq!(peer.register(id, json!({})).await["status"], "assigned", "{id}");
        for (path, id_member) in
            [("/enrollments", "registrationId"), ("/enrollmentGroups", "enrollmentGroupId")]
        {
            let refused = peer.put(path, id_member, id, deeper.clone()).await;
            assert_eq!((refused.status, refused.code()), (400, 400_000), "{path} {id}");
            let cause = "the body is not JSON: it is nested deeper than 100 levels";
            assert!(peer.cause().ends_with(cause), "{}", peer.cause());
        }
        assert_starts_again(&peer, id).await;
    }

    let one = |id, levels| {
        let twin = json!({"tags": object(levels)});
        json!({"registrationId": id, "attestation": keys(), "initialTwin": twin})
    };
    let bulk = |levels| json!({"mode": "create", "enrollments": [one("bulk", levels)]});
    assert_eq!(peer.bulk("/enrollments", bulk(96)).await.status, 200);
    assert_eq!(peer.bulk("/enrollments", bulk(97)).await.status, 400);
    assert_starts_again(&peer, "bulk").await;
}

#[tokio::test]
async fn a_seed_is_read_again() {
    let seed = |levels| {
        let twin = json!({"tags": object(levels)});
        json!({"enrollments": [{"registrationId": "a", "attestation": keys(), "initialTwin": twin}]})
            .to_string()
    };
    let peer = Emulated::start(Emulator::builder().seed_json(seed(96))).await;
    assert_starts_again(&peer, "seed").await;

    let error = Emulator::builder().seed_json(seed(97)).start().await.unwrap_err();
    assert_eq!(error.to_string(), "the seed cannot be used: not JSON: it is nested deeper than 100 levels");
}

#[tokio::test]
async fn the_answer_of_a_webhook_is_read_again() {
    let answer = |members: Value| {
        let mut all = json!({"iotHubHostName": A});
        all.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        Act::Answer(200, all)
    };
    let hook = Webhook::start(move |number| match number {
        1 => answer(json!({"payload": deep(99)})),
        2 => answer(json!({"initialTwin": {"properties": {"desired": object(97)}}})),
        _ => answer(json!({"payload": deep(100)})),
    })
    .await;
    let peer = Emulated::start(hubs()).await;
    let definition = json!({"webhookUrl": format!("http://{}/", hook.address), "apiVersion": "2021-10-01"});
    let members = json!({"allocationPolicy": "custom", "customAllocationDefinition": definition});
    for id in ["payload", "twin", "deeper"] {
        peer.enroll(id, members.clone()).await;
    }

    for id in ["payload", "twin"] {
        assert_eq!(peer.register(id, json!({})).await["status"], "assigned", "{}", peer.cause());
        assert_starts_again(&peer, id).await;
    }
    assert_eq!(peer.register("deeper", json!({})).await["status"], "failed");
    let cause = "the answer of the webhook: it is not JSON: it is nested deeper than 100 levels";
    assert!(peer.cause().ends_with(cause), "{}", peer.cause());
}

#[tokio::test]
async fn the_payload_of_a_function_is_read_again() {
    for (levels, status) in [(100, "assigned"), (101, "failed")] {
        let peer = Emulated::start(Emulator::builder().on_payload(move |_| Some(deep(levels)))).await;
        peer.enroll("dev1", json!({})).await;

        let state = peer.register("dev1", json!({})).await;

        assert_eq!(state["status"], status, "{}", peer.cause());
        assert_starts_again(&peer, status).await;
    }
}

#[tokio::test]
async fn a_device_that_a_back_end_creates_is_read_again() {
    let site = Site::start(hubs()).await;
    let identity = |levels| json!({"deviceId": "own", "capabilities": object(levels)});

    let put = async |body| site.write("PUT", A, "/devices/own", "", &body).await.status;

    assert_eq!(put(identity(100)).await, 400);
    assert_eq!(put(identity(99)).await, 200);
    assert_starts_again(&site.peer, "capabilities").await;
}
