//! The connection of a device, as its hub sees it: what the device listens to, and the patches that wait to be
//! sent. Calls of methods and messages wait in the record of the device.
//!
//! The link belongs to the record of the device. So when the record goes, the connection is notified by the
//! end of the signal.

use std::collections::VecDeque;
use std::sync::Arc;

use time::OffsetDateTime;
use tokio::sync::watch;

use crate::json::Map;
use crate::records::hubs::message::CloudMessage;

pub(crate) struct Link {
    connection: u64,
    /// When its token expires. A certificate does not end a connection.
    expires: Option<OffsetDateTime>,
    listens: Listens,
    patches: VecDeque<(Map, u64)>,
    /// The number of the last message that was handed over.
    last_message: u64,
    signal: watch::Sender<Option<Ending>>,
}

/// What a device has subscribed to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listens {
    pub(crate) desired: bool,
    pub(crate) methods: bool,
    pub(crate) messages: bool,
}

/// Something that the connection has to send.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Push {
    Desired { patch: Map, version: u64 },
    Method { rid: String, name: String, payload: String },
    Message { number: u64, message: Arc<CloudMessage> },
}

/// Why a hub ends the connection of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    TakenOver,
    Expired,
    Disabled,
    /// The device does not read what waits for it.
    TooSlow,
    /// The user of the emulator ends it.
    Asked,
    /// The device was deleted or moved, or the emulator was reset.
    Gone,
}

impl Ending {
    /// The reason for the journal.
    pub(crate) fn cause(self) -> &'static str {
        match self {
            Ending::TakenOver => "a newer connection has the same device id; a hub keeps one for each device",
            Ending::Expired => "the token of the connection has expired; connect again with a new one",
            Ending::Disabled => "a back end has disabled the device",
            Ending::TooSlow => "the device does not read the patches of its desired properties",
            Ending::Asked => "the connection was ended by the user of the emulator",
            Ending::Gone => {
                "the hub does not have the device any more: it was deleted or moved, or the emulator was reset"
            }
        }
    }
}

impl Link {
    pub(crate) fn new(connection: u64, expires: Option<OffsetDateTime>) -> Self {
        Link {
            connection,
            expires,
            listens: Listens::default(),
            patches: VecDeque::new(),
            last_message: 0,
            signal: watch::Sender::new(None),
        }
    }

    /// The signal that there is something for the connection: an ending, or a reason to look.
    pub(crate) fn signals(&self) -> watch::Receiver<Option<Ending>> {
        self.signal.subscribe()
    }

    pub(crate) fn connection(&self) -> u64 {
        self.connection
    }

    pub(super) fn expires(&self) -> Option<OffsetDateTime> {
        self.expires
    }

    pub(crate) fn listens(&self) -> Listens {
        self.listens
    }

    pub(crate) fn listen(&mut self, listens: Listens) {
        self.listens = listens;
        self.wake();
    }

    /// Adds a patch of the desired properties, if the device listens to them.
    ///
    /// # Errors
    /// Too many patches wait.
    pub(crate) fn push(&mut self, patch: &Map, version: u64) -> Result<(), Ending> {
        if !self.listens.desired {
            return Ok(());
        }
        if self.patches.len() == MOST_WAITING {
            return Err(Ending::TooSlow);
        }
        self.patches.push_back((patch.clone(), version));
        self.wake();
        Ok(())
    }

    pub(super) fn next_patch(&mut self) -> Option<(Map, u64)> {
        self.patches.pop_front()
    }

    /// The number of the last message that was handed over.
    pub(super) fn last_message(&self) -> u64 {
        self.last_message
    }

    pub(super) fn hand_over(&mut self, number: u64) {
        self.last_message = number;
    }

    /// Lets the connection look for something to do.
    pub(crate) fn wake(&self) {
        self.signal.send_modify(|_| ());
    }

    /// Ends the connection.
    pub(super) fn end(self, ending: Ending) {
        self.signal.send_replace(Some(ending));
    }
}

/// Each patch has at most 40 KiB.
const MOST_WAITING: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_does_not_read_has_bounded_waiting_patches() {
        let mut link = Link::new(1, None);
        for _ in 0..=MOST_WAITING {
            assert_eq!(link.push(&Map::new(), 2), Ok(()), "the device does not listen");
        }
        link.listen(Listens { desired: true, ..Listens::default() });

        for _ in 0..MOST_WAITING {
            link.push(&Map::new(), 2).unwrap();
        }

        assert_eq!(link.push(&Map::new(), 3), Err(Ending::TooSlow));
        assert_eq!(link.next_patch(), Some((Map::new(), 2)));
    }

    #[test]
    fn the_connection_is_notified_of_news_endings_and_a_deleted_record() {
        let mut link = Link::new(1, None);
        let mut signals = link.signals();
        assert!(!signals.has_changed().unwrap());
        link.listen(Listens { methods: true, ..Listens::default() });
        assert!(signals.has_changed().unwrap());
        assert_eq!(*signals.borrow_and_update(), None);

        link.end(Ending::Asked);
        assert_eq!(*signals.borrow(), Some(Ending::Asked));

        let link = Link::new(1, None);
        let signals = link.signals();
        drop(link);
        assert!(signals.has_changed().is_err());
        assert_eq!(*signals.borrow(), None);
    }
}
