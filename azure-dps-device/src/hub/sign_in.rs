//! The password for one connection to a hub, how long it is valid, and when to replace it.

use std::time::Duration;

use azure_dps_core::SasToken;
use time::OffsetDateTime;

/// The sign-in for one connection to a hub, from [`HubAccess::sign_in`](crate::HubAccess::sign_in).
///
/// The hub ends a connection whose password has expired, and MQTT 3.1.1 cannot send another one on it: at
/// [`renew_at`](Self::renew_at), connect again with a new sign-in. `Debug` does not show the password.
#[derive(Clone, Debug)]
pub struct SignIn {
    token: Option<SasToken>,
    renew_at: Option<OffsetDateTime>,
}

impl SignIn {
    pub(super) fn new(token: Option<SasToken>, now: OffsetDateTime, ttl: Duration) -> Self {
        let renew_at = token.as_ref().map(|_| now + ttl * 4 / 5);
        Self { token, renew_at }
    }

    /// The password of the MQTT CONNECT. It is a secret. `None` with a certificate, which TLS presents: then
    /// CONNECT has no password.
    pub fn password(&self) -> Option<&str> {
        self.token.as_ref().map(SasToken::expose)
    }

    /// When the password expires, in whole seconds; `None` without a password.
    pub fn expires(&self) -> Option<OffsetDateTime> {
        let expiry = self.token.as_ref()?.expiry();
        OffsetDateTime::from_unix_timestamp(expiry).ok()
    }

    /// When to connect again with a new password: after 80 % of its lifetime. `None` without a password.
    pub fn renew_at(&self) -> Option<OffsetDateTime> {
        self.renew_at
    }
}
