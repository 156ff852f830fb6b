//! The saved form of challenges. The key of an answered challenge signs the later tokens of its device.

use serde::{Deserialize, Serialize};

use std::collections::BTreeMap;

use crate::attest::tpm::{Challenge, Challenges};
use crate::ids;
use crate::saved::Each;

/// A challenge with its device.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SavedChallenge {
    registration_id: String,
    challenge: Challenge,
}

impl Challenges {
    pub(crate) fn saved(&self) -> impl Serialize + '_ {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Written<'a> {
            registration_id: &'a str,
            challenge: &'a Challenge,
        }

        let all = || self.0.iter();
        Each(move || all().map(|(registration_id, challenge)| Written { registration_id, challenge }))
    }

    /// # Errors
    /// A device has two challenges.
    pub(crate) fn restored(saved: Vec<SavedChallenge>) -> Result<Self, String> {
        let mut restored = BTreeMap::new();
        for SavedChallenge { registration_id, challenge } in saved {
            if restored.insert(ids::key(&registration_id), challenge).is_some() {
                return Err(format!("{registration_id} has two challenges"));
            }
        }
        Ok(Challenges(restored))
    }
}
