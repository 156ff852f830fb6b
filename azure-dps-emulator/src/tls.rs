//! The certificates of the server, made anew by every start, and the TLS settings around them.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};

pub(crate) struct Certificates {
    pub(crate) ca_pem: String,
    server: CertificateDer<'static>,
    server_key: PrivatePkcs8KeyDer<'static>,
}

/// Makes an authority and a server certificate under it.
pub(crate) fn issue() -> Result<Certificates, rcgen::Error> {
    let mut params = params("Azure DPS emulator CA", Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;

    let mut params = self::params("localhost", SERVER_NAMES.map(String::from).to_vec())?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let server = params.signed_by(&key, &ca)?;
    Ok(Certificates {
        ca_pem: ca.pem(),
        server: server.der().clone(),
        server_key: PrivatePkcs8KeyDer::from(key.serialize_der()),
    })
}

/// The settings of a server that speaks HTTP/1.1 and asks for no client certificate.
pub(crate) fn server_config(certificates: &Certificates) -> Result<ServerConfig, rustls::Error> {
    let key = PrivateKeyDer::from(certificates.server_key.clone_key());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificates.server.clone()], key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn params(common_name: &str, names: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::DAY;
    params.not_after = now + Duration::days(365);
    Ok(params)
}

const SERVER_NAMES: [&str; 5] =
    ["localhost", "127.0.0.1", "::1", "*.azure-devices-provisioning.net", "*.azure-devices.net"];
