//! An emulator that prints its journal when a test fails.

use azure_dps_emulator::Emulator;

/// Prints an emulator's journal when a test fails.
#[derive(Debug)]
pub struct Shown(pub Emulator);

impl std::ops::Deref for Shown {
    type Target = Emulator;

    fn deref(&self) -> &Emulator {
        &self.0
    }
}

impl Drop for Shown {
    #[allow(clippy::print_stderr)] // The test runner shows it with the failure.
    fn drop(&mut self) {
        if std::thread::panicking() {
            for entry in self.0.journal() {
                eprintln!("{entry}");
            }
        }
    }
}
