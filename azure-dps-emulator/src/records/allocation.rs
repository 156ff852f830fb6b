//! Chooses the hub of a device by the allocation policy of its enrollment or, without one, of the instance.
//!
//! | policy | hub |
//! | --- | --- |
//! | `hashed` | weighted rendezvous hashing of the registration id over the candidates |
//! | `geoLatency` | the candidate in the region nearest to the device; `hashed` if several are equally near |
//! | `static` | the only candidate |
//! | `custom` | the one that the webhook names |
//!
//! Candidates are `iotHubs` of the enrollment, else its `iotHubHostName`, else all linked hubs except those
//! for named use only. [`crate::records::reprovision`] decides what happens to a device that already has a
//! hub.

use sha2::{Digest, Sha256};

use crate::json::{Map, Value, json};
use crate::records::hub::{DefaultAllocation, Hub};
use crate::records::latencies::Latencies;
use crate::records::reprovision::Reprovision;
use crate::refusal::{HUBS_WITHOUT_POLICY, Refusal};

/// How an enrollment allocates its devices to hubs.
pub(crate) struct Allocation {
    /// `None` follows the policy that the instance has at the time of the registration.
    policy: Option<Policy>,
    /// Empty means all linked hubs.
    named: Vec<Hub>,
    reprovision: Option<Reprovision>,
}

#[derive(Clone, PartialEq, Eq)]
enum Policy {
    Rule(DefaultAllocation),
    Custom { webhook_url: String },
}

/// The allocation rules of the instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) policy: DefaultAllocation,
    pub(crate) latencies: Latencies,
}

impl Rules {
    pub(crate) fn to_json(&self) -> Value {
        json!({"allocationPolicy": self.policy.word(), "latencies": self.latencies.to_json()})
    }
}

/// The result of an allocation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Choice<'a> {
    Hub(&'a str),
    /// The webhook at this URL decides.
    Webhook(&'a str),
    /// No hub, for this reason.
    Nothing(String),
}

impl Allocation {
    /// Reads the members of an enrollment as the client sent them, without defaults.
    pub(crate) fn read(given: &Map, linked: &[Hub]) -> Result<Self, Refusal> {
        let member = |name: &str| given.get(name).unwrap_or(&Value::Null);
        let listed = member("iotHubs").as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut named = Vec::new();
        for hub in listed {
            named.push(linked_hub("iotHubs", hub, linked)?);
        }
        let word = member("allocationPolicy").as_str();
        if word.is_none() && !named.is_empty() {
            return Err(Refusal::new(HUBS_WITHOUT_POLICY, HUBS_NEED_A_POLICY));
        }
        if let Some(hub) = member("iotHubHostName").as_str().filter(|hub| !hub.is_empty()) {
            let pinned = linked_hub("iotHubHostName", hub, linked)?;
            if named.is_empty() {
                named.push(pinned);
            }
        }
        let policy = match word {
            Some("custom") => Some(read_custom(member("customAllocationDefinition"))?),
            Some("static") if named.len() > 1 => {
                return Err(Refusal::invalid("allocationPolicy static takes one hub in iotHubs at most"));
            }
            word => word.and_then(DefaultAllocation::read).map(Policy::Rule),
        };
        let reprovision = Reprovision::read(member("reprovisionPolicy"));
        Ok(Allocation { policy, named, reprovision })
    }

    /// A warning for the journal about members that have no effect.
    pub(crate) fn ignored(given: &Map) -> Option<String> {
        let is_given = |name: &str| given.get(name).is_some_and(|value| !value.is_null());
        let policy = given.get("allocationPolicy").and_then(Value::as_str);
        let definition = (is_given("customAllocationDefinition") && policy != Some("custom"))
            .then_some("customAllocationDefinition has no effect: allocationPolicy is not custom");
        let lists_hubs = given.get("iotHubs").and_then(Value::as_array).is_some_and(|hubs| !hubs.is_empty());
        let host_name = (lists_hubs && is_given("iotHubHostName"))
            .then_some("iotHubHostName has no effect: iotHubs names hubs");
        let ignored: Vec<&str> = definition.into_iter().chain(host_name).collect();
        (!ignored.is_empty()).then(|| ignored.join("; "))
    }

    /// The reprovision policy. Without one, devices of old api-versions keep their hub.
    pub(crate) fn reprovision(&self, api_version: &str) -> Reprovision {
        self.reprovision.unwrap_or_else(|| Reprovision::default_for(api_version))
    }

    /// Chooses a hub. A device that has to keep its hub stays there, but a webhook is called all the same.
    pub(crate) fn choose<'a>(
        &'a self,
        registration_id: &str,
        kept: Option<&'a str>,
        rules: &Rules,
        linked: &'a [Hub],
    ) -> Choice<'a> {
        let candidates: Vec<&Hub> = match self.named.as_slice() {
            [] => linked.iter().filter(|hub| !hub.named_only).collect(),
            named => named.iter().collect(),
        };
        let rule = match &self.policy {
            Some(Policy::Custom { .. }) if linked.is_empty() => {
                return Choice::Nothing("no hub is linked".to_owned());
            }
            Some(Policy::Custom { webhook_url }) => return Choice::Webhook(webhook_url),
            Some(Policy::Rule(rule)) => *rule,
            None => rules.policy,
        };
        if let Some(hub) = kept {
            return Choice::Hub(hub);
        }
        let hub = match rule {
            DefaultAllocation::Hashed => rendezvous(registration_id, &candidates),
            DefaultAllocation::GeoLatency => {
                rendezvous(registration_id, &rules.latencies.nearest(registration_id, &candidates))
            }
            DefaultAllocation::Static => match candidates.as_slice() {
                [] => None,
                [only] => Some(*only),
                several => {
                    return Choice::Nothing(format!(
                        "allocation policy static needs exactly one candidate hub, and there are {}",
                        several.len()
                    ));
                }
            },
        };
        hub.map_or_else(
            || Choice::Nothing("no linked hub takes part in allocation policies".to_owned()),
            |hub| Choice::Hub(&hub.host_name),
        )
    }

    /// The hubs from which a webhook may choose; only `kept` if the device has to keep that hub.
    pub(crate) fn offered(&self, kept: Option<&str>, linked: &[Hub]) -> Vec<String> {
        let hubs = if self.named.is_empty() { linked } else { &self.named };
        match kept {
            Some(hub) => vec![hub.to_owned()],
            None => hubs.iter().map(|hub| hub.host_name.clone()).collect(),
        }
    }
}

const HUBS_NEED_A_POLICY: &str = "Enrollment allocationPolicy must be specified when iotHubs are specified.";

fn read_custom(definition: &Value) -> Result<Policy, Refusal> {
    let member = |name: &str| {
        definition[name].as_str().filter(|text| !text.is_empty()).ok_or_else(|| {
            Refusal::invalid(format!("allocationPolicy custom needs customAllocationDefinition.{name}"))
        })
    };
    let webhook_url = member("webhookUrl")?.to_owned();
    member("apiVersion")?;
    Ok(Policy::Custom { webhook_url })
}

fn linked_hub(member: &str, hub: &str, linked: &[Hub]) -> Result<Hub, Refusal> {
    linked
        .iter()
        .find(|linked| linked.host_name.eq_ignore_ascii_case(hub))
        .cloned()
        .ok_or_else(|| Refusal::invalid(format!("{member}: hub {hub} is not linked")))
}

/// Weighted rendezvous hashing: every candidate gets a score from a hash of its name and the id, and the
/// highest score wins. A score depends on no other hub, so a linked or unlinked hub moves no device between
/// the others. If all weights are 0, they count as equal.
fn rendezvous<'a>(registration_id: &str, candidates: &[&'a Hub]) -> Option<&'a Hub> {
    let weightless = candidates.iter().all(|hub| hub.weight == 0);
    let score = |hub: &Hub| {
        let mut hash = Sha256::new();
        hash.update(registration_id.to_ascii_lowercase());
        hash.update(b"\n");
        hash.update(hub.host_name.to_ascii_lowercase());
        let top = hash.finalize().iter().take(6).fold(0.0, |sum, byte| sum * 256.0 + f64::from(*byte));
        // The hash is uniform in (0, 1). Dividing the weight by its negative logarithm makes the chance of
        // the highest score proportional to the weight.
        let even = (top + 0.5) / 256_f64.powi(6);
        f64::from(if weightless { 1 } else { hub.weight }) / -even.ln()
    };
    candidates.iter().copied().max_by(|a, b| score(a).total_cmp(&score(b)))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use crate::json::json;

    use super::*;

    #[test]
    fn each_member_without_effect_is_named() {
        let ignored = |given: Value| Allocation::ignored(given.as_object().unwrap());
        let definition = json!({"webhookUrl": "https://a.example", "apiVersion": "v"});
        let custom =
            json!({"allocationPolicy": "custom", "customAllocationDefinition": (definition.clone())});

        assert_eq!(ignored(custom), None);
        let both = json!({"iotHubs": ["a"], "iotHubHostName": "b", "customAllocationDefinition": definition});
        let both = ignored(both).unwrap();
        assert!(
            both.contains("customAllocationDefinition has") && both.contains("; iotHubHostName has"),
            "{both}"
        );
    }

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
    fn a_new_hub_gets_some_devices_and_no_other_device_moves() {
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
        let hubs: Vec<String> =
            (0..10_000).map(|n| hub_of(&allocation, &format!("device-{n}"), &linked)).collect();

        let of_second = hubs.iter().filter(|hub| *hub == "hub-2.example").count();

        assert!((7350..=7650).contains(&of_second), "3 of 4, give or take 2 %: {of_second}");
        assert!(!hubs.iter().any(|hub| hub == "hub-3.example"), "weight 0");
        assert_eq!(hub_of(&allocation, "d", &linked[2..]), "hub-3.example", "the only one");
    }

    #[test]
    fn candidates_are_the_hubs_of_the_enrollment() {
        let linked = hubs(3);

        for (enrollment, wanted) in [
            (json!({"allocationPolicy": "static", "iotHubs": ["HUB-2.example"]}), "hub-2.example"),
            (json!({"allocationPolicy": "static", "iotHubHostName": "hub-3.example"}), "hub-3.example"),
            (json!({"allocationPolicy": "hashed", "iotHubHostName": "hub-3.example"}), "hub-3.example"),
            (json!({"iotHubHostName": "hub-3.example"}), "hub-3.example"),
            (json!({"allocationPolicy": "geoLatency", "iotHubs": ["hub-2.example"]}), "hub-2.example"),
        ] {
            assert_eq!(hub_of(&allocation(enrollment.clone()), "dev1", &linked), wanted, "{enrollment}");
        }
    }

    #[test]
    fn a_hub_for_named_use_only_gets_devices_only_where_it_is_named() {
        let mut linked = hubs(2);
        linked[0].named_only = true;
        let named = json!({"allocationPolicy": "hashed", "iotHubs": ["hub-1.example"]});
        let named = Allocation::read(named.as_object().unwrap(), &linked).unwrap();

        assert!(
            (0..100).all(|n| hub_of(&allocation(json!({})), &format!("d{n}"), &linked) == "hub-2.example")
        );
        assert_eq!(hub_of(&named, "d", &linked), "hub-1.example");
        assert_eq!(allocation(json!({})).offered(None, &linked), ["hub-1.example", "hub-2.example"]);
        let open = allocation(json!({}));
        let nothing = open.choose("d", None, &Rules::default(), &linked[..1]);
        assert!(matches!(nothing, Choice::Nothing(_)), "{nothing:?}");
    }

    #[test]
    fn an_enrollment_without_a_policy_follows_the_instance() {
        let linked = hubs(2);
        let rules = |policy| Rules { policy, ..Rules::default() };
        let (open, pinned) = (allocation(json!({})), allocation(json!({"iotHubHostName": "hub-2.example"})));

        assert!(matches!(open.choose("d", None, &rules(DefaultAllocation::Hashed), &linked), Choice::Hub(_)));
        let nothing = open.choose("d", None, &rules(DefaultAllocation::Static), &linked);
        assert_eq!(
            nothing,
            Choice::Nothing(
                "allocation policy static needs exactly one candidate hub, and there are 2".into()
            )
        );
        let only = pinned.choose("d", None, &rules(DefaultAllocation::Static), &linked);
        assert_eq!(only, Choice::Hub("hub-2.example"));
    }

    #[test]
    fn the_nearest_hub_is_in_the_region_with_the_lowest_latency() {
        let linked: Vec<Hub> =
            [("west-1", "WestEurope"), ("west-2", "westeurope"), ("east", "eastus"), ("none", "")]
                .map(|(name, region)| Hub {
                    region: Some(region.to_owned()).filter(|r| !r.is_empty()),
                    ..Hub::new(name)
                })
                .into();
        let mut rules = Rules { policy: DefaultAllocation::GeoLatency, ..Rules::default() };
        let hubs_of = |rules: &Rules, prefix: &str| {
            let allocation = allocation(json!({}));
            let ids = (0..200).map(|n| format!("{prefix}{n}"));
            let choice = |id: String| match allocation.choose(&id, None, rules, &linked) {
                Choice::Hub(hub) => hub.to_owned(),
                other => panic!("{other:?}"),
            };
            ids.map(choice).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
        };
        assert_eq!(hubs_of(&rules, "berlin-"), ["east", "none", "west-1", "west-2"], "nothing is known");

        rules.latencies.set("Berlin-*", [("westeurope".into(), 12), ("EastUS".into(), 95)]);
        rules.latencies.set("*", [("eastus".into(), 20)]);
        rules.latencies.set("berlin-7", [("eastus".into(), 1)]);

        assert_eq!(hubs_of(&rules, "BERLIN-x"), ["west-1", "west-2"], "the nearest ones share");
        assert_eq!(hubs_of(&rules, "boston-"), ["east"], "the rest");
        let one = allocation(json!({})).choose("berlin-7", None, &rules, &linked) == Choice::Hub("east");
        assert!(one, "a whole id comes before the beginning of one");
    }

    #[test]
    fn a_webhook_chooses_among_the_named_hubs() {
        let definition = json!({"webhookUrl": "http://x/y?code=z", "apiVersion": "2021-10-01"});
        let custom = allocation(json!({
            "allocationPolicy": "custom", "customAllocationDefinition": definition, "iotHubs": ["hub-2.example"],
        }));

        let (rules, linked) = (Rules::default(), hubs(3));
        let choice = custom.choose("d", None, &rules, &linked);

        assert_eq!(choice, Choice::Webhook("http://x/y?code=z"));
        assert_eq!(custom.offered(None, &hubs(3)), ["hub-2.example"]);
        assert_eq!(custom.offered(Some("hub-3.example"), &hubs(3)), ["hub-3.example"]);
        let kept = Some("hub-3.example");
        assert_eq!(custom.choose("d", kept, &Rules::default(), &hubs(3)), choice);
        assert_eq!(
            allocation(json!({})).choose("d", kept, &Rules::default(), &[]),
            Choice::Hub("hub-3.example")
        );
    }

    #[test]
    fn impossible_policies_are_refused() {
        for (enrollment, message) in [
            (
                json!({"allocationPolicy": "hashed", "iotHubs": ["hub-9.example"]}),
                "iotHubs: hub hub-9.example is not linked",
            ),
            (json!({"iotHubs": ["hub-1.example"]}), HUBS_NEED_A_POLICY),
            (json!({"iotHubHostName": "x"}), "iotHubHostName: hub x is not linked"),
            (
                json!({"allocationPolicy": "static", "iotHubs": ["hub-1.example", "hub-2.example"]}),
                "allocationPolicy static takes one hub in iotHubs at most",
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
        match allocation.choose(id, None, &Rules::default(), linked) {
            Choice::Hub(hub) => hub.to_owned(),
            other => panic!("{other:?}"),
        }
    }

    fn hubs(count: usize) -> Vec<Hub> {
        (1..=count).map(|n| Hub::new(format!("hub-{n}.example"))).collect()
    }
}
