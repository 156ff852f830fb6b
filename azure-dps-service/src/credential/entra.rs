//! Tokens of Microsoft Entra ID: asked for, kept, and renewed before they expire.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::{AccessToken, TokenCredential};
use azure_dps_core::{Error, ErrorKind, Result};
use time::OffsetDateTime;
use tokio::sync::Mutex;

pub(crate) struct Entra {
    credential: Arc<dyn TokenCredential>,
    scope: String,
    kept: Mutex<Option<AccessToken>>,
}

impl Entra {
    pub(crate) fn new(credential: Arc<dyn TokenCredential>, scope: String) -> Self {
        Self { credential, scope, kept: Mutex::new(None) }
    }

    /// The value of the `Authorization` header. One caller asks for a token, the others wait for it.
    pub(crate) async fn authorization(&self, now: OffsetDateTime) -> Result<String> {
        let mut kept = self.kept.lock().await;
        if let Some(token) = kept.as_ref().filter(|token| now + MARGIN < token.expires_on) {
            return Ok(bearer(token));
        }
        match self.credential.get_token(&[&self.scope], None).await {
            Ok(token) if token.expires_on <= now => {
                Err(Error::new(ErrorKind::Credential, "the token credential gave a token that has expired"))
            }
            Ok(token) => Ok(bearer(kept.insert(token))),
            Err(why) => match kept.as_ref().filter(|token| now < token.expires_on) {
                Some(token) => {
                    tracing::warn!("the token credential gave no new token; the old one is still good");
                    Ok(bearer(token))
                }
                None => Err(Error::new(
                    ErrorKind::Credential,
                    format!("the token credential gave no token for {}", self.scope),
                )
                .with_source(why)),
            },
        }
    }

    /// Forgets the token that the service refused.
    pub(crate) async fn forget(&self) {
        *self.kept.lock().await = None;
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex as StdMutex;

    use azure_core::credentials::TokenRequestOptions;
    use time::macros::datetime;

    use super::*;

    /// Gives the tokens of a script: lives in minutes, `None` for a failure.
    #[derive(Debug)]
    struct Script(StdMutex<Vec<Option<i64>>>);

    #[async_trait::async_trait]
    impl TokenCredential for Script {
        async fn get_token(
            &self,
            scopes: &[&str],
            _: Option<TokenRequestOptions<'_>>,
        ) -> azure_core::Result<AccessToken> {
            assert_eq!(scopes, ["scope"]);
            let mut script = self.0.lock().unwrap();
            let number = 100 - script.len();
            match script.remove(0) {
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
        Entra::new(Arc::new(Script(StdMutex::new(script.to_vec()))), "scope".to_owned())
    }

    async fn at(entra: &Entra, minute: i64) -> Result<String> {
        entra.authorization(START + time::Duration::minutes(minute)).await
    }

    #[tokio::test]
    async fn a_token_is_kept_and_renewed_five_minutes_before_it_expires() {
        let entra = entra(&[Some(60), Some(120)]);
        let first = at(&entra, 0).await.unwrap();
        assert!(first.starts_with("Bearer token-"));
        assert_eq!(at(&entra, 54).await.unwrap(), first);
        let second = at(&entra, 55).await.unwrap();
        assert_ne!(second, first);
        assert_eq!(at(&entra, 114).await.unwrap(), second);
    }

    #[tokio::test]
    async fn while_a_renewal_fails_the_old_token_is_used_as_long_as_it_is_good() {
        let entra = entra(&[Some(60), None, None]);
        let first = at(&entra, 0).await.unwrap();
        assert_eq!(at(&entra, 59).await.unwrap(), first);
        let error = at(&entra, 60).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Credential);
        assert!(error.to_string().contains("gave no token for scope"), "{error}");
    }

    #[tokio::test]
    async fn a_token_that_was_refused_is_not_used_again() {
        let entra = entra(&[Some(60), Some(60)]);
        let first = at(&entra, 0).await.unwrap();
        entra.forget().await;
        assert_ne!(at(&entra, 0).await.unwrap(), first);
    }

    #[tokio::test]
    async fn an_expired_token_is_an_error_of_the_credential() {
        let error = at(&entra(&[Some(0)]), 0).await.unwrap_err();
        assert_eq!(error.to_string(), "the token credential gave a token that has expired");
    }
}
