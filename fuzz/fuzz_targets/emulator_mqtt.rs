//! The emulator's MQTT front with a client that says anything. A device with a good token can get in.
#![no_main]

use azure_dps_emulator::fuzzing::mqtt;
use azure_dps_fuzz::{ENROLLED, Peer, Script, block_on};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(script) = Script::read(input) else { return };
    assert_eq!(answers(script.whole()), answers(script.pieces()));
});

/// The first byte of every packet that the client is sent, and what follows it; of a reply its topic, because
/// times in the bodies differ, and with them the lengths. A lone refusal does not count: whether a malformed
/// CONNECT is one of another level depends on how much of it has arrived.
fn answers(mut peer: Peer) -> Vec<(u8, Vec<u8>)> {
    block_on(mqtt(&mut peer, ENROLLED)).expect("a good seed");
    let (mut rest, mut packets) = (peer.heard(), Vec::new());
    while let Some((&head, behind)) = rest.split_first() {
        let digits = behind.iter().take_while(|byte| *byte & 0x80 != 0).count() + 1;
        let length =
            behind[..digits].iter().rev().fold(0, |length, byte| length << 7 | usize::from(byte & 0x7f));
        let (packet, next) = behind[digits..].split_at(length);
        let body = match packet {
            [high, low, topic @ ..] if head >> 4 == PUBLISH => {
                &topic[..usize::from(u16::from_be_bytes([*high, *low]))]
            }
            packet => packet,
        };
        packets.push((head, body.to_vec()));
        rest = next;
    }
    // CONNACK.
    if matches!(packets.as_slice(), [(0x20, _)]) { Vec::new() } else { packets }
}

const PUBLISH: u8 = 3;
