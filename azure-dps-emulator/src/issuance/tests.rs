use std::sync::LazyLock;

use base64::prelude::{BASE64_STANDARD, Engine};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use time::macros::datetime;

use super::*;
use crate::crypto::csr::KeyType;

const NOW: OffsetDateTime = datetime!(2026-11-26 12:00 UTC);

#[test]
fn an_issued_certificate_is_good_until_it_expires() {
    let mut issuance = issuance();
    let certificate = leaf(&issuance.issue(&wanted("Dev1", 30), NOW).unwrap());

    for (now, good) in [
        (NOW - Duration::minutes(6), false),
        (NOW - Duration::minutes(4), true),
        (NOW + Duration::days(30), true),
        (NOW + Duration::days(30) + Duration::SECOND, false),
    ] {
        assert_eq!(issuance.device_of(&certificate, now).is_ok(), good, "{now}");
    }
    assert_eq!(issuance.device_of(&certificate, NOW).unwrap(), "Dev1");
    let late = issuance.device_of(&certificate, NOW + Duration::days(31)).unwrap_err().to_string();
    assert!(late.starts_with("issued certificate CN=Dev1 expired: it is valid from 2026-11-26"), "{late}");
}

#[test]
fn a_revocation_ends_all_earlier_certificates_of_one_device() {
    let mut issuance = issuance();
    let issue = |issuance: &mut Issuance, id| leaf(&issuance.issue(&wanted(id, 30), NOW).unwrap());
    let [first, second] = [(); 2].map(|()| issue(&mut issuance, "dev1"));
    let other = issue(&mut issuance, "dev2");
    assert!(first != second, "two certificates over the same key differ");

    issuance.revoke("DEV1");

    for revoked in [&first, &second] {
        assert_eq!(
            issuance.device_of(revoked, NOW).unwrap_err().to_string(),
            "issued certificate CN=dev1 was revoked: it has an earlier id of the device"
        );
    }
    assert!(issuance.device_of(&other, NOW).is_ok());
    let third = issue(&mut issuance, "dev1");
    assert!(issuance.device_of(&third, NOW).is_ok());
}

#[test]
fn certificates_of_others_are_not_accepted() {
    let mut issuance = issuance();
    let chain = issuance.issue(&wanted("dev1", 30), NOW).unwrap();
    let foreign = Issuance::new(Arc::new(IssuingAuthority::new().unwrap()), &[]);

    let refused = foreign.device_of(&leaf(&chain), NOW).unwrap_err().to_string();
    assert_eq!(refused, "CN=dev1 was not issued by the issuing authority of this emulator");
    // The intermediate is not the certificate of a device.
    let intermediate = Certificate::read(chain.iter().nth(1).unwrap()).unwrap();
    assert!(issuance.device_of(&intermediate, NOW).is_err());
}

#[test]
fn the_chain_has_the_root_if_the_policy_says_so() {
    let mut issuance = issuance();
    for (with_root, wanted_length) in [(false, 2), (true, 3)] {
        let wanted = Wanted { with_root, ..wanted("dev1", 7) };

        let chain: Vec<_> =
            issuance.issue(&wanted, NOW).unwrap().iter().map(|one| Certificate::read(one).unwrap()).collect();

        assert_eq!(chain.len(), wanted_length);
        assert!(chain.windows(2).all(|pair| pair[0].is_signed_by(&pair[1])));
        assert_eq!(chain.last().unwrap().is_self_issued(), with_root);
    }
}

#[test]
fn certificates_are_issued_at_every_time_of_the_clock() {
    let mut issuance = issuance();
    for now in [OffsetDateTime::UNIX_EPOCH, datetime!(2049-12-31 12:00 UTC), datetime!(9999-12-31 12:00 UTC)]
    {
        let certificate = leaf(&issuance.issue(&wanted("dev1", 90), now).unwrap());

        assert!(issuance.device_of(&certificate, now).is_ok(), "{now}");
    }
}

#[test]
fn a_policy_replaces_the_one_with_its_names() {
    let mut issuance = issuance();
    let policy =
        |name: &str, days| CertificatePolicy::new("abc", "ca1", name).unwrap().with_days(days).unwrap();
    issuance.put_policy(policy("one", 7));
    issuance.put_policy(policy("two", 8));
    issuance.put_policy(policy("ONE", 9));

    assert_eq!(issuance.policies().iter().map(|policy| policy.days).collect::<Vec<_>>(), [9, 8]);
    assert!(issuance.delete_policy("abc", "CA1", "one") && !issuance.delete_policy("abc", "ca1", "one"));
    assert_eq!(issuance.policies().len(), 1);
}

#[test]
fn a_kept_authority_is_used_again_and_never_replaced() {
    let dir = std::env::temp_dir().join(format!("issuing-authority-{}", std::process::id()));
    let mut first = Issuance::new(Arc::new(IssuingAuthority::kept(&dir).unwrap()), &[]);
    let certificate = leaf(&first.issue(&wanted("dev1", 30), NOW).unwrap());

    let second = Issuance::new(Arc::new(IssuingAuthority::kept(&dir).unwrap()), &[]);

    assert_eq!(second.authority().pem(), first.authority().pem());
    assert_eq!(second.device_of(&certificate, NOW).unwrap(), "dev1");
    let root = std::fs::read(dir.join("issuing-root.pem")).unwrap();
    let intermediate = std::fs::read(dir.join("issuing-ca.pem")).unwrap();
    let refused = |file: &str, contents: &[u8]| {
        let kept = std::fs::read(dir.join(file)).unwrap();
        std::fs::write(dir.join(file), contents).unwrap();
        let why = IssuingAuthority::kept(&dir).map(drop).unwrap_err().to_string();
        std::fs::write(dir.join(file), kept).unwrap();
        why
    };
    for (file, contents, wanted) in [
        ("issuing-ca.pem", root.as_slice(), "do not belong together"),
        ("issuing-root.pem", b"", "the root has no certificate in its PEM text; delete issuing-ca.pem, "),
        (
            "issuing-root.pem",
            &intermediate,
            "the root did not sign the intermediate; delete issuing-ca.pem, ",
        ),
        ("issuing-ca-key.pem", b"", "issuing-ca-key.pem has no private key"),
    ] {
        let why = refused(file, contents);
        assert!(why.contains(wanted), "{file}: {why}");
    }
    std::fs::remove_file(dir.join("issuing-root.pem")).unwrap();
    assert!(IssuingAuthority::kept(&dir).map(drop).unwrap_err().to_string().contains("issuing-root.pem: "));
    std::fs::remove_dir_all(&dir).unwrap();
}

fn issuance() -> Issuance {
    static AUTHORITY: LazyLock<Arc<IssuingAuthority>> =
        LazyLock::new(|| Arc::new(IssuingAuthority::new().unwrap()));
    Issuance::new(Arc::clone(&AUTHORITY), &[])
}

fn wanted(name: &str, days: u32) -> Wanted {
    static KEY: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate().unwrap());
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let csr = BASE64_STANDARD.encode(params.serialize_request(&*KEY).unwrap().der());
    let request = SigningRequest::read(&csr).unwrap();
    assert_eq!(request.key.key_type, KeyType::P256);
    Wanted { request, days, with_root: false }
}

fn leaf(chain: &IssuedChain) -> Certificate {
    Certificate::read(chain.iter().next().unwrap()).unwrap()
}
