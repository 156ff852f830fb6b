//! Trust in the platform's authorities.
//!
//! Where the platform verifies certificates itself (Windows, Apple, Android), it does. Elsewhere its
//! authorities are files, which this reads once for the process. The crate rustls-platform-verifier would read
//! each of them twice: from the bundle, and from the directory that the bundle is made of.

pub(super) use self::here::{is_read, verifier};

#[cfg(all(unix, not(target_os = "android"), not(target_vendor = "apple")))]
mod here {
    use std::sync::{Arc, OnceLock};

    use rustls::RootCertStore;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::crypto::CryptoProvider;
    use rustls_pki_types::CertificateDer;

    use crate::error::{Error, Result};
    use crate::error_kind::ErrorKind;
    use crate::tls::trust_store::TrustStore;
    use crate::tls::web_pki;

    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();

    /// Whether the process has read the platform's roots.
    pub(in crate::tls) fn is_read() -> bool {
        ROOTS.get().is_some()
    }

    /// A verifier that trusts the platform's roots and `extra` ones.
    pub(in crate::tls) fn verifier(
        extra: &[CertificateDer<'static>],
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ServerCertVerifier>> {
        let roots = match (roots(), extra) {
            (Ok(roots), []) => roots,
            (Ok(roots), extra) => web_pki::with(RootCertStore::clone(&roots), extra)?.into(),
            (Err(why), []) => return Err(why),
            // A machine without authorities can still trust the given ones.
            (Err(_), extra) => web_pki::with(RootCertStore::empty(), extra)?.into(),
        };
        web_pki::verifier(roots, provider)
    }

    fn roots() -> Result<Arc<RootCertStore>> {
        if let Some(roots) = ROOTS.get() {
            return Ok(Arc::clone(roots));
        }
        let (certificates, failures) = find().into_parts();
        let mut roots = RootCertStore::empty();
        // One that cannot be read does not take the others' trust away.
        roots.add_parsable_certificates(certificates);
        if roots.is_empty() {
            let error = Error::new(
                ErrorKind::Tls,
                "the platform has no usable trust store: install its CA certificates or name the roots to \
                 trust",
            );
            return Err(match failures.into_iter().next() {
                Some(why) => error.with_source(why),
                None => error,
            });
        }
        Ok(Arc::clone(ROOTS.get_or_init(|| Arc::new(roots))))
    }

    /// The certificates that `SSL_CERT_FILE` and `SSL_CERT_DIR` name; else the system's bundle; else all that
    /// the system has.
    fn find() -> TrustStore {
        let mut store = TrustStore::default();
        let (file, directories) = (std::env::var_os("SSL_CERT_FILE"), std::env::var_os("SSL_CERT_DIR"));
        let directories = directories.iter().flat_map(std::env::split_paths);
        let directories = Vec::from_iter(directories.filter(|directory| !directory.as_os_str().is_empty()));
        if file.is_some() || !directories.is_empty() {
            file.iter().for_each(|file| store.add_file(file.as_ref()));
            directories.iter().for_each(|directory| store.add_directory(directory));
            return store;
        }
        let system = openssl_probe::probe();
        system.cert_file.iter().for_each(|bundle| store.add_file(bundle));
        // The bundle is made of the files in the directory.
        if store.is_empty() {
            system.cert_dir.iter().for_each(|directory| store.add_directory(directory));
        }
        store
    }

    #[cfg(test)]
    mod tests {
        use std::process::Command;

        use rustls::crypto::ring;
        use rustls_pki_types::pem::PemObject as _;

        use super::*;

        const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/x509");
        const CHILD: &str = "CHILD_OF_THE_TEST";

        /// Runs the child below in a process with these variables, and returns what it prints.
        fn in_a_process(variables: &[(&str, &str)]) -> String {
            let this = std::env::current_exe().unwrap();
            let mut command = Command::new(this);
            command.args(["--exact", "tls::platform::here::tests::child", "--nocapture"]).env(CHILD, "1");
            for name in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
                command.env_remove(name);
            }
            let output = command.envs(variables.iter().copied()).output().unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            said.lines()
                .find_map(|line| line.find("found ").and_then(|at| line.get(at..)))
                .unwrap()
                .to_owned()
        }

        #[test]
        fn child() {
            if std::env::var_os(CHILD).is_none() {
                return;
            }
            let (certificates, failures) = find().into_parts();
            let usable = verifier(&[], Arc::new(ring::default_provider())).is_ok();
            println!(
                "found {} errors {} usable {usable} read {}",
                certificates.len(),
                failures.len(),
                is_read()
            );
        }

        #[test]
        fn the_variables_name_a_file_and_a_directory() {
            let (file, directory) = (format!("{VECTORS}/root.pem"), format!("{VECTORS}/chains"));
            let said = in_a_process(&[("SSL_CERT_FILE", &file)]);
            assert!(said.contains("found 1 errors 0 usable true read true"), "{said}");
            let said = in_a_process(&[("SSL_CERT_FILE", "/nowhere.pem")]);
            assert!(said.contains("found 0 errors 1 usable false read false"), "{said}");
            let said = in_a_process(&[("SSL_CERT_DIR", &directory)]);
            assert!(!said.contains("found 0") && said.contains("read true"), "{said}");
            let both = format!("/nowhere:{directory}:");
            assert_eq!(in_a_process(&[("SSL_CERT_DIR", &both)]), said.replace("errors 0", "errors 1"));
            assert_eq!(in_a_process(&[("SSL_CERT_DIR", "")]), in_a_process(&[]), "it names nothing");
            let said = in_a_process(&[("SSL_CERT_DIR", "/nowhere")]);
            assert!(said.contains("found 0 errors 1 usable false read false"), "{said}");
        }

        #[test]
        fn without_them_the_bundle_is_read_and_not_the_directory_too() {
            let Some(bundle) = openssl_probe::probe().cert_file else { return };
            let bundled = CertificateDer::pem_file_iter(&bundle).unwrap().filter_map(Result::ok);
            let bundled = std::collections::HashSet::<CertificateDer<'_>>::from_iter(bundled).len();
            let said = in_a_process(&[]);
            assert!(said.contains(&format!("found {bundled} errors 0 usable true read true")), "{said}");
        }

        #[test]
        fn given_roots_are_trusted_beside_the_platforms_or_without_any() {
            let root = include_bytes!("../../../tests/vectors/x509/root.pem");
            let extra = [CertificateDer::from_pem_slice(root).unwrap()];
            assert!(verifier(&extra, Arc::new(ring::default_provider())).is_ok());
        }
    }
}

#[cfg(not(all(unix, not(target_os = "android"), not(target_vendor = "apple"))))]
mod here {
    use std::sync::Arc;

    use rustls::client::danger::ServerCertVerifier;
    use rustls::crypto::CryptoProvider;
    use rustls_pki_types::CertificateDer;
    use rustls_platform_verifier::Verifier;

    use crate::error::{Error, Result};
    use crate::error_kind::ErrorKind;

    /// The platform reads its roots itself, when it verifies a certificate.
    pub(in crate::tls) fn is_read() -> bool {
        true
    }

    /// A verifier that trusts the platform's roots and `extra` ones.
    pub(in crate::tls) fn verifier(
        extra: &[CertificateDer<'static>],
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ServerCertVerifier>> {
        match Verifier::new_with_extra_roots(extra.iter().cloned(), provider) {
            Ok(verifier) => Ok(Arc::new(verifier)),
            Err(why) => {
                Err(Error::new(ErrorKind::Tls, "the platform's trust store cannot be used").with_source(why))
            }
        }
    }
}
