//! Plays what devices sent to the live service against an emulator, and compares the answers with the
//! recorded ones.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use azure_dps_emulator::{KeyedCertificate, Pki};

use crate::mqtt_bytes::{POLL, Published, REGISTER, connect_with};
use crate::mqtt_device::MqttDevice;
use crate::recorded::{Node, differences, header_differences};
use crate::scene::{JSON, Scene, Stage};

/// Replays a recording of HTTPS with so many exchanges.
pub async fn replay_https(scene: &Scene, file: &str, expected: usize) {
    let stage = scene.stage().await;
    let https = stage.https(stage.certificate());
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
            let begun = stage.ask_own("PUT", "register", "{}").await;
            operations.insert(recorded_id.to_owned(), begun.get("operationId").text().to_owned());
        }
        let path = operations.get(recorded_id).map_or(path.to_owned(), |own| path.replace(recorded_id, own));
        let reply = https.ask(method, &path, &format!("{JSON}{}", stage.authorization()), &body).await;
        let reported = Node::read(&reply.text);
        operations.insert(recorded_id.to_owned(), reported.get("operationId").text().to_owned());
        let status = response.get("status");
        if !status.is_null() && reply.status.to_string() != status.to_string() {
            found.push(format!("{method} {path}: recorded {status}; answered {}", reply.head));
        }
        let headers = response.get("headers");
        // Where the first lines of a head are cut, or all of it, no header proves to be absent.
        let cut = headers.get("Date").is_null();
        found.extend(header_differences(headers, &reply.head, if cut { &["*"] } else { &[] }));
        found.extend(differences(&answer, &reported));
    }
    assert_eq!(recorded.len(), expected, "exchanges were lost or added");
    assert!(found.is_empty(), "{file}\n{}", found.join("\n"));
}

/// Replays a recording of MQTT with so many replies.
pub async fn replay_mqtt(scene: &Scene, file: &str, expected: usize) {
    let stage = scene.stage().await;
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

/// A device at the MQTT port.
#[derive(Debug)]
pub struct Mqtt(MqttDevice);

#[derive(Debug)]
pub struct Reply {
    pub topic: String,
    pub qos: u8,
    pub id: u16,
    pub text: String,
    pub body: Node,
}

impl Mqtt {
    /// A connection as every recording begins: clean, without a keep-alive, and listening to replies with QoS
    /// 1.
    pub async fn connect(stage: &Stage, certificate: Option<&KeyedCertificate>) -> Self {
        let config = stage.tls(certificate);
        let mut mqtt = Mqtt(MqttDevice::connect_with(&stage.emulator, config).await.unwrap());
        let user = format!("{}/api-version=2019-03-31&ClientVersion=1.6.0", stage.device);
        let texts = [stage.id, &user, stage.token.as_deref().unwrap_or_default()];
        let (flags, count) = if stage.token.is_some() { (0xC2, 3) } else { (0x82, 2) };
        assert_eq!(mqtt.0.sign_in(&connect_with(flags, 0, &texts[..count])).await, 0, "CONNACK");
        mqtt.0.subscribe(1).await;
        mqtt
    }

    pub async fn publish(&mut self, qos: u8, topic: &str, body: &str) {
        self.0.publish(qos, 7, topic, body).await;
    }

    /// The next PUBLISH; an acknowledgement may come before it.
    pub async fn reply(&mut self) -> Reply {
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

/// What a recording consists of.
pub fn interactions(file: &str) -> Vec<Node> {
    let path = folder().join(format!("{file}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Node::read(&text).get("interactions").items().to_vec()
}

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/recordings/device")
}
