//! Links that are attached in literal frames, by clients that leave out what a library of ours would never leave out.

use super::*;

/// Clients on proton-j name only the end of the service: a receiver its source, a sender its target.
#[tokio::test]
async fn a_link_may_leave_out_the_end_of_its_client() {
    let emulator = start().await;
    let mut stream = opened(&emulator).await;
    let address = named(DEV1);

    stream.write_all(&attach(b"r", 0, RECEIVER, &source(&address), b"\x40", b"")).await.unwrap();
    stream.flush().await.unwrap();
    let attached = frame(&mut stream).await;
    assert_eq!(attached[6], ATTACH);
    assert!(contains(&attached, DEV1.as_bytes()), "the end of the service is repeated: {attached:?}");
    assert!(contains(&attached, b"\0\x53\x29"), "and the client's is there: {attached:?}");

    stream.write_all(&attach(b"s", 1, SENDER, b"\x40", &target(&address), b"\x40\x40\x43")).await.unwrap();
    stream.flush().await.unwrap();
    let attached = frame(&mut stream).await;
    assert_eq!(attached[6], ATTACH);
    assert!(contains(&attached, b"\0\x53\x28"), "the client's end is there: {attached:?}");
    assert_eq!(frame(&mut stream).await[6], FLOW, "requests may come");
    assert_eq!(emulator.journal(), []);
}

#[tokio::test]
async fn a_link_that_cannot_be_attached_ends_the_connection_with_its_reason_and_the_journal_has_it() {
    let emulator = start().await;
    let address = named(DEV1);
    let dynamic = b"\0\x53\x28\xc0\x06\x05\x40\x43\x40\x43\x41";
    let (null, count) = (&b"\x40"[..], &b"\x40\x40\x43"[..]);
    for (role, source, target, rest, cause) in [
        (RECEIVER, null, null, &b""[..], "the link has no source, which names the device for a receiver"),
        (SENDER, null, null, count, "the link has no target, which names the device for a sender"),
        (RECEIVER, null, &target(&address), b"", "the link has no source"),
        (SENDER, &source(&address), null, count, "the link has no target"),
        (RECEIVER, b"\0\x53\x28\x45", null, b"", "the source of the link has no address"),
        (SENDER, null, b"\0\x53\x29\x45", count, "the target of the link has no address"),
        (SENDER, null, &target(&address), b"", "a sender has to name its initial-delivery-count"),
        (SENDER, dynamic, &target(&address), count, "the service makes no dynamic source or target"),
        (RECEIVER, &source(&named("$cbs")), null, b"", "the address is that of an IoT hub; this is the"),
        (
            SENDER,
            null,
            &target(&named("/devices/dev1/messages/events")),
            count,
            "the address is that of an IoT hub",
        ),
    ] {
        let told_before = refusals(&emulator);
        let mut stream = opened(&emulator).await;
        stream.write_all(&attach(b"l", 0, role, source, target, rest)).await.unwrap();
        stream.flush().await.unwrap();

        let told = closed(&mut stream).await;

        assert_eq!(refusals(&emulator), told_before + 1, "{cause}");
        let entry = last(&emulator);
        assert!(entry.cause.as_ref().unwrap().contains(cause), "{entry}");
        assert!(contains(&told, b"errorCode"), "the client is told: {cause}");
    }
}

/// The AMQP library cannot read it, and ends.
#[tokio::test]
async fn a_link_to_a_coordinator_of_transactions_ends_the_connection_and_the_journal_has_it() {
    let emulator = start().await;
    let mut stream = opened(&emulator).await;
    let coordinator = b"\0\x53\x30\x45";
    stream.write_all(&attach(b"l", 0, SENDER, b"\x40", coordinator, b"\x40\x40\x43")).await.unwrap();
    stream.flush().await.unwrap();

    let _end = timeout(DEADLINE, stream.read_to_end(&mut Vec::new())).await.expect("the connection ends");

    let entry = last(&emulator);
    assert_eq!((entry.method.as_str(), entry.status), ("frame", 400));
    assert!(entry.cause.as_ref().unwrap().starts_with("a frame cannot be read: "), "{entry}");
}

#[tokio::test]
async fn the_name_of_a_link_that_is_there_already_is_refused_and_journalled() {
    let emulator = start().await;
    let mut stream = opened(&emulator).await;
    let address = named(DEV1);
    for handle in [0, 1] {
        stream.write_all(&attach(b"same", handle, RECEIVER, &source(&address), b"\x40", b"")).await.unwrap();
    }
    stream.flush().await.unwrap();

    closed(&mut stream).await;

    let entry = last(&emulator);
    assert!(
        entry.cause.as_ref().unwrap().contains("the link cannot be attached: Link name is not unique"),
        "{entry}"
    );
}

#[tokio::test]
async fn a_client_that_goes_on_to_its_hub_here_is_told_so_in_the_journal() {
    let emulator = start().await;
    for (mechanism, response, cause) in [
        ("ANONYMOUS", None, "ANONYMOUS is how clients sign in to an IoT hub; this is the"),
        ("MSSBCBS", None, "MSSBCBS is how clients sign in to an IoT hub; this is the"),
        (
            "PLAIN",
            Some(&b"\0dev1@sas.hub-1\0token"[..]),
            "the user name is that of a device at its IoT hub; this",
        ),
    ] {
        let mut stream = tls(&emulator, None).await;
        offers(&mut stream).await;
        assert_eq!(say_init(&mut stream, mechanism, response).await, 1);
        let told = last(&emulator).cause.unwrap();
        assert!(told.starts_with(cause), "{told}");
    }
}

fn refusals(emulator: &Emulator) -> u64 {
    emulator.journal().iter().map(|entry| 1 + entry.repeats).sum()
}

/// A connection with a session.
async fn opened(emulator: &Emulator) -> TlsStream<TcpStream> {
    let mut stream = tls(emulator, None).await;
    assert_eq!(sign_in(&mut stream, DEV1, NODE).await, 0);
    let open = amqp_frame(0x10, 1, b"\xa1\x01c");
    let begin = amqp_frame(0x11, 4, b"\x40\x43\x52\x64\x52\x64");
    stream.write_all(&[AMQP, &open[..], &begin].concat()).await.unwrap();
    stream.flush().await.unwrap();
    stream.read_exact(&mut [0; 8]).await.unwrap();
    for code in [0x10, 0x11] {
        assert_eq!(frame(&mut stream).await[6], code);
    }
    stream
}

/// Waits for the close, and gives it.
async fn closed(stream: &mut TlsStream<TcpStream>) -> Vec<u8> {
    loop {
        let frame = frame(stream).await;
        if frame.get(6) == Some(&CLOSE) {
            return frame;
        }
    }
}

/// An attach without settle modes; `rest` is what stands behind the target.
fn attach(name: &[u8], handle: u8, role: u8, source: &[u8], target: &[u8], rest: &[u8]) -> Vec<u8> {
    let name = [&[0xa1, name.len() as u8], name].concat();
    let head = [&name[..], &[0x52, handle, role, 0x40, 0x40]].concat();
    let count = 7 + rest.len();
    amqp_frame(ATTACH, count, &[&head, source, target, rest].concat())
}

fn named(address: &str) -> Vec<u8> {
    [&[0xa1, address.len() as u8], address.as_bytes()].concat()
}

fn source(address: &[u8]) -> Vec<u8> {
    [&[0, 0x53, 0x28, 0xc0, address.len() as u8 + 1, 1], address].concat()
}

fn target(address: &[u8]) -> Vec<u8> {
    [&[0, 0x53, 0x29, 0xc0, address.len() as u8 + 1, 1], address].concat()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

const ATTACH: u8 = 0x12;
const FLOW: u8 = 0x13;
const CLOSE: u8 = 0x18;
const RECEIVER: u8 = 0x41;
const SENDER: u8 = 0x42;
