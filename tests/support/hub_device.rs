//! A device at an emulated hub, in literal packets.

use azure_dps_emulator::{Emulator, EmulatorBuilder};
use serde_json::json;

use crate::emulated::{PRIMARY, sign};
use crate::mqtt_bytes::{CLEAN, NO_PASSWORD, Published, connect, connect_with, puback, subscribe};
use crate::mqtt_device::MqttDevice;
use crate::site::{A, Site, hubs, on};

pub const TWIN_REPLIES: &str = "$iothub/twin/res/#";
pub const DESIRED: &str = "$iothub/twin/PATCH/properties/desired/#";
pub const METHODS: &str = "$iothub/methods/POST/#";
pub const MESSAGES: &str = "devices/dev1/messages/devicebound/#";
pub const EVENTS: &str = "devices/dev1/messages/events/";
pub const GET_TWIN: &str = "$iothub/twin/GET/?$rid=";
pub const REPORT: &str = "$iothub/twin/PATCH/properties/reported/?$rid=";

/// An emulator that has assigned `dev1` to hub A, with desired properties.
pub async fn assigned() -> Site {
    assigned_with(hubs()).await
}

pub async fn assigned_with(builder: EmulatorBuilder) -> Site {
    let site = Site::start(builder).await;
    let initial_twin = json!({"tags": {"n": 1}, "properties": {"desired": {"interval": 1}}});
    site.enroll("dev1", on(A, json!({"initialTwin": initial_twin}))).await;
    site.register("dev1").await;
    site
}

/// The user name of a device at its hub.
pub fn hub_user(hub: &str, id: &str) -> String {
    format!("{hub}/{id}/?api-version=2021-04-12")
}

/// A token of `dev1` for hub A.
pub fn hub_token() -> String {
    sign(PRIMARY, &format!("{A}/devices/dev1"), "")
}

/// The CONNECT of `dev1` at hub A.
pub fn hub_connect() -> Vec<u8> {
    connect(CLEAN, 60, "dev1", &hub_user(A, "dev1"), &hub_token())
}

/// A CONNECT without a password.
pub fn hub_connect_bare(hub: &str, id: &str) -> Vec<u8> {
    connect_with(NO_PASSWORD, 60, &[id, &hub_user(hub, id)])
}

impl MqttDevice {
    /// `dev1` at hub A after its CONNACK 0.
    pub async fn at_hub(emulator: &Emulator) -> Self {
        let mut device = Self::connect(emulator).await;
        assert_eq!(device.sign_in(&hub_connect()).await, 0, "CONNACK");
        device
    }

    /// Subscribes, and checks the QoS that is granted.
    pub async fn listen(&mut self, filter: &str, qos: u8) {
        self.say(&subscribe(filter, qos)).await;
        assert_eq!(self.hear().await, Some((0x90, vec![0, 1, qos.min(1)])), "SUBACK {filter}");
    }

    /// Publishes with QoS 0, and returns the next message.
    pub async fn request(&mut self, topic: &str, body: &str) -> Published {
        self.publish(0, 0, topic, body).await;
        self.published().await
    }

    /// Publishes with QoS 1, and expects its PUBACK.
    pub async fn publish_acknowledged(&mut self, id: u16, topic: &str, body: &str) {
        self.publish(1, id, topic, body).await;
        assert_eq!(self.hear().await, Some(puback(id)), "PUBACK");
    }
}
