//! The saved form of uploaded CA certificates.

use serde::{Deserialize, Serialize};

use crate::crypto::certificate::Certificate;
use crate::ids;
use crate::records::authorities::{Authorities, Authority, MOST, is_name};

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SavedAuthority {
    name: String,
    is_verified: bool,
    certificate: Certificate,
}

impl Authorities {
    pub(crate) fn saved(&self) -> Vec<SavedAuthority> {
        let saved = self.iter().map(|Authority { name, certificate, verified }| SavedAuthority {
            name: name.clone(),
            is_verified: *verified,
            certificate: certificate.clone(),
        });
        saved.collect()
    }

    /// The certificates of a saved state. They may have expired since their upload.
    ///
    /// # Errors
    /// Says which certificate breaks which rule.
    pub(crate) fn restored(saved: Vec<SavedAuthority>) -> Result<Self, String> {
        let mut restored = Authorities::default();
        for SavedAuthority { name, is_verified: verified, certificate } in saved {
            let why = if !is_name(&name) {
                "has a name that no certificate can have"
            } else if !certificate.may_sign {
                "is not the certificate of an authority"
            } else if restored.0.len() == MOST {
                "is one too many"
            } else {
                let certificate = Authority { name: name.clone(), certificate, verified };
                match restored.0.insert(ids::key(&name), certificate) {
                    None => continue,
                    Some(_) => "is there twice",
                }
            };
            return Err(format!("certificate `{name}` {why}"));
        }
        Ok(restored)
    }
}
