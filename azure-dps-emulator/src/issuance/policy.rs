//! Certificate policies: how long certificates live, for which keys they are issued, and whether the chain
//! has the root.

use std::fmt;

use crate::call::schema::{is_namespace, is_policy_name};
use crate::crypto::csr::KeyType;
use crate::json::{Value, json};
use crate::report;

/// A certificate policy, to which enrollments refer by the names of its namespace, its certificate authority
/// and itself.
///
/// # Examples
///
/// ```
/// use azure_dps_emulator::{CertificatePolicy, KeyType};
///
/// # fn main() -> Result<(), azure_dps_emulator::CertificatePolicyError> {
/// let policy = CertificatePolicy::new("plant-north", "plant-ca", "sensors")?
///     .with_days(7)?
///     .with_key_types([KeyType::P384])?
///     .with_root();
///
/// assert_eq!(policy.to_string(), "plant-north/plant-ca/sensors");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificatePolicy {
    pub(crate) namespace: String,
    pub(crate) authority: String,
    pub(crate) name: String,
    pub(crate) days: u32,
    pub(crate) key_types: Vec<KeyType>,
    pub(crate) with_root: bool,
}

impl CertificatePolicy {
    /// A policy for certificates of all key types that live 30 days and come without the root.
    ///
    /// # Errors
    /// [`CertificatePolicyError::Name`] if a name breaks the rules of Azure Device Registry: a namespace has
    /// 3 to 64 lower-case letters, digits and inner dashes; an authority and a policy have 3 to 63 letters,
    /// digits and dashes, and do not begin with a dash.
    pub fn new(
        namespace: impl Into<String>,
        authority: impl Into<String>,
        policy: impl Into<String>,
    ) -> Result<Self, CertificatePolicyError> {
        let (namespace, authority, name) = (namespace.into(), authority.into(), policy.into());
        let checked = [
            ("namespace", &namespace, is_namespace as fn(&str) -> bool),
            ("certificate authority", &authority, is_policy_name),
            ("certificate policy", &name, is_policy_name),
        ];
        if let Some((kind, name, _)) = checked.into_iter().find(|(_, name, is_good)| !is_good(name)) {
            return Err(CertificatePolicyError::Name { kind, name: name.clone() });
        }
        let key_types = KeyType::ALL.to_vec();
        Ok(CertificatePolicy { namespace, authority, name, days: 30, key_types, with_root: false })
    }

    /// Sets how long certificates live, in days.
    ///
    /// # Errors
    /// [`CertificatePolicyError::Days`] for less than 7 or more than 90 days.
    pub fn with_days(self, days: u32) -> Result<Self, CertificatePolicyError> {
        match days {
            7..=90 => Ok(CertificatePolicy { days, ..self }),
            _ => Err(CertificatePolicyError::Days(days)),
        }
    }

    /// Sets for which keys certificates are issued. Requests with other keys are refused.
    ///
    /// # Errors
    /// [`CertificatePolicyError::NoKeyType`] if there are none.
    pub fn with_key_types(
        self,
        key_types: impl IntoIterator<Item = KeyType>,
    ) -> Result<Self, CertificatePolicyError> {
        let given: Vec<KeyType> = key_types.into_iter().collect();
        let key_types: Vec<_> = KeyType::ALL.into_iter().filter(|known| given.contains(known)).collect();
        match key_types.as_slice() {
            [] => Err(CertificatePolicyError::NoKeyType),
            _ => Ok(CertificatePolicy { key_types, ..self }),
        }
    }

    /// Puts the root into the chains, behind the intermediate.
    #[must_use]
    pub fn with_root(self) -> Self {
        CertificatePolicy { with_root: true, ..self }
    }

    /// Returns whether these are its names. Only those of namespaces are always in lower case.
    pub(crate) fn is(&self, namespace: &str, authority: &str, name: &str) -> bool {
        self.namespace == namespace && self.authority.eq_ignore_ascii_case(authority) && self.is_named(name)
    }

    pub(crate) fn is_named(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "namespaceName": self.namespace,
            "certificateAuthorityName": self.authority,
            "certificatePolicyName": self.name,
            "days": self.days,
            "keys": self.key_types.iter().map(|key_type| key_type.word().into()).collect::<Vec<Value>>(),
            "root": self.with_root,
        })
    }
}

/// The three names with slashes between them.
impl fmt::Display for CertificatePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.authority, self.name)
    }
}

/// Why a certificate policy cannot be used. `{:?}` is the message, and `{:#?}` shows the structure.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificatePolicyError {
    /// A name breaks the rules of Azure Device Registry.
    #[error(
        "`{name}` cannot be the name of a {kind}: a namespace has 3 to 64 lower-case letters, digits and inner \
         dashes; an authority and a policy have 3 to 63 letters, digits and dashes, and do not begin with a dash"
    )]
    Name {
        /// What the name is for: `namespace`, `certificate authority` or `certificate policy`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// The lifetime is out of range.
    #[error("certificates cannot live {0} days: a certificate policy allows 7 to 90")]
    Days(u32),
    /// No key type is allowed.
    #[error("a certificate policy needs at least one key type: p384, p256 or rsa")]
    NoKeyType,
}

impl fmt::Debug for CertificatePolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        report::debug(f, self, |f| match self {
            Self::Name { kind, name } => {
                f.debug_struct("Name").field("kind", kind).field("name", name).finish()
            }
            Self::Days(days) => f.debug_tuple("Days").field(days).finish(),
            Self::NoKeyType => f.write_str("NoKeyType"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_days_are_checked() {
        for names in
            [["ab", "abc", "abc"], ["ABC", "abc", "abc"], ["abc", "-bc", "abc"], ["abc", "abc", "a_c"]]
        {
            let [namespace, authority, policy] = names;
            let error = CertificatePolicy::new(namespace, authority, policy).unwrap_err();
            assert!(matches!(error, CertificatePolicyError::Name { .. }), "{names:?}: {error}");
        }
        let policy = CertificatePolicy::new("abc", "Abc", "Abc").unwrap();
        for days in [0, 6, 91, u32::MAX] {
            assert_eq!(policy.clone().with_days(days), Err(CertificatePolicyError::Days(days)));
        }
        assert_eq!(policy.clone().with_days(90).unwrap().days, 90);
        assert_eq!(policy.clone().with_key_types([]), Err(CertificatePolicyError::NoKeyType));
        let keys = policy.clone().with_key_types([KeyType::Rsa, KeyType::P384, KeyType::Rsa]).unwrap();
        assert_eq!(keys.key_types, [KeyType::P384, KeyType::Rsa]);
        assert!(policy.is("abc", "ABC", "aBC") && !policy.is("abd", "abc", "abc"));
    }
}
