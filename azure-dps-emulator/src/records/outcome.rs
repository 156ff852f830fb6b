//! The result of a registration.

use std::sync::Arc;

use crate::issuance::authority::IssuedChain;
use crate::json::Value;
use crate::records::reprovision::Substatus;

/// How a registration ends.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Assigned {
        hub: String,
        device_id: String,
        substatus: Substatus,
        payload: Option<Value>,
        /// The certificate for the `csr` of the latest operation.
        issued: Option<IssuedChain>,
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
