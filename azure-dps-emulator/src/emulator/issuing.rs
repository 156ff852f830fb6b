//! The handle's calls about issued certificates.

use serde_json::Value;

use crate::crypto::certificate::Certificate;
use crate::emulator::Emulator;
use crate::issuance::NotAccepted;
use crate::issuance::policy::CertificatePolicy;

impl Emulator {
    /// The certificates of the authority that issues certificates to devices, as PEM: the intermediate and
    /// then the root. A hub that accepts those devices trusts the root; devices do not have to.
    ///
    /// It is not the authority of [`ca_pem`](Self::ca_pem). Every start makes a new one unless
    /// [`crate::EmulatorBuilder::ca_dir`] or a saved state keeps it.
    pub fn issuing_ca_pem(&self) -> String {
        self.instance.issuing_ca_pem()
    }

    /// The certificate policies: `[{"namespaceName": …, "certificateAuthorityName": …,
    /// "certificatePolicyName": …, "days": …, "keys": […], "root": …}]`.
    pub fn certificate_policies(&self) -> Value {
        self.instance.certificate_policies().into()
    }

    /// Adds a certificate policy, or replaces the one with the same names. It applies to later registrations.
    pub fn set_certificate_policy(&self, policy: CertificatePolicy) {
        self.instance.put_certificate_policy(policy);
    }

    /// Deletes a certificate policy; returns whether one had these names. Certificates that were issued by it
    /// stay good.
    pub fn delete_certificate_policy(&self, namespace: &str, authority: &str, policy: &str) -> bool {
        self.instance.delete_certificate_policy(namespace, authority, policy)
    }

    /// Revokes all certificates that were issued to a device so far. Returns whether a device of this
    /// registration id has registered or got a certificate; if not, nothing changes.
    ///
    /// The device gets a good certificate when it registers with a `csr` again. A reset forgets revocations,
    /// and so does a start without a saved state.
    pub fn revoke(&self, registration_id: &str) -> bool {
        self.instance.revoke(registration_id)
    }

    /// Judges the certificate of a device as a hub does: the emulator issued it, it is valid at the time of
    /// the emulator, and it was not revoked. Returns the registration id of the device.
    ///
    /// `certificate` is one certificate, as PEM or as base64 of DER, such as the first element of
    /// `issuedCertificateChain`.
    ///
    /// # Errors
    /// [`NotAccepted`] says why a hub would refuse the certificate.
    pub fn check_issued_certificate(&self, certificate: &str) -> Result<String, NotAccepted> {
        let certificate = Certificate::read(certificate)
            .map_err(|why| NotAccepted(format!("the text of the certificate {why}")))?;
        self.instance.device_of(&certificate)
    }
}
