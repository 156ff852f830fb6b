//! How many connections the HTTPS transport and the service client open when many devices register or many
//! calls begin at once, and who waits for whom.

use std::time::Duration;

use azure_dps_core::{Endpoint, Error, ErrorKind, Identity};
use azure_dps_device::{Credential, DeviceClient, Https};
use azure_dps_emulator::Pki;
use azure_dps_tests::back_end::{client_for, ok, stored};
use azure_dps_tests::registration::KEY;
use azure_dps_tests::tasks::settles;
use azure_dps_tests::{Act, PATIENCE, Peer, device, pass};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::timeout;

const TEST_LIMIT: Duration = Duration::from_secs(60);

/// A service that assigns every device at its first poll, and never answers those whose id begins with
/// `stalled`.
async fn service() -> Peer {
    Peer::answering(|request| {
        let id = request.split('/').nth(3).unwrap().to_owned();
        if id.starts_with("stalled") {
            return Act::Stall;
        }
        if request.starts_with("PUT ") {
            let body = json!({ "operationId": "op-1", "status": "assigning" });
            return Act::json("202 Accepted", "Retry-After: 0\r\n", &body.to_string());
        }
        let state = json!({
            "registrationId": id, "deviceId": id, "assignedHub": "hub.example", "status": "assigned"
        });
        let body = json!({ "operationId": "op-1", "status": "assigned", "registrationState": state });
        Act::json("200 OK", "", &body.to_string())
    })
    .await
}

/// The endpoint of the service, which waits for as long as the test may take.
fn patient(service: &Peer) -> Endpoint {
    service.endpoint().with_connect_timeout(TEST_LIMIT).with_exchange_timeout(TEST_LIMIT)
}

fn client(id: &str, https: &Https) -> DeviceClient {
    let credential = Credential::symmetric_key(id.parse().unwrap(), KEY.parse().unwrap());
    device("0ne00ABCDEF", credential, https.clone())
}

async fn register_all(clients: impl IntoIterator<Item = DeviceClient>) -> Vec<Result<(), Error>> {
    let mut running = JoinSet::new();
    for client in clients {
        running.spawn(async move { client.register().await.map(drop) });
    }
    timeout(TEST_LIMIT, running.join_all()).await.unwrap()
}

fn devices(count: usize, https: &Https) -> Vec<DeviceClient> {
    (0..count).map(|number| client(&format!("device-{number}"), https)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_registrations_at_once_have_at_most_64_connections() {
    let service = service().await;
    let https = Https::new(patient(&service));
    for result in register_all(devices(200, &https)).await {
        result.unwrap();
    }
    assert!(service.most_open() <= 64, "{} connections at once", service.most_open());
    assert!(service.connections() <= 64, "{} handshakes", service.connections());
    assert_eq!(service.requests().len(), 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_number_of_connections_can_be_set() {
    let service = service().await;
    for (limit, most) in [(3, 3), (1, 1), (0, 1)] {
        let before = service.connections();
        let https = Https::new(patient(&service)).with_max_connections(limit);
        for result in register_all(devices(200, &https)).await {
            result.unwrap();
        }
        let opened = service.connections() - before;
        assert!(opened <= most, "{opened} connections with the limit {limit}");
    }
    // The last connection of one value may be seen to end after the first of the next value.
    assert!(service.most_open() <= 3 + 1, "{} connections at once", service.most_open());
}

/// Each certificate needs its own connections, so that idle ones are closed for others. The peer may see the
/// new connection before it sees the end of the old one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_with_certificates_share_the_limit() {
    let service = service().await;
    let https = Https::new(patient(&service)).with_max_connections(3);
    let ids = (0..12).map(|number| format!("device-{number}")).collect::<Vec<_>>();
    let pki = Pki::new(ids.iter().map(String::as_str), 0).unwrap();
    let with_certificates = pki.devices.iter().map(|own| {
        let identity = Identity::from_pem(&own.chain_pem, &own.private_key_pem).unwrap();
        device("0ne00ABCDEF", Credential::x509(identity).unwrap(), https.clone())
    });
    let with_keys = (0..12).map(|number| client(&format!("key-{number}"), &https));
    for result in register_all(with_certificates.chain(with_keys)).await {
        result.unwrap();
    }
    assert!(service.most_open() <= 2 * 3, "{} connections at once", service.most_open());
}

#[tokio::test]
async fn stalled_connections_hold_up_others_until_their_own_deadline() {
    let service = service().await;
    let https = Https::new(patient(&service)).with_max_connections(3);
    let stalled = (0..3)
        .map(|number| client(&format!("stalled-{number}"), &https))
        .map(|client| tokio::spawn(async move { client.register().timeout(PATIENCE).await }));
    let stalled = stalled.collect::<Vec<_>>();
    settles(|| service.requests().len() == 3).await;
    let others = tokio::spawn(register_all(devices(20, &https)));
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(service.requests().len(), 3, "the others wait");
    pass(PATIENCE).await;
    for result in others.await.unwrap() {
        result.unwrap();
    }
    for registration in stalled {
        assert_eq!(registration.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_that_gets_no_connection_ends_at_its_deadline() {
    let service = service().await;
    let https = Https::new(patient(&service)).with_max_connections(1);
    let stalled = client("stalled", &https);
    let stalled = tokio::spawn(async move { stalled.register().await.map(drop) });
    settles(|| !service.requests().is_empty()).await;

    let waiting = client("device-1", &https);
    let error = waiting.register().timeout(Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert_eq!(service.requests().len(), 1, "it was not sent");

    // Both have given up their places.
    stalled.abort();
    timeout(TEST_LIMIT, waiting.register()).await.unwrap().unwrap();
    assert_eq!(service.connections(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_service_calls_at_once_have_at_most_64_connections() {
    let service = Peer::answering(|_| ok(stored(json!({})))).await;
    let client = client_for(patient(&service));
    let get = async || client.enrollments().get("sensor-042").await;
    let calls = (0..200).map(|_| get());
    for result in timeout(TEST_LIMIT, futures_util::future::join_all(calls)).await.unwrap() {
        result.unwrap();
    }
    assert!(service.most_open() <= 64, "{} connections at once", service.most_open());
    assert!(service.connections() <= 64, "{} handshakes", service.connections());
}
