//! The saved form of the issuing authority and of everything about issued certificates that changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::crypto::csr::KeyType;
use crate::ids;
use crate::issuance::authority::{IssuingAuthority, SavedAuthority};
use crate::issuance::device_id::DeviceIds;
use crate::issuance::policy::CertificatePolicy;
use crate::issuance::{Issuance, put};

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SavedIssuance {
    pub(crate) authority: SavedAuthority,
    policies: Vec<SavedPolicy>,
    /// How often the certificates of each device were revoked.
    revocations: BTreeMap<String, u32>,
    #[serde(with = "crate::saved::count")]
    issued: u64,
}

/// The shape of `GET /certificate-policies`.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SavedPolicy {
    namespace_name: String,
    certificate_authority_name: String,
    certificate_policy_name: String,
    days: u32,
    keys: Vec<String>,
    root: bool,
}

impl Issuance {
    pub(crate) fn saved(&self) -> SavedIssuance {
        SavedIssuance {
            authority: self.authority.saved(),
            policies: self.policies.iter().map(SavedPolicy::of).collect(),
            revocations: self.device_ids.revocations.iter().map(|(id, count)| (id.clone(), *count)).collect(),
            issued: self.issued,
        }
    }

    /// # Errors
    /// Says what is wrong with the authority or a policy.
    pub(crate) fn restored(saved: SavedIssuance, authority: Arc<IssuingAuthority>) -> Result<Self, String> {
        let SavedIssuance { authority: _, policies, revocations, issued } = saved;
        let mut restored = Vec::new();
        for policy in policies {
            put(&mut restored, policy.restored()?);
        }
        let revocations = revocations.into_iter().map(|(id, count)| (ids::key(&id), count)).collect();
        Ok(Issuance { authority, policies: restored, device_ids: DeviceIds { revocations }, issued })
    }
}

impl SavedPolicy {
    fn of(policy: &CertificatePolicy) -> Self {
        SavedPolicy {
            namespace_name: policy.namespace.clone(),
            certificate_authority_name: policy.authority.clone(),
            certificate_policy_name: policy.name.clone(),
            days: policy.days,
            keys: policy.key_types.iter().map(|key_type| key_type.word().to_owned()).collect(),
            root: policy.with_root,
        }
    }

    fn restored(self) -> Result<CertificatePolicy, String> {
        let SavedPolicy { namespace_name, certificate_authority_name, certificate_policy_name, .. } = self;
        let keys: Option<Vec<KeyType>> = self.keys.iter().map(|word| KeyType::from_word(word)).collect();
        let keys = keys.ok_or("a certificate policy has keys of an unknown type")?;
        let policy =
            CertificatePolicy::new(namespace_name, certificate_authority_name, certificate_policy_name)
                .and_then(|policy| policy.with_days(self.days)?.with_key_types(keys))
                .map_err(|error| error.to_string())?;
        Ok(if self.root { policy.with_root() } else { policy })
    }
}
