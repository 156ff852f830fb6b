//! Which hub a device gets by the policies of the service.

use std::collections::BTreeSet;

use azure_dps_emulator::{DefaultAllocation, Emulator, EmulatorBuilder, Hub};
use azure_dps_tests::emulated::Emulated;
use serde_json::{Value, json};

pub(crate) const A: &str = "hub-a.example";

pub(crate) const B: &str = "hub-b.example";

pub(crate) const C: &str = "hub-c.example";

#[tokio::test]
async fn an_enrollment_without_a_policy_follows_the_instance() {
    let peer = Emulated::start(hubs().allocation(DefaultAllocation::Static)).await;
    peer.enroll_group("plant", json!({})).await;
    assert_eq!(peer.service("GET", "/enrollmentGroups/plant", "").await.body.get("allocationPolicy"), None);

    let failed = peer.register("sensor-1", json!({})).await;
    assert_eq!((&failed["status"], &failed["errorCode"]), (&json!("failed"), &json!(401_001)));
    assert_eq!(peer.cause(), "allocation policy static needs exactly one candidate hub, and there are 3");

    peer.emulator.set_allocation(DefaultAllocation::Hashed);
    let mut found = BTreeSet::new();
    for n in 0..30 {
        found.insert(peer.register(&format!("sensor-{n}"), json!({})).await["assignedHub"].to_string());
    }
    assert_eq!(found.len(), 3);
}

#[tokio::test]
async fn a_device_goes_where_the_latency_is_lowest() {
    let builder = Emulator::builder()
        .hub(Hub::new(A).with_region("westeurope"))
        .hub(Hub::new(B).with_region("eastus"))
        .allocation(DefaultAllocation::GeoLatency)
        .latencies("berlin-*", [("westeurope", 12), ("eastus", 95)])
        .latencies("boston-*", [("westeurope", 90), ("eastus", 8)]);
    let peer = Emulated::start(builder).await;
    peer.enroll_group("plant", json!({})).await;

    assert_eq!(peer.register("berlin-1", json!({})).await["assignedHub"], A);
    assert_eq!(peer.register("boston-1", json!({})).await["assignedHub"], B);
    peer.emulator.set_latencies("berlin-1", [("eastus", 1)]);
    let moved = peer.register("berlin-1", json!({})).await;
    assert_eq!((&moved["assignedHub"], &moved["substatus"]), (&json!(B), &json!("deviceDataMigrated")));
    assert_eq!(peer.register("berlin-2", json!({})).await["assignedHub"], A);
}

#[tokio::test]
async fn a_policy_may_begin_with_a_capital_and_hubs_need_one() {
    let peer = Emulated::start(hubs()).await;
    let put = async |members: Value| peer.put("/enrollments", "registrationId", "dev1", members).await;

    let refused = put(json!({"iotHubs": [A]})).await;
    assert_eq!((refused.status, &refused.body["errorCode"]), (400, &json!(400_004)));
    let stored = put(json!({"iotHubs": [A], "allocationPolicy": "Hashed"})).await;
    assert_eq!((stored.status, &stored.body["allocationPolicy"]), (200, &json!("hashed")));
    let stored = put(json!({"allocationPolicy": "GeoLatency"})).await;
    assert_eq!(stored.body["allocationPolicy"], "geoLatency");
    assert_eq!(put(json!({"allocationPolicy": "HASHED"})).await.status, 400);
}

/// An emulator with three hubs.
pub(crate) fn hubs() -> EmulatorBuilder {
    Emulator::builder().hub(A).hub(B).hub(C)
}
