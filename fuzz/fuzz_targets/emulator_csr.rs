//! The emulator reads the certificate signing request of a device: arbitrary bytes as the text of `csr`, and as
//! the DER inside the base64.
#![no_main]

use azure_dps_emulator::fuzzing::{csr, csr_der};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(text) = std::str::from_utf8(input) {
        csr(text);
    }
    csr_der(input);
});
