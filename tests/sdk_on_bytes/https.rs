//! The HTTPS transport against a peer that knows no semantics: the literal bytes, and every way a peer can fail.
//!
//! Expected values: requests that the official Node.js client (azure-iot-provisioning-device 1.9.1) was seen to send,
//! apart from the api-version, the field order of the token and the body that it sends with a GET.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)] // Test code.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use azure_dps_core::{Endpoint, ErrorKind, Proxy, SharedKey};
use azure_dps_device::{Credential, Https, Slot, Tpm, TpmKeys};
use azure_dps_tests::{Act, Certificate, Peer, RawPeer, body, closed_port, device, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::percent_decode_str;
use serde_json::json;
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const ID: &str = "interop-sym-01";
const KEY: &str = "LUu96OcIySTuTZ+HPaNcqIX1hHXsJEZv4e5FPvaM2Rk=";
const OPERATION: &str = "5.d0a671905ea5b2c8.42d78160-4c78-479e-8be7-61d5e55dac0d";

fn credential() -> Credential {
    Credential::symmetric_key(ID.parse().unwrap(), KEY.parse().unwrap())
}

fn assigning() -> Act {
    let body = format!(r#"{{"operationId":"{OPERATION}","status":"assigning"}}"#);
    Act::json("202 Accepted", "Retry-After: 0\r\nLocation: https://localhost/elsewhere\r\n", &body)
}

fn assigned() -> Act {
    Act::json("200 OK", "", &assigned_body(json!({})))
}

fn assigned_body(more: serde_json::Value) -> String {
    let mut body = json!({ "operationId": OPERATION, "status": "assigned", "registrationState": {
        "registrationId": ID, "createdDateTimeUtc": "2026-01-01T00:00:00.0000000Z", "status": "assigned",
        "lastUpdatedDateTimeUtc": "2026-01-01T00:00:00.0000000Z",
        "etag": "IjAxMDAwMDAwLTAwMDAtMDAwMC0wMDAwLTAwMDAwMDAwMDAwMCI=",
        "assignedHub": "interop-hub.azure-devices.localhost", "deviceId": ID, "substatus": "initialAssignment"
    } });
    let state = body["registrationState"].as_object_mut().unwrap();
    state.extend(more.as_object().unwrap().clone());
    body.to_string()
}

#[tokio::test]
async fn a_registration_is_a_put_and_a_poll_is_a_get_on_one_connection() {
    let peer = Peer::start([assigning(), assigning(), assigned()]).await;
    let assignment = peer.device(credential()).register().await.unwrap();

    assert_eq!(assignment.hub(), "interop-hub.azure-devices.localhost");
    assert_eq!(assignment.device_id(), ID);
    let summary = assignment.summary();
    assert_eq!((summary.transport, summary.connects, summary.requests), ("HTTPS", 1, 3));

    let requests = peer.requests();
    let line = |n: usize| requests[n].lines().next().unwrap().to_owned();
    assert_eq!(
        line(0),
        "PUT /0ne00ABCDEF/registrations/interop-sym-01/register?api-version=2021-10-01 HTTP/1.1"
    );
    let poll = format!(
        "GET /0ne00ABCDEF/registrations/interop-sym-01/operations/{OPERATION}?api-version=2021-10-01 HTTP/1.1"
    );
    assert_eq!((line(1), line(2)), (poll.clone(), poll));
    assert_eq!(body(&requests[0]), r#"{"registrationId":"interop-sym-01"}"#);
    assert_eq!(header(&requests[0], "content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(header(&requests[0], "content-length"), Some("35"));
    for request in &requests {
        assert_eq!(header(request, "accept"), Some("application/json"));
        assert_eq!(header(request, "host"), Some(format!("localhost:{}", peer.port).as_str()));
        assert!(header(request, "user-agent").unwrap().starts_with("azure-dps-device/"));
    }
    assert_eq!((header(&requests[1], "content-length"), body(&requests[1])), (None, ""));
    assert_eq!(peer.connections(), 1);
}

#[tokio::test]
async fn the_token_is_for_this_registration_and_signed_over_its_resource_as_sent() {
    let peer = Peer::start([assigned()]).await;
    peer.device(credential()).register().await.unwrap();

    let request = &peer.requests()[0];
    let token = header(request, "authorization").unwrap().strip_prefix("SharedAccessSignature ").unwrap();
    let order: Vec<_> = token.split('&').map(|field| field.split_once('=').unwrap().0).collect();
    assert_eq!(order, ["sr", "sig", "se", "skn"]);
    let fields: HashMap<_, _> = token.split('&').map(|field| field.split_once('=').unwrap()).collect();
    assert_eq!(fields["sr"], "0ne00ABCDEF%2Fregistrations%2Finterop-sym-01");
    assert_eq!(fields["skn"], "registration");
    let left = fields["se"].parse::<i64>().unwrap() - time::OffsetDateTime::now_utc().unix_timestamp();
    assert!((3590..=3600).contains(&left), "{left} s left");

    let mut mac = Hmac::<Sha256>::new_from_slice(&BASE64.decode(KEY).unwrap()).unwrap();
    mac.update(format!("{}\n{}", fields["sr"], fields["se"]).as_bytes());
    let expected = BASE64.encode(mac.finalize().into_bytes());
    assert_eq!(percent_decode_str(fields["sig"]).decode_utf8().unwrap(), expected);
}

#[tokio::test]
async fn a_payload_goes_out_and_comes_back() {
    let payload =
        json!({ "modelId": "dtmi:interop:Thermostat;1", "nested": { "list": [true, null, "ü"], "n": 1 } });
    let back = json!({ "echo": payload });
    let answer = Act::json("200 OK", "", &assigned_body(json!({ "payload": back })));
    let peer = Peer::start([assigning(), answer]).await;
    let assignment = peer.device(credential()).register().payload(payload).await.unwrap();

    assert_eq!(
        body(&peer.requests()[0]),
        "{\"registrationId\":\"interop-sym-01\",\"payload\":{\"modelId\":\"dtmi:interop:Thermostat;1\",\
         \"nested\":{\"list\":[true,null,\"ü\"],\"n\":1}}}"
    );
    assert_eq!(assignment.payload(), Some(&back));
}

#[tokio::test]
async fn a_lookup_is_one_post() {
    let state = json!({ "registrationId": ID, "status": "assigned", "assignedHub": "h" }).to_string();
    let peer = Peer::start([Act::json("200 OK", "", &state)]).await;
    let found = peer.device(credential()).lookup().await.unwrap();

    assert_eq!(found.assigned_hub.as_deref(), Some("h"));
    let request = &peer.requests()[0];
    assert!(
        request.starts_with(
            "POST /0ne00ABCDEF/registrations/interop-sym-01?api-version=2021-10-01 HTTP/1.1\r\n"
        )
    );
    assert_eq!(body(request), r#"{"registrationId":"interop-sym-01"}"#);
    assert!(header(request, "authorization").is_some());
}

#[tokio::test]
async fn connections_are_kept_across_registrations() {
    let peer = Peer::start([assigned(), assigned(), assigned()]).await;
    let https = Https::new(peer.endpoint());
    for _ in 0..3 {
        device("0ne00ABCDEF", credential(), https.clone()).register().await.unwrap();
    }
    assert_eq!(peer.connections(), 1);
}

#[tokio::test]
async fn throttling_and_faults_are_waited_out() {
    let throttled =
        |status| Act::json(status, "Retry-After: 0\r\n", r#"{"errorCode":429001,"message":"slow"}"#);
    let peer = Peer::start([
        throttled("429 Too Many Requests"),
        throttled("500 Internal Server Error"),
        assigning(),
        throttled("429 Too Many Requests"),
        assigned(),
    ])
    .await;
    let assignment = peer.device(credential()).register().await.unwrap();
    assert_eq!(assignment.summary().requests, 5);
}

#[tokio::test]
async fn a_refused_key_is_one_error_with_all_the_evidence() {
    let refusal = r#"{"errorCode":401002,"trackingId":"4a7b0cd6","message":"Unauthorized","info":null,
        "timestampUtc":"2020-04-10T05:24:22.4718526Z"}"#;
    let peer = Peer::start([Act::json("401 Unauthorized", "", refusal)]).await;
    let error = peer.device(credential()).register().await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    let service = error.service().unwrap();
    assert_eq!((service.status, service.code), (401, Some(401002)));
    assert_eq!(
        error.to_string(),
        "the service refused the device's credential: status 401, code 401002, \"Unauthorized\", tracking id 4a7b0cd6"
    );
    assert!(error.help().contains("derived for exactly this registration id"));
    assert_eq!(peer.requests().len(), 1);
}

#[tokio::test]
async fn a_connection_cut_in_place_of_an_answer_is_made_again_and_the_operation_goes_on() {
    let peer = Peer::start([assigning(), Act::Close, assigned()]).await;
    let assignment = peer.device(credential()).register().await.unwrap();
    assert_eq!(assignment.summary().connects, 2);
    assert!(peer.requests()[2].starts_with("GET "));
}

#[tokio::test]
async fn a_peer_that_always_cuts_is_given_up_after_three_connections() {
    let peer = Peer::start([Act::Close, Act::Close, Act::Close, Act::Close, Act::Close, Act::Close]).await;
    let error = peer.device(credential()).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("was lost before the answer was complete"), "{error}");
    assert!(error.help().contains("register again"));
}

#[tokio::test]
async fn half_an_answer_is_a_lost_connection() {
    let half = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"oper";
    let peer = Peer::start(std::iter::repeat_n(Act::AnswerAndClose(half.into()), 3)).await;
    let error = peer.device(credential()).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
}

#[tokio::test]
async fn the_name_of_a_product_goes_into_the_user_agent() {
    let peer = Peer::start([assigned()]).await;
    let client = peer.device(credential()).with_product("thermostat/1.2").unwrap();
    let client = client.with_product("east").unwrap();
    client.register().await.unwrap();
    assert!(header(&peer.requests()[0], "user-agent").unwrap().ends_with(" (Rust) thermostat/1.2 east"));
    let error = peer.device(credential()).with_product("thermostat\r\nx: y").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[tokio::test]
async fn no_answer_ends_when_the_exchange_may_take_no_longer() {
    let peer = Peer::start(std::iter::repeat_n(Act::Stall, 3)).await;
    let error = peer.device(credential()).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("no complete answer from localhost"), "{error}");
    assert!(error.to_string().contains("within 2.3s"), "{error}");
    assert_eq!(peer.requests().len(), 3);
}

#[tokio::test]
async fn a_stalled_poll_ends_with_the_deadline_and_names_the_operation() {
    let peer = Peer::start([assigning(), Act::Stall]).await;
    let https = Https::new(peer.endpoint().with_exchange_timeout(Duration::from_secs(60)));
    let started = Instant::now();
    let error = device("0ne00ABCDEF", credential(), https)
        .register()
        .timeout(Duration::from_millis(400))
        .await
        .unwrap_err();
    assert_eq!((error.kind(), error.operation_id()), (ErrorKind::Timeout, Some(OPERATION)));
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_a_protocol_error() {
    let peer = Peer::start([Act::AnswerAndClose("SSH-2.0-OpenSSH_9.2\r\n".into())]).await;
    let error = peer.device(credential()).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.to_string().ends_with("is not HTTP"), "{error}");
}

#[tokio::test]
async fn an_answer_of_something_else_is_a_protocol_error() {
    for (status, text) in [("200 OK", "<html>captive portal</html>"), ("200 OK", ""), ("302 Found", "{}")] {
        let peer = Peer::start([Act::json(status, "Location: https://localhost/\r\n", text)]).await;
        let error = peer.device(credential()).register().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{status} {text:?}");
        assert!(error.help().contains("is not one of the provisioning service"));
        assert_eq!(peer.requests().len(), 1, "a redirect is never followed");
    }
}

#[tokio::test]
async fn an_endless_answer_ends() {
    let chunk = format!("100000\r\n{}\r\n", "x".repeat(0x10_0000));
    let endless = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}", chunk.repeat(2));
    let peer = Peer::start([Act::Answer(endless)]).await;
    let https = Https::new(peer.endpoint().with_exchange_timeout(Duration::from_secs(20)));
    let error = device("0ne00ABCDEF", credential(), https).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.to_string().contains("262144 bytes"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_trusted_is_refused_and_the_reason_named() {
    for (certificate, reason) in [
        (Certificate::WrongName, "is for another host name"),
        (Certificate::Expired, "has expired"),
        (Certificate::Valid, "is signed by an unknown authority"),
    ] {
        let peer = Peer::with(certificate, []).await;
        let mut endpoint = peer.endpoint();
        if certificate == Certificate::Valid {
            endpoint = endpoint.trust_only(&Peer::start([]).await.ca_pem).unwrap();
        }
        let error = device("0ne00ABCDEF", credential(), Https::new(endpoint)).register().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tls);
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!((peer.requests().len(), peer.connections()), (0, 1), "never tried again");
    }
}

#[tokio::test]
async fn a_private_authority_is_not_among_the_roots_of_the_platform() {
    let peer = Peer::start([]).await;
    let endpoint = Endpoint::new("localhost").unwrap().with_port(peer.port);
    let error =
        device("0ne00ABCDEF", credential(), Https::new(endpoint.clone())).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls, "{error:?}");

    let peer = Peer::start([assigned()]).await;
    let endpoint = endpoint.with_port(peer.port).trust_also(&peer.ca_pem).unwrap();
    device("0ne00ABCDEF", credential(), Https::new(endpoint)).register().await.unwrap();
}

#[tokio::test]
async fn nobody_there_is_a_connect_error() {
    let port = closed_port().await;
    for host in ["localhost", "127.0.0.1", "no-such-host.invalid"] {
        let endpoint = Endpoint::new(host).unwrap().with_port(port).without_proxy();
        let error = device("0ne00ABCDEF", credential(), Https::new(endpoint)).register().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connect, "{host}: {error:?}");
        assert!(error.to_string().contains(&format!("no connection to {host}:{port}")), "{error}");
    }
}

#[tokio::test]
async fn a_peer_that_never_speaks_tls_ends_with_the_connect_limit() {
    let peer = RawPeer::silent().await;
    let endpoint = Endpoint::new("localhost")
        .unwrap()
        .with_port(peer.port)
        .with_connect_timeout(Duration::from_millis(200));
    let error = device("0ne00ABCDEF", credential(), Https::new(endpoint)).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.to_string().contains("within 200ms"), "{error}");
}

#[tokio::test]
async fn a_request_that_never_got_a_connection_is_no_lost_answer() {
    let peer = RawPeer::silent().await;
    let endpoint = Endpoint::new("localhost").unwrap().with_port(peer.port);
    let endpoint = endpoint
        .with_connect_timeout(Duration::from_millis(300))
        .with_exchange_timeout(Duration::from_millis(50));
    let error = device("0ne00ABCDEF", credential(), Https::new(endpoint)).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.to_string().contains("within 300ms"), "{error}");
}

#[tokio::test]
async fn a_peer_that_answers_without_tls_is_tried_again_and_named() {
    let peer = RawPeer::start(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let _ = stream.read(&mut [0; 1024]).await;
    })
    .await;
    let endpoint = Endpoint::new("localhost").unwrap().with_port(peer.port);
    let error = device("0ne00ABCDEF", credential(), Https::new(endpoint)).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect, "{error:?}");
    assert!(error.to_string().contains("does not speak TLS"), "{error}");
}

#[tokio::test]
async fn a_proxy_is_asked_to_connect_with_the_login() {
    let (seen, peer) = (Arc::new(Mutex::new(String::new())), Peer::start([assigned()]).await);
    let (port, asked) = (peer.port, Arc::clone(&seen));
    let proxy = RawPeer::start(move |mut stream| {
        let asked = Arc::clone(&asked);
        async move {
            let mut bytes = vec![0; 4096];
            let length = stream.read(&mut bytes).await.unwrap();
            *asked.lock().unwrap() = String::from_utf8_lossy(&bytes[..length]).into_owned();
            stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
            let mut target = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut target).await;
        }
    })
    .await;
    let url = format!("http://us%40er:pass@127.0.0.1:{}", proxy.port);
    let endpoint = peer.endpoint().with_proxy(Proxy::new(&url).unwrap());
    device("0ne00ABCDEF", credential(), Https::new(endpoint)).register().await.unwrap();

    let asked = seen.lock().unwrap().clone();
    assert!(asked.starts_with(&format!("CONNECT localhost:{port} HTTP/1.1\r\n")), "{asked}");
    assert_eq!(header(&asked, "proxy-authorization"), Some("Basic dXNAZXI6cGFzcw=="));
}

#[tokio::test]
async fn a_proxy_that_refuses_the_login_is_named_and_its_password_is_not_shown() {
    let proxy = RawPeer::start(|mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream
            .write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            .await;
    })
    .await;
    let url = format!("http://user:hunter2@127.0.0.1:{}", proxy.port);
    let endpoint = Endpoint::new("localhost").unwrap().with_proxy(Proxy::new(&url).unwrap());
    let error = device("0ne00ABCDEF", credential(), Https::new(endpoint)).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Proxy, "{error:?}");
    assert!(!format!("{error:?}").contains("hunter2"));
}

#[tokio::test]
async fn extreme_limits_are_no_limits_and_do_not_overflow() {
    let peer = Peer::start([assigning(), assigned()]).await;
    let endpoint = peer.endpoint().with_connect_timeout(Duration::MAX).with_exchange_timeout(Duration::MAX);
    let client = device("0ne00ABCDEF", credential(), Https::new(endpoint));
    client.register().timeout(Duration::MAX).await.unwrap();
    let error = client.register().timeout(Duration::ZERO).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

/// The environment of a process cannot be changed safely while its threads run, so this test runs another one again.
#[tokio::test]
async fn loopback_never_goes_through_a_proxy_of_the_environment() {
    let port = closed_port().await;
    let run = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "https::a_registration_is_a_put_and_a_poll_is_a_get_on_one_connection"])
        .env("HTTPS_PROXY", format!("http://127.0.0.1:{port}"))
        .env("ALL_PROXY", format!("http://127.0.0.1:{port}"))
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(30), run).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// A TPM that keeps the blobs themselves as keys: enough to see what the client does with one.
#[derive(Debug, Default)]
struct PaperTpm(Mutex<HashMap<Slot, Vec<u8>>>);

impl Tpm for PaperTpm {
    fn public_keys(&self) -> azure_dps_core::Result<TpmKeys> {
        Ok(TpmKeys { endorsement_key: vec![1, 2, 3], storage_root_key: vec![4, 5, 6] })
    }

    fn import(&self, blob: &[u8], slot: Slot) -> azure_dps_core::Result<()> {
        self.0.lock().unwrap().insert(slot, blob.to_vec());
        Ok(())
    }

    fn sign(&self, slot: Slot, message: &[u8]) -> azure_dps_core::Result<Vec<u8>> {
        let key = SharedKey::from_base64(&BASE64.encode(&self.0.lock().unwrap()[&slot])).unwrap();
        Ok(key.sign(message).to_vec())
    }
}

#[tokio::test]
async fn a_tpm_answers_the_challenge_and_keeps_the_identity_key() {
    let challenge = json!({
        "message": "Authorization required, resend request using supplied key",
        "authenticationKey": BASE64.encode(b"challenge"), "unencryptedAuthenticationKey": null, "keyName": "registration"
    });
    let last = assigned_body(json!({ "tpm": { "authenticationKey": BASE64.encode(b"identity") } }));
    let peer = Peer::start([
        Act::json("401 Unauthorized", "", &challenge.to_string()),
        assigning(),
        Act::json("200 OK", "", &last),
    ])
    .await;
    let tpm = Arc::new(PaperTpm::default());
    let client = peer.device(Credential::tpm(ID.parse().unwrap(), tpm.clone()));
    let assignment = client.register().await.unwrap();

    let requests = peer.requests();
    let keys =
        r#"{"registrationId":"interop-sym-01","tpm":{"endorsementKey":"AQID","storageRootKey":"BAUG"}}"#;
    assert_eq!((body(&requests[0]), body(&requests[1])), (keys, keys));
    assert_eq!(header(&requests[0], "authorization"), None);
    let token = header(&requests[1], "authorization").unwrap();
    assert!(token.starts_with("SharedAccessSignature sr=0ne00ABCDEF%2Fregistrations%2Finterop-sym-01&sig="));
    assert_eq!(header(&requests[2], "authorization"), Some(token));
    assert_eq!(tpm.0.lock().unwrap()[&Slot::Identity], b"identity");

    let now = time::OffsetDateTime::UNIX_EPOCH;
    let token = client.credential().hub_token(&assignment, Duration::from_secs(60), now).unwrap();
    let key = SharedKey::from_base64(&BASE64.encode(b"identity")).unwrap();
    let by_key = Credential::symmetric_key(ID.parse().unwrap(), key);
    assert_eq!(token.expose(), by_key.hub_token(&assignment, Duration::from_secs(60), now).unwrap().expose());
}
