//! Stores that fail for a while, hang, or hold what this release cannot read.

use super::*;

/// Long enough for a few retries of everything.
pub(super) const HOURS: Duration = Duration::from_secs(6 * 3600);

pub(super) fn key_of_the_record() -> String {
    options(&Service::new([Answer::NoConnection]), &Shelf::default(), &Hub::good()).owner().key()
}

/// The record names keys that exist, so that the power can fail at this moment.
pub(super) fn assert_record_has_its_keys(shelf: &Shelf) {
    let record = shelf.records.lock().unwrap()[&key_of_the_record()].clone();
    let record = String::from_utf8(record).unwrap();
    let body: serde_json::Value = serde_json::from_str(record.split_once('\n').unwrap().1).unwrap();
    for certificate in ["proven", "candidate"] {
        if let Some(key) = body["memory"][certificate]["key"].as_str() {
            assert!(shelf.has(key), "{certificate} {key}: {:?}", shelf.slots());
        }
    }
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
async fn an_error_of_the_store_stays_in_the_snapshot_while_the_link_flaps() {
    let shelf = Shelf::default();
    let service = Service::new([Answer::Assigned("a.example")]);
    let hub = Hub::new([(Some(Duration::from_secs(5)), EndReason::Lost); 6]);
    shelf.fail("save", 1000);
    let manager = ProvisioningManager::start(options(&service, &shelf, &hub));
    let mut events = manager.events();
    for _ in 0..7 {
        until(&mut events, Happening::Connected).await;
        let error = manager.snapshot().last_error.unwrap();
        assert!(error.to_string().contains("cannot be saved"), "{error}");
    }
    shelf.fail("save", 0);
    tokio::time::sleep(HOURS).await;
    assert!(manager.snapshot().last_error.is_none());
}

#[tokio::test(start_paused = true)]
async fn the_error_of_a_registration_stays_in_the_snapshot_until_one_succeeds() {
    let answers = [Answer::Assigned("a.example"), Answer::Status(404, None), Answer::Silence];
    let (service, shelf) = (Service::new(answers), Shelf::default());
    let manager = ProvisioningManager::start(options(&service, &shelf, &Hub::good()));
    let mut events = manager.events();
    until(&mut events, Happening::Connected).await;
    manager.reprovision();
    until(&mut events, Happening::RegistrationFailed).await;
    // The next attempt begins, while the device is online.
    until(&mut events, Happening::Registering).await;
    let snapshot = manager.snapshot();
    assert_eq!(snapshot.state, ProvisioningState::Online);
    assert!(snapshot.last_error.is_some_and(|error| error.service().is_some()));
    service.script.lock().unwrap().clear();
    service.script.lock().unwrap().push_back(Answer::Assigned("a.example"));
    until(&mut events, Happening::Assigned).await;
    assert!(manager.snapshot().last_error.is_none());
}

/// Panics in each call, or in the future of each call.
#[derive(Clone, Debug)]
struct Panics {
    at_once: bool,
}

impl Panics {
    fn call<'a, T: Send + 'a>(&self) -> BoxFuture<'a, T> {
        assert!(!self.at_once, "on purpose");
        Box::pin(async { panic!("on purpose") })
    }
}

impl Store for Panics {
    fn load<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Option<Vec<u8>>>> {
        self.call()
    }

    fn save<'a>(&'a self, _: &'a str, _: Vec<u8>) -> BoxFuture<'a, io::Result<()>> {
        self.call()
    }
}

impl KeyStore for Panics {
    fn load<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Option<Sensitive<Vec<u8>>>>> {
        self.call()
    }

    fn save<'a>(&'a self, _: &'a str, _: Sensitive<Vec<u8>>) -> BoxFuture<'a, io::Result<()>> {
        self.call()
    }

    fn delete<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<()>> {
        self.call()
    }
}

impl Transport for Panics {
    fn connect(&self, _: Session) -> BoxFuture<'_, Result<Box<dyn Channel>>> {
        self.call()
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_counts_as_one_that_fails() {
    for at_once in [true, false] {
        let panics = Panics { at_once };
        let mut options = options(&Service::issuing(), &Shelf::default(), &Hub::good());
        options.store = Arc::new(panics.clone());
        let manager = ProvisioningManager::start(options.with_certificates(panics));
        let mut events = manager.events();
        let failed = next(&mut events, Happening::StoreFailed).await;
        assert!(failed.error.is_some_and(|error| format!("{error:?}").contains("the store panicked")));
        next(&mut events, Happening::KeyStoreFailed).await;
        next(&mut events, Happening::Connected).await;
        timeout(LONG, manager.stop()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_panics_is_a_registration_that_failed() {
    for at_once in [true, false] {
        let service = Service::new([Answer::Silence]);
        let mut options = options(&service, &Shelf::default(), &Hub::good());
        options.transport = Arc::new(Panics { at_once });
        let manager = ProvisioningManager::start(options);
        let mut events = manager.events();
        for _ in 0..2 {
            let failed = next(&mut events, Happening::RegistrationFailed).await;
            assert_eq!(failed.state, ProvisioningState::Stuck);
            assert!(failed.error.is_some_and(|error| error.to_string().contains("panicked")));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_manager_that_panics_has_stopped() {
    /// Panics where no failure is expected.
    #[derive(Debug)]
    struct Prefers;
    impl Transport for Prefers {
        fn connect(&self, _: Session) -> BoxFuture<'_, Result<Box<dyn Channel>>> {
            Box::pin(std::future::pending())
        }

        fn prefer(&self, _: Option<&str>) {
            panic!("on purpose");
        }
    }
    let mut options = options(&Service::new([Answer::Silence]), &Shelf::default(), &Hub::good());
    options.transport = Arc::new(Prefers);
    let mut manager = ProvisioningManager::start(options);
    let mut events = manager.events();
    timeout(LONG, async { while events.next().await.is_some() {} }).await.unwrap();
    timeout(LONG, manager.stopped()).await.unwrap();
    let snapshot = manager.snapshot();
    assert_eq!((snapshot.state, snapshot.next_attempt), (ProvisioningState::Stopped, None));
    assert!(snapshot.last_error.unwrap().to_string().contains("panicked"));
}
