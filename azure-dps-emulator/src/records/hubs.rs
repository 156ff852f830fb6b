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

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::json::{Map, Value, json};
use base64::prelude::{BASE64_STANDARD, Engine};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::clock;
use crate::crypto::certificate::Certificate;
use crate::crypto::sas::Token;
use crate::records::proof::Proof;
use crate::records::reprovision::{Step, Substatus};

/// A device identity that a registration creates or updates on a hub.
#[derive(Clone)]
pub(crate) struct NewIdentity {
    pub(crate) device_id: String,
    pub(crate) authentication: Authentication,
    pub(crate) capabilities: Value,
    pub(crate) initial_twin: Value,
}

/// How a device authenticates at its hub.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Authentication {
    Sas { primary: Vec<u8>, secondary: Vec<u8> },
    SelfSigned { thumbprint: String },
}

impl Authentication {
    /// A device authenticates at its hub with what it proved its identity to the service with.
    pub(crate) fn of(proof: &Proof) -> Self {
        match proof {
            Proof::SymmetricKey { primary, secondary } => {
                Authentication::Sas { primary: primary.clone(), secondary: secondary.clone() }
            }
            Proof::Tpm(proven) => {
                let key = proven.hub_key().unwrap_or_default();
                Authentication::Sas { primary: key.to_vec(), secondary: key.to_vec() }
            }
            Proof::X509 { thumbprint } => Authentication::SelfSigned { thumbprint: thumbprint.clone() },
        }
    }

    fn word(&self) -> &'static str {
        match self {
            Authentication::Sas { .. } => "sas",
            Authentication::SelfSigned { .. } => "selfSigned",
        }
    }

    fn keys(&self) -> Value {
        let (primary, secondary) = match self {
            Authentication::Sas { primary, secondary } => (Some(primary), Some(secondary)),
            Authentication::SelfSigned { .. } => (None, None),
        };
        let text = |key: Option<&Vec<u8>>| key.map(|key| BASE64_STANDARD.encode(key));
        json!({"primaryKey": text(primary), "secondaryKey": text(secondary)})
    }

    fn thumbprints(&self) -> Value {
        let thumbprint = match self {
            Authentication::Sas { .. } => None,
            Authentication::SelfSigned { thumbprint } => Some(thumbprint),
        };
        json!({"primaryThumbprint": thumbprint, "secondaryThumbprint": null})
    }
}

/// A device on its hub.
pub(crate) struct HubDevice {
    id: String,
    /// Tells a device from an earlier one with the same id.
    generation: u64,
    tag: u64,
    authentication: Authentication,
    capabilities: Value,
    twin: Twin,
}

/// The data that back ends and the device share. It never changes: twin updates are not emulated.
struct Twin {
    tag: u64,
    tags: Map,
    desired: Map,
    written: OffsetDateTime,
}

impl HubDevice {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The tag of the identity, without quotes.
    pub(crate) fn etag(&self) -> String {
        BASE64_STANDARD.encode(self.tag.to_string())
    }

    /// The tag of the twin, without quotes.
    pub(crate) fn twin_etag(&self) -> String {
        BASE64_STANDARD.encode(self.twin.tag.to_be_bytes())
    }

    /// Returns whether the token is signed with one of the device's keys on this hub.
    pub(crate) fn signed(&self, token: &Token) -> bool {
        match &self.authentication {
            Authentication::Sas { primary, secondary } => {
                token.is_signed_by(primary) || token.is_signed_by(secondary)
            }
            Authentication::SelfSigned { .. } => false,
        }
    }

    /// Returns whether this is the device's certificate on this hub.
    pub(crate) fn has_certificate(&self, leaf: &Certificate) -> bool {
        match &self.authentication {
            Authentication::Sas { .. } => false,
            Authentication::SelfSigned { thumbprint } => leaf.sha1_thumbprint() == *thumbprint,
        }
    }

    /// The identity and the twin.
    pub(crate) fn to_json(&self) -> Value {
        json!({"identity": self.identity(), "twin": self.twin()})
    }

    /// The identity as the hub returns it, with its keys.
    pub(crate) fn identity(&self) -> Value {
        json!({
            "deviceId": self.id,
            "generationId": self.generation.to_string(),
            "etag": self.etag(),
            "connectionState": "Disconnected",
            "status": "enabled",
            "statusReason": null,
            "connectionStateUpdatedTime": NEVER,
            "statusUpdatedTime": NEVER,
            "lastActivityTime": NEVER,
            "cloudToDeviceMessageCount": 0,
            "authentication": {
                "symmetricKey": self.authentication.keys(),
                "x509Thumbprint": self.authentication.thumbprints(),
                "type": self.authentication.word(),
            },
            "capabilities": self.capabilities,
        })
    }

    /// The twin as the hub returns it.
    pub(crate) fn twin(&self) -> Value {
        let Twin { tags, desired, written, .. } = &self.twin;
        json!({
            "deviceId": self.id,
            "etag": self.twin_etag(),
            "deviceEtag": self.etag(),
            "status": "enabled",
            "statusUpdateTime": NEVER,
            "connectionState": "Disconnected",
            "lastActivityTime": NEVER,
            "cloudToDeviceMessageCount": 0,
            "authenticationType": self.authentication.word(),
            "x509Thumbprint": self.authentication.thumbprints(),
            "modelId": "",
            "version": TWIN_VERSION,
            "tags": tags,
            "properties": {
                "desired": properties(desired, Some(TWIN_VERSION), *written),
                "reported": properties(&Map::new(), None, *written),
            },
            "capabilities": self.capabilities,
        })
    }
}

/// Adds `$metadata` and `$version` to properties. Only desired properties have `$lastUpdatedVersion`.
fn properties(values: &Map, version: Option<u64>, written: OffsetDateTime) -> Value {
    let mut members = values.clone();
    members.insert("$metadata".into(), metadata(values, version, &clock::timestamp(written)));
    members.insert("$version".into(), TWIN_VERSION.into());
    members.into()
}

fn metadata(values: &Map, version: Option<u64>, written: &str) -> Value {
    let version = version.filter(|_| !values.is_empty());
    let own =
        [("$lastUpdated", Some(Value::from(written))), ("$lastUpdatedVersion", version.map(Value::from))];
    let own = own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let below = values.iter().map(|(name, value)| {
        let below = match value {
            Value::Object(values) if !values.is_empty() => metadata(values, version, written),
            _ => json!({"$lastUpdated": written, "$lastUpdatedVersion": version}),
        };
        (name.clone(), below)
    });
    Value::Object(own.chain(below).collect())
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
        self.count += 1;
        let tag = self.count;
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
                let device = HubDevice { id, generation: tag, tag, authentication, capabilities, twin };
                devices.insert(device.id.clone(), device);
            }
        }
        substatus
    }

    pub(crate) fn find(&self, hub: &str, device_id: &str) -> Option<&HubDevice> {
        self.devices.get(&key(hub))?.get(device_id)
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

impl Twin {
    fn initial(given: &Value, tag: u64, now: OffsetDateTime) -> Self {
        let part = |path: &str| given.pointer(path).and_then(Value::as_object).cloned().unwrap_or_default();
        Twin { tag, tags: part("/tags"), desired: part("/properties/desired"), written: now }
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
const NEVER: &str = "0001-01-01T00:00:00Z";
const TWIN_VERSION: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

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
