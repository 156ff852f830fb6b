//! The emulator's program as the one server of all clients in a run.
#![allow(clippy::indexing_slicing)] // A JSON value returns null for a member that it does not have.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

use azure_dps_emulator::Pki;
use serde_json::{Value, json};

use crate::Outcome;
use crate::job::Ports;

/// Ends with its handle.
pub(crate) struct Server {
    process: Child,
    // Read no further: the program would end if it could not print.
    _stdout: BufReader<ChildStdout>,
    pub(crate) ports: Ports,
    pub(crate) ca: PathBuf,
    pub(crate) id_scope: String,
    pub(crate) connection_string: String,
    /// From the start of the process to the ready line.
    pub(crate) start: Duration,
}

impl Server {
    /// Starts the program on free ports, with the enrollments of a seed.
    pub(crate) fn start(folder: &Path, seed: &Value) -> Outcome<Self> {
        let file = folder.join("seed.json");
        fs::write(&file, seed.to_string())?;
        let begin = Instant::now();
        let mut process = Command::new(program()?)
            .args(["--quiet", "--retry-after", "0", "--seed"])
            .arg(file)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut stdout = BufReader::new(process.stdout.take().ok_or("no stdout")?);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let ready: Value = serde_json::from_str(&line)?;
        let text = |name: &str| ready[name].as_str().unwrap_or_default().to_owned();
        let port = |name: &str| -> Outcome<u16> {
            let address = ready["endpoints"][name].as_str().and_then(|address| address.rsplit_once(':'));
            Ok(address.ok_or_else(|| format!("no port of {name} in {line}"))?.1.parse()?)
        };
        Ok(Server {
            process,
            _stdout: stdout,
            ports: Ports { https: port("https")?, mqtt: port("mqtt")?, amqp: port("amqp")? },
            ca: text("caFile").into(),
            id_scope: text("idScope"),
            connection_string: text("serviceConnectionString"),
            start: begin.elapsed(),
        })
    }

    pub(crate) fn process(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _ended = self.process.wait();
    }
}

fn program() -> Outcome<PathBuf> {
    Ok(env::var_os("DPS_EMULATOR_PROGRAM").ok_or("DPS_EMULATOR_PROGRAM names no program")?.into())
}

/// A symmetric group whose key derives those of any device, and an X.509 group with one device.
pub(crate) fn fleet(folder: &Path) -> Outcome<(Value, (PathBuf, PathBuf))> {
    let pki = Pki::new(["bench-x509"], 1)?;
    let device = pki.devices.first().ok_or("no device")?;
    let (chain, key) = (folder.join("chain.pem"), folder.join("key.pem"));
    fs::write(&chain, &device.chain_pem)?;
    fs::write(&key, &device.private_key_pem)?;
    let root = pki.root.certificate_pem.as_str();
    let seed = json!({"enrollmentGroups": [
        {"enrollmentGroupId": "keys", "attestation": {
            "type": "symmetricKey", "symmetricKey": {"primaryKey": GROUP_KEY, "secondaryKey": GROUP_KEY}}},
        {"enrollmentGroupId": "certificates", "attestation": {
            "type": "x509", "x509": {"signingCertificates": {"primary": {"certificate": root}}}}},
    ]});
    Ok((seed, (chain, key)))
}

pub(crate) const GROUP_KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
