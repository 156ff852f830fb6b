//! A test PKI: the certificates of a fleet, in memory or in files. For tests only.

use std::collections::HashSet;
use std::error::Error;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::json::{Map, Value, json};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

use crate::ids;
use crate::report;
use crate::shown_name::shown;

/// The certificates of a fleet: a root, intermediates below it, a leaf for each device, and two leaves that
/// no service should accept. The keys are P-256, and the certificates are valid for a year.
///
/// # Examples
///
/// ```
/// use azure_dps_emulator::Pki;
///
/// # fn main() -> Result<(), azure_dps_emulator::PkiError> {
/// let pki = Pki::new(["sensor-042"], 2)?;
///
/// assert_eq!(pki.intermediates.len(), 2);
/// assert!(pki.devices[0].chain_pem.starts_with("-----BEGIN CERTIFICATE-----"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Pki {
    /// The self-signed root.
    pub root: KeyedCertificate,
    /// The intermediates below the root, from the top down.
    pub intermediates: Vec<KeyedCertificate>,
    /// The leaves, in the order of the devices.
    pub devices: Vec<KeyedCertificate>,
    /// A leaf of the first device, which expired yesterday.
    pub expired: KeyedCertificate,
    /// A leaf of the first device, which another root signed.
    pub foreign: KeyedCertificate,
}

/// A certificate and its key. `Debug` does not show the key.
#[derive(Clone)]
#[non_exhaustive]
pub struct KeyedCertificate {
    /// The subject's common name, which is the registration id in a leaf.
    pub name: String,
    /// The certificate alone, as PEM.
    pub certificate_pem: String,
    /// The certificate and all intermediates above it, as PEM: the chain that a device sends.
    pub chain_pem: String,
    /// The private key, as PKCS#8 PEM.
    pub private_key_pem: String,
}

impl Pki {
    /// Makes certificates for these devices, with this number of intermediates between the root and them.
    ///
    /// # Errors
    /// [`PkiError`] if an id is not a valid registration id or is longer than a common name (64 characters),
    /// if there are more than 8 intermediates, or if a certificate cannot be made.
    pub fn new<D: Into<String>>(
        devices: impl IntoIterator<Item = D>,
        intermediates: usize,
    ) -> Result<Pki, PkiError> {
        let devices: Vec<String> = devices.into_iter().map(Into::into).collect();
        if let Some(id) = devices.iter().find(|id| !ids::is_valid(id) || id.len() > LONGEST_NAME) {
            let message = format!("`{id}` is not a valid registration id for a certificate: {ID_RULE}");
            return Err(PkiError(message.into()));
        }
        if intermediates > MOST_INTERMEDIATES {
            return Err(PkiError(
                format!("{intermediates} intermediates are too many: the maximum is 8").into(),
            ));
        }
        Self::signed(&devices, intermediates).map_err(|why| PkiError(why.into()))
    }

    fn signed(devices: &[String], intermediates: usize) -> Result<Pki, rcgen::Error> {
        let (root, mut issuer) = Authority::root("Azure DPS test root")?;
        let mut authorities = Vec::new();
        for number in 1..=intermediates {
            let (certificate, next) = issuer.below(&format!("Azure DPS test intermediate {number}"))?;
            authorities.push(certificate);
            issuer = next;
        }
        let year = in_a_year();
        let first = devices.first().map_or("device", String::as_str);
        Ok(Pki {
            devices: devices.iter().map(|id| issuer.leaf(id, year)).collect::<Result<_, _>>()?,
            expired: issuer.leaf(first, OffsetDateTime::now_utc() - Duration::DAY)?,
            foreign: Authority::root("Somebody else's root")?.1.leaf(first, year)?,
            root,
            intermediates: authorities,
        })
    }

    /// Writes all certificates and keys into a directory, which is created if necessary: `root.pem`,
    /// `intermediate-N.pem` from 1 on, a file named after each device, `expired.pem` and `foreign.pem`. Each
    /// has a `…-key.pem`, which only the owner can read, and all but the root have a `…-chain.pem`.
    ///
    /// The result has the members of `POST /pki`, with the paths of the files instead of their contents.
    ///
    /// # Errors
    /// [`PkiError`] if a file already exists, two files would have the same name, an id cannot be the name of
    /// a file, or the system reports an error. Nothing is ever overwritten.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use azure_dps_emulator::Pki;
    ///
    /// # fn main() -> Result<(), azure_dps_emulator::PkiError> {
    /// let files = Pki::new(["sensor-042"], 1)?.write_to("fleet")?;
    ///
    /// let chain = files["devices"][0]["chain"].as_str().unwrap_or_default();
    /// assert!(chain.ends_with("sensor-042-chain.pem"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn write_to(&self, directory: impl AsRef<Path>) -> Result<serde_json::Value, PkiError> {
        let directory = directory.as_ref();
        let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        if let Some(device) = self.devices.iter().find(|device| !ids::is_valid(&device.name)) {
            return Err(PkiError(format!("`{}` is not a valid registration id", device.name).into()));
        }
        let mut files = Vec::new();
        let listed = self.each(|kind, number, of| {
            let stem = match kind {
                "intermediates" => format!("intermediate-{number}"),
                "devices" => of.name.clone(),
                other => other.to_owned(),
            };
            let mut listed = Map::from_iter([("name".to_owned(), of.name.as_str().into())]);
            let mut file = |member: &str, suffix: &str, content: &str, private: bool| {
                let path = directory.join(format!("{stem}{suffix}.pem"));
                listed.insert(member.to_owned(), path.to_string_lossy().into());
                files.push(NewFile { path, content: content.to_owned(), private });
            };
            file("certificate", "", &of.certificate_pem, false);
            if kind != "root" {
                file("chain", "-chain", &of.chain_pem, false);
            }
            file("privateKey", "-key", &of.private_key_pem, true);
            listed.into()
        });
        let mut paths = HashSet::new();
        for NewFile { path, .. } in &files {
            if path.exists() {
                return Err(PkiError(
                    format!("{} already exists, and nothing is overwritten", shown(&path)).into(),
                ));
            }
            if !paths.insert(path.to_string_lossy().to_lowercase()) {
                return Err(PkiError(format!("two files would be named {}", shown(&path)).into()));
            }
        }
        let named = |path: &Path, error: io::Error| PkiError(format!("{}: {error}", shown(&path)).into());
        if directory.exists() && !directory.is_dir() {
            return Err(PkiError(format!("{} is not a directory", shown(&directory)).into()));
        }
        fs::create_dir_all(&directory).map_err(|error| named(&directory, error))?;
        for file in &files {
            file.write().map_err(|error| named(&file.path, error))?;
        }
        Ok(listed.into())
    }

    /// All certificates and keys as the management port returns them.
    pub(crate) fn to_json(&self) -> Value {
        self.each(|_, _, of| {
            json!({
                "name": of.name,
                "certificate": of.certificate_pem,
                "chain": of.chain_pem,
                "privateKey": of.private_key_pem,
            })
        })
    }

    /// Describes each certificate with `describe`, which gets the member of the result and the number in it,
    /// from 1 on.
    fn each(&self, mut describe: impl FnMut(&'static str, usize, &KeyedCertificate) -> Value) -> Value {
        let root = describe("root", 1, &self.root);
        let mut list = |kind, of: &[KeyedCertificate]| -> Value {
            of.iter().zip(1..).map(|(certificate, number)| describe(kind, number, certificate)).collect()
        };
        json!({
            "root": root,
            "intermediates": list("intermediates", &self.intermediates),
            "devices": list("devices", &self.devices),
            "expired": describe("expired", 1, &self.expired),
            "foreign": describe("foreign", 1, &self.foreign),
        })
    }
}

/// A file to create.
struct NewFile {
    path: PathBuf,
    content: String,
    private: bool,
}

impl NewFile {
    fn write(&self) -> io::Result<()> {
        let mut file =
            if self.private { new_private_file(&self.path)? } else { File::create_new(&self.path)? };
        file.write_all(self.content.as_bytes())
    }
}

/// Creates a file that only its owner can read. Fails if it exists.
pub(crate) fn new_private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

impl fmt::Debug for KeyedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedCertificate").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why a test PKI cannot be made or written. `{:?}` is the message.
#[derive(thiserror::Error)]
#[error("the test PKI cannot be made: {0}")]
pub struct PkiError(Box<dyn Error + Send + Sync>);

impl fmt::Debug for PkiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        report::debug(f, self, |f| f.debug_tuple("PkiError").field(&self.0).finish())
    }
}

/// An authority, and the intermediates that are sent with the certificates that it signs.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// This authority and those above it without the root, as PEM.
    above: String,
}

impl Authority {
    fn root(name: &str) -> Result<(KeyedCertificate, Authority), rcgen::Error> {
        let key = KeyPair::generate()?;
        let private_key_pem = key.serialize_pem();
        let issuer = CertifiedIssuer::self_signed(authority(name, in_a_year())?, key)?;
        let certificate = keyed(name, issuer.pem(), issuer.pem(), private_key_pem);
        Ok((certificate, Authority { issuer, above: String::new() }))
    }

    fn below(&self, name: &str) -> Result<(KeyedCertificate, Authority), rcgen::Error> {
        let key = KeyPair::generate()?;
        let private_key_pem = key.serialize_pem();
        let issuer = CertifiedIssuer::signed_by(authority(name, in_a_year())?, key, &self.issuer)?;
        let above = format!("{}{}", issuer.pem(), self.above);
        let certificate = keyed(name, issuer.pem(), above.clone(), private_key_pem);
        Ok((certificate, Authority { issuer, above }))
    }

    fn leaf(&self, name: &str, not_after: OffsetDateTime) -> Result<KeyedCertificate, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = params(name, Vec::new(), not_after)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let pem = params.signed_by(&key, &self.issuer)?.pem();
        let chain = format!("{pem}{}", self.above);
        Ok(keyed(name, pem, chain, key.serialize_pem()))
    }
}

/// The contents of an authority's certificate.
pub(crate) fn authority(name: &str, not_after: OffsetDateTime) -> Result<CertificateParams, rcgen::Error> {
    let mut params = params(name, Vec::new(), not_after)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// The contents that all certificates share; `hosts` are the names and addresses of a server.
pub(crate) fn params(
    name: &str,
    hosts: Vec<String>,
    not_after: OffsetDateTime,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = OffsetDateTime::now_utc() - Duration::days(2);
    params.not_after = not_after;
    Ok(params)
}

fn in_a_year() -> OffsetDateTime {
    OffsetDateTime::now_utc() + Duration::days(365)
}

fn keyed(
    name: &str,
    certificate_pem: String,
    chain_pem: String,
    private_key_pem: String,
) -> KeyedCertificate {
    KeyedCertificate { name: name.to_owned(), certificate_pem, chain_pem, private_key_pem }
}

/// The upper bound of a common name in X.520.
const LONGEST_NAME: usize = 64;
const ID_RULE: &str = "it needs 1 to 64 letters, digits, `:`, `.`, `_` and `-`, of which the first is \
                       a letter or digit and the last a letter, digit or `-`";
const MOST_INTERMEDIATES: usize = 8;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::RootCertStore;
    use rustls::server::WebPkiClientVerifier;
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

    use super::*;

    #[test]
    fn chains_of_devices_end_in_the_root_and_the_two_bad_ones_do_not() {
        for intermediates in 0..3 {
            let pki = Pki::new(["a", "b"], intermediates).unwrap();
            assert_eq!(pki.intermediates.len(), intermediates);
            for (device, id) in pki.devices.iter().zip(["a", "b"]) {
                assert_eq!(device.name, id);
                assert_eq!(certificates(&device.chain_pem).len(), intermediates + 1);
                verify(&pki, device).unwrap();
                PrivateKeyDer::from_pem_slice(device.private_key_pem.as_bytes()).unwrap();
            }
            assert!(verify(&pki, &pki.expired).unwrap_err().contains("Expired"));
            assert!(verify(&pki, &pki.foreign).unwrap_err().contains("UnknownIssuer"));
        }
    }

    #[test]
    fn ids_that_cannot_be_a_common_name_are_refused() {
        for id in ["", "a b", "a/b", "a\nb"] {
            assert!(Pki::new([id], 0).is_err(), "{id:?}");
        }
        assert!(Pki::new(["x".repeat(65)], 0).unwrap_err().to_string().contains("1 to 64"));
        assert!(Pki::new(["x"], 9).is_err());
        assert!(Pki::new(Vec::<String>::new(), 0).unwrap().devices.is_empty());
    }

    #[test]
    fn debug_shows_no_private_key() {
        let text = format!("{:?}", Pki::new(["a"], 1).unwrap());
        assert!(text.contains("\"a\"") && !text.contains("BEGIN"), "{text}");
    }

    fn verify(pki: &Pki, device: &KeyedCertificate) -> Result<(), String> {
        let mut roots = RootCertStore::empty();
        roots.add(certificates(&pki.root.certificate_pem).remove(0)).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let chain = certificates(&device.chain_pem);
        let (leaf, above) = chain.split_first().unwrap();
        let verified = verifier.verify_client_cert(leaf, above, UnixTime::now());
        verified.map(drop).map_err(|error| format!("{error:?}"))
    }

    fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
    }
}
