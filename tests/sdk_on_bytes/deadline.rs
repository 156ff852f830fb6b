//! The caller's deadline holds wherever the network falls silent, on every transport, also behind a proxy.

use std::sync::Arc;
use std::time::{Duration, Instant};

use azure_dps_core::models::{AttestationMechanism, IndividualEnrollment, SymmetricKeyAttestation};
use azure_dps_core::{Endpoint, ErrorKind, Proxy};
use azure_dps_device::transport::Transport;
use azure_dps_device::{Amqp, Credential, Https, Mqtt};
use azure_dps_emulator::Emulator;
use azure_dps_tests::{RawPeer, device, endpoint_of, service_of};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const DEADLINE: Duration = Duration::from_secs(3);
/// How much later than a pause of the same length a registration may end.
const LATE: Duration = Duration::from_millis(100);
/// A registration has more to do in the end than a pause. What is always late is late in every try.
const TRIES: usize = 3;

/// Passes this many TLS records of the server to the client, then nothing in either direction, and stays.
async fn falls_silent(server: u16, records: usize, proxy: bool) -> RawPeer {
    RawPeer::start(move |mut client| async move {
        if proxy {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = client.read_u8().await else { return };
                head.push(byte);
            }
            let _ = client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        }
        let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        let up = tokio::io::copy(&mut from_client, &mut to_server);
        let down = async {
            for _ in 0..records {
                let mut head = [0; 5];
                if from_server.read_exact(&mut head).await.is_err() {
                    return;
                }
                let [_, _, _, high, low] = head;
                let mut body = vec![0; usize::from(u16::from_be_bytes([high, low]))];
                let _ = from_server.read_exact(&mut body).await;
                let _ = to_client.write_all(&[&head[..], &body].concat()).await;
            }
        };
        tokio::select! {
            () = down => {}
            _ = up => std::future::pending().await,
        }
        std::future::pending::<()>().await;
    })
    .await
}

type Make = fn(Endpoint) -> Arc<dyn Transport>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_falls_silent_after_any_record_does_not_pass_the_deadline() {
    let emulator = Arc::new(Emulator::builder().polls(2).start().await.unwrap());
    let (https, mqtt, amqp) = (emulator.https_port(), emulator.mqtt_port(), emulator.amqp_port());
    let transports: [(&str, u16, usize, Make); 5] = [
        ("HTTPS", https, 9, |endpoint| Arc::new(Https::new(endpoint))),
        ("MQTT", mqtt, 15, |endpoint| Arc::new(Mqtt::new(endpoint))),
        ("MQTT-WS", https, 17, |endpoint| Arc::new(Mqtt::new(endpoint).with_websocket())),
        ("AMQP", amqp, 23, |endpoint| Arc::new(Amqp::new(endpoint))),
        ("AMQP-WS", https, 25, |endpoint| Arc::new(Amqp::new(endpoint).with_websocket())),
    ];
    let few = Arc::new(Semaphore::new(24));
    let mut running = JoinSet::new();
    for (name, port, records, make) in transports {
        for (records, proxy) in (0..records).map(|records| (records, records % 4 == 3)) {
            let (emulator, few) = (Arc::clone(&emulator), Arc::clone(&few));
            running.spawn(async move {
                let _one = few.acquire().await.unwrap();
                let id = format!("{}-{records}", name.to_lowercase());
                let keys = AttestationMechanism::symmetric_key(SymmetricKeyAttestation::new(KEY, KEY));
                let record = IndividualEnrollment::new(&id, keys);
                service_of(&emulator).enrollments().create_or_update(&record).await.unwrap();
                let mut overshoots = Vec::new();
                while overshoots.len() < TRIES {
                    let relay = falls_silent(port, records, proxy).await;
                    let endpoint = match proxy {
                        true => {
                            let proxy = Proxy::new(&format!("127.0.0.1:{}", relay.port)).unwrap();
                            endpoint_of(&emulator).with_port(port).with_proxy(proxy)
                        }
                        false => endpoint_of(&emulator).with_port(relay.port),
                    };
                    let credential = Credential::symmetric_key(id.parse().unwrap(), KEY.parse().unwrap());
                    let device = device(emulator.id_scope(), credential, make(endpoint));
                    // A busy machine is as late with the end of a mere pause.
                    let control = tokio::spawn(async {
                        tokio::time::sleep(DEADLINE).await;
                        Instant::now()
                    });
                    let started = Instant::now();
                    let result = device.register().timeout(DEADLINE).await;
                    let ended = Instant::now();
                    if let Err(error) = &result {
                        assert_eq!(error.kind(), ErrorKind::Timeout, "{name} after {records}: {error}");
                    }
                    if ended < started + DEADLINE {
                        return (result.is_ok(), overshoots);
                    }
                    let overshoot = ended.saturating_duration_since(control.await.unwrap());
                    overshoots.push(overshoot);
                    if overshoot < LATE {
                        return (result.is_ok(), overshoots);
                    }
                }
                panic!("{name}, silent after {records} records: late by {overshoots:?}");
            });
        }
    }
    let ends = running.join_all().await;
    let worst = ends.iter().flat_map(|(_, overshoots)| overshoots).max();
    println!("the latest end came {worst:?} after its deadline");
    let has = |end| ends.iter().any(|(is_registered, _)| *is_registered == end);
    assert!(has(true) && has(false), "some were cut in the registration, some in the goodbye");
}
