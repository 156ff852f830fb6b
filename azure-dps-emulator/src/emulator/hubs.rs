//! The calls of the handle on devices at their hubs.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::emulator::Emulator;
use crate::json;
use crate::records::hubs::call_error::HubCallError;
use crate::records::hubs::message::CloudMessage;
use crate::records::hubs::method::{MethodAnswer, MethodCall};
use crate::state::telemetry::Telemetry;

/// Devices at their hubs. A hub that is not linked, or a device that the hub does not have, is an error of each
/// call. Device ids are case-sensitive.
impl Emulator {
    /// The telemetry of a device, the oldest first; empty for an unknown device.
    ///
    /// Of all devices together, the latest 10,000 messages in at most 16 MiB are kept. A device that sends more
    /// than half of them replaces its own.
    pub fn telemetry(&self, hub: &str, device_id: &str) -> Vec<Telemetry> {
        self.instance.telemetry(hub, device_id).into_iter().map(Arc::unwrap_or_clone).collect()
    }

    /// Waits for telemetry of a device, at most for `within`, by the machine's clock. The device may register
    /// and connect later.
    ///
    /// Returns the first message with a number above `after`, which may be there already: 0 begins with the
    /// oldest, and [`Telemetry::sequence`] of the last message continues behind it.
    ///
    /// # Errors
    /// [`HubCallError::NoTelemetry`] if none came in time.
    pub async fn wait_for_telemetry(
        &self,
        hub: &str,
        device_id: &str,
        after: u64,
        within: Duration,
    ) -> Result<Telemetry, HubCallError> {
        let found = self.instance.wait_for_telemetry(hub, device_id, after, within).await;
        found.map(Arc::unwrap_or_clone)
    }

    /// Merges an object into the desired properties of a device; null removes a member. Notifies the device, if
    /// it is connected and listens. Returns the new version.
    ///
    /// # Errors
    /// [`HubCallError::Twin`] if the patch is not an object, or breaks a limit of twins.
    pub fn set_desired(&self, hub: &str, device_id: &str, patch: Value) -> Result<u64, HubCallError> {
        match json::Value::from(patch) {
            json::Value::Object(patch) => self.instance.set_desired(hub, device_id, patch),
            _ => Err(HubCallError::Twin("desired properties are a JSON object".to_owned())),
        }
    }

    /// Calls a direct method of a device, and waits for its answer. Dropping the future abandons the call.
    ///
    /// # Errors
    /// [`HubCallError::NotOnline`] or [`HubCallError::NoAnswer`] if a time of the call has passed;
    /// [`HubCallError::MethodName`] and [`HubCallError::PayloadTooLarge`] for a call that cannot be sent;
    /// [`HubCallError::TooManyCalls`] if 16 calls wait already.
    pub async fn invoke_method(
        &self,
        hub: &str,
        device_id: &str,
        call: MethodCall,
    ) -> Result<MethodAnswer, HubCallError> {
        let (status, payload) = self.instance.invoke_method(hub, device_id, &call).await?;
        Ok(MethodAnswer { status, payload: payload.into() })
    }

    /// Sends a message to a device. It waits until the device has taken it: over QoS 1 until its PUBACK.
    ///
    /// # Errors
    /// [`HubCallError::MessageTooLarge`], or [`HubCallError::TooManyMessages`] if 50 wait already.
    pub fn send_to_device(
        &self,
        hub: &str,
        device_id: &str,
        message: CloudMessage,
    ) -> Result<(), HubCallError> {
        self.instance.send_to_device(hub, device_id, message)
    }

    /// Ends the connection of a device to its hub without a word, as a broken network does; returns whether it
    /// had one.
    ///
    /// # Errors
    /// The hub or the device is unknown.
    pub fn disconnect(&self, hub: &str, device_id: &str) -> Result<bool, HubCallError> {
        self.instance.disconnect(hub, device_id)
    }
}
