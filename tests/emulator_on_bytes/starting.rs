//! How emulators start, where they listen, and with which settings they do not start.

use azure_dps_emulator::{AccessPolicy, Emulator};
use azure_dps_tests::emulated::{Emulated, PRIMARY};
use azure_dps_tests::http_client::HttpClient;
use azure_dps_tests::trusting;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::tokens::{DEV1, SERVICE_ELSEWHERE};

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let peer = Emulated::with_one_poll().await;
    peer.enroll("dev1", json!({})).await;
    peer.register_with("dev1", DEV1, "{}").await;

    assert_eq!(peer.emulator.connections(), 1);
}

#[tokio::test]
async fn emulators_live_side_by_side_and_end_with_their_handles() {
    let (one, two) = (Emulated::with_one_poll().await, Emulated::with_one_poll().await);
    one.enroll("dev1", json!({})).await;
    assert_ne!(one.emulator.https_port(), two.emulator.https_port());
    assert_ne!(one.emulator.ca_pem(), two.emulator.ca_pem());
    assert_eq!(two.service("GET", "/enrollments/dev1", "").await.status, 404);
    let trust = trusting(two.emulator.ca_pem());
    let stranger = HttpClient::new("localhost", one.emulator.https_port(), trust);
    let refused = stranger.try_ask("GET", "/", "", "").await.unwrap_err().to_string();
    assert!(refused.contains("invalid peer certificate"), "{refused}");

    let Emulated { emulator, client } = one;
    drop(emulator);

    for _connection in ["the one that is open", "another one"] {
        assert!(client.try_ask("GET", "/", "", "").await.is_err());
    }
    assert_eq!(two.service("GET", "/enrollments/dev1", "").await.status, 404);
}

#[tokio::test]
async fn both_loopback_addresses_answer_where_there_are_both() {
    let peer = Emulated::with_one_poll().await;
    let port = peer.emulator.https_port();
    let has_v6 = std::net::TcpListener::bind(("::1", 0)).is_ok();

    for host in if has_v6 { vec!["127.0.0.1", "[::1]"] } else { vec!["127.0.0.1"] } {
        let address = format!("{host}:{port}").parse().unwrap();
        let client = HttpClient::at(address, host, trusting(peer.emulator.ca_pem()));
        assert_eq!(client.ask("GET", "/", "", "").await.status, 404, "{host}");
    }
}

#[tokio::test]
async fn the_official_host_names_are_in_the_certificate() {
    let emulator = Emulator::start().await.unwrap();
    let host = "contoso.azure-devices-provisioning.net";
    let client = HttpClient::new(host, emulator.https_port(), trusting(emulator.ca_pem()));

    let head = format!("Authorization: {SERVICE_ELSEWHERE}\r\n");
    let answer = client.ask("GET", "/enrollments/a?api-version=2021-10-01", &head, "").await;

    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn a_peer_without_tls_is_left_alone() {
    let peer = Emulated::with_one_poll().await;
    let mut stranger = TcpStream::connect(("127.0.0.1", peer.emulator.https_port())).await.unwrap();

    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ended = stranger.read_to_end(&mut answer).await;

    assert!(!answer.starts_with(b"HTTP"));
    assert_eq!(peer.service("GET", "/enrollments/a", "").await.status, 404);
    assert_eq!(peer.emulator.connections(), 2);
}

#[tokio::test]
async fn settings_that_cannot_be_used_are_named() {
    let start =
        async |builder: azure_dps_emulator::EmulatorBuilder| builder.start().await.unwrap_err().to_string();

    assert_eq!(
        start(Emulator::builder().id_scope("a/b")).await,
        "`a/b` cannot be an ID scope: it can have only ASCII letters and digits"
    );
    for (key, why) in [("%", "is not base64: there is '%' at position 1"), ("", "is empty")] {
        assert_eq!(
            start(Emulator::builder().policy_key(key)).await,
            format!(
                "the primary key of policy `provisioningserviceowner` {why}; \
                 give one such as the output of `openssl rand -base64 32`"
            )
        );
    }
    assert_eq!(
        start(Emulator::builder().access_policy(AccessPolicy::new("a;b", []))).await,
        "`a;b` cannot be the name of an access policy: it can have only ASCII letters, digits, `-`, `_` and `.`"
    );
    for hub in ["a b", "a..b", "-a.example", "a.example.", "a.example:443", ""] {
        assert_eq!(
            start(Emulator::builder().hub(hub)).await,
            format!(
                "`{hub}` cannot be the host name of a hub: it needs labels of 1 to 63 ASCII letters, \
                 digits and `-`, which begin and end with a letter or a digit, with dots between them"
            )
        );
    }
    let taken = Emulator::start().await.unwrap();
    let refused = |port: u16, speech: &str| {
        format!(
            "cannot listen on 127.0.0.1:{port} for {speech}: the port is already in use; \
             choose another port, 0 picks a free one"
        )
    };
    let port = taken.https_port();
    assert_eq!(start(Emulator::builder().port(port)).await, refused(port, "HTTPS"));
    let port = taken.mqtt_port();
    assert_eq!(start(Emulator::builder().mqtt_port(port)).await, refused(port, "MQTT"));
    assert_eq!(start(Emulator::builder().hub("a.b").hub("A.B")).await, "hub `A.B` is linked twice");
    assert_eq!(
        start(Emulator::builder().seed_json(r#"{"enrollments":[{"registrationID":"a"}]}"#)).await,
        "the seed cannot be used: no api-version knows enrollments[0].registrationID"
    );
    assert_eq!(
        start(Emulator::builder().seed_json(r#"{"enrollmentGroups":[{"enrollmentGroupId":"a"}]}"#)).await,
        "the seed cannot be used: enrollmentGroups[0]: attestation is missing"
    );
}

#[tokio::test]
async fn the_connection_string_has_the_parts_that_clients_look_for() {
    let emulator = Emulator::builder().policy_key(PRIMARY).start().await.unwrap();

    assert_eq!(
        emulator.service_connection_string(),
        format!(
            "HostName=localhost:{};SharedAccessKeyName=provisioningserviceowner;SharedAccessKey={PRIMARY}",
            emulator.https_port()
        )
    );
}
