//! The emulator's HTTPS port, behind TLS, with a client that says anything: heads, bodies, pipelined requests.
#![no_main]

use azure_dps_emulator::fuzzing::https;
use azure_dps_fuzz::{ENROLLED, Script, Shared, run_as_emulator};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(script) = Script::read(input) else { return };
    let peer = Shared::new(script.pieces());
    run_as_emulator(|| https(peer.clone(), ENROLLED)).expect("a good seed");
    let heard = peer.heard();
    assert!(heard.is_empty() || heard.starts_with(b"HTTP/1."), "{heard:?}");
});
