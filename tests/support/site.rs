//! An emulator with its hubs, and clients that reach the hubs by their names.

use azure_dps_emulator::{Emulator, EmulatorBuilder, KeyedCertificate};
use serde_json::{Value, json};

use crate::emulated::{Emulated, sign};
use crate::http_client::{HttpClient, Reply};
use crate::tls::presenting;
use crate::trusting;

pub const A: &str = "hub-a.example";
pub const B: &str = "hub-b.azure-devices.net";

#[derive(Debug)]
pub struct Site {
    pub peer: Emulated,
}

impl Site {
    pub async fn start(builder: EmulatorBuilder) -> Self {
        Site { peer: Emulated::start(builder).await }
    }

    /// A client of this host that presents no certificate.
    pub fn client(&self, host: &str) -> HttpClient {
        HttpClient::new(host, self.peer.emulator.https_port(), trusting(self.peer.emulator.ca_pem()))
    }

    /// A client of this host that presents a certificate.
    pub fn client_with(&self, host: &str, certificate: &KeyedCertificate) -> HttpClient {
        let tls = presenting(self.peer.emulator.ca_pem(), certificate);
        HttpClient::new(host, self.peer.emulator.https_port(), tls)
    }

    /// The answer to the register request of a device with a certificate.
    pub async fn begin_with(&self, id: &str, certificate: &KeyedCertificate) -> Reply {
        let target = format!("/0ne00EMU1A7/registrations/{id}/register?api-version=2021-10-01");
        self.client_with("localhost", certificate).ask("PUT", &target, "", "").await
    }

    pub async fn enroll(&self, id: &str, members: Value) {
        self.peer.enroll(id, members).await;
    }

    pub async fn register(&self, id: &str) -> Value {
        self.peer.register(id, json!({})).await
    }

    pub fn device(&self, hub: &str, id: &str) -> Value {
        self.peer.emulator.hub_device(hub, id).unwrap()
    }

    /// The record of a device's registration.
    pub async fn record(&self, id: &str) -> Reply {
        self.peer.service("GET", &format!("/registrations/{id}"), "").await
    }

    /// Deletes something on the service API.
    pub async fn remove(&self, path: &str) {
        assert_eq!(self.peer.service("DELETE", path, "").await.status, 204, "{path}");
    }

    /// The key of the hub's policy, from its connection string.
    pub fn key(&self, hub: &str) -> String {
        let text = self.peer.emulator.hub_connection_string(hub).unwrap();
        let wanted = format!(
            "HostName={hub}:{};SharedAccessKeyName=iothubowner;SharedAccessKey=",
            self.peer.emulator.https_port()
        );
        text.strip_prefix(&wanted).unwrap().to_owned()
    }

    pub async fn get(&self, hub: &str, path: &str) -> Reply {
        self.send("GET", hub, path, "").await
    }

    pub async fn delete(&self, hub: &str, id: &str, if_match: Option<&str>) -> Reply {
        let head = if_match.map(|if_match| format!("If-Match: {if_match}\r\n")).unwrap_or_default();
        self.send("DELETE", hub, &format!("/devices/{id}"), &head).await
    }

    /// A request to a hub with its own policy and these header lines. A path without a query gets an
    /// api-version.
    pub async fn send(&self, method: &str, hub: &str, path: &str, head: &str) -> Reply {
        let token = sign(&self.key(hub), hub, "iothubowner");
        let version = if path.contains('?') { "" } else { "?api-version=2021-04-12" };
        self.send_as(method, hub, &format!("{path}{version}"), &token, head).await
    }

    /// The same with a body.
    pub async fn write(&self, method: &str, hub: &str, path: &str, head: &str, body: &Value) -> Reply {
        let token = sign(&self.key(hub), hub, "iothubowner");
        let head = format!("Authorization: {token}\r\nContent-Type: application/json\r\n{head}");
        let target = format!("{path}?api-version=2021-04-12");
        self.client(hub).ask(method, &target, &head, &body.to_string()).await
    }

    /// A request to a hub with this token.
    pub async fn send_as(&self, method: &str, hub: &str, target: &str, token: &str, head: &str) -> Reply {
        let head = format!("Authorization: {token}\r\n{head}");
        self.client(hub).ask(method, target, &head, "").await
    }
}

pub fn hubs() -> EmulatorBuilder {
    Emulator::builder().hub(A).hub(B)
}

/// The members of an enrollment whose devices go to this hub.
pub fn on(hub: &str, members: Value) -> Value {
    let mut all = json!({"allocationPolicy": "static", "iotHubs": [hub]});
    all.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    all
}

pub fn twin(n: u32) -> Value {
    json!({"initialTwin": {"tags": {"n": n}, "properties": {"desired": {"interval": n}}}})
}
