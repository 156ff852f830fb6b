//! The registration of a device of the SDK, `interop-sym-01`, and the bodies with which a service answers it.

use azure_dps_core::Error;
use azure_dps_device::{Assignment, Credential, DeviceClient};
use serde_json::json;
use tokio::task::JoinHandle;

pub const ID: &str = "interop-sym-01";
pub const KEY: &str = "LUu96OcIySTuTZ+HPaNcqIX1hHXsJEZv4e5FPvaM2Rk=";

pub fn credential() -> Credential {
    Credential::symmetric_key(ID.parse().unwrap(), KEY.parse().unwrap())
}

/// A registration that runs.
pub type Registration = JoinHandle<Result<Assignment, Error>>;

pub fn register(client: DeviceClient) -> Registration {
    tokio::spawn(async move { client.register().await })
}

pub fn assigning() -> String {
    json!({ "operationId": "op-1", "status": "assigning" }).to_string()
}

pub fn assigned() -> String {
    json!({ "operationId": "op-1", "status": "assigned", "registrationState": {
        "registrationId": ID, "assignedHub": "hub.example", "deviceId": ID, "status": "assigned"
    } })
    .to_string()
}
