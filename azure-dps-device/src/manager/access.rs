//! The way to the hub: with a credential of the device, or with an issued certificate and its stored key.

use azure_dps_core::{Error, ErrorKind, Identity, Result};

use super::driver::step::Login;
use super::memory::{Certificate, Memory};
use super::options::ManagerOptions;
use super::store::within;
use crate::assignment::Assignment;
use crate::credential::Credential;
use crate::hub::HubAccess;

pub(crate) async fn access(options: &ManagerOptions, memory: &Memory, login: Login) -> Result<HubAccess> {
    let missing = |what: &str| Error::new(ErrorKind::Config, format!("the manager has no {what}"));
    let place = memory.place.as_ref().ok_or_else(|| missing("assignment"))?;
    let assignment = Assignment::new(&place.hub, &place.device_id)?;
    let onboarding = |index: usize| options.credentials.get(index).ok_or_else(|| missing("credential"));
    let certificate = match login {
        Login::Credential(index) => return HubAccess::new(onboarding(index)?.clone(), &assignment),
        Login::Proven => memory.proven.as_ref(),
        Login::Candidate => memory.candidate.as_ref(),
    };
    let certificate = certificate.ok_or_else(|| missing("certificate"))?;
    HubAccess::new(issued(options, certificate, onboarding(0)?).await?, &assignment)
}

async fn issued(
    options: &ManagerOptions,
    certificate: &Certificate,
    onboarding: &Credential,
) -> Result<Credential> {
    let name = &certificate.key;
    let missing =
        || Error::new(ErrorKind::Credential, format!("the store has no private key with the name {name:?}"));
    let keys = options.keys.as_ref().ok_or_else(missing)?;
    let key = within(keys.load(name)).await.map_err(|why| {
        let message = format!("the private key {name:?} cannot be read");
        Error::new(ErrorKind::Credential, message).with_source(why)
    })?;
    let key = key.ok_or_else(missing)?;
    let identity = Identity::from_pem(&certificate.chain, &*key)?;
    Ok(Credential::x509_as(onboarding.registration_id().clone(), identity))
}
