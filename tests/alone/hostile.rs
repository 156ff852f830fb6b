//! A device against servers that never come to an end and do not read: a registration ends in a typed error within its
//! deadline, and its memory stays within what azure-dps-device/docs/networks.md promises. In one process, so
//! that its memory is seen.
#![allow(clippy::indexing_slicing, clippy::print_stderr, clippy::unwrap_used)] // Test code.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use azure_dps_core::{Endpoint, ErrorKind};
use azure_dps_device::{Amqp, Credential, DeviceClient, Https, Mqtt};
use azure_dps_service::ServiceClient;
use azure_dps_tests::{HUNG, TlsListener, device};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use sha1::{Digest as _, Sha1};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::server::TlsStream;

#[path = "answer.rs"]
mod answer;

type Stream = TlsStream<TcpStream>;

/// What a server does before it floods.
#[derive(Clone, Copy)]
enum Opening {
    /// Nothing: the flood is the answer to whatever comes.
    None,
    /// It opens a WebSocket.
    WebSocket,
    /// It lets the device in over MQTT.
    Mqtt,
    /// It lets the device in with SASL and greets it with AMQP.
    Amqp,
}

type Flood = (Opening, Vec<u8>, Vec<u8>);

/// What it is, the transport, and what the server does: its opening, and what it sends once and without end.
fn floods_of_servers() -> Vec<(&'static str, &'static str, Flood)> {
    let pings = [0x89, 0].repeat(10_000);
    let large_pings = [&[0x89, 125][..], &[b'x'; 125]].concat().repeat(400);
    let part = [&[0x00, 0x7e, 0xff, 0xff][..], &[0; 65_535]].concat();
    let transfer = |channel: u8, handle: u8| {
        let performative = [0, 0x53, 0x14, 0xc0, 11, 6, 0x52, handle, 0x43, 0xa0, 1, 0, 0x43, 0x42, 0x41];
        [&[0, 0, 0xea, 0x60, 2, 0, 0, channel][..], &performative, &[0; 60_000 - 8 - 15]].concat()
    };
    let transfers: Vec<u8> = (0..20).flat_map(|number| transfer(number, 0)).collect();
    let on_handles: Vec<u8> = (0..20).flat_map(|number| transfer(0, number)).collect();
    let chunk = [&b"ea60\r\n"[..], &[b' '; 60_000], b"\r\n"].concat();
    let ok = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let publish = [&[0x32, 0x08, 0, 3, b'a', b'/', b'b', 0, 1, b'x'][..]].concat().repeat(5_000);
    let packet = [&[0x30, 0xff, 0xff, 0xff, 0x7f][..], &[0; 60_000]].concat();
    let flood = |opening, first: &[u8], again: Vec<u8>| (opening, first.to_vec(), again);
    vec![
        ("pings to MQTT", "mqtt-ws", flood(Opening::WebSocket, b"", pings.clone())),
        ("pings to AMQP", "amqp-ws", flood(Opening::WebSocket, b"", pings)),
        ("large pings", "mqtt-ws", flood(Opening::WebSocket, b"", large_pings)),
        ("fragments of a message", "mqtt-ws", flood(Opening::WebSocket, &[0x02, 0], part)),
        (
            "a head of a WebSocket",
            "mqtt-ws",
            flood(Opening::None, b"HTTP/1.1 101 OK\r\n", b"A: a\r\n".repeat(9_000)),
        ),
        ("transfers on channels", "amqp", flood(Opening::Amqp, b"", transfers)),
        ("transfers on handles", "amqp", flood(Opening::Amqp, b"", on_handles)),
        (
            "a SASL frame",
            "amqp",
            flood(Opening::None, b"AMQP\x03\x01\0\0\xff\xff\xff\xff\x02\x01\0\0", vec![0; 60_000]),
        ),
        ("frames that keep alive", "amqp", flood(Opening::Amqp, b"", [0, 0, 0, 8, 2, 0, 0, 0].repeat(8_000))),
        ("a body in chunks", "https", flood(Opening::None, ok, chunk)),
        (
            "a body with a length",
            "https",
            flood(
                Opening::None,
                b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
                vec![b' '; 60_000],
            ),
        ),
        ("a head", "https", flood(Opening::None, b"HTTP/1.1 200 OK\r\n", b"A: a\r\n".repeat(9_000))),
        ("a packet", "mqtt", flood(Opening::None, b"", packet.clone())),
        ("a packet behind CONNACK", "mqtt", flood(Opening::Mqtt, b"", packet)),
        ("messages that want to be acknowledged", "mqtt", flood(Opening::Mqtt, b"", publish)),
        ("packets of ping", "mqtt", flood(Opening::Mqtt, b"", [0xd0, 0].repeat(20_000))),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_end_costs_a_limited_amount_of_memory_and_time() {
    let _alone = ALONE.lock().await;
    for (what, transport, (opening, first, again)) in floods_of_servers() {
        let listener = TlsListener::start().await;
        let client = client(transport, listener.endpoint().with_exchange_timeout(DEADLINE));
        let server = tokio::spawn(floods(listener, opening, first.into(), again.into()));
        // From here on the peak is what this server costs.
        let _not_on_this_system = fs::write("/proc/self/clear_refs", "5");
        let (before, begun) = (peak(), Instant::now());

        let error = client.register().timeout(DEADLINE).await.unwrap_err();

        let took = begun.elapsed();
        assert!(took < DEADLINE + Duration::from_secs(10), "{what}: {took:?}");
        let kinds =
            [ErrorKind::Protocol, ErrorKind::Io, ErrorKind::Timeout, ErrorKind::Connect, ErrorKind::Service];
        assert!(kinds.contains(&error.kind()), "{what}: {error:?}");
        server.abort();
        let Some((before, after)) = before.zip(peak()) else {
            eprintln!("skipped: the memory of a process can be seen on Linux only");
            continue;
        };
        let grown = after.saturating_sub(before);
        eprintln!("{what}: {:?} after {took:?}, {} KiB", error.kind(), grown / 1024);
        assert!(grown <= PER_CONNECTION, "{what}: {} KiB", grown / 1024);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_many_small_values_costs_a_limited_amount_of_memory() {
    let _alone = ALONE.lock().await;
    let items = ["[0]", r#"{"":{}}"#, "0", r#"{"a":[{"b":[0]}]}"#];
    let forms = [
        (r#"{"operationId":"o","status":"none","registrationState":{"payload":["#, "]}}"),
        (r#"{"operationId":"o","status":"none","unknown":["#, "]}"),
    ];
    for transport in ["amqp", "mqtt", "https", "mqtt-ws", "amqp-ws"] {
        // WebSockets carry the same bytes.
        for item in items.into_iter().take(if transport.ends_with("-ws") { 1 } else { 4 }) {
            for (begin, end) in forms {
                let most = if transport == "https" { [16_000_000, 255_000] } else { [255_000, 100_000] };
                for size in most.into_iter().chain([30_000, 20_000]) {
                    let body = [begin, &vec![item; size / (item.len() + 1)].join(","), end].concat();
                    let what = format!("{transport}: {size} bytes of {begin}{item}");
                    an_answer(transport, body.into_bytes(), &what).await;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_many_small_values_costs_a_back_end_a_limited_amount_of_memory() {
    let _alone = ALONE.lock().await;
    for item in ["[0]", r#"{"":{}}"#, r#"{"registrationId":"a"}"#] {
        for size in [16_000_000, 4_000_000, 1_000_000] {
            let listener = TlsListener::start().await;
            let credential = azure_dps_service::Credential::policy("owner", KEY.parse().unwrap());
            let service = ServiceClient::builder(listener.endpoint(), credential).build().unwrap();
            let body = ["[", &vec![item; size / (item.len() + 1)].join(","), "]"].concat();
            let server = tokio::spawn(async move {
                let mut stream = listener.accept_stream().await;
                answer::give(&mut stream, "https", body.as_bytes()).await;
                let _left = stream.read_to_end(&mut Vec::new()).await;
            });
            let _not_on_this_system = fs::write("/proc/self/clear_refs", "5");
            let before = peak();

            let result = service.enrollments().list().next_page().await;

            let grown = before.zip(peak()).map(|(before, after)| after.saturating_sub(before));
            let outcome = result.map(|page| page.map(|page| (page.items.len(), page.unreadable.len())));
            eprintln!("{size} bytes of {item}: {grown:?} bytes, {outcome:?}");
            assert!(grown.unwrap_or_default() <= PER_PAGE, "{size} bytes of {item}: {grown:?}");
            server.abort();
        }
    }
}

/// Registers at a server that gives one answer, and looks at what the device did with it.
async fn an_answer(transport: &'static str, body: Vec<u8>, what: &str) {
    let listener = TlsListener::start().await;
    let client = client(transport, listener.endpoint());
    let server = tokio::spawn(async move {
        let mut stream = listener.accept_stream().await;
        let answered = answer::give(&mut stream, transport, &body).await;
        // The device is not to see an end before it has read everything.
        if !transport.starts_with("amqp") {
            let _left = stream.read_to_end(&mut Vec::new()).await;
        }
        answered
    });
    let _not_on_this_system = fs::write("/proc/self/clear_refs", "5");
    let before = peak();

    let result = client.register().timeout(HUNG).await;

    let Some((before, after)) = before.zip(peak()) else { return };
    let grown = after.saturating_sub(before);
    let error = result.unwrap_err();
    eprintln!("{what}: {} KiB, {error}", grown / 1024);
    assert!(error.kind() == ErrorKind::Protocol && !error.to_string().contains("carried"), "{what}: {error}");
    assert!(grown <= PER_CONNECTION, "{what}: {} KiB", grown / 1024);
    drop(client);
    server.abort();
}

fn client(transport: &str, endpoint: Endpoint) -> DeviceClient {
    let credential = Credential::symmetric_key("dev-1".parse().unwrap(), KEY.parse().unwrap());
    let scope = "0ne00ABCDEF";
    match transport {
        "https" => device(scope, credential, Https::new(endpoint)),
        "mqtt" => device(scope, credential, Mqtt::new(endpoint)),
        "mqtt-ws" => device(scope, credential, Mqtt::new(endpoint).with_websocket()),
        "amqp" => device(scope, credential, Amqp::new(endpoint)),
        _ => device(scope, credential, Amqp::new(endpoint).with_websocket()),
    }
}

/// Floods every connection for as long as it takes bytes, and reads nothing of what comes back.
async fn floods(listener: TlsListener, opening: Opening, first: Arc<[u8]>, again: Arc<[u8]>) {
    loop {
        let stream = listener.accept_stream().await;
        let (first, again) = (Arc::clone(&first), Arc::clone(&again));
        tokio::spawn(async move {
            let mut stream = stream;
            if open(&mut stream, opening).await.is_none() || stream.write_all(&first).await.is_err() {
                return;
            }
            while stream.write_all(&again).await.is_ok() {}
        });
    }
}

async fn open(stream: &mut Stream, opening: Opening) -> Option<()> {
    match opening {
        Opening::None => {
            stream.read_u8().await.ok()?;
        }
        Opening::WebSocket => {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.ok()?);
            }
            let head = String::from_utf8(head).ok()?;
            let header =
                |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
            let proof = format!("{}258EAFA5-E914-47DA-95CA-C5AB0DC85B11", header("Sec-WebSocket-Key:"));
            let (accept, protocol) =
                (BASE64_STANDARD.encode(Sha1::digest(proof)), header("Sec-WebSocket-Protocol:"));
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).await.ok()?;
        }
        Opening::Mqtt => {
            stream.read_u8().await.ok()?;
            stream.write_all(&[0x20, 2, 0, 0]).await.ok()?;
        }
        Opening::Amqp => {
            let mut header = [0; 8];
            stream.read_exact(&mut header).await.ok()?;
            // The mechanism PLAIN, then the outcome: accepted.
            stream.write_all(b"AMQP\x03\x01\0\0").await.ok()?;
            stream.write_all(b"\0\0\0\x15\x02\x01\0\0\0\x53\x40\xc0\x08\x01\xa3\x05PLAIN").await.ok()?;
            stream.read_u8().await.ok()?;
            stream.write_all(b"\0\0\0\x10\x02\x01\0\0\0\x53\x44\xc0\x03\x01\x50\0").await.ok()?;
            stream.write_all(b"AMQP\0\x01\0\0").await.ok()?;
        }
    }
    Some(())
}

/// The most memory that this process has had at once, in bytes, where the system reports it.
fn peak() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<usize>().ok().map(|kib| kib * 1024)
}

const KEY: &str = "LUu96OcIySTuTZ+HPaNcqIX1hHXsJEZv4e5FPvaM2Rk=";
const DEADLINE: Duration = Duration::from_secs(6);
/// Memory is that of the process.
static ALONE: Mutex<()> = Mutex::const_new(());
/// Source: azure-dps-device/docs/networks.md.
const PER_CONNECTION: usize = 8 * 1024 * 1024;
const PER_PAGE: usize = 128 * 1024 * 1024;
