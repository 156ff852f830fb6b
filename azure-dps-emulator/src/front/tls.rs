//! The certificates of the server and its TLS settings.
//!
//! Every start makes a new server certificate, and a new [`authority`] unless a directory or a saved state keeps
//! it.

pub(crate) mod authority;
pub(crate) mod names;

use std::error::Error;
use std::iter;
use std::sync::Arc;

use rcgen::{ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, ServerConfig, ServerConnection,
    SignatureScheme,
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, SignatureVerificationAlgorithm,
    SubjectPublicKeyInfoDer, UnixTime,
};
use time::{Duration, OffsetDateTime};
use x509_parser::asn1_rs::Any;
use x509_parser::prelude::{FromDer, X509Certificate};

use self::names::Names;
use crate::crypto::certificate::Certificate;
use crate::crypto::pki;

pub(crate) struct Certificates {
    pub(crate) ca_pem: String,
    server: CertificateDer<'static>,
    server_key: PrivatePkcs8KeyDer<'static>,
}

/// Makes a server certificate for these names, which the authority signs.
pub(crate) fn issue(
    names: &Names,
    (ca_pem, key): (String, KeyPair),
) -> Result<Certificates, Box<dyn Error + Send + Sync>> {
    let now = OffsetDateTime::now_utc();
    let issuer = Issuer::new(authority::params(names, now)?, key);
    let mut params = pki::params("localhost", names.to_texts(), now + A_YEAR)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let server = params.signed_by(&key, &issuer)?;
    Ok(Certificates {
        ca_pem,
        server: server.der().clone(),
        server_key: PrivatePkcs8KeyDer::from(key.serialize_der()),
    })
}

/// The settings of a server that asks for an optional client certificate and, unless `protocols` is empty,
/// negotiates one of these protocols.
pub(crate) fn server_config(
    certificates: &Certificates,
    protocols: &[&[u8]],
) -> Result<ServerConfig, rustls::Error> {
    let key = PrivateKeyDer::from(certificates.server_key.clone_key());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let possession = Possession(provider.signature_verification_algorithms);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::new(possession))
        .with_single_cert(vec![certificates.server.clone()], key)?;
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

/// Verifies that a client has the key of the certificate that it presents. Whether the certificate is trusted
/// is judged later, by the enrollment.
///
/// No names of authorities are sent, because some clients would not present their certificate then.
/// Certificates of version 1 and those of authorities are accepted too.
#[derive(Debug)]
struct Possession(WebPkiSupportedAlgorithms);

impl ClientCertVerifier for Possession {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        match iter::once(leaf).chain(others).all(|der| Certificate::from_der(der).is_ok()) {
            true => Ok(ClientCertVerified::assertion()),
            false => Err(CertificateError::BadEncoding.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let leaf = parsed(leaf)?;
        let key = leaf.public_key();
        let key_algorithm = algorithm_of(key.raw).ok_or(CertificateError::BadEncoding)?;
        let fits = |algorithm: &&dyn SignatureVerificationAlgorithm| {
            algorithm.public_key_alg_id().as_ref() == key_algorithm
                && algorithm
                    .verify_signature(&key.subject_public_key.data, message, signed.signature())
                    .is_ok()
        };
        let scheme = self.0.mapping.iter().filter(|(scheme, _)| *scheme == signed.scheme);
        match scheme.flat_map(|(_, algorithms)| algorithms.iter()).any(fits) {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => Err(CertificateError::BadSignature.into()),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let leaf = parsed(leaf)?;
        let key = SubjectPublicKeyInfoDer::from(leaf.public_key().raw);
        rustls::crypto::verify_tls13_signature_with_raw_key(message, &key, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

fn parsed<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, rustls::Error> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    Ok(parsed)
}

/// The algorithm of a public key, as DER without the outermost header.
fn algorithm_of(key: &[u8]) -> Option<&[u8]> {
    let (_, key) = Any::from_der(key).ok()?;
    let (_, algorithm) = Any::from_der(key.data).ok()?;
    Some(algorithm.data)
}

/// The chain that the client presented, its own certificate first.
pub(crate) fn presented(connection: &ServerConnection) -> Arc<[Certificate]> {
    let chain = connection.peer_certificates().unwrap_or_default();
    chain.iter().filter_map(|der| Certificate::from_der(der).ok()).collect()
}

pub(crate) const A_YEAR: Duration = Duration::days(365);
