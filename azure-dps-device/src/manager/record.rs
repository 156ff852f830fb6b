//! The stored record: a manager's memory as text with a version, its owner and a checksum.
//!
//! ```text
//! azure-dps-device-manager 1 <SHA-256 of all that follows the line break, in hexadecimal>
//! {"owner":{"endpoint":"…","idScope":"…","registrationId":"…"},"memory":{…}}
//! ```
//!
//! | bytes | content |
//! |---|---|
//! | none, another first word, a wrong checksum, cut off, JSON with other values | `Damaged` |
//! | a later version | `Newer` |
//! | another owner | `Foreign` |
//! | otherwise | `Memory`, without the members that this release does not know |
//!
//! The owner has the endpoint, the id scope and the registration id, and nothing of a credential, so that a
//! device whose key was rotated keeps its assignment.

use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::memory::{Certificate, Failures, Memory, Place, RetryAfter};

/// Whose memory a record has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Owner {
    pub(crate) endpoint: String,
    pub(crate) id_scope: String,
    pub(crate) registration_id: String,
}

impl Owner {
    /// A name for the owner's record: 32 characters that are safe in a file name.
    pub(crate) fn key(&self) -> String {
        // None of the three has a line break.
        let text = format!("{}\n{}\n{}", self.endpoint, self.id_scope, self.registration_id);
        short_hash(text.as_bytes())
    }

    /// The names of the owner's private keys. The memory, the record in the store, one that cannot be used and
    /// its copy name two each at most, so that with ten names the next key has one too.
    pub(crate) fn key_names(&self) -> [String; 10] {
        let key = self.key();
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map(|slot| format!("dps-{key}-{slot}"))
    }
}

/// The first 32 hexadecimal digits of a SHA-256: a name that is safe in a file name.
pub(crate) fn short_hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes)).chars().take(32).collect()
}

/// What was found in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Memory(Box<Memory>),
    Foreign,
    Damaged(String),
    Newer(u32),
}

/// Writes a record.
pub(crate) fn write(owner: &Owner, memory: &Memory) -> Vec<u8> {
    let record = Record { owner: owner.clone(), memory: Stored::from(memory) };
    // A structure of strings and numbers can always be written as JSON.
    let body = serde_json::to_string(&record).unwrap_or_default();
    format!("{MARK} {VERSION} {}\n{body}", hex(&Sha256::digest(&body))).into_bytes()
}

/// Reads a record.
pub(crate) fn read(bytes: &[u8], owner: &Owner) -> Content {
    match parse(bytes, owner) {
        Ok(content) => content,
        Err(why) => Content::Damaged(why),
    }
}

fn parse(bytes: &[u8], owner: &Owner) -> Result<Content, String> {
    if bytes.is_empty() {
        return Err("it is empty".to_owned());
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not text".to_owned())?;
    let (head, body) = text.split_once('\n').ok_or("it has no complete first line")?;
    let mut words = head.split(' ');
    if words.next() != Some(MARK) {
        return Err("it is not a record of a provisioning manager".to_owned());
    }
    let version = words.next().and_then(|word| word.parse().ok()).ok_or("its version is not a number")?;
    match version {
        VERSION => {}
        0 => return Err("its version is 0".to_owned()),
        newer => return Ok(Content::Newer(newer)),
    }
    if words.next() != Some(&*hex(&Sha256::digest(body))) {
        return Err("its checksum does not match".to_owned());
    }
    let record: Record = serde_json::from_str(body).map_err(|why| why.to_string())?;
    if record.owner != *owner {
        return Ok(Content::Foreign);
    }
    record.memory.read().map(Box::new).map(Content::Memory)
}

#[derive(Serialize, Deserialize)]
struct Record {
    owner: Owner,
    memory: Stored,
}

/// A memory, with times and bytes as text.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Stored {
    #[serde(skip_serializing_if = "Option::is_none")]
    assignment: Option<StoredPlace>,
    credential: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    transport: Option<String>,
    failures: StoredFailures,
    #[serde(skip_serializing_if = "Option::is_none")]
    failing_since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_registration: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<StoredRetryAfter>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    provision_anew: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    saved_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proven: Option<StoredCertificate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    candidate: Option<StoredCertificate>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredPlace {
    assigned_hub: String,
    device_id: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct StoredFailures {
    register: u32,
    stuck: u32,
    refused: u32,
    hub: u32,
    asked: u32,
    renewal: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredRetryAfter {
    since: String,
    seconds: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredCertificate {
    chain: String,
    key: String,
    not_before: String,
    not_after: String,
}

impl From<&Memory> for Stored {
    fn from(memory: &Memory) -> Self {
        let Memory { place, credential, transport, failures, .. } = memory;
        let Failures { register, stuck, refused, hub, asked, renewal } = *failures;
        Self {
            assignment: place.as_ref().map(|place| StoredPlace {
                assigned_hub: place.hub.clone(),
                device_id: place.device_id.clone(),
            }),
            credential: *credential,
            transport: transport.clone(),
            failures: StoredFailures { register, stuck, refused, hub, asked, renewal },
            failing_since: memory.failing_since.map(written),
            last_registration: memory.last_registration.map(written),
            retry_after: memory.retry_after.map(|asked| StoredRetryAfter {
                since: written(asked.since),
                seconds: asked.pause.as_secs(),
            }),
            provision_anew: memory.is_wanted,
            saved_at: memory.saved_at.map(written),
            proven: memory.proven.as_ref().map(StoredCertificate::from),
            candidate: memory.candidate.as_ref().map(StoredCertificate::from),
        }
    }
}

impl Stored {
    fn read(self) -> Result<Memory, String> {
        let StoredFailures { register, stuck, refused, hub, asked, renewal } = self.failures;
        Ok(Memory {
            place: self.assignment.map(|place| Place { hub: place.assigned_hub, device_id: place.device_id }),
            credential: self.credential,
            transport: self.transport,
            failures: Failures { register, stuck, refused, hub, asked, renewal },
            failing_since: self.failing_since.as_deref().map(time).transpose()?,
            last_registration: self.last_registration.as_deref().map(time).transpose()?,
            retry_after: self.retry_after.map(StoredRetryAfter::read).transpose()?,
            is_wanted: self.provision_anew,
            saved_at: self.saved_at.as_deref().map(time).transpose()?,
            proven: self.proven.map(StoredCertificate::read).transpose()?,
            candidate: self.candidate.map(StoredCertificate::read).transpose()?,
        })
    }
}

impl StoredRetryAfter {
    fn read(self) -> Result<RetryAfter, String> {
        Ok(RetryAfter { since: time(&self.since)?, pause: Duration::from_secs(self.seconds) })
    }
}

impl From<&Certificate> for StoredCertificate {
    fn from(certificate: &Certificate) -> Self {
        Self {
            chain: certificate.chain.clone(),
            key: certificate.key.clone(),
            not_before: written(certificate.not_before),
            not_after: written(certificate.not_after),
        }
    }
}

impl StoredCertificate {
    fn read(self) -> Result<Certificate, String> {
        Ok(Certificate {
            chain: self.chain,
            key: self.key,
            not_before: time(&self.not_before)?,
            not_after: time(&self.not_after)?,
        })
    }
}

/// RFC 3339. A time that it cannot express, beyond the year 9999, counts as 1970.
fn written(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_else(|_| "1970-01-01T00:00:00Z".to_owned())
}

fn time(text: &str) -> Result<OffsetDateTime, String> {
    OffsetDateTime::parse(text, &Rfc3339).map_err(|why| format!("{text:?} is not a time: {why}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _written = write!(text, "{byte:02x}");
        text
    })
}

const MARK: &str = "azure-dps-device-manager";
const VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    fn owner() -> Owner {
        Owner {
            endpoint: "global.azure-devices-provisioning.net".to_owned(),
            id_scope: "0ne00111111".to_owned(),
            registration_id: "sensor-042".to_owned(),
        }
    }

    fn memory() -> Memory {
        let certificate = |key: &str| Certificate {
            chain: "-----BEGIN CERTIFICATE-----\n".to_owned(),
            key: key.to_owned(),
            not_before: datetime!(2026-11-26 08:00 UTC),
            not_after: datetime!(2026-12-26 08:00 UTC),
        };
        Memory {
            place: Some(Place { hub: "h.azure-devices.net".to_owned(), device_id: "d".to_owned() }),
            credential: 1,
            transport: Some("MQTT-WS".to_owned()),
            failures: Failures { register: 1, stuck: 2, refused: 3, hub: 4, asked: 6, renewal: 5 },
            failing_since: Some(datetime!(2026-11-26 08:00:01.5 UTC)),
            last_registration: Some(datetime!(2026-11-26 07:59 UTC)),
            retry_after: Some(RetryAfter {
                since: datetime!(2026-11-26 07:59:30 UTC),
                pause: Duration::from_secs(400),
            }),
            is_wanted: true,
            saved_at: Some(datetime!(2026-11-26 08:00:02 UTC)),
            proven: Some(certificate("old")),
            candidate: Some(certificate("new")),
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        for memory in [memory(), Memory::default()] {
            let record = write(&owner(), &memory);
            assert_eq!(read(&record, &owner()), Content::Memory(Box::new(memory)));
        }
    }

    #[test]
    fn an_empty_record_is_damaged() {
        assert_eq!(read(b"", &owner()), Content::Damaged("it is empty".to_owned()));
    }

    #[test]
    fn a_record_that_is_cut_off_anywhere_is_damaged() {
        let record = write(&owner(), &memory());
        for end in 1..record.len() {
            assert!(matches!(read(&record[..end], &owner()), Content::Damaged(_)), "{end}");
        }
    }

    #[test]
    fn a_record_with_a_byte_that_changed_is_damaged() {
        let record = write(&owner(), &memory());
        for at in 0..record.len() {
            let mut record = record.clone();
            record[at] ^= 1;
            assert!(matches!(read(&record, &owner()), Content::Damaged(_)), "{at}");
        }
    }

    #[test]
    fn a_record_of_a_later_version_is_not_read() {
        let record = String::from_utf8(write(&owner(), &memory())).unwrap();
        let later = record.replacen(" 1 ", " 2 ", 1);
        assert_eq!(read(later.as_bytes(), &owner()), Content::Newer(2));
    }

    #[test]
    fn a_record_of_another_endpoint_scope_or_device_is_foreign() {
        let record = write(&owner(), &memory());
        let others = [
            Owner { endpoint: "localhost".to_owned(), ..owner() },
            Owner { id_scope: "0ne00222222".to_owned(), ..owner() },
            Owner { registration_id: "sensor-043".to_owned(), ..owner() },
        ];
        for other in others {
            assert_eq!(read(&record, &other), Content::Foreign);
            assert_ne!(other.key(), owner().key());
        }
    }

    #[test]
    fn keys_of_records_are_safe_file_names() {
        let key = Owner { registration_id: "../a:b".to_owned(), ..owner() }.key();
        assert!(key.len() == 32 && key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}");
    }

    #[test]
    fn a_record_without_the_members_that_came_later_is_read() {
        let owner_json = serde_json::to_string(&owner()).unwrap();
        let memory_json = concat!(
            r#"{"credential":1,"transport":"MQTT-WS","lastRegistration":"2026-11-26T07:59:00Z","#,
            r#""failures":{"register":1,"stuck":2,"refused":3,"hub":4,"renewal":5}}"#,
        );
        let body = format!(r#"{{"owner":{owner_json},"memory":{memory_json}}}"#);
        let record = format!("{MARK} 1 {}\n{body}", hex(&Sha256::digest(&body)));
        let whole = memory();
        let expected = Memory {
            credential: 1,
            transport: whole.transport,
            failures: Failures { asked: 0, ..whole.failures },
            last_registration: whole.last_registration,
            ..Memory::default()
        };
        assert_eq!(read(record.as_bytes(), &owner()), Content::Memory(Box::new(expected)));
    }

    #[test]
    fn a_record_of_the_right_form_with_wrong_values_is_damaged() {
        let head = |body: &str| format!("{MARK} 1 {}\n{body}", hex(&Sha256::digest(body)));
        let owner_json = serde_json::to_string(&owner()).unwrap();
        for memory in [
            r#"{"lastRegistration":"yesterday"}"#,
            r#"{"credential":-1}"#,
            r#"{"retryAfter":{"since":"2026-11-26T08:00:00Z","seconds":-1}}"#,
            r#"{"failures":{"hub":4294967296}}"#,
            r#"{"proven":{"chain":["a"],"key":"k","notBefore":"2026-11-26T08:00:00Z","notAfter":"2026-11-26T08:00:00Z"}}"#,
            "1",
        ] {
            let record = head(&format!(r#"{{"owner":{owner_json},"memory":{memory}}}"#));
            assert!(matches!(read(record.as_bytes(), &owner()), Content::Damaged(_)), "{memory}");
        }
    }

    #[test]
    fn members_that_this_release_does_not_know_are_passed_over() {
        let head = |body: &str| format!("{MARK} 1 {}\n{body}", hex(&Sha256::digest(body)));
        let owner_json = serde_json::to_string(&owner()).unwrap();
        let record = head(&format!(r#"{{"owner":{owner_json},"memory":{{"mood":"good"}}}}"#));
        assert_eq!(read(record.as_bytes(), &owner()), Content::Memory(Box::default()));
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_content(bytes: Vec<u8>) {
            read(&bytes, &owner());
            let mut marked = format!("{MARK} 1 ").into_bytes();
            marked.extend(bytes);
            read(&marked, &owner());
        }
    }
}
