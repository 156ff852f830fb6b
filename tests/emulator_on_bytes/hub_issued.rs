//! Issued certificates at an emulated hub: which devices they let in, and until when.

use std::time::Duration;

use azure_dps_tests::emulated::PRIMARY;
use azure_dps_tests::hub_device::{hub_connect_bare, hub_user};
use azure_dps_tests::journal::cause;
use azure_dps_tests::mqtt_bytes::{CLEAN, connect};
use azure_dps_tests::mqtt_device::MqttDevice;
use azure_dps_tests::sas::sign;
use azure_dps_tests::site::{A, Site, hubs, on};
use azure_dps_tests::tls::presenting_chain;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::ClientConfig;
use serde_json::{Value, json};

use crate::certificates::{LATEST, issue, names, policy};

#[tokio::test]
async fn an_issued_certificate_lets_its_device_in_until_it_expires_or_is_revoked() {
    let site = Site::start(hubs().certificate_policy(policy())).await;
    let emulator = &site.peer.emulator;
    let first = certified(&site, "dev1", json!({})).await;
    let second = certified(&site, "dev2", json!({"deviceId": "machine-2"})).await;

    assert_eq!(sign_in(&site, &first, "dev1").await, 0);
    assert_eq!(sign_in(&site, &second, "machine-2").await, 0);
    assert_eq!(sign_in(&site, &second, "dev1").await, 5);
    let wanted =
        "the issued certificate is for dev2, which is assigned to device machine-2 at hub hub-a.example";
    assert!(cause(emulator).ends_with(wanted), "{}", cause(emulator));

    assert!(emulator.revoke("dev1"));
    assert_eq!(sign_in(&site, &first, "dev1").await, 5);
    assert!(cause(emulator).contains("was revoked"), "{}", cause(emulator));
    let renewed = certified(&site, "dev1", json!({})).await;
    assert_eq!(sign_in(&site, &renewed, "dev1").await, 0);
    emulator.advance_clock(Duration::from_secs(7 * 24 * 3_600 + 60));
    assert_eq!(sign_in(&site, &renewed, "dev1").await, 5);
    assert!(cause(emulator).contains("issued certificate CN=dev1 expired"), "{}", cause(emulator));

    let token = sign(PRIMARY, &format!("{A}/devices/dev1"), "");
    let mut device = MqttDevice::connect(emulator).await;
    let code = device.sign_in(&connect(CLEAN, 60, "dev1", &hub_user(A, "dev1"), &token)).await;
    assert_eq!(code, 0, "its key still lets it in");
}

/// The TLS settings of a device that has registered with a signing request over a new key.
async fn certified(site: &Site, id: &str, more: Value) -> ClientConfig {
    let mut members = on(A, names());
    members.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    site.peer.put_as(LATEST, id, members).await;
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, id);
    let csr = BASE64_STANDARD.encode(params.serialize_request(&key).unwrap().der());
    let state = issue(&site.peer, id, LATEST, &csr).await;
    let chain = state["issuedCertificateChain"].as_array().unwrap().iter();
    let chain = chain.map(|one| BASE64_STANDARD.decode(one.as_str().unwrap()).unwrap().into()).collect();
    presenting_chain(site.peer.emulator.ca_pem(), chain, &key.serialize_pem())
}

async fn sign_in(site: &Site, tls: &ClientConfig, id: &str) -> u8 {
    let mut device = MqttDevice::connect_with(&site.peer.emulator, tls.clone()).await.unwrap();
    device.sign_in(&hub_connect_bare(A, id)).await
}
