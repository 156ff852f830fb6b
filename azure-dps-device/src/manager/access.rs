//! The way to the hub: with a credential of the device, or with an issued certificate and its stored key.

use azure_dps_core::{Error, ErrorKind, Identity, Result};

use super::driver::step::Login;
use super::memory::{Certificate, Memory};
use super::options::ManagerOptions;
use super::store::within;
use super::store_error;
use crate::assignment::Assignment;
use crate::credential::Credential;
use crate::hub::HubAccess;

/// Why there is no way to the hub.
pub(crate) enum NoAccess {
    /// The key store does not answer. It may later.
    KeyUnreadable(Error),
    /// The key of the certificate is gone, or is another one.
    Unusable(Error),
    Other(Error),
}

pub(crate) async fn access(
    options: &ManagerOptions,
    memory: &Memory,
    login: Login,
) -> Result<HubAccess, NoAccess> {
    let certificate = certificate(memory, login);
    let index = match login {
        Login::Credential(index) => index,
        Login::Proven | Login::Candidate => 0,
    };
    let onboarding = options.credential(index).map_err(NoAccess::Other)?.clone();
    let credential = match certificate {
        Some(certificate) => issued(options, certificate, &onboarding).await?,
        None => onboarding,
    };
    let place =
        memory.place.as_ref().ok_or_else(|| Error::new(ErrorKind::Config, "the device has no assignment"));
    let assignment = place.and_then(|place| Assignment::new(&place.hub, &place.device_id));
    assignment.and_then(|assignment| HubAccess::new(credential, &assignment)).map_err(NoAccess::Other)
}

/// The certificate of this way to sign in.
pub(super) fn certificate(memory: &Memory, login: Login) -> Option<&Certificate> {
    match login {
        Login::Credential(_) => None,
        Login::Proven => memory.proven.as_ref(),
        Login::Candidate => memory.candidate.as_ref(),
    }
}

async fn issued(
    options: &ManagerOptions,
    certificate: &Certificate,
    onboarding: &Credential,
) -> Result<Credential, NoAccess> {
    let name = &certificate.key;
    let missing = || NoAccess::Unusable(store_error::key_missing(name));
    let keys = options.keys.as_ref().ok_or_else(missing)?;
    let key = within(|| keys.load(name)).await;
    let key = key.map_err(|why| NoAccess::KeyUnreadable(store_error::key_unread(name, why)))?;
    let key = key.ok_or_else(missing)?;
    let identity = Identity::from_pem(&certificate.chain, &*key).map_err(NoAccess::Unusable)?;
    Ok(Credential::x509_as(onboarding.registration_id().clone(), identity))
}
