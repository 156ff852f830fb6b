//! A WebSocket on the emulator's HTTPS port: the client opens it as it should and says anything then, to the
//! front for MQTT or, with the first flag, to the one for AMQP.
#![no_main]

use azure_dps_emulator::fuzzing::https;
use azure_dps_fuzz::{ENROLLED, Script, Shared, run_as_emulator};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(script) = Script::read(input) else { return };
    let protocol = if script.flag(0) { "AMQPWSB10" } else { "mqtt" };
    let request = format!(
        "GET /$iothub/websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: {protocol}\r\n\r\n"
    );
    let peer = Shared::new(script.pieces_behind(request.as_bytes()));
    run_as_emulator(|| https(peer.clone(), ENROLLED)).expect("a good seed");
    let heard = peer.heard();
    // A client that ends behind its request may hear the beginning only.
    assert!(heard.iter().zip(SWITCHING).all(|(heard, wanted)| heard == wanted), "{heard:?}");
});

const SWITCHING: &[u8] = b"HTTP/1.1 101 ";
