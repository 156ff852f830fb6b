//! A small store of enrollments that loses requests or answers on purpose.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

use crate::emulated::keys;
use crate::{Act, body, header};

const HTTP_DATE: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

/// What gets lost: nothing, the request before it arrives, or the answer after it was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    Request,
    Answer,
}

/// Which requests it happens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The request with this number, counted from 0.
    Nth(usize),
    EveryWrite,
    /// The first write, and every read.
    FirstWriteAndReads,
}

/// Enrollments with symmetric keys, and a clock.
#[derive(Debug, Default)]
pub struct Store {
    pub records: BTreeMap<String, Value>,
    pub versions: u32,
    pub requests: usize,
    pub writes: usize,
    /// The ids in the order in which writes were applied to them.
    pub applied: Vec<String>,
    /// How far the clock of the store is ahead of the client's.
    pub ahead: time::Duration,
    /// Whether answers have a `Date`.
    pub dates: bool,
}

impl Store {
    pub fn with(ids: &[&str]) -> Self {
        let mut store = Self::default();
        for id in ids {
            let record = json!({ "registrationId": id, "attestation": keys(), "iotHubs": ["a.example"] });
            store.write(id, &record, None).unwrap();
        }
        store.applied.clear();
        store
    }

    pub fn act(&mut self, request: &str, lost: Lost, when: When) -> Act {
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
    pub fn write_of_others(&mut self, record: &Value, created: i64, changed: i64) {
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
