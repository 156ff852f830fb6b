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
    let credential = match login {
        Login::Credential(index) => onboarding(index)?.clone(),
        Login::Proven => issued(options, memory.proven.as_ref(), onboarding(0)?).await?,
        Login::Candidate => issued(options, memory.candidate.as_ref(), onboarding(0)?).await?,
    };
    HubAccess::new(credential, &assignment)
}

async fn issued(
    options: &ManagerOptions,
    certificate: Option<&Certificate>,
    onboarding: &Credential,
) -> Result<Credential> {
    let missing = |name: &str| {
        Error::new(ErrorKind::Credential, format!("the store has no private key with the name {name:?}"))
    };
    let certificate = certificate.ok_or_else(|| missing(""))?;
    let keys = options.keys.as_ref().ok_or_else(|| missing(&certificate.key))?;
    let key = within(keys.load(&certificate.key)).await.map_err(|why| {
        let message = format!("the private key {:?} cannot be read", certificate.key);
        Error::new(ErrorKind::Credential, message).with_source(why)
    })?;
    let key = key.ok_or_else(|| missing(&certificate.key))?;
    let identity = Identity::from_pem(&certificate.chain, &*key)?;
    Ok(Credential::x509_as(onboarding.registration_id().clone(), identity))
}
