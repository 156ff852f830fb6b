//! The issuing authority: a P-384 root and an intermediate below it, which signs the certificates of devices.
//!
//! It has nothing to do with the authority of the emulator's server certificate, and clients do not have to
//! trust it. Both certificates are limited to the authentication of clients, so that they cannot vouch for a
//! server. They do not expire at any time of the emulator's clock, so that only the certificates of devices
//! do. The key of the root is dropped as soon as it has signed the intermediate.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P384_SHA384, SerialNumber,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::macros::datetime;

use crate::crypto::certificate::{Certificate, from_pem};
use crate::crypto::csr::RequestedKey;
use crate::crypto::key_files::{Kept, KeyFiles, named, read};
use crate::issuance::device_id;
use crate::shown_name::shown;

pub(crate) struct IssuingAuthority {
    intermediate: Certificate,
    signer: Issuer<'static, KeyPair>,
    /// The certificates above a device's: the intermediate alone, or also the root.
    above: [Arc<[String]>; 2],
    root_pem: String,
    /// The intermediate and then the root.
    pem: String,
}

/// A saved authority: its certificates and the key of the intermediate as PEM.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SavedAuthority {
    root: String,
    intermediate: String,
    intermediate_key: String,
}

/// The contents of a certificate for a device.
pub(crate) struct Leaf<'a> {
    pub(crate) common_name: &'a str,
    pub(crate) key: &'a RequestedKey,
    pub(crate) device_id: &'a str,
    pub(crate) serial: [u8; 16],
    pub(crate) not_before: OffsetDateTime,
    pub(crate) not_after: OffsetDateTime,
}

/// A certificate for a device, with the authorities that are sent with it. Each is base64 of DER.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(from = "Vec<String>", into = "Vec<String>")]
pub(crate) struct IssuedChain {
    leaf: String,
    above: Arc<[String]>,
}

impl IssuedChain {
    /// The chain, the leaf first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.leaf).chain(self.above.iter()).map(String::as_str)
    }
}

impl From<IssuedChain> for Vec<String> {
    fn from(chain: IssuedChain) -> Self {
        chain.iter().map(str::to_owned).collect()
    }
}

impl From<Vec<String>> for IssuedChain {
    fn from(chain: Vec<String>) -> Self {
        let mut chain = chain.into_iter();
        IssuedChain { leaf: chain.next().unwrap_or_default(), above: chain.collect() }
    }
}

impl IssuingAuthority {
    /// Makes a new authority in memory.
    pub(crate) fn new() -> Result<Self, Box<dyn Error + Send + Sync>> {
        let (root_pem, intermediate_pem, key) = make()?;
        Self::of(&root_pem, &intermediate_pem, key)
    }

    /// Reads the authority from a directory, or creates it if none of its files exists.
    ///
    /// # Errors
    /// Says what is wrong with a file. An existing authority is never replaced.
    pub(crate) fn kept(dir: &Path) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let files = KeyFiles::named(dir, "issuing-ca");
        let root = dir.join("issuing-root.pem");
        if !files.exist() && !root.exists() {
            let (root_pem, intermediate_pem, key) = make()?;
            fs::create_dir_all(dir).map_err(|error| named(dir, &error))?;
            files.create(&intermediate_pem, &key)?;
            fs::write(&root, &root_pem).map_err(|error| named(&root, &error))?;
            return Self::of(&root_pem, &intermediate_pem, key);
        }
        let Kept { pem, key, .. } = files.read()?;
        let authority = Self::of(&read(&root)?, &pem, key);
        authority.map_err(|why| format!("the issuing authority in {}: {why}; {ANEW}", shown(dir)).into())
    }

    fn of(root_pem: &str, pem: &str, key: KeyPair) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let certificate = |pem: &str| {
            from_pem(pem.as_bytes()).and_then(|der| Certificate::from_der(&der).map_err(str::to_owned))
        };
        let root = certificate(root_pem).map_err(|why| format!("the root {why}"))?;
        let intermediate = certificate(pem).map_err(|why| format!("the intermediate {why}"))?;
        // Certificates of devices name it as their issuer.
        if intermediate.subject != format!("CN={INTERMEDIATE}") {
            return Err(format!(
                "the intermediate is called {}, not CN={INTERMEDIATE}",
                intermediate.subject
            )
            .into());
        }
        if !intermediate.is_signed_by(&root) {
            return Err("the root did not sign the intermediate".into());
        }
        let signer = Issuer::new(params(INTERMEDIATE, 0), key);
        let base64 = [&intermediate, &root].map(|one| BASE64_STANDARD.encode(one.der()));
        let above = [base64.iter().take(1).cloned().collect(), Arc::from(base64)];
        let (root_pem, pem) = (root_pem.to_owned(), format!("{pem}{root_pem}"));
        Ok(IssuingAuthority { intermediate, signer, above, root_pem, pem })
    }

    pub(crate) fn saved(&self) -> SavedAuthority {
        SavedAuthority {
            root: self.root_pem.clone(),
            intermediate: self.pem.strip_suffix(&self.root_pem).unwrap_or_default().to_owned(),
            intermediate_key: self.signer.key().serialize_pem(),
        }
    }

    /// # Errors
    /// Says what is wrong with a certificate or the key.
    pub(crate) fn restored(saved: &SavedAuthority) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let key = Kept::of(&saved.intermediate, &saved.intermediate_key)?.key;
        Self::of(&saved.root, &saved.intermediate, key)
    }

    /// Lets a chain that ends with this authority share its certificates.
    pub(crate) fn share(&self, chain: &mut IssuedChain) {
        if let Some(own) = self.above.iter().find(|own| **own == chain.above) {
            chain.above = Arc::clone(own);
        }
    }

    /// The certificates of the intermediate and the root, as PEM.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// Returns whether this authority signed a certificate.
    pub(crate) fn signed(&self, certificate: &Certificate) -> bool {
        certificate.is_signed_by(&self.intermediate)
    }

    /// Signs a certificate. The chain ends with the root if `with_root` says so, or else below it.
    pub(crate) fn issue(&self, leaf: &Leaf<'_>, with_root: bool) -> Result<IssuedChain, rcgen::Error> {
        let mut params = named_params(leaf.common_name);
        params.serial_number = Some(SerialNumber::from_slice(&leaf.serial));
        (params.not_before, params.not_after) = (leaf.not_before, leaf.not_after);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let content = device_id::encode(leaf.device_id);
        params.custom_extensions = vec![CustomExtension::from_oid_content(device_id::OID, content)];
        let signed = params.signed_by(leaf.key, &self.signer)?;
        let [short, long] = &self.above;
        Ok(IssuedChain {
            leaf: BASE64_STANDARD.encode(signed.der()),
            above: Arc::clone(if with_root { long } else { short }),
        })
    }
}

/// A new root and intermediate as PEM, and the key of the intermediate.
fn make() -> Result<(String, String, KeyPair), rcgen::Error> {
    let [root_key, key] = [(); 2].map(|()| KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384));
    let (root_key, key) = (root_key?, key?);
    let (root, mut intermediate) = (params(ROOT, 1), params(INTERMEDIATE, 0));
    intermediate.use_authority_key_identifier_extension = true;
    let root_pem = root.self_signed(&root_key)?.pem();
    let intermediate_pem = intermediate.signed_by(&key, &Issuer::new(root, root_key))?.pem();
    Ok((root_pem, intermediate_pem, key))
}

/// The contents of an authority's certificate, which allows this number of authorities below itself.
fn params(name: &str, below: u8) -> CertificateParams {
    let mut params = named_params(name);
    (params.not_before, params.not_after) = (FIRST, LAST);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn named_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

const ROOT: &str = "Azure DPS emulator issuing root";
const INTERMEDIATE: &str = "Azure DPS emulator issuing CA";
/// Before the first time of the emulator's clock.
const FIRST: OffsetDateTime = datetime!(1969-01-01 00:00 UTC);
/// RFC 5280: no well-defined expiration.
const LAST: OffsetDateTime = datetime!(9999-12-31 23:59:59 UTC);
const ANEW: &str =
    "delete issuing-ca.pem, issuing-ca-key.pem and issuing-root.pem there, and the next start makes new ones";
