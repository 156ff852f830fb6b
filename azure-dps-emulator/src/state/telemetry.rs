//! The telemetry that devices sent to their hubs: the latest messages, within a bound.
//!
//! | new message | then |
//! | --- | --- |
//! | there is room | is added |
//! | no room, and its device has half of the messages or of the memory | the oldest of the device make room |
//! | no room otherwise | the oldest of all make room |

pub(crate) mod saved;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use base64::prelude::{BASE64_STANDARD, Engine};
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::clock;
use crate::json::{self, Map, Value, json};

/// A message that a device sent to its hub.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Telemetry {
    /// Counts the messages of all devices from 1.
    pub sequence: u64,
    /// When it arrived, by the emulator's clock.
    pub time: SystemTime,
    /// The hub, as it is linked.
    pub hub: String,
    /// The device.
    pub device_id: String,
    /// The body as it was sent.
    pub body: Vec<u8>,
    /// The application properties in the order of the topic. A property without a value has an empty one.
    pub properties: Vec<(String, String)>,
    /// The system properties by their names in IoT Hub, such as `message-id`, `correlation-id`,
    /// `content-type` and `content-encoding`; one with an unknown short name keeps it.
    pub system_properties: Vec<(String, String)>,
}

impl Telemetry {
    /// The value of an application property.
    pub fn property(&self, name: &str) -> Option<&str> {
        value_of(&self.properties, name)
    }

    /// The value of a system property by its name in IoT Hub.
    pub fn system_property(&self, name: &str) -> Option<&str> {
        value_of(&self.system_properties, name)
    }

    /// The message as the management port returns it. A body that is JSON is in `json` too.
    pub(crate) fn to_json(&self) -> Value {
        let map = |pairs: &[(String, String)]| -> Map {
            pairs.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect()
        };
        json!({
            "sequence": self.sequence,
            "time": (clock::timestamp(OffsetDateTime::from(self.time))),
            "hub": self.hub,
            "deviceId": self.device_id,
            "body": (BASE64_STANDARD.encode(&self.body)),
            "json": (json::read(&self.body).ok()),
            "properties": (map(&self.properties)),
            "systemProperties": (map(&self.system_properties)),
        })
    }

    /// The memory that it takes, roughly.
    fn cost(&self) -> usize {
        let pairs = self.properties.iter().chain(&self.system_properties);
        let text: usize = pairs.map(|(name, value)| name.len() + value.len() + PAIR).sum();
        256 + self.body.len() + self.hub.len() + self.device_id.len() + text
    }

    fn owner(&self) -> Owner {
        (self.hub.clone(), self.device_id.clone())
    }
}

fn value_of<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
}

/// A hub and a device.
type Owner = (String, String);

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Share {
    messages: usize,
    bytes: usize,
}

/// The messages that are kept.
pub(crate) struct TelemetryRing {
    latest_last: VecDeque<Arc<Telemetry>>,
    shares: HashMap<Owner, Share>,
    whole: Share,
    /// The number of the last message.
    arrivals: watch::Sender<u64>,
}

impl Default for TelemetryRing {
    fn default() -> Self {
        TelemetryRing {
            latest_last: VecDeque::new(),
            shares: HashMap::new(),
            whole: Share::default(),
            arrivals: watch::Sender::new(0),
        }
    }
}

impl TelemetryRing {
    /// Numbers a message and keeps it.
    pub(crate) fn keep(&mut self, mut message: Telemetry) {
        message.sequence = *self.arrivals.borrow() + 1;
        let (owner, cost) = (message.owner(), message.cost());
        while self.is_full(cost) {
            let own = self.shares.get(&owner).copied().unwrap_or_default();
            let has_half = own.messages * 2 >= MOST_MESSAGES || (own.bytes + cost) * 2 >= MOST_BYTES;
            let is_own =
                |kept: &Arc<Telemetry>| kept.device_id == message.device_id && kept.hub == message.hub;
            let oldest = self.latest_last.iter().position(is_own).filter(|_| has_half);
            if !self.forget(oldest.unwrap_or_default()) {
                break;
            }
        }
        let share = self.shares.entry(owner).or_default();
        (share.messages, share.bytes) = (share.messages + 1, share.bytes + cost);
        (self.whole.messages, self.whole.bytes) = (self.whole.messages + 1, self.whole.bytes + cost);
        let sequence = message.sequence;
        self.latest_last.push_back(Arc::new(message));
        self.arrivals.send_replace(sequence);
    }

    fn is_full(&self, cost: usize) -> bool {
        self.whole.messages == MOST_MESSAGES || self.whole.bytes + cost > MOST_BYTES
    }

    fn forget(&mut self, at: usize) -> bool {
        let Some(message) = self.latest_last.remove(at) else { return false };
        let (owner, cost) = (message.owner(), message.cost());
        (self.whole.messages, self.whole.bytes) = (self.whole.messages - 1, self.whole.bytes - cost);
        if let Some(share) = self.shares.get_mut(&owner) {
            (share.messages, share.bytes) = (share.messages - 1, share.bytes - cost);
            if share.messages == 0 {
                self.shares.remove(&owner);
            }
        }
        true
    }

    /// The messages of a device with numbers above `after`, the oldest first.
    pub(crate) fn of<'a>(
        &'a self,
        hub: &'a str,
        device_id: &'a str,
        after: u64,
    ) -> impl Iterator<Item = &'a Arc<Telemetry>> {
        self.latest_last.iter().filter(move |kept| {
            kept.sequence > after && kept.device_id == device_id && kept.hub.eq_ignore_ascii_case(hub)
        })
    }

    /// Changes whenever a message arrives.
    pub(crate) fn arrivals(&self) -> watch::Receiver<u64> {
        self.arrivals.subscribe()
    }
}

/// Two strings, and the smallest allocation for each of them.
const PAIR: usize = 2 * (24 + 32);
const MOST_MESSAGES: usize = 10_000;
const MOST_BYTES: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_numbered_and_found_by_device() {
        let mut ring = TelemetryRing::default();
        for device in ["a", "b", "a"] {
            ring.keep(message(device, 1));
        }

        let numbers = |device, after| -> Vec<u64> {
            ring.of("HUB", device, after).map(|message| message.sequence).collect()
        };
        assert_eq!(numbers("a", 0), [1, 3]);
        assert_eq!(numbers("a", 1), [3]);
        assert_eq!(numbers("b", 2), [0; 0]);
        assert_eq!(*ring.arrivals().borrow(), 3);
    }

    #[test]
    fn a_device_that_sends_much_does_not_push_out_the_others() {
        let mut ring = TelemetryRing::default();
        ring.keep(message("quiet", 1));

        for _ in 0..MOST_MESSAGES * 2 {
            ring.keep(message("loud", 1));
        }
        assert_eq!(ring.of("hub", "quiet", 0).count(), 1);
        assert_eq!(ring.latest_last.len(), MOST_MESSAGES);

        let mut ring = TelemetryRing::default();
        ring.keep(message("quiet", 1));
        for _ in 0..400 {
            ring.keep(message("large", 256 * 1024));
        }
        assert_eq!(ring.of("hub", "quiet", 0).count(), 1);
        assert!(ring.whole.bytes <= MOST_BYTES, "{}", ring.whole.bytes);
        let bytes: usize = ring.latest_last.iter().map(|message| message.cost()).sum();
        assert_eq!((ring.whole.bytes, ring.whole.messages), (bytes, ring.latest_last.len()));
    }

    #[test]
    fn the_oldest_messages_of_many_devices_go_first() {
        let mut ring = TelemetryRing::default();
        for n in 0..=MOST_MESSAGES {
            ring.keep(message(&n.to_string(), 1));
        }

        assert_eq!(ring.of("hub", "0", 0).count(), 0);
        assert_eq!(ring.of("hub", "1", 0).count(), 1);
        assert_eq!(ring.shares.len(), MOST_MESSAGES);
    }

    fn message(device_id: &str, size: usize) -> Telemetry {
        Telemetry {
            sequence: 0,
            time: SystemTime::UNIX_EPOCH,
            hub: "hub".into(),
            device_id: device_id.into(),
            body: vec![0; size],
            properties: Vec::new(),
            system_properties: Vec::new(),
        }
    }
}
