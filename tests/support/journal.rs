//! What an emulator's journal says.

use azure_dps_emulator::{Emulator, Entry};

/// The latest entry.
pub fn last(emulator: &Emulator) -> Entry {
    emulator.journal().pop().unwrap()
}

/// The latest reason for a refusal.
pub fn cause(emulator: &Emulator) -> String {
    emulator.journal().into_iter().rev().find_map(|entry| entry.cause).unwrap_or_default()
}

/// All reasons, a line each.
pub fn causes(emulator: &Emulator) -> String {
    emulator.journal().into_iter().filter_map(|entry| entry.cause).collect::<Vec<_>>().join("\n")
}

/// The number of requests: a repeated one is counted in the entry of the first.
pub fn requests(emulator: &Emulator) -> u64 {
    emulator.journal().iter().map(|entry| 1 + entry.repeats).sum()
}
