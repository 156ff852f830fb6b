//! What a manager is made of.

use std::sync::Arc;

#[cfg(any(feature = "amqp", feature = "https", feature = "mqtt"))]
use azure_dps_core::plumbing::Variables;
use azure_dps_core::{Error, ErrorKind, IdScope, Result, Sensitive};
use serde_json::Value;

use super::connector::HubConnector;
use super::policy::ManagerPolicy;
use super::record::Owner;
use super::store::{KeyStore, Store};
use crate::credential::Credential;
#[cfg(any(feature = "amqp", feature = "https", feature = "mqtt"))]
use crate::environment;
use crate::policy::RegistrationPolicy;
use crate::transport::contract::Transport;

/// What a [`ProvisioningManager`](super::ProvisioningManager) is made of.
#[derive(Clone, Debug)]
#[must_use = "a manager runs only after `ProvisioningManager::start`"]
pub struct ManagerOptions {
    pub(crate) id_scope: IdScope,
    pub(crate) credentials: Vec<Credential>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) connector: Arc<dyn HubConnector>,
    pub(crate) keys: Option<Arc<dyn KeyStore>>,
    pub(crate) policy: ManagerPolicy,
    pub(crate) registration_policy: RegistrationPolicy,
    pub(crate) payload: Option<Sensitive<Value>>,
}

impl ManagerOptions {
    /// The options for a device in the DPS instance that `id_scope` names: its credential, the way to the
    /// service, the place of its record, and the way to its hub.
    pub fn new(
        id_scope: IdScope,
        credential: Credential,
        transport: impl Transport + 'static,
        store: impl Store + 'static,
        connector: impl HubConnector + 'static,
    ) -> Self {
        Self {
            id_scope,
            credentials: vec![credential],
            transport: Arc::new(transport),
            store: Arc::new(store),
            connector: Arc::new(connector),
            keys: None,
            policy: ManagerPolicy::default(),
            registration_policy: RegistrationPolicy::default(),
            payload: None,
        }
    }

    /// The options for the device that the environment describes, by the variables of
    /// [`DeviceClient::from_env`](crate::DeviceClient::from_env).
    ///
    /// # Errors
    /// Those of [`DeviceClient::from_env`](crate::DeviceClient::from_env).
    #[cfg(any(feature = "amqp", feature = "https", feature = "mqtt"))]
    pub fn from_env(store: impl Store + 'static, connector: impl HubConnector + 'static) -> Result<Self> {
        let lookup = |name: &str| std::env::var_os(name);
        let (id_scope, credential, transport) = environment::device(Variables::new(&lookup))?;
        Ok(Self::new(id_scope, credential, transport, store, connector))
    }

    /// Adds a credential that is tried, at the service and at the hub, after those before it were refused:
    /// for example the secondary key of the enrollment. The one that worked last is tried first, also after a
    /// reboot.
    ///
    /// It must have the registration id of the first one: one manager keeps one device. Another one is not
    /// used; the event [`Started`](super::Happening::Started) has the error.
    pub fn with_fallback(mut self, credential: Credential) -> Self {
        self.credentials.push(credential);
        self
    }

    /// Asks the service for a certificate with each registration, keeps its private key in `keys`, and renews
    /// it in time. Default: no certificate.
    ///
    /// The enrollment must name a certificate policy. Without one the device signs in at its hub with its
    /// credential. Keep the credential in any case: it is the only way back when all certificates have
    /// expired.
    pub fn with_certificates(mut self, keys: impl KeyStore + 'static) -> Self {
        self.keys = Some(Arc::new(keys));
        self
    }

    /// Sets how the manager waits, and when it gives a way up.
    pub fn with_policy(mut self, policy: ManagerPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets how one registration waits and retries. A service that throttles ends the registration, and the
    /// manager waits as long as the service asks.
    pub fn with_registration_policy(mut self, policy: RegistrationPolicy) -> Self {
        self.registration_policy = policy;
        self
    }

    /// Sends data to the custom allocation function with each registration. Default: none.
    pub fn with_payload(mut self, payload: impl Into<Value>) -> Self {
        self.payload = Some(payload.into().into());
        self
    }

    /// The credential with this index.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when there is none, or when it belongs to another device.
    pub(crate) fn credential(&self, index: usize) -> Result<&Credential> {
        let missing =
            || Error::new(ErrorKind::Config, format!("the manager has no credential number {index}"));
        let credential = self.credentials.get(index).ok_or_else(missing)?;
        let (id, owner) = (credential.registration_id().as_str(), self.owner().registration_id);
        if id.eq_ignore_ascii_case(&owner) {
            return Ok(credential);
        }
        let message = format!(
            "the credential number {index} has the registration id {id:?}, and the manager keeps the device \
             {owner:?}: give it a credential of that device, and start another manager for {id:?}"
        );
        Err(Error::new(ErrorKind::Config, message))
    }

    /// # Errors
    /// When a credential cannot be used.
    pub(crate) fn check(&self) -> Result<()> {
        (0..self.credentials.len()).try_for_each(|index| self.credential(index).map(drop))
    }

    pub(crate) fn owner(&self) -> Owner {
        let registration_id =
            self.credentials.first().map(|credential| credential.registration_id().as_str());
        Owner {
            endpoint: self.transport.host().unwrap_or_default().to_owned(),
            id_scope: self.id_scope.as_str().to_owned(),
            registration_id: registration_id.unwrap_or_default().to_owned(),
        }
    }
}
