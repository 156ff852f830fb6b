//! The X.509 parts of an enrollment: certificates as text, their descriptions, names of uploaded authorities.
//!
//! `certificate_check` makes sure that a text is a certificate and not a private key; the service checks the
//! rest.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::models::{date_time, nulls};
use crate::sensitive::{OtherMembers, Sensitive};

/// Which certificates an enrollment accepts: exactly one of the three members.
///
/// Source: DPS service REST API 2021-10-01, X509Attestation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct X509Attestation {
    /// The device's own certificates; individual enrollments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificates: Option<X509Certificates>,
    /// Certificates of the intermediate authorities that sign the devices; groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_certificates: Option<X509Certificates>,
    /// Names of authorities that were uploaded to the provisioning service and verified; groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_references: Option<X509CaReferences>,
    /// Members that this crate does not know.
    #[serde(flatten)]
    pub other: OtherMembers,
}

impl X509Attestation {
    /// The device's own certificates.
    pub fn client(certificates: impl Into<X509Certificates>) -> Self {
        Self { client_certificates: Some(certificates.into()), ..Self::default() }
    }

    /// Certificates of intermediate authorities.
    pub fn signing(certificates: impl Into<X509Certificates>) -> Self {
        Self { signing_certificates: Some(certificates.into()), ..Self::default() }
    }

    /// Names of uploaded authorities.
    pub fn ca_references(references: impl Into<X509CaReferences>) -> Self {
        Self { ca_references: Some(references.into()), ..Self::default() }
    }
}

/// One certificate, and a second one for the time while the first is being replaced.
///
/// If an update leaves a slot out, the service removes it.
///
/// Source: DPS service REST API 2021-10-01, X509Certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct X509Certificates {
    /// The first certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<X509CertificateWithInfo>,
    /// The second certificate. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secondary: Option<X509CertificateWithInfo>,
    /// Members that this crate does not know.
    #[serde(flatten)]
    pub other: OtherMembers,
}

impl X509Certificates {
    /// One certificate: PEM text, or base64 of DER.
    pub fn new(primary: impl Into<X509CertificateWithInfo>) -> Self {
        Self { primary: Some(primary.into()), ..Self::default() }
    }

    /// Adds a second certificate: PEM text, or base64 of DER.
    pub fn with_secondary(mut self, secondary: impl Into<X509CertificateWithInfo>) -> Self {
        self.secondary = Some(secondary.into());
        self
    }
}

impl From<X509CertificateWithInfo> for X509Certificates {
    fn from(primary: X509CertificateWithInfo) -> Self {
        Self::new(primary)
    }
}

impl From<&str> for X509Certificates {
    fn from(primary: &str) -> Self {
        Self::new(primary)
    }
}

impl From<String> for X509Certificates {
    fn from(primary: String) -> Self {
        Self::new(primary)
    }
}

/// A certificate: clients send its text, and the service returns its info.
///
/// An enrollment that is written back with only the info keeps the certificate.
///
/// ```no_run
/// use azure_dps_core::models::{AttestationMechanism, X509CertificateWithInfo};
///
/// let pem = std::fs::read_to_string("device.pem")?;
/// let attestation = AttestationMechanism::x509_client(X509CertificateWithInfo::from_pem(&pem)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Source: DPS service REST API 2021-10-01, X509CertificateWithInfo.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct X509CertificateWithInfo {
    /// PEM text, or base64 of DER. The service does not return it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Sensitive<String>>,
    /// The description of the certificate by the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info: Option<X509CertificateInfo>,
    /// Members that this crate does not know.
    #[serde(flatten)]
    pub other: OtherMembers,
}

impl X509CertificateWithInfo {
    /// A certificate to send: PEM text, or base64 of DER. The text is not checked; see
    /// [`check`](Self::check).
    pub fn new(certificate: impl Into<Sensitive<String>>) -> Self {
        Self { certificate: Some(certificate.into()), ..Self::default() }
    }
}

impl From<&str> for X509CertificateWithInfo {
    fn from(certificate: &str) -> Self {
        Self::new(certificate)
    }
}

impl From<String> for X509CertificateWithInfo {
    fn from(certificate: String) -> Self {
        Self::new(certificate)
    }
}

/// The names under which authorities were uploaded to the provisioning service, not their thumbprints or
/// content.
///
/// Source: DPS service REST API 2021-10-01, X509CAReferences.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[doc(alias = "X509CAReferences")]
#[non_exhaustive]
pub struct X509CaReferences {
    /// The first authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,
    /// The second authority. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secondary: Option<String>,
    /// Members that this crate does not know.
    #[serde(flatten)]
    pub other: OtherMembers,
}

impl X509CaReferences {
    /// One authority, by its name.
    pub fn new(primary: impl Into<String>) -> Self {
        Self { primary: Some(primary.into()), ..Self::default() }
    }

    /// Adds a second authority, by its name.
    pub fn with_secondary(mut self, secondary: impl Into<String>) -> Self {
        self.secondary = Some(secondary.into());
        self
    }
}

impl From<&str> for X509CaReferences {
    fn from(primary: &str) -> Self {
        Self::new(primary)
    }
}

impl From<String> for X509CaReferences {
    fn from(primary: String) -> Self {
        Self::new(primary)
    }
}

/// The description of a certificate. In models only the service fills it;
/// [`Identity::info`](crate::Identity::info) returns the same for a local certificate.
///
/// A member that the service left out or sent as `null` is an empty text, 0, or the first second of the year
/// 1; it is not written back.
///
/// Source: DPS service and device REST API 2021-10-01, X509CertificateInfo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct X509CertificateInfo {
    /// The subject, such as `CN=sensor-042, O=Contoso`.
    #[serde(default, deserialize_with = "nulls::as_default", skip_serializing_if = "String::is_empty")]
    pub subject_name: String,
    /// SHA-1 of the certificate, in upper-case hexadecimal digits.
    #[serde(default, deserialize_with = "nulls::as_default", skip_serializing_if = "String::is_empty")]
    pub sha1_thumbprint: String,
    /// SHA-256 of the certificate, in upper-case hexadecimal digits.
    #[serde(default, deserialize_with = "nulls::as_default", skip_serializing_if = "String::is_empty")]
    pub sha256_thumbprint: String,
    /// The issuer, such as `CN=Contoso Factory 3`.
    #[serde(default, deserialize_with = "nulls::as_default", skip_serializing_if = "String::is_empty")]
    pub issuer_name: String,
    /// The certificate is not valid before this time.
    #[serde(default = "date_time::unset", with = "date_time", skip_serializing_if = "date_time::is_unset")]
    pub not_before_utc: OffsetDateTime,
    /// The certificate is not valid after this time.
    #[serde(default = "date_time::unset", with = "date_time", skip_serializing_if = "date_time::is_unset")]
    pub not_after_utc: OffsetDateTime,
    /// The serial number, in upper-case hexadecimal digits.
    #[serde(default, deserialize_with = "nulls::as_default", skip_serializing_if = "String::is_empty")]
    pub serial_number: String,
    /// The version of the certificate format; 3 for today's certificates.
    #[serde(default, deserialize_with = "nulls::as_default", skip_serializing_if = "is_zero")]
    pub version: i32,
    /// Members that this crate does not know.
    #[serde(flatten)]
    pub other: OtherMembers,
}

fn is_zero(version: &i32) -> bool {
    *version == 0
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use time::macros::datetime;

    use super::*;

    #[test]
    fn info_survives_with_members_that_are_not_known() {
        let body = json!({"clientCertificates": {"primary": {"info": {
            "subjectName": "CN=a", "sha1Thumbprint": "AB", "sha256Thumbprint": "CD", "issuerName": "CN=b",
            "notBeforeUtc": "0001-01-01T00:00:01Z", "notAfterUtc": "2049-12-31T23:59:59.1234567Z",
            "serialNumber": "01", "version": 3, "curve": "P-256"
        }, "k": 1}, "k": 2}, "k": 3});
        let x509: X509Attestation = serde_json::from_value(body.clone()).unwrap();
        let info =
            x509.client_certificates.as_ref().unwrap().primary.as_ref().unwrap().info.as_ref().unwrap();
        assert_eq!(info.not_after_utc, datetime!(2049-12-31 23:59:59.1234567 UTC));
        assert_eq!(serde_json::to_value(&x509).unwrap(), body);
    }

    #[test]
    fn nulls_are_none() {
        let body = json!({
            "clientCertificates": {"primary": null, "secondary": {"certificate": null, "info": null}},
            "signingCertificates": null,
            "caReferences": {"primary": null, "secondary": null}
        });
        let x509: X509Attestation = serde_json::from_value(body).unwrap();
        assert_eq!(
            serde_json::to_value(&x509).unwrap(),
            json!({"clientCertificates": {"secondary": {}}, "caReferences": {}})
        );
    }

    #[test]
    fn a_description_of_nulls_is_read_and_written_back_without_values() {
        let nulls = json!({
            "subjectName": null, "sha1Thumbprint": null, "sha256Thumbprint": null, "issuerName": null,
            "notBeforeUtc": null, "notAfterUtc": null, "serialNumber": null, "version": null
        });
        for body in [nulls, json!({})] {
            let info: X509CertificateInfo = serde_json::from_value(body).unwrap();
            assert_eq!((info.subject_name.as_str(), info.version), ("", 0));
            assert_eq!(info.not_after_utc, datetime!(0001-01-01 00:00 UTC));
            assert_eq!(serde_json::to_value(&info).unwrap(), json!({}));
        }
    }

    #[test]
    fn debug_hides_the_certificate() {
        let x509 = X509Attestation::signing(X509Certificates::new("marker-1").with_secondary("marker-2"));
        let shown = format!("{x509:?} {x509:#?}");
        assert!(shown.contains("[redacted]") && !shown.contains("marker"), "{shown}");
    }
}
