//! The device signs in over SASL with a token, or with a TPM (first flag), at a peer that says anything.
#![no_main]

use azure_dps_core::ErrorKind;
use azure_dps_device::fuzzing::sasl_sign_in;
use azure_dps_fuzz::{Peer, Script, block_on, session, typed};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(script) = Script::read(input) else { return };
    let tpm = script.flag(0);
    let whole = outcome(script.whole(), tpm);
    // Nothing behind the last frame is taken, however the frames arrive.
    assert_eq!(whole, outcome(script.pieces(), tpm));
});

fn outcome(mut peer: Peer, tpm: bool) -> (Result<(), (ErrorKind, String)>, usize) {
    let outcome = block_on(sasl_sign_in(&mut peer, &session(tpm)));
    (outcome.map_err(|error| typed(error, &KINDS)), peer.said())
}

const KINDS: [ErrorKind; 5] =
    [ErrorKind::Unauthorized, ErrorKind::Connect, ErrorKind::Protocol, ErrorKind::Io, ErrorKind::Credential];
