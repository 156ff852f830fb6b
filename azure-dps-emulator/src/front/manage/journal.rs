//! `GET /journal`: the entries that a reader looks for, waited for if there are none.
//!
//! | member | entries |
//! | --- | --- |
//! | `id` | of this id, without regard to case |
//! | `status` | with this status, or of this class, such as `4xx` |
//! | `since` | after this number, or after the cursor of an earlier answer |
//! | `wait` | the answer waits so many seconds for the first entry; a reset ends the wait |

use std::time::Duration;

use hyper::StatusCode;
use tokio::time::{Instant, timeout_at};

use super::query::{Query, shown};
use super::reply::bad;
use crate::instance::Instance;
use crate::state::journal::cursor::Since;
use crate::state::journal::{Entry, Found};

/// The members of the query.
pub(super) const MEMBERS: [&str; 4] = ["id", "status", "since", "wait"];

/// What a reader looks for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    id: Option<String>,
    status: Option<Status>,
    since: Since,
    wait: Duration,
}

#[derive(Debug, PartialEq, Eq)]
enum Status {
    Exact(u16),
    /// The statuses with this first digit.
    Class(u16),
}

impl Wanted {
    fn read(query: &Query) -> Result<Self, String> {
        let must =
            |name: &str, what: &str, value: &str| format!("{name} must be {what}; it is {}", shown(value));
        let id = query.get("id").map(|id| match id {
            "" => Err(must("id", "a registration, enrollment, group or device ID", id)),
            id => Ok(id.to_owned()),
        });
        let status = query.get("status").map(|text| {
            Status::read(text).ok_or_else(|| must("status", "100 to 599, or a class such as 4xx", text))
        });
        let since = query.get("since").map(|text| {
            let what = "the number of an entry, or the Journal-Next of an earlier answer";
            Since::read(text).ok_or_else(|| must("since", what, text))
        });
        let wait = query.get("wait").map(|text| {
            let seconds = text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
            let seconds = seconds.filter(|seconds| *seconds <= LONGEST_WAIT);
            let what = format!("a whole number of seconds, at most {LONGEST_WAIT}");
            seconds.map(Duration::from_secs).ok_or_else(|| must("wait", &what, text))
        });
        Ok(Wanted {
            id: id.transpose()?,
            status: status.transpose()?,
            since: since.transpose()?.unwrap_or(Since::Number(0)),
            wait: wait.transpose()?.unwrap_or_default(),
        })
    }

    fn is_met_by(&self, entry: &Entry) -> bool {
        let id = |wanted: &String| entry.id.as_ref().is_some_and(|id| id.eq_ignore_ascii_case(wanted));
        self.id.as_ref().is_none_or(id)
            && self.status.as_ref().is_none_or(|status| match *status {
                Status::Exact(status) => entry.status == status,
                Status::Class(class) => entry.status / 100 == class,
            })
    }
}

impl Status {
    fn read(text: &str) -> Option<Self> {
        let [first @ b'1'..=b'5', second, third] = *text.as_bytes() else { return None };
        match [second, third].map(|digit| digit.to_ascii_lowercase()) {
            [b'x', b'x'] => Some(Status::Class(u16::from(first - b'0'))),
            [b'0'..=b'9', b'0'..=b'9'] => text.parse().ok().map(Status::Exact),
            _ => None,
        }
    }
}

/// Finds the entries, and waits for the first one if the query says so. The future can be dropped at any time.
pub(super) async fn find(query: &Query, instance: &Instance) -> Result<Found, (StatusCode, String)> {
    let wanted = Wanted::read(query).map_err(bad)?;
    let journal = instance.journal();
    let mut news = journal.news();
    let look = |since| journal.after(since, |entry| wanted.is_met_by(entry));
    let mut found = look(wanted.since);
    if wanted.wait.is_zero() {
        return Ok(found);
    }
    let deadline = Instant::now() + wanted.wait;
    let mut seat = None;
    while found.entries.is_empty() && !found.began_anew {
        if seat.is_none() {
            let taken = instance.journal_waits().try_acquire();
            seat = Some(taken.map_err(|_| (StatusCode::TOO_MANY_REQUESTS, TOO_MANY_WAIT.to_owned()))?);
        }
        match timeout_at(deadline, news.changed()).await {
            Ok(Ok(())) => found = look(Since::Cursor(found.next)),
            _ => break,
        }
    }
    Ok(found)
}

const LONGEST_WAIT: u64 = 300;
const TOO_MANY_WAIT: &str =
    "64 requests wait for entries of the journal already: let some of them end, or ask without wait";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Wanted, String> {
        Wanted::read(&Query::read("/journal", text, &MEMBERS)?)
    }

    #[test]
    fn every_member_is_optional() {
        let all = Wanted { id: None, status: None, since: Since::Number(0), wait: Duration::ZERO };
        assert_eq!(read(""), Ok(all));

        let wanted = Wanted {
            id: Some("dev1".into()),
            status: Some(Status::Class(4)),
            since: Since::Number(7),
            wait: Duration::from_secs(300),
        };
        assert_eq!(read("id=dev1&status=4XX&since=7&wait=300"), Ok(wanted));
        assert_eq!(read("status=401").unwrap().status, Some(Status::Exact(401)));
    }

    #[test]
    fn an_error_shows_the_value() {
        for (text, wanted) in [
            ("id=", "id must be a registration, enrollment, group or device ID; it is empty"),
            ("status=ok", "status must be 100 to 599, or a class such as 4xx; it is ok"),
            ("status=600", "status must be 100 to 599, or a class such as 4xx; it is 600"),
            ("status=40x", "status must be 100 to 599, or a class such as 4xx; it is 40x"),
            ("status=", "status must be 100 to 599, or a class such as 4xx; it is empty"),
            (
                "since=-1",
                "since must be the number of an entry, or the Journal-Next of an earlier answer; it is -1",
            ),
            ("wait=301", "wait must be a whole number of seconds, at most 300; it is 301"),
            ("wait=-1", "wait must be a whole number of seconds, at most 300; it is -1"),
            ("wait=%2B1", "wait must be a whole number of seconds, at most 300; it is +1"),
            ("wait=0.5", "wait must be a whole number of seconds, at most 300; it is 0.5"),
            (
                "wait=99999999999999999999",
                "wait must be a whole number of seconds, at most 300; it is 99999999999999999999",
            ),
            ("wait", "wait must be a whole number of seconds, at most 300; it is empty"),
        ] {
            assert_eq!(read(text), Err(wanted.to_owned()), "{text}");
        }
    }
}
