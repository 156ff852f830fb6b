//! The result of a registration.

use std::sync::Arc;

use crate::issuance::authority::IssuedChain;
use crate::issuance::{Due, Wanted};
use crate::json::Value;
use crate::records::reprovision::Substatus;
use crate::refusal::INTERNAL;

/// How a registration ends.
pub(crate) enum Outcome {
    Assigned {
        hub: String,
        device_id: String,
        substatus: Substatus,
        payload: Option<Value>,
        /// For the `csr` of the latest operation.
        certificate: Due,
        /// The generation of the hub, for clients that ask with an api-version that knows it.
        connection_profile: Option<Arc<str>>,
        /// For the journal.
        warning: Option<String>,
    },
    Failed {
        code: u32,
        /// For the device.
        message: String,
        /// For the journal.
        cause: String,
    },
    Disabled,
}

impl Outcome {
    /// Issues the certificate that a device wants. If that fails, so does the registration.
    pub(crate) fn complete(&mut self, issue: impl FnOnce(&Wanted) -> Result<IssuedChain, rcgen::Error>) {
        let Outcome::Assigned { certificate, .. } = self else { return };
        let Due::Wanted(wanted) = certificate else { return };
        match issue(wanted) {
            Ok(chain) => *certificate = Due::Issued(chain),
            Err(error) => {
                let message = "The certificate could not be issued.".to_owned();
                *self = Outcome::Failed { code: INTERNAL, message, cause: error.to_string() };
            }
        }
    }
}
