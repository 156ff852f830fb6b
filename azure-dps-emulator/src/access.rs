//! Authorization on the back-end API by shared access policies and their rights. [`crate::access::entra`]
//! judges principals of Microsoft Entra ID by their roles.

pub(crate) mod entra;
pub(crate) mod policy;
pub(crate) mod right;
pub(crate) mod saved;

use time::OffsetDateTime;

use crate::access::entra::Roles;
use crate::access::policy::Policy;
use crate::access::right::Need;
use crate::crypto::sas;
use crate::refusal::Refusal;

/// The policies and roles that admit requests to the back-end API.
#[derive(Clone, Default)]
pub(crate) struct Gate {
    pub(crate) policies: Vec<Policy>,
    pub(crate) roles: Roles,
}

impl Gate {
    /// The names of the policies that have one of these keys.
    pub(crate) fn policies_with(&self, keys: &[&[u8]]) -> Vec<&str> {
        let has_one =
            |policy: &&Policy| keys.iter().any(|key| policy.primary == *key || policy.secondary == *key);
        self.policies.iter().filter(has_one).map(|policy| policy.name.as_str()).collect()
    }

    /// Admits a request to `resource`, a host and path, if its credential permits what the request needs.
    pub(crate) fn admit(
        &self,
        authorization: Option<&str>,
        resource: &str,
        need: Need,
        now: OffsetDateTime,
    ) -> Result<(), Refusal> {
        if let Some(token) = authorization.and_then(entra::bearer) {
            return self.roles.admit(token, need, now);
        }
        let token = sas::service_token(authorization, resource, now)?;
        let name = token
            .policy
            .as_deref()
            .ok_or_else(|| Refusal::unauthorized("the token names no policy: skn is missing"))?;
        let policy = self.policies.iter().find(|policy| policy.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.policies.iter().map(|policy| policy.name.as_str()).collect();
            Refusal::unauthorized(format!("the token does not name one of the policies {}", names.join(", ")))
        })?;
        if !token.is_signed_by(&policy.primary) && !token.is_signed_by(&policy.secondary) {
            return Err(Refusal::wrong_key(format!("signature does not match the key of policy {name}")));
        }
        if need.rights().iter().any(|right| policy.rights.contains(right)) {
            return Ok(());
        }
        let wanted: Vec<&str> = need.rights().iter().map(|right| right.as_str()).collect();
        Err(Refusal::unauthorized(format!("policy {name} lacks the right {}", wanted.join(" or "))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::policy::InvalidPolicy;
    use crate::{AccessPolicy, Right};

    const EXPIRY: i64 = 1_767_225_600;
    const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    const TOKEN: &str = "SharedAccessSignature sr=contoso.azure-devices-provisioning.net&sig=7gy0cLu9iNmboNl5BSzaOjeoTAE%2FDcIEg6ezBhY7fnU%3D&se=1767225600&skn=owner";
    const RESOURCE: &str = "contoso.azure-devices-provisioning.net:443/enrollments/dev1";

    #[test]
    fn either_key_of_a_policy_is_accepted() {
        let policy = AccessPolicy::new("owner", Right::ALL);
        for policy in [policy.clone().with_primary_key(KEY), policy.clone().with_secondary_key(KEY)] {
            assert!(admit(policy, TOKEN, RESOURCE, Need::WriteEnrollments).is_ok());
        }
        let refusal = admit(policy, TOKEN, RESOURCE, Need::WriteEnrollments).unwrap_err();
        assert_eq!(
            (refusal.code, refusal.cause.as_str()),
            (401_002, "signature does not match the key of policy owner")
        );
    }

    #[test]
    fn a_token_is_for_its_host_and_names_a_policy() {
        let refusal = |token: &str, resource: &str| {
            let owner = AccessPolicy::new("owner", Right::ALL).with_primary_key(KEY);
            let refusal = admit(owner, token, resource, Need::ReadEnrollments).unwrap_err();
            (refusal.code, refusal.cause)
        };

        let elsewhere = refusal(TOKEN, "fabrikam.example/enrollments/dev1");
        assert_eq!(
            elsewhere,
            (401_000, "SAS audience does not cover fabrikam.example/enrollments/dev1".into())
        );
        let unnamed = refusal(&TOKEN.replace("&skn=owner", ""), RESOURCE);
        assert_eq!(unnamed, (401_000, "the token names no policy: skn is missing".into()));
        let stranger = refusal(&TOKEN.replace("skn=owner", "skn=Owner"), RESOURCE);
        assert_eq!(stranger, (401_000, "the token does not name one of the policies owner".into()));
    }

    #[test]
    fn every_need_has_its_right() {
        for (need, rights) in [
            (Need::ReadEnrollments, &[Right::EnrollmentRead][..]),
            (Need::ReadSecrets, &[Right::EnrollmentRead, Right::EnrollmentWrite]),
            (Need::WriteEnrollments, &[Right::EnrollmentWrite]),
            (Need::ReadRegistrations, &[Right::RegistrationStatusRead]),
            (Need::WriteRegistrations, &[Right::RegistrationStatusWrite]),
        ] {
            for right in Right::ALL {
                let policy = AccessPolicy::new("owner", [right]).with_primary_key(KEY);
                let admitted = admit(policy, TOKEN, RESOURCE, need);
                assert_eq!(admitted.is_ok(), rights.contains(&right), "{need:?} {right:?}");
                if let Err(refusal) = admitted {
                    let wanted: Vec<&str> = rights.iter().map(|right| right.as_str()).collect();
                    let wanted = format!("policy owner lacks the right {}", wanted.join(" or "));
                    assert_eq!((refusal.code, refusal.cause), (401_000, wanted));
                }
            }
        }
    }

    #[test]
    fn names_and_keys_must_be_usable() {
        for name in ["", "a b", "a;b", "a=b", "ä"] {
            let settled = AccessPolicy::new(name, []).resolve_keys();
            assert!(matches!(settled, Err(InvalidPolicy::Name(refused)) if refused == name));
        }
        for (key, why) in [
            ("", "is empty"),
            ("A%", "is not base64: there is '%' at position 2"),
            ("AAA", "is not base64: it is cut off, or has '=' in the middle"),
        ] {
            let keyed = |primary: &str, secondary: &str| {
                let policy =
                    AccessPolicy::new("a", []).with_primary_key(primary).with_secondary_key(secondary);
                policy.resolve_keys().map(|_| ()).unwrap_err().to_string()
            };
            let wanted = |which: &str| format!("the {which} key of policy `a` {why}; give one such as ");
            assert!(keyed(key, "AA==").starts_with(&wanted("primary")));
            assert!(keyed("AA==", key).starts_with(&wanted("secondary")));
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let shown = format!("{:?}", AccessPolicy::new("a", [Right::EnrollmentRead]).with_primary_key(KEY));
        assert!(shown.contains("EnrollmentRead") && !shown.contains(KEY), "{shown}");
    }

    fn admit(policy: AccessPolicy, token: &str, resource: &str, need: Need) -> Result<(), Refusal> {
        let gate = Gate { policies: vec![policy.resolve_keys().unwrap()], roles: Roles::default() };
        gate.admit(Some(token), resource, need, OffsetDateTime::from_unix_timestamp(EXPIRY).unwrap())
    }
}
