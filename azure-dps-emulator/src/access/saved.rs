//! The saved form of access policies and of the roles of principals.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::access::Gate;
use crate::access::entra::EntraRole;
use crate::access::policy::{AccessPolicy, POLICY_NAME, Policy};
use crate::access::right::Right;
use crate::shown_name::shown;

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SavedGate {
    policies: Vec<SavedPolicy>,
    /// `reader` or `contributor` by the object ids of principals.
    roles: BTreeMap<String, String>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SavedPolicy {
    name: String,
    rights: Vec<String>,
    #[serde(with = "crate::saved::bytes")]
    primary_key: Vec<u8>,
    #[serde(with = "crate::saved::bytes")]
    secondary_key: Vec<u8>,
}

impl Gate {
    pub(crate) fn saved(&self) -> SavedGate {
        let policies = self.policies.iter().map(|policy| SavedPolicy {
            name: policy.name.clone(),
            rights: policy.rights.iter().map(|right| right.as_str().to_owned()).collect(),
            primary_key: policy.primary.clone(),
            secondary_key: policy.secondary.clone(),
        });
        let roles = self.roles.iter().map(|(principal, role)| (principal.to_owned(), word(role).to_owned()));
        SavedGate { policies: policies.collect(), roles: roles.collect() }
    }

    /// # Errors
    /// Says which policy or role breaks which rule of a start.
    pub(crate) fn restored(saved: &SavedGate) -> Result<Self, String> {
        let mut gate = Gate::default();
        for SavedPolicy { name, rights, primary_key, secondary_key } in &saved.policies {
            if gate.policies.iter().any(|known| known.name == *name) {
                return Err(format!("policy {} is there twice", shown(name)));
            }
            let known = |word: &String| Right::ALL.into_iter().find(|right| right.as_str() == word);
            let rights: Option<Vec<Right>> = rights.iter().map(known).collect();
            let rights =
                rights.ok_or_else(|| format!("policy {} has a right that is not known", shown(name)))?;
            let policy = Policy {
                name: name.clone(),
                rights,
                primary: primary_key.clone(),
                secondary: secondary_key.clone(),
            };
            gate.policies.push(AccessPolicy::from(&policy).resolve_keys().map_err(|why| why.to_string())?);
        }
        if gate.policies.first().is_none_or(|policy| policy.name != POLICY_NAME) {
            return Err(format!("the first policy is not {POLICY_NAME}"));
        }
        for (principal, role) in &saved.roles {
            let role = [EntraRole::DataReader, EntraRole::DataContributor]
                .into_iter()
                .find(|known| word(*known) == *role)
                .ok_or_else(|| format!("principal {} has a role that is not known", shown(principal)))?;
            gate.roles.assign(principal, role);
        }
        Ok(gate)
    }
}

fn word(role: EntraRole) -> &'static str {
    match role {
        EntraRole::DataReader => "reader",
        EntraRole::DataContributor => "contributor",
    }
}
