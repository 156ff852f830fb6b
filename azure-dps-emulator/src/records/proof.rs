//! How a device proved its identity, and by which kind of enrollment.

use crate::json::{Map, Value, json};
use crate::records::tpm::Proven;

/// What a device proved itself with.
pub(crate) enum Proof {
    /// With one of its own keys: those of its enrollment, or derived from those of its group.
    SymmetricKey {
        primary: Vec<u8>,
        secondary: Vec<u8>,
    },
    Tpm(Proven),
    /// The description of its certificate.
    X509 {
        leaf: Value,
    },
}

impl Proof {
    /// The member of a registration state that tells the device about it. With a symmetric key there is none.
    pub(crate) fn told(&self, via: &Via) -> Option<(&'static str, Value)> {
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

/// How a device is enrolled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    Individual,
    Group(String),
}
