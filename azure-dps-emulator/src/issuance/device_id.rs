//! The ids of devices in issued certificates. A hub compares the id in a certificate with the current id of
//! the device, so a new id ends the use of all earlier certificates.
//!
//! The extension has the OID 2.999.1 and contains a `UTF8String`. 2.999 is the arc that X.660 sets aside for
//! examples, so the OID cannot collide with one that has a meaning elsewhere.

use std::collections::HashMap;

use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::crypto::certificate::Certificate;
use crate::ids;

/// The OID of the extension.
pub(crate) const OID: &[u64] = &[2, 999, 1];
const OID_BYTES: [u8; 3] = [0x88, 0x37, 0x01];
const UTF8_STRING: u8 = 0x0c;

/// How often the certificates of each device were revoked. It holds every device that got a certificate.
#[derive(Default)]
pub(crate) struct DeviceIds {
    pub(super) revocations: HashMap<String, u32>,
}

impl DeviceIds {
    /// The current id of a device, in the form of a GUID. The same device has the same first id at every
    /// start, so that certificates of a kept authority stay good.
    pub(crate) fn current(&self, registration_id: &str) -> String {
        let key = ids::key(registration_id);
        let revocations = self.revocations.get(&key).copied().unwrap_or_default();
        let digest = Sha256::digest(format!("{revocations}/{key}"));
        let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let groups = [0..8, 8..12, 12..16, 16..20, 20..32];
        groups.map(|range| hex.get(range).unwrap_or_default().to_owned()).join("-")
    }

    /// Notes that a device gets a certificate.
    pub(crate) fn note(&mut self, registration_id: &str) {
        self.revocations.entry(ids::key(registration_id)).or_default();
    }

    /// Returns whether a device got a certificate.
    pub(crate) fn has(&self, registration_id: &str) -> bool {
        self.revocations.contains_key(&ids::key(registration_id))
    }

    /// Gives the device another id.
    pub(crate) fn rotate(&mut self, registration_id: &str) {
        let revocations = self.revocations.entry(ids::key(registration_id)).or_default();
        *revocations = revocations.saturating_add(1);
    }
}

/// The contents of the extension; ids are shorter than 128 bytes.
pub(crate) fn encode(id: &str) -> Vec<u8> {
    let length = u8::try_from(id.len()).unwrap_or_default();
    [&[UTF8_STRING, length], id.as_bytes()].concat()
}

/// The id in a certificate.
pub(crate) fn of(certificate: &Certificate) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate.der()).ok()?;
    let extension = parsed.extensions().iter().find(|extension| extension.oid.as_bytes() == OID_BYTES)?;
    match extension.value {
        [UTF8_STRING, length, id @ ..] if usize::from(*length) == id.len() => {
            String::from_utf8(id.to_vec()).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_keeps_its_id_until_it_is_revoked() {
        let mut ids = DeviceIds::default();
        let first = ids.current("Dev1");
        assert_eq!(first, "ed588f0e-81e3-1e83-b6a7-72dcccbffa80");
        ids.note("dev1");
        assert_eq!(ids.current("dev1"), first);
        assert_ne!(ids.current("dev2"), first);

        ids.rotate("DEV1");

        let second = ids.current("dev1");
        assert_ne!(second, first);
        ids.rotate("dev1");
        assert!(![first, second].contains(&ids.current("dev1")));
        assert!(ids.has("dEv1") && !ids.has("dev2"));
    }
}
