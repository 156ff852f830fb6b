//! The credential of a client: an access policy, a token, or an identity of Microsoft Entra ID.

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

/// The credential of a client. `Debug` does not show secrets. Cloning is cheap.
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
    /// A shared access policy of the instance and one of its keys. The client signs a token for every
    /// request, valid for an hour.
    pub fn policy(name: impl Into<String>, key: SharedKey) -> Self {
        Self(Secret::Policy { name: name.into(), key })
    }

    /// A token that was made elsewhere. The client sends it unchanged, even after it has expired.
    pub fn token(token: SasToken) -> Self {
        Self(Secret::Token(token))
    }

    /// An identity of Microsoft Entra ID: any `TokenCredential`, such as those of the crate `azure_identity`.
    ///
    /// The client requests tokens with the scope [`ENTRA_SCOPE`], caches them, and renews them five minutes
    /// before they expire. While a renewal fails or takes longer than five seconds, it uses the old token as
    /// long as that is valid. The identity needs a role on the instance: `Device Provisioning Service Data
    /// Reader` to read, `Device Provisioning Service Data Contributor` for everything.
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

    /// Like [`entra`](Self::entra) with another scope than [`ENTRA_SCOPE`], for other clouds than the public
    /// one.
    #[cfg(feature = "entra")]
    pub fn entra_with_scope(credential: Arc<dyn TokenCredential>, scope: impl Into<String>) -> Self {
        Self(Secret::Entra(Arc::new(entra::Entra::new(credential, scope.into()))))
    }

    /// The value of the `Authorization` header for a request to `authority`.
    ///
    /// # Errors
    /// [`ErrorKind::Credential`](azure_dps_core::ErrorKind::Credential) when a token credential returns no
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

    /// Records that the service refused the credential, and returns a message with the reason as far as it is
    /// known.
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

/// The official clients use the same lifetime.
const TTL: Duration = Duration::from_secs(3600);

/// The scope of tokens for the provisioning service in the public cloud.
///
/// Source: DPS, control access with Microsoft Entra ID.
#[cfg(feature = "entra")]
pub const ENTRA_SCOPE: &str = "https://azure-devices-provisioning.net/.default";
