//! The device identities and twins of the linked hubs, in the JSON of IoT Hub. Requests are judged in
//! [`crate::api::hub`].
//!
//! | step | identity | twin | substatus |
//! | --- | --- | --- | --- |
//! | enter, device unknown | created | initial | `initialAssignment` |
//! | enter, device known | gets new credentials | kept | `reprovisionedToInitialAssignment` |
//! | stay | gets new credentials | kept | `initialAssignment` |
//! | stay, device was deleted | created | initial | `initialAssignment` |
//! | migrate | moved to the new hub | moved, with the capabilities | `deviceDataMigrated` |
//! | reset | deleted, and created on the new hub | initial | `deviceDataReset` |

pub(crate) mod authentication;
pub(crate) mod call_error;
mod device;
pub(crate) mod limits;
pub(crate) mod link;
pub(crate) mod message;
pub(crate) mod method;
pub(crate) mod properties;
pub(crate) mod saved;
pub(crate) mod twin;
mod twin_rules;

pub(crate) use authentication::Authentication;
use device::Status;
pub(crate) use device::{HubDevice, Next};

use std::collections::BTreeMap;
use std::ops::Bound;

use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::json::Value;
use crate::records::hubs::link::Ending;
use crate::records::hubs::twin::Twin;
use crate::records::reprovision::{Step, Substatus};

/// A device identity that a registration creates or updates on a hub.
#[derive(Clone)]
pub(crate) struct NewIdentity {
    pub(crate) device_id: String,
    pub(crate) authentication: Authentication,
    pub(crate) capabilities: Value,
    pub(crate) initial_twin: Value,
}

/// A write of a back end to an identity.
#[derive(Debug, PartialEq)]
pub(crate) struct IdentityWrite {
    pub(crate) authentication: Authentication,
    pub(crate) disabled: bool,
    pub(crate) reason: Option<String>,
    pub(crate) capabilities: Value,
}

/// The devices of all linked hubs. Names of hubs are compared without case, ids of devices with it.
#[derive(Default)]
pub(crate) struct Hubs {
    devices: BTreeMap<String, BTreeMap<String, HubDevice>>,
    count: u64,
}

impl Hubs {
    /// Brings a device to a hub, from the hub and the id that it had, and returns the substatus.
    pub(crate) fn place(
        &mut self,
        step: Step,
        from: Option<(&str, &str)>,
        hub: &str,
        identity: NewIdentity,
        now: OffsetDateTime,
    ) -> Substatus {
        let left = match (step, from) {
            (Step::Migrate | Step::Reset, Some((hub, id))) => self.remove(hub, id),
            _ => None,
        };
        let tag = self.next_tag();
        let devices = self.devices.entry(key(hub)).or_default();
        let known = devices.get_mut(&identity.device_id);
        let substatus = match (step, &known) {
            (Step::Enter, Some(_)) => Substatus::ReprovisionedToInitialAssignment,
            (Step::Enter | Step::Stay, _) => Substatus::InitialAssignment,
            (Step::Migrate, _) => Substatus::DeviceDataMigrated,
            (Step::Reset, _) => Substatus::DeviceDataReset,
        };
        match (step, known) {
            (Step::Enter | Step::Stay, Some(device)) => {
                device.authentication = identity.authentication;
                device.tag = tag;
            }
            _ => {
                let twin = Twin::initial(&identity.initial_twin, tag, now);
                let (capabilities, twin) = match left.filter(|_| step == Step::Migrate) {
                    Some(left) => (left.capabilities, left.twin),
                    None => (identity.capabilities, twin),
                };
                let (id, authentication) = (identity.device_id, identity.authentication);
                devices.insert(id.clone(), HubDevice::new(id, tag, authentication, capabilities, twin));
            }
        }
        substatus
    }

    /// Creates a device, or changes its identity. A disabled device loses its connection.
    pub(crate) fn write(
        &mut self,
        hub: &str,
        device_id: &str,
        write: IdentityWrite,
        now: OffsetDateTime,
    ) -> &HubDevice {
        let tag = self.next_tag();
        let IdentityWrite { authentication, disabled, reason, capabilities } = write;
        let devices = self.devices.entry(key(hub)).or_default();
        let device = devices.entry(device_id.to_owned()).or_insert_with(|| {
            let twin = Twin::initial(&Value::Null, tag, now);
            HubDevice::new(device_id.to_owned(), tag, authentication.clone(), Value::Null, twin)
        });
        (device.tag, device.authentication, device.capabilities) = (tag, authentication, capabilities);
        let changed = if device.status.disabled == disabled { device.status.changed } else { Some(now) };
        device.status = Status { disabled, reason, changed };
        if disabled {
            device.end_link(Ending::Disabled, now);
        }
        device
    }

    /// A number for a new tag.
    pub(crate) fn next_tag(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    pub(crate) fn find(&self, hub: &str, device_id: &str) -> Option<&HubDevice> {
        self.devices.get(&key(hub))?.get(device_id)
    }

    pub(crate) fn find_mut(&mut self, hub: &str, device_id: &str) -> Option<&mut HubDevice> {
        self.devices.get_mut(&key(hub))?.get_mut(device_id)
    }

    /// The devices of all hubs.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &HubDevice> {
        self.devices.values().flat_map(BTreeMap::values)
    }

    /// The devices of a hub in the order of their ids.
    pub(crate) fn of(&self, hub: &str) -> impl Iterator<Item = &HubDevice> {
        self.devices.get(&key(hub)).into_iter().flat_map(BTreeMap::values)
    }

    /// The device after this id, or the first.
    pub(crate) fn behind(&self, hub: &str, device_id: Option<&str>) -> Option<&HubDevice> {
        let start = device_id.map_or(Bound::Unbounded, Bound::Excluded);
        let (_, device) = self.devices.get(&key(hub))?.range::<str, _>((start, Bound::Unbounded)).next()?;
        Some(device)
    }

    pub(crate) fn remove(&mut self, hub: &str, device_id: &str) -> Option<HubDevice> {
        self.devices.get_mut(&key(hub))?.remove(device_id)
    }
}

fn key(hub: &str) -> String {
    hub.to_ascii_lowercase()
}

/// The key of a hub's policy `iothubowner`. It is the same after every start, and public like all fixed keys
/// of the emulator.
pub(crate) fn owner_key(hub: &str) -> Vec<u8> {
    Sha256::digest(format!("emulated hub {}", key(hub))).to_vec()
}

pub(crate) const OWNER: &str = "iothubowner";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;

    #[test]
    fn a_device_enters_with_its_credentials_capabilities_and_initial_twin() {
        let mut hubs = Hubs::default();

        assert_eq!(hubs.enter("Hub-A", identity("dev1", 1)), Substatus::InitialAssignment);

        let device = hubs.find("hub-a", "dev1").unwrap();
        let identity = device.identity();
        assert_eq!(identity["authentication"]["type"], "sas");
        assert_eq!(identity["authentication"]["symmetricKey"]["primaryKey"], "AQ==");
        assert_eq!(identity["capabilities"], json!({"iotEdge": true}));
        let written = "1970-01-01T00:00:00Z";
        let leaf = json!({"$lastUpdated": written, "$lastUpdatedVersion": 1});
        assert_eq!(
            device.twin()["properties"],
            json!({
                "desired": {
                    "wifi": {"ssid": "plant-1"}, "$version": 1,
                    "$metadata": {
                        "$lastUpdated": written, "$lastUpdatedVersion": 1,
                        "wifi": {"$lastUpdated": written, "$lastUpdatedVersion": 1, "ssid": leaf},
                    },
                },
                "reported": {"$version": 1, "$metadata": {"$lastUpdated": written}},
            })
        );
        assert_eq!(device.twin()["tags"], json!({"n": 1}));
        assert!(hubs.find("hub-a", "DEV1").is_none(), "device ids are case-sensitive");
    }

    #[test]
    fn a_known_device_gets_new_credentials_and_keeps_its_twin() {
        for (step, substatus) in [
            (Step::Enter, Substatus::ReprovisionedToInitialAssignment),
            (Step::Stay, Substatus::InitialAssignment),
        ] {
            let mut hubs = Hubs::default();
            hubs.enter("a", identity("dev1", 1));
            let (generation, etag) = story(&hubs, "a");

            assert_eq!(hubs.place(step, None, "a", identity("dev1", 2), NOW), substatus);

            let device = hubs.find("a", "dev1").unwrap();
            assert_eq!(device.identity()["authentication"]["symmetricKey"]["primaryKey"], "Ag==");
            assert_eq!(device.twin()["tags"], json!({"n": 1}));
            let (same, other) = story(&hubs, "a");
            assert!(same == generation && other != etag);
        }
    }

    #[test]
    fn a_deleted_device_is_created_again() {
        let mut hubs = Hubs::default();
        hubs.enter("a", identity("dev1", 1));
        hubs.remove("A", "dev1");

        assert_eq!(
            hubs.place(Step::Stay, Some(("a", "dev1")), "a", identity("dev1", 2), NOW),
            Substatus::InitialAssignment
        );

        assert_eq!(hubs.find("a", "dev1").unwrap().twin()["tags"], json!({"n": 2}));
    }

    #[test]
    fn a_device_that_changes_its_hub_keeps_its_twin_or_gets_the_initial_one() {
        for (step, substatus, tags) in
            [(Step::Migrate, Substatus::DeviceDataMigrated, 1), (Step::Reset, Substatus::DeviceDataReset, 2)]
        {
            let mut hubs = Hubs::default();
            hubs.enter("a", identity("dev1", 1));
            // The new hub already has another device with this id.
            hubs.enter("b", identity("dev1", 9));

            assert_eq!(hubs.place(step, Some(("a", "dev1")), "b", identity("dev1", 2), NOW), substatus);

            assert_eq!(hubs.of("a").count(), 0);
            let device = hubs.find("b", "dev1").unwrap();
            assert_eq!(device.twin()["tags"], json!({"n": tags}));
            assert_eq!(device.identity()["authentication"]["symmetricKey"]["primaryKey"], "Ag==");
        }
    }

    #[test]
    fn a_reset_on_the_same_hub_creates_the_device_again() {
        let mut hubs = Hubs::default();
        hubs.enter("a", identity("dev1", 1));
        let (generation, _) = story(&hubs, "a");

        hubs.place(Step::Reset, Some(("a", "dev1")), "a", identity("dev1", 2), NOW);

        assert_eq!(hubs.find("a", "dev1").unwrap().twin()["tags"], json!({"n": 2}));
        assert_ne!(story(&hubs, "a").0, generation);
    }

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    impl Hubs {
        fn enter(&mut self, hub: &str, identity: NewIdentity) -> Substatus {
            self.place(Step::Enter, None, hub, identity, NOW)
        }
    }

    fn identity(device_id: &str, n: u8) -> NewIdentity {
        NewIdentity {
            device_id: device_id.into(),
            authentication: Authentication::Sas { primary: vec![n], secondary: vec![n] },
            capabilities: json!({"iotEdge": n == 1}),
            initial_twin: json!({
                "tags": {"n": n}, "properties": {"desired": {"wifi": {"ssid": format!("plant-{n}")}}},
            }),
        }
    }

    fn story(hubs: &Hubs, hub: &str) -> (Value, Value) {
        let identity = hubs.find(hub, "dev1").unwrap().identity();
        (identity["generationId"].clone(), identity["etag"].clone())
    }
}
