//! The certificates in the answer to a registration with a certificate signing request, and faults in them: the
//! assignment is never lost.

use azure_dps_core::models::ApiVersion;
use azure_dps_core::{CertificateRequest, Error, ErrorKind, IssuedCertificate};
use azure_dps_device::{Assignment, Mqtt};
use azure_dps_tests::mqtt_service::{MqttService, reply};
use azure_dps_tests::registration::{ID, credential};
use azure_dps_tests::{Act, Peer, TlsListener, device};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use crate::https::assigned_body;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = OffsetDateTime::now_utc() - Duration::DAY;
    params.not_after = OffsetDateTime::now_utc() + Duration::days(29);
    params
}

fn authority(name: &str, issuer: Option<&Authority>) -> Authority {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    match issuer {
        Some(issuer) => CertifiedIssuer::signed_by(params, key, issuer).unwrap(),
        None => CertifiedIssuer::self_signed(params, key).unwrap(),
    }
}

fn request() -> CertificateRequest {
    CertificateRequest::generate(&ID.parse().unwrap()).unwrap()
}

/// An authority that issues, and the root above it.
struct Site {
    root: Authority,
    issuer: Authority,
}

impl Site {
    fn new() -> Self {
        let root = authority("root", None);
        Self { issuer: authority("issuer", Some(&root)), root }
    }

    fn leaf(&self, request: &CertificateRequest, params: &CertificateParams) -> String {
        let key = KeyPair::from_pem(&request.key_pem().unwrap()).unwrap();
        BASE64.encode(params.signed_by(&key, &self.issuer).unwrap().der())
    }

    fn chain(&self, request: &CertificateRequest) -> [String; 3] {
        [self.leaf(request, &params(ID)), text(&self.issuer), text(&self.root)]
    }
}

fn text(authority: &Authority) -> String {
    BASE64.encode(authority.der())
}

/// Registers with the request at a service that answers with this member.
async fn answered(
    request: &CertificateRequest,
    chain: Value,
) -> (Assignment, Result<IssuedCertificate, Error>) {
    let answer = Act::json("200 OK", "", &assigned_body(json!({ "issuedCertificateChain": chain })));
    let peer = Peer::start([answer]).await;
    let assignment = peer.device(credential()).register().csr(request).await.unwrap();
    let issued = assignment.issued_certificate();
    (assignment, issued)
}

/// The error for this member of the answer; the assignment is there.
async fn refused(request: &CertificateRequest, chain: Value) -> Error {
    let (assignment, issued) = answered(request, chain).await;
    assert_eq!(assignment.hub(), "interop-hub.azure-devices.localhost");
    issued.unwrap_err()
}

#[tokio::test]
async fn a_chain_that_fits_is_returned_with_its_validity_and_makes_an_identity() {
    let (site, request) = (Site::new(), request());
    let (assignment, issued) = answered(&request, json!(site.chain(&request))).await;
    let issued = issued.unwrap();
    let names: Vec<_> = issued.chain().map(|info| info.subject_name.as_str()).collect();
    assert_eq!(names, [format!("CN={ID}").as_str(), "CN=issuer", "CN=root"]);
    let days = (issued.leaf().not_after_utc - issued.leaf().not_before_utc).whole_days();
    assert!((29..=30).contains(&days), "{days}");
    let identity = issued.identity(&request).unwrap();
    identity.check(&ID.parse().unwrap(), OffsetDateTime::now_utc()).unwrap();
    let later = OffsetDateTime::now_utc() + Duration::days(40);
    let error = assignment.issued_certificate_at(later).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CertificateChain);
    assert!(error.to_string().contains("expired"), "{error}");
}

#[tokio::test]
async fn a_chain_that_does_not_fit_is_an_error_and_the_assignment_stays() {
    let (site, request) = (Site::new(), request());
    let [leaf, issuer, root] = site.chain(&request);
    let other = site.chain(&self::request())[0].clone();
    let foreign = site.leaf(&request, &params("somebody-else"));
    let mut old = params(ID);
    old.not_after = OffsetDateTime::now_utc() - Duration::HOUR;
    let expired = site.leaf(&request, &old);
    for (chain, part) in [
        (json!([other, issuer, root]), "not for the key"),
        (json!([issuer, leaf]), "not for the key"),
        (json!([leaf, root, issuer]), "not signed by the next one"),
        (json!([expired, issuer]), "has expired"),
        (json!([foreign, issuer]), "does not have the common name"),
        (json!([]), "has 0 certificates"),
        (json!(vec![leaf.clone(); 7]), "has 7 certificates"),
        (json!(["AAAA", issuer]), "entry 1"),
        (json!([leaf, "no base64!"]), "entry 2"),
        (json!([leaf, "x".repeat(200 * 1024)]), "too large"),
        (json!(leaf), "not a list of texts"),
        (json!([leaf, 7]), "not a list of texts"),
        (json!([leaf, null]), "not a list of texts"),
        (json!([[leaf]]), "not a list of texts"),
        (json!({ "0": leaf }), "not a list of texts"),
        (json!(false), "not a list of texts"),
    ] {
        let error = refused(&request, chain).await;
        assert_eq!(error.kind(), ErrorKind::CertificateChain, "{error}");
        assert!(error.to_string().contains(part), "{error}");
        assert!(error.to_string().len() < 2000 && error.help().contains("register again"), "{error}");
    }
}

#[tokio::test]
async fn an_answer_without_a_chain_is_a_valid_assignment_and_its_own_error() {
    let request = request();
    let error = refused(&request, Value::Null).await;
    assert_eq!(error.kind(), ErrorKind::CertificateNotIssued);
    assert!(error.help().contains("certificate policy"), "{}", error.help());
    let peer = Peer::start([Act::json("200 OK", "", &assigned_body(json!({})))]).await;
    let assignment = peer.device(credential()).register().csr(&request).await.unwrap();
    let error = assignment.issued_certificate().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CertificateNotIssued);
    assert!(error.to_string().contains(ID), "{error}");
}

#[tokio::test]
async fn a_registration_without_a_request_has_its_own_error() {
    let site = Site::new();
    let chain = json!({ "issuedCertificateChain": site.chain(&request()) });
    let peer = Peer::start([Act::json("200 OK", "", &assigned_body(chain))]).await;
    let client = peer.device(credential()).with_api_version(ApiVersion::V2026_11_01);
    let error = client.register().await.unwrap().issued_certificate().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CertificateNotRequested);
    assert!(error.help().contains("register().csr(&request)"), "{}", error.help());
}

#[tokio::test]
async fn a_long_chain_fits_into_a_packet_of_mqtt() {
    let mut authorities = vec![authority("0", None)];
    for name in ["1", "2", "3", "4"] {
        authorities.push(authority(name, authorities.last()));
    }
    let site = Site { issuer: authorities.pop().unwrap(), root: authority("other", None) };
    let request = request();
    let mut large = params(ID);
    large.distinguished_name.push(DnType::OrganizationName, "x".repeat(20_000));
    let mut chain = vec![site.leaf(&request, &large), text(&site.issuer)];
    chain.extend(authorities.iter().rev().map(text));

    let listener = TlsListener::start().await;
    let client = device("0ne00ABCDEF", credential(), Mqtt::new(listener.endpoint()));
    let sent = request.clone();
    let registration = tokio::spawn(async move { client.register().csr(&sent).await });
    let (mut talk, rid, _) = MqttService::requested(&listener).await;
    let answer = assigned_body(json!({ "issuedCertificateChain": chain }));
    talk.publish(1, 1, &reply(200, &rid, ""), &answer).await;
    let assignment = registration.await.unwrap().unwrap();
    assert_eq!(assignment.issued_certificate().unwrap().issuers().len(), 5);
}
