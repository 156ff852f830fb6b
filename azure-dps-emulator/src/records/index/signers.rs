//! Groups by the authorities whose certificates they contain: by the subject of an authority, by its public
//! key, and by the identifier of that key.
//!
//! Many authorities may have the same subject. Only a signature tells which of them signed a certificate, so
//! the likely ones are tried first: those of likely groups, then those whose key identifier the certificate
//! names, then all others.

use std::collections::{BTreeMap, BTreeSet};

use crate::crypto::certificate::{Certificate, Fingerprint, KeyIdentifier};

/// Ids are in the form of [`crate::ids::key`].
#[derive(Default)]
pub(crate) struct Signers {
    /// By subject and public key.
    authorities: BTreeMap<(Fingerprint, Fingerprint), Signer>,
    /// Subject, key identifier and public key of each authority, and the group.
    identifiers: BTreeSet<(Fingerprint, KeyIdentifier, Fingerprint, String)>,
}

/// All certificates with the same subject and public key.
struct Signer {
    /// One of these certificates; all of them verify the same signatures.
    certificate: Certificate,
    groups: BTreeSet<String>,
}

impl Signers {
    pub(crate) fn add(&mut self, certificate: &Certificate, group: &str) {
        if !certificate.may_sign {
            return;
        }
        let (subject, key) = (certificate.subject_name, certificate.public_key);
        let signer = self
            .authorities
            .entry((subject, key))
            .or_insert_with(|| Signer { certificate: certificate.clone(), groups: BTreeSet::new() });
        signer.groups.insert(group.to_owned());
        if let Some(identifier) = &certificate.key_identifier {
            self.identifiers.insert((subject, identifier.clone(), key, group.to_owned()));
        }
    }

    /// Removes a certificate of a group, all of whose certificates are removed.
    pub(crate) fn remove(&mut self, certificate: &Certificate, group: &str) {
        let (subject, key) = (certificate.subject_name, certificate.public_key);
        if let Some(identifier) = &certificate.key_identifier {
            self.identifiers.remove(&(subject, identifier.clone(), key, group.to_owned()));
        }
        let Some(signer) = self.authorities.get_mut(&(subject, key)) else { return };
        signer.groups.remove(group);
        if signer.groups.is_empty() {
            self.authorities.remove(&(subject, key));
        }
    }

    /// The first group with a certificate of the authority that signed this certificate, and the public key
    /// of that authority. `likely` has the public keys to try first.
    pub(crate) fn of(
        &self,
        signed: &Certificate,
        likely: impl Iterator<Item = Fingerprint>,
    ) -> Option<(&str, Fingerprint)> {
        let subject = signed.issuer_name;
        let likely = likely.filter_map(|key| self.authorities.get(&(subject, key)));
        let named = signed.issuer_key_identifier.iter().flat_map(|identifier| {
            let from = (subject, identifier.clone(), LEAST, String::new());
            let same = move |(name, found, ..): &&(Fingerprint, KeyIdentifier, Fingerprint, String)| {
                *name == subject && found == identifier
            };
            self.identifiers.range(from..).take_while(same)
        });
        let named = named.filter_map(|(_, _, key, _)| self.authorities.get(&(subject, *key)));
        let others = self.authorities.range((subject, LEAST)..=(subject, GREATEST)).map(|(_, signer)| signer);
        let mut tried = BTreeSet::new();
        let signer = likely.chain(named).chain(others).find(|signer| {
            tried.insert(signer.certificate.public_key) && signed.is_signed_by(&signer.certificate)
        })?;
        Some((signer.groups.first()?, signer.certificate.public_key))
    }
}

const LEAST: Fingerprint = [0; 32];
const GREATEST: Fingerprint = [0xff; 32];
