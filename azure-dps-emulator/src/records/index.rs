//! Finds enrollments by what a device presents: its certificate, the authority that signed it, or a token
//! whose key is derived from a group key. Where several fit, the first by id is found, as a search finds it.

mod group_keys;
mod holders;
mod signers;

use std::collections::{BTreeSet, HashMap};

use self::group_keys::GroupKeys;
use self::holders::Holders;
use self::signers::Signers;
use crate::call::kind::Kind;
use crate::crypto::certificate::{Certificate, Fingerprint};
use crate::ids;
use crate::records::attestation::{Attestation, X509};

/// An index on the enrollments of one kind. Ids are in the form of [`ids::key`].
#[derive(Default)]
pub(crate) struct Index {
    /// By the thumbprint of a certificate.
    certificates: HashMap<Fingerprint, Holders>,
    /// The names of the CA certificates to which groups refer.
    references: BTreeSet<(String, String)>,
    pub(crate) signers: Signers,
    pub(crate) keys: GroupKeys,
}

impl Index {
    pub(crate) fn add(&mut self, kind: Kind, id: &str, attestation: &Attestation) {
        let id = ids::key(id);
        match attestation {
            Attestation::X509(X509::Certificates { slots, .. }) => {
                for certificate in slots.iter() {
                    let holders = self.certificates.entry(certificate.thumbprint);
                    holders
                        .and_modify(|holders| holders.add(id.clone()))
                        .or_insert_with(|| Holders::new(id.clone()));
                    if kind == Kind::Group {
                        self.signers.add(certificate, &id);
                    }
                }
            }
            Attestation::X509(X509::References(names)) if kind == Kind::Group => {
                self.references.extend(names.iter().map(|name| (ids::key(name), id.clone())));
            }
            Attestation::SymmetricKey { primary, secondary } if kind == Kind::Group => {
                self.keys.add(primary, secondary, &id);
            }
            _ => {}
        }
    }

    pub(crate) fn remove(&mut self, id: &str, attestation: &Attestation) {
        let id = ids::key(id);
        match attestation {
            Attestation::X509(X509::Certificates { slots, .. }) => {
                for certificate in slots.iter() {
                    let holders = self.certificates.remove(&certificate.thumbprint);
                    if let Some(others) = holders.and_then(|holders| holders.without(&id)) {
                        self.certificates.insert(certificate.thumbprint, others);
                    }
                    self.signers.remove(certificate, &id);
                }
            }
            Attestation::X509(X509::References(names)) => {
                for name in names.iter() {
                    self.references.remove(&(ids::key(name), id.clone()));
                }
            }
            Attestation::SymmetricKey { primary, secondary } => self.keys.remove(primary, secondary, &id),
            Attestation::Tpm(_) => {}
        }
    }

    /// The enrollments that contain this certificate, in the order of their ids.
    pub(crate) fn with_certificate(&self, certificate: &Certificate) -> impl Iterator<Item = &str> {
        self.certificates.get(&certificate.thumbprint).into_iter().flat_map(Holders::iter)
    }

    /// The first group that refers to this CA certificate.
    pub(crate) fn referring_to(&self, name: &str) -> Option<&str> {
        let name = ids::key(name);
        let (found, id) = self.references.range((name.clone(), String::new())..).next()?;
        (*found == name).then_some(id)
    }
}
