//! The settings of issued certificates, and of the generation of hubs.

use crate::builder::EmulatorBuilder;
use crate::issuance;
use crate::issuance::policy::CertificatePolicy;

impl EmulatorBuilder {
    /// Adds a certificate policy, or replaces the one with the same names. Devices whose enrollment refers to
    /// it get a certificate if they register with a `csr`.
    ///
    /// Without this call there is no policy: a `csr` is checked, and the device is assigned without a
    /// certificate.
    pub fn certificate_policy(mut self, policy: CertificatePolicy) -> Self {
        issuance::put(&mut self.settings.certificate_policies, policy);
        self
    }

    /// Sets the `connectionProfile` of assigned devices, such as `classic` or `mqttV5`. Clients of
    /// api-version 2026-11-02-preview get it. Without this call it is absent, which means `classic`.
    pub fn connection_profile(mut self, profile: impl Into<String>) -> Self {
        self.settings.connection_profile = Some(profile.into().into());
        self
    }
}
