//! A certificate and its private key in two files of a directory, which only the owner of the key can read.

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rcgen::{KeyPair, PublicKeyData};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::crypto::{certificate, pem, pki};
use crate::limited_file;
use crate::shown_name::shown;

/// The paths of the two files.
pub(crate) struct KeyFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// A certificate and its key, which belong together.
pub(crate) struct Kept {
    pub(crate) pem: String,
    pub(crate) der: Vec<u8>,
    pub(crate) key: KeyPair,
}

impl KeyFiles {
    /// The files `{name}.pem` and `{name}-key.pem`.
    pub(crate) fn named(directory: &Path, name: &str) -> Self {
        let path = |suffix: &str| directory.join(format!("{name}{suffix}.pem"));
        KeyFiles { certificate: path(""), key: path("-key") }
    }

    /// Returns whether one of the files exists.
    pub(crate) fn exist(&self) -> bool {
        self.certificate.exists() || self.key.exists()
    }

    /// # Errors
    /// Says which file exists or cannot be written.
    pub(crate) fn create(&self, certificate_pem: &str, key: &KeyPair) -> Result<(), String> {
        let written = pki::new_private_file(&self.key)
            .and_then(|mut file| file.write_all(key.serialize_pem().as_bytes()));
        written.map_err(|error| named(&self.key, &error))?;
        fs::write(&self.certificate, certificate_pem).map_err(|error| named(&self.certificate, &error))
    }

    /// # Errors
    /// Says which file cannot be read, or that the two do not belong together.
    pub(crate) fn read(&self) -> Result<Kept, Box<dyn Error + Send + Sync>> {
        Kept::read(
            (&read(&self.certificate)?, &shown(&self.certificate)),
            (&read(&self.key)?, &shown(&self.key)),
        )
    }
}

impl Kept {
    /// Reads a certificate and its key, as PEM.
    ///
    /// # Errors
    /// Says what is wrong with one of them, or that they do not belong together.
    pub(crate) fn of(certificate_pem: &str, key_pem: &str) -> Result<Self, Box<dyn Error + Send + Sync>> {
        Self::read((certificate_pem, "the certificate"), (key_pem, "the key"))
    }

    /// Reads both texts. Their names begin the errors.
    fn read(
        (pem, certificate_name): (&str, &str),
        (key, key_name): (&str, &str),
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let key = pem::private_key(key.as_bytes()).map_err(|why| format!("{key_name} {why}"))?;
        let key = KeyPair::try_from(key).map_err(|_| {
            format!("{key_name} has a key that is neither RSA, P-256, P-384 nor Ed25519 in PKCS#8")
        })?;
        let der = certificate::from_pem(pem.as_bytes()).map_err(|why| format!("{certificate_name} {why}"))?;
        let Ok(([], certificate)) = X509Certificate::from_der(&der) else {
            return Err(format!("{certificate_name} has a block that is not an X.509 certificate").into());
        };
        if certificate.public_key().raw != key.subject_public_key_info() {
            return Err(format!("{certificate_name} and {key_name} do not belong together").into());
        }
        Ok(Kept { pem: pem.to_owned(), der, key })
    }
}

/// Reads a text file; the error names it.
pub(crate) fn read(path: &Path) -> Result<String, String> {
    limited_file::text(path, LARGEST_MEBIBYTES).map_err(|error| named(path, &error))
}

/// The error of the system behind the path.
pub(crate) fn named(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", shown(path))
}

/// The largest PEM file.
const LARGEST_MEBIBYTES: usize = 1;
