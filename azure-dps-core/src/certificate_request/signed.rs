//! A signed request, read and checked. Pure.
//!
//! | request | result |
//! | --- | --- |
//! | DER of PKCS#10 with one common name, signed with its own key | accepted |
//! | more than 8 KB as base64 | error |
//! | not DER, or further bytes behind it | error that names the remedy |
//! | a wrong signature, or one that ring cannot check | error |
//! | no common name, or several | error |
//! | a common name that is not the registration id, character for character | error of `check` |
//! | a registration id of more than 64 characters | error of `check` |

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::error::X509Error;
use x509_parser::prelude::FromDer as _;

use crate::base64_text;
use crate::certificate::common_names;
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::id::RegistrationId;
use crate::pem::{self, Block};

/// A request that fits what the service accepts.
pub(super) struct Signed {
    pub(super) der: Vec<u8>,
    pub(super) base64: String,
    pub(super) common_name: String,
    /// DER of a SubjectPublicKeyInfo.
    pub(super) public_key: Vec<u8>,
}

impl Signed {
    pub(super) fn read_pem(text: &[u8]) -> Result<Self> {
        let blocks = pem::blocks(text).map_err(|fault| {
            refuse(format!("the certificate signing request cannot be read as PEM: {fault}"))
        })?;
        let is_request = |block: &&Block| {
            matches!(block.label.as_str(), "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST")
        };
        match blocks.iter().filter(is_request).collect::<Vec<_>>().as_slice() {
            [only] => Self::read(&only.der),
            [] => Err(refuse(
                "the text has no \"-----BEGIN CERTIFICATE REQUEST-----\": give the output of \
                 `openssl req -new -key key.pem -subj /CN=REGISTRATION_ID`",
            )),
            several => Err(refuse(format!(
                "the text has {} certificate signing requests: give the one of this device",
                several.len()
            ))),
        }
    }

    pub(super) fn read_base64(text: &str) -> Result<Self> {
        let der = base64_text::decode(text)
            .map_err(|why| refuse(format!("the certificate signing request is not base64: {why}")))?;
        Self::read(&der)
    }

    pub(super) fn read(der: &[u8]) -> Result<Self> {
        if der.len().div_ceil(3) * 4 > LONGEST {
            return Err(refuse(format!(
                "the certificate signing request is too large: its {} bytes of DER are more than {LONGEST} \
                 as base64, the most that the service accepts; leave out attributes and extensions",
                der.len()
            )));
        }
        let Ok(([], request)) = X509CertificationRequest::from_der(der) else {
            return Err(refuse(
                "the certificate signing request is not PKCS#10 in DER: for PEM text use \
                 `CertificateRequest::from_pem`, or make it again with `openssl req -new`",
            ));
        };
        request.verify_signature().map_err(|why| match why {
            X509Error::SignatureUnsupportedAlgorithm => refuse(format!(
                "the signature of the certificate signing request has an algorithm that cannot be checked \
                 ({}): {REMEDY}",
                request.signature_algorithm.algorithm
            )),
            _ => refuse(format!(
                "the signature of the certificate signing request is wrong: it was changed after it was \
                 signed, signed with another key, or its RSA key has less than 2048 bits; {REMEDY}"
            )),
        })?;
        let info = &request.certification_request_info;
        let names = common_names(&info.subject);
        let count = info.subject.iter_common_name().count();
        let common_name = match (<[String; 1]>::try_from(names), count) {
            (Ok([name]), 1) => name,
            _ => {
                return Err(refuse(format!(
                    "the subject of the certificate signing request has {count} readable common names \
                     instead of one: make it with the subject `/CN=REGISTRATION_ID`"
                )));
            }
        };
        Ok(Self {
            der: der.to_vec(),
            base64: BASE64.encode(der),
            common_name,
            public_key: info.subject_pki.raw.to_vec(),
        })
    }

    pub(super) fn check(&self, id: &RegistrationId) -> Result<()> {
        if self.common_name != id.as_str() {
            let start: String = self.common_name.chars().take(LONGEST_SHOWN).collect();
            return Err(refuse(format!(
                "the certificate signing request has the common name {start:?} and not the registration id \
                 {:?}, character for character: make it with the subject `/CN={id}`",
                id.as_str()
            )));
        }
        check_length(id)
    }
}

/// Checks that the id can be a common name.
pub(super) fn check_length(id: &RegistrationId) -> Result<()> {
    let length = id.as_str().len();
    if length > LONGEST_COMMON_NAME {
        return Err(refuse(format!(
            "the registration id {:?} has {length} characters; a certificate has it as its common name, \
             which has at most {LONGEST_COMMON_NAME}: choose a shorter one",
            id.as_str()
        )));
    }
    Ok(())
}

fn refuse(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, message)
}

const REMEDY: &str = "make the request again, with an EC key on P-384 or P-256 or an RSA key of 2048 bits, \
     and with `-sha256` or `-sha384`";
/// In characters of base64. Source: IoT Hub's certificate renewal, whose limit is 8 KB.
const LONGEST: usize = 8 * 1024;
/// Source: RFC 5280, upper bound of a common name.
const LONGEST_COMMON_NAME: usize = 64;
const LONGEST_SHOWN: usize = 80;
