//! The result of a registration.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

use crate::issuance::authority::IssuedChain;
use crate::issuance::{Due, Wanted};
use crate::json::Value;
use crate::records::reprovision::Substatus;
use crate::refusal::INTERNAL;

/// How a registration ends.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub(crate) enum Outcome {
    Assigned {
        hub: String,
        device_id: String,
        substatus: Substatus,
        #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
        payload: Option<Value>,
        /// For the `csr` of the latest operation.
        certificate: Due,
        /// The generation of the hub, for clients that ask with an api-version that knows it.
        #[serde(with = "profile")]
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

/// Reads a payload, which may be null.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

mod profile {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        profile: &Option<Arc<str>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        profile.as_deref().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Arc<str>>, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.map(Arc::from))
    }
}
