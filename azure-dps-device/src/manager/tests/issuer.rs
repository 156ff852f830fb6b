//! An authority that issues certificates of 30 days for the requests of devices.

use azure_dps_core::CertificateRequest;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PublicKeyData};
use serde_json::Value;
use std::sync::LazyLock;
use time::{Duration, OffsetDateTime};

type Authority = CertifiedIssuer<'static, KeyPair>;

static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| {
    let mut params = params("authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
});

/// The member `issuedCertificateChain` for the body of a registration, if it has a request.
pub(super) fn chain(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap();
    let Some(request) = body["csr"].as_str() else { return String::new() };
    let request = CertificateRequest::from_base64(request).unwrap();
    let leaf = params(request.common_name()).signed_by(&Public(request.public_key()), &AUTHORITY).unwrap();
    let chain = [leaf.der(), AUTHORITY.der()].map(|der| base64::Engine::encode(&BASE64, der));
    format!(r#","issuedCertificateChain":{}"#, serde_json::to_string(&chain).unwrap())
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let now = OffsetDateTime::now_utc();
    (params.not_before, params.not_after) = (now - Duration::HOUR, now + Duration::days(30));
    params
}

/// The public key of a request.
struct Public<'a>(&'a [u8]);

impl PublicKeyData for Public<'_> {
    fn der_bytes(&self) -> &[u8] {
        // The point of a P-384 key, at the end of its SubjectPublicKeyInfo.
        &self.0[self.0.len() - 97..]
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P384_SHA384
    }
}

const BASE64: base64::engine::GeneralPurpose = base64::engine::general_purpose::STANDARD;
