//! The reference of an enrollment to a certificate policy.
//!
//! | members | reference |
//! | --- | --- |
//! | `namespaceName`, `certificateAuthorityName`, `certificatePolicyName` | to the policy with these names |
//! | one or two of these | partial: an enrollment with it is refused, unless the emulator is loose |
//! | `credentialPolicyName` alone | to the first policy with this name, in any namespace and authority |
//! | none of all four | none |

use crate::issuance::policy::CertificatePolicy;
use crate::json::{Map, Value};
use crate::refusal::Refusal;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reference<'a> {
    None,
    Policy {
        namespace: &'a str,
        authority: &'a str,
        name: &'a str,
    },
    Credential(&'a str),
    /// The first member that is missing.
    Partial {
        missing: &'static str,
    },
}

impl<'a> Reference<'a> {
    /// Reads the members of an enrollment.
    pub(crate) fn read(members: &'a Map) -> Self {
        let text = |name| members.get(name).and_then(Value::as_str);
        match NAMES.map(text) {
            [Some(namespace), Some(authority), Some(name)] => {
                Reference::Policy { namespace, authority, name }
            }
            [None, None, None] => text(CREDENTIAL).map_or(Reference::None, Reference::Credential),
            given => {
                let missing = NAMES.into_iter().zip(given).find(|(_, given)| given.is_none());
                Reference::Partial { missing: missing.map_or("", |(name, _)| name) }
            }
        }
    }

    /// Refuses a partial reference.
    pub(crate) fn check(self) -> Result<(), Refusal> {
        match self {
            Reference::Partial { missing } => {
                let message = format!("{missing} is missing: {} belong together", NAMES.join(", "));
                Err(Refusal::invalid(message))
            }
            _ => Ok(()),
        }
    }

    /// The policy that it refers to.
    ///
    /// # Errors
    /// Says why there is none, for the journal.
    pub(crate) fn find(self, policies: &[CertificatePolicy]) -> Result<&CertificatePolicy, String> {
        let (found, wanted) = match self {
            Reference::None => return Err("the enrollment names no certificate policy".to_owned()),
            Reference::Partial { missing } => {
                return Err(format!(
                    "the certificate policy of the enrollment is incomplete: {missing} is missing"
                ));
            }
            Reference::Policy { namespace, authority, name } => {
                let found = policies.iter().find(|policy| policy.is(namespace, authority, name));
                (found, format!("{namespace}/{authority}/{name}"))
            }
            Reference::Credential(name) => {
                (policies.iter().find(|policy| policy.is_named(name)), name.to_owned())
            }
        };
        found.ok_or_else(|| {
            let known: Vec<_> = policies.iter().take(MOST_NAMED).map(CertificatePolicy::to_string).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            format!("the emulator has no certificate policy {wanted}; it has {known}")
        })
    }
}

const NAMES: [&str; 3] = ["namespaceName", "certificateAuthorityName", "certificatePolicyName"];
const CREDENTIAL: &str = "credentialPolicyName";
/// The most policies that a message names.
const MOST_NAMED: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;

    #[test]
    fn a_reference_is_whole_partial_or_absent() {
        let policies = [
            CertificatePolicy::new("abc", "first", "short").unwrap(),
            CertificatePolicy::new("abc", "second", "short").unwrap(),
        ];
        let names = |namespace, authority, name| {
            json!({
                "namespaceName": namespace, "certificateAuthorityName": authority, "certificatePolicyName": name,
            })
        };
        for (members, wanted) in [
            (names("abc", "SECOND", "Short"), Ok("abc/second/short")),
            (json!({"credentialPolicyName": "SHORT"}), Ok("abc/first/short")),
            (
                names("abc", "third", "short"),
                Err(
                    "the emulator has no certificate policy abc/third/short; it has abc/first/short, abc/second/short",
                ),
            ),
            (
                json!({"credentialPolicyName": "long"}),
                Err("the emulator has no certificate policy long; it has abc/first/short, abc/second/short"),
            ),
            (
                json!({"namespaceName": "abc", "certificatePolicyName": "short", "credentialPolicyName": "short"}),
                Err(
                    "the certificate policy of the enrollment is incomplete: certificateAuthorityName is missing",
                ),
            ),
            (json!({}), Err("the enrollment names no certificate policy")),
        ] {
            let found = Reference::read(members.as_object().unwrap()).find(&policies);
            assert_eq!(found.map(ToString::to_string), wanted.map(str::to_owned).map_err(str::to_owned));
        }
        let none = Reference::Credential("a").find(&[]).unwrap_err();
        assert_eq!(none, "the emulator has no certificate policy a; it has none");
    }
}
