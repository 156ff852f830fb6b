//! Devices with certificates at an emulator's HTTPS port, their enrollments, and certificates made for one test.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use azure_dps_emulator::{Emulator, KeyedCertificate};
use rcgen::{CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};
use rustls::client::{ResolvesClientCert, WantsClientCert};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, SignatureScheme, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use crate::http_client::{HttpClient, Reply, exchange};
use crate::sas::service_authorization;
use crate::tls::{ClientStream, connect};
use crate::trusting;

/// One connection, and the header lines that every request on it has.
#[derive(Debug)]
pub struct X509Device {
    pub stream: ClientStream,
    pub head: String,
}

impl X509Device {
    pub async fn connect(emulator: &Emulator, config: ClientConfig) -> Self {
        Self::try_connect(emulator, config).await.unwrap()
    }

    pub async fn try_connect(emulator: &Emulator, config: impl Into<Arc<ClientConfig>>) -> io::Result<Self> {
        let stream = connect(emulator.https_port(), config).await?;
        Ok(Self { stream, head: String::new() })
    }

    /// The registration state at the end, or the first reply that is an error.
    pub async fn register(&mut self, id: &str) -> Result<Value, Reply> {
        let path = format!("/0ne00EMU1A7/registrations/{id}");
        let (mut method, mut target) = ("PUT", format!("{path}/register"));
        loop {
            let reply = self.ask(method, &format!("{target}?api-version=2021-10-01")).await;
            match reply.status {
                200 => return Ok(reply.body["registrationState"].clone()),
                202 => {
                    method = "GET";
                    target = format!("{path}/operations/{}", reply.operation());
                }
                _ => return Err(reply),
            }
        }
    }

    async fn ask(&mut self, method: &str, target: &str) -> Reply {
        let head = format!(
            "Host: localhost\r\n{}Content-Type: application/json\r\nContent-Length: 0\r\n",
            self.head
        );
        exchange(&mut self.stream, method, target, &head, "").await.unwrap()
    }
}

pub async fn register(emulator: &Emulator, id: &str, device: &KeyedCertificate) -> Result<Value, Reply> {
    register_as(emulator, id, &device.chain_pem, &device.private_key_pem).await
}

pub async fn register_as(emulator: &Emulator, id: &str, chain: &str, key: &str) -> Result<Value, Reply> {
    X509Device::connect(emulator, config(emulator, chain, key, &TLS13)).await.register(id).await
}

// Enrollments

pub async fn enroll(emulator: &Emulator, id: &str, attestation: Value) -> Value {
    put_enrollment(emulator, id, json!({"attestation": attestation})).await
}

pub async fn put_enrollment(emulator: &Emulator, id: &str, mut members: Value) -> Value {
    members["registrationId"] = id.into();
    put(emulator, &format!("/enrollments/{id}"), &members).await
}

pub async fn group(emulator: &Emulator, id: &str, certificates: &[&KeyedCertificate]) -> Value {
    put_group(emulator, id, json!({"attestation": signing(certificates)})).await
}

pub async fn put_group(emulator: &Emulator, id: &str, mut members: Value) -> Value {
    members["enrollmentGroupId"] = id.into();
    put(emulator, &format!("/enrollmentGroups/{id}"), &members).await
}

async fn put(emulator: &Emulator, path: &str, body: &Value) -> Value {
    let reply = ask_service(emulator, "PUT", path, "", &body.to_string()).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.body
}

pub async fn remove(emulator: &Emulator, path: &str) {
    assert_eq!(ask_service(emulator, "DELETE", path, "", "").await.status, 204);
}

/// A request to the service API with every right and these header lines.
pub async fn ask_service(emulator: &Emulator, method: &str, path: &str, head: &str, body: &str) -> Reply {
    let client = HttpClient::new("localhost", emulator.https_port(), trusting(emulator.ca_pem()));
    let head = format!("{}Content-Type: application/json\r\n{head}", service_authorization());
    client.ask(method, &format!("{path}?api-version=2021-10-01"), &head, body).await
}

/// Attestation by the device's own certificates.
pub fn own(certificates: &[&str]) -> Value {
    json!({"type": "x509", "x509": {"clientCertificates": certificate_slots(certificates)}})
}

/// Attestation by certificates that sign those of devices.
pub fn signing(certificates: &[&KeyedCertificate]) -> Value {
    signing_pem(&certificates.iter().map(|of| of.certificate_pem.as_str()).collect::<Vec<_>>())
}

pub fn signing_pem(certificates: &[&str]) -> Value {
    json!({"type": "x509", "x509": {"signingCertificates": certificate_slots(certificates)}})
}

/// Attestation by the names of uploaded certificates.
pub fn references(names: &[&str]) -> Value {
    json!({"type": "x509", "x509": {"caReferences": slots(names, |name| json!(name))}})
}

fn certificate_slots(certificates: &[&str]) -> Value {
    slots(certificates, |pem| json!({"certificate": pem}))
}

fn slots<T>(of: &[T], write: impl Fn(&T) -> Value) -> Value {
    ["primary", "secondary"].into_iter().zip(of).map(|(name, slot)| (name.to_owned(), write(slot))).collect()
}

// Certificates and TLS

/// A certificate below another one, as something that signs, and its chain with its key. One that is called `soon`
/// expires within two days.
pub fn issuer(
    name: &str,
    is_ca: IsCa,
    above: Option<&CertifiedIssuer<'static, KeyPair>>,
) -> (CertifiedIssuer<'static, KeyPair>, (String, String)) {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = is_ca;
    if name == "soon" {
        params.not_after = time::OffsetDateTime::now_utc() + Duration::from_secs(86_400);
    }
    let key = KeyPair::generate().unwrap();
    let key_pem = key.serialize_pem();
    let issuer = match above {
        Some(above) => CertifiedIssuer::signed_by(params, key, above).unwrap(),
        None => CertifiedIssuer::self_signed(params, key).unwrap(),
    };
    let chain = format!("{}{}", issuer.pem(), above.map_or_else(String::new, |above| above.pem()));
    (issuer, (chain, key_pem))
}

/// A client that presents this chain and signs with this key, whether they fit or not.
pub fn config(
    emulator: &Emulator,
    chain_pem: &str,
    key_pem: &str,
    version: &'static SupportedProtocolVersion,
) -> ClientConfig {
    let chain = CertificateDer::pem_slice_iter(chain_pem.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).unwrap();
    let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
    let presented = Presented(Arc::new(CertifiedKey::new(chain, key)));
    builder(emulator, version).with_client_cert_resolver(Arc::new(presented))
}

pub fn builder(
    emulator: &Emulator,
    version: &'static SupportedProtocolVersion,
) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(emulator.ca_pem().as_bytes()).unwrap()).unwrap();
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
}

#[derive(Debug)]
struct Presented(Arc<CertifiedKey>);

impl ResolvesClientCert for Presented {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
