//! The public keys of a TPM.

use serde::{Deserialize, Serialize};

use crate::models::nulls;
use crate::sensitive::{OtherMembers, Sensitive};

/// The public keys of a TPM: in an individual enrollment, and in the request of a device.
///
/// Source: DPS service and device REST API 2021-10-01, TpmAttestation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct TpmAttestation {
    /// Base64 of the endorsement key as `TPM2B_PUBLIC`.
    #[serde(default, deserialize_with = "nulls::as_default", skip_serializing_if = "is_empty")]
    pub endorsement_key: Sensitive<String>,
    /// Base64 of the storage root key as `TPM2B_PUBLIC`. A device sends it; in an enrollment it is optional,
    /// and the service may return an empty text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_root_key: Option<Sensitive<String>>,
    /// Members that this crate does not know.
    #[serde(flatten)]
    pub other: OtherMembers,
}

fn is_empty(key: &Sensitive<String>) -> bool {
    key.is_empty()
}

impl TpmAttestation {
    /// A TPM with this endorsement key, base64 of `TPM2B_PUBLIC`.
    pub fn new(endorsement_key: impl Into<Sensitive<String>>) -> Self {
        Self { endorsement_key: endorsement_key.into(), storage_root_key: None, other: OtherMembers::new() }
    }

    /// Adds the storage root key, base64 of `TPM2B_PUBLIC`.
    pub fn with_storage_root_key(mut self, storage_root_key: impl Into<Sensitive<String>>) -> Self {
        self.storage_root_key = Some(storage_root_key.into());
        self
    }
}

impl From<&str> for TpmAttestation {
    fn from(endorsement_key: &str) -> Self {
        Self::new(endorsement_key)
    }
}

impl From<String> for TpmAttestation {
    fn from(endorsement_key: String) -> Self {
        Self::new(endorsement_key)
    }
}
