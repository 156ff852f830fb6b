//! Links that are attached in literal frames, by clients that leave out what a library would not leave out.

use azure_dps_emulator::Emulator;
use azure_dps_tests::HUNG;
use azure_dps_tests::amqp_bytes::*;
use azure_dps_tests::dev1::*;
use azure_dps_tests::journal::{last, requests};
use azure_dps_tests::sasl_bytes::{hear, next, opening, sign_in, tls};
use azure_dps_tests::tls::ClientStream;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

/// Clients on proton-j name only the end of the service: a receiver its source, a sender its target.
#[tokio::test]
async fn a_link_may_leave_out_the_end_of_its_client() {
    let emulator = start().await;
    let mut stream = opened(&emulator).await;

    say(&mut stream, &attach("r", 0, RECEIVER, source(DEV1), Value::Null, &[])).await;
    let attached = fields_of(&hear(&mut stream, ATTACH).await, ATTACH).0;
    let (code, kept) = read_composite(&attached[5]);
    assert_eq!((code, &kept[0]), (SOURCE, &string(DEV1)), "the end of the service is repeated");
    assert_eq!(read_composite(&attached[6]).0, TARGET, "and the client's is there");

    say(&mut stream, &attach("s", 1, SENDER, Value::Null, target(DEV1), &COUNT)).await;
    let attached = fields_of(&hear(&mut stream, ATTACH).await, ATTACH).0;
    assert_eq!(read_composite(&attached[5]).0, SOURCE, "the client's end is there");
    hear(&mut stream, FLOW).await;
    assert_eq!(emulator.journal(), []);
}

#[tokio::test]
async fn a_link_that_cannot_be_attached_ends_the_connection_with_its_reason_and_the_journal_has_it() {
    let emulator = start().await;
    let (dynamic, null) = (
        composite(SOURCE, vec![Value::Null, Value::Uint(0), Value::Null, Value::Uint(0), Value::Bool(true)]),
        || Value::Null,
    );
    let empty = |code| composite(code, vec![]);
    for (role, source, target, rest, cause) in [
        (RECEIVER, null(), null(), &[][..], "the link has no source, which names the device for a receiver"),
        (SENDER, null(), null(), &COUNT, "the link has no target, which names the device for a sender"),
        (RECEIVER, null(), target(DEV1), &[], "the link has no source"),
        (SENDER, source(DEV1), null(), &COUNT, "the link has no target"),
        (RECEIVER, empty(SOURCE), null(), &[], "the source of the link has no address"),
        (SENDER, null(), empty(TARGET), &COUNT, "the target of the link has no address"),
        (SENDER, null(), target(DEV1), &[], "a sender has to name its initial-delivery-count"),
        (SENDER, dynamic, target(DEV1), &COUNT, "the service makes no dynamic source or target"),
        (RECEIVER, source("$cbs"), null(), &[], "the address is that of an IoT hub; this is the"),
        (
            SENDER,
            null(),
            target("/devices/dev1/messages/events"),
            &COUNT,
            "the address is that of an IoT hub",
        ),
    ] {
        let before = requests(&emulator);
        let mut stream = opened(&emulator).await;
        say(&mut stream, &attach("l", 0, role, source, target, rest)).await;

        let close = closed(&mut stream).await;

        assert_eq!(requests(&emulator), before + 1, "{cause}");
        let entry = last(&emulator);
        assert!(entry.cause.as_ref().unwrap().contains(cause), "{entry}");
        let error = read_composite(&fields_of(&close, CLOSE).0[0]).1;
        assert!(text(&error[1]).contains("errorCode"), "the client gets the error: {cause}");
    }
}

/// The AMQP library cannot read it and ends.
#[tokio::test]
async fn a_link_to_a_coordinator_of_transactions_ends_the_connection_and_the_journal_has_it() {
    let emulator = start().await;
    let mut stream = opened(&emulator).await;
    let coordinator = composite(COORDINATOR, vec![]);
    say(&mut stream, &attach("l", 0, SENDER, Value::Null, coordinator, &COUNT)).await;

    let _end = timeout(HUNG, stream.read_to_end(&mut Vec::new())).await.expect("the connection ends");

    let entry = last(&emulator);
    assert_eq!((entry.method.as_str(), entry.status), ("frame", 400));
    assert!(entry.cause.as_ref().unwrap().starts_with("a frame cannot be read: "), "{entry}");
}

#[tokio::test]
async fn the_name_of_a_link_that_is_there_already_is_refused_and_journalled() {
    let emulator = start().await;
    let mut stream = opened(&emulator).await;
    for handle in [0, 1] {
        say(&mut stream, &attach("same", handle, RECEIVER, source(DEV1), Value::Null, &[])).await;
    }

    closed(&mut stream).await;

    let entry = last(&emulator);
    assert!(
        entry.cause.as_ref().unwrap().contains("the link cannot be attached: Link name is not unique"),
        "{entry}"
    );
}

/// A connection with a session.
async fn opened(emulator: &Emulator) -> ClientStream {
    let mut stream = tls(emulator, None).await;
    assert_eq!(sign_in(&mut stream, DEV1, NODE).await, 0);
    say(&mut stream, &opening().concat()).await;
    assert_eq!(read_header(&mut stream).await, AMQP);
    for code in [OPEN, BEGIN] {
        hear(&mut stream, code).await;
    }
    stream
}

/// Waits for the close and returns it.
async fn closed(stream: &mut ClientStream) -> Vec<u8> {
    loop {
        let (_, body) = next(stream).await;
        if body.get(2) == Some(&CLOSE) {
            return body;
        }
    }
}

/// An attach without settle modes; `rest` is what follows the target.
fn attach(name: &str, handle: u32, receives: bool, source: Value, target: Value, rest: &[Value]) -> Vec<u8> {
    let mut fields = vec![string(name), Value::Uint(handle), Value::Bool(receives), Value::Null, Value::Null];
    fields.extend([source, target]);
    fields.extend_from_slice(rest);
    amqp_frame(ATTACH, fields)
}

fn source(address: &str) -> Value {
    composite(SOURCE, vec![string(address)])
}

fn target(address: &str) -> Value {
    composite(TARGET, vec![string(address)])
}

const RECEIVER: bool = true;
const SENDER: bool = false;
/// No unsettled deliveries, complete, and the initial delivery count of a sender.
const COUNT: [Value; 3] = [Value::Null, Value::Null, Value::Uint(0)];
