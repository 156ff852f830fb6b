//! The error of a start that fails.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::access::policy::{InvalidPolicy, PolicyKeyFault, invalid_key, invalid_name};
use crate::front::port::Listener;
use crate::records::authorities::CaCertificateError;
use crate::report;
use crate::shown_name::shown;
use crate::state::saved::StateError;

/// Why an emulator cannot start.
///
/// `{:?}` is for people: the message, and each cause on a line of its own. `{:#?}` shows the structure.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The ID scope is empty or has characters other than ASCII letters and digits.
    #[error("`{}` cannot be an ID scope: it can have only ASCII letters and digits", shown(.0))]
    IdScope(String),
    /// The name of an access policy is empty or has characters other than ASCII letters, digits, `-`, `_` and
    /// `.`.
    #[error("{}", invalid_name(.0))]
    PolicyName(String),
    /// A key of an access policy cannot be used. The key is not shown.
    #[error("{}", invalid_key(policy, key, *why))]
    PolicyKey {
        /// The name of the policy.
        policy: String,
        /// Which of its keys: `primary` or `secondary`.
        key: &'static str,
        /// Why it cannot be used.
        why: PolicyKeyFault,
    },
    /// The name of a linked hub is not a host name.
    #[error(
        "`{}` cannot be the host name of a hub: it needs labels of 1 to 63 ASCII letters, digits and `-`, \
         which begin and end with a letter or a digit, with dots between them",
        shown(.0)
    )]
    Hub(String),
    /// Two linked hubs have the same name.
    #[error("hub `{}` is linked twice", shown(.0))]
    HubTwice(String),
    /// A DNS name of the emulator cannot be used.
    #[error("`{}` cannot be a DNS name of the emulator: {why}", shown(name))]
    DnsName {
        /// The name.
        name: String,
        /// Why it cannot be used.
        why: &'static str,
    },
    /// The token of the management port cannot be used; the text says why, and does not show it.
    #[error("the token of the management port {0}")]
    ManageToken(String),
    /// The management port has an address that other machines can reach, and no token.
    #[error("the management port on {0} needs a token, because other machines can reach it there")]
    ManageTokenMissing(IpAddr),
    /// The seed cannot be used; the text says where and why.
    #[error("the seed cannot be used: {0}")]
    Seed(String),
    /// The saved state cannot be used.
    #[error(transparent)]
    State(StateError),
    /// The file that keeps the state cannot be used.
    #[error("cannot use the data file {}", shown(path))]
    DataFile {
        /// The file.
        path: PathBuf,
        /// Why it cannot be used.
        source: io::Error,
    },
    /// A CA certificate cannot be uploaded.
    #[error(transparent)]
    CaCertificate(CaCertificateError),
    /// The authorities for webhooks are not PEM certificates.
    #[error("the PEM text with the authorities to trust webhooks by {0}")]
    WebhookCa(String),
    /// An address could not be bound.
    #[error("cannot listen on {}", why_not_bound(*listener, *address, error))]
    Bind {
        /// The protocol for this port.
        listener: Listener,
        /// The requested address; port 0 means any free port.
        address: SocketAddr,
        /// The error of the system. `Display` shows it, or an explanation for common errors.
        error: io::Error,
    },
    /// Two protocols cannot share a port.
    #[error("{first} and {second} cannot both have port {port}: {ANOTHER_PORT}")]
    SamePort {
        /// The requested port.
        port: u16,
        /// The protocol that got the port.
        first: Listener,
        /// The protocol that did not get it.
        second: Listener,
    },
    /// The directory that keeps the certificate authority cannot be used.
    #[error("cannot keep the certificate authority in {}", shown(directory))]
    CaDir {
        /// The directory.
        directory: PathBuf,
        /// Why it cannot be used.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The certificates of the server could not be made.
    #[error("cannot make the certificates of the server")]
    Certificate(#[source] Box<dyn Error + Send + Sync>),
}

impl fmt::Debug for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        report::debug(f, self, |f| match self {
            Self::IdScope(text) => f.debug_tuple("IdScope").field(&shown(text)).finish(),
            Self::PolicyName(name) => f.debug_tuple("PolicyName").field(&shown(name)).finish(),
            Self::PolicyKey { policy, key, why } => f
                .debug_struct("PolicyKey")
                .field("policy", &shown(policy))
                .field("key", key)
                .field("why", why)
                .finish(),
            Self::Hub(text) => f.debug_tuple("Hub").field(&shown(text)).finish(),
            Self::HubTwice(text) => f.debug_tuple("HubTwice").field(&shown(text)).finish(),
            Self::DnsName { name, why } => {
                f.debug_struct("DnsName").field("name", &shown(name)).field("why", why).finish()
            }
            Self::ManageToken(why) => f.debug_tuple("ManageToken").field(why).finish(),
            Self::ManageTokenMissing(address) => f.debug_tuple("ManageTokenMissing").field(address).finish(),
            Self::Seed(text) => f.debug_tuple("Seed").field(text).finish(),
            Self::State(why) => f.debug_tuple("State").field(why).finish(),
            Self::DataFile { path, source } => {
                f.debug_struct("DataFile").field("path", &shown(path)).field("source", source).finish()
            }
            Self::CaCertificate(why) => f.debug_tuple("CaCertificate").field(why).finish(),
            Self::WebhookCa(text) => f.debug_tuple("WebhookCa").field(text).finish(),
            Self::Bind { listener, address, error } => f
                .debug_struct("Bind")
                .field("listener", listener)
                .field("address", address)
                .field("error", error)
                .finish(),
            Self::SamePort { port, first, second } => f
                .debug_struct("SamePort")
                .field("port", port)
                .field("first", first)
                .field("second", second)
                .finish(),
            Self::CaDir { directory, source } => {
                f.debug_struct("CaDir").field("directory", &shown(directory)).field("source", source).finish()
            }
            Self::Certificate(source) => f.debug_tuple("Certificate").field(source).finish(),
        })
    }
}

impl From<InvalidPolicy> for StartError {
    fn from(invalid: InvalidPolicy) -> Self {
        match invalid {
            InvalidPolicy::Name(name) => StartError::PolicyName(name),
            InvalidPolicy::Key { policy, key, why } => StartError::PolicyKey { policy, key, why },
        }
    }
}

fn why_not_bound(listener: Listener, address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => {
            format!("{address} for {listener}: the port is already in use; {ANOTHER_PORT}")
        }
        ErrorKind::AddrNotAvailable => format!(
            "{}: this machine has no such address; 127.0.0.1 is for clients on this machine, 0.0.0.0 for all",
            address.ip()
        ),
        ErrorKind::PermissionDenied => format!(
            "{address} for {listener}: {error}; ports below 1024 need a privilege on Linux, {ANOTHER_PORT}"
        ),
        _ => format!("{address} for {listener}: {error}"),
    }
}

const ANOTHER_PORT: &str = "choose another port, 0 picks a free one";

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn the_debug_that_main_prints_is_for_people_and_the_alternate_one_has_the_structure() {
        let error =
            StartError::CaDir { directory: "ca".into(), source: io::Error::other("read-only disk").into() };
        assert_eq!(
            format!("{error:?}"),
            "cannot keep the certificate authority in ca\n  because read-only disk"
        );
        let structure = format!("{error:#?}");
        assert!(structure.contains("CaDir {") && structure.contains("directory: \"ca\""), "{structure}");
        assert_eq!(format!("{:?}", StartError::HubTwice("h".to_owned())), "hub `h` is linked twice");
    }

    #[test]
    fn a_port_that_cannot_be_bound_is_reported_with_a_remedy() {
        let reported = |kind: ErrorKind, port| {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            StartError::Bind { listener: Listener::Mqtt, address, error: kind.into() }.to_string()
        };

        assert_eq!(
            reported(ErrorKind::AddrInUse, 8883),
            "cannot listen on 127.0.0.1:8883 for MQTT: the port is already in use; \
             choose another port, 0 picks a free one"
        );
        assert_eq!(
            reported(ErrorKind::AddrNotAvailable, 0),
            "cannot listen on 127.0.0.1: this machine has no such address; \
             127.0.0.1 is for clients on this machine, 0.0.0.0 for all"
        );
        assert_eq!(
            reported(ErrorKind::PermissionDenied, 443),
            "cannot listen on 127.0.0.1:443 for MQTT: permission denied; \
             ports below 1024 need a privilege on Linux, choose another port, 0 picks a free one"
        );
    }
}
