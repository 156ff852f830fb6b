//! The rows of the table, then thousands of calls in simulated time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use azure_dps_core::RetryPolicy;
use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn go(rules: &mut Rules, rank: Rank, now: Instant) -> Option<Ticket> {
    let place = rules.queue(rank);
    match rules.ask(place, now) {
        Turn::Go(ticket) => Some(ticket),
        Turn::AskAgain(_) => None,
    }
}

/// Lets `count` requests through at once.
fn fill(rules: &mut Rules, count: usize, now: Instant) -> Vec<Ticket> {
    (0..count).map(|number| go(rules, Rank::New, now).unwrap_or_else(|| panic!("{number}"))).collect()
}

#[test]
fn as_many_go_as_the_width_allows_and_an_answer_makes_room() {
    let (mut rules, now) = (Rules::default(), Instant::now());
    let tickets = fill(&mut rules, WIDE, now);
    let waiting = rules.queue(Rank::New);
    assert_eq!(rules.ask(waiting, now), Turn::AskAgain(now + SILENCE));
    rules.answered(tickets[3], now);
    assert!(matches!(rules.ask(waiting, now), Turn::Go(_)));
}

#[test]
fn calls_that_have_begun_go_first_and_then_those_that_came_first() {
    let (mut rules, now) = (Rules::default(), Instant::now());
    let tickets = fill(&mut rules, WIDE, now);
    let [first, second] = [rules.queue(Rank::New), rules.queue(Rank::New)];
    let begun = rules.queue(Rank::Begun);
    for expected in [begun, first, second] {
        assert_eq!(rules.next(), Some(expected));
        rules.leave_queue(expected);
    }
    drop(tickets);
}

#[test]
fn a_request_without_an_answer_counts_for_a_second() {
    let (mut rules, now) = (Rules::default(), Instant::now());
    fill(&mut rules, WIDE, now);
    assert_eq!(go(&mut rules, Rank::New, now + SILENCE - Duration::from_millis(1)), None);
    let mut rules = Rules::default();
    fill(&mut rules, WIDE, now);
    fill(&mut rules, WIDE, now + SILENCE);
}

#[test]
fn after_a_refusal_no_request_goes_until_the_time_has_passed_then_one_then_more() {
    let (mut rules, now) = (Rules::default(), Instant::now());
    let tickets = fill(&mut rules, 10, now);
    rules.throttled(tickets[0], 60 * SECOND, 63 * SECOND, now);
    let late = rules.queue(Rank::New);
    assert_eq!(rules.ask(late, now + 62 * SECOND), Turn::AskAgain(now + 63 * SECOND));
    let then = now + 63 * SECOND;
    let Turn::Go(probe) = rules.ask(late, then) else { panic!("the probe") };
    assert_eq!(go(&mut rules, Rank::New, then), None, "the probe goes alone");
    rules.answered(probe, then);

    let mut most = 0;
    for _ in 0..100 {
        let mut tickets = Vec::new();
        while let Some(place) = rules.next().or_else(|| Some(rules.queue(Rank::New))) {
            match rules.ask(place, then) {
                Turn::Go(ticket) => tickets.push(ticket),
                Turn::AskAgain(_) => break,
            }
        }
        most = tickets.len();
        tickets.into_iter().for_each(|ticket| rules.answered(ticket, then));
    }
    assert_eq!(most, NARROW, "while a quota is used up");
    let calm = then + CALM;
    for _ in 0..WIDE {
        let place = rules.next().unwrap_or_else(|| rules.queue(Rank::New));
        let Turn::Go(ticket) = rules.ask(place, calm) else { panic!("room") };
        rules.answered(ticket, calm);
    }
    fill(&mut rules, WIDE, calm);
}

#[test]
fn requests_that_were_sent_before_a_refusal_lengthen_the_wait_and_do_not_widen_the_gate() {
    let (mut rules, now) = (Rules::default(), Instant::now());
    let tickets = fill(&mut rules, 3, now);
    rules.throttled(tickets[0], SECOND, SECOND, now);
    rules.throttled(tickets[1], 5 * SECOND, 9 * SECOND, now);
    assert_eq!(rules.opens(), Some(now + 5 * SECOND));
    rules.answered(tickets[2], now);
    let then = now + 5 * SECOND;
    assert!(go(&mut rules, Rank::New, then).is_some());
    assert_eq!(go(&mut rules, Rank::New, then), None, "one at a time");
}

#[test]
fn a_lost_probe_makes_room_for_the_next_one() {
    let (mut rules, now) = (Rules::default(), Instant::now());
    let tickets = fill(&mut rules, 1, now);
    rules.throttled(tickets[0], SECOND, SECOND, now);
    let probe = go(&mut rules, Rank::New, now + SECOND).unwrap();
    rules.lost(probe, now + SECOND);
    assert!(go(&mut rules, Rank::New, now + SECOND).is_some());
}

#[test]
fn any_call_that_asks_goes_when_the_first_does_not_use_its_room() {
    let (mut rules, now) = (Rules::default(), Instant::now());
    let tickets = fill(&mut rules, WIDE, now);
    let [first, second] = [rules.queue(Rank::New), rules.queue(Rank::New)];
    rules.answered(tickets[0], now);
    let Turn::AskAgain(at) = rules.ask(second, now) else { panic!("out of turn") };
    assert!(matches!(rules.ask(second, at), Turn::Go(_)));
    assert_eq!(rules.next(), Some(first));
}

#[test]
fn no_refusal_closes_the_gate_for_more_than_an_hour() {
    let (mut rules, now) = (Rules::default(), Instant::now());
    let tickets = fill(&mut rules, 1, now);
    rules.throttled(tickets[0], Duration::MAX, Duration::MAX, now);
    assert_eq!(rules.opens(), Some(now + LONGEST));
}

/// Starts `calls` at once against a service that allows `quota` in any minute and answers after `latency`.
/// Returns when the last call was done, and how many requests were refused.
fn crowd(calls: usize, quota: usize, latency: Duration, seed: u64) -> (Duration, usize) {
    let (mut rules, start) = (Rules::default(), Instant::now());
    let mut now = start;
    for _ in 0..calls {
        rules.queue(Rank::New);
    }
    let (mut window, mut answers) = (VecDeque::new(), BinaryHeap::new());
    let (mut tickets, mut done, mut refused) = (Vec::new(), 0, 0);
    let mut backoff = RetryPolicy::new().start(seed);
    while done < calls {
        let mut again = None;
        while let Some(place) = rules.next() {
            match rules.ask(place, now) {
                Turn::AskAgain(at) => {
                    again = Some(at);
                    break;
                }
                Turn::Go(ticket) => {
                    while window.front().is_some_and(|at| now - *at >= MINUTE) {
                        window.pop_front();
                    }
                    let wait = if window.len() < quota {
                        window.push_back(now);
                        None
                    } else {
                        let wait = MINUTE - (now - window[0]);
                        Some(Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)))
                    };
                    answers.push(Reverse((now + latency, tickets.len())));
                    tickets.push((ticket, wait));
                }
            }
        }
        let answered = answers.peek().map(|Reverse((at, _))| *at);
        now = answered.into_iter().chain(again).min().unwrap();
        while answers.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            let Some(Reverse((_, number))) = answers.pop() else { break };
            match tickets[number] {
                (ticket, None) => {
                    rules.answered(ticket, now);
                    done += 1;
                }
                (ticket, Some(wait)) => {
                    rules.throttled(ticket, wait, backoff.throttled(Some(wait)).unwrap(), now);
                    rules.queue(Rank::Begun);
                    refused += 1;
                }
            }
        }
    }
    (now - start, refused)
}

#[test]
fn five_thousand_calls_at_once_take_little_longer_than_the_quota_requires_and_few_are_refused() {
    // The quota lets the last thousand in after four minutes.
    for latency in [1, 5, 20, 50, 100, 200] {
        for seed in 0..5 {
            let (took, refused) = crowd(5000, 1000, Duration::from_millis(latency), seed);
            assert!(took <= 4 * MINUTE * 12 / 10, "{latency} ms: {took:?}");
            assert!(refused <= 100, "{latency} ms: {refused} refused");
        }
    }
}

/// An event at the gate.
#[derive(Clone, Debug)]
enum Event {
    Queue(bool),
    Ask,
    LeaveQueue(usize),
    Answered(usize),
    Throttled(usize, u64),
    Lost(usize),
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => any::<bool>().prop_map(Event::Queue),
        6 => Just(Event::Ask),
        1 => any::<usize>().prop_map(Event::LeaveQueue),
        3 => any::<usize>().prop_map(Event::Answered),
        1 => (any::<usize>(), 0_u64..100).prop_map(|(which, wait)| Event::Throttled(which, wait)),
        1 => any::<usize>().prop_map(Event::Lost),
        2 => (0_u64..5_000).prop_map(Event::Pass),
    ]
}

proptest! {
    #[test]
    fn the_first_in_the_queue_always_goes_eventually(
        events in proptest::collection::vec(event(), 1..200)
    ) {
        let (mut rules, mut now) = (Rules::default(), Instant::now());
        let (mut places, mut tickets) = (Vec::new(), Vec::new());
        for event in events {
            match event {
                Event::Queue(begun) => places.push(rules.queue(if begun { Rank::Begun } else { Rank::New })),
                Event::Ask => {
                    let Some(place) = rules.next() else { continue };
                    if let Turn::Go(ticket) = rules.ask(place, now) {
                        prop_assert!(rules.opens().is_none_or(|opens| opens <= now), "the gate was closed");
                        prop_assert!(rules.under_way.len() <= rules.width);
                        places.retain(|other| *other != place);
                        tickets.push(ticket);
                    }
                }
                Event::LeaveQueue(which) if !places.is_empty() => {
                    rules.leave_queue(places.swap_remove(which % places.len()));
                }
                Event::Answered(which) if !tickets.is_empty() => {
                    rules.answered(tickets.swap_remove(which % tickets.len()), now);
                }
                Event::Throttled(which, wait) if !tickets.is_empty() => {
                    let wait = Duration::from_secs(wait);
                    rules.throttled(tickets.swap_remove(which % tickets.len()), wait, wait, now);
                }
                Event::Lost(which) if !tickets.is_empty() => {
                    rules.lost(tickets.swap_remove(which % tickets.len()), now);
                }
                Event::Pass(milliseconds) => now += Duration::from_millis(milliseconds),
                _ => {}
            }
        }
        // No further answer arrives: time alone lets every call through.
        let deadline = now + Duration::from_secs(200) + SILENCE * u32::try_from(places.len()).unwrap();
        while let Some(place) = rules.next() {
            match rules.ask(place, now) {
                Turn::Go(_) => {}
                Turn::AskAgain(at) => {
                    prop_assert!(at > now && at <= deadline, "{at:?}");
                    now = at;
                }
            }
        }
    }
}
