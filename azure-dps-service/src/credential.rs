//! What the client proves its rights with.

#[cfg(feature = "entra")]
mod entra;

#[cfg(feature = "entra")]
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "entra")]
use azure_core::credentials::TokenCredential;
use azure_dps_core::{
    ConnectionString, CredentialKind, PolicySecret, Result, SasToken, SharedKey, UnsignedSas,
};
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
    Policy {
        name: String,
        key: SharedKey,
    },
    Token(SasToken),
    #[cfg(feature = "entra")]
    Entra(Arc<entra::Entra>),
}

impl Credential {
    /// A shared access policy of the instance and one of its keys. A token is made for every request, good
    /// for an hour.
    pub fn policy(name: impl Into<String>, key: SharedKey) -> Self {
        Self(Secret::Policy { name: name.into(), key })
    }

    /// A token that was made elsewhere. It is sent as it is until the service refuses it.
    pub fn token(token: SasToken) -> Self {
        Self(Secret::Token(token))
    }

    /// An identity of Microsoft Entra ID, by any `TokenCredential`, such as those of the crate
    /// `azure_identity`.
    ///
    /// Tokens are asked for with the scope [`ENTRA_SCOPE`], kept, and renewed five minutes before they
    /// expire; while a renewal fails or takes longer than five seconds, the old token is used as long as it
    /// is good. The identity needs a role on the instance: `Device Provisioning Service Data Reader` to read,
    /// `Device Provisioning Service Data Contributor` for everything.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use azure_core::credentials::TokenCredential;
    /// use azure_dps_service::core::{Endpoint, Result};
    /// use azure_dps_service::{Credential, ServiceClient};
    ///
    /// // For example `azure_identity::DeveloperToolsCredential::new(None)?`.
    /// fn client(identity: Arc<dyn TokenCredential>) -> Result<ServiceClient> {
    ///     let endpoint = Endpoint::new("contoso.azure-devices-provisioning.net")?;
    ///     ServiceClient::builder(endpoint, Credential::entra(identity)).build()
    /// }
    /// ```
    ///
    /// Source: DPS, control access with Microsoft Entra ID.
    #[cfg(feature = "entra")]
    #[doc(alias = "fromTokenCredential")]
    pub fn entra(credential: Arc<dyn TokenCredential>) -> Self {
        Self::entra_with_scope(credential, ENTRA_SCOPE)
    }

    /// The same with another scope than [`ENTRA_SCOPE`], for another cloud than the public one.
    #[cfg(feature = "entra")]
    pub fn entra_with_scope(credential: Arc<dyn TokenCredential>, scope: impl Into<String>) -> Self {
        Self(Secret::Entra(Arc::new(entra::Entra::new(credential, scope.into()))))
    }

    /// The value of the `Authorization` header for a request to `authority`.
    ///
    /// # Errors
    /// [`ErrorKind::Credential`](azure_dps_core::ErrorKind::Credential) when a token credential gives no
    /// token.
    pub(crate) async fn authorization(&self, authority: &str, now: OffsetDateTime) -> Result<String> {
        match &self.0 {
            Secret::Policy { name, key } => {
                let unsigned = UnsignedSas::for_service(authority, name, now + TTL);
                Ok(unsigned.sign(key).expose().to_owned())
            }
            Secret::Token(token) => Ok(token.expose().to_owned()),
            #[cfg(feature = "entra")]
            Secret::Entra(entra) => entra.authorization(now).await,
        }
    }

    /// Notes that the service refused the credential, and says what this side knows about the reason.
    pub(crate) fn refused(&self, authorization: &str, now: OffsetDateTime) -> &'static str {
        match &self.0 {
            Secret::Token(token) if token.expiry() <= now.unix_timestamp() => {
                "the service refused the token, which has expired"
            }
            Secret::Policy { .. } | Secret::Token(_) => {
                let _ = authorization;
                "the service refused the credential"
            }
            #[cfg(feature = "entra")]
            Secret::Entra(entra) => {
                entra.forget(authorization);
                "the service refused the token of Microsoft Entra ID"
            }
        }
    }

    pub(crate) fn kind(&self) -> CredentialKind {
        match &self.0 {
            Secret::Policy { .. } | Secret::Token(_) => CredentialKind::AccessPolicy,
            #[cfg(feature = "entra")]
            Secret::Entra(_) => CredentialKind::EntraId,
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

/// The scope of tokens for the provisioning service in the public cloud.
///
/// Source: DPS, control access with Microsoft Entra ID.
#[cfg(feature = "entra")]
pub const ENTRA_SCOPE: &str = "https://azure-devices-provisioning.net/.default";
