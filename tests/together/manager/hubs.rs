//! What happens at hubs: devices are deleted and moved, connections are lost and taken over.

use std::time::Duration;

use azure_dps_device::manager::{EndReason, Happening, Ladder, ProvisioningState};
use azure_dps_device::{Assignment, HubAccess};
use azure_dps_emulator::{Emulator, Fault, MethodCall, Operation};
use azure_dps_tests::hub_access::sign_in_at;
use azure_dps_tests::managed::{Running, happenings, quick};
use azure_dps_tests::plant::Protocol;
use azure_dps_tests::tasks::settles;

use super::Scene;

#[tokio::test]
async fn a_device_that_was_deleted_at_its_hub_looks_up_and_then_registers() {
    let scene = Scene::start().await;
    let mut running = scene.online().await;
    let [here, _] = scene.hubs(&running);
    assert!(scene.plant.emulator.delete_hub_device(&here, "dev1"));
    running.next(Happening::Disconnected(EndReason::Refused)).await;
    running.online().await;
    assert_eq!(scene.seen(), ["register", "look up", "register"]);
    assert_eq!(scene.hubs(&running)[0], here);
}

#[tokio::test]
async fn a_device_whose_transport_cannot_look_up_registers() {
    let scene = Scene::over(Protocol::Mqtt, Emulator::builder()).await;
    let mut running = scene.online().await;
    let [here, _] = scene.hubs(&running);
    scene.plant.emulator.delete_hub_device(&here, "dev1");
    running.next(Happening::Disconnected(EndReason::Refused)).await;
    running.online().await;
    assert_eq!(scene.seen(), ["register", "register"]);
}

#[tokio::test]
async fn a_device_that_its_back_end_moves_by_a_direct_method_answers_and_goes_to_the_other_hub() {
    let scene = Scene::start().await;
    let mut running = scene.online().await;
    let [here, there] = scene.hubs(&running);
    scene.move_to(&there).await;
    let answer = scene.plant.emulator.invoke_method(&here, "dev1", MethodCall::new("reprovision")).await;
    assert_eq!(answer.unwrap().status, 200);
    running.next(Happening::Disconnected(EndReason::ProvisionAnew)).await;
    running.next(Happening::Assigned).await;
    running.online().await;
    assert_eq!(scene.hubs(&running)[0], there);
    assert_eq!(scene.hub.hubs().last(), Some(&there));
}

#[tokio::test]
async fn a_device_stays_connected_while_it_is_provisioned_anew_to_the_same_hub() {
    let scene = Scene::start().await;
    let mut running = scene.online().await;
    running.manager.reprovision();
    let seen = running.until(Happening::Assigned).await;
    assert_eq!(happenings(&seen), [Happening::Registering, Happening::Assigned]);
    assert!(seen.iter().all(|event| event.state == ProvisioningState::Online), "{seen:?}");
    assert_eq!(scene.hub.hubs().len(), 1);
}

/// Its record names the first hub: the power failed before it could store the answer.
#[tokio::test]
async fn a_device_that_missed_its_move_finds_the_other_hub_without_a_registration() {
    let scene = Scene::start().await;
    let running = scene.online().await;
    let [here, there] = scene.hubs(&running);
    running.stop().await;
    scene.move_to(&there).await;
    scene.plant.device(scene.credential.clone()).register().await.unwrap();
    scene.plant.emulator.delete_hub_device(&here, "dev1");
    let running = scene.online().await;
    assert_eq!(scene.hubs(&running)[0], there);
    assert_eq!(scene.seen(), ["register", "register", "look up"]);
    running.stop().await;
    let running = scene.online().await;
    assert_eq!(scene.hubs(&running)[0], there, "the record names it");
}

#[tokio::test]
async fn a_link_that_is_lost_comes_back_without_the_service_and_without_a_write() {
    let scene = Scene::start().await;
    // No outage is longer than its longest pause.
    let ladder = Ladder::new(Duration::from_millis(10), Duration::from_secs(60), 20);
    let mut running = Running::start(scene.options().with_policy(quick().with_hub_ladder(ladder)));
    running.online().await;
    let [here, _] = scene.hubs(&running);
    let record = || std::fs::metadata(scene.folder.record()).unwrap().modified().unwrap();
    let before = record();
    for _ in 0..3 {
        // Twice it does not come back at once.
        scene.plant.emulator.inject(Fault::status(503).on(Operation::HubConnect).times(2)).unwrap();
        scene.plant.emulator.disconnect(&here, "dev1").unwrap();
        running.next(Happening::Disconnected(EndReason::Lost)).await;
        running.next(Happening::Disconnected(EndReason::Unreachable)).await;
        running.online().await;
    }
    running.stop().await;
    assert_eq!(scene.seen(), ["register"]);
    assert_eq!(record(), before);
}

#[tokio::test]
async fn a_device_whose_identity_another_program_uses_stops_and_leaves_the_hub_to_it() {
    let scene = Scene::start().await;
    let mut running = scene.online().await;
    let [here, _] = scene.hubs(&running);
    let rival = HubAccess::new(scene.credential.clone(), &Assignment::new(&*here, "dev1").unwrap()).unwrap();
    let endpoint = azure_dps_tests::endpoint_of(&scene.plant.emulator);
    let rival = rival.with_endpoint(endpoint.with_port(scene.plant.emulator.mqtt_port()));
    let fighting = async {
        loop {
            let (mut talk, code) = sign_in_at(&rival, std::time::SystemTime::now()).await;
            assert_eq!(code, 0);
            // Until the device takes the identity back.
            talk.hear().await;
        }
    };
    tokio::select! {
        _ = running.next(Happening::Stopped) => {}
        () = fighting => {}
    }
    assert_eq!(running.manager.snapshot().state, ProvisioningState::Stopped);
    assert!(running.events.next().await.is_none());
    let state = std::fs::read_to_string(scene.folder.record()).unwrap();
    assert!(state.contains(&here), "{state}");
}

#[tokio::test]
async fn stopping_says_goodbye_to_the_hub_and_dropping_does_not() {
    let scene = Scene::start().await;
    for stops in [true, false] {
        let running = scene.online().await;
        let [here, _] = scene.hubs(&running);
        let is_connected = || {
            let device = scene.plant.emulator.hub_device(&here, "dev1").unwrap();
            device["identity"]["connectionState"] == "Connected"
        };
        settles(is_connected).await;
        match stops {
            true => running.stop().await,
            false => drop(running),
        }
        settles(|| !is_connected()).await;
        assert_eq!(scene.hub.goodbyes(), 1, "stops: {stops}");
    }
}

#[tokio::test]
async fn stopping_abandons_a_registration_that_the_service_does_not_answer() {
    let scene = Scene::start().await;
    scene.plant.emulator.inject(Fault::stall().on(Operation::Register)).unwrap();
    let mut running = scene.boot();
    running.next(Happening::Registering).await;
    settles(|| scene.seen() == ["register"]).await;
    running.stop().await;
    scene.online().await;
}
