//! The emulator's AMQP front with a client that has a certificate, skips SASL and says anything behind the header; with
//! the first flag it has none, and what it says begins with the header that it likes; with the second flag it says one
//! frame, full of the input again and again.
#![no_main]

use azure_dps_emulator::fuzzing::amqp;
use azure_dps_fuzz::{ENROLLED, Script, run_as_emulator, shape};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(script) = Script::read(input) else { return };
    let anonymous = script.flag(0);
    let mut peer = match script.flag(1) {
        true => script.full_frame_behind(HEADER, 0),
        false => script.pieces_behind(if anonymous { b"" } else { HEADER }),
    };
    run_as_emulator(|| amqp(&mut peer, !anonymous, ENROLLED)).expect("a good seed");
    shape(peer.heard());
});

const HEADER: &[u8] = b"AMQP\0\x01\0\0";
