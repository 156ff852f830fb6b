//! An emulator and clients of its HTTPS port that sign their own tokens and share no code with the SDK.

use azure_dps_emulator::{Emulator, EmulatorBuilder};
use serde_json::{Value, json};
use tokio::time::timeout;

pub use crate::http_client::Reply;
use crate::http_client::{HttpClient, ask_in_clear};
use crate::journal;
use crate::limits::HUNG;
use crate::sas::service_authorization;
pub use crate::sas::{derive, sign};
use crate::{Shown, trusting};

/// The primary key of every enrollment that [`Emulated::enroll`] and [`Emulated::enroll_group`] put.
pub const PRIMARY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
/// The secondary one.
pub const SECONDARY: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";
/// The latest stable api-version.
pub const VERSION: &str = "2021-10-01";

/// A query that asks for everything.
pub const ALL: &str = r#"{"query":"SELECT * FROM enrollments"}"#;

/// An emulator, a back end and devices with symmetric keys.
#[derive(Debug)]
pub struct Emulated {
    pub emulator: Shown,
    pub client: HttpClient,
}

impl Emulated {
    pub async fn start(builder: EmulatorBuilder) -> Self {
        let emulator = Shown(builder.start().await.unwrap());
        let client = HttpClient::new("localhost", emulator.https_port(), trusting(emulator.ca_pem()));
        Self { emulator, client }
    }

    /// An emulator that assigns a device at its second poll.
    pub async fn with_one_poll() -> Self {
        Self::start(Emulator::builder().polls(1)).await
    }

    /// Puts an individual enrollment with both keys, over the one that is there.
    pub async fn enroll(&self, id: &str, members: Value) -> Value {
        let reply = self.put("/enrollments", "registrationId", id, members).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.body
    }

    /// Puts an enrollment group with both keys, over the one that is there.
    pub async fn enroll_group(&self, id: &str, members: Value) {
        let reply = self.put("/enrollmentGroups", "enrollmentGroupId", id, members).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
    }

    pub async fn put(&self, collection: &str, id_member: &str, id: &str, members: Value) -> Reply {
        let mut body = json!({id_member: id, "attestation": keys()});
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let if_match = if self.has(&collection[1..], id_member, id) { "If-Match: *\r\n" } else { "" };
        self.ask("PUT", &format!("{collection}/{id}"), if_match, &body.to_string()).await
    }

    /// Puts an individual enrollment with both keys, with this api-version, over the one that is there.
    pub async fn put_as(&self, api_version: &str, id: &str, members: Value) -> Value {
        let reply = self.try_put_as(api_version, id, members).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.body
    }

    /// The same, and the answer may be a refusal.
    pub async fn try_put_as(&self, api_version: &str, id: &str, members: Value) -> Reply {
        let id_in_path = format!("{id}?api-version={api_version}");
        let mut given = json!({"registrationId": id});
        given.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let if_match = if self.has("enrollments", "registrationId", id) { "If-Match: *\r\n" } else { "" };
        given["attestation"] = keys();
        self.ask("PUT", &format!("/enrollments/{id_in_path}"), if_match, &given.to_string()).await
    }

    /// A request to the service API with every right and these header lines.
    pub async fn ask(&self, method: &str, path: &str, head: &str, body: &str) -> Reply {
        let head = format!("{JSON}{}{head}", service_authorization());
        self.client.ask(method, &with_version(path), &head, body).await
    }

    /// A request to the service API with every right.
    pub async fn service(&self, method: &str, path: &str, body: &str) -> Reply {
        self.ask(method, path, "", body).await
    }

    /// The same on a condition.
    pub async fn service_if(&self, method: &str, path: &str, if_match: &str, body: &str) -> Reply {
        self.ask(method, path, &format!("If-Match: {if_match}\r\n"), body).await
    }

    /// A request with this token to exactly this target.
    pub async fn send(&self, method: &str, target: &str, token: &str, body: &str) -> Reply {
        self.client.ask(method, target, &format!("{JSON}Authorization: {token}\r\n"), body).await
    }

    /// A request with this token. A path without a query gets the latest api-version.
    pub async fn ask_as(&self, method: &str, path: &str, token: &str, head: &str, body: &str) -> Reply {
        let head = format!("{JSON}Authorization: {token}\r\n{head}");
        self.client.ask(method, &with_version(path), &head, body).await
    }

    /// A request to a path below the devices' own in api-version 2019-03-31.
    pub async fn device(&self, method: &str, path: &str, token: &str, body: &str) -> Reply {
        let scope = self.emulator.id_scope();
        let target = format!("/{scope}/registrations/{path}?api-version=2019-03-31");
        self.ask_as(method, &target, token, "", body).await
    }

    /// A bulk operation.
    pub async fn bulk(&self, path: &str, body: Value) -> Reply {
        self.ask("POST", path, "", &body.to_string()).await
    }

    /// The ids of all individual enrollments, sorted.
    pub async fn listed(&self) -> Vec<String> {
        let mut ids = self.ask("POST", "/enrollments/query", "", ALL).await.ids("registrationId");
        ids.sort_unstable();
        ids
    }

    /// Registers a device with its enrollment's own key to the end, and returns the registration state.
    pub async fn register(&self, id: &str, body: Value) -> Value {
        let operation = self.begin(id, VERSION, body).await;
        self.finish(id, VERSION, &operation).await
    }

    /// The same with another api-version.
    pub async fn register_as(&self, id: &str, api_version: &str) -> Value {
        let operation = self.begin(id, api_version, json!({})).await;
        self.finish(id, api_version, &operation).await
    }

    /// The same with this token and body, on an emulator that assigns at the second poll.
    pub async fn register_with(&self, id: &str, token: &str, body: &str) -> Value {
        let begun = self.device("PUT", &format!("{id}/register"), token, body).await;
        assert_eq!(begun.status, 202, "{}", begun.body);
        let path = format!("{id}/operations/{}", begun.operation());
        assert_eq!(self.device("GET", &path, token, "").await.status, 202);
        let result = self.device("GET", &path, token, "").await;
        assert_eq!(result.status, 200, "{}", result.body);
        result.body["registrationState"].clone()
    }

    /// Sends a register request and returns the id of its operation.
    pub async fn begin(&self, id: &str, api_version: &str, body: Value) -> String {
        let begun = self.own("PUT", id, "register", api_version, &body.to_string()).await;
        assert_eq!((begun.status, &begun.body["status"]), (202, &json!("assigning")), "{}", begun.body);
        begun.operation().to_owned()
    }

    pub async fn poll(&self, id: &str, api_version: &str, operation: &str) -> Value {
        self.own("GET", id, &format!("operations/{operation}"), api_version, "").await.body
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
        timeout(HUNG, polled).await.unwrap()
    }

    /// A request to the management port.
    pub async fn manage(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let reply = ask_in_clear(self.emulator.manage_port().unwrap(), method, path, LOCAL, body).await;
        (reply.status, reply.body)
    }

    /// The latest reason in the journal.
    pub fn cause(&self) -> String {
        journal::cause(&self.emulator)
    }

    /// The reason in the last entry of the journal.
    pub fn last_cause(&self) -> Option<String> {
        self.emulator.journal().pop().unwrap().cause
    }

    /// A request of a device with the token of its enrollment's own key.
    async fn own(&self, method: &str, id: &str, path: &str, api_version: &str, body: &str) -> Reply {
        let device = format!("{}/registrations/{id}", self.emulator.id_scope());
        let key = self.key_of(id);
        let target = format!("/{device}/{path}?api-version={api_version}");
        self.ask_as(method, &target, &sign(&key, &device, "registration"), "", body).await
    }

    /// A device that is enrolled by itself has the key, one of a group a key that is derived from it.
    fn key_of(&self, id: &str) -> String {
        if self.has("enrollments", "registrationId", id) { PRIMARY.to_owned() } else { derive(PRIMARY, id) }
    }

    fn has(&self, collection: &str, id_member: &str, id: &str) -> bool {
        let kept = self.emulator.enrollments();
        kept[collection].as_array().is_some_and(|all| all.iter().any(|one| one[id_member] == id))
    }
}

/// Attestation by both keys.
pub fn keys() -> Value {
    json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": PRIMARY, "secondaryKey": SECONDARY}})
}

/// The token of a device that signs with this key.
pub fn device_token(id: &str, key: &str) -> String {
    sign(key, &format!("0ne00EMU1A7/registrations/{id}"), "registration")
}

/// The token of a device in a group that is enrolled by [`keys`].
pub fn group_device_token(id: &str) -> String {
    device_token(id, &derive(PRIMARY, id))
}

fn with_version(path: &str) -> String {
    if path.contains('?') { path.to_owned() } else { format!("{path}?api-version={VERSION}") }
}

const JSON: &str = "Content-Type: application/json; charset=utf-8\r\n";
const LOCAL: &str = "Host: localhost\r\n";
