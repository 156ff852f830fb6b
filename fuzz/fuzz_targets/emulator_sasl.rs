//! The emulator's SASL with a client that says anything behind the header. A device with a good token can get
//! in, and goes on with AMQP. With the second flag the client says one frame, full of the input again and
//! again.
#![no_main]

use azure_dps_emulator::fuzzing::amqp;
use azure_dps_fuzz::{ENROLLED, Script, run_as_emulator, shape};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(script) = Script::read(input) else { return };
    let mut peer = match script.flag(1) {
        true => script.full_frame_behind(HEADER, 1),
        false => script.pieces_behind(HEADER),
    };
    run_as_emulator(|| amqp(&mut peer, script.flag(0), ENROLLED)).expect("a good seed");
    assert!(peer.heard().starts_with(HEADER));
    shape(peer.heard());
});

const HEADER: &[u8] = b"AMQP\x03\x01\0\0";
