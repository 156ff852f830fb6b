//! Whose cost is measured: the command that registers devices.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::Outcome;
use crate::emulator::{GROUP_KEY, Server};
use crate::job::{Job, Ports, Transport, Work};

/// A client in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Sdk(Setup),
    Bare,
    Node,
    Python,
}

/// How a process uses the SDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setup {
    /// With a key, the emulator's root and the runtime of `#[tokio::main]`, on its first thread.
    Plain,
    CurrentThread,
    PlatformRoots,
    /// In tasks of the runtime.
    Spawned,
    X509,
}

impl Subject {
    pub(crate) const SDK: Subject = Subject::Sdk(Setup::Plain);

    pub(crate) fn name(self) -> &'static str {
        match self {
            Subject::Sdk(Setup::Plain) => "SDK",
            Subject::Sdk(Setup::CurrentThread) => "SDK, current-thread runtime",
            Subject::Sdk(Setup::PlatformRoots) => "SDK, platform roots",
            Subject::Sdk(Setup::Spawned) => "SDK, in a spawned task",
            Subject::Sdk(Setup::X509) => "SDK, X.509",
            Subject::Bare => "hand-written",
            Subject::Node => "Node",
            Subject::Python => "Python",
        }
    }

    /// Whether this client is installed and speaks this protocol.
    pub(crate) fn can(self, transport: Transport) -> bool {
        match self {
            Subject::Sdk(_) => true,
            Subject::Bare => matches!(transport, Transport::Https | Transport::Mqtt),
            Subject::Node => env::var_os("DPS_INTEROP_NODE").is_some(),
            Subject::Python => {
                matches!(transport, Transport::Mqtt | Transport::MqttWs)
                    && env::var_os("DPS_INTEROP_PYTHON").is_some()
            }
        }
    }
}

impl Transport {
    pub(crate) const ALL: [Transport; 5] =
        [Transport::Https, Transport::Mqtt, Transport::MqttWs, Transport::Amqp, Transport::AmqpWs];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Transport::Https => "HTTPS",
            Transport::Mqtt => "MQTT",
            Transport::MqttWs => "MQTT-WS",
            Transport::Amqp => "AMQP",
            Transport::AmqpWs => "AMQP-WS",
        }
    }

    /// The word that the drivers of the official clients know.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Transport::Https => "http",
            Transport::Mqtt => "mqtt",
            Transport::MqttWs => "mqtt-ws",
            Transport::Amqp => "amqp",
            Transport::AmqpWs => "amqp-ws",
        }
    }
}

/// One run of a client.
pub(crate) struct Run<'a> {
    pub(crate) server: &'a Server,
    pub(crate) ports: Ports,
    pub(crate) identity: &'a (PathBuf, PathBuf),
    /// Must differ from that of every other run with the same server.
    pub(crate) prefix: String,
    pub(crate) count: u32,
    pub(crate) width: u32,
}

impl Run<'_> {
    pub(crate) fn command(&self, subject: Subject, transport: Transport) -> Outcome<Command> {
        match subject {
            Subject::Sdk(setup) => sdk(&Job {
                current_thread: setup == Setup::CurrentThread,
                platform_roots: setup == Setup::PlatformRoots,
                spawned: setup == Setup::Spawned,
                identity: (setup == Setup::X509).then(|| self.identity.clone()),
                ..self.job(Work::Register(transport))
            }),
            Subject::Bare if transport == Transport::Https => sdk(&self.job(Work::BareHttps)),
            Subject::Bare => sdk(&self.job(Work::BareMqtt)),
            Subject::Node => self.official("node", Path::new("node"), "node/register.js", transport),
            Subject::Python => {
                let python = env::var_os("DPS_INTEROP_PYTHON").ok_or("DPS_INTEROP_PYTHON is not set")?;
                self.official(
                    "python",
                    &PathBuf::from(python).join("bin/python"),
                    "python/register.py",
                    transport,
                )
            }
        }
    }

    pub(crate) fn job(&self, work: Work) -> Job {
        Job {
            work,
            ports: self.ports,
            ca: self.server.ca.clone(),
            platform_roots: false,
            id_scope: self.server.id_scope.clone(),
            connection_string: self.server.connection_string.clone(),
            group_key: GROUP_KEY.to_owned(),
            identity: None,
            registration_prefix: self.prefix.clone(),
            count: self.count,
            width: self.width,
            current_thread: false,
            spawned: false,
        }
    }

    /// Service calls with the official client for Node, one after the other.
    pub(crate) fn node_service(&self, work: &str) -> Outcome<Command> {
        // The client cannot be given a port: its own is led to the emulator.
        let port = format!(":{};", self.server.ports.https);
        let job = json!({
            "work": work,
            "count": self.count,
            "connectionString": self.server.connection_string.replace(&port, ";"),
            "prefix": self.prefix,
        });
        self.script("node", Path::new("node"), "node/service.js", &job)
    }

    fn official(&self, kind: &str, program: &Path, script: &str, transport: Transport) -> Outcome<Command> {
        let job = json!({
            "transport": transport.word(),
            "count": self.count,
            "width": self.width,
            "idScope": self.server.id_scope,
            "groupKey": GROUP_KEY,
            "prefix": self.prefix,
        });
        self.script(kind, program, script, &job)
    }

    fn script(&self, kind: &str, program: &Path, script: &str, job: &Value) -> Outcome<Command> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new(program);
        command
            .arg(here.join(script))
            .arg(job.to_string())
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap_or_default())
            // No client goes on to a hub.
            .env("DPS_INTEROP_HUB", "localhost")
            .env("DPS_INTEROP_PORT", self.ports.https.to_string())
            .env("DPS_INTEROP_MQTT_PORT", self.ports.mqtt.to_string())
            .env("DPS_INTEROP_AMQP_PORT", self.ports.amqp.to_string());
        match kind {
            "node" => {
                let modules = env::var_os("DPS_INTEROP_NODE").ok_or("DPS_INTEROP_NODE is not set")?;
                command
                    .env("NODE_PATH", PathBuf::from(modules).join("node_modules"))
                    .env("NODE_EXTRA_CA_CERTS", &self.server.ca)
            }
            _ => command
                .env("PYTHONDONTWRITEBYTECODE", "1")
                .env("PYTHONPATH", here.join("../tests/official_clients/python"))
                .env("DPS_INTEROP_CA", &self.server.ca),
        };
        Ok(command)
    }
}

/// The process of the SDK that does a job. It is built beside this program.
pub(crate) fn sdk(job: &Job) -> Outcome<Command> {
    let mut command = Command::new(env::current_exe()?.with_file_name("bench-client"));
    command.arg(serde_json::to_string(job)?);
    // They would replace the system's own bundle.
    command.env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR");
    Ok(command)
}
