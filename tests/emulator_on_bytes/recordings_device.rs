//! What devices asked the live service and were answered is asked of the emulator, over HTTPS and MQTT in
//! literal bytes, and has to be answered alike: status, topics, headers, members with their order, values,
//! and the forms of the values that differ between instances.
//!
//! The recordings and where they come from: `vectors/recordings/README.md`. Nothing of the SDK.

use std::fs;

use azure_dps_emulator::{CaCertificate, Emulator, Fault, Operation, Pki};
use azure_dps_tests::emulated::sign;
use azure_dps_tests::http_client::HttpClient;
use azure_dps_tests::mqtt_bytes::REGISTER;
use azure_dps_tests::recorded::{Node, differences, header_differences, masked_differences};
use azure_dps_tests::replay::{Mqtt, folder, interactions, replay_https, replay_mqtt};
use azure_dps_tests::scene::{CENTRAL, How, Scene};
use azure_dps_tests::soft_tpm::SoftTpm;
use azure_dps_tests::{Shown, trusting};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

#[tokio::test]
async fn a_device_with_a_key_is_answered_over_https_as_recorded() {
    let scene = Scene::new("0ne00111111", "my-symkey-device", "MyExampleHub.azure-devices.net", How::Key);
    replay_https(&scene, "https-symmetric-key-individual", 3).await;
}

#[tokio::test]
async fn a_device_with_a_certificate_is_answered_over_https_as_recorded() {
    let scene = Scene::new("0ne00111111", "my-x509-device", "MyExampleHub.azure-devices.net", How::X509);
    replay_https(&scene, "https-x509-individual", 2).await;
}

#[tokio::test]
async fn a_device_of_iot_central_is_answered_over_https_as_recorded() {
    let scene = Scene::new("0ne00000000", "2o6bjrqzry6", CENTRAL, How::Key);
    replay_https(&scene, "https-iot-central-2021", 2).await;
}

#[tokio::test]
async fn a_device_with_a_certificate_is_answered_over_mqtt_as_recorded() {
    for (file, id, hub, polls, replies) in [
        ("mqtt-x509-2020", "paho-sample-device1", "contoso.azure-devices.net", 1, 4),
        ("mqtt-x509-2023", "dev1-ecc", "example-iothub1.azure-devices.net", 0, 4),
        ("mqtt-x509-2025", "device-0001", "hub-a.azure-devices.net", 0, 1),
    ] {
        let scene = Scene { polls, ..Scene::new("0ne00000000", id, hub, How::X509) };
        replay_mqtt(&scene, file, replies).await;
    }
}

#[tokio::test]
async fn a_device_of_a_group_with_a_certificate_is_answered_over_mqtt_as_recorded() {
    let group = How::X509Group("enrolGroup");
    let scene = Scene::new("0ne00000000", "ninadps", "hubDPS.azure-devices.net", group);
    replay_mqtt(&scene, "mqtt-x509-group-2022", 2).await;
    let group = How::X509Group("00000000-0000-0000-0000-000000000001");
    let scene = Scene { polls: 1, ..Scene::new("0ne00000000", "sn0123AAAAAAAAAAAA01", CENTRAL, group) };
    replay_mqtt(&scene, "mqtt-x509-iot-central-2023", 3).await;
}

#[tokio::test]
async fn a_device_of_a_group_with_a_derived_key_is_answered_over_mqtt_as_recorded() {
    let scene = Scene { polls: 1, ..Scene::new("0ne00000000", "sample-device-01", CENTRAL, How::KeyGroup) };
    replay_mqtt(&scene, "mqtt-symmetric-key-iot-central", 3).await;
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
    let https = HttpClient::new("localhost", emulator.https_port(), trusting(emulator.ca_pem()));
    let json = "Content-Type: application/json\r\n";
    let body = json!({"registrationId": "gw-7", "tpm": keys}).to_string();
    let device = format!("{}/registrations/gw-7", emulator.id_scope());
    let register = format!("/{device}/register?api-version=2019-03-31");

    let reported = https.ask("PUT", &register, json, &body).await;

    let mut found = header_differences(
        head_only.get("headers"),
        &reported.head,
        &["strict-transport-security", "x-ms-request-id"],
    );
    assert_eq!(reported.status.to_string(), head_only.get("status").to_string());
    let reported = Node::read(&reported.text);
    found.extend(masked_differences(&Node::read(challenge.get("bodyText").text()), &reported));
    let sealed = BASE64_STANDARD.decode(reported.get("authenticationKey").text()).unwrap();
    let key = BASE64_STANDARD.encode(tpm.open(&sealed).unwrap());
    let token = format!("{json}Authorization: {}\r\n", sign(&key, &device, "registration"));
    let begun = https.ask("PUT", &register, &token, &body).await;
    let poll = format!("/{device}/operations/{}?api-version=2019-03-31", begun.operation());
    let ended = https.ask("GET", &poll, &token, "").await;
    let tpm = Node::read(&ended.text).get("registrationState").get("tpm").clone();
    found.extend(masked_differences(&Node::read(state.get("bodyText").text()), &tpm));
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
    let json = "Content-Type: application/json\r\n";
    let reported = stage.https(Some(&stranger)).ask("PUT", &stage.target("register"), json, "{}").await;
    found.extend(header_differences(no_stop.get("headers"), &reported.head, &[]));
    // Every later recording has a full stop.
    let spelled = no_stop.get("bodyText").text().replace("Invalid certificate", "Invalid certificate.");
    found.extend(differences(&Node::read(&spelled), &Node::read(&reported.text)));
    // A rejected delivery over AMQP has the same body for a description: `amqp.rs`.
    found.extend(differences(&Node::read(leaf.get("bodyText").text()), &Node::read(&reported.text)));
    let mut client = Mqtt::connect(&stage, Some(&stranger)).await;
    client.publish(1, &format!("{REGISTER}1"), "{}").await;
    let reply = client.reply().await;
    assert!(mqtt.get("transport").text().ends_with(&reply.topic), "{}", reply.topic);
    found.extend(differences(&Node::read(mqtt.get("bodyText").text()), &reply.body));

    let reported = stage.ask_own("PUT", "register", "{").await;
    let recorded = Node::read(&format!("{{{}}}", unreadable.get("bodyText").text()));
    assert_eq!(reported.get("errorCode"), recorded.get("errorCode"));
    assert!(reported.get("message").text().starts_with(recorded.get("message").text()), "{reported}");
    let reported = stage.ask_own("GET", "operations/5.none", "").await;
    let cut = operation.get("bodyText").text().replace('}', r#","timestampUtc":"2026-01-01T00:00:00Z"}"#);
    found.extend(differences(&Node::read(&cut), &reported));
    stage.emulator.inject(Fault::status(409).on(Operation::Register)).unwrap();
    let reported = stage.ask_own("PUT", "register", "{}").await;
    found.extend(differences(&Node::read(at_once.get("bodyText").text()), &reported));
    let group_body =
        json!({"enrollmentGroupId": "g", "attestation": {"type": "symmetricKey"}, "iotHubs": [CENTRAL]});
    let reported = Node::read(&stage.service("PUT", "/enrollmentGroups/g", &group_body.to_string()).await);
    let line = format!("({}) {}", reported.get("errorCode"), reported.get("message").text());
    assert_eq!(line, policy.get("bodyText").text());

    let scene = Scene::new("0ne00000000", "dev1", CENTRAL, How::X509Group("plant"));
    let stage = scene.stage().await;
    let root = CaCertificate::verified("root", &stage.pki.root.certificate_pem);
    stage.emulator.upload_ca_certificate(root).unwrap();
    stage.service("DELETE", "/enrollmentGroups/plant", "").await;
    let reported = stage.ask_own("PUT", "register", "{}").await;
    for entry in [deleted, group] {
        found.extend(differences(&Node::read(entry.get("bodyText").text()), &reported));
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
    let begun = stage.ask_own("PUT", "register", "{}").await;
    let poll = format!("operations/{}", begun.get("operationId").text());
    loop {
        let reported = stage.ask_own("GET", &poll, "").await;
        if reported.get("status").text() != "assigning" {
            return reported.get("registrationState").clone();
        }
    }
}
