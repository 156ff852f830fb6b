//! The attacked program, and connections to it that it may refuse at any time.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use azure_dps_emulator::Pki;
use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::{ClientConfig, ClientConnection, ConfigBuilder, RootCertStore, StreamOwned};
use serde_json::{Value, json};

use super::bytes::{binary, request};

/// The program with one device, which has a certificate; dropping it ends it.
pub(crate) struct Program {
    child: Child,
    ready: Value,
    seed: PathBuf,
    anonymous: Arc<ClientConfig>,
    device: Arc<ClientConfig>,
    roots: RootCertStore,
    key: Arc<dyn SigningKey>,
}

impl Program {
    pub(crate) fn start() -> Self {
        Self::start_with(0)
    }

    /// Starts with `further` enrollments more.
    pub(crate) fn start_with(further: usize) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let pki = Pki::new(["dev-1"], 0).unwrap();
        let leaf = &pki.devices[0];
        let mut seed = json!({"enrollments": [{"registrationId": "dev-1", "attestation": {
            "type": "x509",
            "x509": {"clientCertificates": {"primary": {"certificate": leaf.certificate_pem}}}
        }}]});
        let enrollments = seed["enrollments"].as_array_mut().unwrap();
        enrollments.extend((0..further).map(|number| {
            json!({"registrationId": format!("further-{number}"), "attestation": {"type": "symmetricKey"}})
        }));
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let file = format!("attack-{}-{number}.json", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(file);
        fs::write(&path, seed.to_string()).unwrap();
        let program = std::env::var_os("DPS_EMULATOR_PROGRAM");
        let program = program.unwrap_or_else(|| env!("CARGO_BIN_EXE_azure-dps-emulator").into());
        let mut child = Command::new(program)
            .args(["--seed".as_ref(), path.as_os_str()])
            .env("RUST_LOG", "error")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let ca = fs::read(ready["caFile"].as_str().unwrap()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&ca).unwrap()).unwrap();
        let chain = vec![CertificateDer::from_pem_slice(leaf.certificate_pem.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(leaf.private_key_pem.as_bytes()).unwrap();
        let device = Arc::new(config(&roots).with_client_auth_cert(chain, key.clone_key()).unwrap());
        let anonymous = Arc::new(config(&roots).with_no_client_auth());
        let key = rustls::crypto::ring::sign::any_ecdsa_type(&key).unwrap();
        Program { child, ready, seed: path, anonymous, device, roots, key }
    }

    /// A connection that presents these bytes as its certificate.
    pub(crate) fn presents(&self, front: &str, certificate: Vec<u8>) -> Line {
        let key = CertifiedKey::new(vec![certificate.into()], Arc::clone(&self.key));
        let resolver = Arc::new(SingleCertAndKey::from(key));
        self.tls(front, &Arc::new(config(&self.roots).with_client_cert_resolver(resolver)), &[])
    }

    fn tcp(&self, front: &str) -> TcpStream {
        let endpoint = self.ready["endpoints"][front].as_str().unwrap();
        let port = endpoint.rsplit_once(':').unwrap().1.parse().unwrap();
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn tls(&self, front: &str, config: &Arc<ClientConfig>, words: &[&[u8]]) -> Line {
        let connection = ClientConnection::new(Arc::clone(config), "localhost".try_into().unwrap()).unwrap();
        let mut line = Line::Tls(Box::new(StreamOwned::new(connection, self.tcp(front))));
        for word in words {
            line.write_all(word).unwrap();
        }
        line
    }

    pub(crate) fn manage(&self) -> Line {
        Line::Plain(self.tcp("manage"))
    }

    pub(crate) fn https(&self) -> Line {
        self.tls("https", &self.anonymous, &[])
    }

    pub(crate) fn mqtt(&self) -> Line {
        self.tls("mqtt", &self.anonymous, &[])
    }

    pub(crate) fn mqtt_with_certificate(&self, words: &[&[u8]]) -> Line {
        self.tls("mqtt", &self.device, words)
    }

    pub(crate) fn amqp(&self, words: &[&[u8]]) -> Line {
        self.tls("amqp", &self.anonymous, words)
    }

    pub(crate) fn amqp_with_certificate(&self, words: &[&[u8]]) -> Line {
        self.tls("amqp", &self.device, words)
    }

    pub(crate) fn websocket(&self, protocol: &str, words: &[&[u8]]) -> Line {
        self.in_websocket(&self.anonymous, protocol, words)
    }

    pub(crate) fn websocket_with_certificate(&self, protocol: &str, words: &[&[u8]]) -> Line {
        self.in_websocket(&self.device, protocol, words)
    }

    fn in_websocket(&self, config: &Arc<ClientConfig>, protocol: &str, words: &[&[u8]]) -> Line {
        let upgrade = format!(
            "GET /$iothub/websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: {protocol}\r\n\r\n"
        );
        let mut line = self.tls("https", config, &[upgrade.as_bytes()]);
        let mut status = [0; 12];
        line.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 101");
        for word in words {
            line.write_all(&binary(word)).unwrap();
        }
        line
    }

    /// Checks that the program runs and answers an honest client.
    pub(crate) fn serves(&self, after: &str) {
        let mut line = self.https();
        line.write_all(&request("GET", "/enrollments/dev-1?api-version=2021-10-01", b"")).unwrap();
        assert!(line.answer().starts_with("HTTP/1.1 200 "), "after {after}");
    }

    /// The peak memory of the program in bytes; `None` if the system does not report it.
    pub(crate) fn peak(&self) -> Option<usize> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().strip_suffix(" kB")?.parse::<usize>().ok().map(|kib| kib * 1024)
    }
}

fn config(roots: &RootCertStore) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    config.unwrap().with_root_certificates(roots.clone())
}

impl Drop for Program {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _ended = self.child.wait();
        // A killed program does not remove its file.
        let _removed = fs::remove_file(self.ready["caFile"].as_str().unwrap_or_default());
        let _removed = fs::remove_file(&self.seed);
    }
}

/// A connection to it.
pub(crate) enum Line {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Line {
    fn tcp(&self) -> &TcpStream {
        match self {
            Line::Plain(stream) => stream,
            Line::Tls(stream) => &stream.sock,
        }
    }

    /// Sends the same bytes again and again without reading. Ends when all is sent or the program reads no
    /// more.
    pub(crate) fn floods(mut self, flood: &[u8], times: usize) {
        self.tcp().set_write_timeout(Some(STALLED)).unwrap();
        let begun = Instant::now();
        for _ in 0..times {
            if self.write_all(flood).is_err() || begun.elapsed() > FLOODING {
                break;
            }
        }
        std::thread::sleep(STALLED);
    }

    /// Waits until the program has sent these bytes.
    pub(crate) fn hears(mut self, wanted: &[u8]) -> Self {
        let (mut heard, mut byte) = (Vec::new(), [0]);
        while !heard.ends_with(wanted) {
            self.read_exact(&mut byte).unwrap_or_else(|error| panic!("{error}: {heard:x?}"));
            heard.extend(byte);
        }
        self
    }

    /// Reads the available bytes; returns whether the connection is still open.
    pub(crate) fn drinks(&mut self) -> bool {
        self.tcp().set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        let mut bytes = [0; 64 * 1024];
        loop {
            match self.read(&mut bytes) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }

    /// Waits until the program has closed the connection.
    pub(crate) fn ends(&mut self) {
        let mut bytes = [0; 4096];
        loop {
            match self.read(&mut bytes) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("it does not end"),
                Err(_) => return,
            }
        }
    }

    /// The beginning of an answer.
    pub(crate) fn answer(&mut self) -> String {
        let mut status = [0; 13];
        self.read_exact(&mut status).unwrap();
        String::from_utf8(status.to_vec()).unwrap()
    }
}

impl Read for Line {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Line::Plain(stream) => stream.read(bytes),
            Line::Tls(stream) => stream.read(bytes),
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Line::Plain(stream) => stream.write(bytes),
            Line::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Line::Plain(stream) => stream.flush(),
            Line::Tls(stream) => stream.flush(),
        }
    }
}

/// How long an answer or the end of a connection may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest time of a flood, because debug builds are slow.
const FLOODING: Duration = Duration::from_secs(8);
/// How long a flood waits for a program that reads no more.
const STALLED: Duration = Duration::from_secs(2);
