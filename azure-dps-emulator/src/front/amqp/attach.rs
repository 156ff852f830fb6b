//! Attaches: reads the device and the api-version that they name, and completes or refuses incomplete ones.
//!
//! | from the client | then |
//! | --- | --- |
//! | a receiver without a target, a sender without a source | gets an empty one: clients name one end only |
//! | no address at the end of the service | refused |
//! | a `dynamic` end, or properties of one | refused |
//! | a sender without an initial delivery count | refused |
//! | anything else | unchanged |

use fe2o3_amqp::types::definitions::Role;
use fe2o3_amqp::types::messaging::{Source, Target, TargetArchetype};
use fe2o3_amqp::types::performatives::Attach;
use fe2o3_amqp::types::primitives::{Symbol, Value};

/// The address at the service's end of the link.
pub(super) fn address(attach: &Attach) -> Option<&str> {
    match attach.role {
        Role::Receiver => attach.source.as_ref()?.address.as_deref(),
        Role::Sender => match attach.target.as_deref()? {
            TargetArchetype::Target(target) => target.address.as_deref(),
        },
    }
}

/// Says which address is missing.
pub(super) fn missing_address(attach: &Attach) -> &'static str {
    match (&attach.role, &attach.source, &attach.target) {
        (Role::Receiver, None, _) => "the link has no source, which names the device for a receiver",
        (Role::Sender, _, None) => "the link has no target, which names the device for a sender",
        (Role::Receiver, ..) => "the source of the link has no address",
        (Role::Sender, ..) => "the target of the link has no address",
    }
}

pub(super) fn api_version(attach: &Attach) -> Option<String> {
    match attach.properties.as_ref()?.get(&Symbol::from(API_VERSION))? {
        Value::String(version) => Some(version.clone()),
        Value::Symbol(version) => Some(version.as_str().to_owned()),
        _ => None,
    }
}

/// Adds a missing end on the client's side.
///
/// # Errors
/// Says why the link cannot be attached.
pub(super) fn complete(mut attach: Attach) -> Result<Attach, &'static str> {
    let source = attach.source.get_or_insert_with(Box::<Source>::default);
    let target = attach.target.get_or_insert_with(|| Box::new(TargetArchetype::Target(Target::default())));
    let TargetArchetype::Target(target) = target.as_ref();
    if source.dynamic || target.dynamic {
        return Err("the service makes no dynamic source or target");
    }
    if source.dynamic_node_properties.is_some() || target.dynamic_node_properties.is_some() {
        return Err("there are properties of a dynamic node, and the node is not dynamic");
    }
    if attach.role == Role::Sender && attach.initial_delivery_count.is_none() {
        return Err("a sender has to name its initial-delivery-count");
    }
    Ok(attach)
}

const API_VERSION: &str = "com.microsoft:api-version";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_end_on_the_clients_side_is_added() {
        for role in [Role::Receiver, Role::Sender] {
            let attach = complete(attach(&role)).unwrap();
            let missing = match role {
                Role::Receiver => attach.target.is_some(),
                Role::Sender => attach.source.is_some(),
            };
            assert!(missing, "{role:?}");
            assert_eq!(address(&attach), Some("0ne1/registrations/dev1"));
        }
    }

    #[test]
    fn a_refusal_says_why_a_link_cannot_be_attached() {
        let dynamic = Source { dynamic: true, ..Source::default() };
        let target = Target { dynamic: true, ..Target::default() };
        for (given, cause) in [
            (Attach { source: Some(dynamic.into()), ..attach(&Role::Sender) }, "no dynamic source"),
            (
                Attach { target: Some(Box::new(target.into())), ..attach(&Role::Receiver) },
                "no dynamic source or target",
            ),
            (Attach { initial_delivery_count: None, ..attach(&Role::Sender) }, "initial-delivery-count"),
        ] {
            let refused = complete(given).unwrap_err();
            assert!(refused.contains(cause), "{refused}");
        }
    }

    #[test]
    fn a_missing_address_names_the_end_that_should_have_it() {
        for role in [Role::Receiver, Role::Sender] {
            let end = if role == Role::Receiver { "source" } else { "target" };
            let nothing = Attach { source: None, target: None, ..attach(&role) };
            assert_eq!(address(&nothing), None);
            assert!(missing_address(&nothing).contains(&format!("the link has no {end}")));
            let source = Some(Box::<Source>::default());
            let target = Some(Box::new(TargetArchetype::from(Target::default())));
            let nameless = Attach { source, target, ..attach(&role) };
            assert_eq!(address(&nameless), None);
            assert_eq!(missing_address(&nameless), format!("the {end} of the link has no address"));
        }
    }

    /// An attach of a client that names only the end of the service.
    fn attach(role: &Role) -> Attach {
        let name = "0ne1/registrations/dev1";
        let source = Source { address: Some(name.into()), ..Source::default() };
        let target = Target { address: Some(name.into()), ..Target::default() };
        let is_receiver = *role == Role::Receiver;
        Attach {
            name: "link".into(),
            handle: 0.into(),
            role: role.clone(),
            snd_settle_mode: Default::default(),
            rcv_settle_mode: Default::default(),
            source: is_receiver.then(|| source.into()),
            target: (!is_receiver).then(|| Box::new(target.into())),
            unsettled: None,
            incomplete_unsettled: false,
            initial_delivery_count: (!is_receiver).then_some(0),
            max_message_size: None,
            offered_capabilities: None,
            desired_capabilities: None,
            properties: None,
        }
    }
}
