//! The journal: one entry for each request, with the real reason of every refusal and without secrets.
//!
//! | new entry | then |
//! | --- | --- |
//! | repeats one of the latest eight entries that have a cause | replaces that entry and counts the repeat |
//! | any other, and there is room | is added |
//! | any other, and its id or connection has half of all entries | replaces the oldest of these |
//! | any other | replaces the oldest entry |
//!
//! An entry repeats another if they differ only in number, time and connection. So a client that is refused
//! over and over fills neither the journal nor the log.

pub(crate) mod cursor;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use time::OffsetDateTime;
use tokio::sync::watch;

use crate::clock;
use crate::json::{Value, json};
use crate::state::journal::cursor::{Cursor, Since};

/// One request and how it was answered.
///
/// It is also logged with `tracing`: at INFO if it has a [`cause`](Entry::cause) or a
/// [`warning`](Entry::warning), else at DEBUG.
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
    /// The time of the answer.
    pub time: SystemTime,
    /// The number of the connection; the first one is 1.
    pub connection: u64,
    /// The protocol: `https`, `mqtt`, `mqtt-ws`, `amqp` or `amqp-ws`.
    pub protocol: &'static str,
    /// The HTTP method, the name of the MQTT packet, or the name of the AMQP frame.
    pub method: String,
    /// Over HTTPS the path as it was sent, with no other query parameter than the api-version. Over MQTT the
    /// topic without its parameters. Over AMQP the operation type of a request, and for other frames the name
    /// that the client gives itself.
    pub target: String,
    /// The registration id, enrollment id or group id that the request names.
    pub id: Option<String>,
    /// The status of the answer.
    pub status: u16,
    /// The error code of the answer.
    pub error_code: Option<u32>,
    /// The real reason of a refusal, or of a registration that ended without a hub, as a sentence.
    pub cause: Option<String>,
    /// A difference to the service: something that the emulator accepts and the service might refuse.
    pub warning: Option<String>,
    /// How often the same request was refused for the same reason right before, on this connection or others.
    /// This entry represents all of them, with the number, the time and the connection of the latest.
    pub repeats: u64,
}

impl Entry {
    /// The entry as the management port returns it.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "seq": self.seq,
            "time": clock::timestamp(OffsetDateTime::from(self.time)),
            "front": self.protocol,
            "connection": self.connection,
            "method": self.method,
            "target": self.target,
            "id": self.id,
            "status": self.status,
            "errorCode": self.error_code,
            "cause": self.cause,
            "warning": self.warning,
            "repeats": self.repeats,
        })
    }

    /// Returns whether this is the same refusal again.
    fn repeats(&self, other: &Entry) -> bool {
        self.cause.is_some()
            && (self.protocol, self.status, self.error_code)
                == (other.protocol, other.status, other.error_code)
            && (&self.method, &self.target, &self.id) == (&other.method, &other.target, &other.id)
            && (&self.cause, &self.warning) == (&other.cause, &other.warning)
    }

    /// Logs the entry: at INFO with a cause or a warning, else at DEBUG. Of repeats, only the first, second,
    /// fourth, eighth and so on are logged.
    pub(crate) fn log(&self) {
        if !self.repeats.saturating_add(1).is_power_of_two() {
            return;
        }
        // A macro, because `tracing` fixes the level of an event at compile time. It evaluates the fields
        // only if a subscriber takes the event.
        macro_rules! answered {
            ($level:ident) => {
                tracing::$level!(
                    seq = self.seq,
                    connection = self.connection,
                    protocol = self.protocol,
                    method = one_line(&self.method),
                    target = one_line(&self.target),
                    id = self.id.as_deref().map(one_line),
                    status = self.status,
                    error_code = self.error_code,
                    cause = self.cause.as_deref().map(one_line),
                    warning = self.warning.as_deref().map(one_line),
                    repeats = (self.repeats > 0).then_some(self.repeats),
                    "answered"
                )
            };
        }
        if self.cause.is_some() || self.warning.is_some() { answered!(info) } else { answered!(debug) }
    }
}

/// Replaces control characters in a text that may come from a client, so that it cannot begin a new line of
/// the log or move the cursor of a terminal.
pub(crate) fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = clock::timestamp(OffsetDateTime::from(self.time));
        let target = one_line(&self.target);
        let cause = self.cause.as_deref().map(one_line);
        write!(f, "#{} {time} {}/{} {} {target}", self.seq, self.protocol, self.connection, self.method)?;
        write!(f, " -> {}", self.status)?;
        match (self.error_code, cause) {
            (Some(code), Some(cause)) => write!(f, " ({code}: {cause})"),
            (Some(code), None) => write!(f, " ({code})"),
            (None, Some(cause)) => write!(f, " ({cause})"),
            (None, None) => Ok(()),
        }?;
        if let Some(warning) = &self.warning {
            write!(f, " (warning: {})", one_line(warning))?;
        }
        match self.repeats {
            0 => Ok(()),
            repeats => write!(f, " (repeats: {repeats})"),
        }
    }
}

/// Where the entries are kept.
///
/// Its lock is separate from that of the state, so that reading it does not wait for requests.
pub(crate) struct Journal {
    entries: Mutex<Entries>,
    /// Changes with each entry and each reset.
    news: watch::Sender<()>,
}

/// The entries that a reader looks for.
pub(crate) struct Found {
    pub(crate) entries: Vec<Arc<Entry>>,
    /// The place behind all entries that were looked at.
    pub(crate) next: Cursor,
    /// The largest number of an entry that was dropped to make room.
    pub(crate) dropped: u64,
    /// Whether the cursor of the reader is from before a reset.
    pub(crate) began_anew: bool,
}

struct Entries {
    latest_last: VecDeque<Arc<Entry>>,
    /// The number of entries of each id, and of each connection.
    by_id: HashMap<String, usize>,
    by_connection: HashMap<u64, usize>,
    end: Cursor,
    dropped: u64,
}

impl Entries {
    /// An empty journal, whose number differs from those before.
    fn new(after: u64) -> Self {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(since_1970.as_nanos()).unwrap_or_default();
        Entries {
            latest_last: VecDeque::new(),
            by_id: HashMap::new(),
            by_connection: HashMap::new(),
            end: Cursor { journal: now.max(after.saturating_add(1)), seq: 0 },
            dropped: 0,
        }
    }

    /// Removes the latest entry that `entry` repeats, and returns it.
    fn take_repeated(&mut self, entry: &Entry) -> Option<Arc<Entry>> {
        let latest = self.latest_last.iter().rev().take(LOOKED_BACK);
        let back = latest.enumerate().find(|(_, known)| entry.repeats(known))?.0;
        self.remove(self.latest_last.len() - 1 - back)
    }

    fn make_room_for(&mut self, entry: &Entry) {
        let of_id = entry.id.as_ref().and_then(|id| self.by_id.get(id)).copied().unwrap_or_default();
        let of_connection = self.by_connection.get(&entry.connection).copied().unwrap_or_default();
        let oldest = if of_id >= KEPT / 2 {
            self.latest_last.iter().position(|known| known.id == entry.id)
        } else if of_connection >= KEPT / 2 {
            self.latest_last.iter().position(|known| known.connection == entry.connection)
        } else {
            None
        };
        if let Some(dropped) = self.remove(oldest.unwrap_or_default()) {
            self.dropped = self.dropped.max(dropped.seq);
        }
    }

    fn push(&mut self, entry: Arc<Entry>) {
        self.end.seq = entry.seq;
        if let Some(id) = &entry.id {
            *self.by_id.entry(id.clone()).or_default() += 1;
        }
        *self.by_connection.entry(entry.connection).or_default() += 1;
        self.latest_last.push_back(entry);
    }

    fn remove(&mut self, at: usize) -> Option<Arc<Entry>> {
        let entry = self.latest_last.remove(at)?;
        if let Some(id) = &entry.id {
            count_down(&mut self.by_id, id);
        }
        count_down(&mut self.by_connection, &entry.connection);
        Some(entry)
    }
}

fn count_down<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl Default for Journal {
    fn default() -> Self {
        Journal { entries: Mutex::new(Entries::new(0)), news: watch::Sender::new(()) }
    }
}

impl Journal {
    /// Adds an entry, and returns it as it is kept.
    pub(crate) fn record(&self, mut entry: Entry) -> Arc<Entry> {
        shorten(&mut entry.method);
        shorten(&mut entry.target);
        entry.cause.as_mut().map(shorten);
        entry.warning.as_mut().map(shorten);
        entry.id.as_mut().map(shorten);
        let mut entries = self.lock();
        match entries.take_repeated(&entry) {
            Some(before) => entry.repeats = before.repeats.saturating_add(1),
            None if entries.latest_last.len() == KEPT => entries.make_room_for(&entry),
            None => {}
        }
        let entry = Arc::new(entry);
        entries.push(Arc::clone(&entry));
        drop(entries);
        self.news.send_replace(());
        entry
    }

    pub(crate) fn clear(&self) {
        let mut entries = self.lock();
        *entries = Entries::new(entries.end.journal);
        drop(entries);
        self.news.send_replace(());
    }

    /// The entries after a place that match, shared and not copied.
    pub(crate) fn after(&self, since: Since, matches: impl Fn(&Entry) -> bool) -> Found {
        let entries = self.lock();
        let (seq, began_anew) = since.resolve(entries.end);
        let from = entries.latest_last.partition_point(|entry| entry.seq <= seq);
        let later = entries.latest_last.range(from..).filter(|entry| matches(entry)).cloned();
        Found { entries: later.collect(), next: entries.end, dropped: entries.dropped, began_anew }
    }

    /// Notices each entry and each reset from here on.
    pub(crate) fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.lock().latest_last.iter().map(|entry| (**entry).clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Cuts a text to [`LONGEST_TEXT`], so that clients cannot fill the memory.
fn shorten(text: &mut String) {
    let end = text.char_indices().map(|(at, _)| at).find(|at| *at >= LONGEST_TEXT);
    if let Some(end) = end {
        text.truncate(end);
        text.push('…');
    }
}

const KEPT: usize = 10_000;
/// More than one, because two clients that disturb each other are refused in turns, for different reasons.
const LOOKED_BACK: usize = 8;
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
    fn the_oldest_entry_is_dropped_to_make_room() {
        let journal = Journal::default();

        for seq in 1..=KEPT as u64 + 1 {
            journal.record(Entry { cause: None, ..entry(seq) });
        }

        let entries = journal.entries();
        assert_eq!(entries.len(), KEPT);
        assert_eq!(entries.first().unwrap().seq, 2);
    }

    #[test]
    fn a_reader_goes_on_behind_what_it_has_read_and_learns_what_it_missed() {
        let journal = Journal::default();
        let all = |since| journal.after(since, |_| true);
        let numbers = |found: &Found| found.entries.iter().map(|entry| entry.seq).collect::<Vec<_>>();
        for seq in 1..=3 {
            journal.record(Entry { cause: None, ..entry(seq) });
        }

        let found = journal.after(Since::Number(1), |entry| entry.seq != 2);
        assert_eq!((numbers(&found), found.next.seq), (vec![3], 3));
        assert!(all(Since::Cursor(found.next)).entries.is_empty());
        journal.record(Entry { cause: None, ..entry(4) });
        assert_eq!(numbers(&all(Since::Cursor(found.next))), [4]);

        for seq in 5..=KEPT as u64 + 6 {
            journal.record(Entry { cause: None, connection: seq, id: None, ..entry(seq) });
        }
        assert_eq!(all(Since::Number(0)).dropped, 6);

        journal.clear();
        journal.record(Entry { cause: None, ..entry(1) });
        let anew = all(Since::Cursor(found.next));
        assert!(anew.began_anew && numbers(&anew) == [1] && anew.dropped == 0);
        assert_ne!(anew.next.journal, found.next.journal);
    }

    #[test]
    fn a_repeated_refusal_is_read_again_under_its_new_number() {
        let journal = Journal::default();
        journal.record(entry(1));
        let read = journal.after(Since::Number(0), |_| true);

        journal.record(entry(2));

        let again = journal.after(Since::Cursor(read.next), |_| true);
        let entries = again.entries.iter().map(|entry| (entry.seq, entry.repeats)).collect::<Vec<_>>();
        assert_eq!(entries, [(2, 1)]);
    }

    #[test]
    fn a_request_that_is_refused_again_for_the_same_reason_is_counted() {
        let journal = Journal::default();
        journal.record(Entry { id: Some("other".into()), ..entry(1) });

        // Two clients are refused in turns, each for another reason, with accepted requests in between.
        for seq in (2..3_002).step_by(3) {
            journal.record(Entry { connection: seq, ..entry(seq) });
            journal.record(Entry { cause: None, status: 202, ..entry(seq + 1) });
            journal.record(Entry { cause: Some("taken over".into()), ..entry(seq + 2) });
        }

        let entries = journal.entries();
        let refused: Vec<_> = entries.iter().filter(|entry| entry.cause.is_some()).collect();
        assert_eq!(refused.iter().map(|entry| entry.repeats).collect::<Vec<_>>(), [0, 999, 999]);
        assert_eq!((refused[1].seq, refused[1].connection), (2_999, 2_999), "the latest");
        assert_eq!(entries.iter().filter(|entry| entry.cause.is_none()).count(), 1_000);
        assert!(refused[1].to_string().ends_with("there is no  token) (repeats: 999)"), "{}", refused[1]);
        assert!(entries.windows(2).all(|pair| pair[0].seq < pair[1].seq), "in the order of their numbers");
    }

    #[test]
    fn a_client_that_is_refused_without_end_does_not_push_out_the_others() {
        for same_id in [true, false] {
            let journal = Journal::default();
            for seq in 1..=100 {
                let id = Some(format!("dev{seq}"));
                journal.record(Entry { id, connection: 1_000 + seq, cause: None, ..entry(seq) });
            }

            for seq in 101..=3 * KEPT as u64 {
                let id = Some(if same_id { "a".into() } else { format!("a{seq}") });
                let connection = if same_id { 10_000 + seq } else { 7 };
                journal.record(Entry { id, connection, cause: Some(format!("cause {seq}")), ..entry(seq) });
            }

            let entries = journal.entries();
            assert_eq!(entries.len(), KEPT);
            assert_eq!(entries.iter().filter(|entry| entry.cause.is_none()).count(), 100, "{same_id}");
            assert_eq!(entries.last().unwrap().seq, 3 * KEPT as u64);
        }
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
            protocol: "https",
            method: "GET".into(),
            target: "/enrollments/a".into(),
            id: Some("a".into()),
            status: 401,
            error_code: Some(401_000),
            cause: Some("there is no\n token".into()),
            warning: None,
            repeats: 0,
        }
    }
}
