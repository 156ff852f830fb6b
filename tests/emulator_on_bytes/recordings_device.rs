//! What devices asked the live service and were answered is asked of the emulator, over HTTPS and MQTT in literal bytes, and has to
//! be answered alike: status, topics, headers, members with their order, values, and the forms of what each instance has of its own.
//!
//! The recordings and where they come from: `vectors/recordings/README.md`. Nothing of the SDK.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)] // Test code.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use azure_dps_emulator::{CaCertificate, Emulator, EmulatorBuilder, Fault, KeyedCertificate, Operation, Pki};
use azure_dps_tests::emulated::{PRIMARY, derive, sign};
use azure_dps_tests::mqtt_bytes::{Published, connect_with};
use azure_dps_tests::mqtt_device::MqttDevice;
use azure_dps_tests::recorded::{Node, differences, is_hex_groups};
use azure_dps_tests::soft_tpm::SoftTpm;
use azure_dps_tests::tls::{ClientStream, connect, presenting};
use azure_dps_tests::{Shown, read_answer, trusting};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::ClientConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

#[tokio::test]
async fn a_device_with_a_key_is_answered_over_https_as_recorded() {
    let scene = Scene::new("0ne00111111", "my-symkey-device", "MyExampleHub.azure-devices.net", How::Key);
    scene.replay_https("https-symmetric-key-individual", 3).await;
}

#[tokio::test]
async fn a_device_with_a_certificate_is_answered_over_https_as_recorded() {
    let scene = Scene::new("0ne00111111", "my-x509-device", "MyExampleHub.azure-devices.net", How::X509);
    scene.replay_https("https-x509-individual", 2).await;
}

#[tokio::test]
async fn a_device_of_iot_central_is_answered_over_https_as_recorded() {
    let scene = Scene::new("0ne00000000", "2o6bjrqzry6", CENTRAL, How::Key);
    scene.replay_https("https-iot-central-2021", 2).await;
}

#[tokio::test]
async fn a_device_with_a_certificate_is_answered_over_mqtt_as_recorded() {
    for (file, id, hub, polls, replies) in [
        ("mqtt-x509-2020", "paho-sample-device1", "contoso.azure-devices.net", 1, 4),
        ("mqtt-x509-2023", "dev1-ecc", "example-iothub1.azure-devices.net", 0, 4),
        ("mqtt-x509-2025", "device-0001", "hub-a.azure-devices.net", 0, 1),
    ] {
        Scene { polls, ..Scene::new("0ne00000000", id, hub, How::X509) }.replay_mqtt(file, replies).await;
    }
}

#[tokio::test]
async fn a_device_of_a_group_with_a_certificate_is_answered_over_mqtt_as_recorded() {
    let group = How::X509Group("enrolGroup");
    let scene = Scene::new("0ne00000000", "ninadps", "hubDPS.azure-devices.net", group);
    scene.replay_mqtt("mqtt-x509-group-2022", 2).await;
    let group = How::X509Group("00000000-0000-0000-0000-000000000001");
    let scene = Scene { polls: 1, ..Scene::new("0ne00000000", "sn0123AAAAAAAAAAAA01", CENTRAL, group) };
    scene.replay_mqtt("mqtt-x509-iot-central-2023", 3).await;
}

#[tokio::test]
async fn a_device_of_a_group_with_a_derived_key_is_answered_over_mqtt_as_recorded() {
    let scene = Scene { polls: 1, ..Scene::new("0ne00000000", "sample-device-01", CENTRAL, How::KeyGroup) };
    scene.replay_mqtt("mqtt-symmetric-key-iot-central", 3).await;
}

#[tokio::test]
async fn a_tpm_is_challenged_as_recorded() {
    let recorded = interactions("tpm-challenge");
    let [head_only, challenge, state] = &recorded[..] else { panic!("{} entries", recorded.len()) };
    let tpm = SoftTpm::new();
    let keys = json!({
        "endorsementKey": BASE64_STANDARD.encode(tpm.endorsement_key()),
        "storageRootKey": BASE64_STANDARD.encode(tpm.storage_root_key()),
    });
    let attestation = json!({"type": "tpm", "tpm": {"endorsementKey": keys["endorsementKey"]}});
    let seed = json!({"enrollments": [{"registrationId": "gw-7", "attestation": attestation}]});
    let emulator = Shown(Emulator::builder().seed_json(seed.to_string()).start().await.unwrap());
    let mut https = Https::connect(&emulator, None).await;
    let body = json!({"registrationId": "gw-7", "tpm": keys}).to_string();
    let device = format!("{}/registrations/gw-7", emulator.id_scope());
    let register = format!("/{device}/register?api-version=2019-03-31");

    let (head, told) = https.ask("PUT", &register, "", &body).await;

    let mut found =
        compare_headers(head_only.get("headers"), &head, &["strict-transport-security", "x-ms-request-id"]);
    assert_eq!(head.split(' ').nth(1).unwrap(), head_only.get("status").to_string());
    let told = Node::read(&told);
    found.extend(masked(&Node::read(challenge.get("bodyText").text()), &told));
    let sealed = BASE64_STANDARD.decode(told.get("authenticationKey").text()).unwrap();
    let key = BASE64_STANDARD.encode(tpm.open(&sealed).unwrap());
    let token = format!("Authorization: {}\r\n", sign(&key, &device, "registration"));
    let (_, begun) = https.ask("PUT", &register, &token, &body).await;
    let poll = format!(
        "/{device}/operations/{}?api-version=2019-03-31",
        Node::read(&begun).get("operationId").text()
    );
    let (_, ended) = https.ask("GET", &poll, &token, "").await;
    let tpm = Node::read(&ended).get("registrationState").get("tpm").clone();
    found.extend(masked(&Node::read(state.get("bodyText").text()), &tpm));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[tokio::test]
async fn errors_are_told_as_recorded() {
    let recorded = interactions("errors");
    let [no_stop, leaf, deleted, group, mqtt, at_once, operation, policy, webhook, unreadable] =
        &recorded[..]
    else {
        panic!("{} entries", recorded.len())
    };
    let mut found = Vec::new();

    let scene = Scene::new("0ne00000000", "dev1", CENTRAL, How::X509);
    let stage = scene.stage().await;
    let stranger = Pki::new(["dev1"], 0).unwrap().devices.remove(0);
    let mut https = Https::connect(&stage.emulator, Some(&stranger)).await;
    let (head, told) = https.ask("PUT", &stage.target("register"), "", "{}").await;
    found.extend(compare_headers(no_stop.get("headers"), &head, &[]));
    // Every later recording has a full stop.
    let spelled = no_stop.get("bodyText").text().replace("Invalid certificate", "Invalid certificate.");
    found.extend(differences(&Node::read(&spelled), &Node::read(&told)));
    // A rejected delivery over AMQP has the same body for a description: `emulator_amqp.rs`.
    found.extend(differences(&Node::read(leaf.get("bodyText").text()), &Node::read(&told)));
    let mut client = Mqtt::connect(&stage, Some(&stranger)).await;
    client.publish(1, &format!("{REGISTER}1"), "{}").await;
    let reply = client.reply().await;
    assert!(mqtt.get("transport").text().ends_with(&reply.topic), "{}", reply.topic);
    found.extend(differences(&Node::read(mqtt.get("bodyText").text()), &reply.body));

    let told = stage.ask_own("PUT", "register", "{").await.1;
    let recorded = Node::read(&format!("{{{}}}", unreadable.get("bodyText").text()));
    assert_eq!(told.get("errorCode"), recorded.get("errorCode"));
    assert!(told.get("message").text().starts_with(recorded.get("message").text()), "{told}");
    let told = stage.ask_own("GET", "operations/5.none", "").await.1;
    let cut = operation.get("bodyText").text().replace('}', r#","timestampUtc":"2026-01-01T00:00:00Z"}"#);
    found.extend(differences(&Node::read(&cut), &told));
    stage.emulator.inject(Fault::status(409).on(Operation::Register)).unwrap();
    let told = stage.ask_own("PUT", "register", "{}").await.1;
    found.extend(differences(&Node::read(at_once.get("bodyText").text()), &told));
    let group_body =
        json!({"enrollmentGroupId": "g", "attestation": {"type": "symmetricKey"}, "iotHubs": [CENTRAL]});
    let told = Node::read(&stage.service("PUT", "/enrollmentGroups/g", &group_body.to_string()).await.1);
    let line = format!("({}) {}", told.get("errorCode"), told.get("message").text());
    assert_eq!(line, policy.get("bodyText").text());

    let scene = Scene::new("0ne00000000", "dev1", CENTRAL, How::X509Group("plant"));
    let stage = scene.stage().await;
    let root = CaCertificate::verified("root", &stage.pki.root.certificate_pem);
    stage.emulator.upload_ca_certificate(root).unwrap();
    stage.service("DELETE", "/enrollmentGroups/plant", "").await;
    let told = stage.ask_own("PUT", "register", "{}").await.1;
    for entry in [deleted, group] {
        found.extend(differences(&Node::read(entry.get("bodyText").text()), &told));
    }

    let state = failed_by_webhook().await;
    let line =
        format!("Error code: {} Error message: {}", state.get("errorCode"), state.get("errorMessage").text());
    assert_eq!(line, webhook.get("bodyText").text());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_recording_is_replayed() {
    let files = fs::read_dir(folder()).unwrap().map(|file| file.unwrap().path());
    let names: Vec<String> =
        files.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    let this = include_str!("recordings_device.rs");
    assert_eq!(names.len(), 11);
    for name in names {
        assert!(this.contains(&format!("\"{name}\"")), "{name}");
    }
}

/// The state of a registration whose webhook refuses with 400.
async fn failed_by_webhook() -> Node {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/allocate", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _some = stream.read(&mut [0; 4096]).await;
            let _sent = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
        }
    });
    let scene = Scene::new("0ne00000000", "dev1", CENTRAL, How::Webhook(url));
    let stage = scene.stage().await;
    let begun = stage.ask_own("PUT", "register", "{}").await.1;
    let poll = format!("operations/{}", begun.get("operationId").text());
    loop {
        let told = stage.ask_own("GET", &poll, "").await.1;
        if told.get("status").text() != "assigning" {
            return told.get("registrationState").clone();
        }
    }
}

/// How the device of a recording is enrolled.
enum How {
    Key,
    KeyGroup,
    X509,
    X509Group(&'static str),
    Webhook(String),
}

/// What a recording was made in.
struct Scene {
    id_scope: &'static str,
    id: &'static str,
    hub: &'static str,
    how: How,
    /// For how many polls the service was assigning.
    polls: u32,
}

/// A scene with an emulator in it.
struct Stage {
    emulator: Shown,
    pki: Pki,
    device: String,
    id: &'static str,
    token: Option<String>,
}

impl Scene {
    fn new(id_scope: &'static str, id: &'static str, hub: &'static str, how: How) -> Self {
        Scene { id_scope, id, hub, how, polls: 0 }
    }

    async fn stage(&self) -> Stage {
        let pki = Pki::new([self.id], 1).unwrap();
        let keys =
            json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": PRIMARY, "secondaryKey": PRIMARY}});
        let certificate = |of: &KeyedCertificate| json!({"primary": {"certificate": of.certificate_pem}});
        let single = |attestation: Value| json!({"enrollments": [{"registrationId": self.id, "attestation": attestation}]});
        let group = |id: &str, attestation: Value| json!({"enrollmentGroups": [{"enrollmentGroupId": id, "attestation": attestation}]});
        let device = format!("{}/registrations/{}", self.id_scope, self.id);
        let own = sign(PRIMARY, &device, "registration");
        let (seed, token) = match &self.how {
            How::Key => (single(keys), Some(own)),
            How::KeyGroup => {
                (group("group", keys), Some(sign(&derive(PRIMARY, self.id), &device, "registration")))
            }
            How::X509 => {
                let certificates = certificate(&pki.devices[0]);
                (single(json!({"type": "x509", "x509": {"clientCertificates": certificates}})), None)
            }
            How::X509Group(id) => {
                let certificates = certificate(&pki.root);
                (group(id, json!({"type": "x509", "x509": {"signingCertificates": certificates}})), None)
            }
            How::Webhook(url) => {
                let mut seed = single(keys);
                seed["enrollments"][0]["allocationPolicy"] = "custom".into();
                seed["enrollments"][0]["customAllocationDefinition"] =
                    json!({"webhookUrl": url, "apiVersion": "2021-10-01"});
                (seed, Some(own))
            }
        };
        let builder =
            Emulator::builder().hub(self.hub).id_scope(self.id_scope).retry_after(3).polls(self.polls);
        let builder: EmulatorBuilder = builder.seed_json(seed.to_string());
        Stage { emulator: Shown(builder.start().await.unwrap()), pki, device, id: self.id, token }
    }

    async fn replay_https(&self, file: &str, expected: usize) {
        let stage = self.stage().await;
        let mut https = Https::connect(&stage.emulator, stage.certificate()).await;
        // Of each recorded operation, that of this instance.
        let mut operations = BTreeMap::new();
        let recorded = interactions(file);
        let mut found = Vec::new();
        for exchange in &recorded {
            let (request, response) = (exchange.get("request"), exchange.get("response"));
            let (method, path) = (request.get("method").text(), request.get("path").text());
            let body =
                if request.get("body").is_null() { String::new() } else { request.get("body").to_string() };
            let answer = Node::read(response.get("bodyText").text());
            let recorded_id = answer.get("operationId").text();
            if method == "GET" && !operations.contains_key(recorded_id) {
                // Its register request was not recorded.
                let begun = stage.ask_own("PUT", "register", "{}").await.1;
                operations.insert(recorded_id.to_owned(), begun.get("operationId").text().to_owned());
            }
            let path =
                operations.get(recorded_id).map_or(path.to_owned(), |own| path.replace(recorded_id, own));
            let (head, told) = https.ask(method, &path, &stage.authorization(), &body).await;
            let told = Node::read(&told);
            operations.insert(recorded_id.to_owned(), told.get("operationId").text().to_owned());
            let status = response.get("status");
            if !status.is_null() && head.split(' ').nth(1) != Some(&status.to_string()) {
                found.push(format!("{method} {path}: recorded {status}; answered {head}"));
            }
            let headers = response.get("headers");
            // Where the first lines of a head are cut, or all of it, no header proves to be absent.
            let cut = headers.get("Date").is_null();
            found.extend(compare_headers(headers, &head, if cut { &["*"] } else { &[] }));
            found.extend(differences(&answer, &told));
        }
        assert_eq!(recorded.len(), expected, "exchanges were lost or added");
        assert!(found.is_empty(), "{file}\n{}", found.join("\n"));
    }

    async fn replay_mqtt(&self, file: &str, expected: usize) {
        let stage = self.stage().await;
        let mut player =
            Player { mqtt: Mqtt::connect(&stage, stage.certificate()).await, stage, operation: None };
        let (mut found, mut replies, mut asked) = (Vec::new(), 0, false);
        for packet in &interactions(file) {
            match (packet.get("client").text(), packet.get("server").text()) {
                ("PUBLISH", _) => {
                    player.send(packet).await;
                    asked = true;
                }
                (_, "PUBLISH") => {
                    if !asked {
                        player.ask_for(packet).await;
                    }
                    asked = false;
                    replies += 1;
                    found.extend(player.compare(packet).await);
                }
                (_, "PUBACK") => {
                    assert_eq!(player.mqtt.0.hear().await.unwrap().0, 0x40, "PUBACK before the reply")
                }
                ("DISCONNECT", _) => {
                    player.mqtt.0.say(&[0xE0, 0]).await;
                    assert_eq!(player.mqtt.0.hear().await, None);
                }
                // Every connection begins so: see `Mqtt::connect`.
                ("CONNECT" | "SUBSCRIBE", _) | (_, "CONNACK" | "SUBACK") => {}
                _ if packet.get("comment").text().starts_with("another connection") => {
                    player.mqtt = Mqtt::connect(&player.stage, player.stage.certificate()).await;
                    player.operation = None;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(replies, expected, "replies were lost or added");
        assert!(found.is_empty(), "{file}\n{}", found.join("\n"));
    }
}

impl Stage {
    fn certificate(&self) -> Option<&KeyedCertificate> {
        self.token.is_none().then(|| &self.pki.devices[0])
    }

    fn authorization(&self) -> String {
        self.token.as_ref().map(|token| format!("Authorization: {token}\r\n")).unwrap_or_default()
    }

    fn target(&self, path: &str) -> String {
        format!("/{}/{path}?api-version=2021-06-01", self.device)
    }

    /// A request of the device on a connection of its own.
    async fn ask_own(&self, method: &str, path: &str, body: &str) -> (String, Node) {
        let mut https = Https::connect(&self.emulator, self.certificate()).await;
        let (head, body) = https.ask(method, &self.target(path), &self.authorization(), body).await;
        (head, Node::read(&body))
    }

    async fn service(&self, method: &str, path: &str, body: &str) -> (String, String) {
        let key = BASE64_STANDARD.encode("this-emulator-key-protects-none!");
        let token = format!("Authorization: {}\r\n", sign(&key, "localhost", "provisioningserviceowner"));
        let mut https = Https::connect(&self.emulator, None).await;
        https.ask(method, &format!("{path}?api-version=2021-10-01"), &token, body).await
    }
}

struct Player {
    stage: Stage,
    mqtt: Mqtt,
    /// The latest operation of this instance.
    operation: Option<String>,
}

impl Player {
    /// Sends a recorded request, with the operation of this instance.
    async fn send(&mut self, packet: &Node) {
        let topic = packet.get("topic").text();
        let topic = match (topic.split_once("operationId="), &self.operation) {
            (Some((before, _)), Some(own)) => format!("{before}operationId={own}"),
            _ => topic.to_owned(),
        };
        let body = match packet.get("payloadText") {
            Node::Null if topic.starts_with(REGISTER) => {
                format!(r#"{{"registrationId":"{}"}}"#, self.stage.id)
            }
            body => body.text().to_owned(),
        };
        let qos = if packet.get("qos").to_string() == "1" { 1 } else { 0 };
        self.mqtt.publish(qos, &topic, &body).await;
    }

    /// Sends the request that a recorded reply answers, where it was not recorded.
    async fn ask_for(&mut self, reply: &Node) {
        let recorded = Node::read(reply.get("payloadText").text());
        let topic = reply.get("topic").text();
        let rid = topic.split_once("$rid=").map_or("1", |(_, rest)| rest.split('&').next().unwrap());
        if !recorded.get("errorCode").is_null() {
            let stranger = Pki::new([self.stage.id], 0).unwrap().devices.remove(0);
            self.mqtt = Mqtt::connect(&self.stage, Some(&stranger)).await;
            return self.mqtt.publish(0, &format!("{REGISTER}{rid}"), "").await;
        }
        let is_poll = !recorded.get("registrationState").is_null();
        if !is_poll || self.operation.is_none() {
            self.mqtt.publish(0, &format!("{REGISTER}{rid}"), "").await;
        }
        if is_poll {
            if self.operation.is_none() {
                self.operation = Some(self.mqtt.reply().await.body.get("operationId").text().to_owned());
            }
            let operation = self.operation.as_deref().unwrap();
            self.mqtt.publish(0, &format!("{POLL}{rid}&operationId={operation}"), "").await;
        }
    }

    async fn compare(&mut self, packet: &Node) -> Vec<String> {
        let reply = self.mqtt.reply().await;
        if let Node::Text(operation) = reply.body.get("operationId") {
            self.operation = Some(operation.clone());
        }
        let mut found = Vec::new();
        let topic = packet.get("topic").text();
        let fits = match topic.strip_suffix('…') {
            Some(beginning) => reply.topic.starts_with(beginning),
            None => reply.topic == topic,
        };
        if !fits {
            found.push(format!("recorded {topic}; answered {}", reply.topic));
        }
        for (name, own) in [("qos", reply.qos.to_string()), ("packetId", reply.id.to_string())] {
            let recorded = packet.get(name);
            if !recorded.is_null() && recorded.to_string() != own {
                found.push(format!("{topic}: {name} recorded {recorded}; answered {own}"));
            }
        }
        if !packet.get("length").is_null() {
            // Zeros at the end of a time are cut; each of the two times of a final state may have lost some.
            let recorded: usize = packet.get("length").to_string().parse().unwrap();
            let whole = reply.text.len() + cut_digits(&reply.body);
            let most = if reply.body.get("registrationState").get("etag").is_null() { 0 } else { 4 };
            if !(whole - most..=whole).contains(&recorded) {
                found.push(format!("{topic}: recorded {recorded} bytes; answered {whole}: {}", reply.text));
            }
        }
        if let Node::Text(recorded) = packet.get("payloadText") {
            found.extend(differences(&Node::read(recorded), &reply.body));
        }
        found
    }
}

/// How many digits the two times of a state lack of seven.
fn cut_digits(body: &Node) -> usize {
    let state = body.get("registrationState");
    let times = ["createdDateTimeUtc", "lastUpdatedDateTimeUtc"].map(|name| state.get(name).text().len());
    times
        .iter()
        .filter(|length| **length > 0)
        .map(|length| "2020-04-10T03:11:13.0276997Z".len() - length)
        .sum()
}

/// A recorded body in which keys are shortened to their beginning.
fn masked(recorded: &Node, answered: &Node) -> Vec<String> {
    let name = "authenticationKey";
    let (key, mut answered) = (recorded.get(name).text(), answered.clone());
    let own = answered.get_mut(name).unwrap();
    assert!(own.text().starts_with(key.trim_end_matches('…')), "{own}");
    *own = Node::Text(key.to_owned());
    differences(recorded, &answered)
}

/// In what a head differs; `more` are headers that may be there although they were not recorded, `*` any.
fn compare_headers(recorded: &Node, head: &str, more: &[&str]) -> Vec<String> {
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    let answered: BTreeMap<String, &str> = lines.map(|(name, value)| (name.to_lowercase(), value)).collect();
    let recorded: BTreeMap<String, &str> =
        recorded.members().iter().map(|(name, value)| (name.to_lowercase(), value.text())).collect();
    let mut found = Vec::new();
    for (name, wanted) in &recorded {
        let path = |url: &str| url.splitn(4, '/').nth(3).unwrap_or_default().to_owned();
        match (name.as_str(), answered.get(name)) {
            (_, None) => found.push(format!("header {name} is missing")),
            ("date", _) => {}
            ("x-ms-request-id", Some(id)) if is_hex_groups(id, &[8, 4, 4, 4, 12]) => {}
            ("location", Some(url)) if path(url) == path(wanted) => {}
            (_, Some(value)) if value != wanted => {
                found.push(format!("header {name}: recorded {wanted}; answered {value}"));
            }
            _ => {}
        }
    }
    let all = more.contains(&"*");
    let extra = answered
        .keys()
        .filter(|name| !all && !recorded.contains_key(*name) && !more.contains(&name.as_str()));
    found.extend(extra.map(|name| format!("header {name} was not recorded")));
    found
}

/// A client of the HTTPS port.
struct Https(ClientStream);

impl Https {
    async fn connect(emulator: &Emulator, certificate: Option<&KeyedCertificate>) -> Self {
        Https(connect(emulator.https_port(), config(emulator, certificate)).await.unwrap())
    }

    async fn ask(&mut self, method: &str, target: &str, head: &str, body: &str) -> (String, String) {
        let length = body.len();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{head}Content-Length: {length}\r\n\r\n{body}"
        );
        self.0.write_all(request.as_bytes()).await.unwrap();
        read_answer(&mut self.0).await
    }
}

/// A device at the MQTT port.
struct Mqtt(MqttDevice);

struct Reply {
    topic: String,
    qos: u8,
    id: u16,
    text: String,
    body: Node,
}

impl Mqtt {
    /// A connection as every recording begins: clean, without a keep-alive, and listening to replies with QoS 1.
    async fn connect(stage: &Stage, certificate: Option<&KeyedCertificate>) -> Self {
        let config = config(&stage.emulator, certificate);
        let mut mqtt = Mqtt(MqttDevice::connect_with(&stage.emulator, config).await.unwrap());
        let user = format!("{}/api-version=2019-03-31&ClientVersion=1.6.0", stage.device);
        let texts = [stage.id, &user, stage.token.as_deref().unwrap_or_default()];
        let (flags, count) = if stage.token.is_some() { (0xC2, 3) } else { (0x82, 2) };
        assert_eq!(mqtt.0.sign_in(&connect_with(flags, 0, &texts[..count])).await, 0, "CONNACK");
        mqtt.0.subscribe(1).await;
        mqtt
    }

    async fn publish(&mut self, qos: u8, topic: &str, body: &str) {
        self.0.publish(qos, 7, topic, body).await;
    }

    /// The next PUBLISH; an acknowledgement may come before it.
    async fn reply(&mut self) -> Reply {
        loop {
            let packet = self.0.hear().await.unwrap();
            if packet.0 >> 4 != 3 {
                continue;
            }
            let Published { first, topic, id, payload, .. } = Published::read(packet);
            let text = String::from_utf8(payload).unwrap();
            assert_eq!(first >> 1 & 3, 1, "the client listens with QoS 1");
            return Reply { topic, qos: 1, id: id.unwrap(), body: Node::read(&text), text };
        }
    }
}

fn config(emulator: &Emulator, certificate: Option<&KeyedCertificate>) -> ClientConfig {
    let ca = emulator.ca_pem();
    certificate.map_or_else(|| trusting(ca), |certificate| presenting(ca, certificate))
}

fn interactions(file: &str) -> Vec<Node> {
    let path = folder().join(format!("{file}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Node::read(&text).get("interactions").items().to_vec()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/recordings/device")
}

/// The hub of the recordings of IoT Central, whose names of hubs are as long as this one.
const CENTRAL: &str = "iotc-00000000-0000-0000-0000-000000000000.azure-devices.net";
const REGISTER: &str = "$dps/registrations/PUT/iotdps-register/?$rid=";
const POLL: &str = "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=";
