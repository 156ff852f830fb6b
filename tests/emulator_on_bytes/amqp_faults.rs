//! AMQP clients that send hostile frames, stall or vanish, and faults that are injected.

use std::time::Duration;

use azure_dps_emulator::{Fault, Operation, Protocol};
use azure_dps_tests::amqp_bytes::*;
use azure_dps_tests::amqp_device::{AmqpDevice, api_version, condition, data, register};
use azure_dps_tests::dev1::*;
use azure_dps_tests::journal::{last, requests};
use azure_dps_tests::sasl_bytes::*;
use azure_dps_tests::tasks::{alive_tasks, settles};
use azure_dps_tests::{HUNG, after_silence, pass};
use fe2o3_amqp::Receiver;
use fe2o3_amqp::link::receiver::CreditMode;
use fe2o3_amqp::types::messaging::MessageId;
use fe2o3_amqp::types::primitives::{Symbol, Value as Amqp};
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

/// How long the emulator waits for a client that hesitates.
const HESITATION: Duration = Duration::from_secs(10);

/// Each of these would end the process or keep it busy for minutes.
#[tokio::test]
async fn hostile_frames_end_their_connection_and_nothing_else() {
    let emulator = start().await;
    let plain = plain(NODE);
    let [header, open, begin] = opening();
    let nested = [[0, 0x53, 1].repeat(5000), vec![0x40]].concat();
    let deep = frame(0, &nested);
    let wide = amqp_frame(DISPOSITION, vec![Value::Bool(true), Value::Uint(0), Value::Uint(u32::MAX)]);
    for (bytes, cause) in [
        (&[0, 0, 0, 5, 0][..], "a frame is shorter"),
        (&deep, "nested too deeply"),
        (&wide, "settles more than was sent"),
    ] {
        let mut stream = tls(&emulator, None).await;
        say(&mut stream, &[&SASL[..], &plain, &header, &open, &begin, bytes].concat()).await;
        let _end = timeout(HUNG, stream.read_to_end(&mut Vec::new())).await.unwrap();
        let reported = last(&emulator).cause.unwrap();
        assert!(reported.contains(cause), "{reported}");
    }
    let mut peer = AmqpDevice::signed_in(&emulator, NODE).await;
    peer.attach(DEV1).await;
    peer.register().await;
}

#[tokio::test]
async fn a_request_can_be_throttled_or_failed() {
    let emulator = start().await;
    let mut peer = AmqpDevice::signed_in(&emulator, NODE).await;
    peer.attach(DEV1).await;

    emulator.inject(Fault::throttle(7).over(Protocol::Amqp).on(Operation::Register)).unwrap();
    let error = peer.ask(register(), Some("1"), data("")).await.unwrap_err();
    assert_eq!(condition(&error), "com.microsoft:device-container-throttled");
    let info = error.info.unwrap();
    for spelling in ["retry-after", "Retry-After"] {
        assert_eq!(info.get(&Symbol::from(spelling)), Some(&Amqp::String("7".into())));
    }
    emulator.inject(Fault::status(503)).unwrap();
    let error = peer.ask(register(), Some("1"), data("")).await.unwrap_err();
    assert_eq!(condition(&error), "amqp:internal-error");
    peer.ask(register(), Some("1"), data("")).await.unwrap();
    peer.leave().await;
}

#[tokio::test]
async fn an_answer_can_be_lost_spoilt_misdirected_or_doubled() {
    let emulator = start().await;
    let mut peer = AmqpDevice::signed_in(&emulator, NODE).await;
    peer.attach(DEV1).await;

    emulator.inject(Fault::wrong_rid()).unwrap();
    let reply = peer.ask(register(), Some("1"), data("")).await.unwrap();
    assert_eq!(reply.correlation_id, Some(MessageId::String("wrong-1".into())));
    emulator.inject(Fault::duplicate_reply()).unwrap();
    let reply = peer.ask(register(), Some("2"), data("")).await.unwrap();
    assert_eq!(peer.hear().await.body, reply.body);
    emulator.inject(Fault::garbage()).unwrap();
    let reply = peer.ask(register(), Some("3"), data("")).await.unwrap();
    assert_eq!(reply.body, serde_json::Value::Null);
    emulator.inject(Fault::stall()).unwrap();
    peer.send(register(), Some("4"), data("")).await.unwrap();
    assert!(timeout(Duration::from_millis(200), peer.hear()).await.is_err());
    assert!(last(&emulator).cause.unwrap().contains("never sent"));

    emulator.inject(Fault::hang_up()).unwrap();
    peer.send_only(register()).await;
    let lost = timeout(HUNG, peer.connection.on_close()).await.unwrap();
    assert!(lost.is_err(), "{lost:?}");
}

/// However far it came, nothing of a connection is left when its client is gone.
#[tokio::test]
async fn a_dead_client_leaves_nothing_behind() {
    let emulator = start().await;
    let before = alive_tasks();
    let plain = plain(NODE);
    let [header, open, begin] = opening();
    let [source, target] = [composite(SOURCE, vec![string(DEV1)]), composite(TARGET, vec![])];
    let (name, receives) = (string("r"), Value::Bool(true));
    let receiver = vec![name, Value::Uint(0), receives, Value::Null, Value::Null, source, target];
    let receiver = amqp_frame(ATTACH, receiver);
    let steps = [&SASL[..], &plain, &header, &open, &begin, &receiver];
    let mut streams = Vec::new();
    for reached in 0..=steps.len() {
        let mut stream = tls(&emulator, None).await;
        say(&mut stream, &steps[..reached].concat()).await;
        streams.push(stream);
    }
    // The last one got an answer to everything: two headers, two SASL frames, open, begin and attach.
    let stream = streams.last_mut().unwrap();
    read_header(stream).await;
    hear_sasl(stream, MECHANISMS).await;
    hear_sasl(stream, OUTCOME).await;
    read_header(stream).await;
    for code in [OPEN, BEGIN, ATTACH] {
        hear(stream, code).await;
    }
    assert!(alive_tasks() > before);

    drop(streams);

    settles(|| alive_tasks() == before).await;
}

#[tokio::test]
async fn dropping_the_emulator_ends_its_connections() {
    let emulator = start().await;
    let mut peer = AmqpDevice::signed_in(&emulator, NODE).await;
    peer.attach(DEV1).await;

    drop(emulator);

    assert!(timeout(HUNG, peer.connection.on_close()).await.unwrap().is_err());
    drop(peer);
    settles(|| alive_tasks() == 0).await;
}

#[tokio::test]
async fn a_client_that_does_not_go_on_is_sent_away() {
    let emulator = start().await;
    let plain = plain(NODE);
    let mut streams = Vec::new();
    for step in 0..4 {
        let mut stream = tls(&emulator, None).await;
        if step > 0 {
            say(&mut stream, &SASL).await;
            read_header(&mut stream).await;
            hear_sasl(&mut stream, MECHANISMS).await;
        }
        if step > 1 {
            say(&mut stream, &plain).await;
            hear_sasl(&mut stream, OUTCOME).await;
        }
        if step > 2 {
            say(&mut stream, &AMQP).await;
            read_header(&mut stream).await;
        }
        streams.push(stream);
    }

    pass(HESITATION).await;

    for mut stream in streams {
        let _end = timeout(HUNG, stream.read_to_end(&mut Vec::new())).await.unwrap();
    }
    let journal = emulator.journal();
    assert_eq!(requests(&emulator), 4);
    assert!(journal.iter().all(|entry| entry.status == 408));
}

#[tokio::test]
async fn a_client_that_takes_no_reply_is_sent_away() {
    let emulator = start().await;
    let mut peer = AmqpDevice::signed_in(&emulator, NODE).await;
    let receiver = Receiver::builder().name("receiver").source(DEV1).credit_mode(CreditMode::Manual);
    let _without_credit = receiver.properties(api_version()).attach(&mut peer.session).await.unwrap();
    peer.attach_sender(DEV1).await;
    peer.send(register(), None, data("")).await.unwrap();

    let ended = tokio::spawn(async move { peer.connection.on_close().await });
    let end = after_silence(HESITATION, ended).await.unwrap_err();

    assert!(format!("{end:?}").contains("com.microsoft:timeout"), "{end:?}");
    assert_eq!(last(&emulator).status, 408);
}
