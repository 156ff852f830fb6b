//! The service client against a small store that loses requests or answers on purpose: whatever is lost, a
//! write is applied once, and only real doubt is reported as doubt.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use azure_dps_core::models::{AttestationMechanism, BulkMode, IndividualEnrollment};
use azure_dps_core::{Error, RetryPolicy};
use azure_dps_service::{Credential, ServiceClient};
use azure_dps_tests::back_end::POLICY_KEY;
use azure_dps_tests::emulated::keys;
use azure_dps_tests::lossy_store::{Lost, Store, When};
use azure_dps_tests::{Act, Peer, back_end};
use serde_json::{Value, json};

const RETRIES: usize = 3;

/// The writes, the records that are there before, and how often each applies something.
const WRITES: [(&str, &[&str], usize); 11] = [
    ("create", &[], 1),
    ("create with generated keys", &[], 1),
    ("conditional write", &["a"], 1),
    ("replace", &["a"], 1),
    ("update", &["a"], 1),
    ("delete", &["a"], 1),
    ("delete with a tag", &["a"], 1),
    ("bulk create", &[], 3),
    ("bulk update", &[], 3),
    ("bulk update with tags", &["a", "b", "c"], 3),
    ("bulk delete", &["a", "b", "c"], 3),
];

async fn carry_out(
    service: &ServiceClient,
    write: &str,
    tags: &BTreeMap<String, String>,
) -> Result<(), Error> {
    let enrollments = service.enrollments();
    let new = |id: &str| {
        let keys = back_end::keys();
        IndividualEnrollment::new(id, keys).with_device_id(format!("{id}-written"))
    };
    let tagged = |id: &str| new(id).with_etag(tags[id].as_str());
    let bulk = async |mode, items: [IndividualEnrollment; 3]| {
        let result = enrollments.run_bulk_operation(mode, &items).await?;
        assert!(result.is_successful, "{write}: {result:?}");
        Ok(())
    };
    match write {
        "create" => enrollments.create_or_update(&new("a")).await.map(drop),
        "create with generated keys" => {
            let generated = IndividualEnrollment::new("a", AttestationMechanism::symmetric_key_generated());
            enrollments.create_or_update(&generated).await.map(drop)
        }
        "conditional write" => enrollments.create_or_update(&tagged("a")).await.map(drop),
        "replace" => enrollments.replace(&new("a")).await.map(drop),
        // An edit that shows when it is applied twice.
        "update" => {
            let edit = |record: &mut IndividualEnrollment| {
                record.iot_hubs.get_or_insert_default().push("b.example".to_owned());
            };
            let updated = enrollments.update("a", edit).await?;
            assert_eq!(updated.iot_hubs.unwrap(), ["a.example", "b.example"]);
            Ok(())
        }
        "delete" => enrollments.delete("a").await,
        "delete with a tag" => enrollments.delete_if_match("a", &tags["a"]).await,
        "bulk create" => bulk(BulkMode::Create, ["a", "b", "c"].map(new)).await,
        "bulk update" => bulk(BulkMode::Update, ["a", "b", "c"].map(new)).await,
        "bulk update with tags" => bulk(BulkMode::UpdateIfMatchETag, ["a", "b", "c"].map(tagged)).await,
        _ => bulk(BulkMode::Delete, ["a", "b", "c"].map(new)).await,
    }
}

/// The outcome of a write, and the store after it.
async fn with(
    write: &str,
    before: &[&str],
    lost: Lost,
    when: When,
) -> (Result<(), Error>, Arc<Mutex<Store>>) {
    let store = Arc::new(Mutex::new(Store::with(before)));
    let outcome = on(&store, write, lost, when).await;
    (outcome, store)
}

async fn on(store: &Arc<Mutex<Store>>, write: &str, lost: Lost, when: When) -> Result<(), Error> {
    let shared = Arc::clone(store);
    let peer = Peer::answering(move |request| shared.lock().unwrap().act(request, lost, when)).await;
    carry_out(&client(&peer), write, &tags(store)).await
}

/// The tags of the records that are there.
fn tags(store: &Arc<Mutex<Store>>) -> BTreeMap<String, String> {
    let tag = |record: &Value| record["etag"].as_str().unwrap().to_owned();
    store.lock().unwrap().records.iter().map(|(id, record)| (id.clone(), tag(record))).collect()
}

fn client(peer: &Peer) -> ServiceClient {
    let retry = RetryPolicy::new().with_retries(RETRIES as u32).with_first_pause(Duration::from_millis(1));
    let credential = Credential::policy("owner", POLICY_KEY.parse().unwrap());
    ServiceClient::builder(peer.endpoint(), credential).retry(retry).build().unwrap()
}

#[tokio::test]
async fn whatever_is_lost_once_the_write_succeeds_and_is_applied_once() {
    for (write, before, applications) in WRITES {
        for lost in [Lost::Request, Lost::Answer] {
            for place in 0.. {
                let (outcome, store) = with(write, before, lost, When::Nth(place)).await;
                let store = store.lock().unwrap();
                let case = format!("{write}, {lost:?} {place}");
                outcome.unwrap_or_else(|error| panic!("{case}: {error}"));
                // Replacing whatever is there may happen twice; nothing changes by that.
                let again = if write == "replace" && lost == Lost::Answer && place == 0 { 1 } else { 0 };
                assert_eq!(store.applied.len(), applications + again, "{case}: {:?}", store.applied);
                if place > store.requests {
                    break;
                }
            }
        }
    }
}

#[tokio::test]
async fn when_every_request_is_lost_nothing_was_applied_and_the_error_says_no_more_where_that_was_seen() {
    for (write, before, _) in WRITES {
        let (outcome, store) = with(write, before, Lost::Request, When::EveryWrite).await;
        let store = store.lock().unwrap();
        let error = outcome.unwrap_err();
        assert!(store.applied.is_empty());
        assert_eq!(store.writes, 1 + RETRIES, "{write}: the budget is used");
        let is_looked_after = !write.contains("delete") && !["replace", "bulk update"].contains(&write);
        assert_eq!(error.maybe_applied(), !is_looked_after, "{write}: {error}");
        assert!(error.is_retryable());
    }
}

#[tokio::test]
async fn when_every_answer_is_lost_a_write_that_is_looked_after_succeeds() {
    for (write, before, applications) in WRITES {
        let (outcome, store) = with(write, before, Lost::Answer, When::EveryWrite).await;
        let store = store.lock().unwrap();
        if write.contains("delete") || ["replace", "bulk update"].contains(&write) {
            assert!(outcome.unwrap_err().maybe_applied(), "{write}");
        } else {
            outcome.unwrap();
            assert_eq!(store.applied.len(), applications, "{write}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_looked_at_stays_in_doubt_and_is_not_sent_again() {
    for write in ["create", "conditional write", "bulk create", "bulk update with tags"] {
        let (_, before, _) = WRITES.into_iter().find(|(name, ..)| *name == write).unwrap();
        for lost in [Lost::Request, Lost::Answer] {
            let (outcome, store) = with(write, before, lost, When::FirstWriteAndReads).await;
            assert!(outcome.unwrap_err().maybe_applied(), "{write} {lost:?}");
            assert_eq!(store.lock().unwrap().writes, 1);
        }
    }
}

/// The record that the creates of these tests send, and one that others could have written.
fn own_and_other() -> [Value; 2] {
    ["a-written", "other"]
        .map(|device| json!({ "registrationId": "a", "attestation": keys(), "deviceId": device }))
}

#[tokio::test]
async fn a_record_of_others_leaves_no_doubt_about_a_lost_create_however_young_it_is() {
    let [own, other] = own_and_other();
    let hours = time::Duration::hours;
    for (dates, ahead, record, created, changed) in [
        // By the clock of the service it is older than the create.
        (true, hours(0), &other, 30, 30),
        (true, hours(0), &other, 30, 0),
        (true, hours(0), &own, 30, 30),
        (true, hours(3), &own, 30, 30),
        (true, hours(-3), &own, 30, 0),
        (true, hours(30), &other, 30, 30),
        // It differs from the write, and no client has changed it since.
        (true, hours(0), &other, 0, 0),
        (false, hours(0), &other, 0, 0),
        (false, hours(3), &other, 30, 30),
        (false, hours(0), &other, 3600 * 25, 0),
    ] {
        let case = format!("{dates} {ahead} {record} {created} {changed}");
        let store = Arc::new(Mutex::new(Store { dates, ahead, ..Store::with(&["a"]) }));
        store.lock().unwrap().write_of_others(record, created, changed);
        let error = on(&store, "create", Lost::Request, When::Nth(0)).await.unwrap_err();
        assert!(error.is_conflict() && !error.maybe_applied(), "{case}: {error}");
    }
}

#[tokio::test]
async fn a_record_that_may_be_what_others_made_of_ours_leaves_doubt() {
    let [own, other] = own_and_other();
    for (dates, record, created, changed) in
        [(true, &other, -1, -2), (true, &own, -1, -2), (false, &other, 3600, 0), (false, &own, 3600, 3600)]
    {
        let case = format!("{dates} {record} {created} {changed}");
        let store = Arc::new(Mutex::new(Store { dates, ..Store::with(&["a"]) }));
        store.lock().unwrap().write_of_others(record, created, changed);
        let error = on(&store, "create", Lost::Request, When::Nth(0)).await.unwrap_err();
        assert!(error.is_conflict() && error.maybe_applied(), "{case}: {error}");
    }
}

#[tokio::test]
async fn a_lost_create_is_found_by_a_client_whose_clock_is_wrong() {
    for ahead in [-30, -3, 3, 30].map(time::Duration::hours) {
        let store = Arc::new(Mutex::new(Store { dates: true, ahead, ..Store::default() }));
        on(&store, "create", Lost::Answer, When::EveryWrite).await.unwrap();
        assert_eq!(store.lock().unwrap().applied, ["a"], "{ahead}");
    }
}

#[tokio::test]
async fn a_version_that_others_wrote_before_leaves_no_doubt_about_a_lost_conditional_write() {
    for (changed, doubt) in [(30, false), (-1, true)] {
        let [_, other] = own_and_other();
        let store = Arc::new(Mutex::new(Store { dates: true, ..Store::with(&["a"]) }));
        let shared = Arc::clone(&store);
        let mut writes = 0;
        let peer = Peer::answering(move |request| {
            let mut store = shared.lock().unwrap();
            if request.starts_with("PUT ") && writes == 0 {
                writes += 1;
                store.write_of_others(&other, 3600, changed);
                return Act::Close;
            }
            store.act(request, Lost::Answer, When::Nth(usize::MAX))
        })
        .await;
        let service = client(&peer);
        let tags = tags(&store);
        let error = carry_out(&service, "conditional write", &tags).await.unwrap_err();
        assert!(error.is_precondition_failed(), "{error}");
        assert_eq!(error.maybe_applied(), doubt, "{changed}: {error}");
    }
}
