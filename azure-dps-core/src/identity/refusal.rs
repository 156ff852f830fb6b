//! The error of an unusable identity.

use crate::error::Error;
use crate::error_kind::{CredentialKind, ErrorKind};

pub(super) fn refuse(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Credential, message).with_credential(CredentialKind::X509)
}
