//! The two symmetric keys of an enrollment.

use serde::{Deserialize, Serialize};

use crate::sensitive::{OtherMembers, Sensitive};

/// The two keys of a symmetric-key enrollment; a device may use either.
///
/// In a group, device keys are derived from these keys; a device never uses them directly.
///
/// Source: DPS service REST API 2021-10-01, SymmetricKeyAttestation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SymmetricKeyAttestation {
    /// Base64 of 16 to 64 bytes. Missing or empty on creation: the service generates it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary_key: Option<Sensitive<String>>,
    /// Base64 of 16 to 64 bytes. Missing or empty on creation: the service generates it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secondary_key: Option<Sensitive<String>>,
    /// Members that this crate does not know.
    #[serde(flatten)]
    pub other: OtherMembers,
}

impl SymmetricKeyAttestation {
    /// Two keys, each base64 of 16 to 64 bytes.
    pub fn new(
        primary_key: impl Into<Sensitive<String>>,
        secondary_key: impl Into<Sensitive<String>>,
    ) -> Self {
        Self {
            primary_key: Some(primary_key.into()),
            secondary_key: Some(secondary_key.into()),
            other: OtherMembers::new(),
        }
    }
}
