//! Which call may send a request, and when: values only, no runtime and no clock.
//!
//! | state | event | next |
//! |---|---|---|
//! | open | there is room | the first in the queue goes; calls that have begun are before new ones, then by arrival |
//! | any | as many requests are in progress as the width allows | the queue waits for an answer |
//! | any | a request has no answer after a second | it no longer counts, so that a silent service blocks no call |
//! | any | a request is throttled | closed for `retry-after` plus a random part, at most an hour; width 1 |
//! | closed | an earlier request is throttled too | closed for at least its `retry-after` |
//! | closed | the time has passed | open: the first request is the probe, since the width is 1 |
//! | open | a request that was sent since is answered | the width grows by 1, up to 8 |
//! | open | two minutes without throttling | the width grows up to 32 |
//! | open | there is room, and the first in the queue does not use it | any call that asks goes |
//!
//! The last row is for futures that are not polled: they must not block the others.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Rules {
    queue: BTreeSet<Place>,
    arrivals: u64,
    /// The requests of the last second that have no answer yet, the oldest first.
    under_way: VecDeque<Ticket>,
    width: usize,
    /// No request is sent before this time.
    opens: Option<Instant>,
    /// How often the gate was closed.
    closings: u64,
    /// Since when there is unused room.
    room_since: Option<Instant>,
}

/// A place in the queue. The smaller one is first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    rank: Rank,
    arrival: u64,
}

/// A call that has begun goes first, because its time limit is running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Rank {
    Begun,
    New,
}

/// A request that was let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    arrival: u64,
    closings: u64,
    at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Go(Ticket),
    /// Not yet: ask again at this time, or earlier when something changes for the first in the queue.
    AskAgain(Instant),
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            queue: BTreeSet::new(),
            arrivals: 0,
            under_way: VecDeque::new(),
            width: WIDE,
            opens: None,
            closings: 0,
            room_since: None,
        }
    }
}

impl Rules {
    pub(super) fn queue(&mut self, rank: Rank) -> Place {
        self.arrivals += 1;
        let place = Place { rank, arrival: self.arrivals };
        self.queue.insert(place);
        place
    }

    pub(super) fn leave_queue(&mut self, place: Place) {
        self.queue.remove(&place);
    }

    /// The first in the queue.
    pub(super) fn next(&self) -> Option<Place> {
        self.queue.first().copied()
    }

    pub(super) fn opens(&self) -> Option<Instant> {
        self.opens
    }

    /// Whether the call at `place` may go now; if so, it leaves the queue.
    pub(super) fn ask(&mut self, place: Place, now: Instant) -> Turn {
        self.forget_silent(now);
        let is_first = self.queue.first() == Some(&place);
        let later = |at: Instant| if is_first { at } else { at + PATIENCE };
        if let Some(opens) = self.opens.filter(|opens| *opens > now) {
            return Turn::AskAgain(later(opens));
        }
        if self.under_way.len() >= self.width {
            let frees = self.under_way.front().map_or(now, |oldest| oldest.at) + SILENCE;
            return Turn::AskAgain(later(frees));
        }
        let room_since = self.room_since.max(self.opens).unwrap_or(now);
        if !is_first && now - room_since < PATIENCE {
            return Turn::AskAgain(now + 2 * PATIENCE);
        }
        self.queue.remove(&place);
        let ticket = Ticket { arrival: place.arrival, closings: self.closings, at: now };
        self.under_way.push_back(ticket);
        self.room_since = Some(now);
        Turn::Go(ticket)
    }

    /// Records an answer that is not throttling.
    pub(super) fn answered(&mut self, ticket: Ticket, now: Instant) {
        self.end(ticket, now);
        if ticket.closings == self.closings {
            let calm = self.opens.is_none_or(|opens| opens + CALM <= now);
            self.width = self.width.max((self.width + 1).min(if calm { WIDE } else { NARROW }));
        }
    }

    /// Records that the service throttled the request: it asked for `least`, and `pause` adds a random part.
    pub(super) fn throttled(&mut self, ticket: Ticket, least: Duration, pause: Duration, now: Instant) {
        self.end(ticket, now);
        let is_news = ticket.closings == self.closings;
        let pause = if is_news { pause } else { least };
        self.opens = self.opens.max(Some(now + pause.min(LONGEST)));
        if is_news {
            self.closings += 1;
            self.width = 1;
        }
    }

    /// Records that no answer arrived, or that the call was dropped.
    pub(super) fn lost(&mut self, ticket: Ticket, now: Instant) {
        self.end(ticket, now);
    }

    fn end(&mut self, ticket: Ticket, now: Instant) {
        if self.under_way.len() >= self.width {
            self.room_since = Some(now);
        }
        self.under_way.retain(|other| other.arrival != ticket.arrival);
    }

    fn forget_silent(&mut self, now: Instant) {
        while let Some(oldest) = self.under_way.front().filter(|oldest| now - oldest.at >= SILENCE) {
            if self.under_way.len() >= self.width {
                self.room_since = self.room_since.max(Some(oldest.at + SILENCE));
            }
            self.under_way.pop_front();
        }
    }
}

/// How many requests may be in progress while the service does not throttle. At most so many are refused when
/// a quota is used up for the first time.
const WIDE: usize = 32;
/// The same while the service throttles: enough for 1,000 requests a minute at 400 ms each.
const NARROW: usize = 8;
/// A quota counts by the minute: after two minutes without throttling it is not used up.
const CALM: Duration = Duration::from_secs(120);
/// How long an unanswered request counts as in progress.
const SILENCE: Duration = Duration::from_secs(1);
/// How long the first in the queue may leave room unused.
const PATIENCE: Duration = Duration::from_secs(1);
/// Quotas count by the minute, so that a longer `retry-after` is a mistake, and a probe is harmless.
const LONGEST: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests;
