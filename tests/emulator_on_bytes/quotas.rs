//! Quotas of requests and of groups, and what is billed.

use std::time::{Duration, UNIX_EPOCH};

use azure_dps_emulator::{Emulator, Fault, Operation, Quotas};
use azure_dps_tests::emulated::{ALL, Emulated, PRIMARY, group_device_token, keys, sign};
use serde_json::{Value, json};

#[tokio::test]
async fn the_service_quota_answers_429_until_there_is_a_place() {
    let quotas = Quotas::documented().with_service_operations(2);
    let peer = Emulated::start(Emulator::builder().quotas(quotas)).await;
    peer.emulator.set_clock(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    let strange = sign(PRIMARY, "localhost", "provisioningserviceowner");
    assert_eq!(peer.ask_as("GET", "/enrollments/a", &strange, "", "").await.status, 401, "takes no place");

    assert_eq!(peer.ask("GET", "/enrollments/a", "", "").await.status, 404);
    peer.emulator.advance_clock(Duration::from_millis(20_500));
    assert_eq!(peer.ask("GET", "/enrollments/a", "", "").await.status, 404);
    let throttled = peer.ask("GET", "/enrollments/a", "", "").await;

    assert_eq!((throttled.status, throttled.code()), (429, 429_001));
    assert_eq!(throttled.header("retry-after"), Some("40"), "39.5 s, rounded up");
    assert_eq!(peer.last_cause().as_deref(), Some("quota: 2 service operations per minute"));
    peer.emulator.advance_clock(Duration::from_millis(39_500));
    assert_eq!(peer.ask("GET", "/enrollments/a", "", "").await.status, 404);
    peer.emulator.reset();
    peer.emulator.set_clock(UNIX_EPOCH + Duration::from_secs(1_800_000_060));
    assert_eq!(peer.ask("GET", "/enrollments/a", "", "").await.status, 404, "a reset forgets what counted");
}

#[tokio::test]
async fn registrations_and_polls_have_quotas_of_their_own() {
    let quotas = Quotas::documented().with_registrations(2).with_polls(1);
    let peer = Emulated::start(Emulator::builder().quotas(quotas).polls(9)).await;
    peer.emulator.set_clock(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    peer.enroll_group("plant", json!({})).await;
    let mut polls = Vec::new();
    for id in ["s-1", "s-2"] {
        let register = format!("/0ne00EMU1A7/registrations/{id}/register");
        let token = group_device_token(id);
        let begun = peer.ask_as("PUT", &register, &token, "", "{}").await;
        assert_eq!(begun.status, 202);
        let operation = begun.body["operationId"].as_str().unwrap();
        polls.push((format!("/0ne00EMU1A7/registrations/{id}/operations/{operation}"), token));
    }

    let third = peer
        .ask_as("PUT", "/0ne00EMU1A7/registrations/s-3/register", &group_device_token("s-3"), "", "{}")
        .await;
    assert_eq!((third.status, third.code(), third.header("retry-after")), (429, 429_001, Some("60")));
    assert_eq!(peer.last_cause().as_deref(), Some("quota: 2 device registrations per minute"));
    for (poll, token) in &polls {
        assert_eq!(
            peer.ask_as("GET", poll, token, "", "").await.status,
            202,
            "each device has its own place"
        );
        let again = peer.ask_as("GET", poll, token, "", "").await;
        assert_eq!(
            (again.status, again.header("retry-after"), again.header("location")),
            (429, Some("10"), None)
        );
    }
    peer.emulator.advance_clock(Duration::from_secs(10));
    assert_eq!(peer.ask_as("GET", &polls[0].0, &polls[0].1, "", "").await.status, 202);
}

#[tokio::test]
async fn groups_of_each_type_are_limited_when_there_are_quotas() {
    let peer = Emulated::start(Emulator::builder().quotas(Quotas::documented().with_groups(1))).await;
    let keys = |id: &str| json!({"enrollmentGroupId": id, "attestation": {"type": "symmetricKey"}});
    let x509 = json!({"type": "x509", "x509": {"caReferences": {"primary": "root"}}});
    let x509 = |id: &str| json!({"enrollmentGroupId": id, "attestation": x509});
    peer.enroll_group("a", keys("a")).await;
    peer.enroll_group("b", x509("b")).await;

    let refused = peer.ask("PUT", "/enrollmentGroups/c", "", &keys("c").to_string()).await;
    assert_eq!(refused.code(), 400_000);
    assert_eq!(refused.message(), "there are 1 enrollment groups with attestation.type symmetricKey already");
    let changed = peer.ask("PUT", "/enrollmentGroups/a", "If-Match: *\r\n", &x509("a").to_string()).await;
    assert_eq!(changed.code(), 400_000, "another type needs room too");
    assert_eq!(peer.last_cause().as_deref(), Some("quota: 1 groups of each attestation type"));
    let same = peer.ask("PUT", "/enrollmentGroups/a", "If-Match: *\r\n", &keys("a").to_string()).await;
    assert_eq!(same.status, 200);
    let bulk = json!({"mode": "create", "enrollmentGroups": [keys("d")]});
    assert_eq!(peer.bulk("/enrollmentGroups", bulk).await.body["errors"][0]["errorCode"], 400_000);
}

#[tokio::test]
async fn what_was_carried_out_is_billed_and_waiting_is_free() {
    let peer = Emulated::start(Emulator::builder().manage_port(0).polls(1)).await;
    peer.enroll_group("plant", json!({})).await;
    peer.register("s-1", json!({})).await;
    peer.ask("POST", "/enrollments/query", "", ALL).await;
    let items: Vec<Value> =
        ["a", "b"].map(|id| json!({"registrationId": id, "attestation": keys()})).to_vec();
    peer.bulk("/enrollments", json!({"mode": "create", "enrollments": items})).await;
    let lookup = "/0ne00EMU1A7/registrations/s-1";
    assert_eq!(peer.ask_as("POST", lookup, &group_device_token("s-1"), "", "{}").await.status, 200);
    peer.emulator.inject(Fault::throttle(1).on(Operation::Service)).unwrap();
    for status in [429, 404] {
        assert_eq!(peer.ask("GET", "/enrollments/none", "", "").await.status, status);
    }

    let billed = peer.emulator.billed_operations();
    assert_eq!(
        (billed.service, billed.registrations),
        (3, 1),
        "a group, a page, a bulk operation; a registration"
    );
    assert_eq!(peer.manage("GET", "/billing", "").await.1, json!({"service": 3, "registrations": 1}));
    peer.emulator.reset();
    assert_eq!(peer.manage("GET", "/billing", "").await.1, json!({"service": 0, "registrations": 0}));
}
