//! CONNECT at an emulated hub: who is admitted, which codes refuse the others, and what the journal says. Literal
//! packets and tokens.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use azure_dps_emulator::{CaCertificate, Emulator, Pki};
use azure_dps_tests::emulated::{PRIMARY, SECONDARY, sign};
use azure_dps_tests::hub_device::*;
use azure_dps_tests::journal::{cause, last};
use azure_dps_tests::mqtt_bytes::*;
use azure_dps_tests::mqtt_device::MqttDevice;
use azure_dps_tests::pass;
use azure_dps_tests::sas::sign_until;
use azure_dps_tests::site::{A, B, Site, hubs, on};
use azure_dps_tests::tls::presenting;
use serde_json::json;

#[tokio::test]
async fn a_device_connects_with_either_key_or_a_token_of_the_owner() {
    let site = assigned().await;
    let resource = format!("{A}/devices/dev1");
    let before = site.peer.emulator.journal().len();
    for token in [
        sign(PRIMARY, &resource, ""),
        sign(SECONDARY, &resource, ""),
        sign(&site.key(A), A, "iothubowner"),
        sign(&site.key(A), &resource, "iothubowner"),
    ] {
        for user in [
            format!("{A}/dev1/?api-version=2021-04-12"),
            format!("{A}/dev1/?api-version=2018-06-30&DeviceClientType=az%2Fb"),
            "HUB-A.example/dev1/?DeviceClientType=a/b&api-version=2025-08-01-preview".to_owned(),
        ] {
            let mut device = MqttDevice::connect(&site.peer.emulator).await;
            assert_eq!(device.sign_in(&connect(CLEAN, 60, "dev1", &user, &token)).await, 0, "{user}");
            device.say(&packet(0xC0, &[])).await;
            assert_eq!(device.hear().await, Some((0xD0, vec![])), "PINGRESP");
            device.say(&packet(0xE0, &[])).await;
            assert_eq!(device.hear().await, None);
        }
    }
    assert_eq!(site.peer.emulator.journal().len(), before, "admitted connections are not entries");
}

#[tokio::test]
async fn a_wrong_token_is_refused_with_the_code_5_and_its_cause() {
    let site = assigned().await;
    let resource = format!("{A}/devices/dev1");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let expired = sign_until(PRIMARY, &resource, i64::try_from(now).unwrap() - 60);
    for (token, wanted) in [
        (sign("AAAA", &resource, ""), "signature does not match the device's keys"),
        (sign(&site.key(B), A, "iothubowner"), "signature does not match the key of policy iothubowner"),
        (sign(PRIMARY, &resource, "device"), "the token names another policy than iothubowner"),
        (sign(PRIMARY, &format!("{A}/devices/dev2"), ""), "SAS audience is hub-a.example/devices/dev2, and"),
        (sign(PRIMARY, &format!("{B}/devices/dev1"), ""), "SAS audience is hub-b.azure-devices.net/devices"),
        (sign(PRIMARY, "0ne00EMU1A7/registrations/dev1", ""), "SAS audience is 0ne00emu1a7/registrations"),
        (expired, "the token expired 6"),
        ("x".to_owned(), "the credential is not a SharedAccessSignature"),
        (String::new(), "the CONNECT has neither a password nor a client certificate"),
    ] {
        let wanted = format!("device dev1 at hub {A}: {wanted}");
        refused(&site, "dev1", &hub_user(A, "dev1"), &token, 5, &wanted).await;
    }
}

#[tokio::test]
async fn a_user_name_that_does_not_fit_is_refused_with_its_code_and_its_cause() {
    let site = assigned().await;
    site.enroll("dev2", on(B, json!({}))).await;
    site.register("dev2").await;
    let user = |rest: &str| format!("{A}/dev1{rest}");
    for (client_id, user, code, wanted) in [
        ("dev2", hub_user(A, "dev2"), 5, "hub hub-a.example has no device dev2: it was never assigned"),
        ("dev3", hub_user(A, "dev3"), 5, "hub hub-a.example has no device dev3: it was never assigned"),
        ("DEV1", hub_user(A, "DEV1"), 5, "hub hub-a.example has no device DEV1: it was never assigned"),
        ("dev1", hub_user("else.example", "dev1"), 4, "the user name is for hub else.example, which is not"),
        ("dev1", user("/?x=1"), 4, "api-version is missing"),
        ("dev1", user(""), 4, "api-version is missing"),
        ("dev1", user("/?api-version=2016-11-14"), 4, "api-version 2016-11-14 is not supported"),
        ("dev2", hub_user(A, "dev1"), 2, "the client id is not the device id of the user name at hub"),
        ("dev1", user("/module1/?api-version=2021-04-12"), 5, "the user name is for the module module1"),
    ] {
        refused(&site, client_id, &user, &hub_token(), code, wanted).await;
    }
}

async fn refused(site: &Site, client_id: &str, user: &str, token: &str, code: u8, wanted: &str) {
    let mut device = MqttDevice::connect(&site.peer.emulator).await;
    assert_eq!(device.sign_in(&connect(CLEAN, 60, client_id, user, token)).await, code, "{wanted}");
    assert_eq!(device.hear().await, None, "the connection ends");
    let entry = last(&site.peer.emulator);
    assert_eq!((entry.method.as_str(), entry.target.as_str()), ("CONNECT", client_id));
    assert!(entry.cause.as_ref().unwrap().starts_with(wanted), "{entry}");
}

#[tokio::test]
async fn a_newer_connection_ends_the_older_one() {
    let site = assigned().await;
    let mut first = MqttDevice::at_hub(&site.peer.emulator).await;
    let mut second = MqttDevice::at_hub(&site.peer.emulator).await;

    assert_eq!(first.hear().await, None, "the older one ends");
    let wanted = format!("device dev1 at hub {A}: a newer connection has the same device id");
    assert!(cause(&site.peer.emulator).starts_with(&wanted), "{}", cause(&site.peer.emulator));
    assert_eq!(site.device(A, "dev1")["identity"]["connectionState"], "Connected");
    second.say(&packet(0xC0, &[])).await;
    assert_eq!(second.hear().await, Some((0xD0, vec![])), "the newer one stays");
}

#[tokio::test]
async fn a_refused_connection_does_not_end_the_one_of_the_device() {
    let site = assigned().await;
    let mut device = MqttDevice::at_hub(&site.peer.emulator).await;
    let mut intruder = MqttDevice::connect(&site.peer.emulator).await;
    let wrong = sign("AAAA", &format!("{A}/devices/dev1"), "");

    assert_eq!(intruder.sign_in(&connect(CLEAN, 60, "dev1", &hub_user(A, "dev1"), &wrong)).await, 5);

    device.say(&packet(0xC0, &[])).await;
    assert_eq!(device.hear().await, Some((0xD0, vec![])));
}

#[tokio::test]
async fn a_connection_ends_when_its_token_expires_by_the_clock_of_the_emulator() {
    let site = assigned().await;
    let emulator = &site.peer.emulator;
    emulator.set_clock(UNIX_EPOCH + Duration::from_secs(1_900_000_000));
    let resource = format!("{A}/devices/dev1");
    let sign_in = async |expiry| {
        let token = sign_until(PRIMARY, &resource, expiry);
        let mut device = MqttDevice::connect(emulator).await;
        let code = device.sign_in(&connect(CLEAN, 60, "dev1", &hub_user(A, "dev1"), &token)).await;
        (device, code)
    };
    assert_eq!(sign_in(1_900_000_000).await.1, 5, "expired at this second");
    let (mut device, code) = sign_in(1_900_000_600).await;
    assert_eq!(code, 0);

    emulator.advance_clock(Duration::from_secs(599));
    device.say(&packet(0xC0, &[])).await;
    assert_eq!(device.hear().await, Some((0xD0, vec![])), "one second is left");
    emulator.advance_clock(Duration::from_secs(1));

    assert_eq!(device.hear().await, None);
    assert!(
        cause(emulator).ends_with("the token of the connection has expired; connect again with a new one")
    );
    assert_eq!(site.device(A, "dev1")["identity"]["connectionState"], "Disconnected");
}

#[tokio::test]
async fn a_running_clock_ends_the_connection_too() {
    let site = assigned().await;
    let soon = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 60;
    let token = sign_until(PRIMARY, &format!("{A}/devices/dev1"), i64::try_from(soon).unwrap());
    let mut device = MqttDevice::connect(&site.peer.emulator).await;
    assert_eq!(device.sign_in(&connect(CLEAN, 60, "dev1", &hub_user(A, "dev1"), &token)).await, 0);

    site.peer.emulator.advance_clock(Duration::from_secs(58));
    assert_eq!(device.hear().await, None);

    assert!(cause(&site.peer.emulator).contains("has expired"));
}

#[tokio::test]
async fn a_device_with_a_certificate_connects_without_a_password() {
    let site = Site::start(hubs()).await;
    let pki = Pki::new(["dev1"], 0).unwrap();
    let certificates = json!({"primary": {"certificate": pki.devices[0].certificate_pem}});
    let attestation = json!({"type": "x509", "x509": {"clientCertificates": certificates}});
    site.enroll("dev1", on(A, json!({"attestation": attestation}))).await;
    assert_eq!(site.begin_with("dev1", &pki.devices[0]).await.status, 202);
    let emulator = &site.peer.emulator;
    let stranger = Pki::new(["dev1"], 0).unwrap();

    for (certificate, code) in [(&pki.devices[0], 0), (&stranger.devices[0], 5)] {
        let tls = presenting(emulator.ca_pem(), certificate);
        let mut device = MqttDevice::connect_with(emulator, tls).await.unwrap();
        assert_eq!(device.sign_in(&hub_connect_bare(A, "dev1")).await, code);
    }
    assert!(cause(emulator).contains("has neither thumbprint of the device"), "{}", cause(emulator));
    let mut device = MqttDevice::connect(emulator).await;
    assert_eq!(device.sign_in(&hub_connect_bare(A, "dev1")).await, 5);
    assert!(cause(emulator).ends_with("neither a password nor a client certificate"));
    let mut device = MqttDevice::connect(emulator).await;
    assert_eq!(device.sign_in(&hub_connect()).await, 5);
    assert!(
        cause(emulator).ends_with("it authenticates with a certificate, and the client presents a token")
    );
}

#[tokio::test]
async fn a_device_that_an_authority_signs_connects_with_its_chain() {
    let pki = Pki::new(["dev1", "dev2"], 1).unwrap();
    let root = CaCertificate::verified("root", &pki.root.certificate_pem);
    let site = Site::start(hubs().ca_certificate(root)).await;
    let emulator = &site.peer.emulator;
    let identity = json!({"deviceId": "dev1", "authentication": {"type": "certificateAuthority"}});
    assert_eq!(site.write("PUT", A, "/devices/dev1", "", &identity).await.status, 200);
    let stranger = Pki::new(["dev1"], 1).unwrap();

    for (certificate, code, wanted) in [
        (&pki.devices[0], 0, ""),
        (&pki.devices[1], 5, "the common name of the certificate is \"dev2\", not the device id"),
        (&stranger.devices[0], 5, "no verified CA certificate of the instance is at the end of the chain"),
    ] {
        let tls = presenting(emulator.ca_pem(), certificate);
        let mut device = MqttDevice::connect_with(emulator, tls).await.unwrap();
        assert_eq!(device.sign_in(&hub_connect_bare(A, "dev1")).await, code);
        if code != 0 {
            assert!(cause(emulator).contains(wanted), "{}", cause(emulator));
        }
    }
    emulator.advance_clock(Duration::from_secs(400 * 24 * 3600));
    let tls = presenting(emulator.ca_pem(), &pki.devices[0]);
    let mut device = MqttDevice::connect_with(emulator, tls).await.unwrap();
    assert_eq!(device.sign_in(&hub_connect_bare(A, "dev1")).await, 5);
    assert!(cause(emulator).contains("expired: it is valid from"), "{}", cause(emulator));
}

#[tokio::test]
async fn disabled_deleted_and_moved_devices_lose_their_connection() {
    let site = assigned().await;
    let emulator = &site.peer.emulator;
    let disable = json!({"deviceId": "dev1", "status": "disabled", "statusReason": "stolen"});

    let mut device = MqttDevice::at_hub(emulator).await;
    assert_eq!(site.write("PUT", A, "/devices/dev1", "If-Match: *\r\n", &disable).await.status, 200);
    assert_eq!(device.hear().await, None);
    assert!(cause(emulator).ends_with("a back end has disabled the device"));
    let mut device = MqttDevice::connect(emulator).await;
    assert_eq!(device.sign_in(&hub_connect()).await, 5);
    assert!(cause(emulator).ends_with("it is disabled at the hub"));

    let enable = json!({"deviceId": "dev1", "status": "enabled"});
    assert_eq!(site.write("PUT", A, "/devices/dev1", "If-Match: *\r\n", &enable).await.status, 200);
    let mut device = MqttDevice::at_hub(emulator).await;
    assert!(emulator.delete_hub_device(A, "dev1"));
    assert_eq!(device.hear().await, None);
    assert!(cause(emulator).contains("it was deleted or moved"));

    site.register("dev1").await;
    let mut device = MqttDevice::at_hub(emulator).await;
    site.enroll("dev1", on(B, json!({}))).await;
    site.register("dev1").await;
    assert_eq!(device.hear().await, None, "it moved to another hub");

    site.enroll("dev1", on(A, json!({}))).await;
    site.register("dev1").await;
    let mut device = MqttDevice::at_hub(emulator).await;
    emulator.reset();
    assert_eq!(device.hear().await, None, "the emulator was reset");
}

#[tokio::test]
async fn the_user_of_the_emulator_ends_a_connection() {
    let site = assigned().await;
    let mut device = MqttDevice::at_hub(&site.peer.emulator).await;

    assert_eq!(site.peer.emulator.disconnect(A, "dev1"), Ok(true));

    assert_eq!(device.hear().await, None);
    assert_eq!(site.peer.emulator.disconnect(A, "dev1"), Ok(false));
    let unknown = site.peer.emulator.disconnect(A, "dev9").unwrap_err().to_string();
    assert_eq!(unknown, format!("device dev9 is not registered at hub {A}: let it register first"));
    let unknown = site.peer.emulator.disconnect("x", "dev1").unwrap_err().to_string();
    assert_eq!(unknown, "hub x is not linked");
}

#[tokio::test]
async fn silence_ends_a_connection_also_if_the_hub_has_much_to_send() {
    let site = assigned().await;
    let emulator: &Emulator = &site.peer.emulator;
    let mut device = MqttDevice::connect(emulator).await;
    let connect = connect(CLEAN, 60, "dev1", &hub_user(A, "dev1"), &hub_token());
    assert_eq!(device.sign_in(&connect).await, 0);
    device.listen(DESIRED, 0).await;

    for n in 0..3 {
        emulator.set_desired(A, "dev1", json!({"n": n})).unwrap();
        assert!(device.hear().await.is_some());
        pass(Duration::from_secs(30)).await;
    }

    assert_eq!(device.hear().await, None);
    assert!(cause(emulator).contains("no packet came for 90s, which is 1.5 times the keep-alive"));
}
