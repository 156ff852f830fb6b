//! Certificates for signing requests: which devices get one, in which answers, and for how long it is good.

use std::time::Duration;

use azure_dps_emulator::{CertificatePolicy, Emulator, EmulatorBuilder, Pki};
use azure_dps_tests::amqp_device::{AmqpDevice, data, poll, register, value};
use azure_dps_tests::dev1;
use azure_dps_tests::emulated::Emulated;
use azure_dps_tests::http_client::HttpClient;
use azure_dps_tests::mqtt_bytes::CLEAN;
use azure_dps_tests::mqtt_device::MqttDevice;
use azure_dps_tests::openssl::OpenSsl;
use azure_dps_tests::tls::presenting;
use azure_dps_tests::tpm_device::{self, SCOPED, TPM, TpmDevice};
use azure_dps_tests::webhook::{Act, Webhook};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::tokens::DEV1;

pub(crate) const LATEST: &str = "2026-11-01";
const PREVIEW: &str = "2025-07-01-preview";
pub(crate) const RSA: [&str; 2] = ["RSA", "rsa_keygen_bits:2048"];
pub(crate) const P256: [&str; 2] = ["EC", "ec_paramgen_curve:P-256"];
pub(crate) const P384: [&str; 2] = ["EC", "ec_paramgen_curve:P-384"];

#[tokio::test]
async fn requests_of_openssl_get_chains_that_openssl_verifies_over_https() {
    let Some(openssl) = OpenSsl::start() else { return };
    let peer = start(policy().with_root()).await;

    for (key, algorithm) in [(RSA, "rsaEncryption"), (P256, "NIST CURVE: P-256"), (P384, "NIST CURVE: P-384")]
    {
        let state = issue(&peer, "dev1", LATEST, &openssl.request("dev1", key)).await;

        let chain = chain(&state);
        assert_eq!(chain.len(), 3, "{state}");
        openssl.verify(&chain, &root(&peer.emulator));
        let leaf = openssl.leaf();
        for wanted in
            [algorithm, "Subject: CN = dev1\n", "CA:FALSE", "TLS Web Client Authentication", "2.999.1:"]
        {
            assert!(leaf.contains(wanted), "{wanted}: {leaf}");
        }
    }
}

#[tokio::test]
async fn requests_of_openssl_get_chains_that_openssl_verifies_over_mqtt() {
    let Some(openssl) = OpenSsl::start() else { return };
    let emulator = dev1::start_with(dev1_with_policy()).await;

    for key in [RSA, P256, P384] {
        let user = dev1::MQTT_USER.replace("2019-03-31", LATEST);
        let mut device = MqttDevice::signed_in(&emulator, CLEAN, 0, &user, dev1::NODE).await;
        // The unified C client sends no registration id.
        let body = json!({"csr": openssl.request("dev1", key)}).to_string();
        let state = device.register(1, &body, "").await.unwrap();

        let chain = chain(&state);
        assert_eq!(chain.len(), 2, "{state}");
        openssl.verify(&chain, &root(&emulator));
    }
}

#[tokio::test]
async fn a_device_gets_its_chain_over_amqp() {
    let emulator = dev1::start_with(dev1_with_policy()).await;
    let mut device = AmqpDevice::signed_in(&emulator, dev1::NODE).await;
    let address = format!("amqps://localhost/{}", dev1::DEV1);
    device.attach_as(&address, LATEST).await;

    let body = json!({"csr": csr("dev1")}).to_string();
    let operation = device.ask(register(), Some("1"), data(&body)).await.unwrap().operation();
    let state = loop {
        let reply = device.ask(poll(&operation), Some("2"), value("")).await.unwrap();
        if reply.body["status"] != "assigning" {
            break reply.body["registrationState"].clone();
        }
        assert!(reply.body["registrationState"].get("issuedCertificateChain").is_none());
    };

    assert_eq!(emulator.check_issued_certificate(&chain(&state)[0]).unwrap(), "dev1");
    device.leave().await;
}

#[tokio::test]
async fn only_the_final_answers_of_one_operation_have_its_chain() {
    let peer = Emulated::start(Emulator::builder().polls(2).certificate_policy(policy())).await;
    peer.put_as(LATEST, "dev1", names()).await;
    let operation = peer.begin("dev1", LATEST, json!({"csr": csr("dev1")})).await;

    for _ in 0..2 {
        let assigning = peer.poll("dev1", LATEST, &operation).await;
        assert_eq!(assigning["registrationState"], json!({"registrationId": "dev1", "status": "assigning"}));
    }
    let first = peer.poll("dev1", LATEST, &operation).await;
    assert_eq!(peer.poll("dev1", LATEST, &operation).await, first, "the same chain again");
    let first_chain = chain(&first["registrationState"]);
    let older = peer.poll("dev1", "2021-10-01", &operation).await;
    assert!(older["registrationState"].get("issuedCertificateChain").is_none(), "{older}");
    let looked_up = peer.device("POST", "dev1", DEV1, "").await;
    assert!(looked_up.status == 200 && looked_up.body.get("issuedCertificateChain").is_none());
    let record = peer.service("GET", "/registrations/dev1", "").await.body;
    assert!(record.get("issuedCertificateChain").is_none(), "{record}");

    let again = peer.begin("dev1", LATEST, json!({"csr": csr("dev1")})).await;
    let second = chain(&peer.finish("dev1", LATEST, &again).await);
    assert_ne!(second[0], first_chain[0], "a new certificate");
    assert_eq!(second[1..], first_chain[1..]);
    let earlier = peer.poll("dev1", LATEST, &operation).await;
    assert!(earlier["registrationState"].get("issuedCertificateChain").is_none(), "of another request");
    let without = peer.begin("dev1", LATEST, json!({})).await;
    let state = peer.finish("dev1", LATEST, &without).await;
    assert!(state.get("issuedCertificateChain").is_none(), "no csr, no certificate");
}

#[tokio::test]
async fn a_registration_that_a_webhook_decides_has_its_chain() {
    let hub = "hub.example";
    let hook = Webhook::start(move |_| Act::Answer(200, json!({"iotHubHostName": hub}))).await;
    let peer = Emulated::start(Emulator::builder().hub(hub).certificate_policy(policy())).await;
    let url = format!("http://{}/pick", hook.address);
    let mut members = names();
    members["allocationPolicy"] = "custom".into();
    members["customAllocationDefinition"] = json!({"webhookUrl": url, "apiVersion": "2021-10-01"});
    peer.put_as(LATEST, "dev1", members).await;

    let state = issue(&peer, "dev1", LATEST, &csr("dev1")).await;

    assert_eq!((&state["assignedHub"], chain(&state).len()), (&json!(hub), 2));
    assert!(hook.asked()[0].body["deviceRuntimeContext"].get("csr").is_none());
}

#[tokio::test]
async fn devices_of_a_group_and_clients_of_the_preview_get_chains_too() {
    let peer = start(policy()).await;
    let mut group = json!({"enrollmentGroupId": "plant", "attestation": dev1::keys()});
    group.as_object_mut().unwrap().extend(names().as_object().unwrap().clone());
    let path = format!("/enrollmentGroups/plant?api-version={LATEST}");
    assert_eq!(peer.ask("PUT", &path, "", &group.to_string()).await.status, 200);

    assert_eq!(chain(&issue(&peer, "sensor-042", LATEST, &csr("sensor-042")).await).len(), 2);

    peer.put_as(PREVIEW, "dev2", json!({"credentialPolicyName": "sensors"})).await;
    for version in [PREVIEW, LATEST, "2026-11-02-preview"] {
        assert_eq!(chain(&issue(&peer, "dev2", version, &csr("dev2")).await).len(), 2, "{version}");
    }
}

#[tokio::test]
async fn devices_with_certificates_and_tpms_get_chains_too() {
    let pki = Pki::new(["dev1"], 0).unwrap();
    let mut enrollment = json!({"registrationId": "dev1", "attestation": {"type": "x509", "x509": {
        "clientCertificates": {"primary": {"certificate": pki.devices[0].certificate_pem}},
    }}});
    enrollment.as_object_mut().unwrap().extend(names().as_object().unwrap().clone());
    let seed = json!({"enrollments": [enrollment]}).to_string();
    let emulator = Emulator::builder().seed_json(seed).certificate_policy(policy()).start().await.unwrap();
    let trust = presenting(emulator.ca_pem(), &pki.devices[0]);
    let client = HttpClient::new("localhost", emulator.https_port(), trust);
    let path = format!("/{}", dev1::DEV1);
    let json = "Content-Type: application/json\r\n";
    let body = json!({"csr": csr("dev1")}).to_string();
    let begun = client.ask("PUT", &format!("{path}/register?api-version={LATEST}"), json, &body).await;
    let operation = format!("{path}/operations/{}?api-version={LATEST}", begun.operation());
    let state = client.ask("GET", &operation, json, "").await.body["registrationState"].take();
    assert_eq!((&state["x509"], chain(&state).len()), (&json!({}), 2));

    let device = TpmDevice::with(tpm_device::seeded().certificate_policy(policy())).await;
    device.enroll_as(LATEST, &TPM, names()).await;
    let key = device.challenged(&TPM).await;
    let head = tpm_device::authorization(&tpm_device::token(&key, SCOPED));
    let path = "/0ne00EMU1A7/registrations/gw-7";
    let body = json!({"csr": csr("gw-7")}).to_string();
    let begun = device.send("PUT", &format!("{path}/register?api-version={LATEST}"), &head, &body).await;
    let operation = format!("{path}/operations/{}?api-version={LATEST}", begun.operation());
    assert_eq!(device.send("GET", &operation, &head, "").await.status, 202);
    let state = device.send("GET", &operation, &head, "").await.body["registrationState"].take();
    assert!(state["tpm"]["authenticationKey"].is_string());
    assert_eq!(device.emulator.check_issued_certificate(&chain(&state)[0]).unwrap(), "gw-7");
}

#[tokio::test]
async fn a_certificate_is_issued_when_the_assignment_is_first_shown() {
    let builder = Emulator::builder().retry_after(3_600).certificate_policy(policy());
    let peer = Emulated::start(builder).await;
    peer.put_as(LATEST, "dev1", names()).await;
    let operation = peer.begin("dev1", LATEST, json!({"csr": csr("dev1")})).await;

    assert!(peer.emulator.revoke("dev1"));
    peer.emulator.advance_clock(Duration::from_secs(30 * 24 * 3_600));

    let state = peer.finish("dev1", LATEST, &operation).await;
    assert_eq!(peer.emulator.check_issued_certificate(&chain(&state)[0]).unwrap(), "dev1");
}

#[tokio::test]
async fn a_reset_restores_the_policies_of_the_start_and_forgets_revocations() {
    let peer = Emulated::start(Emulator::builder().certificate_policy(policy())).await;
    peer.put_as(LATEST, "dev1", names()).await;
    let certificate = chain(&issue(&peer, "dev1", LATEST, &csr("dev1")).await).remove(0);
    let (policies, pem) = (peer.emulator.certificate_policies(), peer.emulator.issuing_ca_pem());
    assert!(peer.emulator.revoke("dev1"));
    assert!(peer.emulator.delete_certificate_policy("plant-north", "plant-ca", "sensors"));
    peer.emulator.set_certificate_policy(CertificatePolicy::new("abc", "abc", "abc").unwrap());

    peer.emulator.reset();

    assert_eq!((peer.emulator.certificate_policies(), peer.emulator.issuing_ca_pem()), (policies, pem));
    assert!(peer.emulator.check_issued_certificate(&certificate).is_ok());
}

#[tokio::test]
async fn without_a_policy_a_device_is_assigned_without_a_certificate_and_the_journal_says_why() {
    let peer = start(policy()).await;
    let mut unknown = names();
    unknown["certificatePolicyName"] = "cameras".into();
    for (members, why) in [
        (json!({}), "the enrollment names no certificate policy"),
        (
            unknown,
            "the emulator has no certificate policy plant-north/Plant-CA/cameras; it has plant-north/plant-ca/sensors",
        ),
    ] {
        let id = "dev9";
        peer.put_as(LATEST, id, members).await;
        let operation = peer.begin(id, LATEST, json!({"csr": csr(id)})).await;
        let warning = peer.emulator.journal().pop().unwrap().warning.unwrap();
        assert_eq!(warning, format!("no certificate is issued for the csr: {why}"));
        let state = peer.finish(id, LATEST, &operation).await;
        assert_eq!(state["status"], "assigned");
        assert!(state.get("issuedCertificateChain").is_none());
    }
}

#[tokio::test]
async fn members_are_known_to_their_api_versions_only() {
    let peer = start(policy()).await;
    for (version, members, wanted) in [
        (
            "2021-10-01",
            names(),
            "api-version 2021-10-01 does not know namespaceName: it is known from 2026-11-01 on",
        ),
        (PREVIEW, names(), "api-version 2025-07-01-preview does not know namespaceName: "),
        (
            LATEST,
            json!({"credentialPolicyName": "a"}),
            "api-version 2026-11-01 does not know credentialPolicyName: ",
        ),
        (
            LATEST,
            json!({"namespaceName": "plant-north", "certificatePolicyName": "sensors"}),
            "certificateAuthorityName is missing: namespaceName, certificateAuthorityName, \
             certificatePolicyName belong together",
        ),
    ] {
        let refused = peer.try_put_as(version, "dev8", members.clone()).await;
        assert_eq!((refused.status, refused.code()), (400, 400_000), "{version}");
        assert!(peer.cause().starts_with(wanted), "{}", peer.cause());
        let mut item = members;
        item.as_object_mut().unwrap().extend([("registrationId".to_owned(), "dev8".into())]);
        item["attestation"] = dev1::keys();
        let bulk = json!({"mode": "create", "enrollments": [item]});
        let answer = peer.bulk(&format!("/enrollments?api-version={version}"), bulk).await.body;
        assert_eq!(answer["errors"][0]["errorCode"], 400_000, "{answer}");
    }
    peer.put_as(LATEST, "dev1", names()).await;
    for (version, is_known) in [("2021-10-01", false), (PREVIEW, false), (LATEST, true)] {
        let read = peer.service("GET", &format!("/enrollments/dev1?api-version={version}"), "").await.body;
        assert_eq!(read.get("namespaceName").is_some(), is_known, "{version}: {read}");
    }

    let refused = peer.device("PUT", "dev1/register", DEV1, &json!({"csr": csr("dev1")}).to_string()).await;
    assert_eq!((refused.status, refused.code()), (400, 400_000));
    assert_eq!(peer.cause(), "api-version 2019-03-31 does not know csr: it is known from 2025-07-01 on");
}

#[tokio::test]
async fn a_loose_emulator_accepts_partial_references_and_ignores_members_of_other_api_versions() {
    let peer = Emulated::start(Emulator::builder().loose().certificate_policy(policy())).await;
    let partial = json!({"namespaceName": "plant-north", "certificatePolicyName": "sensors"});

    peer.put_as(LATEST, "dev1", partial).await;
    let ignored = peer.device("PUT", "dev1/register", DEV1, &json!({"csr": csr("dev1")}).to_string()).await;
    let warning = peer.emulator.journal().pop().unwrap().warning;
    assert_eq!(
        (ignored.status, warning.as_deref()),
        (202, Some("ignored, because api-version 2019-03-31 does not know it: csr"))
    );
    peer.begin("dev1", LATEST, json!({"csr": csr("dev1")})).await;
    assert_eq!(
        peer.emulator.journal().pop().unwrap().warning.unwrap(),
        "no certificate is issued for the csr: the certificate policy of the enrollment is incomplete: \
         certificateAuthorityName is missing"
    );
}

#[tokio::test]
async fn a_certificate_is_good_until_it_expires_or_is_revoked() {
    let peer = Emulated::start(Emulator::builder().manage_port(0).certificate_policy(policy())).await;
    peer.put_as(LATEST, "dev1", names()).await;
    let certificate = chain(&issue(&peer, "dev1", LATEST, &csr("dev1")).await).remove(0);
    assert_eq!(peer.emulator.check_issued_certificate(&certificate).unwrap(), "dev1");

    assert_eq!(peer.manage("POST", "/revoke", r#"{"registrationId":"DEV1"}"#).await.0, 204);
    let revoked = peer.emulator.check_issued_certificate(&certificate).unwrap_err().to_string();
    assert!(revoked.contains("CN=dev1 was revoked"), "{revoked}");
    let certificate = chain(&issue(&peer, "dev1", LATEST, &csr("dev1")).await).remove(0);
    assert!(peer.emulator.check_issued_certificate(&certificate).is_ok(), "a new one is good");
    peer.emulator.advance_clock(Duration::from_secs(7 * 24 * 3_600 - 60));
    assert!(peer.emulator.check_issued_certificate(&certificate).is_ok());
    peer.emulator.advance_clock(Duration::from_secs(120));
    let expired = peer.emulator.check_issued_certificate(&certificate).unwrap_err().to_string();
    assert!(expired.contains("issued certificate CN=dev1 expired"), "{expired}");
    let certificate = chain(&issue(&peer, "dev1", LATEST, &csr("dev1")).await).remove(0);
    assert!(peer.emulator.check_issued_certificate(&certificate).is_ok(), "issued at the clock's time");

    assert!(peer.emulator.revoke("dev1") && !peer.emulator.revoke("dev2"));
    assert_eq!(peer.manage("POST", "/revoke", r#"{"registrationId":"dev2"}"#).await.0, 404);
    for body in ["", "[]", "{}", r#"{"registrationId":7}"#, r#"{"registrationId":"dev1","reason":"lost"}"#] {
        assert_eq!(peer.manage("POST", "/revoke", body).await.0, 400, "{body}");
    }
}

#[tokio::test]
async fn policies_can_be_managed_while_the_emulator_runs() {
    let peer = Emulated::start(Emulator::builder().manage_port(0)).await;
    let path = "/certificate-policies/plant-north/plant-ca/sensors";
    peer.put_as(LATEST, "dev1", names()).await;

    assert_eq!(peer.manage("GET", "/certificate-policies", "").await, (200, json!([])));
    assert_eq!(peer.manage("PUT", path, r#"{"days":7,"keys":["p256"],"root":true}"#).await.0, 204);
    let shown = json!({
        "namespaceName": "plant-north", "certificateAuthorityName": "plant-ca", "certificatePolicyName": "sensors",
        "days": 7, "keys": ["p256"], "root": true,
    });
    assert_eq!(peer.manage("GET", "/certificate-policies", "").await, (200, json!([shown])));
    assert_eq!(peer.emulator.certificate_policies(), json!([shown]));
    assert_eq!(chain(&issue(&peer, "dev1", LATEST, &csr("dev1")).await).len(), 3);
    for (method, path, body, status) in [
        ("PUT", path, r#"{"days":91}"#, 400),
        ("PUT", path, r#"{"keys":["ed25519"]}"#, 400),
        ("PUT", path, r#"{"keys":[]}"#, 400),
        ("PUT", path, r#"{"root":"yes"}"#, 400),
        ("PUT", path, r#"{"validity":7}"#, 400),
        ("PUT", "/certificate-policies/PLANT/plant-ca/sensors", "{}", 400),
        ("POST", path, "{}", 405),
        ("DELETE", "/certificate-policies/plant-north/plant-ca/cameras", "", 404),
        ("DELETE", path, "", 204),
        ("DELETE", path, "", 404),
    ] {
        assert_eq!(peer.manage(method, path, body).await.0, status, "{method} {path} {body}");
    }
    peer.emulator.set_certificate_policy(policy());
    assert!(peer.emulator.delete_certificate_policy("plant-north", "plant-ca", "sensors"));
}

#[tokio::test]
async fn the_issuing_authority_is_apart_from_the_one_of_tls_and_is_kept_in_the_directory() {
    let directory = std::env::temp_dir().join(format!("issuing-ca-dir-{}", std::process::id()));
    let kept = || Emulator::builder().ca_dir(&directory).manage_port(0).certificate_policy(policy());
    let first = Emulated::start(kept()).await;
    first.put_as(LATEST, "dev1", names()).await;
    let certificate = chain(&issue(&first, "dev1", LATEST, &csr("dev1")).await).remove(0);
    let pem = first.emulator.issuing_ca_pem();
    let tls: Vec<_> = certificates(first.emulator.ca_pem());
    assert!(certificates(&pem).len() == 2 && !certificates(&pem).iter().any(|one| tls.contains(one)));
    let port = first.emulator.manage_port().unwrap();
    let reply =
        azure_dps_tests::http_client::ask_in_clear(port, "GET", "/issuing-ca.pem", "Host: localhost\r\n", "");
    assert_eq!(reply.await.text, pem);
    drop(first);
    #[cfg(unix)]
    for key in ["ca-key.pem", "issuing-ca-key.pem"] {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(directory.join(key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }

    let second = Emulated::start(kept()).await;

    assert_eq!(second.emulator.issuing_ca_pem(), pem);
    assert_eq!(second.emulator.check_issued_certificate(&certificate).unwrap(), "dev1");
    std::fs::remove_dir_all(&directory).unwrap();
}

#[tokio::test]
async fn the_connection_profile_is_for_clients_of_its_preview() {
    let peer = Emulated::start(Emulator::builder().connection_profile("mqttV5")).await;
    peer.enroll("dev1", json!({})).await;
    for (version, profile) in
        [("2021-10-01", Value::Null), (LATEST, Value::Null), ("2026-11-02-preview", json!("mqttV5"))]
    {
        assert_eq!(peer.register_as("dev1", version).await["connectionProfile"], profile, "{version}");
        let record =
            peer.service("GET", &format!("/registrations/dev1?api-version={version}"), "").await.body;
        assert_eq!(record["connectionProfile"], profile, "{version}");
    }
}

/// An emulator with a policy to which `dev1` refers.
async fn start(policy: CertificatePolicy) -> Emulated {
    let peer = Emulated::start(Emulator::builder().certificate_policy(policy)).await;
    peer.put_as(LATEST, "dev1", names()).await;
    peer
}

pub(crate) fn dev1_with_policy() -> EmulatorBuilder {
    let mut enrollment = dev1::enrollment();
    enrollment.as_object_mut().unwrap().extend(names().as_object().unwrap().clone());
    let seed = json!({"enrollments": [enrollment]}).to_string();
    Emulator::builder().seed_json(seed).certificate_policy(policy())
}

pub(crate) fn policy() -> CertificatePolicy {
    CertificatePolicy::new("plant-north", "plant-ca", "sensors").unwrap().with_days(7).unwrap()
}

/// The members that refer to the policy; all names but that of the namespace are case-insensitive.
pub(crate) fn names() -> Value {
    json!({
        "namespaceName": "plant-north", "certificateAuthorityName": "Plant-CA", "certificatePolicyName": "sensors",
    })
}

pub(crate) async fn issue(peer: &Emulated, id: &str, api_version: &str, csr: &str) -> Value {
    let operation = peer.begin(id, api_version, json!({"registrationId": id, "csr": csr})).await;
    peer.finish(id, api_version, &operation).await
}

fn chain(state: &Value) -> Vec<String> {
    let chain = state["issuedCertificateChain"].as_array().unwrap_or_else(|| panic!("{state}"));
    chain.iter().map(|one| one.as_str().unwrap().to_owned()).collect()
}

fn root(emulator: &Emulator) -> String {
    let pem = emulator.issuing_ca_pem();
    pem[pem.rfind("-----BEGIN").unwrap()..].to_owned()
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
}

/// A request over a new P-256 key.
pub(crate) fn csr(name: &str) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    BASE64_STANDARD.encode(params.serialize_request(&KeyPair::generate().unwrap()).unwrap().der())
}
