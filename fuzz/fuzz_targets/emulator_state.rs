//! The emulator reads a saved state, as for `PUT /state` or at a start with `--data`: what it accepts can be saved,
//! and read again.
#![no_main]

use azure_dps_emulator::fuzzing::state;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| state(input));
