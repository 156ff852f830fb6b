use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use time::Duration;
use time::macros::datetime;

use super::*;

const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);

type Authority = CertifiedIssuer<'static, KeyPair>;

fn params(name: &str, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (NOW - Duration::HOUR, NOW - Duration::HOUR + life);
    params
}

fn authority(name: &str, issuer: Option<&Authority>) -> Authority {
    let mut params = params(name, Duration::days(365));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    match issuer {
        Some(issuer) => CertifiedIssuer::signed_by(params, key, issuer).unwrap(),
        None => CertifiedIssuer::self_signed(params, key).unwrap(),
    }
}

/// A request, and the authorities that issue for it.
struct Site {
    request: CertificateRequest,
    root: Authority,
    intermediate: Authority,
}

impl Site {
    fn new() -> Self {
        let root = authority("root", None);
        let intermediate = authority("intermediate", Some(&root));
        Self { request: request(), root, intermediate }
    }

    fn leaf(&self, params: &CertificateParams) -> String {
        BASE64.encode(params.signed_by(&key(&self.request), &self.intermediate).unwrap().der())
    }

    /// Leaf, intermediate, root.
    fn chain(&self) -> [String; 3] {
        [self.leaf(&params("sensor-042", Duration::days(30))), self.issuer(), text(&self.root)]
    }

    fn issuer(&self) -> String {
        text(&self.intermediate)
    }

    fn check(&self, chain: &[String]) -> Result<IssuedCertificate> {
        IssuedCertificate::new(chain, &self.request, NOW)
    }

    fn refused(&self, chain: &[String], part: &str) {
        let error = self.check(chain).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CertificateChain, "{error}");
        assert!(error.to_string().contains(part), "{error}");
        assert!(error.to_string().len() < 2000 && error.help().contains("register again"));
    }
}

fn request() -> CertificateRequest {
    CertificateRequest::generate(&"sensor-042".parse().unwrap()).unwrap()
}

fn key(request: &CertificateRequest) -> KeyPair {
    KeyPair::from_pem(&request.key_pem().unwrap()).unwrap()
}

fn text(authority: &Authority) -> String {
    BASE64.encode(authority.der())
}

#[test]
fn a_chain_with_and_without_its_issuers_is_accepted() {
    let site = Site::new();
    let chain = site.chain();
    for count in 1..=3 {
        let issued = site.check(&chain[..count]).unwrap();
        assert_eq!(issued.leaf().subject_name, "CN=sensor-042");
        assert_eq!(issued.leaf().not_after_utc, NOW - Duration::HOUR + Duration::days(30));
        assert_eq!((issued.issuers().len(), issued.chain().count()), (count - 1, count));
        assert_eq!(issued.certificates().len(), count);
    }
    let issuers: Vec<_> =
        site.check(&chain).unwrap().issuers().iter().map(|info| info.issuer_name.clone()).collect();
    assert_eq!(issuers, ["CN=root", "CN=root"]);
}

#[test]
fn six_certificates_are_accepted_and_none_or_seven_are_not() {
    let mut authorities = vec![authority("0", None)];
    for name in ["1", "2", "3", "4", "5"] {
        authorities.push(authority(name, authorities.last()));
    }
    let site = Site { intermediate: authorities.pop().unwrap(), ..Site::new() };
    let mut chain = vec![site.chain()[0].clone(), site.issuer()];
    chain.extend(authorities.iter().rev().map(text));
    assert_eq!(chain.len(), 7);
    site.refused(&chain, "has 7 certificates");
    assert_eq!(site.check(&chain[..6]).unwrap().issuers().len(), 5);
    site.refused(&[], "has 0 certificates");
    site.refused(&vec![String::new(); 100_000], "has 100000 certificates");
}

#[test]
fn a_chain_for_another_key_is_refused() {
    let site = Site::new();
    let other = Site { request: request(), ..Site::new() };
    site.refused(&other.chain(), "not for the key");
}

#[test]
fn a_chain_in_the_wrong_order_or_with_a_gap_is_refused() {
    let site = Site::new();
    let [leaf, intermediate, root] = site.chain();
    site.refused(&[intermediate.clone(), leaf.clone()], "not for the key");
    site.refused(&[leaf.clone(), root.clone(), intermediate], "not signed by the next one");
    site.refused(&[leaf.clone(), root], "not signed by the next one");
    site.refused(&[leaf.clone(), leaf], "not signed by the next one");
}

#[test]
fn an_issuer_of_the_same_name_with_another_key_is_refused() {
    let site = Site::new();
    let namesake = authority("intermediate", Some(&site.root));
    site.refused(&[site.chain()[0].clone(), text(&namesake)], "not signed by the next one");
}

#[test]
fn an_issuer_of_another_name_with_the_same_key_is_refused() {
    let site = Site::new();
    let pem = site.intermediate.key().serialize_pem();
    let mut params = params("another", Duration::days(30));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let renamed = params.self_signed(&KeyPair::from_pem(&pem).unwrap()).unwrap();
    site.refused(&[site.chain()[0].clone(), BASE64.encode(renamed.der())], "not signed by the next one");
}

#[test]
fn a_foreign_or_a_missing_common_name_is_refused() {
    let site = Site::new();
    let of = |names: &[&str]| {
        let mut params = params("", Duration::days(30));
        params.distinguished_name = rcgen::DistinguishedName::new();
        for name in names {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        [site.leaf(&params), site.issuer()]
    };
    for names in [&["sensor-043"][..], &[], &["sensor-0422"]] {
        site.refused(&of(names), "common name \"sensor-042\"");
    }
    site.check(&of(&["SENSOR-042"])).unwrap();
}

#[test]
fn a_chain_is_valid_between_its_times_and_five_minutes_before() {
    let site = Site::new();
    let chain = site.chain();
    let begin = NOW - Duration::HOUR;
    let end = begin + Duration::days(30);
    for (at, part) in [
        (begin - Duration::minutes(5), None),
        (begin, None),
        (end, None),
        (end + Duration::SECOND, Some("has expired")),
        (begin - Duration::minutes(5) - Duration::SECOND, Some("not valid yet")),
        (OffsetDateTime::UNIX_EPOCH, Some("not valid yet")),
        (time::PrimitiveDateTime::MAX.assume_utc(), Some("has expired")),
        (time::PrimitiveDateTime::MIN.assume_utc(), Some("not valid yet")),
    ] {
        match (IssuedCertificate::new(&chain, &site.request, at), part) {
            (Ok(_), None) => {}
            (Err(error), Some(part)) => {
                assert_eq!(error.kind(), ErrorKind::CertificateChain);
                assert!(error.to_string().contains(part) && error.to_string().contains("clock"), "{error}");
            }
            (outcome, _) => panic!("{at}: {outcome:?}"),
        }
    }
}

#[test]
fn an_expired_issuer_is_refused_too() {
    let site = Site::new();
    let mut params = params("intermediate", Duration::MINUTE);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &site.root).unwrap();
    let site = Site { intermediate: issuer, ..site };
    site.refused(&site.chain(), "\"CN=intermediate\" (issued by \"CN=root\"");
}

#[test]
fn an_entry_that_is_not_one_certificate_is_refused_with_its_place_and_not_quoted() {
    let site = Site::new();
    let [leaf, intermediate, _] = site.chain();
    let der = BASE64.decode(&leaf).unwrap();
    for bad in [
        String::new(),
        "marker".to_owned(),
        BASE64.encode(b"marker"),
        leaf[..leaf.len() - 4].to_owned(),
        BASE64.encode([&der[..], &[0]].concat()),
        BASE64.encode([0x30, 9, 0x30, 0, 0x30, 0, 3, 3, 0, 1, 2]),
        BASE64.encode(site.request.der()),
        "A".repeat(32 * 1024 + 1),
        site.request.key_pem().unwrap().to_string(),
    ] {
        site.refused(&[bad.clone(), intermediate.clone()], "entry 1 of the issued chain");
        site.refused(&[leaf.clone(), bad.clone()], "entry 2 of the issued chain");
        let shown = site.check(std::slice::from_ref(&bad)).unwrap_err().to_string();
        assert!(!shown.contains("marker") && !shown.contains("bWFya2Vy"), "{shown}");
    }
}

#[test]
fn names_of_any_length_do_not_fill_the_error() {
    let site = Site::new();
    let mut long = params("sensor-042", Duration::days(30));
    long.distinguished_name.push(DnType::OrganizationName, "\u{7}".repeat(10_000));
    site.refused(&[site.leaf(&long), text(&site.root)], "not signed by the next one");
}

#[test]
fn the_identity_has_the_issued_chain_and_the_key_of_the_request() {
    let site = Site::new();
    let issued = site.check(&site.chain()).unwrap();
    let identity = issued.identity(&site.request).unwrap();
    assert_eq!(identity.certificates(), issued.certificates());
    assert_eq!(identity.common_name(), Some("sensor-042"));

    let error = issued.identity(&request()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credential);
    assert!(error.to_string().contains("does not belong to \"CN=sensor-042\""), "{error}");
    let error = issued.identity(&site.request.without_key()).unwrap_err();
    assert!(error.to_string().contains("no private key here"), "{error}");
}

#[test]
fn debug_shows_the_validity_and_no_certificate() {
    let site = Site::new();
    let shown = format!("{:?}", site.check(&site.chain()).unwrap());
    assert!(shown.contains("CN=sensor-042") && shown.contains("2026-07-01T11:00:00Z"), "{shown}");
    assert!(shown.len() < 200, "{shown}");
}

#[test]
#[cfg(unix)]
fn key_and_chain_are_written_to_one_file_and_read_back_as_an_identity() {
    use std::os::unix::fs::PermissionsExt as _;

    let site = Site::new();
    let issued = site.check(&site.chain()).unwrap();
    let file = std::env::temp_dir().join(format!("azure-dps-core-{}-issued.pem", std::process::id()));
    issued.write_pem(&site.request, &file).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let identity = Identity::from_pem_files(&file, &file).unwrap();
    assert_eq!(identity.certificates(), issued.certificates());
    std::fs::remove_file(&file).unwrap();

    issued.write_pem(&request(), &file).unwrap_err();
    issued.write_pem(&site.request.without_key(), &file).unwrap_err();
    assert!(!file.exists());
}

#[test]
fn nested_elements_end_in_an_error_or_a_certificate() {
    let site = Site::new();
    for tag in [0x30, 0x31, 0xA0, 0xA4] {
        let mut nested = vec![5, 0];
        while nested.len() < 20_000 {
            let length = u16::try_from(nested.len()).unwrap().to_be_bytes();
            nested = [&[tag, 0x82, length[0], length[1]][..], &nested].concat();
        }
        // As an entry itself, and in extensions that a parser knows: names, constraints, policies.
        site.refused(&[BASE64.encode(&nested), site.issuer()], "entry 1");
        for extension in [17, 18, 30, 32, 31, 19, 35] {
            let mut params = params("sensor-042", Duration::days(30));
            params.custom_extensions =
                vec![rcgen::CustomExtension::from_oid_content(&[2, 5, 29, extension], nested.clone())];
            if let Err(error) = site.check(&[site.leaf(&params), site.issuer()]) {
                assert_eq!(error.kind(), ErrorKind::CertificateChain, "{error}");
            }
        }
    }
}

#[test]
fn changed_bytes_end_in_an_error_or_are_not_signed() {
    let site = Site::new();
    let [leaf, intermediate, _] = site.chain();
    let der = BASE64.decode(&leaf).unwrap();
    for at in 0..der.len() {
        let mut changed = der.clone();
        changed[at] ^= 1 << (at % 8);
        match site.check(&[BASE64.encode(&changed), intermediate.clone()]) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::CertificateChain, "byte {at}: {error}"),
            // The signature does not cover its own encoding, whose bytes are at the end.
            Ok(_) => assert!(at < 4 || at > der.len() - 130, "byte {at} of {}", der.len()),
        }
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(entries in proptest::collection::vec("[A-Za-z0-9+/=\n -]{0,80}", 0..8)) {
        let request = CertificateRequest::from_pem(include_str!("../../../tests/vectors/csr/p384.pem"));
        IssuedCertificate::new(&entries, &request.unwrap(), NOW).unwrap_err();
    }
}
