//! The description of the management port, compared with what the port answers.

use std::collections::BTreeSet;
use std::path::PathBuf;

use azure_dps_emulator::{Emulator, Pki};
use azure_dps_tests::http_client::{Reply, ask_in_clear};
use azure_dps_tests::hub_device::{EVENTS, METHODS, assigned_with};
use azure_dps_tests::mqtt_device::MqttDevice;
use azure_dps_tests::site::{A, hubs};
use azure_dps_tests::tpm_device::{self, TPM, TpmDevice};
use boon::{Compiler, Schemas};
use serde_json::{Value, json};

#[tokio::test]
async fn the_router_and_the_document_have_the_same_routes_and_methods() {
    let emulator = Emulator::builder().manage_port(0).start().await.unwrap();
    let port = Port::of(&emulator).await;
    let nothing = port.ask("GET", "/nothing", "").await;
    let listed = nothing.message().strip_prefix("there are only ").unwrap().split(", ");

    let documented = port.document["paths"].as_object().unwrap().keys().map(|path| shape(path));
    assert_eq!(listed.map(shape).collect::<BTreeSet<_>>(), documented.collect::<BTreeSet<_>>());

    for path in port.document["paths"].as_object().unwrap().keys() {
        for method in ["GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"] {
            let answer = port.ask(method, &filled(path), "not JSON").await;
            let is_documented = port.operation(method, path).is_some();
            assert_eq!(answer.status != 405, is_documented, "{method} {path}: {}", answer.text);
        }
    }
}

#[tokio::test]
async fn each_answer_fits_its_schema() {
    let site = assigned_with(hubs().manage_port(0)).await;
    let peer = &site.peer;
    let mut port = Port::of(&peer.emulator).await;
    peer.enroll_group("plant", json!({})).await;
    peer.enroll("off", json!({"provisioningStatus": "disabled"})).await;
    peer.register("off", json!({})).await;
    peer.service("GET", "/enrollments/none", "").await;
    let mut connected = MqttDevice::at_hub(&peer.emulator).await;
    connected.publish_acknowledged(1, &format!("{EVENTS}$.mid=1&a=b"), "{\"t\":1}").await;
    connected.listen(METHODS, 0).await;
    let state = port.ask("GET", "/state", "").await.text;

    for (method, path, body, status) in
        [reads_and_faults(), settings(), device_calls(), at_last(state)].concat()
    {
        let answer = port.checked(method, &path, &body).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text);
    }

    let others =
        ["POST /hubs/{hostName}/devices/{id}/methods", "GET /hub-keys/{registrationId}", "POST /state/save"];
    let all = port.operations().into_iter().map(|(method, path)| format!("{method} {path}"));
    let wanted: BTreeSet<String> = all.filter(|one| !others.contains(&one.as_str())).collect();
    assert_eq!(port.succeeded, wanted, "each operation was answered with success");
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_answered_as_the_document_says() {
    let emulator = Emulator::builder().manage_port(0).start().await.unwrap();
    let mut port = Port::of(&emulator).await;
    let large = " ".repeat(1024 * 1024 + 1);

    for (method, path) in port.operations() {
        let has_body = port.operation(&method, &path).unwrap().get("requestBody").is_some();
        // The limit of a state is too large for a test.
        if has_body && path != "/state" {
            assert_eq!(port.checked(&method, &filled(&path), &large).await.status, 413, "{method} {path}");
        }
    }
}

/// A method, a target, a body, and the status of the answer.
type Request = (&'static str, String, String, u16);

fn reads_and_faults() -> Vec<Request> {
    let fault =
        json!({"effect": "delay", "ms": 1, "operation": "poll", "registrationId": "x", "nth": 2, "times": 3});
    let many = vec![json!({"effect": "stall"}); 1_001];
    vec![
        ("GET", "/".to_owned(), String::new(), 200),
        ("GET", "/health".to_owned(), String::new(), 200),
        ("GET", "/openapi.json".to_owned(), String::new(), 200),
        ("GET", "/info".to_owned(), String::new(), 200),
        ("GET", "/ca.pem".to_owned(), String::new(), 200),
        ("GET", "/issuing-ca.pem".to_owned(), String::new(), 200),
        ("GET", "/journal".to_owned(), String::new(), 200),
        ("GET", "/journal?id=dev1&status=2xx&since=1&wait=0".to_owned(), String::new(), 200),
        ("GET", "/journal?wait=-1".to_owned(), String::new(), 400),
        ("GET", "/enrollments".to_owned(), String::new(), 200),
        ("GET", "/registrations".to_owned(), String::new(), 200),
        ("GET", "/hubs".to_owned(), String::new(), 200),
        ("GET", "/billing".to_owned(), String::new(), 200),
        ("GET", "/counts".to_owned(), String::new(), 200),
        ("GET", "/keys/enrollments/dev1".to_owned(), String::new(), 200),
        ("GET", "/keys/enrollments/plant".to_owned(), String::new(), 404),
        ("GET", "/keys/enrollmentGroups/plant".to_owned(), String::new(), 200),
        ("GET", "/keys/enrollmentGroups/none".to_owned(), String::new(), 404),
        ("POST", "/faults".to_owned(), fault.to_string(), 204),
        ("POST", "/faults".to_owned(), json!([fault, {"effect": "throttle", "count": 1}]).to_string(), 204),
        ("POST", "/faults".to_owned(), json!(many).to_string(), 429),
        ("GET", "/faults".to_owned(), String::new(), 200),
        ("DELETE", "/faults".to_owned(), String::new(), 204),
        ("POST", "/pki".to_owned(), json!({"devices": ["b"], "intermediates": 1}).to_string(), 200),
    ]
}

fn settings() -> Vec<Request> {
    let pki = Pki::new(["a"], 0).unwrap();
    let root = json!({"certificate": pki.root.certificate_pem, "isVerified": true}).to_string();
    vec![
        ("GET", "/clock".to_owned(), String::new(), 200),
        ("PUT", "/clock".to_owned(), json!({"now": "2030-01-01T00:00:00Z"}).to_string(), 200),
        ("PUT", "/clock".to_owned(), json!({"advanceSeconds": 0.5}).to_string(), 200),
        ("PUT", "/clock".to_owned(), json!({"now": null}).to_string(), 200),
        ("GET", "/allocation".to_owned(), String::new(), 200),
        (
            "PUT",
            "/allocation".to_owned(),
            json!({"allocationPolicy": "geoLatency", "latencies": [{"devices": "a*", "regions": {"x": 1}}]})
                .to_string(),
            200,
        ),
        ("PUT", "/certificates/root".to_owned(), root, 204),
        ("PUT", "/certificates/none".to_owned(), json!({"isVerified": true}).to_string(), 404),
        ("GET", "/certificates".to_owned(), String::new(), 200),
        ("GET", "/certificates/root".to_owned(), String::new(), 200),
        ("GET", "/certificates/none".to_owned(), String::new(), 404),
        ("DELETE", "/certificates/root".to_owned(), String::new(), 204),
        ("DELETE", "/certificates/root".to_owned(), String::new(), 404),
        (
            "PUT",
            "/certificate-policies/plant/ca-1/sensors".to_owned(),
            json!({"days": 7, "keys": ["p384"], "root": true}).to_string(),
            204,
        ),
        ("GET", "/certificate-policies".to_owned(), String::new(), 200),
        ("DELETE", "/certificate-policies/plant/ca-1/sensors".to_owned(), String::new(), 204),
        ("DELETE", "/certificate-policies/plant/ca-1/sensors".to_owned(), String::new(), 404),
        ("POST", "/revoke".to_owned(), json!({"registrationId": "dev1"}).to_string(), 204),
        ("POST", "/revoke".to_owned(), json!({"registrationId": "nobody"}).to_string(), 404),
        ("GET", "/hub-keys/dev1".to_owned(), String::new(), 404),
    ]
}

fn device_calls() -> Vec<Request> {
    let device = format!("/hubs/{A}/devices/dev1");
    vec![
        ("GET", format!("/hubs/{A}/devices"), String::new(), 200),
        ("GET", "/hubs/none/devices".to_owned(), String::new(), 404),
        ("GET", device.clone(), String::new(), 200),
        ("GET", format!("/hubs/{A}/devices/none"), String::new(), 404),
        ("GET", format!("{device}/telemetry"), String::new(), 200),
        ("GET", format!("{device}/telemetry?last=1"), String::new(), 200),
        ("GET", format!("{device}/telemetry?last=-1"), String::new(), 400),
        ("POST", format!("{device}/telemetry"), json!({"after": 0, "withinSeconds": 1}).to_string(), 200),
        ("POST", format!("{device}/telemetry"), json!({"after": 9, "withinSeconds": 0.1}).to_string(), 504),
        ("PATCH", format!("{device}/desired"), json!({"interval": 7}).to_string(), 200),
        ("PATCH", format!("/hubs/{A}/devices/none/desired"), json!({}).to_string(), 404),
        (
            "POST",
            format!("{device}/messages"),
            json!({"body": "x", "properties": {"a": "b"}}).to_string(),
            204,
        ),
        (
            "POST",
            format!("{device}/messages"),
            json!({"base64": "AA==", "systemProperties": {"mid": "1"}}).to_string(),
            204,
        ),
        ("POST", format!("{device}/messages"), json!({"body": "x".repeat(70_000)}).to_string(), 413),
        ("POST", format!("/hubs/{A}/devices/none/methods"), json!({"methodName": "a"}).to_string(), 404),
    ]
}

fn at_last(state: String) -> Vec<Request> {
    let device = format!("/hubs/{A}/devices/dev1");
    vec![
        ("GET", "/state".to_owned(), String::new(), 200),
        ("PUT", "/state".to_owned(), state, 204),
        ("PUT", "/state".to_owned(), "{}".to_owned(), 400),
        ("POST", "/state/save".to_owned(), String::new(), 409),
        ("POST", format!("{device}/methods"), json!({"methodName": "a"}).to_string(), 409),
        ("POST", format!("{device}/disconnect"), String::new(), 200),
        ("DELETE", device.clone(), String::new(), 204),
        ("DELETE", device.clone(), String::new(), 404),
        ("POST", "/reset".to_owned(), String::new(), 204),
    ]
}

#[tokio::test]
async fn the_answer_of_a_device_to_a_method_fits_its_schema() {
    let site = assigned_with(hubs().manage_port(0)).await;
    let mut device = MqttDevice::at_hub(&site.peer.emulator).await;
    device.listen(METHODS, 0).await;
    let mut port = Port::of(&site.peer.emulator).await;
    let path = format!("/hubs/{A}/devices/dev1/methods");
    let body = json!({"methodName": "reboot", "payload": [1], "responseTimeoutInSeconds": 60}).to_string();

    let (answer, ()) = tokio::join!(port.checked("POST", &path, &body), async {
        let call = device.published().await;
        let rid = call.topic.rsplit_once("$rid=").unwrap().1.to_owned();
        device.publish(0, 0, &format!("$iothub/methods/res/200/?$rid={rid}"), "{\"ok\":true}").await;
    });

    assert_eq!((answer.status, &answer.body), (200, &json!({"status": 200, "payload": {"ok": true}})));
}

#[tokio::test]
async fn the_hub_key_of_a_tpm_and_a_saved_state_fit_their_schemas() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("openapi-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let tpm = TpmDevice::with(tpm_device::seeded().manage_port(0).data_file(folder.join("state.json"))).await;
    tpm.hub_key(&TPM).await;
    let mut port = Port::of(&tpm.emulator).await;

    assert_eq!(port.checked("GET", "/hub-keys/gw-7", "").await.status, 200);
    assert_eq!(port.checked("POST", "/state/save", "").await.status, 204);
    assert_eq!(port.checked("GET", "/state", "").await.status, 200);
}

#[tokio::test]
async fn members_that_the_document_does_not_have_are_refused() {
    let emulator = Emulator::builder().manage_port(0).start().await.unwrap();
    let port = Port::of(&emulator).await;
    for (method, path) in port.operations() {
        let target = filled(&path);
        let answer = port.ask(&method, &format!("{target}?invention=1"), "").await;
        let names_it = answer
            .message()
            .starts_with(&format!("{target} knows no query member such as invention; it has "));
        assert!(answer.status == 400 && names_it, "{method} {path}: {} {}", answer.status, answer.text);

        let operation = port.operation(&method, &path).unwrap();
        let Some(body) = operation.pointer("/requestBody/content/application~1json/schema") else { continue };
        // Desired properties can have any name. A state is judged in its own tests.
        if ["#/components/schemas/Desired", "#/components/schemas/State"]
            .contains(&body["$ref"].as_str().unwrap())
        {
            continue;
        }
        let answer = port.ask(&method, &target, r#"{"invention":1}"#).await;
        assert_eq!(answer.status, 400, "{method} {path}: {}", answer.text);
        assert!(!port.fits(body, &json!({"invention": 1})), "{method} {path}");
    }
}

#[tokio::test]
async fn a_token_is_needed_where_the_document_says_so() {
    let token = "0123456789abcdef0123456789abcdef";
    let emulator = Emulator::builder().manage_port(0).manage_token(token).start().await.unwrap();
    let port = Port::with_head(&emulator, &format!("{LOCAL}Authorization: Bearer {token}\r\n")).await;
    for (method, path) in port.operations() {
        let is_open = port.operation(&method, &path).unwrap()["security"] == json!([]);
        let answer = ask_in_clear(port.number, &method, &filled(&path), LOCAL, "").await;
        assert_eq!(answer.status != 401, is_open, "{method} {path}");
    }
}

/// The management port of an emulator, and its description.
struct Port {
    number: u16,
    head: String,
    document: Value,
    /// The operations that were answered with success.
    succeeded: BTreeSet<String>,
}

impl Port {
    async fn of(emulator: &Emulator) -> Self {
        Self::with_head(emulator, LOCAL).await
    }

    async fn with_head(emulator: &Emulator, head: &str) -> Self {
        let number = emulator.manage_port().unwrap();
        let document = ask_in_clear(number, "GET", "/openapi.json", head, "").await.body;
        Port { number, head: head.to_owned(), document, succeeded: BTreeSet::new() }
    }

    async fn ask(&self, method: &str, target: &str, body: &str) -> Reply {
        ask_in_clear(self.number, method, target, &self.head, body).await
    }

    /// Sends a request that the document describes, and compares the answer with the description.
    async fn checked(&mut self, method: &str, target: &str, body: &str) -> Reply {
        let path = self.path_of(target);
        let operation = self.operation(method, &path).unwrap_or_else(|| panic!("{method} {path}")).clone();
        let answer = self.ask(method, target, body).await;
        let described = &operation["responses"][answer.status.to_string()];
        let described = match described["$ref"].as_str() {
            Some(reference) => self.document.pointer(&reference[1..]).unwrap(),
            None => described,
        };
        assert!(
            described.is_object(),
            "{method} {path} is not described with {}: {}",
            answer.status,
            answer.text
        );
        for name in described["headers"].as_object().into_iter().flat_map(|headers| headers.keys()) {
            let value = json!(answer.header(&name.to_lowercase()).unwrap());
            assert!(self.fits(&described["headers"][name]["schema"], &value), "{name}: {value}");
        }
        let kind = answer.header("content-type").unwrap().split(';').next().unwrap().to_owned();
        match described.get("content") {
            None => assert_eq!(answer.text, "", "{method} {path}"),
            Some(content) => {
                let schema = &content[&kind]["schema"];
                assert!(schema.is_object(), "{method} {path} is not described as {kind}");
                let body = if kind == "application/json" { answer.body.clone() } else { json!(answer.text) };
                self.assert_fits(schema, &body);
            }
        }
        if answer.status < 300 {
            if let Some(schema) = operation.pointer("/requestBody/content/application~1json/schema") {
                self.assert_fits(schema, &serde_json::from_str(body).unwrap());
            }
            self.succeeded.insert(format!("{method} {path}"));
        }
        answer
    }

    fn operations(&self) -> Vec<(String, String)> {
        let paths = self.document["paths"].as_object().unwrap();
        let all = paths.iter().flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys().filter(|name| *name != "parameters");
            methods.map(|method| (method.to_uppercase(), path.clone()))
        });
        all.collect()
    }

    fn operation(&self, method: &str, path: &str) -> Option<&Value> {
        self.document["paths"][path].get(method.to_lowercase())
    }

    /// The path of the document that a target meets.
    fn path_of(&self, target: &str) -> String {
        let target: Vec<&str> = target.split('?').next().unwrap().split('/').collect();
        let meets = |path: &&String| {
            let parts: Vec<&str> = path.split('/').collect();
            parts.len() == target.len()
                && parts.iter().zip(&target).all(|(part, given)| part.starts_with('{') || part == given)
        };
        self.document["paths"].as_object().unwrap().keys().find(meets).unwrap().clone()
    }

    fn assert_fits(&self, schema: &Value, value: &Value) {
        if let Err(why) = self.judge(schema, value) {
            panic!("{why}\n{value:#}");
        }
    }

    fn fits(&self, schema: &Value, value: &Value) -> bool {
        self.judge(schema, value).is_ok()
    }

    /// Validates a value by a schema of the document, whose references are those of the document.
    fn judge(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let mut root = self.document.clone();
        root["judged"] = schema.clone();
        let (mut compiler, mut schemas) = (Compiler::new(), Schemas::new());
        compiler.enable_format_assertions();
        compiler.add_resource("http://localhost/openapi.json", root).unwrap();
        let judged = compiler.compile("http://localhost/openapi.json#/judged", &mut schemas);
        let judged = judged.map_err(|error| format!("{error:#}"))?;
        schemas.validate(value, judged).map_err(|error| format!("{error:#}"))
    }
}

/// The path with something for each variable.
fn filled(path: &str) -> String {
    let parts = path.split('/').map(|part| if part.starts_with('{') { "none" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

/// The path without the names of its variables.
fn shape(path: &str) -> String {
    let parts = path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

const LOCAL: &str = "Host: localhost\r\n";
