//! The saved form of the telemetry that is kept.

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize, Serializer};
use time::OffsetDateTime;

use crate::saved::Each;
use crate::state::telemetry::{Telemetry, TelemetryRing};

/// All messages as they are read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedTelemetry {
    #[serde(with = "crate::saved::count")]
    received: u64,
    messages: Vec<SavedMessage>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SavedMessage {
    #[serde(with = "crate::saved::count")]
    sequence: u64,
    #[serde(with = "crate::saved::at")]
    time: OffsetDateTime,
    hub: String,
    device_id: String,
    #[serde(with = "crate::saved::bytes")]
    body: Vec<u8>,
    properties: Vec<(String, String)>,
    system_properties: Vec<(String, String)>,
}

impl TelemetryRing {
    pub(crate) fn saved(&self) -> impl Serialize + '_ {
        WrittenTelemetry(self)
    }

    /// # Errors
    /// The messages are not in the order of their numbers, or are more than the emulator keeps.
    pub(crate) fn restored(saved: SavedTelemetry) -> Result<Self, String> {
        let mut restored = TelemetryRing::default();
        let mut last = 0;
        let count = saved.messages.len();
        for message in saved.messages {
            let sequence = message.sequence;
            if sequence <= last || sequence > saved.received {
                return Err(format!("message {sequence} is not between {last} and the number received"));
            }
            last = sequence;
            restored.arrivals.send_replace(sequence - 1);
            restored.keep(message.restored());
        }
        if restored.latest_last.len() < count {
            return Err("there are more messages than the emulator keeps".to_owned());
        }
        restored.arrivals.send_replace(saved.received);
        Ok(restored)
    }
}

struct WrittenTelemetry<'a>(&'a TelemetryRing);

impl Serialize for WrittenTelemetry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct All<E> {
            #[serde(with = "crate::saved::count")]
            received: u64,
            messages: E,
        }

        let messages = Each(|| self.0.latest_last.iter().map(SavedMessage::of));
        All { received: *self.0.arrivals.borrow(), messages }.serialize(serializer)
    }
}

impl SavedMessage {
    fn of(message: &Arc<Telemetry>) -> Self {
        SavedMessage {
            sequence: message.sequence,
            time: OffsetDateTime::from(message.time),
            hub: message.hub.clone(),
            device_id: message.device_id.clone(),
            body: message.body.clone(),
            properties: message.properties.clone(),
            system_properties: message.system_properties.clone(),
        }
    }

    fn restored(self) -> Telemetry {
        Telemetry {
            sequence: self.sequence,
            time: SystemTime::from(self.time),
            hub: self.hub,
            device_id: self.device_id,
            body: self.body,
            properties: self.properties,
            system_properties: self.system_properties,
        }
    }
}
