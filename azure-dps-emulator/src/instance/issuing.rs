//! What other rooms ask of the issuing authority and its policies.

use crate::crypto::certificate::Certificate;
use crate::instance::Instance;
use crate::issuance::NotAccepted;
use crate::issuance::policy::CertificatePolicy;
use crate::json::Value;

impl Instance {
    pub(crate) fn certificate_policies(&self) -> Value {
        self.state().issuance.policies().iter().map(CertificatePolicy::to_json).collect()
    }

    /// Adds a policy, or replaces the one with the same names.
    pub(crate) fn put_certificate_policy(&self, policy: CertificatePolicy) {
        self.state().issuance.put_policy(policy);
    }

    /// Returns whether a policy had these names.
    pub(crate) fn delete_certificate_policy(&self, namespace: &str, authority: &str, name: &str) -> bool {
        self.state().issuance.delete_policy(namespace, authority, name)
    }

    /// Revokes the certificates of a device; returns whether the device is known.
    pub(crate) fn revoke(&self, registration_id: &str) -> bool {
        let mut state = self.state();
        let is_known = state.registrations.find(registration_id).is_some()
            || state.issuance.has_issued_to(registration_id);
        if is_known {
            state.issuance.revoke(registration_id);
        }
        is_known
    }

    /// Judges an issued certificate at the time of the emulator's clock, and returns the registration id.
    ///
    /// # Errors
    /// Says why the certificate is not good.
    pub(crate) fn device_of(&self, certificate: &Certificate) -> Result<String, NotAccepted> {
        let state = self.state();
        state.issuance.device_of(certificate, state.clock.now())
    }

    pub(crate) fn issuing_ca_pem(&self) -> String {
        self.state().issuance.authority().pem().to_owned()
    }
}
