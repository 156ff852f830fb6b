//! A device and how it reaches the service: the values that a client holds and a registration reads.

use std::sync::Arc;

use azure_dps_core::models::ApiVersion;
use azure_dps_core::{IdScope, Result, SasToken};
use time::OffsetDateTime;

use crate::credential::Credential;
use crate::policy::RegistrationPolicy;
use crate::transport::contract::{Auth, Purpose, Session, Transport};

#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub(crate) id_scope: IdScope,
    pub(crate) credential: Credential,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) policy: RegistrationPolicy,
    pub(crate) api_version: ApiVersion,
    pub(crate) user_agent: String,
}

impl Device {
    /// The session for a connection. A symmetric key signs a token for it, unless `token` is still fresh.
    pub(crate) fn session(&self, purpose: Purpose, token: &mut Option<SasToken>) -> Result<Session> {
        let auth = match self.credential.auth() {
            Some(auth) => auth,
            None => Auth::Token(self.fresh_token(token)?),
        };
        let (id, version) = (self.credential.registration_id().clone(), self.api_version.clone());
        let session = Session::new(self.id_scope.clone(), id, version, self.user_agent.clone(), auth);
        Ok(session.with_purpose(purpose))
    }

    /// The token of the running registration, renewed long before it expires.
    pub(crate) fn fresh_token(&self, token: &mut Option<SasToken>) -> Result<SasToken> {
        let now = OffsetDateTime::now_utc();
        if let Some(token) = token.as_ref().filter(|token| is_fresh(token, now)) {
            return Ok(token.clone());
        }
        let fresh = self.credential.registration_token(&self.id_scope, now)?;
        Ok(token.insert(fresh).clone())
    }
}

/// Whether a token is still valid for long enough to be used.
pub(crate) fn is_fresh(token: &SasToken, now: OffsetDateTime) -> bool {
    token.expiry() > now.unix_timestamp() + MARGIN
}

/// A token is renewed when fewer seconds than these are left.
const MARGIN: i64 = 300;
