//! What one measured process is to do, as the benchmarks pass it to that process.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The work of one process, and where its emulator is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) work: Work,
    pub(crate) ports: Ports,
    pub(crate) ca: PathBuf,
    /// Trusts the roots of the machine besides the emulator's.
    pub(crate) platform_roots: bool,
    pub(crate) id_scope: String,
    pub(crate) connection_string: String,
    pub(crate) group_key: String,
    /// The files of a chain and its private key, for registrations by certificate.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    pub(crate) registration_prefix: String,
    pub(crate) count: u32,
    /// How many at once.
    pub(crate) width: u32,
    /// Runs on one thread instead of the runtime that `#[tokio::main]` gives.
    pub(crate) current_thread: bool,
    /// Awaits each registration in a task, and not on the thread that starts the runtime.
    pub(crate) spawned: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Work {
    /// Starts and ends, and does nothing: the cost of a process.
    Nothing,
    Register(Transport),
    /// The same exchange written by hand on TLS, with no SDK: HTTP/1.1.
    BareHttps,
    /// The same for MQTT.
    BareMqtt,
    Create,
    Bulk,
    List,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Transport {
    Https,
    Mqtt,
    MqttWs,
    Amqp,
    AmqpWs,
}

/// The ports of the emulator, or of a proxy before it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Ports {
    pub(crate) https: u16,
    pub(crate) mqtt: u16,
    pub(crate) amqp: u16,
}
