//! Tokens of Microsoft Entra ID: requested, cached, and renewed before they expire.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use azure_core::credentials::{AccessToken, TokenCredential};
use azure_dps_core::{Error, ErrorKind, Result};
use time::OffsetDateTime;
use tokio::time::timeout;

pub(crate) struct Entra {
    credential: Arc<dyn TokenCredential>,
    scope: String,
    kept: Mutex<Option<Kept>>,
    /// Locked by the caller that requests a token.
    asking: tokio::sync::Mutex<()>,
}

struct Kept {
    token: AccessToken,
    /// When to request a new one.
    renew: OffsetDateTime,
}

impl Entra {
    pub(crate) fn new(credential: Arc<dyn TokenCredential>, scope: String) -> Self {
        Self { credential, scope, kept: Mutex::default(), asking: tokio::sync::Mutex::default() }
    }

    /// The value of the `Authorization` header.
    ///
    /// While the cached token is valid, only the caller that requests a new one waits, and for at most
    /// [`RENEWAL_LIMIT`]. Without a valid token one caller requests it, and the others wait.
    pub(crate) async fn authorization(&self, now: OffsetDateTime) -> Result<String> {
        if let Some((bearer, renew)) = self.good(now) {
            let Some(_asking) = (renew <= now).then(|| self.asking.try_lock().ok()).flatten() else {
                return Ok(bearer);
            };
            return match timeout(RENEWAL_LIMIT, self.ask(now)).await {
                Ok(Ok(renewed)) => Ok(renewed),
                _ => {
                    tracing::warn!("the token credential returned no new token; the old one is still valid");
                    if let Some(kept) = &mut *self.kept() {
                        kept.renew = now + RENEWAL_PAUSE;
                    }
                    Ok(bearer)
                }
            };
        }
        let _asking = self.asking.lock().await;
        match self.good(now) {
            Some((bearer, _)) => Ok(bearer),
            None => self.ask(now).await,
        }
    }

    async fn ask(&self, now: OffsetDateTime) -> Result<String> {
        let token = self.credential.get_token(&[&self.scope], None).await.map_err(|why| {
            let message = format!("the token credential returned no token for {}", self.scope);
            Error::new(ErrorKind::Credential, message).with_source(why)
        })?;
        if token.expires_on <= now {
            return Err(Error::new(
                ErrorKind::Credential,
                "the token credential returned a token that has expired",
            ));
        }
        let bearer = bearer(&token);
        *self.kept() = Some(Kept { renew: token.expires_on - MARGIN, token });
        Ok(bearer)
    }

    /// The cached token if it is valid, and when to renew it.
    fn good(&self, now: OffsetDateTime) -> Option<(String, OffsetDateTime)> {
        let kept = self.kept();
        let kept = kept.as_ref().filter(|kept| now < kept.token.expires_on)?;
        Some((bearer(&kept.token), kept.renew))
    }

    /// Drops the token that the service refused, unless it was replaced already.
    pub(crate) fn forget(&self, refused: &str) {
        let mut kept = self.kept();
        if kept.as_ref().is_some_and(|kept| bearer(&kept.token) == refused) {
            *kept = None;
        }
    }

    fn kept(&self) -> MutexGuard<'_, Option<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Entra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntraId({})", self.scope)
    }
}

fn bearer(token: &AccessToken) -> String {
    format!("Bearer {}", token.token.secret())
}

/// How long before its expiry a token is renewed.
const MARGIN: Duration = Duration::from_secs(300);
/// How long a call waits for a new token while the old one is valid.
const RENEWAL_LIMIT: Duration = Duration::from_secs(5);
/// How long the old token is used after a failed renewal before the next request.
const RENEWAL_PAUSE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use azure_core::credentials::TokenRequestOptions;
    use time::macros::datetime;

    use super::*;

    /// Returns the tokens of a script: lifetimes in minutes, `None` for a failure. At the end of the script
    /// it never answers.
    #[derive(Debug)]
    struct Script(Mutex<Vec<Option<i64>>>);

    #[async_trait::async_trait]
    impl TokenCredential for Script {
        async fn get_token(
            &self,
            scopes: &[&str],
            _: Option<TokenRequestOptions<'_>>,
        ) -> azure_core::Result<AccessToken> {
            assert_eq!(scopes, ["scope"]);
            let (number, next) = {
                let mut script = self.0.lock().unwrap();
                (100 - script.len(), (!script.is_empty()).then(|| script.remove(0)))
            };
            let Some(next) = next else { return std::future::pending().await };
            match next {
                Some(minutes) => {
                    Ok(AccessToken::new(format!("token-{number}"), START + time::Duration::minutes(minutes)))
                }
                None => Err(azure_core::Error::with_message(
                    azure_core::error::ErrorKind::Credential,
                    "signed out",
                )),
            }
        }
    }

    const START: OffsetDateTime = datetime!(2026-01-01 00:00 UTC);

    fn entra(script: &[Option<i64>]) -> Entra {
        Entra::new(Arc::new(Script(Mutex::new(script.to_vec()))), "scope".to_owned())
    }

    async fn at(entra: &Entra, minute: i64) -> Result<String> {
        entra.authorization(START + time::Duration::minutes(minute)).await
    }

    #[tokio::test]
    async fn a_token_is_cached_and_renewed_five_minutes_before_it_expires() {
        let entra = entra(&[Some(60), Some(120)]);
        let first = at(&entra, 0).await.unwrap();
        assert!(first.starts_with("Bearer token-"));
        assert_eq!(at(&entra, 54).await.unwrap(), first);
        let second = at(&entra, 55).await.unwrap();
        assert_ne!(second, first);
        assert_eq!(at(&entra, 114).await.unwrap(), second);
    }

    #[tokio::test]
    async fn while_a_renewal_fails_the_old_token_is_used_as_long_as_it_is_valid() {
        let entra = entra(&[Some(60), None, None]);
        let first = at(&entra, 0).await.unwrap();
        assert_eq!(at(&entra, 59).await.unwrap(), first);
        let error = at(&entra, 60).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Credential);
        assert!(error.to_string().contains("returned no token for scope"), "{error}");
    }

    #[tokio::test]
    async fn a_token_that_was_refused_is_not_used_again() {
        let entra = entra(&[Some(60), Some(60)]);
        let first = at(&entra, 0).await.unwrap();
        entra.forget("Bearer another");
        assert_eq!(at(&entra, 0).await.unwrap(), first);
        entra.forget(&first);
        assert_ne!(at(&entra, 0).await.unwrap(), first);
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_that_hangs_delays_no_call_while_the_old_token_is_valid() {
        let entra = entra(&[Some(60)]);
        let first = at(&entra, 0).await.unwrap();
        let start = tokio::time::Instant::now();
        let together = [at(&entra, 56), at(&entra, 56), at(&entra, 56)];
        for outcome in futures_util::future::join_all(together).await {
            assert_eq!(outcome.unwrap(), first);
        }
        assert_eq!(start.elapsed(), RENEWAL_LIMIT);
        at(&entra, 56).await.unwrap();
        assert_eq!(start.elapsed(), RENEWAL_LIMIT, "the next renewal comes later");
    }

    #[tokio::test]
    async fn an_expired_token_is_an_error_of_the_credential() {
        let error = at(&entra(&[Some(0)]), 0).await.unwrap_err();
        assert_eq!(error.to_string(), "the token credential returned a token that has expired");
    }
}
