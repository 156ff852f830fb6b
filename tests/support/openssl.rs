//! The program `openssl`: makes certificate signing requests and verifies chains. It shares no code with the
//! SDK or the emulator.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, io};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// A directory in which `openssl` works; dropping it removes the directory.
#[derive(Debug)]
pub struct OpenSsl {
    directory: PathBuf,
}

impl OpenSsl {
    /// `None` if `openssl` is not installed, which is said once.
    pub fn start() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        static SAID: Once = Once::new();
        match Command::new("openssl").arg("version").output() {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let line = "openssl: skipped, openssl is not installed (apt-get install openssl)";
                SAID.call_once(|| drop(writeln!(io::stderr(), "{line}")));
                return None;
            }
            Err(error) => panic!("openssl cannot be started: {error}"),
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = env::temp_dir().join(format!("openssl-{}-{number}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        Some(Self { directory })
    }

    /// A request for this common name over a new key, in base64 of DER. `key` is the algorithm as
    /// `openssl genpkey` names it, with its option.
    pub fn request(&self, name: &str, [algorithm, option]: [&str; 2]) -> String {
        let subject = format!("/O=Contoso/CN={name}");
        self.run(&["genpkey", "-algorithm", algorithm, "-pkeyopt", option, "-out", "key.pem"]);
        self.run(&[
            "req", "-new", "-key", "key.pem", "-subj", &subject, "-outform", "DER", "-out", "request",
        ]);
        BASE64_STANDARD.encode(fs::read(self.directory.join("request")).unwrap())
    }

    /// Verifies the chain of a client up to this root, and that its leaf has the key of the latest request.
    pub fn verify(&self, chain: &[String], root: &str) {
        fs::write(self.directory.join("root.pem"), root).unwrap();
        let pem = |one: &String| {
            let lines: Vec<_> = one.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line)).collect();
            format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
        };
        fs::write(self.directory.join("leaf.pem"), pem(&chain[0])).unwrap();
        fs::write(self.directory.join("above.pem"), chain[1..].iter().map(pem).collect::<String>()).unwrap();
        let strict = ["verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", "root.pem"];
        self.run(&[&strict[..], &["-untrusted", "above.pem", "leaf.pem"]].concat());
        let certified = self.run(&["x509", "-in", "leaf.pem", "-noout", "-pubkey"]);
        assert_eq!(certified.stdout, self.run(&["pkey", "-in", "key.pem", "-pubout"]).stdout);
    }

    /// The text in which `openssl` shows the leaf of the latest verification.
    pub fn leaf(&self) -> String {
        String::from_utf8(self.run(&["x509", "-in", "leaf.pem", "-noout", "-text"]).stdout).unwrap()
    }

    fn run(&self, args: &[&str]) -> Output {
        let output = Command::new("openssl").args(args).current_dir(&self.directory).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        output
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        let _removed = fs::remove_dir_all(&self.directory);
    }
}
