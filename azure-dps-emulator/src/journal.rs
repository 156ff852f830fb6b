//! The journal: one entry for each request, with the real reason of every refusal and without any secret. What has a
//! reason stands in the log too.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::json::{Value, json};
use time::OffsetDateTime;

use crate::clock;

/// One request and how it was answered.
///
/// The log has it too (`tracing`): at INFO if there is a [`cause`](Entry::cause) or a [`warning`](Entry::warning), else at DEBUG.
///
/// It never contains tokens, keys, payloads or certificates. `Display` writes it as one line:
///
/// ```text
/// #3 2026-05-04T09:15:27.1234567Z https/2 PUT /0ne00EMU1A7/registrations/dev1/register?api-version=2019-03-31 -> 401 (401000: the token expired 362 s ago)
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The number of the request; the first one is 1.
    pub seq: u64,
    /// When it was answered.
    pub time: SystemTime,
    /// The number of the connection it came by; the first one is 1.
    pub connection: u64,
    /// The protocol: `https`, `mqtt`, `mqtt-ws`, `amqp` or `amqp-ws`.
    pub front: &'static str,
    /// The method; of MQTT the name of the packet, of AMQP the name of the frame.
    pub method: String,
    /// The path as it was sent, and of the query the api-version only; of MQTT the topic without its parameters; of AMQP the
    /// operation type of a request, and otherwise what the client says it is.
    pub target: String,
    /// The registration id, enrollment id or group id that the request names.
    pub id: Option<String>,
    /// The status of the answer.
    pub status: u16,
    /// The error code of the answer.
    pub error_code: Option<u32>,
    /// The real reason of a refusal, or of a registration that ended without a hub, in plain words.
    pub cause: Option<String>,
    /// What was let pass here and might not be by the service itself, in plain words.
    pub warning: Option<String>,
}

impl Entry {
    /// The entry as the management port tells it.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "seq": self.seq,
            "time": clock::timestamp(OffsetDateTime::from(self.time)),
            "front": self.front,
            "connection": self.connection,
            "method": self.method,
            "target": self.target,
            "id": self.id,
            "status": self.status,
            "errorCode": self.error_code,
            "cause": self.cause,
            "warning": self.warning,
        })
    }

    /// Tells the log: what has a reason to be told in plain sight, everything else to those who look closely.
    pub(crate) fn log(&self) {
        // The level of an event is fixed where it is written; its fields are made only if somebody takes it.
        macro_rules! answered {
            ($level:ident) => {
                tracing::$level!(
                    seq = self.seq,
                    connection = self.connection,
                    front = self.front,
                    method = one_line(&self.method),
                    target = one_line(&self.target),
                    id = self.id.as_deref().map(one_line),
                    status = self.status,
                    error_code = self.error_code,
                    cause = self.cause.as_deref().map(one_line),
                    warning = self.warning.as_deref().map(one_line),
                    "answered"
                )
            };
        }
        if self.cause.is_some() || self.warning.is_some() { answered!(info) } else { answered!(debug) }
    }
}

/// A text that clients may have had a hand in, without what would begin a line or move the cursor.
pub(crate) fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = clock::timestamp(OffsetDateTime::from(self.time));
        let target = one_line(&self.target);
        let cause = self.cause.as_deref().map(one_line);
        write!(f, "#{} {time} {}/{} {} {target}", self.seq, self.front, self.connection, self.method)?;
        write!(f, " -> {}", self.status)?;
        match (self.error_code, cause) {
            (Some(code), Some(cause)) => write!(f, " ({code}: {cause})"),
            (Some(code), None) => write!(f, " ({code})"),
            (None, Some(cause)) => write!(f, " ({cause})"),
            (None, None) => Ok(()),
        }?;
        match &self.warning {
            Some(warning) => write!(f, " (warning: {})", one_line(warning)),
            None => Ok(()),
        }
    }
}

/// Where the entries are kept.
///
/// It has a lock of its own, so that reading it never waits for the service.
#[derive(Default)]
pub(crate) struct Journal {
    entries: Mutex<VecDeque<Arc<Entry>>>,
}

impl Journal {
    /// Keeps an entry, and gives it as it is kept.
    pub(crate) fn record(&self, mut entry: Entry) -> Arc<Entry> {
        shorten(&mut entry.method);
        shorten(&mut entry.target);
        entry.cause.as_mut().map(shorten);
        entry.warning.as_mut().map(shorten);
        entry.id.as_mut().map(shorten);
        let entry = Arc::new(entry);
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() == KEPT {
            entries.pop_front();
        }
        entries.push_back(Arc::clone(&entry));
        entry
    }

    pub(crate) fn clear(&self) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(|entry| (**entry).clone())
            .collect()
    }
}

/// Keeps a client from filling the memory.
fn shorten(text: &mut String) {
    let end = text.char_indices().map(|(at, _)| at).find(|at| *at >= LONGEST_TEXT);
    if let Some(end) = end {
        text.truncate(end);
        text.push('…');
    }
}

const KEPT: usize = 10_000;
const LONGEST_TEXT: usize = 1024;

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn an_entry_is_one_readable_line() {
        assert_eq!(
            entry(1).to_string(),
            "#1 2026-01-01T00:00:00.5Z https/7 GET /enrollments/a -> 401 (401000: there is no  token)"
        );
    }

    #[test]
    fn the_oldest_entries_make_room() {
        let journal = Journal::default();

        for seq in 1..=KEPT as u64 + 1 {
            journal.record(entry(seq));
        }

        let entries = journal.entries();
        assert_eq!(entries.len(), KEPT);
        assert_eq!(entries.first().unwrap().seq, 2);
    }

    #[test]
    fn long_texts_are_cut() {
        let journal = Journal::default();

        journal.record(Entry { method: "M".repeat(2_000), target: "ä".repeat(2_000), ..entry(1) });

        let entry = &journal.entries()[0];
        assert_eq!((entry.method.chars().count(), entry.target.chars().count()), (1025, 513));
    }

    fn entry(seq: u64) -> Entry {
        Entry {
            seq,
            time: UNIX_EPOCH + Duration::from_millis(1_767_225_600_500),
            connection: 7,
            front: "https",
            method: "GET".into(),
            target: "/enrollments/a".into(),
            id: Some("a".into()),
            status: 401,
            error_code: Some(401_000),
            cause: Some("there is no\n token".into()),
            warning: None,
        }
    }
}
