//! Reads the certificates of a trust store that consists of PEM files.
//!
//! A device reads about 150 roots before its first connection. A reader for keys decodes base64 in constant
//! time, which takes several times as long; roots are public.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls_pki_types::CertificateDer;

use crate::file_name;

/// The certificates of files and directories, each one once, and the failures to read them.
#[derive(Default)]
pub(super) struct TrustStore {
    certificates: Vec<CertificateDer<'static>>,
    /// Device and inode of each file. A directory names most of its files twice.
    files: HashSet<(u64, u64)>,
    failures: Vec<io::Error>,
}

impl TrustStore {
    /// Reads a file.
    pub(super) fn add_file(&mut self, path: &Path) {
        match fs::metadata(path) {
            Ok(file) => self.add(path, &file),
            Err(why) => self.fail(path, &why),
        }
    }

    /// Reads the files of a directory. A link without a target is not a failure.
    pub(super) fn add_directory(&mut self, path: &Path) {
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(why) => return self.fail(path, &why),
        };
        for entry in entries.filter_map(Result::ok) {
            let path = entry.path();
            match fs::metadata(&path) {
                Ok(file) if file.is_file() => self.add(&path, &file),
                Ok(_) => {}
                Err(why) if why.kind() == io::ErrorKind::NotFound => {}
                Err(why) => self.fail(&path, &why),
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.certificates.is_empty()
    }

    /// The certificates, and the failures in the order in which they happened.
    pub(super) fn into_parts(mut self) -> (Vec<CertificateDer<'static>>, Vec<io::Error>) {
        self.certificates.sort_unstable_by(|a, b| a.cmp(b));
        self.certificates.dedup();
        (self.certificates, self.failures)
    }

    fn add(&mut self, path: &Path, file: &Metadata) {
        if !self.files.insert((file.dev(), file.ino())) {
            return;
        }
        match fs::read(path) {
            Ok(text) => self.certificates.extend(certificates(&text)),
            Err(why) => self.fail(path, &why),
        }
    }

    fn fail(&mut self, path: &Path, why: &io::Error) {
        self.failures
            .push(io::Error::new(why.kind(), format!("cannot read {}: {why}", file_name::shown(path))));
    }
}

/// The certificates of a text. A block that cannot be read is skipped, because a damaged root must not take
/// the trust in the other roots away.
fn certificates(text: &[u8]) -> Vec<CertificateDer<'static>> {
    // Comments may have another encoding.
    let text = std::str::from_utf8(text).map_or_else(|_| String::from_utf8_lossy(text), Cow::Borrowed);
    let blocks = text.split("-----BEGIN CERTIFICATE-----").skip(1);
    let bodies = blocks.filter_map(|block| block.split_once("-----END CERTIFICATE-----"));
    let decoded = bodies.filter_map(|(body, _)| decode(body));
    decoded.filter(|der| !der.is_empty()).map(CertificateDer::from).collect()
}

/// Decodes a body. Whole lines come first, because they are found faster than white space of any kind.
fn decode(body: &str) -> Option<Vec<u8>> {
    let lines: String = body.lines().map(str::trim_ascii).collect();
    let any_layout = |_| BASE64.decode(body.split_ascii_whitespace().collect::<String>());
    BASE64.decode(lines).or_else(any_layout).ok()
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::pem::PemObject as _;

    use super::*;

    const GLUED: &str = include_str!("../../../tests/vectors/x509/chains/roots-glued.pem");
    const ROOT: &str = include_str!("../../../tests/vectors/x509/root.pem");

    fn read_by_rustls(text: &str) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(text.as_bytes()).filter_map(Result::ok).collect()
    }

    #[test]
    fn certificates_are_read_in_any_layout() {
        let wanted = read_by_rustls(ROOT);
        assert_eq!(wanted.len(), 1);
        for text in [
            ROOT.to_owned(),
            ROOT.replace('\n', "\r\n"),
            ROOT.replace('\n', " \n\t"),
            ROOT.replace('\n', "\r"),
            format!("\u{feff}# a comment\n{ROOT}the end"),
            format!("-----BEGIN CERTIFICATE-----\ncut off\n{ROOT}"),
            format!("-----BEGIN CERTIFICATE-----\n%%%%\n-----END CERTIFICATE-----\n{ROOT}"),
            format!("-----BEGIN PUBLIC KEY-----\nAQID\n-----END PUBLIC KEY-----\n{ROOT}"),
        ] {
            assert_eq!(certificates(text.as_bytes()), wanted, "{text:?}");
        }
        assert_eq!(certificates(&[b"\xe9t\xe9 1999\n", ROOT.as_bytes()].concat()), wanted);
        assert_eq!(certificates(GLUED.as_bytes()).len(), GLUED.matches("BEGIN CERTIFICATE").count());
        for none in ["", "not PEM", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"] {
            assert_eq!(certificates(none.as_bytes()), []);
        }
    }

    #[test]
    fn a_certificate_with_several_names_is_returned_once() {
        let directory = std::env::temp_dir().join(format!("trust-store-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let bundle = directory.join("bundle.crt");
        fs::write(&bundle, GLUED).unwrap();
        fs::write(directory.join("root.pem"), GLUED).unwrap();
        for (target, link) in [("root.pem", "01234567.0"), ("nothing.pem", "89abcdef.0")] {
            std::os::unix::fs::symlink(target, directory.join(link)).unwrap();
        }
        let mut store = TrustStore::default();
        store.add_file(&bundle);
        store.add_directory(&directory);
        assert_eq!(store.files.len(), 2, "two files with three names");
        let (certificates, failures) = store.into_parts();
        fs::remove_dir_all(&directory).unwrap();
        let mut wanted = read_by_rustls(&GLUED.replace("----------", "-----\n-----"));
        wanted.sort_unstable_by(|a, b| a.cmp(b));
        wanted.dedup();
        assert_eq!(certificates, wanted);
        assert!(failures.is_empty(), "{failures:?}");
    }

    #[test]
    fn a_failure_names_the_file() {
        let mut store = TrustStore::default();
        store.add_file(Path::new("/nowhere.pem"));
        store.add_directory(Path::new("/nowhere"));
        let (_, failures) = store.into_parts();
        let said: Vec<String> = failures.iter().map(ToString::to_string).collect();
        assert!(said[0].starts_with("cannot read /nowhere.pem: No such file"), "{said:?}");
        assert!(said[1].starts_with("cannot read /nowhere: No such file"), "{said:?}");
    }
}
