//! Attacks the program over real sockets: it survives, serves an honest client, and its memory stays within
//! the limits per connection in docs/emulator.md. `DPS_EMULATOR_PROGRAM` names the attacked build of the program.
//! `cargo test --test attack -- --ignored` attacks the one that cargo builds for tests.

// Clippy allows these in test functions only, and the helpers below are test code too.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::print_stderr, clippy::unwrap_used)]

mod attack {
    pub(crate) mod bytes;
    pub(crate) mod der;
    pub(crate) mod program;
}

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use attack::bytes::*;
use attack::der::{certificates, requests};
use attack::program::{Line, Program};
use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::json;

#[test]
#[ignore = "attacks the released program: `cargo xtask test --only attack`"]
fn a_frame_of_descriptors_of_descriptors_does_not_kill_the_program_on_any_port() {
    let program = Program::start();
    let ways: [(&str, &dyn Fn() -> Line); 8] = [
        ("a SASL frame before login", &|| program.amqp(&[SASL])),
        ("behind a token that is refused", &|| {
            let mut line = program.amqp(&[SASL, &plain("nobody")]);
            line.write_all(AMQP).unwrap();
            line
        }),
        ("without SASL, behind any certificate", &|| program.amqp_with_certificate(&[AMQP])),
        ("as a later frame", &|| program.amqp_with_certificate(&[AMQP, &open()])),
        ("in a session", &|| program.amqp_with_certificate(&[AMQP, &open(), &begin(0)])),
        ("a SASL frame in a WebSocket", &|| program.websocket("AMQPWSB10", &[SASL])),
        ("in a WebSocket, behind a token that is refused", &|| {
            program.websocket("AMQPWSB10", &[SASL, &plain("nobody"), AMQP])
        }),
        ("as MQTT", &|| program.mqtt()),
    ];
    for (way, connect) in ways {
        for body in [vec![0; 60_000], [&[0][..], &[0, 0x53, 1].repeat(19_000), &[0x40]].concat()] {
            for kind in [0, 1] {
                let mut line = connect();
                // It may already be closed.
                let _sent = line.write_all(&frame(kind, 0, &body));
                line.ends();
                program.serves(way);
            }
        }
    }
}

#[test]
#[ignore = "attacks the released program: `cargo xtask test --only attack`"]
fn deeply_nested_messages_do_not_kill_the_program() {
    let program = Program::start();
    let nested = |unit: &[u8], times: usize| [&unit.repeat(times)[..], &[0x40]].concat();
    for value in
        [vec![0; 60_000], nested(&[0, 0x53, 0x77], 19_000), nested(&[0xd0, 0, 0, 0, 5, 0, 0, 0, 1], 6_000)]
    {
        let mut line =
            program.amqp_with_certificate(&[AMQP, &open(), &begin(0), &attach(0, 0)]).hears(ATTACHED);
        let (first, second) = value.split_at(value.len() / 2);
        let _sent =
            line.write_all(&[transfer(0, 0, 0, true, first), transfer(0, 0, 0, false, second)].concat());
        line.ends();
        program.serves("a message");
    }
}

#[test]
#[ignore = "attacks the released program: `cargo xtask test --only attack`"]
fn deeply_nested_json_does_not_kill_the_program() {
    let program = Program::start();
    for body in ["[".repeat(500_000), r#"{"a":"#.repeat(150_000), "[{\"a\":".repeat(100_000)] {
        for (method, path) in [
            ("PUT", "/enrollments/a?api-version=2021-10-01"),
            ("POST", "/enrollments?api-version=2021-10-01"),
            ("POST", "/enrollments/query?api-version=2021-10-01"),
            ("PUT", "/enrollmentGroups/a?api-version=2021-10-01"),
            ("PUT", "/0ne00EMU1A7/registrations/dev-1/register?api-version=2019-03-31"),
            ("POST", "/0ne00EMU1A7/registrations/dev-1?api-version=2019-03-31"),
        ] {
            let mut line = program.https();
            let _sent = line.write_all(&request(method, path, body.as_bytes()));
            assert!(line.answer().starts_with("HTTP/1.1 4"), "{method} {path}");
        }
        for path in ["/faults", "/pki"] {
            let mut line = program.manage();
            let _sent = line.write_all(&request("POST", path, body.as_bytes()));
            assert!(line.answer().starts_with("HTTP/1.1 4"), "{path}");
        }
        let mut line = program.mqtt_with_certificate(&[&connect(), &subscribe()]).hears(CONNACK);
        line.write_all(&publish(&body.as_bytes()[..200_000])).unwrap();
        line.hears(b"$dps/registrations/res/400/");
    }
    program.serves("deep JSON");
}

#[test]
#[ignore = "attacks the released program: `cargo xtask test --only attack`"]
fn deeply_nested_certificates_do_not_kill_the_program() {
    let program = Program::start();
    // A sequence, a set, a context-specific tag, a constructed string.
    for tag in [0x30, 0x31, 0xa0, 0xa3, 0xa4, 0x24] {
        for certificate in certificates(tag, 14_000) {
            // The handshake fails, or the certificate is ignored.
            let mut line = program.presents("https", certificate);
            let _sent = line.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let _answered = line.read(&mut [0; 16]);
        }
        program.serves("certificates in handshakes");
        for certificate in certificates(tag, 200_000) {
            let text = BASE64_STANDARD.encode(certificate);
            let slot = json!({"primary": {"certificate": text}});
            for (path, attestation) in [
                ("/enrollments/deep", json!({"clientCertificates": slot})),
                ("/enrollmentGroups/deep", json!({"signingCertificates": slot})),
            ] {
                let id = if path.contains("Groups") { "enrollmentGroupId" } else { "registrationId" };
                let body = json!({id: "deep", "attestation": {"type": "x509", "x509": attestation}});
                let path = format!("{path}?api-version=2021-10-01");
                let mut line = program.https();
                let _sent = line.write_all(&request("PUT", &path, body.to_string().as_bytes()));
                assert!(line.answer().starts_with("HTTP/1.1 "));
            }
            let body = json!({"certificate": text}).to_string();
            let mut line = program.manage();
            let _sent = line.write_all(&request("PUT", "/certificates/deep", body.as_bytes()));
            assert!(line.answer().starts_with("HTTP/1.1 "));
        }
        program.serves("certificates in bodies");
    }
}

#[test]
#[ignore = "attacks the released program: `cargo xtask test --only attack`"]
fn deeply_nested_signing_requests_are_refused() {
    let program = Program::start();
    for tag in [0x30, 0x31, 0xa0, 0xa3, 0xa4, 0x24] {
        // With 5,000 bytes they are parsed, with 60,000 they are too long.
        for request in [5_000, 60_000].into_iter().flat_map(|bytes| requests(tag, bytes)) {
            let body = json!({"csr": BASE64_STANDARD.encode(request)}).to_string();
            let words = [&connect_as("2026-11-01")[..], &subscribe()];
            let mut line = program.mqtt_with_certificate(&words).hears(CONNACK);
            line.write_all(&publish(body.as_bytes())).unwrap();
            line.hears(b"$dps/registrations/res/400/");
        }
        program.serves("signing requests");
    }
}

#[test]
#[ignore = "attacks the released program: `cargo xtask test --only attack`"]
fn pings_without_end_and_unread_pongs_cost_a_limited_amount_of_memory() {
    let ping = [0x89, 0x80, 0, 0, 0, 0].repeat(10_000);
    within_the_limit("before login", |program| program.websocket("mqtt", &[]), &ping, 1_000);
    within_the_limit(
        "signed in",
        |program| program.websocket_with_certificate("mqtt", &[&connect()]).hears(CONNACK),
        &ping,
        1_000,
    );
    within_the_limit("to AMQP", |program| program.websocket("AMQPWSB10", &[SASL]), &ping, 1_000);
    let large = [&[0x89, 0xfd, 0, 0, 0, 0][..], &[b'x'; 125]].concat().repeat(500);
    within_the_limit("large ones", |program| program.websocket("mqtt", &[]), &large, 1_000);
}

#[test]
#[ignore = "attacks the released program: `cargo xtask test --only attack`"]
fn endless_transfers_cost_a_limited_amount_of_memory() {
    let signed_in = |program: &Program| {
        program
            .amqp_with_certificate(&[AMQP, &open(), &begin(0), &begin(1), &attach(0, 0), &attach(0, 1)])
            .hears(ATTACHED)
    };
    let part = vec![0; 50_000];
    let on_links: Vec<u8> = (0..40).flat_map(|handle| transfer(0, handle, 0, true, &part)).collect();
    within_the_limit("on many links", signed_in, &on_links, 100);
    let on_channels: Vec<u8> = (0..40).flat_map(|channel| transfer(channel, 0, 0, true, &part)).collect();
    within_the_limit("on many channels", signed_in, &on_channels, 100);
    let on_one: Vec<u8> = (0..40).flat_map(|_| transfer(0, 0, 0, true, &part)).collect();
    within_the_limit("on one link", signed_in, &on_one, 100);
    let empty: Vec<u8> = (0..1_000).flat_map(|_| transfer(0, 0, 0, true, &[])).collect();
    within_the_limit("without bytes", signed_in, &empty, 1_000);
    let no_login = |program: &Program| program.amqp(&[SASL, &plain("nobody"), AMQP, &open(), &begin(0)]);
    within_the_limit("with the token of an unknown device", no_login, &on_links, 100);
}

#[test]
#[ignore = "attacks the released program: `cargo xtask test --only attack`"]
fn countless_sessions_links_and_deliveries_cost_a_limited_amount_of_memory() {
    let session = |program: &Program| {
        program
            .amqp_with_certificate(&[AMQP, &open(), &begin(0), &attach(0, 0), &attach(0, 1)])
            .hears(ATTACHED)
    };
    let sessions: Vec<u8> = (0..60_000_u16).flat_map(begin).collect();
    within_the_limit("sessions", session, &sessions, 10);
    let links: Vec<u8> = (0..60_000).flat_map(|handle| attach(0, handle)).collect();
    within_the_limit("links", session, &links, 10);
    let again: Vec<u8> = (0..1_000).flat_map(|_| [attach(0, 3), detach(0, 3)].concat()).collect();
    within_the_limit("a link again and again", session, &again, 100);
    let sessions: Vec<u8> = (0..1_000).flat_map(|_| [begin(2), end(2)].concat()).collect();
    within_the_limit("a session again and again", session, &sessions, 100);
    let message = [&[0, 0x53, 0x75, 0xb0, 0, 0, 0xc3, 0x50][..], &[0; 50_000]].concat();
    let messages: Vec<u8> = (0..40).flat_map(|id| transfer(0, 0, id, false, &message)).collect();
    within_the_limit("messages", session, &messages, 100);
    let messages: Vec<u8> =
        (0..2_000).flat_map(|id| transfer(0, 0, id, false, &[0, 0x53, 0x75, 0xa0, 0])).collect();
    within_the_limit("small messages", session, &messages, 100);
    let flows: Vec<u8> = (0..2_000).flat_map(|_| echo(0)).collect();
    within_the_limit("flows that want an answer", session, &flows, 200);
}

#[test]
#[ignore = "attacks the released program: `cargo xtask test --only attack`"]
fn replies_that_the_client_does_not_settle_or_take_cost_a_limited_amount_of_memory() {
    for (what, window) in [("settles", u32::MAX), ("takes", 1)] {
        let program = Program::start();
        let credit = credit(0, 1, window);
        let words = [AMQP, &open(), &begin(0), &attach(0, 0), &attach(0, 1), &credit];
        let mut line = program.amqp_with_certificate(&words).hears(ATTACHED);
        program.serves(what);
        let Some(before) = program.peak() else { return };
        let begun = Instant::now();
        let mut ids = 0..;
        while begun.elapsed() < Duration::from_secs(8) {
            let requests: Vec<u8> = ids.by_ref().take(20).flat_map(ask).collect();
            if line.write_all(&requests).is_err() || !line.drinks() {
                break;
            }
        }
        let grown = program.peak().unwrap().saturating_sub(before);
        eprintln!("a client that {what} no replies: {} KiB after {ids:?}", grown / 1024);
        assert!(grown <= PER_CONNECTION, "{what}: {} KiB", grown / 1024);
        program.serves(what);
    }
}

#[test]
#[ignore = "attacks the released program: `cargo xtask test --only attack`"]
fn endless_heads_bodies_and_packets_cost_a_limited_amount_of_memory() {
    let head = |program: &Program| {
        let mut line = program.https();
        line.write_all(b"GET /").unwrap();
        line
    };
    within_the_limit("a path", head, &[b'a'; 60_000], 300);
    let headers = |program: &Program| {
        let mut line = program.https();
        line.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n").unwrap();
        line
    };
    within_the_limit("headers", headers, &b"A: a\r\n".repeat(10_000), 300);
    let chunks = |program: &Program| {
        let mut line = program.https();
        line.write_all(
            b"PUT /enrollments/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
        )
        .unwrap();
        line
    };
    within_the_limit("a chunked body", chunks, &[b"ea60\r\n", &[b'['; 60_000][..], b"\r\n"].concat(), 300);
    let pipelined = request("GET", "/enrollments/none?api-version=2021-10-01", b"").repeat(100);
    within_the_limit("requests in a pipeline", |program| program.https(), &pipelined, 1_000);
    let pipelined = request("GET", "/journal", b"").repeat(100);
    within_the_limit("requests to the management port", |program| program.manage(), &pipelined, 300);
    let packet = |program: &Program| {
        let mut line = program.mqtt();
        line.write_all(&[0x10, 0xff, 0xff, 0xff, 0x7f]).unwrap();
        line
    };
    within_the_limit("an MQTT packet before login", packet, &[0; 60_000], 300);
    let signed_in = |program: &Program| program.mqtt_with_certificate(&[&connect()]).hears(CONNACK);
    within_the_limit("MQTT pings", signed_in, &[0xc0, 0].repeat(30_000), 300);
    let large = [&[0x30, 0xff, 0xff, 0x0f, 0, 1, b'a'][..], &[0; 200_000]].concat();
    within_the_limit("MQTT packets", signed_in, &large, 300);
    let socket = |program: &Program| program.websocket("mqtt", &[]);
    let fragment = [&[0x00, 0xfe, 0xea, 0x60, 0, 0, 0, 0][..], &[0; 60_000]].concat();
    within_the_limit("fragments of a message", socket, &fragment, 300);
    let in_a_socket = [&[0x82, 0xfe, 0xea, 0x60, 0, 0, 0, 0][..], &[0; 60_000]].concat();
    within_the_limit("an MQTT packet in a WebSocket", socket, &in_a_socket, 300);
    let subscriptions: Vec<u8> = (0..2_000).flat_map(|_| subscribe()).collect();
    within_the_limit("subscriptions", signed_in, &subscriptions, 300);
}

#[test]
#[ignore = "attacks the released program: `cargo xtask test --only attack`"]
fn a_device_at_its_hub_costs_a_limited_amount_of_memory() {
    let at_hub = |program: &Program| {
        let register = publish(b"{}");
        let words = [&connect()[..], &subscribe(), &register];
        drop(program.mqtt_with_certificate(&words).hears(b"$dps/registrations/res/202/"));
        let subscribe = subscribe_to("$iothub/twin/res/#");
        program.mqtt_with_certificate(&[&connect_to_hub(HUB), &subscribe]).hears(CONNACK)
    };
    let telemetry = publish_to("devices/dev-1/messages/events/a=b&%24.ct=c", &[0; 200_000]);
    within_the_limit("telemetry", at_hub, &telemetry, 300);
    let properties = publish_to(&format!("devices/dev-1/messages/events/{}", "a=b&".repeat(15_000)), b"");
    within_the_limit("properties of telemetry", at_hub, &properties.repeat(4), 300);
    let reported = "$iothub/twin/PATCH/properties/reported/?$rid=1";
    let wide: String = (0..7_000).map(|n| format!("\"{n:x}\":1,")).collect();
    let report = publish_to(reported, format!("{{{wide}\"x\":1}}").as_bytes());
    within_the_limit("reports that are too large", at_hub, &report, 300);
    let deep = publish_to(reported, "{\"a\":".repeat(30_000).as_bytes());
    within_the_limit("reports that are too deep", at_hub, &deep, 300);
    let twins = publish_to("$iothub/twin/GET/?$rid=1", b"").repeat(1_000);
    within_the_limit("twins that are not read", at_hub, &twins, 300);
    let subscriptions: Vec<u8> =
        (0..2_000).flat_map(|n| subscribe_to(&format!("$iothub/methods/POST/{n}/#"))).collect();
    within_the_limit("subscriptions at the hub", at_hub, &subscriptions, 300);
    let answers = publish_to("$iothub/methods/res/200/?$rid=1", &[b'['; 100_000]);
    within_the_limit("answers to no method", at_hub, &answers, 300);
}

#[test]
#[ignore = "attacks the released program: `cargo xtask test --only attack`"]
fn bodies_of_many_small_values_cost_a_limited_amount_of_memory() {
    let wide = |item: &str, size: usize| {
        format!(r#"{{"payload":[{}]}}"#, vec![item; size / (item.len() + 1)].join(",")).into_bytes()
    };
    let register = "/0ne00EMU1A7/registrations/dev-1/register?api-version=2019-03-31";
    for item in ["[0]", r#"{"":0}"#] {
        let put = request("PUT", register, &wide(item, 250_000)).repeat(4);
        within_the_limit(&format!("registers with {item}"), |program| program.https(), &put, 20);
        // One is refused for its number of values, the other is read.
        for size in [960_000, 120_000] {
            let put = request("PUT", "/enrollments/a?api-version=2021-10-01", &wide(item, size)).repeat(4);
            within_the_limit(&format!("enrollments with {item}"), |program| program.https(), &put, 20);
        }
        let faults = request("POST", "/faults", &wide(item, 960_000)).repeat(4);
        within_the_limit(&format!("faults with {item}"), |program| program.manage(), &faults, 20);
        let signed_in =
            |program: &Program| program.mqtt_with_certificate(&[&connect(), &subscribe()]).hears(CONNACK);
        let published = publish(&wide(item, 200_000)).repeat(4);
        within_the_limit(&format!("MQTT with {item}"), signed_in, &published, 20);
    }
    let session = |program: &Program| {
        program
            .amqp_with_certificate(&[AMQP, &open(), &begin(0), &attach(0, 0), &attach(0, 1)])
            .hears(ATTACHED)
    };
    let nulls = vec![0x40; 200_000];
    let size = u32::try_from(4 + nulls.len()).unwrap().to_be_bytes();
    let list = [&[0, 0x53, 0x77, 0xd0][..], &size, &200_000_u32.to_be_bytes(), &nulls].concat();
    let parts: Vec<u8> = (0..4)
        .map(|part| transfer(0, 0, 0, part < 3, &list[part * 50_000..][..50_000]))
        .collect::<Vec<_>>()
        .concat();
    within_the_limit("an AMQP list", session, &parts, 20);
}

#[test]
#[ignore = "attacks the released program: `cargo xtask test --only attack`"]
fn listings_that_are_not_read_cost_a_limited_amount_of_memory() {
    let program = Program::start_with(20_000);
    let Some(before) = program.peak() else { return };
    let mut lines: Vec<Line> = (0..8).map(|_| program.manage()).collect();
    for line in &mut lines {
        line.write_all(&request("GET", "/enrollments", b"")).unwrap();
        assert!(line.answer().starts_with("HTTP/1.1 200"));
    }
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        program.serves("listings that are not read");
    }
    // Meanwhile another reader gets the whole listing.
    let mut reader = program.manage();
    let get = b"GET /enrollments HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    reader.write_all(get).unwrap();
    let mut listing = String::new();
    reader.read_to_string(&mut listing).unwrap();
    assert_eq!(listing.matches("\"registrationId\"").count(), 20_001);
    let grown = program.peak().unwrap().saturating_sub(before);
    eprintln!("listings that are not read: {} KiB", grown / 1024);
    assert!(grown <= PER_CONNECTION, "{} KiB", grown / 1024);
}

#[test]
#[ignore = "attacks the released program: `cargo xtask test --only attack`"]
fn the_body_of_a_device_is_at_most_256_kib() {
    let program = Program::start();
    for (size, status) in [(250_000, "HTTP/1.1 401"), (300_000, "HTTP/1.1 413")] {
        let mut line = program.https();
        let body = format!(r#"{{"registrationId":"dev-1","payload":"{}"}}"#, "x".repeat(size));
        let path = "/0ne00EMU1A7/registrations/dev-1/register?api-version=2019-03-31";
        line.write_all(&request("PUT", path, body.as_bytes())).unwrap();
        assert!(line.answer().starts_with(status), "{size}");
    }
}

/// Sends a flood on several connections at once without reading the answers, and checks the memory of the
/// program.
fn within_the_limit(what: &str, connect: impl Fn(&Program) -> Line, flood: &[u8], times: usize) {
    let program = Program::start();
    // The first connection also allocates memory that all connections share.
    drop(connect(&program));
    program.serves(what);
    let Some(before) = program.peak() else {
        eprintln!("skipped: the memory of a process can be seen on Linux only");
        return;
    };
    let lines: Vec<Line> = (0..CONNECTIONS).map(|_| connect(&program)).collect();
    thread::scope(|scope| {
        for line in lines {
            scope.spawn(move || line.floods(flood, times));
        }
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(3) {
            program.serves(what);
            thread::sleep(Duration::from_millis(100));
        }
    });
    program.serves(what);
    let grown = program.peak().unwrap().saturating_sub(before);
    eprintln!("{what}: {} KiB for each of {CONNECTIONS} connections", grown / CONNECTIONS / 1024);
    assert!(grown <= CONNECTIONS * PER_CONNECTION, "{what}: {} KiB", grown / 1024);
}

/// The hub to which the device is assigned.
const HUB: &str = "emulator-hub-2.azure-devices.net";
const CONNECTIONS: usize = 4;
/// Source: docs/emulator.md.
const PER_CONNECTION: usize = 16 * 1024 * 1024;
