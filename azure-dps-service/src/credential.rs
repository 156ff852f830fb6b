//! What the client proves its rights with.

use std::time::Duration;

use azure_dps_core::{ConnectionString, PolicySecret, SasToken, SharedKey, UnsignedSas};
use time::OffsetDateTime;

/// What the client proves its rights with. `Debug` shows no secret. Cloning is cheap.
///
/// ```
/// use azure_dps_service::Credential;
///
/// let key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".parse()?;
/// let credential = Credential::policy("provisioningserviceowner", key);
/// # Ok::<(), azure_dps_service::core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Credential(Secret);

#[derive(Clone, Debug)]
enum Secret {
    Policy { name: String, key: SharedKey },
    Token(SasToken),
}

impl Credential {
    /// A shared access policy of the instance and one of its keys. A token is made for every request.
    pub fn policy(name: impl Into<String>, key: SharedKey) -> Self {
        Self(Secret::Policy { name: name.into(), key })
    }

    /// A token that was made elsewhere. It is sent until the service refuses it.
    pub fn token(token: SasToken) -> Self {
        Self(Secret::Token(token))
    }

    /// The value of the `Authorization` header for a request to `authority`.
    pub(crate) fn authorization(&self, authority: &str, now: OffsetDateTime) -> SasToken {
        match &self.0 {
            Secret::Policy { name, key } => UnsignedSas::for_service(authority, name, now + TTL).sign(key),
            Secret::Token(token) => token.clone(),
        }
    }
}

impl From<&ConnectionString> for Credential {
    fn from(text: &ConnectionString) -> Self {
        match text.secret() {
            PolicySecret::Key(key) => Self::policy(text.policy(), key.clone()),
            PolicySecret::Token(token) => Self::token(token.clone()),
        }
    }
}

/// As long as the official clients' tokens.
const TTL: Duration = Duration::from_secs(3600);
