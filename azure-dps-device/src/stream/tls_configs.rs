//! The TLS configurations that later connections use again. A configuration holds the sessions that a server
//! lets it resume.
//!
//! Connections without a client certificate share one, and each identity has its own: a resumed session is
//! authenticated with the certificate of its first handshake.

use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use azure_dps_core::rustls::ClientConfig;
use azure_dps_core::{Endpoint, Identity, Result};

use crate::trust;

#[derive(Debug, Default)]
pub(super) struct TlsConfigs(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    anonymous: Option<Arc<ClientConfig>>,
    /// The most recent ones last.
    identified: Vec<(Identity, Arc<ClientConfig>)>,
}

impl TlsConfigs {
    /// Returns the configuration for an endpoint, which must be the same in every call, and an identity.
    ///
    /// # Errors
    /// [`ErrorKind::Tls`](azure_dps_core::ErrorKind::Tls) when the platform has no usable trust store.
    pub(super) async fn get(
        &self,
        endpoint: &Endpoint,
        identity: Option<&Identity>,
    ) -> Result<Arc<ClientConfig>> {
        trust::read(endpoint).await?;
        self.get_blocking(endpoint, identity)
    }

    /// Like [`get`](Self::get), on the caller's thread.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(super) fn get_blocking(
        &self,
        endpoint: &Endpoint,
        identity: Option<&Identity>,
    ) -> Result<Arc<ClientConfig>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match identity {
            Some(identity) => kept.of(endpoint, identity),
            None => match &kept.anonymous {
                Some(config) => Ok(Arc::clone(config)),
                None => Ok(Arc::clone(kept.anonymous.insert(endpoint.client_config()?))),
            },
        }
    }
}

impl Kept {
    fn of(&mut self, endpoint: &Endpoint, identity: &Identity) -> Result<Arc<ClientConfig>> {
        let known = self.identified.iter().position(|(other, _)| is_same(other, identity));
        let entry = match known {
            Some(at) => self.identified.remove(at),
            None => (identity.clone(), endpoint.client_config_with(identity)?),
        };
        if self.identified.len() == MOST_IDENTITIES {
            self.identified.remove(0);
        }
        let config = Arc::clone(&entry.1);
        self.identified.push(entry);
        Ok(config)
    }
}

/// Whether both are clones of one identity. Equal certificates are not enough: the keys may be different
/// objects of a token.
fn is_same(one: &Identity, other: &Identity) -> bool {
    ptr::eq(one.certificates(), other.certificates())
}

/// More devices than usually share a transport, and few enough to search.
const MOST_IDENTITIES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_identity_keeps_a_configuration_of_its_own_and_the_oldest_go_first() {
        let names: Vec<_> = (0..=MOST_IDENTITIES).map(|number| format!("dev-{number}")).collect();
        let pki = azure_dps_emulator::Pki::new(names.iter().map(String::as_str), 0).unwrap();
        let identities: Vec<_> = pki
            .devices
            .iter()
            .map(|own| Identity::from_pem(&own.chain_pem, &own.private_key_pem).unwrap())
            .collect();
        let endpoint = Endpoint::global().trust_only(&pki.devices[0].chain_pem).unwrap();
        let configs = TlsConfigs::default();
        let own = &pki.devices[0];
        let reloaded = Identity::from_pem(&own.chain_pem, &own.private_key_pem).unwrap();
        let copy = identities[0].clone();
        let get = async |identity| configs.get(&endpoint, identity).await.unwrap();

        let (anonymous, first) = (get(None).await, get(identities.first()).await);
        assert!(Arc::ptr_eq(&anonymous, &get(None).await) && !Arc::ptr_eq(&anonymous, &first));
        assert!(Arc::ptr_eq(&first, &get(Some(&copy)).await));
        assert!(!Arc::ptr_eq(&first, &get(Some(&reloaded)).await));

        for identity in &identities[1..] {
            assert!(!Arc::ptr_eq(&first, &get(Some(identity)).await));
        }
        assert!(!Arc::ptr_eq(&first, &get(identities.first()).await), "not kept for ever");
        assert!(Arc::ptr_eq(&anonymous, &get(None).await));
    }
}
