//! An emulator and a client of its HTTPS port that signs its own tokens and shares no code with the SDK.

use std::time::Duration;

use azure_dps_emulator::EmulatorBuilder;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::time::timeout;

use crate::{Shown, trusting};

/// The primary key of every enrollment that [`Emulated::enroll`] and [`Emulated::enroll_group`] put.
pub const PRIMARY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
/// The secondary one.
pub const SECONDARY: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";

/// An emulator, a back end and devices with symmetric keys.
#[derive(Debug)]
pub struct Emulated {
    pub emulator: Shown,
    pub client: Client,
}

impl Emulated {
    pub async fn start(builder: EmulatorBuilder) -> Self {
        let emulator = Shown(builder.start().await.unwrap());
        let config = trusting(emulator.ca_pem());
        let client = Client::builder().tls_backend_preconfigured(config).no_proxy().build().unwrap();
        Self { emulator, client }
    }

    /// Puts an individual enrollment with both keys, over the one that is there.
    pub async fn enroll(&self, id: &str, members: Value) {
        let (status, body) = self.put("/enrollments", "registrationId", id, members).await;
        assert_eq!(status, 200, "{body}");
    }

    /// Puts an enrollment group with both keys, over the one that is there.
    pub async fn enroll_group(&self, id: &str, members: Value) {
        let (status, body) = self.put("/enrollmentGroups", "enrollmentGroupId", id, members).await;
        assert_eq!(status, 200, "{body}");
    }

    pub async fn put(&self, collection: &str, id_member: &str, id: &str, members: Value) -> (u16, Value) {
        let keys = json!({"primaryKey": PRIMARY, "secondaryKey": SECONDARY});
        let mut body = json!({id_member: id, "attestation": {"type": "symmetricKey", "symmetricKey": keys}});
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let path = format!("{collection}/{id}");
        let exists = self.service(Method::GET, &path, None).await.0 == 200;
        let request = self.service_request(Method::PUT, &path).body(body.to_string());
        let request = if exists { request.header("if-match", "*") } else { request };
        read(request).await
    }

    /// A request to the service API with every right.
    pub async fn service(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let request = self.service_request(method, path);
        read(request.body(body.map(|body| body.to_string()).unwrap_or_default())).await
    }

    /// Registers a device with its enrollment's own key to the end, and gives the registration state.
    pub async fn register(&self, id: &str, body: Value) -> Value {
        let operation = self.begin(id, "2021-10-01", body).await;
        self.finish(id, "2021-10-01", &operation).await
    }

    /// The same with another api-version.
    pub async fn register_as(&self, id: &str, api_version: &str) -> Value {
        let operation = self.begin(id, api_version, json!({})).await;
        self.finish(id, api_version, &operation).await
    }

    /// Sends a register request and gives the id of its operation.
    pub async fn begin(&self, id: &str, api_version: &str, body: Value) -> String {
        let request = self.device_request(Method::PUT, id, "register", api_version).body(body.to_string());
        let (status, body) = read(request).await;
        assert_eq!((status, &body["status"]), (202, &json!("assigning")), "{body}");
        body["operationId"].as_str().unwrap().to_owned()
    }

    pub async fn poll(&self, id: &str, api_version: &str, operation: &str) -> Value {
        let path = format!("operations/{operation}");
        read(self.device_request(Method::GET, id, &path, api_version)).await.1
    }

    /// Polls until the registration has ended.
    pub async fn finish(&self, id: &str, api_version: &str, operation: &str) -> Value {
        let polled = async {
            loop {
                let body = self.poll(id, api_version, operation).await;
                if body["status"] != "assigning" {
                    return body["registrationState"].clone();
                }
            }
        };
        timeout(Duration::from_secs(20), polled).await.unwrap()
    }

    /// The latest reason in the journal.
    pub fn cause(&self) -> String {
        self.emulator.journal().into_iter().rev().find_map(|entry| entry.cause).unwrap_or_default()
    }

    fn service_request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let key = BASE64_STANDARD.encode("this-emulator-key-protects-none!");
        let token = sign(&key, "localhost", "provisioningserviceowner");
        self.request(method, &format!("{path}?api-version=2021-10-01"), &token)
    }

    fn device_request(
        &self,
        method: Method,
        id: &str,
        path: &str,
        api_version: &str,
    ) -> reqwest::RequestBuilder {
        let device = format!("{}/registrations/{id}", self.emulator.id_scope());
        // A device that is enrolled by itself has the key, one of a group a key that is derived from it.
        let single = self.emulator.enrollments()["enrollments"]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one["registrationId"] == id));
        let key = if single { PRIMARY.to_owned() } else { derive(PRIMARY, id) };
        let token = sign(&key, &device, "registration");
        self.request(method, &format!("/{device}/{path}?api-version={api_version}"), &token)
    }

    fn request(&self, method: Method, target: &str, token: &str) -> reqwest::RequestBuilder {
        let url = format!("https://localhost:{}{target}", self.emulator.https_port());
        self.client
            .request(method, url)
            .header("authorization", token)
            .header("content-type", "application/json; charset=utf-8")
    }
}

/// A token that ends in the year 2100.
pub fn sign(key: &str, resource: &str, policy: &str) -> String {
    let resource = utf8_percent_encode(resource, NON_ALPHANUMERIC).to_string();
    let signature = mac(key, &format!("{resource}\n4102444800"));
    let signature = utf8_percent_encode(&signature, NON_ALPHANUMERIC);
    format!("SharedAccessSignature sr={resource}&sig={signature}&skn={policy}&se=4102444800")
}

/// The key of a device from the key of its group.
pub fn derive(group_key: &str, id: &str) -> String {
    mac(group_key, id)
}

fn mac(key: &str, message: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(&BASE64_STANDARD.decode(key).unwrap()).unwrap();
    mac.update(message.as_bytes());
    BASE64_STANDARD.encode(mac.finalize().into_bytes())
}

async fn read(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or_default())
}
