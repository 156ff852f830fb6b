//! What the page on the management port needs and no listing has: counts, and the keys of one enrollment.

use crate::call::kind::Kind;
use crate::instance::Instance;
use crate::json::{Value, json};

impl Instance {
    /// How many records there are of each kind.
    pub(crate) fn counts(&self) -> Value {
        let state = self.state();
        json!({
            "enrollments": state.enrollments(Kind::Individual).iter().count(),
            "enrollmentGroups": state.enrollments(Kind::Group).iter().count(),
            "registrations": state.registrations.iter().count(),
            "devices": state.hubs.iter().count(),
            "faults": state.faults.waiting().len(),
        })
    }

    /// The symmetric keys of an enrollment, in base64; `None` if there is none, or its attestation is another.
    pub(crate) fn symmetric_keys(&self, kind: Kind, id: &str) -> Option<Value> {
        let state = self.state();
        let attestation = state.enrollments(kind).find(id)?.attestation.with_secrets();
        attestation.get("symmetricKey").cloned()
    }
}
