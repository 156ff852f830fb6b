//! The SDK's AMQP transport when its peer vanishes, stalls or sends hostile frames.

use std::future::IntoFuture as _;
use std::sync::Arc;
use std::time::Instant;

use azure_dps_core::{Endpoint, Error, ErrorKind};
use azure_dps_device::{Amqp, RegistrationPolicy};
use azure_dps_tests::amqp_bytes::*;
use azure_dps_tests::amqp_service::*;
use azure_dps_tests::registration::{credential, register};
use azure_dps_tests::{CLOSED_PORT, HUNG, PATIENCE, TlsListener, after_silence, device, never_speaks_tls};
use tokio::time::timeout;

use super::amqp::{client, once};

#[tokio::test]
async fn a_peer_that_falls_silent_ends_when_the_step_may_take_no_longer() {
    for step in STEPS {
        let listener = TlsListener::start().await;
        let registration = register(once(&listener));
        let _talk = AmqpService::until(step, &listener).await;
        let error = after_silence(PATIENCE, registration).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{step}: {error:?}");
        assert!(error.to_string().contains("within 30s"), "{step}: {error}");
    }
}

#[tokio::test]
async fn a_peer_that_goes_at_any_step_is_a_lost_connection() {
    for step in STEPS {
        let listener = TlsListener::start().await;
        let registration = register(once(&listener));
        drop(AmqpService::until(step, &listener).await);
        let error = registration.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{step}: {error:?}");
    }
}

#[tokio::test]
async fn bytes_that_are_not_amqp_end_the_registration_at_any_step() {
    let cases: [(&str, &[u8]); 6] = [
        ("text", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        ("a frame larger than agreed", &[0, 0xff, 0xff, 0xff, 2, 0, 0, 0]),
        ("a body that ends too early", &[0, 0, 0, 12, 2, 0, 0, 0, 0, 0x53, 0x14, 0xc0]),
        ("an unknown performative", &[0, 0, 0, 12, 2, 0, 0, 0, 0, 0x53, 0x99, 0x45]),
        ("an open out of turn", &[0, 0, 0, 16, 2, 0, 0, 0, 0, 0x53, 0x10, 0xc0, 3, 1, 0xa1, 0]),
        ("the end of a session that is none", &[0, 0, 0, 12, 2, 0, 0, 77, 0, 0x53, 0x17, 0x45]),
    ];
    let mut told_all = tokio::task::JoinSet::new();
    for (case, garbage) in cases {
        for step in steps_of_the_library().filter(|step| !(case.starts_with("an open") && *step == "open")) {
            told_all.spawn(async move { (case, step, reported(step, garbage.to_vec()).await) });
        }
    }
    while let Some(outcome) = told_all.join_next().await {
        let (case, step, error) = outcome.unwrap();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{case}, {step}: {error:?}");
    }
}

/// Each of these ends the process, or keeps it busy for minutes, when it reaches the library.
#[tokio::test]
async fn frames_that_the_library_does_not_survive_do_not_reach_it() {
    let nested = [[0, 0x53, 1].repeat(5000), vec![0x40]].concat();
    let short = (0..8u8).map(|length| {
        let rest = vec![0; usize::from(length).saturating_sub(4)];
        [vec![0, 0, 0, length], rest].concat()
    });
    let deep = [frame(0, &[section(VALUE, Value::Null), nested.clone()].concat()), frame(0, &nested)];
    let wide = performative(
        DISPOSITION,
        vec![
            Value::Bool(true),
            Value::Uint(1),
            Value::Uint(u32::MAX),
            Value::Bool(true),
            composite(ACCEPTED, vec![]),
        ],
    );
    let frames: Vec<_> = short.chain(deep).chain([frame(0, &wide)]).collect();
    for step in steps_of_the_library().skip(1) {
        for bytes in &frames {
            let error = reported(step, bytes.clone()).await;
            assert_eq!(
                error.kind(),
                ErrorKind::Protocol,
                "{step}, {:?}: {error:?}",
                bytes.first_chunk::<20>()
            );
        }
    }
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let (mut talk, _) = AmqpService::requested(&listener).await;
    talk.transfer(&[&[0, 0x53, VALUE], &nested[..]].concat()).await;
    assert_eq!(registration.await.unwrap().unwrap_err().kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn a_closed_port_and_a_silent_server_are_connect_errors() {
    let endpoint = Endpoint::new("localhost").unwrap().with_port(CLOSED_PORT);
    let error = device("0ne00ABCDEF", credential(), Amqp::new(endpoint)).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);

    let error = never_speaks_tls(credential(), Amqp::new).await;
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.to_string().contains("within 200ms"), "{error}");
}

/// The library's tasks read until their stream ends, which a peer that stalls never does by itself.
#[cfg(target_os = "linux")]
#[test]
fn dropping_a_registration_leaves_no_task_and_no_socket_even_if_the_peer_stalls() {
    let there = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let here = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for step in STEPS {
        let listener = Arc::new(there.block_on(TlsListener::start()));
        let peer = Arc::clone(&listener);
        let stalling = there.spawn(async move { AmqpService::until(step, &peer).await });
        here.block_on(async {
            let client = client(&listener);
            let mut registration = client.register().into_future();
            // The peer keeps its side open while ours is dropped.
            let _talk = tokio::select! {
                result = &mut registration => panic!("{step}: {result:?}"),
                talk = stalling => talk.unwrap(),
            };
            assert_eq!(client_sockets(listener.port), 1, "{step}: the connection is open");
            drop(registration);
            let dropped = Instant::now();
            loop {
                let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
                let sockets = client_sockets(listener.port);
                if (tasks, sockets) == (0, 0) {
                    break;
                }
                assert!(dropped.elapsed() < HUNG, "{step}: {tasks} tasks and {sockets} sockets are left");
                tokio::task::yield_now().await;
            }
        });
    }
}

/// The steps that the library takes.
fn steps_of_the_library() -> impl Iterator<Item = &'static str> {
    STEPS.into_iter().skip(3)
}

/// What a client comes to that gets these bytes in place of an answer, and then nothing more.
async fn reported(step: &'static str, bytes: Vec<u8>) -> Error {
    let listener = TlsListener::start().await;
    let policy = RegistrationPolicy::new().with_connect_attempts(1);
    let registration = register(client(&listener).with_policy(policy));
    let mut talk = AmqpService::until(step, &listener).await;
    talk.raw(&bytes).await;
    // Sooner than any limit of the client: it does not wait for an answer to its close.
    let error = timeout(PATIENCE / 2, registration).await.map_err(|_| step).unwrap().unwrap().unwrap_err();
    drop(talk);
    error
}

/// The sockets of this process that are connected to a port on the loopback interface.
#[cfg(target_os = "linux")]
fn client_sockets(port: u16) -> usize {
    let port = format!(":{port:04X}");
    ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .into_iter()
        .flat_map(|table| {
            std::fs::read_to_string(table).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>()
        })
        .filter(|line| {
            let columns: Vec<_> = line.split_whitespace().collect();
            // Column 9 is the inode: 0 when no process holds the socket any more.
            columns[2].ends_with(&port) && columns[9] != "0"
        })
        .count()
}
