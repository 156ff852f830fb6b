//! Why an emulator does not start.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::authorities::CaCertificateError;
use crate::front::Speech;

/// Why an emulator did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The id scope is empty or has characters other than ASCII letters and digits.
    IdScope(String),
    /// The name of an access policy is empty or has characters other than ASCII letters, digits, `-`, `_` and `.`.
    PolicyName(String),
    /// A key of the access policy with this name is not base64, is empty, or could not be generated.
    PolicyKey(String),
    /// The name of a linked hub is not a host name.
    Hub(String),
    /// Two linked hubs have the same name.
    HubTwice(String),
    /// The seed cannot be used; the text says where and why.
    Seed(String),
    /// The certificate of an authority cannot be uploaded.
    CaCertificate(CaCertificateError),
    /// The authorities to trust webhooks by are not PEM certificates.
    WebhookCa,
    /// An address could not be bound.
    Bind {
        /// What was to be spoken there.
        speech: Speech,
        /// The address asked for; port 0 stands for any.
        address: SocketAddr,
        /// What the system said; `Display` has it, or words of its own for the usual cases.
        error: io::Error,
    },
    /// Two things were to be spoken on the same port.
    SamePort {
        /// The port of both.
        port: u16,
        /// What got it.
        first: Speech,
        /// What did not.
        second: Speech,
    },
    /// The directory that keeps the certificate authority cannot be used.
    CaDir {
        /// The directory.
        directory: PathBuf,
        /// Why not.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The certificates of the server could not be made.
    Certificate(Box<dyn Error + Send + Sync>),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::IdScope(id_scope) => {
                write!(f, "`{id_scope}` cannot be an id scope: it has ASCII letters and digits only")
            }
            StartError::PolicyName(name) => {
                write!(f, "`{name}` cannot be the name of an access policy: it has ASCII letters, digits, ")?;
                f.write_str("`-`, `_` and `.` only")
            }
            StartError::PolicyKey(name) => {
                write!(f, "a key of policy `{name}` is not base64, is empty, or could not be generated")
            }
            StartError::Hub(hub) => {
                write!(
                    f,
                    "`{hub}` cannot be the host name of a hub: it has ASCII letters, digits, `-` and `.` only"
                )
            }
            StartError::HubTwice(hub) => write!(f, "hub `{hub}` is linked twice"),
            StartError::Seed(why) => write!(f, "the seed cannot be used: {why}"),
            StartError::CaCertificate(error) => error.fmt(f),
            StartError::WebhookCa => {
                f.write_str("the authorities to trust webhooks by are not certificates in PEM")
            }
            StartError::Bind { speech, address, error } => match error.kind() {
                ErrorKind::AddrInUse => {
                    write!(f, "cannot listen on {address} for {speech}: somebody else has this port; ")?;
                    f.write_str(ANOTHER_PORT)
                }
                ErrorKind::AddrNotAvailable => {
                    write!(f, "cannot listen on {}: it is no address of this machine; ", address.ip())?;
                    f.write_str("127.0.0.1 is for clients on this machine, 0.0.0.0 for all")
                }
                ErrorKind::PermissionDenied => {
                    write!(f, "cannot listen on {address} for {speech}: {error}; ")?;
                    write!(f, "ports below 1024 need a privilege on Linux, {ANOTHER_PORT}")
                }
                _ => write!(f, "cannot listen on {address} for {speech}: {error}"),
            },
            StartError::SamePort { port, first, second } => {
                write!(f, "{first} and {second} cannot both have port {port}: {ANOTHER_PORT}")
            }
            StartError::CaDir { directory, .. } => {
                write!(f, "cannot keep the certificate authority in {}", directory.display())
            }
            StartError::Certificate(_) => f.write_str("cannot make the certificates of the server"),
        }
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            StartError::Certificate(source) | StartError::CaDir { source, .. } => Some(source.as_ref()),
            StartError::IdScope(_)
            | StartError::PolicyName(_)
            | StartError::PolicyKey(_)
            | StartError::Hub(_)
            | StartError::HubTwice(_)
            | StartError::Seed(_)
            | StartError::CaCertificate(_)
            | StartError::WebhookCa
            | StartError::Bind { .. }
            | StartError::SamePort { .. } => None,
        }
    }
}

const ANOTHER_PORT: &str = "choose another port, 0 picks a free one";

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_port_that_cannot_be_had_is_told_with_what_to_do() {
        let told = |kind: ErrorKind, port| {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            StartError::Bind { speech: Speech::Mqtt, address, error: kind.into() }.to_string()
        };

        assert_eq!(
            told(ErrorKind::AddrInUse, 8883),
            "cannot listen on 127.0.0.1:8883 for MQTT: somebody else has this port; \
             choose another port, 0 picks a free one"
        );
        assert_eq!(
            told(ErrorKind::AddrNotAvailable, 0),
            "cannot listen on 127.0.0.1: it is no address of this machine; \
             127.0.0.1 is for clients on this machine, 0.0.0.0 for all"
        );
        assert_eq!(
            told(ErrorKind::PermissionDenied, 443),
            "cannot listen on 127.0.0.1:443 for MQTT: permission denied; \
             ports below 1024 need a privilege on Linux, choose another port, 0 picks a free one"
        );
    }
}
