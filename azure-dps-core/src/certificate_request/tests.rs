use std::error::Error as _;

use rustls::SignatureScheme;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::sign::Signer;

use super::*;
use crate::error::Error;
use crate::error_kind::ErrorKind;
use crate::identity::Identity;

macro_rules! vector {
    ($name:literal) => {
        include_str!(concat!("../../../tests/vectors/", $name))
    };
}

fn id() -> RegistrationId {
    "sensor-042".parse().unwrap()
}

fn refused(request: Result<CertificateRequest>, kind: ErrorKind, part: &str) -> Error {
    let error = request.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(part), "{error}");
    error
}

#[test]
fn a_new_key_makes_a_request_for_the_registration_id_on_p_384_or_p_256() {
    for (request, key_bytes) in [
        (CertificateRequest::generate(&id()).unwrap(), 120),
        (CertificateRequest::generate_on(&id(), EcCurve::P384).unwrap(), 120),
        (CertificateRequest::generate_on(&id(), EcCurve::P256).unwrap(), 91),
    ] {
        assert_eq!(request.common_name(), "sensor-042");
        assert_eq!(request.public_key().len(), key_bytes);
        assert!(request.has_key());
        request.check(&id()).unwrap();
        let again = CertificateRequest::from_der(request.der()).unwrap();
        assert_eq!(again.to_base64(), request.to_base64());
        assert!(!request.to_base64().contains(['\n', '-']));
    }
    let (one, other) =
        (CertificateRequest::generate(&id()).unwrap(), CertificateRequest::generate(&id()).unwrap());
    assert_ne!(one.public_key(), other.public_key());
}

#[test]
fn a_key_of_the_caller_makes_a_request_in_each_form() {
    for key in [
        vector!("x509/rsa-pkcs8.key"),
        vector!("x509/rsa-pkcs1.key"),
        vector!("x509/rsa-4096.key"),
        vector!("x509/p384-pkcs8.key"),
        vector!("x509/p384-sec1.key"),
        vector!("x509/v1.key"),
    ] {
        let request = CertificateRequest::from_key_pem(&id(), key).unwrap();
        let written = request.key_pem().unwrap();
        let again = CertificateRequest::from_key_pem(&id(), written.as_bytes()).unwrap();
        assert_eq!(again.public_key(), request.public_key());
        let blocks = crate::pem::blocks(written.as_bytes()).unwrap();
        let from_der = CertificateRequest::from_key_der(&id(), &blocks[0].der).unwrap();
        assert_eq!(from_der.public_key(), request.public_key());
    }
}

#[test]
fn a_key_that_cannot_sign_a_request_is_refused_with_the_remedy() {
    let kind = ErrorKind::Credential;
    let of = |key: &str| CertificateRequest::from_key_pem(&id(), key);
    refused(of(vector!("x509/rsa-encrypted.key")), kind, "openssl pkey");
    refused(of(vector!("x509/p384.pem")), kind, "no private key");
    refused(of("marker"), kind, "BEGIN PRIVATE KEY");
    refused(of("-----BEGIN PRIVATE KEY-----\nbWFya2Vy\n-----END PRIVATE KEY-----"), kind, "damaged");
    refused(CertificateRequest::from_key_der(&id(), b"marker"), kind, "from_key_pem");
    let missing = CertificateRequest::from_key_file(&id(), "/nonexistent/key.pem");
    assert!(refused(missing, kind, "/nonexistent/key.pem").source().is_some());
}

#[test]
fn requests_of_other_programs_are_read_with_each_kind_of_key() {
    for pem in [
        vector!("csr/p384.pem"),
        vector!("csr/p256.pem"),
        vector!("csr/rsa-2048.pem"),
        vector!("csr/rsa-pss.pem"),
        vector!("csr/ed25519.pem"),
        vector!("csr/extended.pem"),
        vector!("csr/new-header.pem"),
    ] {
        let request = CertificateRequest::from_pem(pem).unwrap();
        request.check(&id()).unwrap();
        assert!(!request.has_key() && request.key_pem().is_none());
        assert_eq!(CertificateRequest::from_der(request.der()).unwrap().common_name(), "sensor-042");
    }
    let beside_its_key = [vector!("x509/v1.key"), vector!("csr/p384.pem")].concat();
    assert!(!CertificateRequest::from_pem(beside_its_key).unwrap().has_key());
}

#[test]
fn a_request_that_the_service_would_refuse_is_refused_before() {
    let kind = ErrorKind::Config;
    let of = |pem: &str| CertificateRequest::from_pem(pem);
    refused(of(vector!("csr/p256-sha512.pem")), kind, "cannot be checked");
    refused(of(vector!("csr/rsa-1024.pem")), kind, "less than 2048 bits");
    refused(of(vector!("csr/no-name.pem")), kind, "has 0 readable common names");
    refused(of(vector!("csr/two-names.pem")), kind, "has 2 readable common names");
    refused(of(vector!("x509/p384.pem")), kind, "BEGIN CERTIFICATE REQUEST");
    refused(of(&vector!("csr/p384.pem").repeat(2)), kind, "has 2 certificate signing requests");
    refused(of("-----BEGIN CERTIFICATE REQUEST-----\nAQ"), kind, "no END line");
    refused(CertificateRequest::from_der(vector!("csr/p384.pem")), kind, "from_pem");
    refused(CertificateRequest::from_der([]), kind, "not PKCS#10");
}

#[test]
fn a_changed_byte_a_cut_and_a_further_byte_are_noticed() {
    let der = CertificateRequest::from_pem(vector!("csr/p384.pem")).unwrap().der().to_vec();
    let content = crate::der::element(&der).unwrap().content;
    let begin = der.len() - content.len();
    let signed = begin..begin + crate::der::element(content).unwrap().whole.len();
    for at in 0..der.len() {
        let mut changed = der.clone();
        changed[at] ^= 1;
        let read = CertificateRequest::from_der(&changed);
        assert!(read.is_err() || !signed.contains(&at), "byte {at}: {read:?}");
        CertificateRequest::from_der(&der[..at]).unwrap_err();
    }
    CertificateRequest::from_der([&der[..], &[0]].concat()).unwrap_err();
}

#[test]
fn more_than_8_kb_of_base64_is_refused_without_a_look_at_it() {
    let error = refused(CertificateRequest::from_der(vec![0; 6145]), ErrorKind::Config, "too large");
    assert!(error.to_string().contains("6145"), "{error}");
    refused(CertificateRequest::from_der(vec![0; 6144]), ErrorKind::Config, "not PKCS#10");
}

#[test]
fn the_common_name_is_the_registration_id_character_for_character() {
    let request = CertificateRequest::generate(&id()).unwrap();
    for other in ["sensor-043", "Sensor-042", "sensor-04"] {
        let error = request.check(&other.parse().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        let text = error.to_string();
        assert!(text.contains("\"sensor-042\"") && text.contains(&format!("/CN={other}")), "{text}");
        assert!(error.help().contains("nothing was sent"));
    }
    let long: RegistrationId = "a".repeat(65).parse().unwrap();
    refused(CertificateRequest::generate(&long), ErrorKind::Config, "at most 64");
    CertificateRequest::generate(&"a".repeat(64).parse().unwrap()).unwrap();
}

/// A key in hardware, with the faults that one can have.
#[derive(Debug)]
struct Token {
    key: Arc<dyn SigningKey>,
    public: Option<Vec<u8>>,
    works: bool,
}

impl Token {
    fn new() -> Self {
        let request = CertificateRequest::generate(&id()).unwrap();
        let key = request.signing_key().unwrap();
        Self { public: key.public_key().map(|public| public.to_vec()), key, works: true }
    }
}

impl SigningKey for Token {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let signer = self.key.choose_scheme(offered)?;
        Some(if self.works { signer } else { Box::new(Broken(signer.scheme())) })
    }

    fn algorithm(&self) -> rustls::SignatureAlgorithm {
        self.key.algorithm()
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        self.public.as_deref().map(Into::into)
    }
}

#[derive(Debug)]
struct Broken(SignatureScheme);

impl Signer for Broken {
    fn sign(&self, _: &[u8]) -> std::result::Result<Vec<u8>, rustls::Error> {
        Err(rustls::Error::General("the token was removed".to_owned()))
    }

    fn scheme(&self) -> SignatureScheme {
        self.0
    }
}

#[test]
fn a_key_in_hardware_signs_a_request_and_is_not_exported() {
    let request = CertificateRequest::from_signing_key(&id(), Arc::new(Token::new())).unwrap();
    CertificateRequest::from_der(request.der()).unwrap();
    assert!(request.has_key() && request.key_pem().is_none());
    let error = request.write_key("key.pem").unwrap_err();
    assert!(error.kind() == ErrorKind::Credential && error.to_string().contains("cannot be exported"));
}

#[test]
fn a_key_in_hardware_that_fails_is_an_error_with_its_cause() {
    let kind = ErrorKind::Credential;
    let of = |token| CertificateRequest::from_signing_key(&id(), Arc::new(token));
    refused(of(Token { public: None, ..Token::new() }), kind, "SigningKey::public_key");
    refused(of(Token { public: Some(vec![7]), ..Token::new() }), kind, "SubjectPublicKeyInfo");
    let other = Token::new().public;
    refused(of(Token { public: other, ..Token::new() }), kind, "does not verify");
    let error = refused(of(Token { works: false, ..Token::new() }), kind, "could not sign");
    assert!(error.source().unwrap().to_string().contains("the token was removed"));
}

#[test]
fn the_key_is_shown_nowhere() {
    let request = CertificateRequest::generate(&id()).unwrap();
    let pem = request.key_pem().unwrap();
    let secret = pem.lines().nth(1).unwrap();
    let shown = format!("{request:?} {:#?} {:?}", request.without_key(), request.check(&id()));
    assert!(!shown.contains(secret) && shown.contains("sensor-042"), "{shown}");
    assert!(request.without_key().key_pem().is_none());
    let error = request.without_key().write_key("key.pem").unwrap_err();
    assert!(error.to_string().contains("no private key here"), "{error}");
}

#[test]
#[cfg(unix)]
fn a_key_is_written_for_the_user_alone_replaces_a_file_and_is_read_back() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = std::env::temp_dir().join(format!("azure-dps-core-{}-key", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("device.key");
    std::fs::write(&file, "an older key").unwrap();
    // Left behind by a writer that crashed: another process may have had the same id.
    std::fs::write(folder.join(format!(".device.key.{}-0.new", std::process::id())), "").unwrap();

    let request = CertificateRequest::generate(&id()).unwrap();
    request.write_key(&file).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let again = CertificateRequest::from_key_file(&id(), &file).unwrap();
    assert_eq!(again.public_key(), request.public_key());
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2, "no further file is left");

    let error = request.write_key(folder.join("missing/device.key")).unwrap_err();
    assert!(error.to_string().contains("missing/device.key"), "{error}");
    request.write_key(folder.join("..")).unwrap_err();
    request.write_key(&folder).unwrap_err();
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2, "nor by a write that failed");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_request_without_a_key_makes_no_identity() {
    let request = CertificateRequest::from_pem(vector!("csr/p384.pem")).unwrap();
    assert!(request.signing_key().unwrap_err().to_string().contains("Identity::from_signing_key"));
    let key = CertificateRequest::from_key_pem(&id(), vector!("x509/rsa-pkcs8.key")).unwrap();
    let chain = [vector!("x509/rsa.pem"), vector!("x509/intermediate.pem")];
    Identity::from_signing_key(&chain, key.signing_key().unwrap()).unwrap();
}
