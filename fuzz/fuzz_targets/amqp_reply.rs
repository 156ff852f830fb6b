//! AMQP messages as replies, and errors of the service as replies and errors (input begins with `e`).
#![no_main]

use azure_dps_core::ErrorKind;
use azure_dps_device::fuzzing::{amqp_error, amqp_message};
use azure_dps_fuzz::typed;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| match input.split_first() {
    Some((b'e', bytes)) => {
        if let Some((reply, error)) = amqp_error(bytes) {
            assert!((400..600).contains(&reply.status), "{}", reply.status);
            let kinds = [ErrorKind::Unauthorized, ErrorKind::Connect, ErrorKind::Service];
            typed(error, &kinds);
        }
    }
    Some((_, bytes)) => match amqp_message(bytes, "id-1") {
        Some(Ok(Some(reply))) => assert!(reply.status == 200 || (400..600).contains(&reply.status)),
        Some(Err(error)) => drop(typed(error, &[ErrorKind::Protocol])),
        Some(Ok(None)) | None => {}
    },
    None => {}
});
