//! Explains why the program cannot start, with the flag to change.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::path::Path;

use azure_dps_emulator::{Listener, StartError};

/// Explains why the emulator cannot start, with the flag to change.
pub(crate) fn not_started(error: &StartError, seed: Option<&Path>) -> String {
    let flag = match error {
        StartError::IdScope(_) => "--id-scope".to_owned(),
        StartError::PolicyName(_) | StartError::PolicyKey { .. } => "--policy".to_owned(),
        StartError::Hub(_) | StartError::HubTwice(_) => "--hub".to_owned(),
        StartError::DnsName { .. } => "--dns-name".to_owned(),
        StartError::ManageToken(_) => "--manage-token".to_owned(),
        StartError::ManageTokenMissing(_) => {
            return format!("--manage-host: {error}; set --manage-token TOKEN");
        }
        StartError::Seed(_) => format!("--seed {}", seed.unwrap_or(Path::new("")).display()),
        StartError::CaCertificate(_) => "--ca-certificate".to_owned(),
        StartError::WebhookCa(_) => "--webhook-ca".to_owned(),
        StartError::CaDir { .. } => "--ca-dir".to_owned(),
        StartError::Bind { listener, error, .. } if error.kind() == ErrorKind::AddrNotAvailable => {
            let flag = if *listener == Listener::Manage { "--manage-host" } else { "--host" };
            flag.to_owned()
        }
        StartError::Bind { listener, .. } => port_flag(*listener).to_owned(),
        StartError::SamePort { first, second, .. } => {
            format!("{} and {}", port_flag(*first), port_flag(*second))
        }
        _ => return with_sources(error),
    };
    format!("{flag}: {}", with_sources(error))
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
pub(crate) fn unreadable_seed(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        ErrorKind::InvalidData => format!("--seed {path} is not text in UTF-8; save it as UTF-8"),
        _ => format!("--seed {path}: {error}"),
    }
}

/// Explains why certificates cannot be read; `given` is the flag with its value.
pub(crate) fn unreadable_pem(given: &str, path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        ErrorKind::InvalidData => format!(
            "{given} is not PEM; if it is DER, convert it: \
             openssl x509 -inform der -in {path} -out {path}.pem"
        ),
        _ => format!("{given}: {error}"),
    }
}

/// An error and its sources.
pub(crate) fn with_sources(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
