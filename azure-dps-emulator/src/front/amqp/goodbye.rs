//! How far the library's goodbye has been written.
//!
//! From its end or close until the client answers, the library polls closed channels without a pause. So the
//! emulator does not let it wait: the close follows as soon as the end is written, and the library's input ends as
//! soon as the close is.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

#[derive(Default)]
pub(super) struct Goodbye {
    /// The end of a session is written.
    pub(super) end: Notify,
    /// The close is written, and the emulator wanted it.
    pub(super) close: Notify,
    /// The library also closes by itself. Then it reports why, but only if its input stays open.
    is_wanted: AtomicBool,
}

/// The goodbyes in a piece of the library's output.
#[derive(Clone, Copy, Default)]
pub(super) struct Said {
    pub(super) end: bool,
    pub(super) close: bool,
}

impl Goodbye {
    /// The emulator ends the connection.
    pub(super) fn begin(&self) {
        self.is_wanted.store(true, Ordering::Relaxed);
    }

    pub(super) fn written(&self, said: Said) {
        if said.end {
            self.end.notify_one();
        }
        if said.close && self.is_wanted.load(Ordering::Relaxed) {
            self.close.notify_one();
        }
    }
}
