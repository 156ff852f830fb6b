//! First boots over each transport, and reboots.

use std::sync::Arc;

use azure_dps_device::Https;
use azure_dps_device::manager::Happening;
use azure_dps_emulator::{Emulator, Pki};
use azure_dps_tests::managed::{Running, happenings, registrations};
use azure_dps_tests::plant::{Over, Plant, Protocol, certified};
use azure_dps_tests::{CLOSED_PORT, endpoint_of};

use super::Scene;

#[tokio::test]
async fn a_device_with_a_key_comes_online_over_each_transport_and_reboots_without_the_service() {
    for protocol in [Protocol::Https, Protocol::Mqtt, Protocol::MqttWs, Protocol::Amqp, Protocol::AmqpWs] {
        let scene = Scene::over(protocol, Emulator::builder()).await;
        let mut running = scene.boot();
        assert_eq!(
            happenings(&running.online().await),
            [
                Happening::Started,
                Happening::Registering,
                Happening::Assigned,
                Happening::Connecting,
                Happening::Connected
            ]
        );
        assert_eq!(running.manager.snapshot().transport.as_deref(), Some(protocol.name()));
        running.stop().await;
        assert_eq!(registrations(&scene.plant.emulator), 1, "{:#?}", scene.plant.emulator.journal());

        // The service cannot be reached any more.
        let closed = endpoint_of(&scene.plant.emulator).with_port(CLOSED_PORT);
        let mut running = Running::start(scene.options_over(Arc::new(Https::new(closed))));
        running.online().await;
        running.stop().await;
        assert_eq!(registrations(&scene.plant.emulator), 1);
    }
}

#[tokio::test]
async fn a_device_with_a_certificate_of_its_own_comes_online() {
    let plant = Plant::start(Over::HTTPS).await;
    let pki = Pki::new(["dev1"], 1).unwrap();
    plant.enroll_certificate("dev1", pki.devices[0].certificate_pem.as_str()).await;
    let scene = Scene::of(plant, certified(&pki.devices[0]));
    for _ in 0..2 {
        let running = scene.online().await;
        running.stop().await;
    }
    assert_eq!((registrations(&scene.plant.emulator), scene.hub.hubs().len()), (1, 2));
}
