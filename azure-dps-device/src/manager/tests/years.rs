//! What happens to a device in years: its enrollment, its hub, its keys and its power change.

use super::memory::{Memory, Place};
use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A hub that cannot be reached until a time.
#[derive(Debug)]
struct Down {
    until: Instant,
}

impl HubConnector for Down {
    fn run<'a>(&'a self, _: HubAccess, session: HubSession) -> BoxFuture<'a, SessionEnd> {
        Box::pin(async move {
            if Instant::now() < self.until {
                return SessionEnd::new(EndReason::Unreachable);
            }
            session.connected();
            session.asked_to_end().await;
            SessionEnd::new(EndReason::Closed)
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_hub_of_another_profile_is_refused_with_help_and_the_device_keeps_trying() {
    let answers = [Answer::Profile("mqttV5"), Answer::Profile("later"), Answer::Assigned("a.example")];
    let (service, shelf, hub) = (Service::new(answers), Shelf::default(), Hub::good());
    let manager = ProvisioningManager::start(options(&service, &shelf, &hub));
    let mut events = manager.events();
    for profile in ["mqttV5", "later"] {
        let failed = next(&mut events, Happening::RegistrationFailed).await;
        assert_eq!(failed.state, ProvisioningState::Stuck);
        let error = failed.error.unwrap();
        assert!(error.to_string().contains(profile) && error.to_string().contains("classic"), "{error}");
        assert_eq!(manager.snapshot().state, ProvisioningState::Stuck);
    }
    until(&mut events, Happening::Connected).await;
    assert_eq!(hub.hubs(), ["a.example"]);
}

#[tokio::test(start_paused = true)]
async fn the_first_reader_learns_why_the_stored_record_could_not_be_used() {
    let (service, shelf, hub) =
        (Service::new([Answer::Assigned("a.example")]), Shelf::default(), Hub::good());
    provisioned(&shelf).await;
    for record in shelf.records.lock().unwrap().values_mut() {
        record.truncate(100);
    }
    let manager = ProvisioningManager::start(options(&service, &shelf, &hub));
    tokio::time::sleep(MINUTE).await;
    let started = timeout(MINUTE, manager.events().next()).await.unwrap().unwrap();
    assert_eq!(started.happening, Happening::Started);
    assert!(started.error.unwrap().to_string().contains("damaged"));
    assert_eq!(service.asked(), 1, "the device is provisioned as a new one");
}

#[tokio::test(start_paused = true)]
async fn a_rotated_key_leads_to_the_secondary_with_an_event_and_stays_there_over_a_reboot() {
    let at_the_service = (vec![Answer::Status(401, None), Answer::Assigned("a.example")], vec![]);
    let at_the_hub = (vec![Answer::Assigned("a.example")], vec![(None, EndReason::Refused)]);
    for (answers, visits) in [at_the_service, at_the_hub] {
        let (service, shelf, hub) = (Service::new(answers), Shelf::default(), Hub::new(visits));
        let both = |hub: &Hub| options(&service, &shelf, hub).with_fallback(credential());
        let manager = ProvisioningManager::start(both(&hub));
        let mut events = manager.events();
        until(&mut events, Happening::CredentialChanged).await;
        until_online(&manager).await;
        assert_eq!(manager.snapshot().credential, 1);
        manager.stop().await;
        let manager = ProvisioningManager::start(both(&Hub::good()));
        let mut events = manager.events();
        let seen = until(&mut events, Happening::Connected).await;
        assert!(!seen.contains(&Happening::CredentialChanged), "{seen:?}");
        assert_eq!(manager.snapshot().credential, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_prefers_the_transport_that_worked_before_the_reboot() {
    let (service, shelf, hub) =
        (Service::new([Answer::Assigned("a.example")]), Shelf::default(), Hub::good());
    provisioned(&shelf).await;
    let manager = ProvisioningManager::start(options(&service, &shelf, &hub));
    until(&mut manager.events(), Happening::Connected).await;
    assert_eq!(*service.preferred.lock().unwrap(), ["script"]);
}

#[tokio::test(start_paused = true)]
async fn an_enrollment_that_is_created_late_or_enabled_again_is_found_on_the_slow_ladder() {
    for answer in [Answer::Status(404, None), Answer::Disabled] {
        let answers = [answer; 4].into_iter().chain([Answer::Assigned("a.example")]);
        let (service, shelf, hub) = (Service::new(answers), Shelf::default(), Hub::good());
        let manager = ProvisioningManager::start(options(&service, &shelf, &hub));
        let mut events = manager.events();
        let failed = next(&mut events, Happening::RegistrationFailed).await;
        assert_eq!(failed.state, ProvisioningState::Stuck, "{answer:?}");
        let (snapshot, pause) = (manager.snapshot(), failed.next_attempt.unwrap());
        assert_eq!(snapshot.since, Some(failed.at));
        // The wall clock goes on meanwhile.
        assert!(snapshot.next_attempt >= Some(failed.at + pause), "{snapshot:?}");
        assert!(pause >= Duration::from_secs(45), "{pause:?}");
        until(&mut events, Happening::Connected).await;
        assert!(service.pauses().iter().all(|pause| *pause >= 45), "{:?}", service.pauses());
    }
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_is_down_for_long_makes_the_device_ask_whether_it_has_moved() {
    let (once, twice) = (["look up"].as_slice(), ["look up", "register"].as_slice());
    // A pause of the hub ladder may be longer than a minute, so that a device asks a little later.
    for (minutes, asked) in [(14, [].as_slice()), (18, once), (40, once), (50, twice), (70, twice)] {
        let shelf = Shelf::default();
        provisioned(&shelf).await;
        let service = Service::new([Answer::Assigned("a.example")]);
        let down = Down { until: Instant::now() + minutes * MINUTE };
        let hub = Hub::good();
        let mut options = options(&service, &shelf, &hub);
        options.connector = Arc::new(down);
        let manager = ProvisioningManager::start(options);
        until(&mut manager.events(), Happening::Connected).await;
        assert_eq!(service.kinds(), asked, "{minutes} minutes");
        tokio::time::sleep(DAY).await;
        assert_eq!(service.kinds(), asked, "nothing is asked once the hub is back");
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_that_moved_while_its_hub_was_away_is_found_by_the_look_up() {
    let shelf = Shelf::default();
    provisioned(&shelf).await;
    let service = Service::new([Answer::Assigned("b.example")]);
    let hub = Hub::new([(None, EndReason::Unreachable); 200]);
    let manager = ProvisioningManager::start(options(&service, &shelf, &hub));
    let mut events = manager.events();
    until(&mut events, Happening::LookedUp).await;
    until(&mut events, Happening::Assigned).await;
    assert_eq!(manager.snapshot().hub.as_deref(), Some("b.example"));
    assert_eq!(service.kinds(), ["look up", "register"]);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_was_deleted_at_its_hub_registers_again() {
    let hub = Hub::new([(Some(MINUTE), EndReason::Lost), (None, EndReason::Refused)]);
    let (service, shelf) = (Service::new([Answer::Assigned("a.example")]), Shelf::default());
    let manager = ProvisioningManager::start(options(&service, &shelf, &hub));
    let mut events = manager.events();
    until(&mut events, Happening::Disconnected(EndReason::Refused)).await;
    until(&mut events, Happening::Assigned).await;
    until(&mut events, Happening::Connected).await;
    assert_eq!(service.kinds(), ["register", "look up", "register"]);
}

#[tokio::test(start_paused = true)]
async fn a_look_up_that_names_a_place_which_cannot_be_used_is_an_error_and_leads_to_a_registration() {
    for answer in [Answer::Assigned(""), Answer::Assigned("a b"), Answer::Profile("mqttV5")] {
        let shelf = Shelf::default();
        provisioned(&shelf).await;
        let service = Service::new([answer, Answer::Assigned("b.example")]);
        let hub = Hub::new([(None, EndReason::Refused)]);
        let manager = ProvisioningManager::start(options(&service, &shelf, &hub));
        let mut events = manager.events();
        let found = next(&mut events, Happening::LookedUp).await;
        assert!(found.error.is_some(), "{answer:?}");
        until(&mut events, Happening::Connected).await;
        assert_eq!(service.kinds(), ["look up", "register"], "{answer:?}");
        assert_eq!(hub.hubs(), ["a.example", "b.example"], "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_credential_of_another_device_is_reported_at_the_start_and_never_used() {
    let foreign = Credential::symmetric_key("other".parse().unwrap(), KEY.parse().unwrap());
    let answers = [Answer::Status(401, None), Answer::Assigned("a.example")];
    let (service, hub) = (Service::new(answers), Hub::good());
    let options =
        options(&service, &Shelf::default(), &hub).with_fallback(foreign).with_fallback(credential());
    let manager = ProvisioningManager::start(options);
    let mut events = manager.events();
    let started = next(&mut events, Happening::Started).await;
    assert!(started.error.unwrap().to_string().contains("\"other\""));
    until(&mut events, Happening::Connected).await;
    assert_eq!((service.asked(), manager.snapshot().credential), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_hub_name_that_is_none_is_reported_and_loses_no_assignment() {
    let shelf = Shelf::default();
    provisioned(&shelf).await;
    for name in ["", "no host", "a/b", "user@host", "[::1"] {
        let service = Service::new([Answer::Assigned(name), Answer::Assigned("b.example")]);
        let manager = ProvisioningManager::start(options(&service, &shelf, &Hub::good()));
        manager.reprovision();
        let mut events = manager.events();
        let failed = next(&mut events, Happening::RegistrationFailed).await;
        assert!(failed.error.is_some(), "{name:?}");
        assert!(manager.snapshot().hub.is_some_and(|hub| hub.ends_with(".example")), "{name:?}");
        next(&mut events, Happening::Assigned).await;
        until_online(&manager).await;
        manager.stop().await;
    }
    // A record that was written by another program.
    let key = options(&Service::new([Answer::Silence]), &shelf, &Hub::good()).owner().key();
    let place = Place { hub: "no host".to_owned(), device_id: "sensor".to_owned() };
    let memory = Memory { place: Some(place), ..Memory::default() };
    let service = Service::new([Answer::Assigned("b.example")]);
    let record = record::write(&options(&service, &shelf, &Hub::good()).owner(), &memory);
    shelf.records.lock().unwrap().insert(key, record);
    let manager = ProvisioningManager::start(options(&service, &shelf, &Hub::good()));
    let mut events = manager.events();
    let ended = next(&mut events, Happening::Disconnected(EndReason::Refused)).await;
    let error = ended.error.unwrap().to_string();
    assert!(error.contains("assignedHub") && error.contains("position 3"), "{error}");
    until_online(&manager).await;
    assert_eq!(service.kinds(), ["look up"], "which names another hub");
}

#[tokio::test(start_paused = true)]
async fn a_device_with_another_scope_does_not_use_the_record() {
    let (service, shelf, hub) =
        (Service::new([Answer::Assigned("b.example")]), Shelf::default(), Hub::good());
    provisioned(&shelf).await;
    let mut other = options(&service, &shelf, &hub);
    other.id_scope = "0ne00222222".parse().unwrap();
    let manager = ProvisioningManager::start(other);
    until(&mut manager.events(), Happening::Connected).await;
    assert_eq!((service.asked(), hub.hubs()), (1, vec!["b.example".to_owned()]));
    assert_eq!(shelf.records.lock().unwrap().len(), 2, "the record of the first scope stays");
}

async fn until_online(manager: &ProvisioningManager) {
    let mut snapshot = manager.snapshot.clone();
    let online = snapshot.wait_for(|snapshot| snapshot.state == ProvisioningState::Online);
    timeout(LONG, online).await.unwrap().unwrap();
}
