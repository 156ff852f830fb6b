//! Checks, before anything is sent, that the certificates of an enrollment are certificates and not private
//! keys.

use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::models::attestation::AttestationMechanism;
use crate::models::attestation::certificate_text;
use crate::models::attestation::x509::{X509Attestation, X509CertificateWithInfo, X509Certificates};

impl AttestationMechanism {
    /// Checks, before anything is sent, that each certificate is a certificate and not a private key. The
    /// service checks all other details.
    ///
    /// # Errors
    /// [`ErrorKind::Config`]; the message names the member that is not a certificate.
    pub fn check(&self) -> Result<()> {
        self.as_x509().map_or(Ok(()), X509Attestation::check)
    }
}

impl X509Attestation {
    /// Checks every certificate with [`X509CertificateWithInfo::check`].
    ///
    /// # Errors
    /// [`ErrorKind::Config`]; the message names the member that is not a certificate.
    pub fn check(&self) -> Result<()> {
        for (set, certificates) in
            [("client", &self.client_certificates), ("signing", &self.signing_certificates)]
        {
            let Some(X509Certificates { primary, secondary, .. }) = certificates else { continue };
            for (slot, certificate) in [("primary", primary), ("secondary", secondary)] {
                let checked = certificate.as_ref().map_or(Ok(()), X509CertificateWithInfo::check);
                checked.map_err(|why| Error::new(why.kind(), format!("{slot} {set} certificate: {why}")))?;
            }
        }
        Ok(())
    }
}

impl X509CertificateWithInfo {
    /// A certificate from PEM text. Text before and after its block is not sent.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the text has a private key, no certificate or several. An enrollment takes
    /// one certificate: the leaf of a device or the CA of a group.
    pub fn from_pem(pem: &str) -> Result<Self> {
        certificate_text::pem(pem).map(Self::new).map_err(unusable)
    }

    /// A certificate from DER; it is sent as base64.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the bytes are a private key or not a certificate.
    pub fn from_der(der: &[u8]) -> Result<Self> {
        certificate_text::der(der).map(Self::new).map_err(unusable)
    }

    /// Checks that the text to send is one certificate and not a private key. A value with `info` and without
    /// a text passes.
    ///
    /// # Errors
    /// [`ErrorKind::Config`]; the message describes the text without quoting it.
    pub fn check(&self) -> Result<()> {
        self.certificate.as_ref().map_or(Ok(()), |text| certificate_text::check(text)).map_err(unusable)
    }
}

fn unusable(why: String) -> Error {
    Error::new(ErrorKind::Config, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_names_the_place_and_passes_what_is_not_sent() {
        let good = include_str!("../../tests/vectors/x509/p384.pem");
        let key = include_str!("../../tests/vectors/x509/p384-pkcs8.key");
        X509Attestation::client(X509Certificates::new(good).with_secondary(good)).check().unwrap();
        X509Attestation::ca_references("root").check().unwrap();
        X509Attestation::client(X509CertificateWithInfo::default()).check().unwrap();

        let error =
            X509Attestation::signing(X509Certificates::new(good).with_secondary(key)).check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(
            error
                .to_string()
                .starts_with("secondary signing certificate: the certificate text has a private key")
        );
        let error = X509Attestation::client("").check().unwrap_err();
        assert!(error.to_string().starts_with("primary client certificate: the certificate is empty"));
    }
}
