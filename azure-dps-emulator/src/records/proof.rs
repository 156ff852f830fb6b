//! How a device proved its identity, and the enrollment that admitted it.

use serde::{Deserialize, Serialize};

use crate::json::{Map, Value, json};
use crate::records::tpm::Proven;

/// What a device proved its identity with.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) enum Proof {
    /// The device's keys: those of its enrollment, or derived from those of its group.
    SymmetricKey {
        #[serde(with = "crate::saved::bytes")]
        primary: Vec<u8>,
        #[serde(with = "crate::saved::bytes")]
        secondary: Vec<u8>,
    },
    Tpm(Proven),
    X509 {
        /// SHA-1 of the device's certificate in capital hexadecimal digits, by which its hub knows it.
        thumbprint: String,
    },
}

impl Proof {
    /// The member that a device finds in its registration state; `None` with a symmetric key.
    pub(crate) fn state_member(&self, via: &Via) -> Option<(&'static str, Value)> {
        match (self, via) {
            (Proof::SymmetricKey { .. }, _) => None,
            (Proof::Tpm(proven), _) => {
                let sealed = proven.sealed().map(|sealed| ("authenticationKey".to_owned(), sealed.into()));
                Some(("tpm", sealed.into_iter().collect::<Map>().into()))
            }
            (Proof::X509 { .. }, Via::Individual) => Some(("x509", json!({}))),
            (Proof::X509 { .. }, Via::Group(group)) => Some(("x509", json!({"enrollmentGroupId": group}))),
        }
    }
}

/// The kind of enrollment that admitted a device.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Via {
    Individual,
    Group(String),
}
