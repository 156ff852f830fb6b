//! Many devices and many reads at once against quotas that throttle them: all succeed, with few refusals.
//!
//! A quota counts by the minute. The test uses up a part of it, turns the emulator's clock forward, and again
//! when the first requests are refused: so there is room after seconds. Meanwhile the clock stands still, and a
//! slow machine is refused as often as a fast one.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use azure_dps_core::models::{AttestationMechanism, EnrollmentGroup, SymmetricKeyAttestation};
use azure_dps_core::{GroupKey, RegistrationId};
use azure_dps_device::{Credential, Https};
use azure_dps_emulator::{Emulator, Quotas};
use azure_dps_tests::tasks::settles;
use azure_dps_tests::{HUNG, device, endpoint_of, service_of};
use tokio::task::JoinSet;

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
/// How much of the quota's minute has passed when the second part of the requests begins, and what is left of it.
const PART: Duration = Duration::from_secs(54);
const REST: Duration = Duration::from_secs(6);

/// How many requests were answered 429 since the emulator started.
fn refusals(emulator: &Emulator) -> usize {
    emulator.journal().iter().filter(|entry| entry.status == 429).count()
}

async fn start(quotas: Quotas) -> Arc<Emulator> {
    let emulator = Arc::new(Emulator::builder().polls(0).quotas(quotas).start().await.unwrap());
    emulator.set_clock(SystemTime::now());
    let keys = AttestationMechanism::symmetric_key(SymmetricKeyAttestation::new(KEY, KEY));
    service_of(&emulator)
        .enrollment_groups()
        .create_or_update(&EnrollmentGroup::new("g", keys))
        .await
        .unwrap();
    emulator
}

/// Makes room in the quota as soon as a request is refused.
async fn makes_room(emulator: &Emulator) {
    settles(|| refusals(emulator) > 0).await;
    emulator.advance_clock(REST);
}

/// Registers these devices of the group, all at once; returns how many succeeded.
async fn register(emulator: &Emulator, ids: std::ops::Range<usize>) -> usize {
    let mut running = JoinSet::new();
    for id in ids {
        let id: RegistrationId = format!("device-{id}").parse().unwrap();
        let key: GroupKey = KEY.parse().unwrap();
        let credential = Credential::from_group(&key, id);
        let device = device(emulator.id_scope(), credential, Arc::new(Https::new(endpoint_of(emulator))));
        running.spawn(async move { device.register().timeout(HUNG).await.map(drop) });
    }
    running.join_all().await.into_iter().map(Result::unwrap).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_beyond_the_quota_all_register_within_their_deadline() {
    let (quota, earlier, devices) = (200, 50, 200);
    let emulator = start(Quotas::documented().with_registrations(quota).with_retry_spread(2)).await;
    register(&emulator, 0..earlier).await;
    emulator.advance_clock(PART);
    let started = Instant::now();
    let (registered, ()) =
        tokio::join!(register(&emulator, earlier..earlier + devices), makes_room(&emulator));
    assert_eq!(registered, devices);
    let (took, refused) = (started.elapsed(), refusals(&emulator));
    println!("{devices} devices registered in {took:?} with {refused} refusals");
    assert!((1..=2 * earlier).contains(&refused), "{refused} refusals");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_beyond_the_quota_all_succeed_with_few_refusals() {
    let (quota, earlier, reads) = (100, 30, 100);
    let emulator = start(Quotas::documented().with_service_operations(quota)).await;
    let get = async |count: usize| {
        let (service, mut running) = (service_of(&emulator), JoinSet::new());
        for _ in 0..count {
            let groups = service.enrollment_groups();
            running.spawn(async move { groups.get("g").await.map(drop) });
        }
        running.join_all().await.into_iter().map(Result::unwrap).count()
    };
    get(earlier).await;
    emulator.advance_clock(PART);
    let started = Instant::now();
    let (read, ()) = tokio::join!(get(reads), makes_room(&emulator));
    assert_eq!(read, reads);
    let (took, refused) = (started.elapsed(), refusals(&emulator));
    println!("{reads} reads took {took:?} with {refused} refusals");
    assert!((1..=32).contains(&refused), "{refused} refusals");
}
