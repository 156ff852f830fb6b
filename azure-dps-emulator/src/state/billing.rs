//! Counts the operations that Azure would bill: requests to the service API and device registrations.

use crate::json::{Value, json};

use crate::call::request::Operation;

/// The number of operations that Microsoft would bill.
///
/// A request counts once if its status is 2xx; so a bulk operation and a page of a listing count once,
/// whatever they contain. Polls, status lookups and refused requests are free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BilledOperations {
    /// Requests to the service API.
    pub service: u64,
    /// Register requests of devices, whatever their outcome.
    pub registrations: u64,
}

impl BilledOperations {
    pub(crate) fn count(&mut self, operation: Operation, status: u16) {
        if !(200..300).contains(&status) {
            return;
        }
        match operation {
            Operation::Service => self.service += 1,
            Operation::Register => self.registrations += 1,
            // Hubs have bills of their own.
            Operation::Connect
            | Operation::Poll
            | Operation::Lookup
            | Operation::HubConnect
            | Operation::HubTwin
            | Operation::HubTelemetry
            | Operation::HubService => {}
        }
    }

    /// The counts as the management port returns them.
    pub(crate) fn to_json(self) -> Value {
        json!({"service": self.service, "registrations": self.registrations})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_successful_requests_are_billed_and_polls_are_free() {
        let mut billed = BilledOperations::default();
        for operation in Operation::ALL {
            for status in [200, 202, 204, 400, 401, 429, 503] {
                billed.count(operation, status);
            }
        }
        assert_eq!(billed, BilledOperations { service: 3, registrations: 3 });
    }
}
