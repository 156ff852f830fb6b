//! The service client against a small store that loses requests or answers on purpose: whatever is lost, a
//! write is applied once, and only real doubt is reported as doubt.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)] // Test code.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use azure_dps_core::models::{AttestationMechanism, BulkMode, IndividualEnrollment, SymmetricKeyAttestation};
use azure_dps_core::{Error, RetryPolicy};
use azure_dps_service::{Credential, ServiceClient};
use azure_dps_tests::{Act, Peer, body, header};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const RETRIES: usize = 3;
const HTTP_DATE: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

/// What gets lost: nothing, the request before it arrives, or the answer after it was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    Request,
    Answer,
}

/// Which requests it happens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// The request with this number, counted from 0.
    Nth(usize),
    EveryWrite,
    /// The first write, and every read.
    FirstWriteAndReads,
}

#[derive(Debug, Default)]
struct Store {
    records: BTreeMap<String, Value>,
    versions: u32,
    requests: usize,
    writes: usize,
    /// The ids in the order in which writes were applied to them.
    applied: Vec<String>,
    /// How far the clock of the store is ahead of the client's.
    ahead: time::Duration,
    /// Whether answers have a `Date`.
    dates: bool,
}

impl Store {
    fn with(ids: &[&str]) -> Self {
        let mut store = Self::default();
        for id in ids {
            let record = json!({ "registrationId": id, "attestation": keys(), "iotHubs": ["a.example"] });
            store.write(id, &record, None).unwrap();
        }
        store.applied.clear();
        store
    }

    fn act(&mut self, request: &str, lost: Lost, when: When) -> Act {
        let is_write = !request.starts_with("GET ") && !request.contains("/attestationmechanism?");
        let number = self.requests;
        self.requests += 1;
        self.writes += usize::from(is_write);
        let hit = match when {
            When::Nth(nth) => nth == number,
            When::EveryWrite => is_write,
            When::FirstWriteAndReads => !is_write || self.writes == 1,
        };
        if hit && lost == Lost::Request {
            return Act::Close;
        }
        let (status, answer) = self.carry_out(request);
        let date = self.now().to_offset(time::UtcOffset::UTC).format(&HTTP_DATE).unwrap();
        let date = if self.dates { format!("Date: {date}\r\n") } else { String::new() };
        if hit { Act::Close } else { Act::json(status, &date, &answer.to_string()) }
    }

    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc() + self.ahead
    }

    /// Writes a record of others that was created and last changed so many seconds ago.
    fn write_of_others(&mut self, record: &Value, created: i64, changed: i64) {
        self.write("a", record, Some("*")).unwrap();
        let now = self.now();
        for (name, age) in [("createdDateTimeUtc", created), ("lastUpdatedDateTimeUtc", changed)] {
            let then = now - time::Duration::seconds(age);
            self.records.get_mut("a").unwrap()[name] = then.format(&Rfc3339).unwrap().into();
        }
    }

    fn carry_out(&mut self, request: &str) -> (&'static str, Value) {
        let mut line = request.split(' ');
        let (method, path) = (line.next().unwrap(), line.next().unwrap());
        let id = path.split(['/', '?']).nth(2).unwrap_or_default();
        let tag = header(request, "if-match");
        let outcome = match method {
            "GET" => self.find(id).map(|mut record| {
                record["attestation"] = json!({ "type": "symmetricKey" });
                record
            }),
            "PUT" => self.write(id, &serde_json::from_str(body(request)).unwrap(), tag),
            "DELETE" => self.delete(id, tag),
            _ if path.contains("/attestationmechanism?") => {
                self.find(id).map(|record| record["attestation"].clone())
            }
            _ => Ok(self.bulk(&serde_json::from_str(body(request)).unwrap())),
        };
        match outcome {
            Ok(answer) => ("200 OK", answer),
            Err(code) => {
                let status = ["404 Not Found", "409 Conflict", "412 Precondition Failed"];
                let status = status.into_iter().find(|status| code.to_string().starts_with(&status[..3]));
                (status.unwrap(), json!({ "errorCode": code, "message": "no" }))
            }
        }
    }

    fn find(&self, id: &str) -> Result<Value, u32> {
        self.records.get(id).cloned().ok_or(404_201)
    }

    fn check(&self, id: &str, tag: Option<&str>) -> Result<(), u32> {
        match (self.records.get(id), tag) {
            (None, None) | (Some(_), Some("*")) => Ok(()),
            (Some(_), None) => Err(409_201),
            (None, Some(_)) => Err(404_201),
            (Some(record), Some(tag)) if record["etag"] == tag => Ok(()),
            _ => Err(412_001),
        }
    }

    fn write(&mut self, id: &str, record: &Value, tag: Option<&str>) -> Result<Value, u32> {
        self.check(id, tag)?;
        self.versions += 1;
        let now = self.now().format(&Rfc3339).unwrap();
        let mut record = record.clone();
        record["etag"] = format!("v{}", self.versions).into();
        let created = self.records.get(id).map(|old| old["createdDateTimeUtc"].clone());
        record["createdDateTimeUtc"] = created.unwrap_or_else(|| now.clone().into());
        record["lastUpdatedDateTimeUtc"] = now.into();
        self.records.insert(id.to_owned(), record.clone());
        self.applied.push(id.to_owned());
        Ok(record)
    }

    fn delete(&mut self, id: &str, tag: Option<&str>) -> Result<Value, u32> {
        self.find(id)?;
        self.check(id, tag.or(Some("*")))?;
        self.records.remove(id);
        self.applied.push(id.to_owned());
        Ok(Value::Null)
    }

    fn bulk(&mut self, body: &Value) -> Value {
        let mut errors = Vec::new();
        for item in body["enrollments"].as_array().unwrap() {
            let (id, tag) = (item["registrationId"].as_str().unwrap(), item["etag"].as_str());
            let done = match body["mode"].as_str().unwrap() {
                "delete" => self.delete(id, tag),
                _ => self.write(id, item, tag),
            };
            if let Err(code) = done {
                errors.push(json!({ "registrationId": id, "errorCode": code, "errorStatus": "no" }));
            }
        }
        json!({ "isSuccessful": errors.is_empty(), "errors": errors })
    }
}

fn keys() -> Value {
    json!({ "type": "symmetricKey", "symmetricKey": { "primaryKey": KEY, "secondaryKey": KEY } })
}

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
        let keys = AttestationMechanism::symmetric_key(SymmetricKeyAttestation::new(KEY, KEY));
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
    let credential = Credential::policy("owner", KEY.parse().unwrap());
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
        // It is not what was sent, and nobody has changed it since.
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
