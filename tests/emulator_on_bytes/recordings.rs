//! What the live service was asked and answered is asked of the emulator, in the recorded order, and has to
//! be answered alike: status, headers, members with their nulls and their order, values, and the forms of
//! the values that differ between instances.
//!
//! The recordings and where they come from: `vectors/recordings/README.md`. Literal requests; nothing of the
//! SDK.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use azure_dps_emulator::Emulator;
use azure_dps_tests::emulated::{Emulated, PRIMARY, SECONDARY, derive, sign};
use azure_dps_tests::http_client::Reply;
use azure_dps_tests::recorded::{Node, differences};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

#[tokio::test]
async fn an_empty_instance_is_listed_as_recorded() {
    replay(&["client-init-async-entra", "client-init-async-sas", "client-init-entra", "client-init-key"], 4)
        .await;
}

#[tokio::test]
async fn enrollment_groups_live_as_recorded() {
    let files = ["group-symmetric-key", "group-symmetric-key-async", "group-x509", "group-x509-async"];
    replay(&files, 32).await;
}

#[tokio::test]
async fn individual_enrollments_live_as_recorded() {
    let files = [
        "individual-symmetric-key",
        "individual-symmetric-key-async",
        "individual-tpm",
        "individual-tpm-async",
        "individual-x509",
        "individual-x509-async",
    ];
    replay(&files, 46).await;
}

#[tokio::test]
async fn bulk_operations_end_as_recorded() {
    let files = ["group-bulk", "group-bulk-async", "individual-bulk", "individual-bulk-async"];
    replay(&files, 12).await;
}

#[tokio::test]
async fn records_of_registrations_are_told_as_recorded() {
    replay(&["device-registration", "device-registration-async"], 16).await;
}

#[tokio::test]
async fn a_hundred_and_fifty_enrollments_are_listed_page_by_page_as_recorded() {
    replay(&["individual-paging"], 11).await;
}

#[test]
fn every_recording_is_replayed() {
    let files = fs::read_dir(folder()).unwrap();
    let exchanges: Vec<usize> = files.map(|file| exchanges_of(&file.unwrap().path()).len()).collect();
    assert_eq!((exchanges.len(), exchanges.iter().sum::<usize>()), (21, 4 + 32 + 46 + 12 + 16 + 11));
}

async fn replay(files: &[&str], expected: usize) {
    let mut count = 0;
    for file in files {
        let mut player = Player::start().await;
        let exchanges = exchanges_of(&folder().join(format!("{file}.json")));
        count += exchanges.len();
        for (at, exchange) in exchanges.iter().enumerate() {
            player.play(file, at, exchange).await;
        }
        player.compare_items();
        assert!(player.found.is_empty(), "{file}\n{}", player.found.join("\n"));
    }
    assert_eq!(count, expected, "exchanges were lost or added");
}

/// Plays a recording against a new instance.
struct Player {
    peer: Emulated,
    certificate: String,
    /// The tag that this instance returned for a path.
    tags: BTreeMap<String, String>,
    /// The token of this instance for a recorded one: the same place has the same token.
    tokens: BTreeMap<String, String>,
    /// The primary key that was returned last.
    primary_key: String,
    /// Items of pages that were recorded in pieces, with where; they may be on another page here.
    pieces: Vec<(String, Node)>,
    listed: Vec<Node>,
    /// In what the answers differ.
    found: Vec<String>,
}

impl Player {
    async fn start() -> Self {
        // The recorded instance had one, or its group with `static` could not have assigned the device.
        let emulator = Emulator::builder().hub("xx-cli-test-hub.azure-devices.net");
        let peer = Emulated::start(emulator).await;
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "enroll_cert");
        let certificate = BASE64_STANDARD.encode(params.self_signed(&key).unwrap().der());
        Player {
            peer,
            certificate,
            tags: BTreeMap::new(),
            tokens: BTreeMap::new(),
            primary_key: String::new(),
            pieces: Vec::new(),
            listed: Vec::new(),
            found: Vec::new(),
        }
    }

    async fn play(&mut self, file: &str, at: usize, exchange: &Node) {
        let (request, recorded) = (exchange.get("request"), exchange.get("response"));
        let (method, target) = (request.get("method").text(), request.get("path").text());
        if file == "individual-paging" && at == 2 {
            self.enroll_the_rest(request).await;
        }
        if method == "GET" && target.starts_with("/registrations/") {
            self.register(target).await;
        }
        let mut head = String::new();
        for (name, value) in request.get("headers").members() {
            let value = match name.as_str() {
                "Content-Length" => continue,
                "If-Match" => self.tags[path(target)].clone(),
                "x-ms-continuation" => self.tokens[value.text()].clone(),
                _ => value.text().to_owned(),
            };
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let body = request.get("body");
        let body = if body.is_null() { String::new() } else { self.unmasked(body) };
        let answered = self.ask(method, target, &head, &body).await;

        let mut found = Vec::new();
        let status = recorded.get("status").to_string();
        if answered.status.to_string() != status {
            found.push(format!("recorded {status}; answered {}{}", answered.head, answered.text));
        }
        self.compare_headers(recorded.get("headers"), &answered.head, &mut found);
        self.compare_bodies(recorded, &answered.text, &mut found);
        self.remember(target, &answered.text);
        self.found.extend(found.into_iter().map(|what| format!("#{at} {method} {target}: {what}")));
    }

    fn compare_headers(&mut self, recorded: &Node, head: &str, found: &mut Vec<String>) {
        let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
        let answered: BTreeMap<String, &str> =
            lines.map(|(name, value)| (name.to_lowercase(), value)).collect();
        let recorded: BTreeMap<String, &str> =
            recorded.members().iter().map(|(name, value)| (name.to_lowercase(), value.text())).collect();
        for (name, wanted) in &recorded {
            match (name.as_str(), answered.get(name)) {
                (_, None) => found.push(format!("header {name} is missing")),
                ("date", _) => {}
                ("x-ms-continuation", Some(token)) => {
                    let known =
                        self.tokens.entry((*wanted).to_owned()).or_insert_with(|| (*token).to_owned());
                    if known != token {
                        found.push(format!("the same place has the tokens {known} and {token}"));
                    }
                }
                (_, Some(value)) if value != wanted => {
                    found.push(format!("header {name}: recorded {wanted}; answered {value}"));
                }
                _ => {}
            }
        }
        // The recorder takes this one out.
        let more = answered.keys().filter(|name| !recorded.contains_key(*name) && *name != "x-ms-request-id");
        found.extend(more.map(|name| format!("header {name} was not recorded")));
    }

    fn compare_bodies(&mut self, recorded: &Node, answered: &str, found: &mut Vec<String>) {
        let body = match (recorded.get("body"), recorded.get("bodyText")) {
            (Node::Null, Node::Null) => Node::Null,
            (Node::Null, text) => Node::read(text.text()),
            (body, _) => body.clone(),
        };
        let pieces = recorded.get("bodyTextPieces").items();
        if pieces.is_empty() && body.is_null() {
            if !answered.is_empty() {
                found.push(format!("no body was recorded; answered {answered}"));
            }
            return;
        }
        let answered = Node::read(answered);
        if pieces.is_empty() {
            found.extend(differences(&sorted(&body), &sorted(&answered)));
            return;
        }
        let count = answered.items().len().to_string();
        if count != recorded.get("items").to_string() {
            found.push(format!("recorded {} items; answered {count}", recorded.get("items")));
        }
        self.listed.extend(answered.items().iter().cloned());
        for piece in pieces {
            let items = Node::read(&format!("[{}]", piece.get("text").text()));
            self.pieces.extend(items.items().iter().map(|item| (item_id(item).to_owned(), item.clone())));
        }
    }

    /// Items that were recorded in pieces, and that every page together had every record the same number of
    /// times.
    fn compare_items(&mut self) {
        for (id, piece) in &self.pieces {
            match self.listed.iter().find(|item| item_id(item) == id) {
                Some(item) => self.found.extend(differences(piece, item)),
                None => self.found.push(format!("{id} is on no page")),
            }
        }
        let ids: BTreeSet<&str> = self.listed.iter().map(item_id).collect();
        let (listings, records) = (2, 150);
        if !self.pieces.is_empty() && (ids.len(), self.listed.len()) != (records, listings * records) {
            self.found.push(format!("{} records, {} items", ids.len(), self.listed.len()));
        }
    }

    fn remember(&mut self, target: &str, answered: &str) {
        if !answered.starts_with('{') {
            return;
        }
        let body = Node::read(answered);
        if !body.get("etag").is_null() {
            self.tags.insert(path(target).to_owned(), body.get("etag").text().to_owned());
        }
        if let Node::Text(key) = body.get("symmetricKey").get("primaryKey") {
            self.primary_key.clone_from(key);
        }
    }

    /// The body as it was sent: what the recorder masked was a key, or a certificate in both places.
    fn unmasked(&self, body: &Node) -> String {
        let certificate = format!(r#"{{"certificate":"{}"}}"#, self.certificate);
        body.to_string()
            .replace(r#":"primaryKey""#, &format!(":{PRIMARY:?}"))
            .replace(r#":"secondaryKey""#, &format!(":{SECONDARY:?}"))
            .replace(
                r#""primary":{"certificate":"certificate"}"#,
                &format!(r#""primary":{certificate},"secondary":{certificate}"#),
            )
    }

    /// Four of 150 requests that differ in a number were recorded: 0, 1, 148 and 149.
    async fn enroll_the_rest(&mut self, recorded: &Node) {
        let (target, body) = (recorded.get("path").text(), recorded.get("body").to_string());
        for number in 2..148 {
            let numbered = |text: &str| text.replace("_1487cef397f", &format!("_{number}7cef397f"));
            let head = "Content-Type: application/json\r\n";
            let put = self.ask("PUT", &numbered(target), head, &numbered(&body)).await;
            assert_eq!(put.status, 200, "{}", put.head);
        }
    }

    /// The device came by MQTT, which was not recorded, with a key that was derived from that of its group.
    async fn register(&mut self, target: &str) {
        let id = path(target).strip_prefix("/registrations/").unwrap();
        let device = format!("{}/registrations/{id}", self.peer.emulator.id_scope());
        let token = sign(&derive(&self.primary_key, id), &device, "registration");
        let target = |path: &str| format!("/{device}/{path}?api-version=2021-10-01");
        let json = "Content-Type: application/json\r\n";
        let begun = self.ask_as("PUT", &target("register"), &token, json, "{}").await;
        let poll = target(&format!("operations/{}", begun.operation()));
        loop {
            let reported = self.ask_as("GET", &poll, &token, "", "").await;
            match reported.body["status"].as_str() {
                Some("assigning") => {}
                status => return assert_eq!(status, Some("assigned"), "{}", reported.text),
            }
        }
    }

    async fn ask(&self, method: &str, target: &str, head: &str, body: &str) -> Reply {
        let key = BASE64_STANDARD.encode("this-emulator-key-protects-none!");
        let token = sign(&key, "localhost", "provisioningserviceowner");
        self.ask_as(method, target, &token, head, body).await
    }

    async fn ask_as(&self, method: &str, target: &str, token: &str, head: &str, body: &str) -> Reply {
        let head = format!("Authorization: {token}\r\n{head}");
        self.peer.client.ask(method, target, &head, body).await
    }
}

/// A list in the order of the ids of its items, since that of the service is the one of its store.
fn sorted(node: &Node) -> Node {
    let mut node = node.clone();
    if let Node::List(items) = &mut node {
        items.sort_by_key(|item| item_id(item).to_owned());
    }
    node
}

fn item_id(item: &Node) -> &str {
    let names = ["registrationId", "enrollmentGroupId"];
    names.map(|name| item.get(name).text()).into_iter().find(|id| !id.is_empty()).unwrap_or_default()
}

fn path(target: &str) -> &str {
    target.split('?').next().unwrap()
}

fn exchanges_of(file: &Path) -> Vec<Node> {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    Node::read(&text).get("interactions").items().to_vec()
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/recordings/service")
}
