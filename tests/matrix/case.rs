//! A case of the matrix: one fault, its limits, and the judgement of its end.

use std::time::Duration;

use azure_dps_core::{Error, ErrorKind, RetryPolicy};
use azure_dps_tests::relay::{Fault, Harm, Side};

pub(crate) const HARMS: [Harm; 5] =
    [Harm::Cut, Harm::Stall, Harm::Delay, Harm::Truncate, Harm::HalfThenStall];

/// How many units the client and the server send on a connection without a fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Units {
    pub(crate) least: [usize; 2],
    pub(crate) most: [usize; 2],
}

impl Units {
    /// Each harm at each unit of both sides, once and on every connection.
    pub(crate) fn cases(self) -> impl Iterator<Item = Case> {
        let sides = [Side::Client, Side::Server].into_iter().zip(self.least).zip(self.most);
        let places =
            sides.flat_map(|((side, least), most)| (0..most).map(move |at| (side, at, at + VARYING < least)));
        places.flat_map(|(side, at, is_always_sent)| {
            HARMS.into_iter().flat_map(move |harm| {
                [false, true].map(|every| Case { fault: Fault { side, at, harm, every }, is_always_sent })
            })
        })
    }
}

/// Two messages can share one TLS record, or have one each. So many fewer units than in any run without a fault
/// are no surprise.
const VARYING: usize = 3;

/// One fault at one unit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) fault: Fault,
    /// Whether every run sends the unit: each run without a fault did, and it is not among the last.
    is_always_sent: bool,
}

/// The end of a case.
pub(crate) struct Seen {
    pub(crate) result: Result<(), Error>,
    pub(crate) elapsed: Duration,
    /// When the call had to end.
    pub(crate) deadline: Duration,
    /// A second call of the same client, on a network without faults.
    pub(crate) again: Result<(), Error>,
    pub(crate) hits: usize,
    pub(crate) most: [usize; 2],
}

impl Case {
    /// Its registration id.
    pub(crate) fn name(&self) -> String {
        let Fault { side, at, harm, every } = self.fault;
        let extent = if every { "every" } else { "once" };
        format!("{side:?}-{at}-{harm:?}-{extent}").to_lowercase()
    }

    /// Whether a busy machine may be the cause of this end, so that another run can tell.
    pub(crate) fn is_doubtful(&self, seen: &Seen) -> bool {
        let broken =
            |result: &Result<(), Error>| result.as_ref().is_err_and(|error| RIGHT.contains(&error.kind()));
        seen.hits == 0 || seen.is_late() || broken(&seen.again) || (ends(self.fault) && broken(&seen.result))
    }

    /// The reason why the end is wrong.
    pub(crate) fn wrong(&self, seen: &Seen) -> Option<String> {
        if seen.hits == 0 && self.is_always_sent {
            return Some("no connection got to the place of the fault".to_owned());
        }
        if let Err(error) = &seen.again {
            return Some(format!("the second call failed: {:?}: {error}", error.kind()));
        }
        if seen.is_late() {
            return Some(format!("the call ended after {:?}", seen.elapsed));
        }
        match &seen.result {
            Ok(()) => None,
            Err(error) if !ends(self.fault) && RIGHT.contains(&error.kind()) => None,
            Err(error) => Some(format!("the call failed: {:?}: {error}", error.kind())),
        }
    }
}

impl Seen {
    fn is_late(&self) -> bool {
        self.elapsed > self.deadline + LATE
    }
}

/// Whether the client gets past the fault.
fn ends(fault: Fault) -> bool {
    !fault.every || fault.harm == Harm::Delay
}

/// The deadline of a case: short where nothing but the deadline may end it.
pub(crate) fn deadline(fault: Option<Fault>) -> Duration {
    match fault {
        Some(fault) if ends(fault) => PATIENT,
        Some(Fault { harm: Harm::Stall | Harm::HalfThenStall, .. }) => SHORT,
        Some(_) => BRIEF,
        None => PATIENT,
    }
}

/// Enough retries for a busy machine where the case must succeed; few where the fault has no end. There the
/// first pause is longer too, because each loss after a reply leads to another connection.
pub(crate) fn retry(fault: Option<Fault>) -> RetryPolicy {
    let (retries, first_pause) = if fault.is_none_or(ends) { (8, 1) } else { (2, 50) };
    RetryPolicy::new().with_retries(retries).with_first_pause(Duration::from_millis(first_pause))
}

/// The kinds of errors that a broken network may cause.
const RIGHT: [ErrorKind; 3] = [ErrorKind::Connect, ErrorKind::Io, ErrorKind::Timeout];
/// The limit of one attempt to connect, and of one exchange.
pub(crate) const LIMIT: Duration = Duration::from_secs(1);
/// Enough for attempts that wait for their limits.
pub(crate) const SHORT: Duration = Duration::from_secs(4);
/// Enough for attempts that fail at once, and for their pauses.
const BRIEF: Duration = Duration::from_secs(1);
pub(crate) const PATIENT: Duration = Duration::from_secs(60);
/// How late a call may end.
const LATE: Duration = Duration::from_millis(500);
