//! Bulk operations of the service API. Contract: docs/wire/service-api.md.

use azure_dps_tests::emulated::{Emulated, keys};
use serde_json::{Value, json};

#[tokio::test]
async fn a_bulk_operation_creates_replaces_by_tag_and_deletes() {
    let peer = Emulated::with_one_poll().await;
    let enabled = json!([{"registrationId": "a", "attestation": keys()}, {"registrationId": "b", "attestation": keys()}]);
    let all_done = json!({"isSuccessful": true, "errors": []});

    let created = peer.bulk("/enrollments", json!({"mode": "create", "enrollments": enabled})).await;
    assert_eq!((created.status, &created.body), (200, &all_done), "the records are not returned");
    let tag = peer.ask("GET", "/enrollments/a", "", "").await.body["etag"].clone();

    let mut disabled = enabled.clone();
    disabled[0]["provisioningStatus"] = "disabled".into();
    let update = |items: &Value| json!({"mode": "update", "enrollments": items});
    let refused = peer.bulk("/enrollments", update(&disabled)).await;
    let there = |id: &str| json!({"registrationId": id, "errorCode": 409_201, "errorStatus": "Enrollment already exists."});
    let errors = json!({"isSuccessful": false, "errors": [there("a"), there("b")]});
    assert_eq!((refused.status, refused.body), (200, errors), "items without a tag update nothing");
    assert_eq!(peer.ask("GET", "/enrollments/a", "", "").await.body["etag"], tag);

    disabled[0]["etag"] = tag.clone();
    disabled[1]["etag"] = "\"*\"".into();
    assert_eq!(peer.bulk("/enrollments", update(&disabled)).await.body, all_done);
    let stale = peer.bulk("/enrollments", update(&json!([disabled[0]]))).await;
    assert_eq!(stale.body["errors"][0]["errorCode"], 412_001);
    let replaced = peer.ask("GET", "/enrollments/a", "", "").await.body;
    assert_eq!(replaced["provisioningStatus"], "disabled");
    assert_ne!(replaced["etag"], tag, "every replacement has a new tag");

    for mode in ["updateIfMatchETag", "updateIfMatchEtag"] {
        let tag = peer.ask("GET", "/enrollments/a", "", "").await.body["etag"].clone();
        let item = json!({"registrationId": "a", "attestation": keys(), "etag": tag});
        let matched = peer.bulk("/enrollments", json!({"mode": mode, "enrollments": [item]})).await;
        assert_eq!(matched.body, all_done, "{mode}");
    }
    let gone = json!({"mode": "delete", "enrollments": [{"registrationId": "A"}, {"registrationId": "b", "attestation": {}}]});
    assert_eq!(peer.bulk("/enrollments", gone).await.body, all_done);
    assert_eq!(peer.emulator.enrollments(), json!({"enrollments": [], "enrollmentGroups": []}));
}

#[tokio::test]
async fn an_empty_tag_counts_as_none() {
    let peer = Emulated::with_one_poll().await;
    peer.enroll("a", json!({})).await;
    for (mode, code) in [("create", 409_201), ("update", 409_201), ("updateIfMatchETag", 400_000)] {
        let item = json!({"registrationId": "a", "attestation": keys(), "etag": ""});
        let refused = peer.bulk("/enrollments", json!({"mode": mode, "enrollments": [item]})).await;
        assert_eq!(refused.body["errors"][0]["errorCode"], code, "{mode}");
    }
    let record = json!({"registrationId": "a", "attestation": keys()}).to_string();
    for empty in ["If-Match:\r\n", "If-Match:  \r\n"] {
        assert_eq!(peer.ask("PUT", "/enrollments/a", empty, &record).await.code(), 409_201);
    }
    let gone = json!({"mode": "delete", "enrollments": [{"registrationId": "a", "etag": ""}]});
    assert_eq!(peer.bulk("/enrollments", gone).await.body["isSuccessful"], true);
    peer.enroll("a", json!({})).await;
    assert_eq!(peer.ask("DELETE", "/enrollments/a", "If-Match:\r\n", "").await.status, 204);
}

#[tokio::test]
async fn items_that_fail_are_told_in_order_and_the_others_are_carried_out() {
    let peer = Emulated::with_one_poll().await;
    peer.enroll("there", json!({})).await;
    let key = json!({"type": "symmetricKey"});
    let created = json!([
        {"registrationId": "there", "attestation": key},
        {"registrationId": "one", "attestation": key},
        {"registrationId": "bare"},
        {"registrationId": "-bad", "attestation": key},
        {"registrationId": "odd", "attestation": key, "iotHubs": 5},
        {"registrationId": "two", "attestation": key},
    ]);

    let answer = peer.bulk("/enrollments", json!({"mode": "create", "enrollments": created})).await;

    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.body,
        json!({"isSuccessful": false, "errors": [
            item_error("there", 409_201, "Enrollment already exists."),
            item_error("bare", 400_000, "attestation is missing"),
            item_error("-bad", 400_000, "registrationId is not a valid id"),
            item_error("odd", 400_000, "iotHubs must be an array of strings"),
        ]})
    );
    let cause = peer.cause();
    let wanted = "4 of 6 failed: there (409201: Enrollment already exists.); bare (400000: ";
    assert!(cause.starts_with(wanted), "{cause}");
    assert_eq!(peer.listed().await, ["one", "there", "two"]);
}

#[tokio::test]
async fn items_that_do_not_match_are_neither_replaced_nor_deleted() {
    let peer = Emulated::with_one_poll().await;
    for id in ["there", "one", "two"] {
        peer.enroll(id, json!({})).await;
    }
    let stale = "\"00000009-0000-0700-0000-00000009\"";
    let key = json!({"type": "symmetricKey"});
    let missing = item_error("none", 404_201, "Enrollment not found");
    let no_match = |id: &str| item_error(id, 412_001, "ETag is invalid");

    for (mode, items, errors) in [
        ("update", json!([{"registrationId": "none", "attestation": key}]), json!([missing])),
        (
            "updateIfMatchETag",
            json!([
                {"registrationId": "one", "attestation": key},
                {"registrationId": "two", "attestation": key, "etag": stale},
                {"registrationId": "there", "attestation": key, "etag": 7},
                {"registrationId": "none", "attestation": key, "etag": stale},
            ]),
            json!([
                item_error("one", 400_000, "etag is missing"),
                no_match("two"),
                item_error("there", 400_000, "etag must be a string"),
                missing,
            ]),
        ),
        (
            "delete",
            json!([
                {"registrationId": "one", "etag": stale},
                {"registrationId": "none"},
                {"registrationId": "two"},
            ]),
            json!([no_match("one"), missing]),
        ),
    ] {
        let answer = peer.bulk("/enrollments", json!({"mode": mode, "enrollments": items})).await;
        assert_eq!(answer.body["errors"], errors, "{mode}");
    }
    assert_eq!(peer.listed().await, ["one", "there"]);
}

fn item_error(id: &str, code: u32, status: &str) -> Value {
    json!({"registrationId": id, "errorCode": code, "errorStatus": status})
}

#[tokio::test]
async fn groups_are_run_in_bulk_too_and_their_records_stay() {
    let peer = Emulated::with_one_poll().await;
    let group = json!({"enrollmentGroupId": "plant", "attestation": keys()});
    let run = |mode: &str| json!({"mode": mode, "enrollmentGroups": [group]});
    assert_eq!(peer.bulk("/enrollmentGroups", run("create")).await.body["isSuccessful"], true);
    let again = peer.bulk("/enrollmentGroups", run("create")).await;
    assert_eq!(
        again.body["errors"],
        json!([{"enrollmentGroupId": "plant", "errorCode": 409_202, "errorStatus": "EnrollmentGroup already exists."}])
    );
    peer.register("s-1", json!({})).await;

    assert_eq!(peer.bulk("/enrollmentgroups/", run("delete")).await.body["isSuccessful"], true);

    let records = peer.ask("POST", "/registrations/plant/query", "", "").await;
    assert_eq!(records.ids("registrationId"), ["s-1"]);
}

#[tokio::test]
async fn what_is_wrong_with_the_structure_refuses_the_whole_bulk_operation() {
    let peer = Emulated::with_one_poll().await;
    let item = |id: &str| json!({"registrationId": id, "attestation": {"type": "symmetricKey"}});
    let eleven: Vec<Value> = (0..11).map(|number| item(&format!("a{number}"))).collect();

    for (body, message) in [
        (json!({"mode": "create", "enrollments": eleven}), "enrollments has 11 items; 10 are the most"),
        (json!({"mode": "create", "enrollments": []}), "enrollments is empty"),
        (json!({"mode": "create"}), "enrollments is missing"),
        (
            json!({"mode": "create", "enrollments": [item("a"), item("b"), item("A")]}),
            "enrollments[2].registrationId: A is there twice",
        ),
        (json!({"enrollments": [item("a")]}), "mode is missing"),
        (
            json!({"mode": "replace", "enrollments": [item("a")]}),
            "mode must be one of create, update, updateIfMatchETag, delete",
        ),
        (
            json!({"mode": "create", "enrollments": [item("a"), {"attestation": {"type": "symmetricKey"}}]}),
            "enrollments[1].registrationId is missing",
        ),
        (
            json!({"mode": "create", "enrollments": [item("a"), {"registrationId": "b", "colour": "red"}]}),
            "no api-version knows enrollments[1].colour",
        ),
        (json!({"mode": "create", "enrollmentGroups": [item("a")]}), "no api-version knows enrollmentGroups"),
    ] {
        let answer = peer.bulk("/enrollments", body).await;
        assert_eq!((answer.status, answer.code(), answer.message()), (400, 400_000, message));
    }
    assert_eq!(peer.listed().await, [""; 0], "nothing was applied");
    let ten = json!({"mode": "create", "enrollments": eleven[..10]});
    assert_eq!(peer.bulk("/enrollments", ten).await.body["isSuccessful"], true);
}
