//! The saved form of the devices at hubs. Connections and calls of methods are not saved: nothing of them is
//! left when the emulator ends.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use crate::ids;
use crate::json::Value;
use crate::records::hubs::authentication::Authentication;
use crate::records::hubs::device::{Presence, Status};
use crate::records::hubs::message::{CloudMessage, Inbox};
use crate::records::hubs::method::Calls;
use crate::records::hubs::twin::Twin;
use crate::records::hubs::{HubDevice, Hubs, key};
use crate::saved::Each;

/// All devices as they are read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedHubs {
    #[serde(with = "crate::saved::count")]
    tags: u64,
    devices: Vec<SavedDevice>,
}

/// A device on its hub.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SavedDevice {
    hub: String,
    device_id: String,
    #[serde(with = "crate::saved::count")]
    generation: u64,
    #[serde(with = "crate::saved::count")]
    tag: u64,
    authentication: Authentication,
    capabilities: Value,
    status: Status,
    presence: Presence,
    twin: Twin,
    messages: SavedInbox,
}

/// The messages that wait for a device.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SavedInbox {
    #[serde(with = "crate::saved::count")]
    sent: u64,
    waiting: Vec<SavedMessage>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SavedMessage {
    #[serde(with = "crate::saved::count")]
    number: u64,
    #[serde(with = "crate::saved::bytes")]
    body: Vec<u8>,
    properties: Vec<(String, String)>,
}

impl Hubs {
    pub(crate) fn saved(&self) -> impl Serialize + '_ {
        WrittenHubs(self)
    }

    /// The devices of a saved state.
    ///
    /// # Errors
    /// Says which device breaks which rule.
    pub(crate) fn restored(saved: SavedHubs) -> Result<Self, String> {
        let mut restored = Hubs { count: saved.tags, ..Hubs::default() };
        for device in saved.devices {
            let (hub, id) = (device.hub.clone(), device.device_id.clone());
            let devices = restored.devices.entry(key(&hub)).or_default();
            if devices.insert(id.clone(), device.restored()?).is_some() {
                return Err(format!("device {id} is on hub {hub} twice"));
            }
        }
        Ok(restored)
    }
}

struct WrittenHubs<'a>(&'a Hubs);

impl Serialize for WrittenHubs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct All<E> {
            #[serde(with = "crate::saved::count")]
            tags: u64,
            devices: E,
        }

        let hubs = || self.0.devices.iter();
        let devices = Each(|| {
            hubs().flat_map(|(hub, devices)| devices.values().map(|device| SavedDevice::of(hub, device)))
        });
        All { tags: self.0.count, devices }.serialize(serializer)
    }
}

impl SavedDevice {
    fn of(hub: &str, device: &HubDevice) -> Self {
        SavedDevice {
            hub: hub.to_owned(),
            device_id: device.id.clone(),
            generation: device.generation,
            tag: device.tag,
            authentication: device.authentication.clone(),
            capabilities: device.capabilities.clone(),
            status: device.status.clone(),
            presence: device.presence,
            twin: device.twin.clone(),
            messages: SavedInbox::of(&device.inbox),
        }
    }

    fn restored(self) -> Result<HubDevice, String> {
        if let Some(why) = ids::why_not_a_device_id(&self.device_id) {
            return Err(format!("the id of a device {why}"));
        }
        let inbox = self.messages.restored().map_err(|why| format!("device {}: {why}", self.device_id))?;
        Ok(HubDevice {
            id: self.device_id,
            generation: self.generation,
            tag: self.tag,
            authentication: self.authentication,
            capabilities: self.capabilities,
            status: self.status,
            presence: self.presence,
            twin: self.twin,
            inbox,
            calls: Calls::default(),
            link: None,
        })
    }
}

impl SavedInbox {
    fn of(inbox: &Inbox) -> Self {
        let waiting = inbox.waiting.iter().map(|(number, message)| SavedMessage {
            number: *number,
            body: message.body.clone(),
            properties: message.properties.clone(),
        });
        SavedInbox { sent: inbox.count, waiting: waiting.collect() }
    }

    fn restored(self) -> Result<Inbox, String> {
        let mut last = 0;
        let mut waiting = VecDeque::with_capacity(self.waiting.len());
        for SavedMessage { number, body, properties } in self.waiting {
            if number <= last || number > self.sent {
                return Err(format!("message {number} is not between {last} and the number that were sent"));
            }
            last = number;
            waiting.push_back((number, Arc::new(CloudMessage { body, properties })));
        }
        Ok(Inbox { waiting, count: self.sent })
    }
}
