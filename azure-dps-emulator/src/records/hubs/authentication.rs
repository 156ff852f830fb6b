//! How a device authenticates at its hub.

use base64::prelude::{BASE64_STANDARD, Engine};

use serde::{Deserialize, Serialize};

use crate::crypto::certificate::Certificate;
use crate::crypto::sas::Token;
use crate::json::{Value, json};
use crate::records::proof::Proof;

#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) enum Authentication {
    Sas {
        #[serde(with = "crate::saved::bytes")]
        primary: Vec<u8>,
        #[serde(with = "crate::saved::bytes")]
        secondary: Vec<u8>,
    },
    /// The thumbprints, SHA-1 or SHA-256, in hexadecimal digits. The service registers one with SHA-1.
    SelfSigned { primary: Option<String>, secondary: Option<String> },
    /// With any certificate for its id below a verified CA certificate.
    CertificateAuthority,
}

impl Authentication {
    /// A device authenticates at its hub with what it proved its identity to the service with.
    pub(crate) fn of(proof: &Proof) -> Self {
        match proof {
            Proof::SymmetricKey { primary, secondary } => {
                Authentication::Sas { primary: primary.clone(), secondary: secondary.clone() }
            }
            Proof::Tpm(proven) => {
                let key = proven.hub_key().unwrap_or_default();
                Authentication::Sas { primary: key.to_vec(), secondary: key.to_vec() }
            }
            Proof::X509 { thumbprint } => {
                Authentication::SelfSigned { primary: Some(thumbprint.clone()), secondary: None }
            }
        }
    }

    /// The name of the type in an identity.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Authentication::Sas { .. } => "sas",
            Authentication::SelfSigned { .. } => "selfSigned",
            Authentication::CertificateAuthority => "certificateAuthority",
        }
    }

    /// Returns whether the token is signed with one of the keys.
    pub(crate) fn signed(&self, token: &Token) -> bool {
        match self {
            Authentication::Sas { primary, secondary } => {
                token.is_signed_by(primary) || token.is_signed_by(secondary)
            }
            Authentication::SelfSigned { .. } | Authentication::CertificateAuthority => false,
        }
    }

    /// Returns whether this certificate has one of the thumbprints.
    pub(crate) fn has_certificate(&self, leaf: &Certificate) -> bool {
        let Authentication::SelfSigned { primary, secondary } = self else { return false };
        let own = [leaf.sha1_thumbprint(), leaf.sha256_thumbprint()];
        let mut known = [primary, secondary].into_iter().flatten();
        known.any(|thumbprint| own.iter().any(|own| thumbprint.eq_ignore_ascii_case(own)))
    }

    pub(super) fn keys(&self) -> Value {
        let (primary, secondary) = match self {
            Authentication::Sas { primary, secondary } => (Some(primary), Some(secondary)),
            Authentication::SelfSigned { .. } | Authentication::CertificateAuthority => (None, None),
        };
        let text = |key: Option<&Vec<u8>>| key.map(|key| BASE64_STANDARD.encode(key));
        json!({"primaryKey": text(primary), "secondaryKey": text(secondary)})
    }

    pub(super) fn thumbprints(&self) -> Value {
        let (primary, secondary) = match self {
            Authentication::SelfSigned { primary, secondary } => (primary.as_ref(), secondary.as_ref()),
            Authentication::Sas { .. } | Authentication::CertificateAuthority => (None, None),
        };
        json!({"primaryThumbprint": primary, "secondaryThumbprint": secondary})
    }
}
