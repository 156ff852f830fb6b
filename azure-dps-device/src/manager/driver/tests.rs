//! The rows of the driver's table, then its invariants over arbitrary events.

use proptest::prelude::*;
use time::macros::datetime;

use super::event::{Assigned, Failure, Found, Issued};
use super::step::Login;
use super::*;
use crate::manager::connector::EndReason;
use crate::manager::ladder::Ladder;
use crate::manager::memory::{Certificate, Place};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);
const PASSING: Event = Event::RegistrationFailed(Failure::Passing { retry_after: None });
const NOTHING: Found = Found::Nothing { retry_after: None };
const REFUSED: Event = Event::RegistrationFailed(Failure::Credential);

/// Ladders without a random part, so that pauses can be compared.
fn policy() -> ManagerPolicy {
    ManagerPolicy::new()
        .with_register_ladder(Ladder::new(SECOND, MINUTE, 0))
        .with_stuck_ladder(Ladder::new(MINUTE, MINUTE * 60, 0))
        .with_refused_ladder(Ladder::new(MINUTE * 5, MINUTE * 60, 0))
        .with_hub_ladder(Ladder::new(SECOND, MINUTE, 0))
}

/// A driver and its clocks.
struct Bench {
    driver: Driver,
    now: Now,
    saves: u32,
    /// What the store has.
    record: Memory,
}

impl Bench {
    fn with(credentials: usize, can_look_up: bool, memory: Memory) -> Self {
        let now = Now { instant: Instant::now(), wall: datetime!(2026-11-26 08:00 UTC) };
        let driver = Driver::new(policy(), 1 << 63, credentials, can_look_up, memory.clone(), now);
        Self { driver, now, saves: 0, record: memory }
    }

    /// A device that has never been provisioned.
    fn new() -> Self {
        Self::with(1, true, Memory::default())
    }

    /// A device that has an assignment.
    fn placed() -> Self {
        Self::with(1, true, Memory { place: Some(place("a")), ..Memory::default() })
    }

    fn online() -> Self {
        let memory =
            Memory { place: Some(place("a")), transport: Some("MQTT".to_owned()), ..Memory::default() };
        let mut bench = Self::with(1, true, memory);
        bench.expect(Step::Connect(Login::Credential(0)));
        bench.on(Event::HubConnected);
        bench
    }

    /// A device that is online with a certificate of 30 days that was issued now.
    fn online_with_certificate() -> Self {
        let mut bench = Self::new();
        bench.pass(MINUTE);
        bench.expect(Step::Register(0));
        let certificate = bench.certificate("first", DAY * 30);
        bench.assign("a", Some(certificate));
        bench.expect(Step::Connect(Login::Candidate));
        bench.on(Event::HubConnected);
        bench
    }

    /// The device after a power failure: only its record is left.
    fn reboot(&mut self) {
        while self.driver.save_at.is_some_and(|at| at <= self.now.instant) {
            assert_eq!(self.driver.next(self.now), Step::Save);
            self.save();
        }
        let memory = self.record.clone();
        self.driver = Driver::new(policy(), 1 << 63, self.driver.credentials, true, memory, self.now);
    }

    fn certificate(&self, key: &str, life: Duration) -> Certificate {
        let (not_before, not_after) = (self.now.wall, self.now.wall + life);
        Certificate { chain: String::new(), key: key.to_owned(), not_before, not_after }
    }

    fn on(&mut self, event: Event) {
        self.driver.on(event, self.now);
    }

    fn assign(&mut self, hub: &str, certificate: Option<Certificate>) {
        self.assign_with(hub, certificate.map_or(Issued::Nothing, Issued::Certificate));
    }

    fn assign_with(&mut self, hub: &str, issued: Issued) {
        let transport = Some("MQTT".to_owned());
        self.on(Event::Assigned(Assigned { place: place(hub), issued, transport }));
    }

    /// The device asks the service about its hub, which names the same one; then it wants to register.
    #[track_caller]
    fn look_up_and_register(&mut self, credential: usize) -> Duration {
        let pause = self.wait_for(Step::LookUp(credential));
        assert_eq!(self.driver.state(), ProvisioningState::Registering);
        self.on(Event::LookedUp(Found::SamePlace));
        self.expect(Step::Register(credential));
        pause
    }

    fn end(&mut self, why: EndReason) {
        self.on(Event::HubEnded(why));
    }

    fn pass(&mut self, time: Duration) {
        self.now.instant += time;
        self.now.wall += time;
    }

    fn save(&mut self) {
        self.saves += 1;
        self.record = self.driver.memory().clone();
        self.on(Event::Saved(true));
    }

    /// The next step that is not a save.
    fn step(&mut self) -> Step {
        loop {
            match self.driver.next(self.now) {
                Step::Save => self.save(),
                step => return step,
            }
        }
    }

    #[track_caller]
    fn expect(&mut self, step: Step) {
        assert_eq!(self.step(), step);
    }

    /// How long the driver waits; the time passes.
    #[track_caller]
    fn wait(&mut self) -> Duration {
        match self.step() {
            Step::Wait(until) => {
                let pause = until - self.now.instant;
                self.pass(pause);
                pause
            }
            step => panic!("{step:?}"),
        }
    }

    /// Waits until the driver wants something else.
    #[track_caller]
    fn wait_for(&mut self, step: Step) -> Duration {
        let start = self.now.instant;
        for _ in 0..10_000 {
            match self.step() {
                Step::Wait(until) => {
                    let pause = until - self.now.instant;
                    self.pass(pause);
                }
                other => {
                    assert_eq!(other, step);
                    return self.now.instant - start;
                }
            }
        }
        panic!("{step:?} did not come");
    }
}

fn place(hub: &str) -> Place {
    Place { hub: format!("{hub}.azure-devices.net"), device_id: "sensor".to_owned() }
}

#[test]
fn a_new_device_registers_after_its_part_of_the_first_boot_window() {
    let mut bench = Bench::new();
    assert_eq!(bench.driver.state(), ProvisioningState::Waiting);
    // The seed is half of the largest hash.
    assert_eq!(bench.wait().as_secs_f64().round(), 30.0);
    bench.expect(Step::Register(0));
    assert_eq!(bench.driver.state(), ProvisioningState::Registering);
}

#[test]
fn first_boots_of_a_fleet_are_spread_over_the_window() {
    let now = Now { instant: Instant::now(), wall: datetime!(2026-11-26 08:00 UTC) };
    let starts = (0..1000_u64).map(|device| {
        let seed = device.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let driver = Driver::new(policy(), seed, 1, true, Memory::default(), now);
        driver.next_attempt().unwrap() - now.instant
    });
    let mut seconds = [0; 60];
    starts.for_each(|start| seconds[start.as_secs() as usize] += 1);
    assert!(seconds.iter().all(|count| (5..40).contains(count)), "{seconds:?}");
}

#[test]
fn a_device_with_an_assignment_goes_to_its_hub_without_the_service() {
    let mut bench = Bench::placed();
    bench.expect(Step::Connect(Login::Credential(0)));
    assert_eq!(bench.driver.state(), ProvisioningState::Connecting);
    bench.on(Event::HubConnected);
    assert_eq!(bench.driver.state(), ProvisioningState::Online);
    assert_eq!(bench.saves, 0, "nothing has changed");
}

#[test]
fn an_assignment_is_saved_before_the_device_goes_to_its_hub() {
    let mut bench = Bench::new();
    bench.wait_for(Step::Register(0));
    bench.assign("a", None);
    assert_eq!(bench.driver.next(bench.now), Step::Save);
    bench.on(Event::Saved(true));
    bench.expect(Step::Connect(Login::Credential(0)));
    assert_eq!(bench.driver.memory().place, Some(place("a")));
    assert_eq!(bench.driver.memory().transport.as_deref(), Some("MQTT"));
}

#[test]
fn a_registration_that_fails_for_a_passing_reason_is_repeated_on_the_register_ladder() {
    let mut bench = Bench::new();
    bench.wait_for(Step::Register(0));
    let mut pauses = Vec::new();
    for _ in 0..8 {
        bench.on(PASSING);
        assert_eq!(bench.driver.state(), ProvisioningState::Waiting);
        pauses.push(bench.wait_for(Step::Register(0)).as_secs());
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
}

#[test]
fn retry_after_is_the_shortest_pause_even_beyond_the_longest_one_of_the_ladder() {
    for (asked, waited) in [(0, 1), (7, 7), (600, 600)] {
        let mut bench = Bench::new();
        bench.wait_for(Step::Register(0));
        let retry_after = Some(Duration::from_secs(asked));
        bench.on(Event::RegistrationFailed(Failure::Passing { retry_after }));
        assert_eq!(bench.wait_for(Step::Register(0)).as_secs(), waited);
    }
}

#[test]
fn a_device_that_is_not_enrolled_yet_tries_on_the_stuck_ladder() {
    let mut bench = Bench::new();
    bench.wait_for(Step::Register(0));
    let mut pauses = Vec::new();
    for _ in 0..8 {
        bench.on(REFUSED);
        assert_eq!(bench.driver.state(), ProvisioningState::Stuck);
        pauses.push(bench.wait_for(Step::Register(0)).as_secs() / 60);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    bench.assign("a", None);
    bench.expect(Step::Connect(Login::Credential(0)));
}

#[test]
fn a_registration_long_after_the_last_one_begins_with_the_first_transport() {
    let mut bench = Bench::online();
    let mut register_after = |pause: Duration| {
        bench.pass(pause);
        bench.on(Event::Reprovision);
        bench.wait_for(Step::Register(0));
        let transport = bench.driver.memory().transport.clone();
        bench.assign("a", None);
        transport
    };

    assert_eq!(register_after(MINUTE).as_deref(), Some("MQTT"));
    assert_eq!(register_after(DAY - MINUTE).as_deref(), Some("MQTT"));
    assert_eq!(register_after(DAY), None);
    assert_eq!(register_after(MINUTE).as_deref(), Some("MQTT"));
}

#[test]
fn all_credentials_are_tried_at_once_and_the_one_that_works_is_remembered() {
    let mut bench = Bench::with(3, true, Memory::default());
    bench.wait_for(Step::Register(0));
    bench.on(REFUSED);
    bench.expect(Step::Register(1));
    bench.assign("a", None);
    bench.expect(Step::Connect(Login::Credential(1)));
    bench.on(Event::HubConnected);
    bench.end(EndReason::ProvisionAnew);
    bench.pass(MINUTE);
    bench.expect(Step::Register(1));
    // From there on in a circle; after the last one, the ladder.
    bench.on(REFUSED);
    bench.expect(Step::Register(2));
    bench.on(REFUSED);
    bench.expect(Step::Register(0));
    bench.on(REFUSED);
    assert_eq!(bench.driver.memory().failures.stuck, 1);
}

#[test]
fn only_a_connection_resets_the_ladders() {
    let mut bench = Bench::new();
    bench.wait_for(Step::Register(0));
    for _ in 0..3 {
        bench.on(PASSING);
        bench.wait_for(Step::Register(0));
    }
    bench.assign("a", None);
    assert_eq!(bench.driver.memory().failures.register, 3);
    bench.expect(Step::Connect(Login::Credential(0)));
    assert_eq!(bench.driver.memory().failures.register, 3);
    bench.on(Event::HubConnected);
    assert_eq!(bench.driver.memory().failures, Failures::default());
}

#[test]
fn a_reboot_does_not_reset_a_ladder_and_counts_the_time_without_power() {
    let mut bench = Bench::new();
    bench.wait_for(Step::Register(0));
    bench.on(REFUSED);
    bench.wait_for(Step::Register(0));
    bench.on(REFUSED);
    bench.pass(SECOND * 30);
    bench.reboot();
    assert_eq!(bench.driver.state(), ProvisioningState::Stuck);
    assert_eq!(bench.wait_for(Step::Register(0)), SECOND * 90);
    // Without a failure that is known, as after a power cut, a minimum remains.
    bench.step();
    bench.record.failures = Failures::default();
    bench.reboot();
    assert_eq!(bench.wait_for(Step::Register(0)), SECOND);
}

#[test]
fn pauses_after_failures_begin_when_the_registration_has_failed() {
    for (failure, pauses) in [(PASSING, [1, 2, 4, 8]), (REFUSED, [60, 120, 240, 480])] {
        let mut bench = Bench::new();
        bench.wait_for(Step::Register(0));
        for pause in pauses {
            // A service that does not answer.
            bench.pass(MINUTE * 5);
            bench.on(failure.clone());
            assert_eq!(bench.wait_for(Step::Register(0)).as_secs(), pause);
        }
    }
}

#[test]
fn a_registration_that_a_power_failure_interrupts_counts_as_a_failure() {
    let mut bench = Bench::new();
    bench.wait_for(Step::Register(0));
    let mut pauses = Vec::new();
    for _ in 0..8 {
        bench.step();
        bench.reboot();
        pauses.push(bench.wait_for(Step::Register(0)).as_secs());
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    // An outcome takes it back.
    bench.assign("a", None);
    bench.expect(Step::Connect(Login::Credential(0)));
    assert_eq!(bench.driver.memory().failures.register, 8);
    bench.on(Event::HubConnected);
    assert_eq!(bench.driver.memory().failures, Failures::default());
}

#[test]
fn a_stuck_device_whose_registrations_are_interrupted_moves_on_the_stuck_ladder() {
    let mut bench = Bench::new();
    bench.wait_for(Step::Register(0));
    bench.on(REFUSED);
    let mut pauses = Vec::new();
    for _ in 0..4 {
        pauses.push(bench.wait_for(Step::Register(0)).as_secs() / 60);
        bench.step();
        bench.reboot();
    }
    assert_eq!(pauses, [1, 2, 4, 8]);
    bench.wait_for(Step::Register(0));
    bench.on(REFUSED);
    assert_eq!(bench.driver.memory().failures, Failures { stuck: 6, ..Failures::default() });
}

#[test]
fn a_renewal_or_a_wanted_registration_that_a_power_failure_interrupts_counts_as_a_failure() {
    let mut renewal = Bench::online_with_certificate();
    renewal.wait_for(Step::Register(0));
    let mut wanted = Bench::online();
    wanted.on(Event::Reprovision);
    wanted.expect(Step::Register(0));
    for (mut bench, longest) in [(renewal, MINUTE * 8), (wanted, SECOND * 8)] {
        let mut pauses = Vec::new();
        for _ in 0..4 {
            bench.step();
            bench.reboot();
            assert!(matches!(bench.step(), Step::Connect(_)));
            bench.on(Event::HubConnected);
            pauses.push(bench.wait_for(Step::Register(0)));
        }
        assert_eq!(pauses, [longest / 8, longest / 4, longest / 2, longest]);
    }
}

#[test]
fn reboots_do_not_reset_the_ladder_of_refusals_and_the_pauses_grow() {
    let mut bench = Bench::new();
    bench.wait_for(Step::Register(0));
    let mut pauses = Vec::new();
    for _ in 0..8 {
        bench.on(REFUSED);
        let failed = bench.now.instant;
        // A device that is on for 50 s at a time.
        while bench.step() != Step::Register(0) {
            bench.pass(SECOND * 50);
            bench.reboot();
        }
        pauses.push((bench.now.instant - failed).as_secs() / 60);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
}

#[test]
fn a_device_without_a_network_does_not_wear_out_its_flash() {
    let mut bench = Bench::new();
    for _ in 0..1000 {
        bench.wait_for(Step::Register(0));
        bench.on(PASSING);
    }
    bench.step();
    assert!(bench.saves < 12, "{}", bench.saves);
    // After a reboot it is saved that the device registers.
    bench.reboot();
    bench.wait_for(Step::Register(0));
    bench.step();
    bench.reboot();
    assert_eq!(bench.wait_for(Step::Register(0)), MINUTE);
}

#[test]
fn a_device_that_its_hub_refuses_while_the_service_is_away_does_not_wear_out_its_flash() {
    let mut bench = Bench::online();
    bench.end(EndReason::Refused);
    for _ in 0..1000 {
        bench.look_up_and_register(0);
        bench.on(PASSING);
        bench.expect(Step::Connect(Login::Credential(0)));
        bench.end(EndReason::Refused);
    }
    bench.step();
    assert!(bench.saves < 20, "{}", bench.saves);
}

#[test]
fn a_clock_that_is_set_back_makes_an_expired_certificate_usable_while_a_renewal_waits() {
    let mut bench = Bench::online_with_certificate();
    bench.now.wall += DAY * 4000;
    bench.reboot();
    bench.wait_for(Step::Register(0));
    bench.on(Event::RegistrationFailed(Failure::Passing { retry_after: Some(DAY) }));
    assert!(matches!(bench.step(), Step::Wait(_)));
    bench.now.wall -= DAY * 4000;
    bench.expect(Step::Connect(Login::Proven));
    bench.on(Event::HubConnected);
    assert_eq!(bench.wait(), MINUTE * 60);
    assert_eq!(bench.driver.memory().failures, Failures::default());
}

#[test]
fn devices_that_are_asked_to_wait_do_not_return_at_the_same_moment() {
    let now = Now { instant: Instant::now(), wall: datetime!(2026-11-26 08:00 UTC) };
    let pauses = (0..100_u64).map(|device| {
        let seed = device.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut driver = Driver::new(ManagerPolicy::new(), seed, 1, true, Memory::default(), now);
        let now = Now { instant: now.instant + MINUTE, ..now };
        assert_eq!(driver.next(now), Step::Register(0));
        driver.on(Event::RegistrationFailed(Failure::Passing { retry_after: Some(MINUTE * 10) }), now);
        (driver.next_attempt().unwrap() - now.instant).as_secs()
    });
    let pauses: std::collections::BTreeSet<_> = pauses.collect();
    assert!(pauses.first() >= Some(&600) && pauses.last() <= Some(&720) && pauses.len() > 40, "{pauses:?}");
}

/// Boots a device whose clock starts with the same time at each boot, until it registers.
fn boots_until_it_registers(bench: &mut Bench, boot: time::OffsetDateTime, on: Duration) -> usize {
    for boots in 1..100 {
        bench.now.wall = boot;
        bench.reboot();
        let off = bench.now.instant + on;
        loop {
            match bench.step() {
                Step::Register(0) => return boots,
                Step::Connect(_) => bench.end(EndReason::Refused),
                Step::Wait(until) if until < off => bench.pass(until - bench.now.instant),
                Step::Wait(_) => break bench.pass(off - bench.now.instant),
                step => panic!("{step:?}"),
            }
        }
    }
    panic!("the device does not register");
}

#[test]
fn a_device_whose_clock_starts_anew_with_each_boot_gets_through_a_pause() {
    let epoch = datetime!(1970-01-01 0:00 UTC);
    for boot in [epoch, datetime!(2026-11-26 7:00 UTC), datetime!(2026-11-26 8:30 UTC)] {
        let mut bench = Bench::new();
        bench.wait_for(Step::Register(0));
        for _ in 0..7 {
            bench.on(REFUSED);
            bench.wait_for(Step::Register(0));
        }
        bench.on(REFUSED);
        // A pause of an hour, and ten minutes at a time, of which eight are saved.
        let boots = boots_until_it_registers(&mut bench, boot, MINUTE * 10);
        assert!((5..=9).contains(&boots), "{boot}: {boots}");
    }
}

#[test]
fn a_clock_that_was_years_ahead_once_costs_one_pause() {
    let mut bench = Bench::new();
    bench.now.wall += DAY * 4000;
    bench.wait_for(Step::Register(0));
    for _ in 0..7 {
        bench.on(REFUSED);
        bench.wait_for(Step::Register(0));
    }
    bench.on(REFUSED);
    bench.step();
    bench.now.wall -= DAY * 4000;
    bench.reboot();
    assert!(matches!(bench.step(), Step::Wait(_)));
    // The time without power counts from then on.
    bench.pass(MINUTE * 60);
    bench.reboot();
    bench.expect(Step::Register(0));
}

#[test]
fn a_request_outlives_a_reboot_and_the_end_of_the_manager() {
    for stops in [false, true] {
        let mut bench = Bench::online();
        if stops {
            bench.on(Event::Stop);
            bench.expect(Step::CloseHub);
            bench.end(EndReason::ProvisionAnew);
            bench.expect(Step::End);
        } else {
            bench.on(Event::Reprovision);
            bench.expect(Step::Register(0));
            bench.on(PASSING);
            bench.step();
        }
        bench.pass(MINUTE);
        bench.reboot();
        // The hub first, which does not end the request.
        bench.expect(Step::Register(0));
        bench.expect(Step::Connect(Login::Credential(0)));
        bench.on(Event::HubConnected);
        bench.on(PASSING);
        bench.wait_for(Step::Register(0));
        bench.assign("a", None);
        bench.step();
        assert!(!bench.record.is_wanted);
        bench.pass(MINUTE);
        bench.reboot();
        bench.expect(Step::Connect(Login::Credential(0)));
        bench.on(Event::HubConnected);
        assert_eq!(bench.wait(), MINUTE * 60, "once");
    }
}

#[test]
fn a_refused_device_tries_its_hub_while_the_service_asks_for_a_long_pause() {
    let mut bench = Bench::online();
    bench.end(EndReason::Refused);
    bench.look_up_and_register(0);
    bench.on(Event::RegistrationFailed(Failure::Passing { retry_after: Some(DAY) }));
    bench.expect(Step::Connect(Login::Credential(0)));
    let mut pauses = Vec::new();
    for reboots in [false, true, false, false, false] {
        bench.end(EndReason::Refused);
        if reboots {
            bench.reboot();
        }
        assert_eq!(bench.driver.state(), ProvisioningState::Refused);
        pauses.push(bench.wait_for(Step::Connect(Login::Credential(0))).as_secs() / 60);
    }
    assert_eq!(pauses, [10, 20, 40, 60, 60]);
    bench.on(Event::HubConnected);
    assert_eq!(bench.driver.state(), ProvisioningState::Online);
}

#[test]
fn a_certificate_that_is_not_valid_yet_waits_while_the_proven_one_signs_in() {
    let mut bench = Bench::online_with_certificate();
    bench.on(Event::Reprovision);
    bench.wait_for(Step::Register(0));
    // The clock of this device is 20 minutes behind that of the service.
    bench.now.wall += MINUTE * 20;
    let second = bench.certificate("second", DAY * 30);
    bench.now.wall -= MINUTE * 20;
    bench.assign("a", Some(second));
    bench.expect(Step::CloseHub);
    bench.end(EndReason::Closed);
    bench.expect(Step::Connect(Login::Proven));
    bench.on(Event::HubConnected);
    bench.pass(MINUTE * 20);
    bench.end(EndReason::Lost);
    bench.wait_for(Step::Connect(Login::Candidate));
    bench.on(Event::HubConnected);
    assert_eq!(bench.driver.memory().proven.as_ref().unwrap().key, "second");
}

#[test]
fn one_key_that_could_not_be_read_costs_no_certificate_if_it_can_be_read_again() {
    // The hub accepts the certificate.
    let mut bench = Bench::online_with_certificate();
    bench.reboot();
    bench.expect(Step::Connect(Login::Proven));
    bench.on(Event::KeyUnreadable);
    bench.wait_for(Step::Connect(Login::Proven));
    bench.on(Event::HubConnected);
    assert_eq!(bench.wait(), MINUTE * 60);
    assert_eq!(bench.driver.memory().failures.renewal, 0);
    // The hub is away, and the enrollment issues none any more.
    let mut bench = Bench::online_with_certificate();
    bench.reboot();
    bench.expect(Step::Connect(Login::Proven));
    bench.on(Event::KeyUnreadable);
    bench.wait_for(Step::Connect(Login::Proven));
    bench.end(EndReason::Unreachable);
    while bench.step() != Step::Register(0) {
        match bench.step() {
            Step::Connect(_) => bench.end(EndReason::Unreachable),
            _ => drop(bench.wait()),
        }
    }
    bench.assign("a", None);
    assert!(bench.driver.memory().proven.is_some());
}

#[test]
fn limits_of_any_length_do_not_overflow_the_clock() {
    let policy = policy()
        .with_first_boot_window(Duration::MAX)
        .with_registration_timeout(Duration::MAX)
        .with_hub_connect_timeout(Duration::MAX)
        .with_hub_close_timeout(Duration::MAX)
        .with_hub_patience(u32::MAX, Duration::MAX, Duration::MAX)
        .with_transport_memory(Duration::MAX);
    let mut bench = Bench::placed();
    bench.driver = Driver::new(policy, u64::MAX, 1, true, Memory::default(), bench.now);
    assert!(matches!(bench.step(), Step::Wait(_)));
    bench.driver = Driver::new(policy, u64::MAX, 1, true, bench.record.clone(), bench.now);
    bench.expect(Step::Connect(Login::Credential(0)));
    bench.on(Event::HubConnected);
    bench.on(Event::Stop);
    bench.expect(Step::CloseHub);
}

#[test]
fn only_a_refused_credential_leads_to_the_next_one() {
    let mut bench = Bench::with(2, true, Memory::default());
    bench.wait_for(Step::Register(0));
    bench.on(Event::RegistrationFailed(Failure::Refused));
    assert_eq!(bench.driver.state(), ProvisioningState::Stuck);
    assert_eq!(bench.wait_for(Step::Register(0)), MINUTE);
    bench.on(Event::RegistrationFailed(Failure::Credential));
    bench.expect(Step::Register(1));
}

#[test]
fn a_certificate_that_is_not_valid_yet_leads_to_the_next_credential() {
    let mut bench = Bench::with(2, true, Memory::default());
    bench.wait_for(Step::Register(0));
    bench.on(Event::RegistrationFailed(Failure::Early));
    bench.expect(Step::Register(1));
    // Nothing was sent: the clock may be set soon.
    bench.on(Event::RegistrationFailed(Failure::Early));
    assert_eq!(bench.driver.state(), ProvisioningState::Waiting);
    assert!(bench.wait_for(Step::Register(0)) < 2 * SECOND);

    // The service has refused the other credential, whichever comes first.
    for order in [[Failure::Early, Failure::Credential], [Failure::Credential, Failure::Early]] {
        let mut bench = Bench::with(2, true, Memory::default());
        bench.wait_for(Step::Register(0));
        bench.on(Event::RegistrationFailed(order[0]));
        bench.expect(Step::Register(1));
        bench.on(Event::RegistrationFailed(order[1]));
        assert_eq!(bench.driver.state(), ProvisioningState::Stuck, "{order:?}");
        assert_eq!(bench.wait_for(Step::Register(0)), MINUTE, "{order:?}");
    }
}

#[test]
fn a_device_that_is_refused_after_a_long_outage_keeps_the_pause_over_a_reboot() {
    let mut bench = Bench::new();
    bench.wait_for(Step::Register(0));
    for _ in 0..10 {
        bench.on(Event::RegistrationFailed(Failure::Passing { retry_after: None }));
        bench.wait_for(Step::Register(0));
    }
    for _ in 0..10 {
        bench.on(REFUSED);
        bench.wait_for(Step::Register(0));
    }
    bench.on(REFUSED);
    bench.now.wall += time::Duration::seconds(1);
    bench.reboot();
    assert!(bench.wait_for(Step::Register(0)) > 30 * MINUTE);
}

#[test]
fn a_wall_clock_that_jumps_ends_one_pause_at_most_and_stretches_none() {
    for (jump, waited) in [(time::Duration::days(-8000), 120), (time::Duration::days(8000), 0)] {
        let mut bench = Bench::new();
        bench.wait_for(Step::Register(0));
        bench.on(REFUSED);
        bench.wait_for(Step::Register(0));
        bench.on(REFUSED);
        bench.now.wall += jump;
        bench.reboot();
        assert_eq!(bench.wait_for(Step::Register(0)).as_secs(), waited);
        bench.on(REFUSED);
        assert_eq!(bench.driver.memory().failures.stuck, 3);
    }
}

#[test]
fn a_hub_that_cannot_be_reached_is_tried_on_the_hub_ladder_without_the_service() {
    let mut bench = Bench::online();
    bench.end(EndReason::Lost);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        assert_eq!(bench.driver.state(), ProvisioningState::Unreachable);
        pauses.push(bench.wait_for(Step::Connect(Login::Credential(0))).as_secs());
        bench.end(EndReason::Unreachable);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
}

#[test]
fn a_link_that_flaps_costs_no_write() {
    let mut bench = Bench::online();
    for _ in 0..100 {
        bench.end(EndReason::Lost);
        for _ in 0..4 {
            bench.wait_for(Step::Connect(Login::Credential(0)));
            bench.end(EndReason::Unreachable);
        }
        bench.wait_for(Step::Connect(Login::Credential(0)));
        bench.on(Event::HubConnected);
        bench.pass(MINUTE);
    }
    bench.on(Event::Stop);
    bench.expect(Step::CloseHub);
    assert_eq!(bench.saves, 0);
}

#[test]
fn an_outage_costs_three_writes_and_those_of_its_registrations_and_a_reboot_does_not_forget_it() {
    let mut bench = Bench::online();
    let before = bench.now.wall;
    let (step, _) = down(&mut bench);
    assert_eq!((step, bench.saves), (Step::LookUp(0), 2), "one at its beginning, one for the look-up");
    bench.on(Event::LookedUp(Found::SamePlace));
    let (step, _) = down(&mut bench);
    bench.step();
    assert_eq!((step, bench.saves), (Step::Register(0), 3));
    bench.end(EndReason::Unreachable);
    bench.assign("a", None);
    bench.wait_for(Step::Connect(Login::Credential(0)));
    assert_eq!(bench.saves, 4, "the end of the registration");
    bench.on(Event::HubConnected);
    assert!(matches!(bench.step(), Step::Wait(_)));
    assert_eq!(bench.saves, 5);

    let mut bench = Bench::online();
    bench.end(EndReason::Lost);
    while bench.saves == 0 {
        match bench.step() {
            Step::Connect(_) => bench.end(EndReason::Unreachable),
            _ => drop(bench.wait()),
        }
    }
    assert_eq!(bench.driver.memory().failing_since, Some(before));
    bench.pass(MINUTE * 20);
    bench.reboot();
    let (step, after) = down(&mut bench);
    assert_eq!(step, Step::LookUp(0));
    assert!(after < MINUTE * 15, "{after:?}");
}

#[test]
fn a_device_that_is_awake_for_seconds_a_day_asks_about_a_hub_that_is_away() {
    let mut bench = Bench::placed();
    bench.expect(Step::Connect(Login::Credential(0)));
    bench.end(EndReason::Unreachable);
    bench.on(Event::Stop);
    bench.expect(Step::End);
    assert_eq!(bench.saves, 1);
    bench.pass(DAY);
    bench.reboot();
    bench.expect(Step::Connect(Login::Credential(0)));
    assert!(matches!(bench.step(), Step::Wait(_)), "the hub first");
    bench.end(EndReason::Unreachable);
    bench.expect(Step::LookUp(0));
}

#[test]
fn a_registration_that_changes_nothing_is_two_writes() {
    let mut bench = Bench::online();
    bench.pass(DAY);
    bench.on(Event::Reprovision);
    bench.expect(Step::Register(0));
    assert!(matches!(bench.step(), Step::Wait(_)));
    assert_eq!(bench.saves, 1, "when it began");
    bench.assign_with("a", Issued::Nothing);
    assert!(matches!(bench.step(), Step::Wait(_)));
    assert_eq!(bench.saves, 2, "when it ended");
}

/// A hub that is down from now on, tried until the driver wants something else.
fn down(bench: &mut Bench) -> (Step, Duration) {
    bench.end(EndReason::Lost);
    let start = bench.now.instant;
    loop {
        match bench.step() {
            Step::Wait(until) => {
                let pause = until - bench.now.instant;
                bench.pass(pause);
            }
            Step::Connect(_) => bench.end(EndReason::Unreachable),
            step => return (step, bench.now.instant - start),
        }
    }
}

#[test]
fn after_ten_failures_and_a_quarter_of_an_hour_the_service_is_asked_about_the_hub() {
    let mut bench = Bench::online();
    let (step, after) = down(&mut bench);
    assert_eq!(step, Step::LookUp(0));
    assert!(after >= MINUTE * 15 && after <= MINUTE * 17, "{after:?}");
    bench.on(Event::LookedUp(Found::Elsewhere(place("b"))));
    bench.wait_for(Step::Register(0));
    bench.assign("b", None);
    bench.wait_for(Step::Connect(Login::Credential(0)));
}

/// What the device does while its hub stays away, and after how many minutes each.
fn asked(bench: &mut Bench, times: usize, mut answer: impl FnMut(&mut Bench, &Step)) -> Vec<(Step, u64)> {
    let mut asked = Vec::new();
    while asked.len() < times {
        let (step, after) = down(bench);
        answer(bench, &step);
        asked.push((step, (after.as_secs() + 30) / 60));
    }
    asked
}

#[test]
fn a_hub_that_is_gone_for_good_is_asked_about_once_and_then_replaced_by_registrations_that_become_rare() {
    let look_up = |minutes| (Step::LookUp(0), minutes);
    let register = |minutes| (Step::Register(0), minutes);
    // The record of the service names the old hub until a registration changes it.
    let mut bench = Bench::online();
    let answers = [place("a"), place("a"), place("a"), place("a"), place("b")];
    let mut answers = answers.into_iter();
    let asked = asked(&mut bench, 6, |bench, step| match step {
        Step::LookUp(_) => bench.on(Event::LookedUp(Found::SamePlace)),
        _ => {
            let place = answers.next().unwrap();
            bench.on(Event::Assigned(Assigned { place, issued: Issued::Nothing, transport: None }));
        }
    });
    assert_eq!(asked, [look_up(15), register(30), register(30), register(30), register(40), register(60)]);
    assert_eq!(bench.driver.memory().place, Some(place("b")));
    bench.expect(Step::Connect(Login::Credential(0)));
    bench.on(Event::HubConnected);
    assert_eq!(bench.driver.memory().failures, Failures::default());
}

#[test]
fn a_look_up_that_fails_leads_to_a_registration_and_the_next_ones_are_rare_however_they_end() {
    for failure in [PASSING, REFUSED] {
        let mut bench = Bench::online();
        let asked = asked(&mut bench, 5, |bench, step| match step {
            Step::LookUp(_) => bench.on(Event::LookedUp(NOTHING)),
            _ => bench.on(failure.clone()),
        });
        let minutes: Vec<_> = asked.iter().map(|(_, minutes)| *minutes).collect();
        assert_eq!(minutes, [15, 0, 30, 30, 30], "{failure:?}");
        assert_eq!(asked[1].0, Step::Register(0));
        // The hub is back: nothing more is asked for.
        bench.wait_for(Step::Connect(Login::Credential(0)));
        bench.on(Event::HubConnected);
        assert_eq!(bench.wait(), MINUTE * 60);
    }
}

#[test]
fn a_refused_look_up_of_a_hub_that_is_gone_falls_through_to_the_other_credential() {
    let mut bench = Bench::with(2, true, Memory { place: Some(place("a")), ..Memory::default() });
    bench.expect(Step::Connect(Login::Credential(0)));
    assert_eq!(down(&mut bench).0, Step::LookUp(0));
    bench.on(Event::LookedUp(NOTHING));
    bench.wait_for(Step::Register(0));
    bench.on(REFUSED);
    bench.expect(Step::Register(1));
}

#[test]
fn a_hub_that_is_gone_is_replaced_also_by_a_device_that_is_awake_for_seconds_a_day() {
    let mut bench = Bench::placed();
    let mut steps = Vec::new();
    for _ in 0..4 {
        bench.expect(Step::Connect(Login::Credential(0)));
        bench.end(EndReason::Unreachable);
        match bench.step() {
            Step::Wait(_) => {}
            step => {
                match step {
                    Step::LookUp(_) => bench.on(Event::LookedUp(Found::SamePlace)),
                    _ => bench.assign("a", None),
                }
                steps.push(step);
            }
        }
        bench.on(Event::Stop);
        while bench.step() != Step::End {
            bench.end(EndReason::Closed);
        }
        bench.pass(DAY);
        bench.reboot();
    }
    assert_eq!(steps, [Step::LookUp(0), Step::Register(0), Step::Register(0)]);
}

#[test]
fn registrations_for_a_hub_that_was_away_end_when_it_is_back() {
    // Not possible to ask, failed, or another place: none of them was asked for by the application.
    for (can_look_up, found) in [(false, NOTHING), (true, NOTHING), (true, Found::Elsewhere(place("b")))] {
        let memory = Memory { place: Some(place("a")), ..Memory::default() };
        let mut bench = Bench::with(1, can_look_up, memory);
        bench.expect(Step::Connect(Login::Credential(0)));
        if down(&mut bench).0 == Step::LookUp(0) {
            bench.on(Event::LookedUp(found));
            assert_eq!(down(&mut bench).0, Step::Register(0));
        }
        // While the registration is under way, and after it has failed.
        for failure in [PASSING, REFUSED] {
            bench.wait_for(Step::Connect(Login::Credential(0)));
            bench.on(Event::HubConnected);
            bench.on(failure);
            assert_eq!(bench.wait(), MINUTE * 60);
            assert_eq!(bench.driver.memory().failures, Failures::default());
            assert_eq!(down(&mut bench).0, if can_look_up { Step::LookUp(0) } else { Step::Register(0) });
            bench.on(Event::LookedUp(NOTHING));
            if can_look_up {
                assert_eq!(down(&mut bench).0, Step::Register(0));
            }
        }
    }
}

#[test]
fn few_failures_are_enough_after_half_an_hour() {
    let mut bench = Bench::online();
    bench.end(EndReason::Lost);
    bench.wait_for(Step::Connect(Login::Credential(0)));
    bench.end(EndReason::Unreachable);
    bench.pass(MINUTE * 29);
    bench.expect(Step::Connect(Login::Credential(0)));
    bench.end(EndReason::Unreachable);
    bench.pass(MINUTE);
    bench.expect(Step::LookUp(0));
}

#[test]
fn a_device_that_cannot_look_up_registers() {
    let mut bench = Bench::with(1, false, Memory { place: Some(place("a")), ..Memory::default() });
    bench.expect(Step::Connect(Login::Credential(0)));
    let (step, after) = down(&mut bench);
    assert_eq!(step, Step::Register(0));
    assert!(after >= MINUTE * 15 && after <= MINUTE * 17, "{after:?}");
}

#[test]
fn a_device_that_its_hub_refuses_registers_at_once_if_it_has_not_for_long() {
    let mut bench = Bench::online();
    bench.end(EndReason::Refused);
    assert_eq!(bench.look_up_and_register(0), Duration::ZERO);
    bench.assign("a", None);
    bench.expect(Step::Connect(Login::Credential(0)));
    // It has registered just before: from here on the ladder.
    let mut pauses = Vec::new();
    for _ in 0..5 {
        bench.end(EndReason::Refused);
        assert_eq!(bench.driver.state(), ProvisioningState::Refused);
        pauses.push(bench.look_up_and_register(0).as_secs() / 60);
        bench.assign("a", None);
        bench.expect(Step::Connect(Login::Credential(0)));
    }
    assert_eq!(pauses, [10, 20, 40, 60, 60]);
}

#[test]
fn a_refused_device_goes_to_the_hub_that_the_look_up_names_and_registers_if_that_one_refuses_it_too() {
    let mut bench = Bench::online();
    bench.end(EndReason::Refused);
    bench.expect(Step::LookUp(0));
    bench.on(Event::LookedUp(Found::Elsewhere(place("b"))));
    bench.expect(Step::Connect(Login::Credential(0)));
    assert_eq!(bench.driver.memory().place, Some(place("b")));
    bench.end(EndReason::Refused);
    bench.expect(Step::LookUp(0));
    bench.on(Event::LookedUp(Found::Elsewhere(place("a"))));
    bench.expect(Step::Register(0));
}

#[test]
fn a_refused_device_that_cannot_look_up_or_finds_nothing_registers() {
    for found in [Found::SamePlace, NOTHING] {
        let mut bench = Bench::online();
        bench.end(EndReason::Refused);
        bench.expect(Step::LookUp(0));
        bench.on(Event::LookedUp(found));
        bench.expect(Step::Register(0));
    }
    let mut bench = Bench::with(1, false, Memory { place: Some(place("a")), ..Memory::default() });
    bench.expect(Step::Connect(Login::Credential(0)));
    bench.end(EndReason::Refused);
    bench.expect(Step::Register(0));
}

#[test]
fn a_device_whose_hub_accepts_it_again_does_not_ask_the_service() {
    for failure in [PASSING, REFUSED] {
        let mut bench = Bench::online();
        bench.end(EndReason::Refused);
        bench.look_up_and_register(0);
        bench.on(failure);
        bench.expect(Step::Connect(Login::Credential(0)));
        bench.on(Event::HubConnected);
        assert_eq!(bench.wait(), MINUTE * 60);
    }
}

#[test]
fn the_other_credentials_are_tried_at_the_hub_before_the_device_counts_as_refused() {
    let memory = Memory { place: Some(place("a")), ..Memory::default() };
    let mut bench = Bench::with(2, true, memory);
    bench.expect(Step::Connect(Login::Credential(0)));
    bench.end(EndReason::Refused);
    bench.expect(Step::Connect(Login::Credential(1)));
    bench.on(Event::HubConnected);
    assert_eq!(bench.driver.memory().credential, 1);
    bench.end(EndReason::Refused);
    bench.expect(Step::Connect(Login::Credential(0)));
    bench.end(EndReason::Refused);
    bench.look_up_and_register(1);
}

#[test]
fn a_refusal_does_not_postpone_a_registration_that_is_wanted_sooner() {
    let mut bench = Bench::online();
    bench.on(Event::Reprovision);
    let wanted = bench.driver.next_attempt().unwrap();
    bench.end(EndReason::Refused);
    assert!(bench.driver.next_attempt().unwrap() <= wanted);
}

#[test]
fn a_refused_device_that_the_service_refuses_too_asks_its_hub_after_each_registration() {
    let mut bench = Bench::online();
    bench.end(EndReason::Refused);
    bench.look_up_and_register(0);
    bench.on(REFUSED);
    bench.expect(Step::Connect(Login::Credential(0)));
    bench.end(EndReason::Refused);
    assert_eq!(bench.wait_for(Step::Register(0)), MINUTE);
    bench.on(REFUSED);
    bench.expect(Step::Connect(Login::Credential(0)));
    bench.on(Event::HubConnected);
    assert_eq!(bench.driver.state(), ProvisioningState::Online);
}

#[test]
fn a_refusal_survives_a_reboot() {
    let mut bench = Bench::online();
    bench.end(EndReason::Refused);
    bench.look_up_and_register(0);
    bench.assign("a", None);
    bench.expect(Step::Connect(Login::Credential(0)));
    bench.end(EndReason::Refused);
    bench.expect(Step::Wait(bench.now.instant + MINUTE * 10));
    bench.pass(MINUTE);
    bench.reboot();
    assert_eq!(bench.driver.state(), ProvisioningState::Refused);
    assert_eq!(bench.look_up_and_register(0), MINUTE * 9);
}

#[test]
fn a_closed_connection_is_opened_again_after_the_first_pause() {
    let mut bench = Bench::online();
    for _ in 0..3 {
        bench.end(EndReason::Closed);
        assert_eq!(bench.wait_for(Step::Connect(Login::Credential(0))), SECOND);
        bench.on(Event::HubConnected);
    }
}

#[test]
fn a_device_that_was_taken_over_stops() {
    let mut bench = Bench::online();
    bench.end(EndReason::TakenOver);
    bench.expect(Step::End);
    assert_eq!(bench.driver.state(), ProvisioningState::Stopped);
}

#[test]
fn a_device_stays_online_while_it_is_provisioned_anew() {
    let mut bench = Bench::online();
    bench.on(Event::Reprovision);
    bench.expect(Step::Register(0));
    assert_eq!(bench.driver.state(), ProvisioningState::Online);
    // To the same place: nothing changes.
    bench.assign("a", None);
    assert!(matches!(bench.step(), Step::Wait(_)));
    // To another one: the connection is closed, then opened there.
    bench.on(Event::Reprovision);
    bench.wait_for(Step::Register(0));
    bench.assign("b", None);
    bench.expect(Step::CloseHub);
    bench.end(EndReason::Closed);
    bench.expect(Step::Connect(Login::Credential(0)));
}

#[test]
fn a_request_during_a_registration_means_one_more() {
    let mut bench = Bench::online();
    bench.on(Event::Reprovision);
    bench.expect(Step::Register(0));
    bench.on(Event::Reprovision);
    bench.on(Event::Reprovision);
    bench.assign("a", None);
    bench.wait_for(Step::Register(0));
    bench.assign("a", None);
    assert_eq!(bench.wait(), MINUTE * 60, "one more, not two");
}

#[test]
fn requests_in_quick_succession_get_longer_pauses() {
    let mut bench = Bench::online();
    let mut pauses = Vec::new();
    for _ in 0..8 {
        bench.on(Event::Reprovision);
        pauses.push(bench.wait_for(Step::Register(0)).as_secs());
        bench.assign("a", None);
    }
    assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 32, 60]);
    bench.pass(MINUTE * 2);
    bench.on(Event::Reprovision);
    bench.expect(Step::Register(0));
}

#[test]
fn a_hub_that_takes_too_long_to_connect_is_dropped() {
    let mut bench = Bench::placed();
    bench.expect(Step::Connect(Login::Credential(0)));
    assert_eq!(bench.wait_for(Step::DropHub), MINUTE * 2);
    assert_eq!(bench.driver.state(), ProvisioningState::Unreachable);
    bench.wait_for(Step::Connect(Login::Credential(0)));
}

#[test]
fn a_hub_that_takes_too_long_to_close_is_dropped() {
    let mut bench = Bench::online();
    bench.on(Event::Reprovision);
    bench.expect(Step::Register(0));
    bench.assign("b", None);
    bench.expect(Step::CloseHub);
    assert_eq!(bench.wait_for(Step::DropHub), SECOND * 10);
    bench.expect(Step::Connect(Login::Credential(0)));
}

#[test]
fn stopping_abandons_a_registration_and_saves() {
    let mut bench = Bench::new();
    bench.wait_for(Step::Register(0));
    bench.on(Event::Stop);
    assert!(!bench.driver.is_at_service());
    assert_eq!(bench.driver.next(bench.now), Step::Save);
    bench.on(Event::Saved(false));
    bench.expect(Step::End);
}

#[test]
fn stopping_closes_the_connection_to_the_hub() {
    let mut bench = Bench::online();
    bench.on(Event::Stop);
    bench.expect(Step::CloseHub);
    bench.end(EndReason::Closed);
    bench.expect(Step::End);
    let mut bench = Bench::online();
    bench.on(Event::Stop);
    bench.expect(Step::CloseHub);
    assert_eq!(bench.wait_for(Step::DropHub), SECOND * 10);
    bench.expect(Step::End);
}

#[test]
fn a_store_that_cannot_be_written_is_tried_again_on_the_stuck_ladder() {
    let mut bench = Bench::new();
    bench.wait_for(Step::Register(0));
    bench.assign("a", None);
    assert_eq!(bench.driver.next(bench.now), Step::Save);
    bench.on(Event::Saved(false));
    assert_eq!(bench.driver.next(bench.now), Step::Connect(Login::Credential(0)));
    bench.on(Event::HubConnected);
    // A change does not make it try earlier.
    bench.on(Event::Reprovision);
    bench.now.instant += MINUTE - SECOND;
    assert_eq!(bench.driver.next(bench.now), Step::Register(0));
    assert!(matches!(bench.driver.next(bench.now), Step::Wait(_)));
    bench.now.instant += SECOND;
    assert_eq!(bench.driver.next(bench.now), Step::Save);
}

#[test]
fn a_candidate_certificate_is_proven_by_a_connection() {
    let bench = Bench::online_with_certificate();
    let memory = bench.driver.memory();
    assert_eq!(memory.proven.as_ref().unwrap().key, "first");
    assert_eq!(memory.candidate, None);
}

#[test]
fn a_certificate_is_renewed_beside_the_connection_and_the_new_one_is_proven_before_the_old_one_goes() {
    let mut bench = Bench::online_with_certificate();
    assert!(matches!(bench.step(), Step::Wait(_)));
    let waited = bench.wait_for(Step::Register(0));
    assert!(waited >= DAY * 30 * 75 / 100 && waited <= DAY * 30 * 80 / 100, "{waited:?}");
    let first = bench.driver.memory().proven.clone().unwrap();
    let moment = policy().renewal.moment(first.not_before, first.not_after, 1 << 63);
    assert!(bench.now.wall >= moment && bench.now.wall - moment < SECOND, "not an hour late");
    let second = bench.certificate("second", DAY * 30);
    bench.assign("a", Some(second));
    assert_eq!(bench.driver.memory().proven.as_ref().unwrap().key, "first");
    bench.expect(Step::CloseHub);
    bench.end(EndReason::Lost);
    bench.expect(Step::Connect(Login::Candidate));
    assert_eq!(bench.driver.memory().proven.as_ref().unwrap().key, "first");
    bench.on(Event::HubConnected);
    assert_eq!(bench.driver.memory().proven.as_ref().unwrap().key, "second");
}

#[test]
fn a_new_certificate_that_the_hub_refuses_gives_way_to_the_proven_one_and_renewals_become_rare() {
    let mut bench = Bench::online_with_certificate();
    bench.wait_for(Step::Register(0));
    let mut pauses = Vec::new();
    for _ in 0..4 {
        let second = bench.certificate("second", DAY * 30);
        bench.assign("a", Some(second));
        bench.expect(Step::CloseHub);
        bench.end(EndReason::Closed);
        bench.expect(Step::Connect(Login::Candidate));
        bench.end(EndReason::Refused);
        bench.expect(Step::Connect(Login::Proven));
        bench.on(Event::HubConnected);
        pauses.push(bench.wait_for(Step::Register(0)).as_secs() / 60);
    }
    assert_eq!(pauses, [1, 2, 4, 8]);
}

#[test]
fn a_key_that_cannot_be_read_costs_no_certificate_and_the_proven_one_signs_in_meanwhile() {
    let mut bench = Bench::online_with_certificate();
    bench.wait_for(Step::Register(0));
    let second = bench.certificate("second", DAY * 30);
    bench.assign("a", Some(second));
    bench.expect(Step::CloseHub);
    bench.end(EndReason::Closed);
    bench.expect(Step::Connect(Login::Candidate));
    bench.on(Event::KeyUnreadable);
    bench.expect(Step::Connect(Login::Proven));
    bench.on(Event::HubConnected);
    assert_eq!(bench.driver.memory().candidate.as_ref().unwrap().key, "second");
    // The next connection tries it again. It works, so that no other certificate is needed.
    bench.end(EndReason::Lost);
    bench.wait_for(Step::Connect(Login::Candidate));
    bench.on(Event::HubConnected);
    assert_eq!(bench.driver.memory().proven.as_ref().unwrap().key, "second");
    assert_eq!(bench.wait(), MINUTE * 60);
}

#[test]
fn a_device_whose_keys_stay_unreadable_asks_for_another_certificate_on_the_stuck_ladder() {
    let mut bench = Bench::online_with_certificate();
    bench.end(EndReason::Lost);
    bench.wait_for(Step::Connect(Login::Proven));
    let (mut pauses, mut last) = (Vec::new(), bench.now.instant);
    bench.on(Event::KeyUnreadable);
    while pauses.len() < 4 {
        match bench.step() {
            Step::Connect(Login::Proven | Login::Candidate) => bench.on(Event::KeyUnreadable),
            Step::Register(0) => {
                pauses.push((bench.now.instant - last).as_secs() / 60);
                last = bench.now.instant;
                bench.assign_with("a", Issued::Unusable);
            }
            Step::LookUp(0) => bench.on(Event::LookedUp(Found::SamePlace)),
            Step::Wait(until) => bench.pass(until - bench.now.instant),
            step => panic!("{step:?}"),
        }
    }
    assert!(pauses.windows(2).all(|pair| pair[0] < pair[1]), "{pauses:?}");
    assert_eq!(bench.driver.memory().proven.as_ref().unwrap().key, "first");
}

#[test]
fn a_first_certificate_that_is_not_usable_is_asked_for_again_on_the_stuck_ladder_also_after_a_reboot() {
    let mut bench = Bench::new();
    bench.wait_for(Step::Register(0));
    let mut pauses = Vec::new();
    for _ in 0..3 {
        bench.assign_with("a", Issued::Unusable);
        bench.step();
        bench.on(Event::HubConnected);
        pauses.push(bench.wait_for(Step::Register(0)).as_secs() / 60);
    }
    assert_eq!(pauses, [1, 2, 4]);
    bench.assign_with("a", Issued::Unusable);
    bench.step();
    bench.reboot();
    bench.expect(Step::Connect(Login::Credential(0)));
    bench.on(Event::HubConnected);
    assert_eq!(bench.wait_for(Step::Register(0)), MINUTE * 8);
    let certificate = bench.certificate("first", DAY * 30);
    bench.assign("a", Some(certificate));
    bench.expect(Step::CloseHub);
    bench.end(EndReason::Closed);
    bench.expect(Step::Connect(Login::Candidate));
    bench.on(Event::HubConnected);
    // An enrollment that issues none ends it too.
    let mut bench = Bench::new();
    bench.wait_for(Step::Register(0));
    bench.assign_with("a", Issued::Unusable);
    bench.expect(Step::Connect(Login::Credential(0)));
    bench.on(Event::HubConnected);
    bench.wait_for(Step::Register(0));
    bench.assign("a", None);
    assert_eq!(bench.wait(), MINUTE * 60);
}

#[test]
fn an_issued_certificate_that_the_hub_refuses_leads_back_to_the_service() {
    let mut bench = Bench::online_with_certificate();
    bench.pass(DAY);
    bench.end(EndReason::Refused);
    bench.look_up_and_register(0);
    let second = bench.certificate("second", DAY * 30);
    bench.assign("a", Some(second));
    bench.expect(Step::Connect(Login::Candidate));
    bench.on(Event::HubConnected);
}

#[test]
fn a_device_whose_certificates_have_expired_registers_with_its_credential() {
    let mut bench = Bench::online_with_certificate();
    bench.pass(DAY * 40);
    bench.reboot();
    bench.expect(Step::Register(0));
    assert_eq!(bench.driver.state(), ProvisioningState::Registering);
    bench.on(PASSING);
    bench.wait_for(Step::Register(0));
    let second = bench.certificate("second", DAY * 30);
    bench.assign("a", Some(second));
    bench.expect(Step::Connect(Login::Candidate));
}

#[test]
fn an_enrollment_that_does_not_issue_certificates_any_more_leads_back_to_the_credential() {
    let mut bench = Bench::online_with_certificate();
    bench.wait_for(Step::Register(0));
    // The old one is still valid, and the next request waits.
    bench.assign("a", None);
    assert_eq!(bench.wait_for(Step::Register(0)), MINUTE);
    bench.pass(DAY * 30);
    bench.assign("a", None);
    assert!(bench.driver.memory().proven.is_none());
}

#[test]
fn a_clock_that_is_years_ahead_does_not_make_the_device_hammer_the_service() {
    let mut bench = Bench::new();
    bench.wait_for(Step::Register(0));
    let real = bench.certificate("first", DAY * 30);
    bench.now.wall += DAY * 4000;
    let mut pauses = Vec::new();
    for _ in 0..5 {
        bench.assign("a", Some(real.clone()));
        pauses.push(bench.wait_for(Step::Register(0)).as_secs() / 60);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16]);
    // The clock is set: the certificate is valid.
    bench.now.wall -= DAY * 4000;
    bench.assign("a", Some(real));
    bench.expect(Step::Connect(Login::Candidate));
}

#[test]
fn a_clock_that_is_set_back_during_a_look_up_makes_an_expired_certificate_usable_again() {
    let mut bench = Bench::online_with_certificate();
    let (step, _) = down(&mut bench);
    assert_eq!(step, Step::LookUp(0));
    bench.now.wall += DAY * 4000;
    assert!(matches!(bench.step(), Step::Wait(_)));
    bench.now.wall -= DAY * 4000;
    bench.on(Event::LookedUp(Found::SamePlace));
    bench.wait_for(Step::Connect(Login::Proven));
}

#[test]
fn a_proven_certificate_that_the_hub_refuses_goes_if_the_service_issues_no_other_one() {
    for issued in [Issued::Nothing, Issued::Unusable] {
        for reboots in [false, true] {
            let mut bench = Bench::online_with_certificate();
            bench.pass(DAY);
            bench.end(EndReason::Refused);
            assert!(bench.driver.memory().proven.is_some(), "the service decides");
            if reboots {
                bench.reboot();
            }
            bench.look_up_and_register(0);
            bench.assign_with("a", issued.clone());
            bench.expect(Step::Connect(Login::Credential(0)));
            bench.on(Event::HubConnected);
            assert_eq!(bench.driver.memory().proven, None);
        }
    }
}

#[test]
fn a_refusal_of_the_proven_certificate_does_not_cost_a_newer_one() {
    let mut bench = Bench::online_with_certificate();
    bench.pass(DAY);
    bench.end(EndReason::Refused);
    bench.look_up_and_register(0);
    let second = bench.certificate("second", DAY * 30);
    bench.assign("a", Some(second));
    bench.expect(Step::Connect(Login::Candidate));
    bench.end(EndReason::Unreachable);
    bench.on(Event::Reprovision);
    bench.wait_for(Step::Register(0));
    bench.assign("a", None);
    bench.expect(Step::Connect(Login::Candidate));
}

#[test]
fn a_certificate_whose_key_is_lost_goes_if_the_enrollment_issues_none_any_more() {
    let mut bench = Bench::online_with_certificate();
    bench.end(EndReason::Lost);
    bench.wait_for(Step::Connect(Login::Proven));
    bench.on(Event::KeyUnreadable);
    loop {
        match bench.step() {
            Step::Connect(Login::Proven) => bench.on(Event::KeyUnreadable),
            Step::Wait(until) => bench.pass(until - bench.now.instant),
            step => break assert_eq!(step, Step::Register(0)),
        }
    }
    bench.assign("a", None);
    bench.expect(Step::Connect(Login::Credential(0)));
}

#[test]
fn a_renewal_that_the_service_refuses_gets_longer_pauses_also_on_a_link_that_flaps() {
    for failure in [REFUSED, PASSING] {
        let mut bench = Bench::online_with_certificate();
        bench.wait_for(Step::Register(0));
        let mut starts = vec![bench.now.instant];
        bench.on(failure.clone());
        while starts.len() < 6 {
            bench.pass(SECOND / 10);
            bench.end(EndReason::Lost);
            loop {
                match bench.step() {
                    Step::Connect(Login::Proven) => break bench.on(Event::HubConnected),
                    Step::Register(0) => {
                        starts.push(bench.now.instant);
                        bench.on(failure.clone());
                    }
                    Step::Wait(until) => bench.pass(until - bench.now.instant),
                    step => panic!("{step:?}"),
                }
            }
        }
        let pauses: Vec<_> = starts.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
        assert!(pauses.windows(2).all(|pair| pair[1] > pair[0] * 1.5), "{pauses:?}");
    }
}

#[test]
fn a_request_that_ends_a_connection_which_the_manager_closes_is_not_lost() {
    let mut bench = Bench::online();
    bench.on(Event::Reprovision);
    bench.expect(Step::Register(0));
    bench.assign("b", None);
    bench.expect(Step::CloseHub);
    bench.end(EndReason::ProvisionAnew);
    bench.expect(Step::Connect(Login::Credential(0)));
    bench.on(Event::HubConnected);
    bench.wait_for(Step::Register(0));
}

#[test]
fn a_request_outlives_a_registration_that_fails_and_the_connection_after_it() {
    for (failure, asks_meanwhile) in [(PASSING, true), (REFUSED, true), (REFUSED, false)] {
        let mut bench = Bench::online();
        if asks_meanwhile {
            bench.end(EndReason::Refused);
            bench.look_up_and_register(0);
        }
        bench.on(Event::Reprovision);
        if !asks_meanwhile {
            bench.expect(Step::Register(0));
            bench.end(EndReason::Lost);
        }
        bench.on(failure);
        bench.wait_for(Step::Connect(Login::Credential(0)));
        bench.on(Event::HubConnected);
        assert!(bench.wait_for(Step::Register(0)) <= MINUTE);
    }
}

#[test]
fn a_request_during_a_look_up_outlives_the_connection_after_it() {
    for found in [Found::SamePlace, Found::Elsewhere(place("b"))] {
        let mut bench = Bench::online();
        bench.end(EndReason::Refused);
        bench.expect(Step::LookUp(0));
        bench.on(Event::Reprovision);
        bench.on(Event::LookedUp(found));
        bench.wait_for(Step::Register(0));
        bench.on(PASSING);
        bench.wait_for(Step::Connect(Login::Credential(0)));
        bench.on(Event::HubConnected);
        bench.wait_for(Step::Register(0));
    }
}

#[test]
fn a_request_outlives_a_refusal_of_the_hub_that_leads_to_another_hub() {
    let mut bench = Bench::online();
    bench.pass(DAY);
    bench.on(Event::Reprovision);
    bench.expect(Step::Register(0));
    bench.assign("a", None);
    bench.on(Event::Reprovision);
    bench.end(EndReason::Refused);
    assert_eq!(bench.wait_for(Step::Register(0)), SECOND);
}

#[test]
fn a_request_shortens_the_pause_after_a_refusal_that_an_earlier_request_got() {
    let mut bench = Bench::online();
    bench.on(Event::Reprovision);
    for _ in 0..4 {
        bench.wait_for(Step::Register(0));
        bench.on(REFUSED);
    }
    bench.pass(MINUTE * 2);
    bench.on(Event::Reprovision);
    bench.expect(Step::Register(0));
}

const RETRY_AFTER: Duration = Duration::from_secs(400);

/// A new device whose first registration the service throttles.
fn throttled() -> Bench {
    let mut bench = Bench::new();
    bench.wait_for(Step::Register(0));
    bench.on(Event::RegistrationFailed(Failure::Passing { retry_after: Some(RETRY_AFTER) }));
    bench
}

#[test]
fn a_request_does_not_shorten_retry_after() {
    let mut bench = throttled();
    bench.on(Event::Reprovision);
    assert_eq!(bench.wait_for(Step::Register(0)), RETRY_AFTER);
    let mut bench = Bench::online();
    bench.end(EndReason::Refused);
    bench.look_up_and_register(0);
    bench.on(Event::RegistrationFailed(Failure::Passing { retry_after: Some(RETRY_AFTER) }));
    let until = bench.now.instant + RETRY_AFTER;
    bench.expect(Step::Connect(Login::Credential(0)));
    // The connection makes the registration needless, and a request makes it due again.
    bench.on(Event::HubConnected);
    bench.end(EndReason::ProvisionAnew);
    bench.wait_for(Step::Connect(Login::Credential(0)));
    bench.on(Event::HubConnected);
    bench.wait_for(Step::Register(0));
    assert_eq!(bench.now.instant, until);
}

#[test]
fn a_reboot_does_not_shorten_retry_after_whatever_the_clock_shows() {
    let cases = [(0, 300), (-8000, 400), (8000, 0)];
    for (jump, waited) in cases {
        let mut bench = throttled();
        bench.pass(SECOND * 100);
        bench.now.wall += time::Duration::days(jump);
        bench.reboot();
        assert_eq!(bench.wait_for(Step::Register(0)).as_secs(), waited);
    }
}

#[test]
fn retry_after_is_a_day_at_most() {
    let mut bench = Bench::new();
    bench.wait_for(Step::Register(0));
    bench.on(Event::RegistrationFailed(Failure::Passing { retry_after: Some(DAY * 30) }));
    assert_eq!(bench.wait_for(Step::Register(0)), DAY);
}

#[test]
fn a_look_up_that_is_throttled_postpones_the_registration_after_it() {
    let mut bench = Bench::online();
    bench.end(EndReason::Refused);
    bench.expect(Step::LookUp(0));
    bench.on(Event::LookedUp(Found::Nothing { retry_after: Some(RETRY_AFTER) }));
    assert_eq!(bench.wait_for(Step::Register(0)), RETRY_AFTER);
    // The same for a hub that cannot be reached.
    let mut bench = Bench::online();
    let (step, _) = down(&mut bench);
    assert_eq!(step, Step::LookUp(0));
    bench.on(Event::LookedUp(Found::Nothing { retry_after: Some(MINUTE * 45) }));
    let (step, after) = down(&mut bench);
    assert_eq!((step, after), (Step::Register(0), MINUTE * 45));
}

#[test]
fn retry_after_holds_for_a_renewal_and_for_a_key_that_cannot_be_read() {
    let mut bench = Bench::online_with_certificate();
    bench.on(Event::Reprovision);
    bench.wait_for(Step::Register(0));
    bench.on(Event::RegistrationFailed(Failure::Passing { retry_after: Some(DAY) }));
    let until = bench.now.instant + DAY;
    bench.reboot();
    bench.expect(Step::Connect(Login::Proven));
    bench.on(Event::KeyUnreadable);
    loop {
        match bench.step() {
            Step::Register(0) => break,
            Step::Connect(_) => bench.on(Event::KeyUnreadable),
            Step::Wait(until) => bench.pass(until - bench.now.instant),
            step => panic!("{step:?}"),
        }
    }
    assert!(bench.now.instant >= until);
}

#[test]
fn a_manager_that_stops_does_not_register() {
    let mut bench = Bench::online();
    bench.on(Event::Stop);
    bench.expect(Step::CloseHub);
    bench.on(Event::Reprovision);
    assert!(matches!(bench.step(), Step::Wait(_)));
    bench.end(EndReason::ProvisionAnew);
    bench.expect(Step::End);
}

#[test]
fn a_look_up_that_answers_after_the_hub_is_back_does_not_count_as_an_outage() {
    for found in [Found::SamePlace, NOTHING] {
        let mut bench = Bench::online();
        let (step, _) = down(&mut bench);
        assert_eq!(step, Step::LookUp(0));
        bench.wait_for(Step::Connect(Login::Credential(0)));
        bench.on(Event::HubConnected);
        bench.on(Event::LookedUp(found));
        bench.pass(DAY);
        let (step, after) = down(&mut bench);
        assert_eq!(step, Step::LookUp(0));
        assert!(after >= MINUTE * 15, "{after:?}");
    }
}

/// An event that can happen at any time, fitting or not.
fn any_event() -> impl Strategy<Value = Option<u8>> {
    proptest::option::weighted(0.8, 0_u8..22)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn registrations_keep_their_distance_and_something_is_always_due_or_under_way(
        events in proptest::collection::vec((any_event(), 0_u64..4000, -4000_i64..4000, 0_u8..50), 1..200),
        seed: u64, credentials in 1_usize..4, can_look_up: bool, placed: bool, life in 0_u64..100,
    ) {
        let mut now = Now { instant: Instant::now(), wall: datetime!(2026-11-26 08:00 UTC) };
        let memory = Memory { place: placed.then(|| place("a")), ..Memory::default() };
        let policy = ManagerPolicy::new();
        let mut driver = Driver::new(policy, seed, credentials, can_look_up, memory, now);
        let shortest = policy.register.shortest(1);
        // A reboot keeps the distance by the wall clock, which may jump.
        let (mut last, mut is_exact): (Option<Instant>, bool) = (None, true);
        let mut is_stopping = false;
        let mut not_before: Option<Instant> = None;
        for (event, pause, jump, chance) in events {
            let mut steps = 0;
            loop {
                steps += 1;
                prop_assert!(steps < 50, "the driver spins");
                let pass = matches!(driver.service, Service::Due { .. });
                match driver.next(now) {
                    Step::Wait(until) => {
                        prop_assert!(until > now.instant);
                        break;
                    }
                    Step::End => {
                        prop_assert_eq!(driver.state(), ProvisioningState::Stopped);
                        return Ok(());
                    }
                    Step::Register(credential) => {
                        prop_assert!(credential < credentials);
                        prop_assert!(!is_stopping, "the driver registers while it stops");
                        if pass {
                            prop_assert!(not_before.is_none_or(|at| at <= now.instant), "retry-after");
                        }
                        if let (Some(last), true, true) = (last, pass, is_exact) {
                            prop_assert!(now.instant - last >= shortest);
                        }
                        if pass {
                            (last, is_exact) = (Some(now.instant), true);
                        }
                    }
                    Step::Save => driver.on(Event::Saved(chance % 3 > 0), now),
                    Step::LookUp(_) => {
                        prop_assert!(!is_stopping && not_before.is_none_or(|at| at <= now.instant));
                    }
                    Step::Connect(_) => prop_assert!(!is_stopping),
                    Step::CloseHub | Step::DropHub => {}
                }
            }
            let is_live = !matches!(driver.service, Service::Idle) || !matches!(driver.hub, Hub::Idle);
            prop_assert!(is_live, "{driver:?}");
            // Time passes: to the next deadline, or less.
            let to_deadline = driver.next_attempt().map_or(pause, |at| {
                let left = at.saturating_duration_since(now.instant).as_secs() + 1;
                if chance % 2 == 0 { left } else { pause.min(left) }
            });
            now.instant += Duration::from_secs(to_deadline);
            now.wall += Duration::from_secs(to_deadline);
            if chance == 7 {
                now.wall += time::Duration::days(jump);
            }
            if chance == 9 {
                let memory = driver.memory().clone();
                driver = Driver::new(policy, seed, credentials, can_look_up, memory, now);
                is_exact = false;
                is_stopping = false;
                // A clock that jumped may have shortened it.
                not_before = None;
            }
            let certificate = (life > 50).then(|| Certificate {
                chain: String::new(), key: "k".to_owned(), not_before: now.wall, not_after: now.wall + DAY * life as u32,
            });
            let assigned = |hub, certificate: Option<_>| {
                let issued = certificate.map_or(Issued::Nothing, Issued::Certificate);
                Event::Assigned(Assigned { place: place(hub), issued, transport: None })
            };
            let Some(event) = event else { continue };
            let was_registering = matches!(driver.service, Service::Registering { .. });
            is_stopping |= event == 20 && chance < 10;
            if matches!((event, &driver.service), (5, Service::Registering { .. }) | (21, Service::LookingUp { .. })) {
                not_before = Some(now.instant + Duration::from_secs(pause));
            }
            driver.on(match event {
                0 => assigned("a", None),
                1 => assigned("a", certificate),
                2 => assigned("b", certificate),
                3 => PASSING,
                4 => REFUSED,
                5 => Event::RegistrationFailed(Failure::Passing { retry_after: Some(Duration::from_secs(pause)) }),
                6 => Event::LookedUp(Found::SamePlace),
                7 => Event::LookedUp(Found::Elsewhere(place("b"))),
                8 | 9 => Event::HubConnected,
                10 => Event::HubEnded(EndReason::Refused),
                11 => Event::HubEnded(EndReason::Unreachable),
                12 => Event::HubEnded(EndReason::Closed),
                13 => Event::HubEnded(EndReason::ProvisionAnew),
                14 => Event::Reprovision,
                20 if is_stopping => Event::Stop,
                21 => Event::LookedUp(Found::Nothing { retry_after: Some(Duration::from_secs(pause)) }),
                _ if chance == 3 => Event::HubEnded(EndReason::TakenOver),
                16 => Event::KeyUnreadable,
                17 => Event::LookedUp(NOTHING),
                18 => Event::Assigned(Assigned {
                    place: place("a"), issued: Issued::Unusable, transport: None,
                }),
                _ => Event::LookedUp(NOTHING),
            }, now);
            // A registration that failed is repeated as late as its ladder says.
            if let (3..=5, true, Service::Due { at, .. }) = (event, was_registering, &driver.service) {
                let Failures { register, stuck, .. } = driver.memory().failures;
                let shortest = if event == 4 { policy.stuck.shortest(stuck) } else { policy.register.shortest(register) };
                prop_assert!(*at >= now.instant + shortest, "{driver:?}");
            }
        }
    }
}
