//! The REST API of an emulated hub, as the official service clients `azure-iothub` 1.16.6 (Node) and
//! `azure-iot-hub` 2.7.0 (Python) use it.

use azure_dps_tests::evidence;
use serde_json::{Value, json};

use crate::device_client::Peer as DevicePeer;
use crate::official_node_device_client_1_9_1::{KEY, OTHER_KEY};
use crate::scenarios::scenarios;
use crate::stage::{Client, Stage};

scenarios! {
    {
        identities_are_created_read_listed_disabled_and_deleted,
        twins_are_read_changed_and_queried_page_after_page,
        a_direct_method_reaches_an_official_device_client,
        a_wrong_key_is_refused,
    }
    node_1_16_6: Node {}
    python_2_7_0: Python { a_twin_is_replaced }
}

#[derive(Clone, Copy)]
enum Peer {
    /// `azure-iothub` 1.16.6.
    Node,
    /// `azure-iot-hub` 2.7.0.
    Python,
}

async fn identities_are_created_read_listed_disabled_and_deleted(peer: Peer) {
    let Some(stage) = Stage::start().await else { return };
    let mut service = Service::start(peer, &stage).await;
    let created = service.ask(json!({"do": "create", "id": "dev1", "key": KEY})).await.unwrap();
    assert_eq!(created["authentication"]["symmetricKey"]["primaryKey"], KEY, "{created}");
    let conflict = service.ask(json!({"do": "create", "id": "dev1", "key": KEY})).await;
    service.assert_refused(conflict, 409);
    service.ask(json!({"do": "create", "id": "line:3", "key": KEY})).await.unwrap();

    let read = service.ask(json!({"do": "get", "id": "line:3"})).await.unwrap();
    assert_eq!((&read["deviceId"], &read["status"]), (&json!("line:3"), &json!("enabled")));
    let all = service.ask(json!({"do": "list"})).await.unwrap();
    let ids: Vec<_> = all.as_array().unwrap().iter().map(|device| &device["deviceId"]).collect();
    assert_eq!(ids, ["dev1", "line:3"]);
    assert_eq!(service.ask(json!({"do": "modules", "id": "dev1"})).await.unwrap(), json!([]));

    let disabled = service.ask(json!({"do": "disable", "id": "dev1"})).await.unwrap();
    assert_eq!(disabled["status"], "disabled", "{disabled}");
    service.ask(json!({"do": "delete", "id": "dev1"})).await.unwrap();
    let gone = service.ask(json!({"do": "get", "id": "dev1"})).await;
    service.assert_refused(gone, 404);
}

async fn twins_are_read_changed_and_queried_page_after_page(peer: Peer) {
    let Some(stage) = Stage::start().await else { return };
    let mut service = Service::start(peer, &stage).await;
    for id in ["dev1", "dev2", "dev3"] {
        service.ask(json!({"do": "create", "id": id, "key": KEY})).await.unwrap();
    }

    let twin = service.ask(json!({"do": "twin", "id": "dev1"})).await.unwrap();
    assert_eq!(twin["properties"]["desired"]["$version"], 1, "{twin}");
    let patch = json!({"tags": {"floor": 3}, "properties": {"desired": {"interval": 30}}});
    let change = json!({"do": "update_twin", "id": "dev1", "patch": patch, "etag": twin["etag"]});
    let changed = service.ask(change.clone()).await.unwrap();
    assert_eq!(
        (&changed["tags"]["floor"], &changed["properties"]["desired"]["interval"]),
        (&json!(3), &json!(30))
    );
    let stale = service.ask(change).await;
    service.assert_refused(stale, 412);
    let any = json!({"do": "update_twin", "id": "dev1", "patch": {"tags": {"floor": null}}});
    assert_eq!(service.ask(any).await.unwrap().get("tags").and_then(|tags| tags.get("floor")), None);

    let pages = service.ask(json!({"do": "query", "size": 2})).await.unwrap();
    let ids = |page: &Value| {
        let twins = page.as_array().unwrap().iter();
        twins.map(|twin| twin["deviceId"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let pages: Vec<_> = pages.as_array().unwrap().iter().map(ids).collect();
    assert_eq!(pages, [vec!["dev1", "dev2"], vec!["dev3"]]);
}

/// The client for Node cannot replace a twin.
async fn a_twin_is_replaced(peer: Peer) {
    let Some(stage) = Stage::start().await else { return };
    let mut service = Service::start(peer, &stage).await;
    service.ask(json!({"do": "create", "id": "dev1", "key": KEY})).await.unwrap();
    for desired in [json!({"interval": 30}), json!({"unit": "s"})] {
        let twin = json!({"properties": {"desired": desired}});
        let replaced = service.ask(json!({"do": "replace_twin", "id": "dev1", "twin": twin})).await.unwrap();
        let mut found = replaced["properties"]["desired"].clone();
        found.as_object_mut().unwrap().retain(|name, _| !name.starts_with('$'));
        assert_eq!(found, desired);
    }
}

async fn a_direct_method_reaches_an_official_device_client(peer: Peer) {
    let Some(stage) = Stage::start().await else { return };
    let mut service = Service::start(peer, &stage).await;
    service.ask(json!({"do": "create", "id": "dev1", "key": KEY})).await.unwrap();
    let device = match peer {
        Peer::Node => DevicePeer::Node("mqtt"),
        Peer::Python => DevicePeer::Python("mqtt"),
    };
    let mut device = stage.hub_device(device).await;
    let hub = &stage.emulator().hubs()[0];
    let access = json!({"do": "connect", "transport": "mqtt", "hub": hub, "deviceId": "dev1", "key": KEY});
    device.ask(access).await.unwrap();
    device.ask(json!({"do": "start"})).await.unwrap();

    let call = json!({"do": "method", "id": "dev1", "name": "echo", "payload": {"n": [1, "ü"]}});
    let answer = service.ask(call).await.unwrap();

    assert_eq!(answer, json!({"status": 200, "payload": {"n": [1, "ü"]}}));
}

async fn a_wrong_key_is_refused(peer: Peer) {
    let Some(stage) = Stage::start().await else { return };
    let mut service = Service::start(peer, &stage).await;
    let right = service.connection_string();
    let (rest, _) = right.split_once("SharedAccessKey=").unwrap();
    service.connect(&format!("{rest}SharedAccessKey={OTHER_KEY}")).await;

    let refused = service.ask(json!({"do": "list"})).await;

    service.assert_refused(refused, 401);
    assert!(stage.cause().contains("signature"), "{}", stage.cause());
}

struct Service<'a> {
    name: &'static str,
    stage: &'a Stage,
    client: Client,
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        evidence::hub_calls(self.name, self.stage.emulator());
    }
}

impl<'a> Service<'a> {
    /// Starts the client with the connection string of the hub.
    async fn start(peer: Peer, stage: &'a Stage) -> Self {
        let (name, client) = match peer {
            Peer::Node => (NODE, stage.node_client("hub_service.js", NODE).await),
            Peer::Python => (PYTHON, stage.python_client("hub_service.py", PYTHON).await),
        };
        let mut service = Service { name, stage, client };
        service.connect(&service.connection_string()).await;
        service
    }

    async fn connect(&mut self, connection_string: &str) {
        let request = json!({"do": "connect", "connectionString": connection_string});
        self.ask(request).await.unwrap();
    }

    /// Without the port: the clients resolve the name of a hub at the well-known one.
    fn connection_string(&self) -> String {
        let emulator = self.stage.emulator();
        let text = emulator.hub_connection_string(&emulator.hubs()[0]).unwrap();
        text.replacen(&format!(":{}", emulator.https_port()), "", 1)
    }

    async fn ask(&mut self, request: Value) -> Result<Value, Value> {
        self.client.ask(request).await
    }

    fn assert_refused(&self, outcome: Result<Value, Value>, status: u16) {
        let error = outcome.unwrap_err();
        assert_eq!(error["status"], status, "{error}");
    }
}

const NODE: &str = "azure-iothub 1.16.6";
const PYTHON: &str = "azure-iot-hub 2.7.0";
