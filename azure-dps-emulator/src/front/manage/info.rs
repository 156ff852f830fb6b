//! How clients connect: the addresses, the id scope and the connection strings, with the names of the ready
//! line.

use crate::front::addresses::Addresses;
use crate::instance::Instance;
use crate::json::{Map, Value, json};

/// `GET /info`.
pub(super) fn to_json(addresses: &Addresses, needs_token: bool, instance: &Instance) -> Value {
    let settings = instance.settings();
    let policies = instance.policies();
    let of_policies = policies.iter().map(|policy| (policy.name.clone(), addresses.of_policy(policy).into()));
    let hubs = settings.enrolling.hubs.iter().map(|hub| &hub.host_name);
    let of_hubs = hubs.clone().map(|hub| (hub.clone(), addresses.of_hub(hub).into()));
    let at = |port| addresses.at(port);
    json!({
        "version": (env!("CARGO_PKG_VERSION")),
        "idScope": settings.id_scope,
        "serviceConnectionString": (policies.first().map(|policy| addresses.of_policy(policy))),
        "endpoints": {
            "https": (at(addresses.ports.https)),
            "mqtt": (at(addresses.ports.mqtt)),
            "amqp": (at(addresses.ports.amqp)),
            "manage": addresses.manage_url,
        },
        "manageNeedsToken": needs_token,
        "hubs": (hubs.cloned().collect::<Vec<String>>()),
        "hubConnectionStrings": (of_hubs.collect::<Map>()),
        "policyConnectionStrings": (of_policies.collect::<Map>()),
    })
}
