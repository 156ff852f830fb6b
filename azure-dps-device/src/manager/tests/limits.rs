//! How often a device asks the service, whatever that answers and however often the device reboots.

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test(start_paused = true)]
async fn a_throttled_device_without_retry_after_waits_on_the_register_ladder() {
    let answers = [Answer::Status(429, None); 30].into_iter().chain([Answer::Assigned("a.example")]);
    let (service, shelf, hub) = (Service::new(answers), Shelf::default(), Hub::good());
    let manager = ProvisioningManager::start(options(&service, &shelf, &hub));
    until(&mut manager.events(), Happening::Connected).await;
    let pauses = service.pauses();
    assert!(pauses.iter().max().is_some_and(|pause| *pause >= 30), "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn an_assignment_that_is_not_valid_or_fails_is_asked_for_on_the_slow_ladder_with_one_credential() {
    for answer in [Answer::Assigned("no host"), Answer::Profile("mqttV5"), Answer::Status(400, None)] {
        let (service, hub) = (Service::new([answer]), Hub::good());
        let options = options(&service, &Shelf::default(), &hub).with_fallback(credential());
        let manager = ProvisioningManager::start(options);
        tokio::time::sleep(DAY).await;
        assert_eq!(manager.snapshot().state, ProvisioningState::Stuck, "{answer:?}");
        let pauses = service.pauses();
        assert!((20..40).contains(&pauses.len()), "{answer:?}: {pauses:?}");
        assert!(pauses.iter().all(|pause| *pause >= 45), "{answer:?}: {pauses:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_outlives_a_reboot_also_when_the_registration_could_have_waited_for_it() {
    let answers = [Answer::Status(429, Some(200)), Answer::Assigned("a.example")];
    let (service, shelf, hub) = (Service::new(answers), Shelf::default(), Hub::good());
    let manager = ProvisioningManager::start(options(&service, &shelf, &hub));
    let mut events = manager.events();
    until(&mut events, Happening::RegistrationFailed).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(manager);
    let manager = ProvisioningManager::start(options(&service, &shelf, &hub));
    until(&mut manager.events(), Happening::Connected).await;
    assert!(service.pauses()[0] >= 200, "{:?}", service.pauses());
}

#[tokio::test(start_paused = true)]
async fn limits_of_any_length_do_not_end_the_manager() {
    let policy = ManagerPolicy::new()
        .with_first_boot_window(Duration::ZERO)
        .with_registration_timeout(Duration::MAX)
        .with_hub_connect_timeout(Duration::MAX)
        .with_hub_close_timeout(Duration::MAX)
        .with_hub_patience(u32::MAX, Duration::MAX, Duration::MAX)
        .with_transport_memory(Duration::MAX);
    let (service, shelf, hub) =
        (Service::new([Answer::Assigned("a.example")]), Shelf::default(), Hub::good());
    let options = options(&service, &shelf, &hub).with_policy(policy).with_certificates(shelf.clone());
    let manager = ProvisioningManager::start(options);
    let mut events = manager.events();
    until(&mut events, Happening::Connected).await;
    timeout(LONG, manager.stop()).await.unwrap();
    let disconnected = next(&mut events, Happening::Disconnected(EndReason::Closed)).await;
    assert_eq!(disconnected.error.map(|error| error.to_string()), None);
    until(&mut events, Happening::Stopped).await;
}

#[tokio::test(start_paused = true)]
async fn a_device_that_reboots_all_the_time_does_not_hammer_the_service() {
    // Refused, or a registration that each power failure interrupts.
    for (answer, longest) in [(Answer::Status(404, None), 2700), (Answer::Silence, 48)] {
        let (service, shelf, hub) = (Service::new([answer]), Shelf::default(), Hub::good());
        for _ in 0..1000 {
            let manager = ProvisioningManager::start(options(&service, &shelf, &hub));
            tokio::time::sleep(Duration::from_secs(10)).await;
            drop(manager);
        }
        let pauses = service.pauses();
        assert!(pauses.len() > 6 && pauses[..6].iter().all(|pause| *pause < longest), "{pauses:?}");
        assert!(pauses[6..].iter().all(|pause| *pause >= longest), "{answer:?}: {pauses:?}");
    }
}
