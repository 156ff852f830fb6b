//! Issues certificates to devices, and judges them as a hub does.
//!
//! A certificate is good as long as all of this holds:
//!
//! | | |
//! | --- | --- |
//! | issued here | the intermediate of this emulator's issuing authority signed it |
//! | valid | the time of the emulator's clock is within its dates |
//! | not revoked | the id in its extension is the current id of the device that its common name names |

pub(crate) mod authority;
pub(crate) mod device_id;
pub(crate) mod policy;
pub(crate) mod reference;
pub(crate) mod saved;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};

use crate::crypto::certificate::Certificate;
use crate::crypto::chain;
use crate::crypto::csr::SigningRequest;
use crate::issuance::authority::{IssuedChain, IssuingAuthority, Leaf};
use crate::issuance::device_id::DeviceIds;
use crate::issuance::policy::CertificatePolicy;
use crate::report;

/// The issuing authority with everything about issued certificates that changes.
pub(crate) struct Issuance {
    authority: Arc<IssuingAuthority>,
    policies: Vec<CertificatePolicy>,
    device_ids: DeviceIds,
    /// Counts the issued certificates, so that two over the same key differ.
    issued: u64,
}

/// A certificate that a device has asked for and gets when it is assigned.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Wanted {
    pub(crate) request: SigningRequest,
    pub(crate) days: u32,
    pub(crate) with_root: bool,
}

/// The certificate of an assignment. It is issued when clients can see the assignment.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Due {
    Nothing,
    Wanted(Wanted),
    Issued(IssuedChain),
}

impl Issuance {
    pub(crate) fn new(authority: Arc<IssuingAuthority>, policies: &[CertificatePolicy]) -> Self {
        Issuance { authority, policies: policies.to_vec(), device_ids: DeviceIds::default(), issued: 0 }
    }

    pub(crate) fn authority(&self) -> &Arc<IssuingAuthority> {
        &self.authority
    }

    pub(crate) fn policies(&self) -> &[CertificatePolicy] {
        &self.policies
    }

    /// Adds a policy, or replaces the one with the same names.
    pub(crate) fn put_policy(&mut self, policy: CertificatePolicy) {
        put(&mut self.policies, policy);
    }

    /// Returns whether a policy had these names.
    pub(crate) fn delete_policy(&mut self, namespace: &str, authority: &str, name: &str) -> bool {
        let before = self.policies.len();
        self.policies.retain(|policy| !policy.is(namespace, authority, name));
        self.policies.len() < before
    }

    /// Issues a certificate that is valid from now on.
    pub(crate) fn issue(
        &mut self,
        wanted: &Wanted,
        now: OffsetDateTime,
    ) -> Result<IssuedChain, rcgen::Error> {
        let Wanted { request: SigningRequest { common_name, key }, days, with_root } = wanted;
        self.device_ids.note(common_name);
        self.issued += 1;
        let leaf = Leaf {
            common_name,
            key,
            device_id: &self.device_ids.current(common_name),
            serial: serial(common_name, self.issued, now),
            not_before: now.saturating_sub(SKEW),
            not_after: now.saturating_add(Duration::days((*days).into())),
        };
        self.authority.issue(&leaf, *with_root)
    }

    /// Ends the use of all certificates that were issued to a device so far. A new registration gives it a
    /// good one.
    pub(crate) fn revoke(&mut self, registration_id: &str) {
        self.device_ids.rotate(registration_id);
    }

    /// Returns whether a certificate was issued to a device.
    pub(crate) fn has_issued_to(&self, registration_id: &str) -> bool {
        self.device_ids.has(registration_id)
    }

    /// Judges a certificate, and returns the registration id of the device that it was issued to.
    ///
    /// # Errors
    /// Says why the certificate is not good.
    pub(crate) fn device_of(
        &self,
        certificate: &Certificate,
        now: OffsetDateTime,
    ) -> Result<String, NotAccepted> {
        let subject = &certificate.subject;
        if !self.authority.signed(certificate) {
            let why = format!("{subject} was not issued by the issuing authority of this emulator");
            return Err(NotAccepted(why));
        }
        chain::in_time("issued certificate", certificate, now).map_err(NotAccepted)?;
        let registration_id = certificate.common_name.as_deref().unwrap_or_default();
        if device_id::of(certificate).as_deref() != Some(&self.device_ids.current(registration_id)) {
            return Err(NotAccepted(format!(
                "issued certificate {subject} was revoked: it has an earlier id of the device"
            )));
        }
        Ok(registration_id.to_owned())
    }
}

/// Why a hub would refuse the certificate of a device. `{:?}` is the message.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAccepted(pub(crate) String);

impl fmt::Debug for NotAccepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        report::debug(f, self, |f| f.debug_tuple("NotAccepted").field(&self.0).finish())
    }
}

/// Adds a policy, or replaces the one with the same names.
pub(crate) fn put(policies: &mut Vec<CertificatePolicy>, policy: CertificatePolicy) {
    let CertificatePolicy { namespace, authority, name, .. } = &policy;
    match policies.iter_mut().find(|known| known.is(namespace, authority, name)) {
        Some(known) => *known = policy,
        None => policies.push(policy),
    }
}

/// A positive number of 16 bytes. The time distinguishes certificates of one kept authority.
fn serial(registration_id: &str, issued: u64, now: OffsetDateTime) -> [u8; 16] {
    let digest = Sha256::digest(format!("{issued}/{}/{registration_id}", now.unix_timestamp_nanos()));
    let mut serial = [0; 16];
    serial.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    if let Some(first) = serial.first_mut() {
        *first = *first & 0x3f | 0x40;
    }
    serial
}

/// How much earlier than its issue a certificate is valid, because clocks of devices differ a little.
const SKEW: Duration = Duration::minutes(5);

#[cfg(test)]
mod tests;
