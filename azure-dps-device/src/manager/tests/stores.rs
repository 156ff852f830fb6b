//! Stores that fail for a while, hang, or hold what this release cannot read.

use super::*;

/// Long enough for a few retries of everything.
pub(super) const HOURS: Duration = Duration::from_secs(6 * 3600);

/// Runs a device once, so that the shelf has its record.
async fn provisioned(shelf: &Shelf) {
    let service = Service::new([Answer::Assigned("a.example")]);
    let manager = ProvisioningManager::start(options(&service, shelf, &Hub::good()));
    until(&mut manager.events(), Happening::Connected).await;
    manager.stop().await;
}

pub(super) fn key_of_the_record() -> String {
    options(&Service::new([Answer::NoConnection]), &Shelf::default(), &Hub::good()).owner().key()
}

#[tokio::test(start_paused = true)]
async fn a_record_that_can_be_read_a_little_later_is_used() {
    let shelf = Shelf::default();
    provisioned(&shelf).await;
    shelf.fail("load", 2);
    let service = Service::new([Answer::Assigned("b.example")]);
    let manager = ProvisioningManager::start(options(&service, &shelf, &Hub::good()));
    until(&mut manager.events(), Happening::Connected).await;
    assert_eq!((service.asked(), manager.snapshot().hub.as_deref()), (0, Some("a.example")));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_can_be_read_only_after_the_start_is_put_aside_before_it_is_replaced() {
    let shelf = Shelf::default();
    provisioned(&shelf).await;
    let key = key_of_the_record();
    let before = shelf.records.lock().unwrap()[&key].clone();
    shelf.fail("load", 3);
    let service = Service::new([Answer::Assigned("b.example")]);
    let manager = ProvisioningManager::start(options(&service, &shelf, &Hub::good()));
    until(&mut manager.events(), Happening::Connected).await;
    assert_eq!(shelf.records.lock().unwrap()[&format!("{key}-unusable")], before);
    assert_ne!(shelf.records.lock().unwrap()[&key], before);
}

#[tokio::test(start_paused = true)]
async fn the_keys_of_a_record_that_cannot_be_used_are_kept_as_long_as_its_copy() {
    for is_unreadable in [false, true] {
        let (shelf, key) = (Shelf::default(), key_of_the_record());
        let of_the_record = format!("dps-{key}-1");
        shelf.put(&key, b"azure-dps-device-manager 7 of the future\n{}");
        shelf.put(&of_the_record, b"key");
        shelf.fail("load", if is_unreadable { 3 } else { 0 });
        let service = Service::new([Answer::Assigned("a.example")]);
        let start = || {
            let options = options(&service, &shelf, &Hub::good()).with_certificates(shelf.clone());
            ProvisioningManager::start(options)
        };
        // Also after a reboot, with a record of this release.
        for _ in 0..2 {
            let manager = start();
            until(&mut manager.events(), Happening::Connected).await;
            tokio::time::sleep(HOURS).await;
            manager.stop().await;
            assert!(shelf.has(&of_the_record), "unreadable: {is_unreadable}");
        }
        shelf.records.lock().unwrap().remove(&format!("{key}-unusable"));
        let manager = start();
        until(&mut manager.events(), Happening::Connected).await;
        tokio::time::sleep(HOURS).await;
        assert!(!shelf.has(&of_the_record), "unreadable: {is_unreadable}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_put_aside_is_not_replaced() {
    let (shelf, key) = (Shelf::default(), key_of_the_record());
    let later = b"azure-dps-device-manager 7 of the future\n{}";
    shelf.put(&key, later);
    shelf.fail("put aside", 2);
    let service = Service::new([Answer::Assigned("a.example")]);
    let manager = ProvisioningManager::start(options(&service, &shelf, &Hub::good()));
    let mut events = manager.events();
    until(&mut events, Happening::StoreFailed).await;
    until(&mut events, Happening::Connected).await;
    assert_eq!(shelf.records.lock().unwrap()[&key], later);
    tokio::time::sleep(HOURS).await;
    assert_eq!(shelf.records.lock().unwrap()[&format!("{key}-unusable")], later);
    assert_ne!(shelf.records.lock().unwrap()[&key], later);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_no_record_names_is_deleted_after_a_start_and_tried_again_if_that_fails() {
    let shelf = Shelf::default();
    provisioned(&shelf).await;
    let orphan = format!("dps-{}-3", key_of_the_record());
    shelf.put(&orphan, b"key");
    shelf.fail("delete", 30);
    let options = options(&Service::new([Answer::NoConnection]), &shelf, &Hub::good());
    let manager = ProvisioningManager::start(options.with_certificates(shelf.clone()));
    let mut events = manager.events();
    until(&mut events, Happening::KeyStoreFailed).await;
    assert!(shelf.has(&orphan));
    tokio::time::sleep(HOURS).await;
    assert!(!shelf.has(&orphan));
    let snapshot = manager.snapshot();
    assert!(snapshot.last_error.is_none(), "{snapshot:?}");
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_store_goes_from_the_snapshot_when_the_store_works_again() {
    let shelf = Shelf::default();
    let service = Service::new([Answer::Assigned("a.example")]);
    let manager = ProvisioningManager::start(options(&service, &shelf, &Hub::good()));
    let mut events = manager.events();
    until(&mut events, Happening::Connected).await;
    // The first save is that of the registration, and the second one its retry.
    shelf.fail("save", 2);
    manager.reprovision();
    for _ in 0..2 {
        until(&mut events, Happening::StoreFailed).await;
    }
    assert!(manager.snapshot().last_error.is_some());
    tokio::time::sleep(HOURS).await;
    assert!(manager.snapshot().last_error.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_device_works_at_its_hub_while_the_store_does_not_answer() {
    #[derive(Clone, Debug, Default)]
    struct Ticks(Arc<Mutex<Vec<Instant>>>);
    impl HubConnector for Ticks {
        fn run<'a>(&'a self, _: HubAccess, session: HubSession) -> BoxFuture<'a, SessionEnd> {
            Box::pin(async move {
                session.connected();
                loop {
                    self.0.lock().unwrap().push(Instant::now());
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            })
        }
    }
    let (shelf, ticks) = (Shelf::default(), Ticks::default());
    provisioned(&shelf).await;
    shelf.put(&format!("dps-{}-3", key_of_the_record()), b"orphan");
    let service = Service::new([Answer::Assigned("a.example")]);
    let options =
        ManagerOptions { connector: Arc::new(ticks.clone()), ..options(&service, &shelf, &Hub::good()) };
    let manager = ProvisioningManager::start(options.with_certificates(shelf.clone()));
    let mut events = manager.events();
    until(&mut events, Happening::Connected).await;
    shelf.stalls.store(true, Ordering::SeqCst);
    manager.reprovision();
    until(&mut events, Happening::StoreFailed).await;
    tokio::time::sleep(HOURS).await;
    let longest = ticks.0.lock().unwrap().windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(longest < Some(Duration::from_secs(2)), "{longest:?}");
}

#[tokio::test(start_paused = true)]
async fn a_manager_stops_in_time_whatever_its_store_and_its_hub_do() {
    #[derive(Debug)]
    struct Deaf;
    impl HubConnector for Deaf {
        fn run<'a>(&'a self, _: HubAccess, session: HubSession) -> BoxFuture<'a, SessionEnd> {
            Box::pin(async move {
                session.connected();
                std::future::pending().await
            })
        }
    }
    let close = ManagerPolicy::new().hub_close_timeout;
    for seconds in 0..200 {
        let (service, shelf) = (Service::new([Answer::Assigned("a.example")]), Shelf::default());
        shelf.put(&key_of_the_record(), b"azure-dps-device-manager 7 of the future\n{}");
        // Half of the stores hang from the start, the others a little later.
        shelf.stalls.store(seconds % 2 == 0, Ordering::SeqCst);
        let options = ManagerOptions { connector: Arc::new(Deaf), ..options(&service, &shelf, &Hub::good()) };
        let manager = ProvisioningManager::start(options.with_certificates(shelf.clone()));
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        shelf.stalls.store(true, Ordering::SeqCst);
        manager.reprovision();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let asked = Instant::now();
        timeout(LONG, manager.stop()).await.unwrap();
        let took = asked.elapsed();
        assert!(took <= close + Duration::from_secs(31), "after {seconds} s it took {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_stops_the_manager_and_the_snapshot_says_so() {
    #[derive(Debug)]
    struct Panics;
    impl Store for Panics {
        fn load<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Option<Vec<u8>>>> {
            Box::pin(async { Ok(None) })
        }

        fn save<'a>(&'a self, _: &'a str, _: Vec<u8>) -> BoxFuture<'a, io::Result<()>> {
            Box::pin(async { panic!("on purpose") })
        }
    }
    let service = Service::new([Answer::Assigned("a.example")]);
    let options =
        ManagerOptions { store: Arc::new(Panics), ..options(&service, &Shelf::default(), &Hub::good()) };
    let mut manager = ProvisioningManager::start(options);
    timeout(LONG, manager.stopped()).await.unwrap();
    let snapshot = manager.snapshot();
    assert_eq!((snapshot.state, snapshot.next_attempt), (ProvisioningState::Stopped, None));
    timeout(LONG, manager.stop()).await.unwrap();
}
