//! Decides what a device gets for the `csr` of its registration.
//!
//! | `csr` | policy of the enrollment | then |
//! | --- | --- | --- |
//! | absent | any | no certificate |
//! | cannot be used, or is for another device | any | refused |
//! | good | none, incomplete, or unknown to the emulator | no certificate, and a warning |
//! | good | excludes its key type | refused |
//! | good | allows it | a certificate, once the device is assigned |

use crate::crypto::csr::{KeyType, SigningRequest};
use crate::issuance::Wanted;
use crate::issuance::policy::CertificatePolicy;
use crate::issuance::reference::Reference;
use crate::refusal::Refusal;

/// Returns the certificate that the device gets, or a warning for the journal why it gets none.
pub(super) fn wanted(
    registration_id: &str,
    csr: Option<&str>,
    reference: Reference<'_>,
    policies: &[CertificatePolicy],
) -> Result<(Option<Wanted>, Option<String>), Refusal> {
    let Some(csr) = csr else { return Ok((None, None)) };
    let request = SigningRequest::read(csr).map_err(|why| Refusal::invalid(format!("csr {why}")))?;
    let name = &request.common_name;
    if name != registration_id {
        let name = name.chars().take(LONGEST_ID).collect::<String>();
        return Err(Refusal::invalid(format!(
            "csr has the common name (CN) {name:?}: it must be the registration id {registration_id:?}, \
             character for character"
        )));
    }
    let policy = match reference.find(policies) {
        Ok(policy) => policy,
        Err(why) => return Ok((None, Some(format!("no certificate is issued for the csr: {why}")))),
    };
    let key_type = request.key.key_type;
    if !policy.key_types.contains(&key_type) {
        let allowed: Vec<_> = policy.key_types.iter().copied().map(KeyType::word).collect();
        return Err(Refusal::invalid(format!(
            "csr has a key of type {}: certificate policy {policy} allows {}",
            key_type.word(),
            allowed.join(", ")
        )));
    }
    Ok((Some(Wanted { request, days: policy.days, with_root: policy.with_root }), None))
}

/// The longest registration id.
const LONGEST_ID: usize = 128;
