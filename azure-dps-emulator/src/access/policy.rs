//! Shared access policies: a name, two keys, and rights.

use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine};

use crate::access::right::Right;
use crate::crypto::base64_text::{self, NotBase64};
use crate::crypto::key::generate_key;
use crate::report;
use crate::shown_name::shown;

/// A shared access policy: a name, two equivalent keys, and rights.
///
/// The start generates keys that are not set;
/// [`Emulator::connection_string`](crate::Emulator::connection_string) has the primary key. `Debug` does not
/// show keys.
///
/// # Examples
///
/// ```
/// use azure_dps_emulator::{AccessPolicy, Emulator, Right};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), azure_dps_emulator::StartError> {
/// let reader = AccessPolicy::new("reader", [Right::EnrollmentRead, Right::RegistrationStatusRead]);
/// let emulator = Emulator::builder().access_policy(reader).start().await?;
///
/// let connection_string = emulator.connection_string("reader").unwrap();
/// assert!(connection_string.contains(";SharedAccessKeyName=reader;SharedAccessKey="));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct AccessPolicy {
    name: String,
    rights: Vec<Right>,
    primary: Option<String>,
    secondary: Option<String>,
}

impl AccessPolicy {
    /// A policy with these rights. Its name has at least one character: letters, digits, `-`, `_` and `.`.
    pub fn new(name: impl Into<String>, rights: impl IntoIterator<Item = Right>) -> Self {
        AccessPolicy {
            name: name.into(),
            rights: rights.into_iter().collect(),
            primary: None,
            secondary: None,
        }
    }

    /// Sets the primary key, in base64; by default the start generates a key of 32 bytes.
    #[must_use]
    pub fn with_primary_key(mut self, base64: impl Into<String>) -> Self {
        self.primary = Some(base64.into());
        self
    }

    /// Sets the secondary key, in base64; by default the start generates a key of 32 bytes.
    #[must_use]
    pub fn with_secondary_key(mut self, base64: impl Into<String>) -> Self {
        self.secondary = Some(base64.into());
        self
    }

    /// Returns whether this is the policy that exists without any setting.
    pub(crate) fn is_default(&self) -> bool {
        *self == default_policy()
    }

    /// Takes the keys that are not set from another policy.
    pub(crate) fn complete(&mut self, other: &Policy) {
        self.primary.get_or_insert_with(|| BASE64_STANDARD.encode(&other.primary));
        self.secondary.get_or_insert_with(|| BASE64_STANDARD.encode(&other.secondary));
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The policy with both keys.
    pub(crate) fn resolve_keys(self) -> Result<Policy, InvalidPolicy> {
        let AccessPolicy { name, rights, primary, secondary } = self;
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(InvalidPolicy::Name(name));
        }
        let key = |which: &'static str, given: Option<String>| {
            key(given).map_err(|why| InvalidPolicy::Key { policy: name.clone(), key: which, why })
        };
        let (primary, secondary) = (key("primary", primary)?, key("secondary", secondary)?);
        Ok(Policy { name, primary, secondary, rights })
    }
}

/// Decodes a key, or generates one if it is not set.
fn key(given: Option<String>) -> Result<Vec<u8>, PolicyKeyFault> {
    let Some(text) = given else { return generate_key().map_err(|_| PolicyKeyFault::NotGenerated) };
    match base64_text::decode(&text) {
        Ok(key) if key.is_empty() => Err(PolicyKeyFault::Empty),
        Ok(key) => Ok(key),
        Err(why) => Err(PolicyKeyFault::NotBase64(why)),
    }
}

impl From<&Policy> for AccessPolicy {
    fn from(policy: &Policy) -> Self {
        let mut given = AccessPolicy::new(&policy.name, policy.rights.iter().copied());
        given.complete(policy);
        given
    }
}

impl fmt::Debug for AccessPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessPolicy")
            .field("name", &self.name)
            .field("rights", &self.rights)
            .finish_non_exhaustive()
    }
}

/// Why an access policy cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidPolicy {
    /// The name is empty or has characters other than ASCII letters, digits, `-`, `_` and `.`.
    #[error("{}", invalid_name(.0))]
    Name(String),
    /// One of the keys cannot be used. The key is not shown.
    #[error("{}", invalid_key(policy, key, *why))]
    Key { policy: String, key: &'static str, why: PolicyKeyFault },
}

/// Why a key of an access policy cannot be used. `{:?}` is the message, and `{:#?}` shows the structure.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyKeyFault {
    /// The text is not base64 of the standard alphabet with padding.
    #[error("is not base64: {0}; give one such as the output of `openssl rand -base64 32`")]
    NotBase64(NotBase64),
    /// The text decodes to no bytes.
    #[error("is empty; give one such as the output of `openssl rand -base64 32`")]
    Empty,
    /// The system did not return random bytes for a new key.
    #[error("could not be generated, because the system gives no random bytes")]
    NotGenerated,
}

impl fmt::Debug for PolicyKeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        report::debug(f, self, |f| match self {
            Self::NotBase64(why) => f.debug_tuple("NotBase64").field(why).finish(),
            Self::Empty => f.write_str("Empty"),
            Self::NotGenerated => f.write_str("NotGenerated"),
        })
    }
}

pub(crate) fn invalid_name(name: &str) -> String {
    format!(
        "`{}` cannot be the name of an access policy: it can have only ASCII letters, digits, `-`, `_` and `.`",
        shown(name)
    )
}

pub(crate) fn invalid_key(policy: &str, key: &str, why: PolicyKeyFault) -> String {
    format!("the {key} key of policy `{}` {why}", shown(policy))
}

/// A policy with both keys.
#[derive(Clone)]
pub(crate) struct Policy {
    pub(crate) name: String,
    pub(crate) primary: Vec<u8>,
    pub(crate) secondary: Vec<u8>,
    pub(crate) rights: Vec<Right>,
}

pub(crate) fn default_policy() -> AccessPolicy {
    AccessPolicy::new(POLICY_NAME, Right::ALL)
        .with_primary_key(BASE64_STANDARD.encode(DEFAULT_PRIMARY_KEY))
        .with_secondary_key(BASE64_STANDARD.encode(DEFAULT_SECONDARY_KEY))
}

pub(crate) const POLICY_NAME: &str = "provisioningserviceowner";
pub(crate) const DEFAULT_PRIMARY_KEY: &[u8; 32] = b"this-emulator-key-protects-none!";
pub(crate) const DEFAULT_SECONDARY_KEY: &[u8; 32] = b"this-emulator-key-is-the-second!";
