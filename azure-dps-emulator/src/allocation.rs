//! Which hub a device gets: the allocation policy of its enrollment, then the policy for devices that have a hub.
//!
//! | policy | hub |
//! | --- | --- |
//! | `hashed` | weighted rendezvous hashing of the registration id over the candidates |
//! | `geoLatency` | the first candidate |
//! | `static` | the only candidate |
//! | `custom` | none: this emulator calls no webhooks |
//!
//! Candidates are `iotHubs` of the enrollment, else its `iotHubHostName`, else all linked hubs.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::answer::Refusal;
use crate::settings::Hub;

/// How an enrollment chooses hubs.
pub(crate) struct Allocation {
    policy: Policy,
    /// Empty stands for all linked hubs.
    hubs: Vec<Hub>,
    reprovision: Reprovision,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Policy {
    Hashed,
    GeoLatency,
    Static,
    Custom,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reprovision {
    Never,
    Migrate,
    Reset,
}

impl Allocation {
    /// Reads the members of an enrollment that is complete with its defaults.
    pub(crate) fn read(enrollment: &Map<String, Value>, linked: &[Hub]) -> Result<Self, Refusal> {
        let member = |name: &str| enrollment.get(name).unwrap_or(&Value::Null);
        let listed = member("iotHubs").as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut hubs = Vec::new();
        for hub in listed {
            hubs.push(linked_hub("iotHubs", hub, linked)?);
        }
        if let Some(hub) = member("iotHubHostName").as_str().filter(|hub| !hub.is_empty()) {
            let pinned = linked_hub("iotHubHostName", hub, linked)?;
            if hubs.is_empty() {
                hubs.push(pinned);
            }
        }
        let policy = match member("allocationPolicy").as_str() {
            Some("geoLatency") => Policy::GeoLatency,
            Some("static") if hubs.len() == 1 => Policy::Static,
            Some("static") => {
                return Err(Refusal::invalid("allocationPolicy static needs exactly one hub in iotHubs"));
            }
            Some("custom") => {
                for name in ["webhookUrl", "apiVersion"] {
                    if member("customAllocationDefinition")[name].as_str().is_none_or(str::is_empty) {
                        let message =
                            format!("allocationPolicy custom needs customAllocationDefinition.{name}");
                        return Err(Refusal::invalid(message));
                    }
                }
                Policy::Custom
            }
            _ => Policy::Hashed,
        };
        let flag = |name: &str| member("reprovisionPolicy")[name].as_bool().unwrap_or(true);
        let reprovision = match (flag("updateHubAssignment"), flag("migrateDeviceData")) {
            (false, _) => Reprovision::Never,
            (true, true) => Reprovision::Migrate,
            (true, false) => Reprovision::Reset,
        };
        Ok(Allocation { policy, hubs, reprovision })
    }

    /// Tells whether a webhook has to choose the hub.
    pub(crate) fn is_custom(&self) -> bool {
        self.policy == Policy::Custom
    }

    /// The hub for a device and the substatus that goes with it; `current` is the hub that it has.
    ///
    /// Without any candidate there is no hub.
    pub(crate) fn assign(
        &self,
        registration_id: &str,
        current: Option<&str>,
        linked: &[Hub],
    ) -> Option<(String, &'static str)> {
        if let (Some(hub), Reprovision::Never) = (current, self.reprovision) {
            return Some((hub.to_owned(), INITIAL));
        }
        let candidates = if self.hubs.is_empty() { linked } else { &self.hubs };
        let hub = match self.policy {
            Policy::Hashed => rendezvous(registration_id, candidates),
            Policy::GeoLatency | Policy::Static => candidates.first(),
            Policy::Custom => None,
        }?;
        let substatus = match current {
            Some(current) if current != hub.host_name => match self.reprovision {
                Reprovision::Reset => "deviceDataReset",
                Reprovision::Migrate | Reprovision::Never => "deviceDataMigrated",
            },
            _ => INITIAL,
        };
        Some((hub.host_name.clone(), substatus))
    }
}

fn linked_hub(member: &str, hub: &str, linked: &[Hub]) -> Result<Hub, Refusal> {
    linked
        .iter()
        .find(|linked| linked.host_name.eq_ignore_ascii_case(hub))
        .cloned()
        .ok_or_else(|| Refusal::invalid(format!("{member}: hub {hub} is not linked")))
}

/// The candidate whose score for the id is the highest: when a hub comes or goes, no device moves between the others.
fn rendezvous<'a>(registration_id: &str, candidates: &'a [Hub]) -> Option<&'a Hub> {
    let score = |hub: &Hub| {
        let mut hash = Sha256::new();
        hash.update(registration_id.to_ascii_lowercase());
        hash.update(b"\n");
        hash.update(hub.host_name.to_ascii_lowercase());
        let top = hash.finalize().iter().take(6).fold(0.0, |sum, byte| sum * 256.0 + f64::from(*byte));
        // Even in (0, 1); the logarithm makes the chance of being highest proportional to the weight.
        let even = (top + 0.5) / 256_f64.powi(6);
        f64::from(hub.weight) / -even.ln()
    };
    candidates.iter().max_by(|a, b| score(a).total_cmp(&score(b)))
}

const INITIAL: &str = "initialAssignment";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    #[test]
    fn hashing_is_even_and_the_same_every_time() {
        let linked = hubs(4);
        let allocation = allocation(json!({}));
        let mut counts = BTreeMap::new();

        for n in 0..4000 {
            let hub = hub_of(&allocation, &format!("device-{n}"), &linked);
            assert_eq!(hub, hub_of(&allocation, &format!("DEVICE-{n}"), &linked));
            *counts.entry(hub).or_insert(0) += 1;
        }

        assert_eq!(counts.len(), 4);
        assert!(counts.values().all(|count| (900..1100).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_new_hub_takes_devices_and_moves_no_others() {
        let allocation = allocation(json!({}));
        let (before, after) = (hubs(4), hubs(5));

        for n in 0..1000 {
            let id = format!("device-{n}");
            let (old, new) = (hub_of(&allocation, &id, &before), hub_of(&allocation, &id, &after));
            assert!(old == new || new == "hub-5.example", "{id} moved from {old} to {new}");
        }
    }

    #[test]
    fn hashing_respects_weights() {
        let mut linked = hubs(3);
        linked[1].weight = 3;
        linked[2].weight = 0;
        let allocation = allocation(json!({}));

        let count = (0..4000)
            .filter(|n| hub_of(&allocation, &format!("device-{n}"), &linked) == "hub-2.example")
            .count();

        assert!((2850..3150).contains(&count), "{count}");
        assert!((0..4000).all(|n| hub_of(&allocation, &format!("d-{n}"), &linked) != "hub-3.example"));
        assert_eq!(hub_of(&allocation, "d", &linked[2..]), "hub-3.example");
    }

    #[test]
    fn candidates_are_the_hubs_of_the_enrollment() {
        let linked = hubs(3);

        for (enrollment, wanted) in [
            (json!({"allocationPolicy": "static", "iotHubs": ["HUB-2.example"]}), "hub-2.example"),
            (json!({"allocationPolicy": "static", "iotHubHostName": "hub-3.example"}), "hub-3.example"),
            (json!({"allocationPolicy": "hashed", "iotHubHostName": "hub-3.example"}), "hub-3.example"),
            (json!({"allocationPolicy": "geoLatency"}), "hub-1.example"),
            (
                json!({"allocationPolicy": "geoLatency", "iotHubs": ["hub-2.example", "hub-1.example"]}),
                "hub-2.example",
            ),
        ] {
            assert_eq!(hub_of(&allocation(enrollment.clone()), "dev1", &linked), wanted, "{enrollment}");
        }
    }

    #[test]
    fn a_device_with_a_hub_follows_the_reprovision_policy() {
        let policy = |update, migrate| {
            allocation(json!({
                "allocationPolicy": "static", "iotHubs": ["hub-2.example"],
                "reprovisionPolicy": {"updateHubAssignment": update, "migrateDeviceData": migrate},
            }))
        };
        let assign =
            |allocation: Allocation, current| allocation.assign("dev1", Some(current), &hubs(3)).unwrap();
        let (old, new) = ("hub-1.example", "hub-2.example");

        assert_eq!(assign(policy(true, true), old), (new.into(), "deviceDataMigrated"));
        assert_eq!(assign(policy(true, false), old), (new.into(), "deviceDataReset"));
        assert_eq!(assign(policy(false, true), old), (old.into(), "initialAssignment"));
        assert_eq!(assign(policy(true, true), new), (new.into(), "initialAssignment"));
    }

    #[test]
    fn impossible_policies_are_refused() {
        for (enrollment, message) in [
            (json!({"iotHubs": ["hub-9.example"]}), "iotHubs: hub hub-9.example is not linked"),
            (json!({"iotHubHostName": "x"}), "iotHubHostName: hub x is not linked"),
            (
                json!({"allocationPolicy": "static"}),
                "allocationPolicy static needs exactly one hub in iotHubs",
            ),
            (
                json!({"allocationPolicy": "static", "iotHubs": ["hub-1.example", "hub-2.example"]}),
                "allocationPolicy static needs exactly one hub in iotHubs",
            ),
            (
                json!({"allocationPolicy": "custom"}),
                "allocationPolicy custom needs customAllocationDefinition.webhookUrl",
            ),
            (
                json!({"allocationPolicy": "custom", "customAllocationDefinition": {"webhookUrl": "https://x"}}),
                "allocationPolicy custom needs customAllocationDefinition.apiVersion",
            ),
        ] {
            let refusal = Allocation::read(enrollment.as_object().unwrap(), &hubs(3)).err().unwrap();
            assert_eq!(refusal.cause, message);
        }
    }

    fn allocation(enrollment: Value) -> Allocation {
        Allocation::read(enrollment.as_object().unwrap(), &hubs(5)).ok().unwrap()
    }

    fn hub_of(allocation: &Allocation, id: &str, linked: &[Hub]) -> String {
        allocation.assign(id, None, linked).unwrap().0
    }

    fn hubs(count: usize) -> Vec<Hub> {
        (1..=count).map(|n| Hub::new(format!("hub-{n}.example"))).collect()
    }
}
