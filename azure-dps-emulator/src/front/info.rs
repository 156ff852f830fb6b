//! How clients connect: the addresses, the id scope and the connection strings, as the ready line and `GET /info`
//! show them.

use std::path::Path;

use crate::front::addresses::Addresses;
use crate::instance::Instance;
use crate::json::{Map, Value, json};

/// `GET /info`.
pub(super) fn of_management(addresses: &Addresses, needs_token: bool, instance: &Instance) -> Value {
    let version = member("version", env!("CARGO_PKG_VERSION"));
    let needs_token = member("manageNeedsToken", needs_token);
    let members = [version].into_iter().chain(shared(addresses, instance)).chain([needs_token]);
    Value::Object(members.collect())
}

/// The one line on stdout. It has the connection strings of the policies if there are several.
pub(crate) fn ready_line(addresses: &Addresses, ca_file: &Path, instance: &Instance) -> String {
    let [id_scope, service, endpoints, hubs, of_hubs, of_policies] = shared(addresses, instance);
    let ca_file = member("caFile", ca_file.to_string_lossy().as_ref());
    let of_several = Some(of_policies).filter(|_| instance.policies().len() > 1);
    let members = [member("event", "ready"), id_scope, service, ca_file, endpoints, hubs, of_hubs];
    Value::Object(members.into_iter().chain(of_several).collect()).to_string()
}

fn shared(addresses: &Addresses, instance: &Instance) -> [(String, Value); 6] {
    let settings = instance.settings();
    let policies = instance.policies();
    let of_policies = policies.iter().map(|policy| (policy.name.clone(), addresses.of_policy(policy).into()));
    let hubs = settings.enrolling.hubs.iter().map(|hub| &hub.host_name);
    let of_hubs = hubs.clone().map(|hub| (hub.clone(), addresses.of_hub(hub).into()));
    let ports = addresses.ports;
    let endpoints = [("https", ports.https), ("mqtt", ports.mqtt), ("amqp", ports.amqp)];
    let endpoints = endpoints.map(|(front, port)| member(front, addresses.at(port)));
    let manage = addresses.manage_url.as_deref().map(|url| member("manage", url));
    [
        member("idScope", settings.id_scope.as_str()),
        member("serviceConnectionString", json!(policies.first().map(|policy| addresses.of_policy(policy)))),
        member("endpoints", Value::Object(endpoints.into_iter().chain(manage).collect())),
        member("hubs", hubs.cloned().collect::<Value>()),
        member("hubConnectionStrings", Value::Object(of_hubs.collect())),
        member("policyConnectionStrings", Value::Object(of_policies.collect::<Map>())),
    ]
}

fn member(name: &str, value: impl Into<Value>) -> (String, Value) {
    (name.to_owned(), value.into())
}
