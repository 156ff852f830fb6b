//! The authority of the server certificate: makes it, and keeps it in a directory.
//!
//! Users add it to the trust store of a system, and its key stays in a file. So name constraints and the path
//! length limit it to servers with the names of this emulator.

use std::error::Error;
use std::fs;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, NameConstraints};
use time::{Duration, OffsetDateTime};
use x509_parser::asn1_rs::Tag;
use x509_parser::oid_registry::OID_X509_COMMON_NAME;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::names::Names;
use crate::crypto::key_files::{Kept, KeyFiles, named};
use crate::crypto::pki;
use crate::shown_name::shown;
use crate::state::settings::ServerAuthority;

/// The contents of the authority's certificate.
pub(super) fn params(names: &Names, not_after: OffsetDateTime) -> Result<CertificateParams, rcgen::Error> {
    let mut params = pki::authority(NAME, not_after)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.name_constraints =
        Some(NameConstraints { permitted_subtrees: names.permitted(), excluded_subtrees: Vec::new() });
    Ok(params)
}

/// Makes a new authority for these names.
pub(crate) fn new(names: &Names, lifetime: Duration) -> Result<(String, KeyPair), rcgen::Error> {
    let key = KeyPair::generate()?;
    let certificate = params(names, OffsetDateTime::now_utc() + lifetime)?.self_signed(&key)?;
    Ok((certificate.pem(), key))
}

/// Reads the authority for these names from a directory, or creates it if neither of its files exists.
///
/// # Errors
/// Says what is wrong with a file, or which names the authority may not sign for. An existing authority is
/// never replaced, because clients trust it.
pub(crate) fn kept(dir: &Path, names: &Names) -> Result<(String, KeyPair), Box<dyn Error + Send + Sync>> {
    if dir.exists() && !dir.is_dir() {
        return Err("it is not a directory; give one, or a path where one can be made".into());
    }
    let files = KeyFiles::named(dir, "ca");
    if !files.exist() {
        let (ca_pem, key) = new(names, LIFETIME)?;
        fs::create_dir_all(dir).map_err(|error| named(dir, &error))?;
        files.create(&ca_pem, &key)?;
        return Ok((ca_pem, key));
    }
    let Kept { pem, der, key } = files.read()?;
    let ca_path = shown(&files.certificate);
    let (_, certificate) = X509Certificate::from_der(&der)
        .map_err(|_| format!("{ca_path} has a block that is not an X.509 certificate"))?;
    check(&certificate, names).map_err(|why| format!("{ca_path} {why}"))?;
    Ok((pem, key))
}

/// Takes the authority of a saved state. If it may not sign for these names or cannot be used any more, a new
/// one is made, and a warning is logged.
///
/// # Errors
/// The key is not that of the certificate, or no authority can be made.
pub(crate) fn saved(
    saved: Option<&ServerAuthority>,
    names: &Names,
) -> Result<(String, KeyPair), Box<dyn Error + Send + Sync>> {
    if let Some(ServerAuthority { certificate, key }) = saved {
        let Kept { pem, der, key } =
            Kept::of(certificate, key).map_err(|why| format!("serverAuthority of the state: {why}"))?;
        let checked = match X509Certificate::from_der(&der) {
            Ok((_, certificate)) => check(&certificate, names),
            Err(_) => Err("is not an X.509 certificate".to_owned()),
        };
        match checked {
            Ok(()) => return Ok((pem, key)),
            Err(why) => {
                let why = why.trim_end_matches(ANEW).trim_end_matches("; ");
                tracing::warn!("clients have to trust a new authority: the one in the state {why}");
            }
        }
    }
    Ok(new(names, LIFETIME)?)
}

/// Checks that a certificate belongs to an authority for these names.
fn check(certificate: &X509Certificate<'_>, names: &Names) -> Result<(), String> {
    if !certificate.validity().is_valid() {
        return Err(format!("is not valid any more; {ANEW}"));
    }
    if !certificate.is_ca() || !is_named(certificate) {
        return Err(format!("is not an authority of the emulator, which is called CN={NAME}; {ANEW}"));
    }
    let Some(constraints) = certificate.name_constraints().map_err(|_| "has unreadable name constraints")?
    else {
        // Accepted, because users put such a file there for clients that do not support name constraints.
        tracing::warn!(
            "the kept authority may sign for any host: anyone who gets its key can impersonate any server"
        );
        return Ok(());
    };
    match names.missing(constraints.value).as_slice() {
        [] => Ok(()),
        missing => Err(format!("may not sign for {}, which this start serves; {ANEW}", missing.join(", "))),
    }
}

/// Returns whether its name is [`NAME`], which server certificates contain as their issuer. Clients compare
/// the two names byte for byte.
fn is_named(certificate: &X509Certificate<'_>) -> bool {
    let mut attributes = certificate.subject().iter_attributes();
    let only = attributes.next().filter(|_| attributes.next().is_none());
    only.is_some_and(|name| {
        name.attr_type() == &OID_X509_COMMON_NAME
            && name.attr_value().tag() == Tag::Utf8String
            && name.as_str() == Ok(NAME)
    })
}

const NAME: &str = "Azure DPS emulator CA";
const LIFETIME: Duration = Duration::days(3650);
const ANEW: &str =
    "delete ca.pem and ca-key.pem there, and let clients trust the ca.pem that the next start makes";

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use rcgen::{CertificateParams, Issuer};
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::{Error, RootCertStore};
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

    use super::*;
    use crate::records::hub::Hub;

    #[test]
    fn the_authority_signs_for_its_names_and_for_no_other_host() {
        let names = Names::new(
            Ipv4Addr::new(192, 0, 2, 7).into(),
            &["dps.example".to_owned()],
            &[Hub::from("hub.example")],
        );
        for own in [
            "localhost",
            "127.0.0.9",
            "192.0.2.7",
            "hub.example",
            "dps.example",
            "global.azure-devices-provisioning.net",
        ] {
            assert_eq!(judged(&names, own), Ok(()), "{own}");
        }
        for other in [
            "evil.example",
            "ahub.example",
            "adps.example",
            "www.microsoft.com",
            "192.0.2.8",
            "8.8.8.8",
            "2001:db8::1",
        ] {
            let judged = format!("{:?}", judged(&names, other));
            assert!(judged.contains("NameConstraintViolation"), "{other}: {judged}");
        }
    }

    #[test]
    fn an_authority_below_it_cannot_sign_for_other_hosts() {
        let names = Names::new(Ipv4Addr::LOCALHOST.into(), &[], &[]);
        let (root, key) = new(&names, Duration::DAY).unwrap();
        let root_issuer = issuer(&names, key);
        let below = KeyPair::generate().unwrap();
        let intermediate = pki::authority("below", OffsetDateTime::now_utc() + Duration::DAY).unwrap();
        let chain = intermediate.signed_by(&below, &root_issuer).unwrap();
        let (leaf_key, params) = leaf("evil.example");
        let leaf = params.signed_by(&leaf_key, &Issuer::new(intermediate, below)).unwrap();

        // Others than webpki refuse it by the path length too.
        let judged = verify(&root, leaf.der(), &[chain.der().clone()], "evil.example");

        let judged = format!("{judged:?}");
        assert!(judged.contains("NameConstraintViolation"), "{judged}");
    }

    #[test]
    fn a_kept_authority_is_used_as_it_is_or_refused_with_the_reason() {
        let names = Names::new(Ipv4Addr::LOCALHOST.into(), &[], &[]);
        let year = OffsetDateTime::now_utc() + Duration::days(365);
        let unlimited = pki::authority(NAME, year).unwrap();
        let expired = pki::authority(NAME, OffsetDateTime::now_utc() - Duration::DAY).unwrap();
        let other = pki::authority("Another CA", year).unwrap();
        let no_authority = pki::params(NAME, Vec::new(), year).unwrap();
        for (params, wanted) in [
            (unlimited, None),
            (expired, Some("ca.pem is not valid any more; delete ")),
            (
                other,
                Some(
                    "ca.pem is not an authority of the emulator, which is called CN=Azure DPS emulator CA; ",
                ),
            ),
            (no_authority, Some("ca.pem is not an authority of the emulator, ")),
        ] {
            let key = KeyPair::generate().unwrap();
            let pem = params.self_signed(&key).unwrap().pem();
            let dir = std::env::temp_dir().join(format!("kept-authority-{}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("ca.pem"), &pem).unwrap();
            fs::write(dir.join("ca-key.pem"), key.serialize_pem()).unwrap();

            let used = kept(&dir, &names).map(|(used, _)| used).map_err(|error| error.to_string());
            fs::remove_dir_all(&dir).unwrap();

            match wanted {
                None => assert_eq!(used, Ok(pem)),
                Some(wanted) => assert!(used.as_ref().unwrap_err().contains(wanted), "{used:?}"),
            }
        }
    }

    #[test]
    fn a_kept_file_that_cannot_be_read_is_refused_with_the_reason() {
        let names = Names::new(Ipv4Addr::LOCALHOST.into(), &[], &[]);
        let (ca, key) = new(&names, Duration::DAY).unwrap();
        let key = key.serialize_pem();
        for (ca, key, wanted) in [
            (ca.repeat(2), key.clone(), "ca.pem has 2 certificates"),
            (ca.replace("-----BEGIN", "----BEGIN"), key.clone(), "ca.pem has a BEGIN or END line (line 1)"),
            (
                format!("{ca}-----BEGIN CERTIFICATE-----"),
                key.clone(),
                "ca.pem has a block 2 that does not end",
            ),
            (key.clone(), key.clone(), "ca.pem has no certificate"),
            (ca.clone(), key.repeat(2), "ca-key.pem has 2 private keys"),
            (ca.clone(), ca.clone(), "ca-key.pem has no private key"),
            (ca.clone(), key.replace("PRIVATE KEY", "RSA PRIVATE KEY"), "the label `RSA PRIVATE KEY`"),
        ] {
            let dir = std::env::temp_dir().join(format!("unreadable-authority-{}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("ca.pem"), &ca).unwrap();
            fs::write(dir.join("ca-key.pem"), &key).unwrap();

            let used = kept(&dir, &names).map(drop).map_err(|error| error.to_string());
            fs::remove_dir_all(&dir).unwrap();

            assert!(used.as_ref().is_err_and(|why| why.contains(wanted)), "{wanted}: {used:?}");
        }
    }

    /// The verdict of a client that trusts the authority on a certificate that it signed for `host`.
    fn judged(names: &Names, host: &str) -> Result<(), Error> {
        let (root, key) = new(names, Duration::DAY).unwrap();
        let (leaf_key, params) = leaf(host);
        let leaf = params.signed_by(&leaf_key, &issuer(names, key)).unwrap();
        verify(&root, leaf.der(), &[], host)
    }

    fn issuer(names: &Names, key: KeyPair) -> Issuer<'static, KeyPair> {
        Issuer::new(params(names, OffsetDateTime::now_utc()).unwrap(), key)
    }

    fn leaf(host: &str) -> (KeyPair, CertificateParams) {
        let params = pki::params("leaf", vec![host.to_owned()], OffsetDateTime::now_utc() + Duration::DAY);
        (KeyPair::generate().unwrap(), params.unwrap())
    }

    fn verify(
        root: &str,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        host: &str,
    ) -> Result<(), Error> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(root.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let name = ServerName::try_from(host).unwrap();
        verifier.verify_server_cert(leaf, others, &name, &[], UnixTime::now()).map(|_| ())
    }
}
