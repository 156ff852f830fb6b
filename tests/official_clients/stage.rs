//! Where a scenario plays: one emulator, and official clients as child processes that trust its authority.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use azure_dps_emulator::{Emulator, EmulatorBuilder};
use azure_dps_tests::evidence;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::device_client::Peer;

/// An emulator for one test. When the test fails, its journal and what the clients wrote to stderr are printed.
pub(crate) struct Stage {
    emulator: Emulator,
    installed: PathBuf,
    folder: PathBuf,
}

impl Stage {
    /// Starts an emulator with the defaults, or says once that no official client is installed.
    pub(crate) async fn start() -> Option<Self> {
        Self::with(Emulator::builder()).await
    }

    pub(crate) async fn with(emulator: EmulatorBuilder) -> Option<Self> {
        static SKIPPED: Once = Once::new();
        static COUNT: AtomicU32 = AtomicU32::new(0);

        let Some(installed) = std::env::var_os("DPS_INTEROP_NODE").map(PathBuf::from) else {
            // Written past the capture of the test harness, which hides what a passing test prints.
            SKIPPED.call_once(|| {
                let _ = writeln!(
                    io::stderr(),
                    "interop: skipped, DPS_INTEROP_NODE is not set; see cargo xtask help"
                );
            });
            return None;
        };
        let installed = fs::canonicalize(installed.join("node_modules"))
            .expect("DPS_INTEROP_NODE names a folder with node_modules");
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("interop-{}-{number}", std::process::id()));
        let emulator = emulator.start().await.unwrap();
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("ca.pem"), emulator.ca_pem()).unwrap();
        Some(Self { emulator, installed, folder })
    }

    /// Starts the official device client.
    pub(crate) async fn device(&self) -> Device<'_> {
        self.device_over("http").await
    }

    /// The same over `http`, `mqtt`, `mqtt-ws`, `amqp` or `amqp-ws`.
    pub(crate) async fn device_over(&self, transport: &'static str) -> Device<'_> {
        let client = self.node_client("device.js", NODE_DEVICE).await;
        Device { name: NODE_DEVICE, client, transport, emulator: &self.emulator }
    }

    /// Starts the official Python device client, which speaks `mqtt` and `mqtt-ws`.
    pub(crate) async fn python_device(&self, transport: &'static str) -> Device<'_> {
        let name = "azure-iot-device 2.14.0";
        let client = self.python_client("device.py", name).await;
        Device { name, client, transport, emulator: &self.emulator }
    }

    /// Starts the driver with which a device registers and works at its hub.
    pub(crate) async fn hub_device(&self, peer: Peer) -> Client {
        match peer {
            Peer::Node(_) => self.node_client("hub_device.js", peer.hub_device()).await,
            Peer::Python(_) => self.python_client("hub_device.py", peer.hub_device()).await,
        }
    }

    pub(crate) fn emulator(&self) -> &Emulator {
        &self.emulator
    }

    /// Status and method of each request so far whose path contains `part`.
    pub(crate) fn requests(&self, part: &str) -> Vec<(String, u16)> {
        let journal = self.emulator.journal().into_iter();
        journal
            .filter(|entry| entry.target.contains(part))
            .flat_map(|entry| vec![(entry.method, entry.status); 1 + entry.repeats as usize])
            .collect()
    }

    /// Why the latest request was refused.
    pub(crate) fn cause(&self) -> String {
        self.emulator.journal().pop().and_then(|entry| entry.cause).unwrap_or_default()
    }

    /// Starts a driver for Node.
    pub(crate) async fn node_client(&self, driver: &str, expected: &str) -> Client {
        self.start_client(self.node(driver), expected).await
    }

    /// Starts the driver for Node that works on the TPM at a port.
    pub(crate) async fn tpm_client(&self, port: u16) -> Client {
        let mut command = self.node("tpm.js");
        command.env("DPS_INTEROP_TPM_PORT", port.to_string());
        self.start_client(command, "azure-iot-security-tpm 1.9.3").await
    }

    fn node(&self, driver: &str) -> Command {
        let drivers = concat!(env!("CARGO_MANIFEST_DIR"), "/official_clients/node");
        let mut command = Command::new("node");
        command
            .arg(PathBuf::from(drivers).join(driver))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("NODE_PATH", &self.installed)
            .env("NODE_EXTRA_CA_CERTS", self.folder.join("ca.pem"))
            .env("DPS_INTEROP_PORT", self.emulator.https_port().to_string())
            .env("DPS_INTEROP_MQTT_PORT", self.emulator.mqtt_port().to_string())
            .env("DPS_INTEROP_HUB", &self.emulator.hubs()[0])
            .env("DPS_INTEROP_AMQP_PORT", self.emulator.amqp_port().to_string());
        command
    }

    /// Starts a driver for Python.
    pub(crate) async fn python_client(&self, driver: &str, expected: &str) -> Client {
        let installed = std::env::var_os("DPS_INTEROP_PYTHON").map(PathBuf::from);
        let installed =
            installed.expect("DPS_INTEROP_PYTHON names the virtual environment beside DPS_INTEROP_NODE");
        let drivers = concat!(env!("CARGO_MANIFEST_DIR"), "/official_clients/python");
        let mut command = Command::new(installed.join("bin/python"));
        command
            .arg(PathBuf::from(drivers).join(driver))
            .env_clear()
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("REQUESTS_CA_BUNDLE", self.folder.join("ca.pem"))
            .env("DPS_INTEROP_CA", self.folder.join("ca.pem"))
            .env("DPS_INTEROP_PORT", self.emulator.https_port().to_string())
            .env("DPS_INTEROP_MQTT_PORT", self.emulator.mqtt_port().to_string())
            .env("DPS_INTEROP_HUB", &self.emulator.hubs()[0]);
        self.start_client(command, expected).await
    }

    async fn start_client(&self, mut command: Command, expected: &str) -> Client {
        let stderr = fs::File::options().create(true).append(true).open(self.folder.join("stderr")).unwrap();
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .kill_on_drop(true)
            .spawn()
            .expect("the client starts");
        let stdin = process.stdin.take().unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut client = Client { stdin, stdout, _process: process };
        assert_eq!(client.line().await, json!({"client": expected}));
        client
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("journal of the emulator:");
            for entry in self.emulator.journal() {
                eprintln!("  {entry}");
            }
            let stderr = fs::read_to_string(self.folder.join("stderr")).unwrap_or_default();
            eprintln!("stderr of the clients:\n{stderr}");
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A running device client.
pub(crate) struct Device<'a> {
    name: &'static str,
    client: Client,
    transport: &'static str,
    emulator: &'a Emulator,
}

impl Device<'_> {
    /// Registers the device that `credential` describes: `registrationId`, then `key`, `groupKey`, or `chain` and
    /// `privateKey`, and perhaps `payload`.
    pub(crate) async fn register(&mut self, credential: Value) -> Result<Value, Value> {
        let mut request = json!({"idScope": self.emulator.id_scope(), "transport": self.transport});
        request.as_object_mut().unwrap().extend(credential.as_object().unwrap().clone());
        let registered = self.client.ask(request).await?;
        evidence::registered(self.name, transport_name(self.transport), &self.attestation(&credential));
        Ok(registered)
    }

    fn attestation(&self, credential: &Value) -> String {
        let mechanism = if credential["chain"].is_null() { "symmetric key" } else { "X.509" };
        let enrollments = self.emulator.enrollments();
        let individual = enrollments["enrollments"]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one["registrationId"] == credential["registrationId"]));
        format!("{mechanism}, {}", if individual { "individual" } else { "group" })
    }
}

/// A driver process; dropping it kills it.
pub(crate) struct Client {
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl Client {
    /// What the client made of a request: its result, or the error it reported.
    pub(crate) async fn ask(&mut self, request: Value) -> Result<Value, Value> {
        self.stdin.write_all(format!("{request}\n").as_bytes()).await.expect("the driver still reads");
        let mut outcome = self.line().await;
        match outcome.get_mut("error") {
            Some(error) => Err(error.take()),
            None => Ok(outcome.get_mut("result").unwrap().take()),
        }
    }

    async fn line(&mut self) -> Value {
        let line =
            timeout(DEADLINE, self.stdout.next_line()).await.expect("the driver answers in time").unwrap();
        serde_json::from_str(&line.expect("the driver still runs")).unwrap()
    }
}

/// How the documentation calls what a driver calls `http`, `mqtt`, `mqtt-ws`, `amqp` or `amqp-ws`.
pub(crate) fn transport_name(transport: &str) -> &'static str {
    match transport {
        "mqtt" => "MQTT",
        "mqtt-ws" => "MQTT-WS",
        "amqp" => "AMQP",
        "amqp-ws" => "AMQP-WS",
        _ => "HTTPS",
    }
}

pub(crate) const NODE_DEVICE: &str = "azure-iot-provisioning-device 1.9.1";
const DEADLINE: Duration = Duration::from_secs(60);
