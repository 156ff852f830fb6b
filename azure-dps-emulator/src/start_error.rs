//! Why an emulator does not start.

use std::error::Error;
use std::fmt;
use std::io;

use crate::authorities::CaCertificateError;

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
    /// The port could not be bound.
    Bind {
        /// The port asked for; 0 stands for any.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// The certificates of the server could not be made, or the kept authority could not be read.
    Certificate(Box<dyn Error + Send + Sync>),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::IdScope(id_scope) => write!(f, "`{id_scope}` cannot be an id scope"),
            StartError::PolicyName(name) => write!(f, "`{name}` cannot be the name of an access policy"),
            StartError::PolicyKey(name) => {
                write!(f, "a key of policy `{name}` is not base64, is empty, or could not be generated")
            }
            StartError::Hub(hub) => write!(f, "`{hub}` cannot be the host name of a hub"),
            StartError::HubTwice(hub) => write!(f, "hub `{hub}` is linked twice"),
            StartError::Seed(why) => write!(f, "the seed cannot be used: {why}"),
            StartError::CaCertificate(error) => error.fmt(f),
            StartError::WebhookCa => {
                f.write_str("the authorities to trust webhooks by are not certificates in PEM")
            }
            StartError::Bind { port, .. } => write!(f, "cannot listen on port {port}"),
            StartError::Certificate(_) => f.write_str("cannot make the certificates of the server"),
        }
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            StartError::Bind { source, .. } => Some(source),
            StartError::Certificate(source) => Some(source.as_ref()),
            StartError::IdScope(_)
            | StartError::PolicyName(_)
            | StartError::PolicyKey(_)
            | StartError::Hub(_)
            | StartError::HubTwice(_)
            | StartError::Seed(_)
            | StartError::CaCertificate(_)
            | StartError::WebhookCa => None,
        }
    }
}
