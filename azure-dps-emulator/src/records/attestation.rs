//! The attestation of an enrollment: reads it from a PUT, keeps it, and returns it.

use base64::prelude::{BASE64_STANDARD, Engine};

use crate::call::kind::Kind;
use crate::crypto::base64_text;
use crate::crypto::certificate::Certificate;
use crate::crypto::key::generate_key;
use crate::crypto::tpm_key::StorageKey;
use crate::json::{Value, json};
use crate::records::tpm;
use crate::refusal::Refusal;

/// How the devices of an enrollment prove who they are.
pub(crate) enum Attestation {
    SymmetricKey { primary: Vec<u8>, secondary: Vec<u8> },
    Tpm(Box<Tpm>),
    X509(X509),
}

/// The TPM of the device.
pub(crate) struct Tpm {
    pub(crate) endorsement_key: StorageKey,
    /// The member `tpm` as the client sent it.
    given: Value,
}

/// The certificates that decide which devices are admitted.
pub(crate) enum X509 {
    /// The device's own certificates in an individual enrollment, the signing certificates in a group.
    Certificates { member: &'static str, slots: Slots<Box<Certificate>> },
    /// Names of CA certificates that are uploaded to the instance.
    References(Slots<String>),
}

/// The primary and the secondary value; one of them may be absent.
pub(crate) struct Slots<T> {
    primary: Option<T>,
    secondary: Option<T>,
}

impl<T> Slots<T> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.primary.iter().chain(&self.secondary)
    }

    fn to_json(&self, write: impl Fn(&T) -> Value) -> Value {
        let slots = [("primary", &self.primary), ("secondary", &self.secondary)];
        let filled =
            slots.into_iter().filter_map(|(name, slot)| Some((name.to_owned(), write(slot.as_ref()?))));
        Value::Object(filled.collect())
    }
}

impl Attestation {
    /// Reads the member `attestation` of a PUT; keys and certificates that it leaves out come from `stored`.
    pub(crate) fn read(
        kind: Kind,
        given: Option<&Value>,
        stored: Option<&Attestation>,
    ) -> Result<Self, Refusal> {
        let given = given.ok_or_else(|| Refusal::invalid("attestation is missing"))?;
        let word = given["type"].as_str().ok_or_else(|| Refusal::invalid("attestation.type is missing"))?;
        let foreign =
            ["tpm", "x509", "symmetricKey"].into_iter().find(|name| *name != word && !given[name].is_null());
        if let Some(name) = foreign {
            return Err(Refusal::invalid(format!(
                "attestation.{name} does not belong to attestation.type {word}"
            )));
        }
        match (word, kind) {
            ("symmetricKey", _) => read_keys(&given["symmetricKey"], stored),
            ("x509", _) => read_x509(kind, &given["x509"], stored),
            ("tpm", Kind::Individual) => read_tpm(&given["tpm"]),
            _ => {
                Err(Refusal::invalid(format!("attestation.type {word} is not possible for {}", kind.noun())))
            }
        }
    }

    pub(crate) fn word(&self) -> &'static str {
        match self {
            Attestation::SymmetricKey { .. } => "symmetricKey",
            Attestation::Tpm(_) => "tpm",
            Attestation::X509(_) => "x509",
        }
    }

    /// The primary and the secondary key.
    pub(crate) fn keys(&self) -> Option<[&Vec<u8>; 2]> {
        match self {
            Attestation::SymmetricKey { primary, secondary } => Some([primary, secondary]),
            Attestation::Tpm(_) | Attestation::X509(_) => None,
        }
    }

    /// The own or signing certificates; none in an enrollment that refers to CA certificates.
    pub(crate) fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        let slots = match self {
            Attestation::X509(X509::Certificates { slots, .. }) => Some(slots),
            _ => None,
        };
        slots.into_iter().flat_map(Slots::iter).map(Box::as_ref)
    }

    /// The attestation as GET returns it: without symmetric keys.
    pub(crate) fn public(&self) -> Value {
        match self {
            Attestation::SymmetricKey { .. } => json!({"type": self.word()}),
            Attestation::Tpm(_) | Attestation::X509(_) => self.with_secrets(),
        }
    }

    /// The attestation as PUT and the attestation mechanism return it: with symmetric keys.
    pub(crate) fn with_secrets(&self) -> Value {
        match self {
            Attestation::SymmetricKey { primary, secondary } => json!({
                "type": self.word(),
                "symmetricKey": {
                    "primaryKey": BASE64_STANDARD.encode(primary),
                    "secondaryKey": BASE64_STANDARD.encode(secondary),
                },
            }),
            Attestation::Tpm(tpm) => json!({"type": self.word(), "tpm": tpm.given}),
            Attestation::X509(X509::Certificates { member, slots }) => {
                let slots = slots.to_json(|certificate| json!({"info": certificate.info()}));
                json!({"type": self.word(), "x509": {(*member): slots}})
            }
            Attestation::X509(X509::References(slots)) => {
                let slots = slots.to_json(|name| name.as_str().into());
                json!({"type": self.word(), "x509": {(REFERENCES): slots}})
            }
        }
    }
}

impl Attestation {
    /// The attestation in a saved state: with keys and whole certificates, as a client would send it.
    pub(crate) fn saved(&self) -> Value {
        match self {
            Attestation::X509(X509::Certificates { member, slots }) => {
                let slots = slots.to_json(
                    |certificate| json!({"certificate": (BASE64_STANDARD.encode(certificate.der()))}),
                );
                json!({"type": self.word(), "x509": {(*member): slots}})
            }
            _ => self.with_secrets(),
        }
    }
}

fn read_keys(given: &Value, stored: Option<&Attestation>) -> Result<Attestation, Refusal> {
    let (stored_primary, stored_secondary) = match stored {
        Some(Attestation::SymmetricKey { primary, secondary }) => (Some(primary), Some(secondary)),
        _ => (None, None),
    };
    Ok(Attestation::SymmetricKey {
        primary: read_key(given, "primaryKey", stored_primary)?,
        secondary: read_key(given, "secondaryKey", stored_secondary)?,
    })
}

fn read_key(given: &Value, name: &str, stored: Option<&Vec<u8>>) -> Result<Vec<u8>, Refusal> {
    let invalid = |why: String| {
        Refusal::invalid(format!(
            "attestation.symmetricKey.{name} must be base64 of 16 to 64 bytes; it {why}"
        ))
    };
    match given[name].as_str() {
        None | Some("") => stored.cloned().map_or_else(generate_key, Ok),
        Some(text) => match base64_text::decode(text) {
            Ok(key) if (16..=64).contains(&key.len()) => Ok(key),
            Ok(key) => Err(invalid(format!("has {} bytes", key.len()))),
            Err(why) => Err(invalid(format!("is not base64: {why}"))),
        },
    }
}

fn read_tpm(given: &Value) -> Result<Attestation, Refusal> {
    let endorsement_key = tpm::read_key("attestation.tpm", given, "endorsementKey")?;
    // The key itself is not kept: devices present their storage root key with every registration.
    if let Some(key) = given["storageRootKey"].as_str() {
        base64_text::decode(key).map_err(|why| {
            Refusal::invalid(format!("attestation.tpm.storageRootKey is not base64: {why}"))
        })?;
    }
    Ok(Attestation::Tpm(Box::new(Tpm { endorsement_key, given: given.clone() })))
}

fn read_x509(kind: Kind, given: &Value, stored: Option<&Attestation>) -> Result<Attestation, Refusal> {
    let own = match kind {
        Kind::Individual => "clientCertificates",
        Kind::Group => "signingCertificates",
    };
    let present: Vec<&str> = X509_MEMBERS.into_iter().filter(|member| !given[member].is_null()).collect();
    match present.as_slice() {
        [member] if *member == own => {
            let stored = match stored {
                Some(Attestation::X509(X509::Certificates { member, slots })) if *member == own => {
                    Some(slots)
                }
                _ => None,
            };
            let slots = read_slots(&given[own], own, |slot, path| read_certificate(slot, stored, path))?;
            Ok(Attestation::X509(X509::Certificates { member: own, slots }))
        }
        [REFERENCES] => {
            let slots = read_slots(&given[REFERENCES], REFERENCES, |name, _| {
                Ok(name.as_str().unwrap_or_default().to_owned())
            })?;
            Ok(Attestation::X509(X509::References(slots)))
        }
        _ => {
            let message =
                format!("attestation.x509 of {} must have either {own} or {REFERENCES}", kind.noun());
            Err(Refusal::invalid(message))
        }
    }
}

/// Reads both slots of a member. At least one must have a value; an empty text counts as absent.
fn read_slots<T>(
    given: &Value,
    member: &str,
    read: impl Fn(&Value, &str) -> Result<T, Refusal>,
) -> Result<Slots<T>, Refusal> {
    let path = |slot: &str| format!("attestation.x509.{member}.{slot}");
    let slot = |name: &str| {
        let filled = given.get(name).filter(|slot| slot.as_str() != Some(""));
        filled.map(|slot| read(slot, &path(name))).transpose()
    };
    let slots = Slots { primary: slot("primary")?, secondary: slot("secondary")? };
    if slots.iter().next().is_none() {
        return Err(Refusal::invalid(format!("{} is missing", path("primary"))));
    }
    Ok(slots)
}

/// Returns the new certificate, or the stored one whose thumbprint the request repeats.
fn read_certificate(
    given: &Value,
    stored: Option<&Slots<Box<Certificate>>>,
    path: &str,
) -> Result<Box<Certificate>, Refusal> {
    let thumbprint = given.pointer("/info/sha256Thumbprint").and_then(Value::as_str);
    match given["certificate"].as_str() {
        Some(text) if !text.is_empty() => {
            let read = Certificate::read(text).map(Box::new);
            read.map_err(|why| Refusal::invalid(format!("{path}.certificate {why}")))
        }
        _ => stored
            .into_iter()
            .flat_map(Slots::iter)
            .find(|kept| thumbprint.is_some_and(|thumbprint| kept.sha256_thumbprint() == thumbprint))
            .cloned()
            .ok_or_else(|| Refusal::invalid(format!("{path}.certificate is missing"))),
    }
}

const REFERENCES: &str = "caReferences";
const X509_MEMBERS: [&str; 3] = ["clientCertificates", "signingCertificates", REFERENCES];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::tpm_key::PUBLISHED_KEY;

    const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

    #[test]
    fn missing_and_empty_keys_are_generated_and_later_kept() {
        let created =
            read(json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": KEY, "secondaryKey": ""}}));
        let Attestation::SymmetricKey { primary, secondary } = &created else { panic!("no keys") };
        assert_eq!(primary, b"0123456789abcdef0123456789abcdef");
        assert_eq!(secondary.len(), 32);

        let again = json!({"type": "symmetricKey"});
        let updated = Attestation::read(Kind::Individual, Some(&again), Some(&created)).unwrap();

        assert_eq!(updated.with_secrets(), created.with_secrets());
        assert_eq!(created.public(), json!({"type": "symmetricKey"}));
    }

    #[test]
    fn every_generated_key_is_different() {
        assert_ne!(generate_key().unwrap(), generate_key().unwrap());
    }

    #[test]
    fn a_refusal_names_the_member_and_its_fault() {
        let key = |key: &str| json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": key}});
        let bad_key = "attestation.symmetricKey.primaryKey must be base64 of 16 to 64 bytes";
        let not_base64 = format!("{bad_key}; it is not base64: there is '%' at position 1");
        assert_eq!(refusal(Kind::Individual, key("%")), not_base64);
        assert_eq!(refusal(Kind::Individual, key("AAAA")), format!("{bad_key}; it has 3 bytes"));
        assert_eq!(refusal(Kind::Group, key(&"A".repeat(88))), format!("{bad_key}; it has 66 bytes"));
        assert_eq!(refusal(Kind::Individual, json!({})), "attestation.type is missing");
        assert_eq!(
            refusal(Kind::Individual, json!({"type": "none"})),
            "attestation.type none is not possible for an individual enrollment"
        );
        assert_eq!(
            refusal(Kind::Group, json!({"type": "tpm", "tpm": {"endorsementKey": "AAAA"}})),
            "attestation.type tpm is not possible for an enrollment group"
        );
        assert_eq!(
            refusal(Kind::Individual, json!({"type": "tpm"})),
            "attestation.tpm.endorsementKey is missing"
        );
        let tpm = |keys: Value| refusal(Kind::Individual, json!({"type": "tpm", "tpm": keys}));
        assert_eq!(
            tpm(json!({"endorsementKey": "%"})),
            "attestation.tpm.endorsementKey is not base64: there is '%' at position 1"
        );
        assert_eq!(
            tpm(json!({"endorsementKey": "AToAAQ=="})),
            "attestation.tpm.endorsementKey is no TPM2B_PUBLIC: its first two bytes are not the length of the rest"
        );
        assert_eq!(
            tpm(json!({"endorsementKey": PUBLISHED_KEY, "storageRootKey": "%"})),
            "attestation.tpm.storageRootKey is not base64: there is '%' at position 1"
        );
        assert_eq!(
            refusal(Kind::Individual, json!({"type": "tpm", "symmetricKey": {}})),
            "attestation.symmetricKey does not belong to attestation.type tpm"
        );
        assert_eq!(
            refusal(Kind::Individual, json!({"type": "x509", "x509": {"signingCertificates": {}}})),
            "attestation.x509 of an individual enrollment must have either clientCertificates or caReferences"
        );
        assert_eq!(
            refusal(
                Kind::Group,
                json!({"type": "x509", "x509": {"signingCertificates": {"primary": {"certificate": ""}}}})
            ),
            "attestation.x509.signingCertificates.primary.certificate is missing"
        );
        assert_eq!(
            refusal(Kind::Group, json!({"type": "x509", "x509": {"caReferences": {}}})),
            "attestation.x509.caReferences.primary is missing"
        );
    }

    #[test]
    fn references_and_tpm_keys_are_returned_as_they_were_sent() {
        for attestation in [
            json!({"type": "x509", "x509": {"caReferences": {"primary": "root-2026"}}}),
            json!({"type": "tpm", "tpm": {"endorsementKey": PUBLISHED_KEY, "storageRootKey": ""}}),
        ] {
            assert_eq!(read(attestation.clone()).public(), attestation);
        }
    }

    fn read(given: Value) -> Attestation {
        Attestation::read(Kind::Individual, Some(&given), None).unwrap()
    }

    fn refusal(kind: Kind, given: Value) -> String {
        match Attestation::read(kind, Some(&given), None) {
            Ok(_) => panic!("the attestation was not refused"),
            Err(refusal) => {
                assert_eq!(refusal.message, refusal.cause);
                refusal.cause
            }
        }
    }
}
