//! The official service clients, and what differs between them.
//!
//! Whatever a client is asked to do, the journal of the emulator must have just the requests that it takes.

use azure_dps_tests::evidence;
use serde_json::{Value, json};

use crate::stage::{Client, Stage};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// `azure-iot-provisioning-service` 1.11.2.
    Node,
    /// `azure-iot-deviceprovisioning` 1.0.0b1.
    Python,
    /// `azure-iothub-provisioningserviceclient` 1.2.0.
    ClassicPython,
}

impl Peer {
    /// Starts the client with the connection string of the emulator.
    pub(crate) async fn service(self, stage: &Stage) -> Service<'_> {
        self.service_with(stage, &stage.emulator().service_connection_string()).await
    }

    pub(crate) async fn service_with<'a>(self, stage: &'a Stage, connection_string: &str) -> Service<'a> {
        let mut service = self.start(stage).await;
        service.connect_with(connection_string).await;
        service
    }

    /// Starts the client without a credential.
    pub(crate) async fn start(self, stage: &Stage) -> Service<'_> {
        let client = match self {
            Peer::Node => stage.node_client("service.js", self.name()).await,
            Peer::Python => stage.python_client("service.py", self.name()).await,
            Peer::ClassicPython => stage.python_client("classic.py", self.name()).await,
        };
        Service { peer: self, stage, client }
    }

    fn name(self) -> &'static str {
        match self {
            Peer::Node => "azure-iot-provisioning-service 1.11.2",
            Peer::Python => "azure-iot-deviceprovisioning 1.0.0b1",
            Peer::ClassicPython => "azure-iothub-provisioningserviceclient 1.2.0",
        }
    }

    /// Checks that the client reports a refusal, in its own words.
    pub(crate) fn assert_refused(self, outcome: Result<Value, Value>, code: u32) {
        let error = outcome.unwrap_err();
        let status = code / 1000;
        assert_eq!(error["name"], self.error_name(status), "{error}");
        assert_eq!(error["status"], status, "{error}");
        assert_eq!(error["body"]["errorCode"], code, "{error}");
    }

    fn error_name(self, status: u32) -> &'static str {
        match (self, status) {
            (Peer::Node, 400) => "ArgumentError",
            (Peer::Node, 401) => "UnauthorizedError",
            (Peer::Node, 404) => "Error",
            (Peer::Node, 409) => "DeviceAlreadyExistsError",
            (Peer::Node, 412) => "InvalidEtagError",
            (Peer::Python, 401) => "ClientAuthenticationError",
            (Peer::Python, 404) => "ResourceNotFoundError",
            (Peer::Python, 409) => "ResourceExistsError",
            (Peer::Python, 400 | 412) => "HttpResponseError",
            (Peer::ClassicPython, _) => "ProvisioningServiceError",
            _ => panic!("no client is refused with {status}"),
        }
    }

    fn api_version(self) -> &'static str {
        match self {
            Peer::Node | Peer::Python => "2021-10-01",
            Peer::ClassicPython => "2018-09-01-preview",
        }
    }
}

/// What a client handles.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    /// The clients name their methods after it.
    model: &'static str,
    /// The member with the id of a record.
    pub(crate) id: &'static str,
    /// The first part of the path, and the member with the records of a bulk operation.
    collection: &'static str,
}

impl Kind {
    pub(crate) fn record(self, id: &str, attestation: Value) -> Value {
        json!({self.id: id, "attestation": attestation})
    }

    /// The error code when a record of this id exists.
    pub(crate) fn conflict(self) -> u32 {
        if self.id == INDIVIDUAL.id { 409_201 } else { 409_202 }
    }

    /// The path of a record; of what an id may have, the clients escape the colon.
    fn path(self, id: &str) -> String {
        format!("{}/{}", self.collection, id.replace(':', "%3A"))
    }
}

pub(crate) const INDIVIDUAL: Kind =
    Kind { model: "IndividualEnrollment", id: "registrationId", collection: "enrollments" };
pub(crate) const GROUP: Kind =
    Kind { model: "EnrollmentGroup", id: "enrollmentGroupId", collection: "enrollmentGroups" };
/// Records of this kind are made by devices.
pub(crate) const REGISTRATION: Kind =
    Kind { model: "DeviceRegistrationState", id: "registrationId", collection: "registrations" };

/// A running service client.
pub(crate) struct Service<'a> {
    peer: Peer,
    stage: &'a Stage,
    client: Client,
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        evidence::service_calls(self.peer.name(), self.stage.emulator());
    }
}

impl Service<'_> {
    /// Makes the client anew with a connection string of the emulator.
    pub(crate) async fn connect_with(&mut self, connection_string: &str) {
        // The client for Node looks a host with a port up as a name.
        let port = match self.peer {
            Peer::Node => format!(":{}", self.stage.emulator().https_port()),
            Peer::Python | Peer::ClassicPython => String::new(),
        };
        self.connect(json!({"connectionString": connection_string.replacen(&port, "", 1)})).await;
    }

    /// Makes the client anew with what `connect` of its driver takes.
    pub(crate) async fn connect(&mut self, credential: Value) {
        let mut request = json!({"do": "connect"});
        request.as_object_mut().unwrap().extend(credential.as_object().unwrap().clone());
        self.client.ask(request).await.unwrap();
    }

    /// Creates a record, or replaces the version that its etag names.
    pub(crate) async fn put(&mut self, kind: Kind, record: Value) -> Result<Value, Value> {
        let id = record[kind.id].as_str().unwrap();
        let path = kind.path(id);
        let request = json!({"do": "put", "kind": kind.model, "id": id, "record": record});
        self.ask(request, "PUT", &path, 1).await
    }

    pub(crate) async fn get(&mut self, kind: Kind, id: &str) -> Result<Value, Value> {
        let path = kind.path(id);
        self.ask(json!({"do": "get", "kind": kind.model, "id": id}), "GET", &path, 1).await
    }

    pub(crate) async fn attestation(&mut self, kind: Kind, id: &str) -> Result<Value, Value> {
        let path = match self.peer {
            // In another case than the service spells it.
            Peer::Node => kind.path(id).replacen("Groups", "groups", 1),
            Peer::Python | Peer::ClassicPython => kind.path(id),
        };
        let path = format!("{path}/attestationmechanism");
        self.ask(json!({"do": "attestation", "kind": kind.model, "id": id}), "POST", &path, 1).await
    }

    /// Deletes the version that a record is.
    pub(crate) async fn delete(&mut self, kind: Kind, record: &Value) -> Result<Value, Value> {
        let id = record[kind.id].as_str().unwrap();
        let path = kind.path(id);
        let request = json!({"do": "delete", "kind": kind.model, "id": id, "record": record});
        self.ask(request, "DELETE", &path, 1).await
    }

    /// Deletes the version that an etag names, or any.
    pub(crate) async fn delete_by_id(
        &mut self,
        kind: Kind,
        id: &str,
        etag: Option<&str>,
    ) -> Result<Value, Value> {
        let path = kind.path(id);
        let request = json!({"do": "delete", "kind": kind.model, "id": id, "etag": etag});
        self.ask(request, "DELETE", &path, 1).await
    }

    pub(crate) async fn bulk(&mut self, kind: Kind, mode: &str, records: Value) -> Result<Value, Value> {
        let path = match self.peer {
            Peer::Node => format!("{}/", kind.collection),
            Peer::Python | Peer::ClassicPython => kind.collection.to_owned(),
        };
        let operation = json!({"mode": mode, kind.collection: records});
        let request = json!({"do": "bulk", "kind": kind.model, "operation": operation});
        self.ask(request, "POST", &path, 1).await
    }

    /// Lists records; it must take `count` requests. The window may have the `size` of a page, the `token` to go on
    /// from, how many pages are wanted at `most`, and the `group` whose registration records are listed. The outcome
    /// has `pages` and the `token` of the next one.
    pub(crate) async fn pages(&mut self, kind: Kind, window: Value, count: usize) -> Result<Value, Value> {
        let path = match window["group"].as_str() {
            Some(group) => format!("{}/{group}/query", kind.collection),
            None => format!("{}/query", kind.collection),
        };
        let mut request = json!({"do": "pages", "kind": kind.model, "query": {"query": "SELECT * FROM x"}});
        request.as_object_mut().unwrap().extend(window.as_object().unwrap().clone());
        self.ask(request, "POST", &path, count).await
    }

    /// What the client made of a request. It must have sent just this, `count` times.
    async fn ask(&mut self, request: Value, method: &str, path: &str, count: usize) -> Result<Value, Value> {
        let latest = |stage: &Stage| stage.emulator().journal().last().map_or(0, |entry| entry.seq);
        let earlier = latest(self.stage);
        let outcome = self.client.ask(request).await;
        let status = match &outcome {
            Ok(_) if method == "DELETE" => json!(204),
            Ok(_) => json!(200),
            Err(error) => error["status"].clone(),
        };
        let journal = self.stage.emulator().journal();
        let seen = journal.iter().filter(|entry| entry.seq > earlier);
        let mut seen: Vec<_> =
            seen.map(|entry| format!("{} {} {}", entry.method, entry.target, entry.status)).collect();
        // A refusal that repeats is one entry; the numbers count requests.
        seen.dedup();
        let requests = latest(self.stage) - earlier;
        let expected = format!("{method} /{path}?api-version={} {status}", self.peer.api_version());
        assert_eq!((seen, requests), (vec![expected; count.min(1)], count as u64), "{outcome:?}");
        outcome
    }
}
