//! The device signs in over MQTT and registers, or polls (first flag), at a peer that says anything.
#![no_main]

use azure_dps_core::ErrorKind;
use azure_dps_device::fuzzing::mqtt_exchange;
use azure_dps_device::transport::{Operation, Reply};
use azure_dps_fuzz::{Peer, Script, block_on, session, typed};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(script) = Script::read(input) else { return };
    let operation = match script.flag(0) {
        false => Operation::Register { body: b"{}".to_vec() },
        true => Operation::Status { operation_id: "op-1".into() },
    };
    let whole = outcome(script.whole(), operation.clone());
    assert_eq!(whole, outcome(script.pieces(), operation));
});

fn outcome(peer: Peer, operation: Operation) -> Result<Reply, (ErrorKind, String)> {
    block_on(mqtt_exchange(peer, &session(false), operation)).map_err(|error| typed(error, &KINDS))
}

const KINDS: [ErrorKind; 4] =
    [ErrorKind::Unauthorized, ErrorKind::Connect, ErrorKind::Protocol, ErrorKind::Io];
