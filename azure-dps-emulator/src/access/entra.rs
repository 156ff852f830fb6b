//! Microsoft Entra ID tokens: their claims, and the roles of their principals.
//!
//! The signature is not checked, because tests have no tenant that could sign.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::json::{self, Map, Value, json};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use time::OffsetDateTime;

use crate::access::right::Need;
use crate::crypto::sas::CLOCK_SKEW_SECONDS;
use crate::refusal::Refusal;

/// A built-in role for the data plane of a provisioning service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntraRole {
    /// Device Provisioning Service Data Reader: may read and list enrollments, groups and registration
    /// records, but not attestation mechanisms.
    DataReader,
    /// Device Provisioning Service Data Contributor: may do everything.
    DataContributor,
}

impl EntraRole {
    fn permits(self, need: Need) -> bool {
        match self {
            EntraRole::DataReader => matches!(need, Need::ReadEnrollments | Need::ReadRegistrations),
            EntraRole::DataContributor => true,
        }
    }
}

/// The roles of principals by their object ids in lower case. While no principal has a role, every principal
/// counts as a contributor.
#[derive(Clone, Default)]
pub(crate) struct Roles(BTreeMap<String, EntraRole>);

impl Roles {
    /// Assigns a role to a principal, which replaces an earlier one.
    pub(crate) fn assign(&mut self, object_id: &str, role: EntraRole) {
        self.0.insert(object_id.to_lowercase(), role);
    }

    /// Adds the roles of principals that have none.
    pub(crate) fn complete(&mut self, others: &Self) {
        for (principal, role) in &others.0 {
            self.0.entry(principal.clone()).or_insert(*role);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, EntraRole)> {
        self.0.iter().map(|(principal, role)| (principal.as_str(), *role))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Admits a request if its token is valid at this time and the role of its principal permits what it
    /// needs.
    pub(crate) fn admit(&self, token: &str, need: Need, now: OffsetDateTime) -> Result<(), Refusal> {
        let claims = claims(token).map_err(Refusal::unauthorized)?;
        check(&claims, now).map_err(Refusal::unauthorized)?;
        if self.is_empty() {
            return Ok(());
        }
        let principal = claims.get("oid").and_then(Value::as_str);
        let principal = principal.ok_or_else(|| Refusal::unauthorized("the bearer token has no oid"))?;
        match self.0.get(&principal.to_lowercase()) {
            None => Err(Refusal::unauthorized(format!("principal {principal} has no role"))),
            Some(role) if role.permits(need) => Ok(()),
            Some(role) => {
                Err(Refusal::unauthorized(format!("principal {principal} has only the role {role:?}")))
            }
        }
    }
}

/// The token in an `Authorization` header of the scheme `Bearer`.
pub(crate) fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then_some(token.trim())
}

/// Makes a token without a signature.
pub(crate) fn mint(object_id: &str, lifetime: Duration, now: OffsetDateTime) -> String {
    let now = now.unix_timestamp();
    let lifetime = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
    let header = json!({"alg": "none", "typ": "JWT"});
    let claims = json!({"aud": AUDIENCE, "oid": object_id, "nbf": now, "exp": now.saturating_add(lifetime)});
    let encode = |part: &Value| BASE64_URL_SAFE_NO_PAD.encode(part.to_string());
    format!("{}.{}.", encode(&header), encode(&claims))
}

/// Reads the second of three segments; the third one, the signature, may be empty.
fn claims(token: &str) -> Result<Map, &'static str> {
    let segments: Vec<&str> = token.split('.').collect();
    let &[header, claims, signature] = segments.as_slice() else {
        return Err("the bearer token does not have three segments");
    };
    let decode = |part: &str| {
        BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| "a segment of the bearer token is not base64url")
    };
    decode(header)?;
    decode(signature)?;
    match json::read(&decode(claims)?) {
        Ok(Value::Object(claims)) => Ok(claims),
        _ => Err("the claims of the bearer token are not a JSON object"),
    }
}

fn check(claims: &Map, now: OffsetDateTime) -> Result<(), String> {
    let now = now.unix_timestamp();
    let seconds = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(value) => {
            let seconds = value.as_i64();
            seconds.map(Some).ok_or_else(|| format!("{name} of the bearer token is not a number of seconds"))
        }
    };
    let audience = claims.get("aud").and_then(Value::as_str).unwrap_or_default();
    if audience.strip_suffix('/').unwrap_or(audience) != AUDIENCE {
        return Err(format!("aud of the bearer token is not {AUDIENCE}"));
    }
    let expiry = seconds("exp")?.ok_or("the bearer token has no exp")?;
    let age = now.saturating_sub(expiry);
    if age > CLOCK_SKEW_SECONDS {
        return Err(format!("the bearer token expired {age} s ago"));
    }
    let early = seconds("nbf")?.unwrap_or(now).saturating_sub(now);
    if early > CLOCK_SKEW_SECONDS {
        return Err(format!("the bearer token is not valid for another {early} s"));
    }
    Ok(())
}

const AUDIENCE: &str = "https://azure-devices-provisioning.net";

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_767_225_600;

    #[test]
    fn a_minted_token_is_admitted_until_it_expires() {
        let token = mint("oid-1", Duration::from_secs(60), at(NOW));

        assert!(Roles::default().admit(&token, Need::WriteEnrollments, at(NOW + 60 + 300)).is_ok());
        let late = Roles::default().admit(&token, Need::WriteEnrollments, at(NOW + 60 + 301)).unwrap_err();
        assert_eq!((late.code, late.cause.as_str()), (401_000, "the bearer token expired 301 s ago"));
        let early = Roles::default().admit(&token, Need::WriteEnrollments, at(NOW - 301)).unwrap_err();
        assert_eq!(early.cause, "the bearer token is not valid for another 301 s");
    }

    #[test]
    fn a_slash_at_the_end_of_the_audience_is_ignored() {
        for audience in [AUDIENCE.to_owned(), format!("{AUDIENCE}/")] {
            assert!(admit(&json!({"aud": audience, "exp": NOW})).is_ok());
        }
    }

    #[test]
    fn the_cause_says_what_is_wrong_with_a_token() {
        for (claims, cause) in [
            (json!({"exp": NOW}), format!("aud of the bearer token is not {AUDIENCE}")),
            (
                json!({"aud": "https://iothubs.azure.net", "exp": NOW}),
                format!("aud of the bearer token is not {AUDIENCE}"),
            ),
            (json!({"aud": AUDIENCE}), "the bearer token has no exp".to_owned()),
            (
                json!({"aud": AUDIENCE, "exp": "soon"}),
                "exp of the bearer token is not a number of seconds".to_owned(),
            ),
            (json!([]), "the claims of the bearer token are not a JSON object".to_owned()),
        ] {
            assert_eq!(admit(&claims).unwrap_err().cause, cause);
        }
        for (token, cause) in [
            ("abc", "the bearer token does not have three segments"),
            ("a.b.c.d", "the bearer token does not have three segments"),
            ("!.e30.", "a segment of the bearer token is not base64url"),
            ("e30.e30.=", "a segment of the bearer token is not base64url"),
        ] {
            assert_eq!(
                Roles::default().admit(token, Need::ReadEnrollments, at(NOW)).unwrap_err().cause,
                cause
            );
        }
    }

    #[test]
    fn roles_decide_as_soon_as_one_principal_has_one() {
        let mut roles = Roles::default();
        roles.assign("READER", EntraRole::DataReader);
        roles.assign("writer", EntraRole::DataReader);
        roles.assign("writer", EntraRole::DataContributor);
        let admit = |principal: &str, need| {
            roles.admit(&mint(principal, Duration::from_secs(60), at(NOW)), need, at(NOW))
        };

        for need in [Need::ReadEnrollments, Need::ReadRegistrations] {
            assert!(admit("reader", need).is_ok() && admit("Writer", need).is_ok());
        }
        for need in [Need::ReadSecrets, Need::WriteEnrollments, Need::WriteRegistrations] {
            assert!(admit("writer", need).is_ok());
            assert_eq!(
                admit("reader", need).unwrap_err().cause,
                "principal reader has only the role DataReader"
            );
        }
        assert_eq!(admit("other", Need::ReadEnrollments).unwrap_err().cause, "principal other has no role");
        let anonymous = token(&json!({"aud": AUDIENCE, "exp": NOW}));
        let refusal = roles.admit(&anonymous, Need::ReadEnrollments, at(NOW)).unwrap_err();
        assert_eq!(refusal.cause, "the bearer token has no oid");
    }

    #[test]
    fn a_bearer_token_needs_the_bearer_scheme() {
        assert_eq!(bearer("bearer  a.b.c"), Some("a.b.c"));
        assert_eq!(bearer("SharedAccessSignature sr=a"), None);
        assert_eq!(bearer("Bearer"), None);
    }

    fn admit(claims: &Value) -> Result<(), Refusal> {
        Roles::default().admit(&token(claims), Need::WriteEnrollments, at(NOW))
    }

    fn token(claims: &Value) -> String {
        format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(seconds).unwrap()
    }
}
