//! Explains why the program cannot start, with the flag to change.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::path::Path;

use azure_dps_emulator::plumbing::shown;
use azure_dps_emulator::{Listener, StartError};

use crate::flag_names::FlagNames;

/// Explains why the emulator cannot start, with the flag or the variable to change.
pub(crate) fn not_started(error: &StartError, names: &FlagNames, seed: Option<&Path>) -> String {
    let flag = match error {
        StartError::IdScope(_) => "--id-scope",
        StartError::PolicyName(_) | StartError::PolicyKey { .. } => "--policy",
        StartError::Hub(_) | StartError::HubTwice(_) => "--hub",
        StartError::DnsName { .. } => "--dns-name",
        StartError::ManageToken(_) => "--manage-token",
        StartError::ManageTokenMissing(_) => {
            let flag = names.of("--manage-host");
            return format!("{flag}: {error}; set --manage-token or DPS_EMULATOR_MANAGE_TOKEN");
        }
        StartError::Seed(_) => {
            let seed = shown(seed.unwrap_or(Path::new("")));
            return format!("{} {seed}: {}", names.of("--seed"), with_sources(error));
        }
        StartError::State(_) | StartError::DataFile { .. } => "--data",
        StartError::CaCertificate(_) => "--ca-certificate",
        StartError::WebhookCa(_) => "--webhook-ca",
        StartError::CaDir { .. } => "--ca-dir",
        StartError::Bind { listener, error, .. } if error.kind() == ErrorKind::AddrNotAvailable => {
            if *listener == Listener::Manage {
                "--manage-host"
            } else {
                "--host"
            }
        }
        StartError::Bind { listener, .. } => port_flag(*listener),
        StartError::SamePort { first, second, .. } => {
            let [first, second] = [first, second].map(|listener| names.of(port_flag(*listener)));
            return format!("{first} and {second}: {}", with_sources(error));
        }
        _ => return with_sources(error),
    };
    format!("{}: {}", names.of(flag), with_sources(error))
}

fn port_flag(listener: Listener) -> &'static str {
    match listener {
        Listener::Https => "--https-port",
        Listener::Mqtt => "--mqtt-port",
        Listener::Amqp => "--amqp-port",
        _ => "--manage-port",
    }
}

/// Explains why a seed cannot be read.
pub(crate) fn unreadable_seed(names: &FlagNames, path: &Path, error: &io::Error) -> String {
    let (flag, path) = (names.of("--seed"), shown(path));
    match error.kind() {
        ErrorKind::InvalidData => format!("{flag} {path} is not text in UTF-8; save it as UTF-8"),
        _ => format!("{flag} {path}: {error}"),
    }
}

/// Explains why certificates cannot be read; `given` is the flag with its value.
pub(crate) fn unreadable_pem(given: &str, path: &Path, error: &io::Error) -> String {
    let path = shown(path);
    match error.kind() {
        ErrorKind::InvalidData => format!(
            "{given} is not PEM; if it is DER, convert it: \
             openssl x509 -inform der -in {path} -out {path}.pem"
        ),
        _ => format!("{given}: {error}"),
    }
}

/// An error and its sources, without those that repeat what they wrap.
pub(crate) fn with_sources(error: &dyn Error) -> String {
    let mut texts = vec![error.to_string()];
    let mut source = error.source();
    while let Some(error) = source {
        texts.push(error.to_string());
        source = error.source();
    }
    texts.dedup();
    texts.join(": ")
}
