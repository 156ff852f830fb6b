use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::sign::{Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;
use time::Duration;
use time::macros::datetime;

use super::*;
use crate::error_kind::{CredentialKind, ErrorKind};

macro_rules! vector {
    ($name:literal) => {
        include_str!(concat!("../../../tests/vectors/x509/", $name))
    };
}

const RSA: &str = vector!("rsa.pem");
const RSA_KEY: &str = vector!("rsa-pkcs8.key");
const INTERMEDIATE: &str = vector!("intermediate.pem");
const ROOT: &str = vector!("root.pem");
const P384: &str = vector!("p384.pem");
const P384_KEY: &str = vector!("p384-sec1.key");
const V1: &str = vector!("v1.pem");
const V1_KEY: &str = vector!("v1.key");

fn refusal<T: fmt::Debug>(result: Result<T>) -> String {
    let error = result.unwrap_err();
    assert_eq!((error.kind(), error.credential()), (ErrorKind::Credential, Some(CredentialKind::X509)));
    error.to_string()
}

fn subjects(identity: &Identity) -> Vec<&str> {
    std::iter::once(identity.info()).chain(identity.issuers()).map(|info| &*info.subject_name).collect()
}

// Reading

#[test]
fn every_kind_of_key_that_openssl_writes_is_read() {
    for (chain, key) in [
        (RSA, RSA_KEY),
        (RSA, vector!("rsa-pkcs1.key")),
        (P384, P384_KEY),
        (P384, vector!("p384-pkcs8.key")),
        (V1, V1_KEY),
    ] {
        let apart = Identity::from_pem(chain, key).unwrap();
        for text in
            [format!("{chain}{key}"), format!("{key}\nfriendlyName: x\n{chain}").replace('\n', "\r\n")]
        {
            let together = Identity::from_pem(&text, &text).unwrap();
            assert_eq!(together.certificates(), apart.certificates());
        }
        let der = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let identity = Identity::from_der(apart.certificates(), der.secret_der()).unwrap();
        assert_eq!(identity.certificates(), apart.certificates());
        let marked = format!("\u{feff}{chain}");
        assert_eq!(Identity::from_pem(marked, key).unwrap().certificates(), apart.certificates());
    }
}

#[test]
fn a_chain_is_never_shorter_than_its_file() {
    for chain in
        [vector!("chains/chain-glued-end-begin.pem"), vector!("chains/chain-trusted-certificate-label.pem")]
    {
        let identity = Identity::from_pem(chain, vector!("chains/leaf.key")).unwrap();
        assert_eq!(identity.certificates().len(), 2);
        assert_eq!(identity.common_name(), Some("unit-7"));
    }
}

#[test]
fn an_ec_key_gets_its_public_half_from_the_certificate() {
    let p256 = (vector!("keys/p256.pem"), vector!("keys/p384.pem"));
    let leaf = vector!("chains/leaf.pem");
    for ((own, foreign), key) in [
        (p256, vector!("keys/p256-sec1-nopub.key")),
        (p256, vector!("keys/p256-pkcs8-nopub.key")),
        (p256, vector!("keys/p256-compressed.key")),
        ((p256.1, p256.0), vector!("keys/p384-sec1-nopub.key")),
        ((p256.1, p256.0), vector!("keys/p384-pkcs8-nopub.key")),
        ((p256.1, p256.0), vector!("keys/p384-compressed.key")),
        ((leaf, p256.0), vector!("chains/p256-pkcs8-without-public.key")),
    ] {
        let identity = Identity::from_pem(own, key).unwrap();
        assert_eq!(identity.common_name(), Some("unit-7"));
        let der = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        Identity::from_der(identity.certificates(), der.secret_der()).unwrap();
        assert!(refusal(Identity::from_pem(foreign, key)).contains("does not belong to "));
    }
}

#[test]
fn a_key_that_cannot_sign_here_is_named() {
    let p256 = vector!("keys/p256.pem");
    for (key, parts) in [
        (vector!("keys/rsa-e3.key"), ["public exponent below 65537", "openssl genrsa"]),
        (vector!("keys/rsa-e3-pkcs1.key"), ["public exponent below 65537", "openssl genrsa"]),
        (vector!("keys/rsa-1024.key"), ["RSA key of 1024 bits", "2048 to 4096"]),
        (vector!("keys/rsa-pss.key"), ["restricted to RSA-PSS", "openssl ecparam"]),
        (vector!("keys/p521.key"), ["curve P-521 (secp521r1)", "P-256 or P-384"]),
        (vector!("keys/k1.key"), ["curve secp256k1", "P-256 or P-384"]),
        (vector!("keys/p256-explicit.key"), ["explicit curve parameters", "-param_enc named_curve"]),
        (vector!("keys/p256-pkcs8-explicit.key"), ["explicit curve parameters", "-param_enc named_curve"]),
        (vector!("keys/p384-explicit.key"), ["explicit curve parameters", "-param_enc named_curve"]),
    ] {
        let message = refusal(Identity::from_pem(p256, key));
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
    let message = refusal(Identity::from_pem(p256, vector!("keys/ed25519.key")));
    assert!(message.contains("does not belong to "), "{message}");
}

#[test]
fn common_names_are_read_in_every_string_type() {
    let identity = Identity::from_pem(vector!("chains/cn-t61.pem"), vector!("chains/leaf.key")).unwrap();
    assert_eq!(identity.common_name(), Some("unit-7"));
    let (own, other) = ("unit-7".parse().unwrap(), "other".parse().unwrap());
    let now = datetime!(2026-11-26 0:00 UTC);
    identity.check(&own, now).unwrap();
    assert!(refusal(identity.check(&other, now)).contains("is not the common name \"unit-7\""));

    let name = "unit-7";
    let wide: Vec<u16> = name.encode_utf16().collect();
    let bmp: Vec<u8> = wide.iter().flat_map(|unit| unit.to_be_bytes()).collect();
    let universal: Vec<u8> = name.chars().flat_map(|letter| u32::from(letter).to_be_bytes()).collect();
    for (tag, bytes) in [
        (12, name.as_bytes()),
        (18, name.as_bytes()),
        (19, name.as_bytes()),
        (20, name.as_bytes()),
        (22, name.as_bytes()),
        (26, name.as_bytes()),
        (28, &universal),
        (30, &bmp),
    ] {
        let (cert, key) = self_signed_with_name(tag, bytes);
        let identity = Identity::from_der(&[cert], &key).unwrap();
        assert_eq!(identity.common_name(), Some(name), "tag {tag}");
    }
    let latin = self_signed_with_name(20, b"unit-\xe4");
    assert_eq!(Identity::from_der(&[latin.0], &latin.1).unwrap().common_name(), Some("unit-\u{e4}"));
}

/// A certificate whose common name has this type. The signature is not valid, which no reader of a leaf looks
/// at.
fn self_signed_with_name(tag: u8, bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    let place = "x".repeat(bytes.len());
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, place.as_str());
    let der = params.self_signed(&key).unwrap().der().to_vec();
    let old = [&[12, u8::try_from(bytes.len()).unwrap()][..], place.as_bytes()].concat();
    let new = [&[tag, u8::try_from(bytes.len()).unwrap()][..], bytes].concat();
    let mut patched = Vec::new();
    let mut at = 0;
    while at < der.len() {
        if der[at..].starts_with(&old) {
            patched.extend(&new);
            at += old.len();
        } else {
            patched.push(der[at]);
            at += 1;
        }
    }
    (patched, key.serialize_der())
}

#[test]
fn any_of_several_common_names_can_be_the_registration_id() {
    let identity = Identity::from_pem(vector!("chains/two-names.pem"), vector!("chains/leaf.key")).unwrap();
    let now = datetime!(2030-01-01 0:00 UTC);

    assert_eq!(identity.common_name(), Some("Plant"));
    for id in ["unit-7", "plant"] {
        identity.check(&id.parse().unwrap(), now).unwrap();
    }
    assert!(
        refusal(identity.check(&"other".parse().unwrap(), now)).contains("is not the common name \"Plant\"")
    );
}

#[test]
fn the_info_is_what_openssl_and_the_service_print() {
    let identity = Identity::from_pem(RSA, RSA_KEY).unwrap();
    let info = identity.info();
    assert_eq!(info.subject_name, "CN=sensor-rsa, O=Contoso, C=DE");
    assert_eq!(info.issuer_name, "CN=Contoso Factory, O=Contoso, C=DE");
    assert_eq!((info.version, identity.common_name()), (3, Some("sensor-rsa")));
    let printed: Vec<String> = vector!("thumbprints.txt")
        .lines()
        .map(|line| line.split_once('=').unwrap().1.replace(':', ""))
        .collect();
    assert_eq!([&info.sha1_thumbprint, &info.sha256_thumbprint], [&printed[0], &printed[1]]);
    assert_eq!(Identity::from_pem(V1, V1_KEY).unwrap().info().version, 1);
}

#[test]
fn an_encrypted_key_says_how_to_decrypt_it() {
    for key in [vector!("rsa-encrypted.key"), vector!("rsa-proc-type.key")] {
        let message = refusal(Identity::from_pem(RSA, key));
        assert!(message.contains("is encrypted") && message.contains("openssl pkey -in"), "{message}");
    }
}

#[test]
fn what_is_missing_or_in_the_wrong_place_is_named() {
    let binary = CertificateDer::from_pem_slice(RSA.as_bytes()).unwrap();
    for (chain, key, part) in [
        ("", RSA_KEY, "certificate text has no \"-----BEGIN CERTIFICATE-----\""),
        (RSA_KEY, RSA_KEY, "certificate text has a private key and no certificate"),
        (RSA, "", "key text has no \"-----BEGIN PRIVATE KEY-----\""),
        (RSA, RSA, "key text has a certificate and no private key"),
        ("-----BEGIN CERTIFICATE-----\nMIIB", RSA_KEY, "certificate text cannot be read: block 1 (line 1): "),
        (
            &format!("{RSA}-----BEGIN CERTIFCATE-----\nMAA=\n-----END CERTIFCATE-----"),
            RSA_KEY,
            "remove the block",
        ),
        (&format!("{RSA}-----BEGIN PKCS7-----\nMAA=\n-----END PKCS7-----"), RSA_KEY, "openssl pkcs7"),
        (
            RSA,
            &RSA_KEY.replace("MII", "MI!I"),
            "private key text cannot be read: block 1 (line 1): it is damaged",
        ),
        (RSA, &RSA_KEY.replace("PRIVATE", "OPENSSH PRIVATE"), "ssh-keygen"),
        ("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n", RSA_KEY, "is damaged"),
        (RSA, "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n", "key cannot be used"),
    ] {
        let message = refusal(Identity::from_pem(chain, key));
        assert!(message.contains(part), "{message}");
        assert!(!message.contains("MII"), "{message}");
    }
    let message = refusal(Identity::from_pem(binary, RSA_KEY));
    assert!(message.contains("from_der") && message.contains("openssl pkcs12"), "{message}");
    assert!(refusal(Identity::from_der(&[] as &[&[u8]], &[])).contains("not PKCS#8"));
    assert!(refusal(Identity::from_signing_key(&[] as &[&str], Arc::new(Silent))).contains("no certificate"));
}

#[test]
fn a_damaged_key_is_never_shown() {
    let secret = P384_KEY.lines().rev().nth(1).unwrap();
    for damaged in [P384_KEY.replace(secret, &format!("{secret}?")), P384_KEY.replace("-----END", "----END")]
    {
        let error = Identity::from_pem(P384, damaged).unwrap_err();
        assert!(!format!("{error} {error:?} {error:#?}").contains(secret));
        assert!(std::error::Error::source(&error).is_none());
    }
}

#[test]
fn errors_of_files_name_the_file() {
    let place = |name| format!("{}/../tests/vectors/x509/{name}", env!("CARGO_MANIFEST_DIR"));
    let identity = Identity::from_pem_files(place("rsa.pem"), place("rsa-pkcs1.key")).unwrap();
    assert_eq!(identity.common_name(), Some("sensor-rsa"));
    for (chain, key, parts) in [
        ("missing.pem", "v1.key", ["missing.pem", "cannot be read"]),
        ("rsa.pem", "missing.key", ["missing.key", "cannot be read"]),
        ("v1.key", "v1.key", ["v1.key", "no certificate"]),
        ("rsa.pem", "rsa-encrypted.key", ["rsa-encrypted.key", "is encrypted"]),
        ("rsa.pem", "v1.key", ["rsa.pem with the key", "does not belong to "]),
    ] {
        let message = refusal(Identity::from_pem_files(place(chain), place(key)));
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
}

#[test]
fn debug_shows_subject_and_validity_only() {
    let identity = Identity::from_pem(V1, V1_KEY).unwrap();
    let shown = format!("{identity:?}");
    assert!(shown.starts_with("Identity { subject: \"CN=sensor-v1\", not_before: \""), "{shown}");
    assert!(shown.ends_with("Z\", .. }") && shown.len() < 140, "{shown}");
}

// The chain

#[test]
fn intermediates_and_a_root_follow_the_leaf() {
    let all = format!("{ROOT}{RSA}{INTERMEDIATE}");
    let identity = Identity::from_pem(&all, RSA_KEY).unwrap();
    let expected =
        ["CN=sensor-rsa, O=Contoso, C=DE", "CN=Contoso Factory, O=Contoso, C=DE", "CN=Contoso Root"];
    assert_eq!(subjects(&identity), expected);
    let doubled = Identity::from_pem(format!("{all}{all}"), RSA_KEY).unwrap();
    assert_eq!(doubled.certificates(), identity.certificates());
    let short = Identity::from_pem(format!("{INTERMEDIATE}{RSA}"), RSA_KEY).unwrap();
    assert_eq!(subjects(&short), expected[..2]);
}

#[test]
fn a_certificate_that_is_not_part_of_the_chain_is_named() {
    for (chain, parts) in [
        (format!("{RSA}{ROOT}"), ["\"CN=Contoso Root\"", "ends with \"CN=sensor-rsa"]),
        (format!("{RSA}{INTERMEDIATE}{P384}"), ["\"CN=Sensor-384\"", "ends with \"CN=Contoso Factory"]),
        (format!("{RSA}{INTERMEDIATE}{ROOT}{V1}"), ["\"CN=sensor-v1\"", "ends with \"CN=Contoso Root\""]),
    ] {
        let message = refusal(Identity::from_pem(chain, RSA_KEY));
        assert!(message.contains("is not part of the chain"), "{message}");
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let message = refusal(Identity::from_pem(format!("{RSA}{INTERMEDIATE}"), V1_KEY));
    for part in ["does not belong to ", "\"CN=sensor-rsa", "and \"CN=Contoso Factory", "valid from 20"] {
        assert!(message.contains(part), "{message}");
    }
    // Of several keys the one that fits is taken.
    let keys = format!("{V1_KEY}{RSA_KEY}{P384_KEY}");
    assert_eq!(Identity::from_pem(P384, keys).unwrap().common_name(), Some("Sensor-384"));
}

#[test]
fn an_authority_that_was_recreated_under_the_same_name_is_not_part_of_the_chain() {
    let (old, new) = (authority("Factory", None), authority("Factory", None));
    let (leaf, key) = leaf("sensor", &old);
    let message = refusal(Identity::from_pem(format!("{leaf}{}", new.pem()), &key));
    assert!(message.contains("is not signed with that key"), "{message}");
    assert!(message.contains("\"CN=sensor\"") && message.contains("\"CN=Factory\""), "{message}");
    // With both at hand, the right one is not hidden by its namesake; that one is left over.
    let message = refusal(Identity::from_pem(format!("{leaf}{}{}", new.pem(), old.pem()), &key));
    assert!(message.contains("is not part of the chain"), "{message}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_the_blocks_does_not_matter(depth in 0_usize..5, places in vec(any::<u32>(), 7)) {
        let mut authorities = vec![authority("CA 0", None)];
        for n in 1..=depth {
            let next = authority(&format!("CA {n}"), authorities.last());
            authorities.push(next);
        }
        let (leaf, key) = leaf("sensor", authorities.last().unwrap());
        let mut expected = vec!["CN=sensor".to_owned()];
        expected.extend((0..=depth).rev().map(|n| format!("CN=CA {n}")));
        let blocks = authorities.iter().map(|ca| ca.pem()).chain([leaf, key]);
        let mut placed: Vec<_> = places.into_iter().zip(blocks).collect();
        placed.sort();
        let text: String = placed.into_iter().map(|(_, block)| block).collect();
        let identity = Identity::from_pem(&text, &text).unwrap();
        prop_assert_eq!(subjects(&identity), expected);
    }

    #[test]
    fn no_text_makes_the_reader_panic(mut text in vec(any::<u8>(), 0..200), at in 0_usize..1200) {
        let _ = Identity::from_pem(&text, &text);
        let mut cut = RSA.as_bytes()[..at.min(RSA.len())].to_vec();
        cut.append(&mut text);
        let _ = Identity::from_pem(&cut, RSA_KEY);
        let _ = Identity::from_der(&[&cut], &cut);
    }
}

// Keys that cannot be exported

/// A key without its public half.
#[derive(Debug)]
struct Silent;

impl SigningKey for Silent {
    fn choose_scheme(&self, _: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        None
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

/// A key that returns its public key.
#[derive(Debug)]
struct Telling(Vec<u8>);

impl SigningKey for Telling {
    fn choose_scheme(&self, _: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        None
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(self.0.as_slice().into())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

#[test]
fn a_key_that_signs_elsewhere_finds_its_certificate() {
    let whole = pem::keys(RSA_KEY.as_bytes()).unwrap().remove(0);
    let public = whole.complete(&[] as &[&[u8]]).unwrap().public_key().unwrap().to_vec();
    let der = CertificateDer::from_pem_slice(RSA.as_bytes()).unwrap().to_vec();
    let telling = Arc::new(Telling(public));
    let identity =
        Identity::from_signing_key(&[ROOT.as_bytes(), INTERMEDIATE.as_bytes(), &der], telling.clone())
            .unwrap();
    assert_eq!((identity.common_name(), identity.issuers().len()), (Some("sensor-rsa"), 2));
    assert!(refusal(Identity::from_signing_key(&[P384], telling)).contains("does not belong to "));
    assert!(
        refusal(Identity::from_signing_key(&[P384], Arc::new(Telling(vec![1]))))
            .contains("does not belong to ")
    );

    // The output of `openssl s_client -showcerts` begins like this; in DER the same byte is a tag.
    for first in ["", "0 s:CN = sensor-rsa\n   i:CN = ca\n"] {
        let text = format!("{first}{RSA}{INTERMEDIATE}");
        let identity = Identity::from_signing_key(&[text], Arc::new(Silent)).unwrap();
        assert_eq!(identity.common_name(), Some("sensor-rsa"));
    }
    let cut_off = Identity::from_signing_key(&[&der[..der.len() - 1]], Arc::new(Silent));
    assert!(refusal(cut_off).contains("neither PEM nor complete DER"));
}

// The checks before a registration

#[test]
fn the_common_name_is_the_registration_id_without_regard_to_case() {
    let identity = Identity::from_pem(P384, P384_KEY).unwrap();
    let now = identity.info().not_before_utc;
    assert_eq!(identity.registration_id().unwrap().as_str(), "Sensor-384");
    for id in ["Sensor-384", "sensor-384", "SENSOR-384"] {
        identity.check(&id.parse().unwrap(), now).unwrap();
    }
    let message = refusal(identity.check(&"sensor-385".parse().unwrap(), now));
    for part in
        ["\"sensor-385\" is not the common name \"Sensor-384\"", "issued by \"CN=Sensor-384\"", "register as"]
    {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn every_certificate_is_valid_when_it_is_used() {
    let year = |y| datetime!(2030-01-01 0:00 UTC).replace_year(y).unwrap();
    let ca = authority_valid("CA", None, year(2020), year(2040));
    let between = authority_valid("Between", Some(&ca), year(2022), year(2030));
    let (leaf, key) = leaf_valid("sensor", &between, year(2024), year(2028));
    let identity = Identity::from_pem(format!("{leaf}{}{}", between.pem(), ca.pem()), &key).unwrap();
    let id = "sensor".parse().unwrap();
    let check = |now| identity.check(&id, now);

    // The clock of this machine may be a little behind.
    for now in [year(2024) - Duration::minutes(5), year(2024), year(2026), year(2028)] {
        check(now).unwrap();
    }
    let too_early = check(year(2024) - Duration::minutes(6));
    assert_eq!(too_early.as_ref().unwrap_err().not_before(), Some(year(2024)));
    let message = refusal(too_early);
    assert!(message.contains("is not valid yet; this machine's time is 2023-12-31T23:54:00Z"), "{message}");
    assert_eq!(check(year(2029)).unwrap_err().not_before(), None);
    let message = refusal(check(year(2028) + Duration::seconds(1)));
    for part in [
        "\"CN=sensor\" (issued by \"CN=Between\", valid from 2024-01-01T00:00:00Z to 2028-01-01T00:00:00Z)",
        "has expired; this machine's time is 2028-01-01T00:00:01Z: renew it",
    ] {
        assert!(message.contains(part), "{message}");
    }

    let (leaf, key) = leaf_valid("sensor", &between, year(2024), year(2038));
    let identity = Identity::from_pem(format!("{leaf}{}", between.pem()), &key).unwrap();
    let message = refusal(identity.check(&id, year(2031)));
    assert!(message.contains("\"CN=Between\"") && message.contains("has expired"), "{message}");
}

#[test]
fn a_leaf_without_common_name_needs_an_explicit_registration_id() {
    let (leaf, key) = self_signed(None);
    let identity = Identity::from_pem(leaf, key).unwrap();
    assert_eq!(identity.common_name(), None);
    let message = refusal(identity.registration_id());
    assert!(message.contains("no common name: pass the registration id"), "{message}");
    identity.check(&"sensor".parse().unwrap(), datetime!(2026-01-01 0:00 UTC)).unwrap();
    let long = "a".repeat(65).parse().unwrap();
    let message = refusal(identity.check(&long, datetime!(2026-01-01 0:00 UTC)));
    assert!(message.contains("65 characters") && message.contains("at most 64"), "{message}");
}

#[test]
fn a_common_name_that_is_not_a_registration_id_is_refused() {
    for (name, part) in
        [("my sensor", "' ' at position 3"), ("sensor/1", "'/'"), (&*"a".repeat(65), "more than 64")]
    {
        let (leaf, key) = self_signed(Some(name));
        let message = refusal(Identity::from_pem(leaf, key).unwrap().registration_id());
        assert!(message.contains(part) && message.contains("request a certificate"), "{message}");
    }
}

// A test PKI

type Authority = CertifiedIssuer<'static, KeyPair>;

fn params(name: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(name) = name {
        params.distinguished_name.push(DnType::CommonName, name);
    }
    params
}

fn authority(name: &str, parent: Option<&Authority>) -> Authority {
    authority_valid(name, parent, datetime!(2020-01-01 0:00 UTC), datetime!(2120-01-01 0:00 UTC))
}

fn authority_valid(
    name: &str,
    parent: Option<&Authority>,
    from: OffsetDateTime,
    until: OffsetDateTime,
) -> Authority {
    let mut params = params(Some(name));
    (params.is_ca, params.not_before, params.not_after) =
        (IsCa::Ca(BasicConstraints::Unconstrained), from, until);
    let key = KeyPair::generate().unwrap();
    match parent {
        Some(parent) => CertifiedIssuer::signed_by(params, key, parent).unwrap(),
        None => CertifiedIssuer::self_signed(params, key).unwrap(),
    }
}

fn leaf(name: &str, issuer: &Authority) -> (String, String) {
    leaf_valid(name, issuer, datetime!(2020-01-01 0:00 UTC), datetime!(2120-01-01 0:00 UTC))
}

fn leaf_valid(
    name: &str,
    issuer: &Authority,
    from: OffsetDateTime,
    until: OffsetDateTime,
) -> (String, String) {
    let (mut params, key) = (params(Some(name)), KeyPair::generate().unwrap());
    (params.not_before, params.not_after) = (from, until);
    (params.signed_by(&key, issuer).unwrap().pem(), key.serialize_pem())
}

fn self_signed(name: Option<&str>) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    (params(name).self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[test]
fn pem_text_in_place_of_the_name_of_a_file_is_refused_and_not_shown() {
    let chain = format!("{}/../tests/vectors/x509/rsa.pem", env!("CARGO_MANIFEST_DIR"));
    let key = "-----BEGIN PRIVATE KEY-----\nmarker\n-----END PRIVATE KEY-----\n";
    let (one, other) = (Identity::from_pem_files(&chain, key), Identity::from_pem_files(key, &chain));
    for error in [one, other] {
        let error = error.unwrap_err();
        let shown = format!("{error} {error:?} {error:#?}");
        assert!(shown.starts_with("the given name of a file is PEM text or has a line break"), "{shown}");
        assert!(!shown.contains("marker"), "{shown}");
        assert_eq!(error.credential(), Some(CredentialKind::X509));
    }
    let key = "bWFya2VybWFya2Vy=";
    let error = Identity::from_pem_files(key, key).unwrap_err();
    let shown = format!("{error} {error:?} {error:#?}");
    assert!(shown.contains("cannot be read") && !shown.contains(key), "{shown}");
}
