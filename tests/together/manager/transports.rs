//! The way to the service: TPMs, blocked ports, and a service that throttles.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use azure_dps_core::Result;
use azure_dps_core::models::{AttestationMechanism, IndividualEnrollment};
use azure_dps_device::manager::{EndReason, Happening, ProvisioningState};
use azure_dps_device::transport::{BoxFuture, Channel, Session, Transport};
use azure_dps_device::{Auto, Credential, Https, Mqtt, Tpm as _};
use azure_dps_emulator::{Emulator, Fault, Operation};
use azure_dps_tests::chip::Chip;
use azure_dps_tests::managed::{Running, quick};
use azure_dps_tests::plant::{Over, Plant, Protocol};
use azure_dps_tests::{CLOSED_PORT, endpoint_of};

use super::Scene;

#[tokio::test]
async fn a_device_with_a_tpm_comes_online_and_reboots() {
    // Over HTTPS the first request of a registration gets the challenge.
    for (protocol, requests) in [(Protocol::Https, 2), (Protocol::Amqp, 1)] {
        let plant = Plant::start(Over::directly(protocol)).await;
        let tpm = Arc::new(Chip::new());
        let mechanism = AttestationMechanism::tpm(tpm.public_keys().unwrap().endorsement_key_base64());
        let record = IndividualEnrollment::new("dev1", mechanism);
        plant.service.enrollments().create_or_update(&record).await.unwrap();
        let scene = Scene::of(plant, Credential::tpm("dev1".parse().unwrap(), tpm));
        for _ in 0..2 {
            let running = scene.online().await;
            running.stop().await;
        }
        assert_eq!(scene.seen(), vec!["register"; requests]);
        // A TPM cannot look up without a challenge, which is a registration.
        let hub = scene.hub.hubs().remove(0);
        scene.plant.emulator.delete_hub_device(&hub, "dev1");
        let mut running = scene.boot();
        running.next(Happening::Disconnected(EndReason::Refused)).await;
        running.online().await;
        assert_eq!(scene.seen(), vec!["register"; 2 * requests]);
    }
}

/// A way that the network blocks, which counts how often it is tried.
#[derive(Debug)]
struct Blocked {
    way: Mqtt,
    tried: Arc<AtomicUsize>,
}

impl Transport for Blocked {
    fn check(&self, session: &Session) -> Result<()> {
        self.way.check(session)
    }

    fn connect(&self, session: Session) -> BoxFuture<'_, Result<Box<dyn Channel>>> {
        self.tried.fetch_add(1, Ordering::SeqCst);
        self.way.connect(session)
    }

    fn host(&self) -> Option<&str> {
        self.way.host()
    }
}

#[tokio::test]
async fn a_blocked_port_is_passed_over_and_the_way_that_works_is_remembered_over_a_reboot() {
    let scene = Scene::over(Protocol::Https, Emulator::builder()).await;
    let tried = Arc::new(AtomicUsize::new(0));
    let port = CLOSED_PORT;
    let auto = || {
        let endpoint = endpoint_of(&scene.plant.emulator);
        let blocked = Blocked { way: Mqtt::new(endpoint.clone().with_port(port)), tried: Arc::clone(&tried) };
        let members: [Arc<dyn Transport>; 3] = [
            Arc::new(blocked),
            Arc::new(Mqtt::new(endpoint.clone()).with_websocket()),
            Arc::new(Https::new(endpoint)),
        ];
        Arc::new(Auto::of(members).unwrap())
    };
    let mut running = Running::start(scene.options_over(auto()));
    running.online().await;
    assert_eq!(running.manager.snapshot().transport.as_deref(), Some("MQTT-WS"));
    running.stop().await;
    assert_eq!(tried.load(Ordering::SeqCst), 1);

    // A program that has just started knows it from the record.
    let mut running = Running::start(scene.options_over(auto()));
    running.online().await;
    let [here, _] = scene.hubs(&running);
    scene.plant.emulator.delete_hub_device(&here, "dev1");
    running.next(Happening::Assigned).await;
    running.online().await;
    assert_eq!(tried.load(Ordering::SeqCst), 1);
    assert_eq!(scene.seen(), ["register", "look up", "register"]);
    running.stop().await;

    // Later it tries the port again.
    let options = scene.options_over(auto()).with_policy(quick().with_transport_memory(Duration::ZERO));
    let mut running = Running::start(options);
    running.online().await;
    running.manager.reprovision();
    running.next(Happening::Assigned).await;
    assert_eq!(tried.load(Ordering::SeqCst), 2);
    assert_eq!(running.manager.snapshot().transport.as_deref(), Some("MQTT-WS"));
}

#[tokio::test]
async fn a_throttled_device_waits_as_long_as_the_service_asks() {
    let scene = Scene::start().await;
    scene.plant.emulator.inject(Fault::throttle(1).on(Operation::Register)).unwrap();
    let mut running = scene.boot();
    let failed = running.next(Happening::RegistrationFailed).await;
    // The ladder's longest pause is shorter.
    assert!(failed.next_attempt.unwrap() > Duration::from_millis(900), "{failed:?}");
    assert_eq!(failed.state, ProvisioningState::Waiting);
    assert!(running.manager.snapshot().last_error.is_some());
    running.online().await;
    assert!(running.manager.snapshot().last_error.is_none());
    let journal = scene.plant.emulator.journal();
    let times: Vec<SystemTime> =
        journal.iter().filter(|entry| entry.method == "PUT").map(|entry| entry.time).collect();
    let [.., first, second] = times[..] else { panic!("{journal:?}") };
    assert!(second.duration_since(first).unwrap() > Duration::from_millis(900), "{journal:#?}");
}
