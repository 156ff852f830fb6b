//! Messages from the cloud to a device, which wait until the device has taken them.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::records::hubs::call_error::HubCallError;
use crate::records::hubs::limits::{LARGEST_MESSAGE, MOST_MESSAGES};

/// A message for a device.
///
/// # Examples
///
/// ```
/// use azure_dps_emulator::CloudMessage;
///
/// let message = CloudMessage::new("{\"valve\":1}")
///     .with_property("urgent", "yes")
///     .with_system_property("ct", "application/json");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "a message does nothing before it is sent"]
pub struct CloudMessage {
    pub(crate) body: Vec<u8>,
    /// With their names as in the topic; those of system properties begin with `$.`.
    pub(crate) properties: Vec<(String, String)>,
}

impl CloudMessage {
    /// A message with this body, which has at most 64 KiB together with the properties.
    pub fn new(body: impl Into<Vec<u8>>) -> Self {
        CloudMessage { body: body.into(), properties: Vec::new() }
    }

    /// Adds an application property.
    pub fn with_property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.push((name.into(), value.into()));
        self
    }

    /// Adds a system property by its short name, such as `mid` (message id), `cid` (correlation id), `ct`
    /// (content type) or `ce` (content encoding).
    pub fn with_system_property(self, name: &str, value: impl Into<String>) -> Self {
        self.with_property(format!("$.{name}"), value)
    }

    fn size(&self) -> usize {
        let properties = self.properties.iter().map(|(name, value)| name.len() + value.len());
        self.body.len() + properties.sum::<usize>()
    }
}

/// The messages that wait for one device, the oldest first.
#[derive(Default)]
pub(crate) struct Inbox {
    pub(super) waiting: VecDeque<(u64, Arc<CloudMessage>)>,
    pub(super) count: u64,
}

impl Inbox {
    /// # Errors
    /// The message is too large, or too many wait already.
    pub(crate) fn put(&mut self, message: CloudMessage) -> Result<(), HubCallError> {
        let size = message.size();
        if size > LARGEST_MESSAGE {
            return Err(HubCallError::MessageTooLarge(size));
        }
        if self.waiting.len() == MOST_MESSAGES {
            return Err(HubCallError::TooManyMessages);
        }
        self.count += 1;
        self.waiting.push_back((self.count, Arc::new(message)));
        Ok(())
    }

    /// The oldest message with a number above this one.
    pub(crate) fn after(&self, number: u64) -> Option<(u64, Arc<CloudMessage>)> {
        self.waiting.iter().find(|(own, _)| *own > number).cloned()
    }

    /// Removes a message that the device has taken.
    pub(crate) fn settle(&mut self, number: u64) {
        self.waiting.retain(|(own, _)| *own != number);
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_wait_in_order_until_each_is_settled() {
        let mut inbox = Inbox::default();
        for body in ["a", "b", "c"] {
            inbox.put(CloudMessage::new(body)).unwrap();
        }

        assert_eq!(inbox.after(0).unwrap().1.body, b"a");
        assert_eq!(inbox.after(1).unwrap().1.body, b"b");
        inbox.settle(2);
        assert_eq!(inbox.after(1).unwrap().1.body, b"c");
        assert_eq!(inbox.len(), 2);
        assert!(inbox.after(3).is_none());
    }

    #[test]
    fn fifty_messages_of_64_kib_may_wait() {
        let mut inbox = Inbox::default();
        let largest = CloudMessage::new(vec![0; LARGEST_MESSAGE - 3]).with_property("ab", "c");
        let larger = largest.clone().with_property("", "d");

        assert_eq!(inbox.put(larger), Err(HubCallError::MessageTooLarge(LARGEST_MESSAGE + 1)));
        for _ in 0..MOST_MESSAGES {
            assert_eq!(inbox.put(largest.clone()), Ok(()));
        }
        assert_eq!(inbox.put(CloudMessage::new("")), Err(HubCallError::TooManyMessages));
        inbox.settle(7);
        assert_eq!(inbox.put(CloudMessage::new("")), Ok(()));
    }
}
