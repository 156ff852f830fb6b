//! The CA certificates that are uploaded to the instance, and which of them are verified.

pub(crate) mod saved;

use std::collections::BTreeMap;
use std::fmt;

use crate::json::{Value, json};
use time::OffsetDateTime;

use crate::crypto::certificate::{Certificate, date_time};
use crate::ids;
use crate::report;

/// A CA certificate that is uploaded to the instance under a name. The `caReferences` of enrollments refer to
/// it, and it can be the end of a chain.
///
/// # Examples
///
/// ```
/// use azure_dps_emulator::{CaCertificate, Emulator, Pki};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pki = Pki::new(["sensor-042"], 1)?;
/// let emulator = Emulator::builder()
///     .ca_certificate(CaCertificate::verified("root-2026", &pki.root.certificate_pem))
///     .start()
///     .await?;
///
/// assert_eq!(emulator.ca_certificates()[0]["isVerified"], true);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaCertificate {
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) verified: bool,
}

impl CaCertificate {
    /// A verified certificate as PEM: its owner has proved possession of the key, so it can admit devices.
    pub fn verified(name: impl Into<String>, pem: impl Into<String>) -> Self {
        CaCertificate { name: name.into(), text: pem.into(), verified: true }
    }

    /// A certificate as PEM that admits no device until it is verified.
    pub fn unverified(name: impl Into<String>, pem: impl Into<String>) -> Self {
        CaCertificate { name: name.into(), text: pem.into(), verified: false }
    }
}

/// Why a CA certificate cannot be uploaded. `{:?}` is the message.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CaCertificateError(String);

impl fmt::Debug for CaCertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        report::debug(f, self, |f| f.debug_tuple("CaCertificateError").field(&self.0).finish())
    }
}

/// One uploaded certificate.
#[derive(Clone)]
pub(crate) struct Authority {
    pub(crate) name: String,
    pub(crate) certificate: Certificate,
    pub(crate) verified: bool,
}

impl Authority {
    /// The certificate as the management port returns it.
    pub(crate) fn to_json(&self) -> Value {
        json!({"name": self.name, "isVerified": self.verified, "info": self.certificate.info()})
    }
}

/// All uploaded certificates; names are compared without regard to case.
#[derive(Clone, Default)]
pub(crate) struct Authorities(BTreeMap<String, Authority>);

impl Authorities {
    /// Adds a certificate, or replaces the one of the same name.
    ///
    /// # Errors
    /// Says which rule the name or the certificate breaks.
    pub(crate) fn put(
        &mut self,
        given: CaCertificate,
        now: OffsetDateTime,
    ) -> Result<(), CaCertificateError> {
        let CaCertificate { name, text, verified } = given;
        let refuse = |why: &str| Err(CaCertificateError(format!("certificate `{name}` {why}")));
        if !is_name(&name) {
            return refuse("needs another name: 1 to 64 letters, digits, `-`, `.` and `_`");
        }
        let certificate = match Certificate::read(&text) {
            Ok(certificate) => certificate,
            Err(why) => return refuse(&why),
        };
        if !certificate.may_sign {
            return refuse("is not the certificate of an authority");
        }
        if certificate.not_after < now {
            let end = date_time(certificate.not_after).unwrap_or_default();
            return refuse(&format!("expired on {end}"));
        }
        let key = ids::key(&name);
        if self.0.len() >= MOST && !self.0.contains_key(&key) {
            return refuse(&format!("is one too many: the maximum is {MOST}"));
        }
        self.0.insert(key, Authority { name, certificate, verified });
        Ok(())
    }

    /// Adds certificates, or replaces those of the same names.
    pub(crate) fn overlay(&mut self, others: &Self) {
        self.0.extend(others.0.iter().map(|(name, authority)| (name.clone(), authority.clone())));
    }

    /// Marks a certificate as verified or unverified; returns whether a certificate has this name.
    pub(crate) fn mark(&mut self, name: &str, verified: bool) -> bool {
        let found = self.0.get_mut(&ids::key(name));
        found.map(|found| found.verified = verified).is_some()
    }

    /// Deletes a certificate; returns whether one had this name.
    pub(crate) fn delete(&mut self, name: &str) -> bool {
        self.0.remove(&ids::key(name)).is_some()
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Authority> {
        self.0.get(&ids::key(name))
    }

    /// All certificates in the order of their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Authority> {
        self.0.values()
    }
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
}

const MOST: usize = 25;

#[cfg(test)]
mod tests {
    use crate::crypto::pki::Pki;

    use super::*;

    #[test]
    fn names_are_compared_without_case_and_certificates_replaced() {
        let (mut authorities, now) = (Authorities::default(), OffsetDateTime::now_utc());
        let pki = Pki::new(["a"], 1).unwrap();

        authorities.put(CaCertificate::unverified("Root", &pki.root.certificate_pem), now).unwrap();
        assert!(authorities.mark("ROOT", true) && authorities.find("root").unwrap().verified);
        authorities
            .put(CaCertificate::unverified("root", &pki.intermediates[0].certificate_pem), now)
            .unwrap();

        let kept = authorities.find("root").unwrap();
        assert_eq!((kept.name.as_str(), kept.verified, authorities.iter().count()), ("root", false, 1));
        assert!(authorities.delete("ROOT") && !authorities.delete("root") && !authorities.mark("root", true));
    }

    #[test]
    fn a_refusal_says_why_a_certificate_cannot_be_uploaded() {
        let (mut authorities, now) = (Authorities::default(), OffsetDateTime::now_utc());
        let pki = Pki::new(["a"], 0).unwrap();
        let root = &pki.root.certificate_pem;

        for (name, text, now, wanted) in [
            (
                "a/b",
                root.as_str(),
                now,
                "certificate `a/b` needs another name: 1 to 64 letters, digits, `-`, `.` and `_`",
            ),
            ("a", "%", now, "certificate `a` is neither PEM nor base64: there is '%' at position 1"),
            (
                "a",
                &pki.devices[0].certificate_pem,
                now,
                "certificate `a` is not the certificate of an authority",
            ),
        ] {
            let refused = authorities.put(CaCertificate::verified(name, text), now).unwrap_err();
            assert_eq!(refused.to_string(), wanted);
        }
        let expired = authorities.put(CaCertificate::verified("a", root), now + time::Duration::days(400));
        assert!(expired.unwrap_err().to_string().starts_with("certificate `a` expired on "));
        for number in 0..25 {
            authorities.put(CaCertificate::verified(format!("ca-{number}"), root), now).unwrap();
        }
        assert!(authorities.put(CaCertificate::verified("ca-1", root), now).is_ok());
        let refused = authorities.put(CaCertificate::verified("ca-25", root), now).unwrap_err();
        assert_eq!(refused.to_string(), "certificate `ca-25` is one too many: the maximum is 25");
    }
}
