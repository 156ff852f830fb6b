//! The way to the hub: with a credential of the device, or with an issued certificate and its stored key.

use azure_dps_core::{Error, ErrorKind, Identity, Result};

use super::driver::step::Login;
use super::memory::{Certificate, Memory};
use super::options::ManagerOptions;
use super::store::within;
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
    let certificate = match login {
        Login::Credential(_) => None,
        Login::Proven => memory.proven.as_ref(),
        Login::Candidate => memory.candidate.as_ref(),
    };
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

async fn issued(
    options: &ManagerOptions,
    certificate: &Certificate,
    onboarding: &Credential,
) -> Result<Credential, NoAccess> {
    let name = &certificate.key;
    let missing = || {
        let message = format!("the key store has no private key with the name {name:?}");
        NoAccess::Unusable(Error::new(ErrorKind::Credential, message))
    };
    let keys = options.keys.as_ref().ok_or_else(missing)?;
    let key = within(|| keys.load(name)).await.map_err(|why| {
        let message = format!("the private key {name:?} of an issued certificate cannot be read");
        NoAccess::KeyUnreadable(Error::new(ErrorKind::Io, message).with_source(why))
    })?;
    let key = key.ok_or_else(missing)?;
    let identity = Identity::from_pem(&certificate.chain, &*key).map_err(NoAccess::Unusable)?;
    Ok(Credential::x509_as(onboarding.registration_id().clone(), identity))
}
