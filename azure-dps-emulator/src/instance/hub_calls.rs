//! The calls of back ends on devices at their hubs: from the library, the management port and the REST API.
//! What takes time is waited for without the lock.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use crate::api::hub::methods;
use crate::call::{Handled, Origin};
use crate::ids;
use crate::instance::Instance;
use crate::json::{Map, Value};
use crate::records::hubs::HubDevice;
use crate::records::hubs::call_error::HubCallError;
use crate::records::hubs::link::Ending;
use crate::records::hubs::message::CloudMessage;
use crate::records::hubs::method::MethodCall;
use crate::records::hubs::twin::TwinWrite;
use crate::state::telemetry::Telemetry;

impl Instance {
    /// The telemetry of a device that is kept, the oldest first.
    pub(crate) fn telemetry(&self, hub: &str, device_id: &str) -> Vec<Arc<Telemetry>> {
        self.state().telemetry.of(hub, device_id, 0).cloned().collect()
    }

    /// The first telemetry of a device with a number above `after`. It is waited for, if it has not come yet.
    pub(crate) async fn wait_for_telemetry(
        &self,
        hub: &str,
        device_id: &str,
        after: u64,
        within: Duration,
    ) -> Result<Arc<Telemetry>, HubCallError> {
        // A time beyond the clock is never.
        let deadline = Instant::now().checked_add(within);
        loop {
            let (found, mut arrivals) = {
                let state = self.state();
                (state.telemetry.of(hub, device_id, after).next().cloned(), state.telemetry.arrivals())
            };
            if let Some(telemetry) = found {
                return Ok(telemetry);
            }
            // An error says that the emulator was reset, so that there are new arrivals.
            let arrival = arrivals.changed();
            match deadline {
                Some(deadline) => {
                    let waited = timeout_at(deadline, arrival).await;
                    let _reset = waited.map_err(|_| HubCallError::NoTelemetry(within))?;
                }
                None => {
                    let _reset = arrival.await;
                }
            }
        }
    }

    /// Merges a patch into the desired properties, and returns their new version.
    pub(crate) fn set_desired(&self, hub: &str, device_id: &str, patch: Map) -> Result<u64, HubCallError> {
        let write = TwinWrite { desired: Some(patch), ..TwinWrite::default() };
        self.at_device(hub, device_id, |device, tag, now| {
            device.write_twin(write, tag, now).map_err(HubCallError::Twin)?;
            Ok(device.twin.desired_version())
        })
    }

    pub(crate) fn send_to_device(
        &self,
        hub: &str,
        device_id: &str,
        message: CloudMessage,
    ) -> Result<(), HubCallError> {
        self.at_device(hub, device_id, |device, _, _| device.send(message))
    }

    /// Ends the connection of a device; returns whether it had one.
    pub(crate) fn disconnect(&self, hub: &str, device_id: &str) -> Result<bool, HubCallError> {
        self.at_device(hub, device_id, |device, _, now| Ok(device.end_link(Ending::Asked, now)))
    }

    /// Calls a method, and waits for the answer.
    pub(crate) async fn invoke_method(
        &self,
        hub: &str,
        device_id: &str,
        call: &MethodCall,
    ) -> Result<(i32, Value), HubCallError> {
        let rid = self.at_device(hub, device_id, |device, _, _| device.begin_call(call))?;
        self.outcome(hub, device_id, &rid).await
    }

    /// Waits for the outcome of a call that the REST API has begun, answers it, and records it in the journal.
    pub(crate) async fn finish_call(
        &self,
        origin: Origin,
        hub: &str,
        device_id: &str,
        rid: &str,
        begun: Handled,
    ) -> Handled {
        let outcome = self.outcome(hub, device_id, rid).await;
        let mut state = self.state();
        let now = state.clock.now();
        state.requests += 1;
        let request_id = ids::tracking(state.requests);
        let mut answer = methods::answer(outcome, &request_id, now);
        answer.cause = answer.cause.or_else(|| begun.answer.cause.clone());
        let entry = self.record(origin, state.requests, now, Some(device_id.to_owned()), &answer);
        drop(state);
        entry.log();
        Handled { answer, request_id, time: now, ..begun }
    }

    async fn outcome(&self, hub: &str, device_id: &str, rid: &str) -> Result<(i32, Value), HubCallError> {
        let hub = self.settings.linked(hub).map_or(hub, |hub| &hub.host_name);
        let begun = Begun { instance: self, hub, device_id, rid };
        let gone = || HubCallError::UnknownDevice { hub: hub.to_owned(), device_id: device_id.to_owned() };
        let ticket = self.at_device(hub, device_id, |device, _, _| Ok(device.calls.claim(rid)))?;
        let ticket = ticket.ok_or_else(gone)?;
        if let Some(limit) = ticket.connect_timeout {
            let handed_over = timeout(limit, ticket.handed_over).await;
            handed_over.map_err(|_| HubCallError::NotOnline(limit))?.map_err(|_| gone())?;
        }
        let limit = ticket.response_timeout;
        let answered = timeout(limit, ticket.answered).await;
        drop(begun);
        answered.map_err(|_| HubCallError::NoAnswer(limit))?.map_err(|_| gone())
    }

    /// Lets a call act on the record of a device.
    fn at_device<T>(
        &self,
        hub: &str,
        device_id: &str,
        act: impl FnOnce(&mut HubDevice, u64, time::OffsetDateTime) -> Result<T, HubCallError>,
    ) -> Result<T, HubCallError> {
        let linked = self.settings.linked(hub).ok_or_else(|| HubCallError::UnknownHub(hub.to_owned()))?;
        let mut state = self.state();
        let (now, tag) = (state.clock.now(), state.hubs.next_tag());
        let device = state.hubs.find_mut(&linked.host_name, device_id).ok_or_else(|| {
            HubCallError::UnknownDevice { hub: linked.host_name.clone(), device_id: device_id.to_owned() }
        })?;
        act(device, tag, now)
    }
}

/// A call that waits for its device, until its caller has left.
struct Begun<'a> {
    instance: &'a Instance,
    hub: &'a str,
    device_id: &'a str,
    rid: &'a str,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if let Some(device) = self.instance.state().hubs.find_mut(self.hub, self.device_id) {
            device.calls.abandon(self.rid);
        }
    }
}
