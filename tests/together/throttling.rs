//! Many devices and many reads at once against quotas that throttle them: all succeed, with few refusals.
//!
//! A quota counts by the minute. The test uses up a part of it, turns the emulator's clock forward, and so
//! has room again after seconds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use azure_dps_core::models::{AttestationMechanism, EnrollmentGroup, SymmetricKeyAttestation};
use azure_dps_core::{GroupKey, RegistrationId};
use azure_dps_device::{Credential, Https};
use azure_dps_emulator::{Emulator, Quotas};
use azure_dps_tests::{device, endpoint_of, service_of};
use tokio::task::JoinSet;

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
/// After so long there is room in the quota, by the clock of the emulator and of the machine.
const PART: Duration = Duration::from_secs(54);
const DEADLINE: Duration = Duration::from_secs(60);

/// How many requests were answered 429 since the emulator started.
fn refusals(emulator: &Emulator) -> usize {
    emulator.journal().iter().filter(|entry| entry.status == 429).count()
}

async fn start(quotas: Quotas) -> Arc<Emulator> {
    let emulator = Arc::new(Emulator::builder().polls(0).quotas(quotas).start().await.unwrap());
    let keys = AttestationMechanism::symmetric_key(SymmetricKeyAttestation::new(KEY, KEY));
    service_of(&emulator)
        .enrollment_groups()
        .create_or_update(&EnrollmentGroup::new("g", keys))
        .await
        .unwrap();
    emulator
}

/// Registers these devices of the group, all at once; returns how many succeeded.
async fn register(emulator: &Emulator, ids: std::ops::Range<usize>) -> usize {
    let mut running = JoinSet::new();
    for id in ids {
        let id: RegistrationId = format!("device-{id}").parse().unwrap();
        let key: GroupKey = KEY.parse().unwrap();
        let credential = Credential::from_group(&key, id);
        let device = device(emulator.id_scope(), credential, Arc::new(Https::new(endpoint_of(emulator))));
        running.spawn(async move { device.register().timeout(DEADLINE).await.map(drop) });
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
    assert_eq!(register(&emulator, earlier..earlier + devices).await, devices);
    let (took, refused) = (started.elapsed(), refusals(&emulator));
    println!("{devices} devices registered in {took:?} with {refused} refusals");
    assert!((1..=2 * earlier).contains(&refused), "{refused} refusals");
    assert!(took < DEADLINE);
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
    assert_eq!(get(reads).await, reads);
    let (took, refused) = (started.elapsed(), refusals(&emulator));
    println!("{reads} reads took {took:?} with {refused} refusals");
    assert!((1..=32).contains(&refused), "{refused} refusals");
}
