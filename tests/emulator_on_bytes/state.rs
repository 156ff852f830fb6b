//! The state as a whole: everything comes back, and works as before.

use std::time::Duration;

use azure_dps_emulator::{
    AccessPolicy, CaCertificate, CloudMessage, DefaultAllocation, Emulator, EmulatorBuilder, EntraRole,
    Fault, Operation, Pki, Right, StartError, StateError,
};
use azure_dps_tests::emulated::{ALL, Emulated, PRIMARY, derive, sign};
use azure_dps_tests::http_client::ask_in_clear;
use azure_dps_tests::hub_device::{EVENTS, GET_TWIN, MESSAGES, REPORT, TWIN_REPLIES, assigned_with};
use azure_dps_tests::mqtt_device::MqttDevice;
use azure_dps_tests::site::{A, Site, hubs, on};
use azure_dps_tests::tpm_device::{self, SCOPED, TPM, TpmDevice, opened, token};
use azure_dps_tests::x509_device;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::certificates::{LATEST, csr, issue, names, policy};

#[tokio::test]
async fn a_state_goes_to_another_emulator_and_comes_back_the_same() {
    let (site, _) = filled(builder()).await;
    let text = get(&site.peer).await;
    let other = Site::start(hubs().manage_port(0)).await;

    assert_eq!(other.peer.manage("PUT", "/state", &text).await, (204, Value::Null));

    assert_eq!(get(&other.peer).await, text);
    assert_eq!(shown(&other.peer.emulator), shown(&site.peer.emulator));
    for path in ["/enrollments/dev1", "/enrollments/leaf", "/enrollmentGroups/plant", "/registrations/dev1"] {
        assert_eq!(service(&other, "GET", path).await, service(&site, "GET", path).await, "{path}");
    }
    let [before, after] = [&site, &other].map(|site| site.peer.ask("POST", "/enrollments/query", "", ALL));
    assert_eq!(after.await.text, before.await.text, "in the same order");
    assert!(other.peer.emulator.journal().iter().all(|entry| entry.target != "/state"));
}

#[tokio::test]
async fn devices_and_clients_of_a_restored_emulator_go_on() {
    let (site, pki) = filled(builder()).await;
    let etag = site.peer.service("GET", "/enrollments/dev1", "").await.body["etag"].clone();
    let reader = site.peer.emulator.connection_string("reader").unwrap();
    let state = site.peer.emulator.state_json().unwrap();
    drop(site);

    let restored = Site::start(Emulator::builder().state_json(&state).manage_port(0)).await;

    let emulator = &restored.peer.emulator;
    assert_eq!(emulator.hubs(), hubs().start().await.unwrap().hubs());
    let key = |text: &str| text.rsplit_once("SharedAccessKey=").unwrap().1.to_owned();
    assert_eq!(key(&emulator.connection_string("reader").unwrap()), key(&reader), "a generated key");
    assert!(
        emulator.ca_pem() == serde_json::from_str::<Value>(&state).unwrap()["serverAuthority"]["certificate"]
    );

    let mut device = MqttDevice::at_hub(emulator).await;
    device.listen(TWIN_REPLIES, 0).await;
    let twin = device.request(&format!("{GET_TWIN}1"), "").await;
    assert_eq!(twin.body["desired"], json!({"interval": 5, "$version": 2}));
    assert_eq!(twin.body["reported"], json!({"firmware": "1.2", "$version": 2}));
    assert_eq!(emulator.telemetry(A, "dev1").len(), 1);
    let next = format!("{EVENTS}$.mid=2");
    device.publish_acknowledged(7, &next, "second").await;
    assert_eq!(emulator.telemetry(A, "dev1")[1].sequence, 2, "numbers go on");
    device.listen(MESSAGES, 0).await;
    assert_eq!(device.published().await.payload, b"open the valve");

    let delete_if =
        async |tag: &str| restored.peer.service_if("DELETE", "/enrollments/dev1", tag, "").await.status;
    assert_eq!(delete_if("\"AAAAAA==\"").await, 412);
    assert_eq!(x509_device::register(emulator, "leaf", &pki.devices[0]).await.unwrap()["status"], "assigned");
    assert_eq!(
        restored.peer.register("sensor-1", json!({})).await["deviceId"],
        "sensor-1",
        "by its group's key"
    );
    assert_eq!(delete_if(etag.as_str().unwrap()).await, 204);

    let certificate = issue(&restored.peer, "issued", LATEST, &csr("issued")).await;
    let leaf = certificate["issuedCertificateChain"][0].as_str().unwrap();
    assert_eq!(emulator.check_issued_certificate(leaf).unwrap(), "issued");
    let fault = restored.peer.service("GET", "/enrollments/leaf", "").await;
    assert_eq!(fault.status, 200, "the fault waits for register requests of another device");
}

#[tokio::test]
async fn a_revoked_certificate_stays_revoked_and_a_good_one_good() {
    let peer = Emulated::start(builder()).await;
    let mut leaves = Vec::new();
    for id in ["good", "bad"] {
        peer.put_as(LATEST, id, names()).await;
        let state = issue(&peer, id, LATEST, &csr(id)).await;
        leaves.push(state["issuedCertificateChain"][0].as_str().unwrap().to_owned());
    }
    assert!(peer.emulator.revoke("bad"));

    let restored = Emulator::builder().state_json(peer.emulator.state_json().unwrap()).start().await.unwrap();

    assert_eq!(restored.check_issued_certificate(&leaves[0]).unwrap(), "good");
    assert!(restored.check_issued_certificate(&leaves[1]).unwrap_err().to_string().contains("was revoked"));
    assert_eq!(restored.issuing_ca_pem(), peer.emulator.issuing_ca_pem());
}

#[tokio::test]
async fn a_tpm_answers_the_challenge_of_an_earlier_emulator_and_keeps_its_hub_key() {
    let first = TpmDevice::with(tpm_device::seeded()).await;
    let hub_key = first.hub_key(&TPM).await;
    let challenge = first.challenged(&TPM).await;

    let restored =
        TpmDevice::with(Emulator::builder().state_json(first.emulator.state_json().unwrap())).await;

    let state = restored.register(&token(&challenge, SCOPED)).await;
    assert_eq!(opened(&TPM, state["tpm"]["authenticationKey"].as_str().unwrap()), hub_key);
}

#[tokio::test]
async fn what_is_not_a_state_of_this_emulator_changes_nothing() {
    let (site, _) = filled(builder()).await;
    let text = get(&site.peer).await;
    let foreign = async |builder: EmulatorBuilder| builder.start().await.unwrap().state_json().unwrap();
    let others = vec![
        (
            foreign(hubs().id_scope("0ne00OTHER")).await,
            409,
            "the state cannot be restored here: it is of ID scope 0ne00OTHER, and this emulator serves 0ne00EMU1A7: ",
        ),
        (
            foreign(Emulator::builder().hub("c.example")).await,
            409,
            "the state cannot be restored here: its linked hubs are c.example, and those of this emulator are ",
        ),
    ];

    let ours = [torn(&text), changed(&text), unreachable(&text), with_other_policies(&text)];
    for (body, status, wanted) in ours.concat().into_iter().chain(others) {
        let (answered, body) = site.peer.manage("PUT", "/state", &body).await;
        let message = body["message"].as_str().unwrap();
        assert!(answered == status && message.starts_with(wanted), "{answered} {message}, not {wanted}");
        assert!(!message.contains("topsecret"));
    }

    assert_eq!(get(&site.peer).await, text);
}

/// A body, the status of the answer, and the beginning of its message.
type Refused = (String, u16, &'static str);

fn torn(text: &str) -> Vec<Refused> {
    vec![
        (String::new(), 400, "the state cannot be restored: it is cut off at line 1 column 0"),
        (
            text[..text.len() / 2].to_owned(),
            400,
            "the state cannot be restored: it is cut off at line 1 column ",
        ),
        (format!("{text}}}"), 400, "the state cannot be restored: it is not JSON: trailing characters at "),
        ("[]".to_owned(), 400, "the state cannot be restored: "),
        ("{}".to_owned(), 400, "the state cannot be restored: it has no version, so it is not a state"),
    ]
}

/// IDs that clients remove from the path of a URL.
fn unreachable(text: &str) -> Vec<Refused> {
    let changed = |change| edited(text, change);
    vec![
        (
            changed(|state| state["hubs"]["devices"][0]["deviceId"] = "..".into()),
            400,
            "the state cannot be restored: hubs: the id of a device is \"..\", which clients remove from the path of ",
        ),
        (
            changed(|state| state["enrollments"]["records"][0]["record"]["deviceId"] = "..".into()),
            400,
            "the state cannot be restored: enrollments: records[0]: deviceId is \"..\"",
        ),
    ]
}

fn edited(text: &str, change: fn(&mut Value)) -> String {
    let mut state: Value = serde_json::from_str(text).unwrap();
    change(&mut state);
    state.to_string()
}

fn changed(text: &str) -> Vec<Refused> {
    let changed = |change| edited(text, change);
    vec![
        (
            changed(|state| {
                state["version"] = 2.into();
                state["invention"] = true.into();
            }),
            400,
            concat!(
                "the state has version 2, and this emulator (",
                env!("CARGO_PKG_VERSION"), // all packages of the workspace have one version
                ") reads version 1: use the emulator that wrote it"
            ),
        ),
        (
            changed(|state| state["invention"] = true.into()),
            400,
            "the state cannot be restored: unknown member `invention` at line 1 column ",
        ),
        (
            changed(|state| {
                state.as_object_mut().unwrap().remove("hubs");
            }),
            400,
            "the state cannot be restored: missing member `hubs` at line 1 column ",
        ),
        (
            changed(|state| state["registrations"]["records"][0]["record"]["secret"] = 1.into()),
            400,
            "the state cannot be restored: unknown member `secret` at line 1 column ",
        ),
        (
            changed(|state| state["enrollments"]["records"][0]["record"]["color"] = 1.into()),
            400,
            "the state cannot be restored: enrollments: records[0]: color is not as the emulator saves it",
        ),
        (
            changed(|state| state["counts"]["requests"] = u64::MAX.into()),
            400,
            "the state cannot be restored: a counter is above 140737488355328 at line 1 column ",
        ),
        (
            changed(|state| state["counts"]["requests"] = "topsecret".into()),
            400,
            "the state cannot be restored: a value has a wrong type or form at line 1 column ",
        ),
        (
            changed(|state| {
                let first = state["enrollments"]["records"][0].clone();
                state["enrollments"]["records"].as_array_mut().unwrap().push(first);
            }),
            400,
            "the state cannot be restored: enrollments: records[",
        ),
    ]
}

fn with_other_policies(text: &str) -> Vec<Refused> {
    let changed = |place: &str, value: Value| {
        let mut state: Value = serde_json::from_str(text).unwrap();
        *state.pointer_mut(place).unwrap() = value;
        state.to_string()
    };
    vec![
        (
            changed("/access/policies", json!([])),
            400,
            "the state cannot be restored: access: the first policy is not provisioningserviceowner",
        ),
        (
            changed("/access/policies/1/name", json!("a b")),
            400,
            "the state cannot be restored: access: `a b` cannot be the name of an access policy: it can have ",
        ),
        (
            changed("/access/policies/1/primaryKey", json!("")),
            400,
            "the state cannot be restored: access: the primary key of policy `reader` is empty; give one such ",
        ),
    ]
}

/// The file was written by the first emulator that could save a state. It has enrollments of every kind,
/// registrations in every condition, an issued certificate, a TPM's challenge, and a device with everything.
#[tokio::test]
async fn a_state_of_version_1_stays_readable_and_the_same() {
    let peer = Emulated::start(hubs().manage_port(0)).await;
    let text = include_str!("state-version-1.json").trim_end();

    assert_eq!(peer.manage("PUT", "/state", text).await, (204, Value::Null));

    assert_eq!(get(&peer).await, text);
    let ids = peer.listed().await;
    assert_eq!(ids, ["dev1", "gw-7", "issued", "leaf", "off"]);
}

#[tokio::test]
async fn a_start_refuses_a_state_that_does_not_fit() {
    let state = Emulator::start().await.unwrap().state_json().unwrap();

    let other = Emulator::builder().id_scope("0ne00OTHER").state_json(&state).start().await;
    let Err(StartError::State(StateError::OtherService(why))) = other else { panic!("{other:?}") };
    assert_eq!(why, "it is of ID scope 0ne00EMU1A7, and this start is for 0ne00OTHER");
    let newer = state.replacen("\"version\":1", "\"version\":7", 1);
    let newer = Emulator::builder().state_json(newer).start().await;
    assert!(matches!(newer, Err(StartError::State(StateError::Newer(7)))), "{newer:?}");
    for (place, value, wanted) in [
        ("/access/policies", json!([]), "access: the first policy is not provisioningserviceowner"),
        ("/access/policies/0/secondaryKey", json!(""), "access: the secondary key of policy `provisioning"),
        ("/linkedHubs/0/hostName", json!("a b"), "linkedHubs: a b is not a host name"),
        (
            "/linkedHubs/1/hostName",
            json!("EMULATOR-hub-1.azure-devices.net"),
            "linkedHubs: EMULATOR-hub-1.azu",
        ),
        ("/idScope", json!("0ne-"), "idScope: it has not only ASCII letters and digits"),
    ] {
        let mut changed: Value = serde_json::from_str(&state).unwrap();
        *changed.pointer_mut(place).unwrap() = value;
        let refused = Emulator::builder().state_json(changed.to_string()).start().await;
        let Err(StartError::State(StateError::Invalid(why))) = refused else {
            panic!("{place}: {refused:?}")
        };
        assert!(why.starts_with(wanted), "{why}");
    }
}

#[tokio::test]
async fn settings_of_a_start_are_added_to_its_state() {
    let first = builder().start().await.unwrap();
    let pki = Pki::new(["x"], 0).unwrap();
    let root = CaCertificate::verified("new-root", &pki.root.certificate_pem);
    let writer = AccessPolicy::new("reader", [Right::EnrollmentWrite]);

    let builder = Emulator::builder().ca_certificate(root).access_policy(writer).hub("c.example");
    let second = builder.state_json(first.state_json().unwrap()).start().await.unwrap();

    assert_eq!(second.hubs(), ["c.example"]);
    assert_eq!(second.ca_certificates()[0]["name"], "new-root");
    let state: Value = serde_json::from_str(&second.state_json().unwrap()).unwrap();
    let before: Value = serde_json::from_str(&first.state_json().unwrap()).unwrap();
    let reader = |state: &Value| state["access"]["policies"][1].clone();
    assert_eq!(reader(&state)["rights"], json!(["EnrollmentWrite"]));
    assert_eq!(reader(&state)["primaryKey"], reader(&before)["primaryKey"]);
    assert_ne!(second.ca_pem(), first.ca_pem(), "the authority may not sign for c.example");
}

#[tokio::test]
async fn the_journal_goes_on_with_its_numbers_after_a_state_is_put() {
    let (site, _) = filled(builder()).await;
    let text = get(&site.peer).await;
    let requests = serde_json::from_str::<Value>(&text).unwrap()["counts"]["requests"].as_u64().unwrap();

    assert_eq!(site.peer.manage("PUT", "/state", &text).await.0, 204);
    assert_eq!(site.peer.manage("GET", "/journal", "").await, (200, json!([])));
    site.peer.service("GET", "/enrollments/dev1", "").await;

    assert_eq!(site.peer.emulator.journal()[0].seq, requests + 1);
}

/// A builder with something of everything that it can set.
fn builder() -> EmulatorBuilder {
    hubs()
        .manage_port(0)
        .access_policy(AccessPolicy::new("reader", [Right::EnrollmentRead]))
        .entra_role("00000000-0000-4000-8000-00000000000a", EntraRole::DataReader)
        .certificate_policy(policy())
        .allocation(DefaultAllocation::GeoLatency)
        .latencies("berlin-*", [("westeurope", 12)])
}

/// An emulator with something of everything that a state has.
async fn filled(builder: EmulatorBuilder) -> (Site, Pki) {
    let pki = Pki::new(["leaf"], 1).unwrap();
    let site = assigned_with(builder).await;
    let peer = &site.peer;
    let emulator = &peer.emulator;
    for (name, certificate) in [("root", &pki.root), ("unused", &pki.intermediates[0])] {
        let certificate = CaCertificate::unverified(name, &certificate.certificate_pem);
        emulator.upload_ca_certificate(certificate).unwrap();
    }
    assert!(emulator.verify_ca_certificate("root"));
    let own = json!({"type": "x509", "x509": {"clientCertificates": {
        "primary": {"certificate": pki.devices[0].certificate_pem},
    }}});
    peer.enroll("leaf", on(A, json!({"attestation": own}))).await;
    let tpm = json!({"type": "tpm", "tpm": {"endorsementKey": BASE64.encode(TPM.endorsement_key())}});
    peer.enroll("gw-7", json!({"attestation": tpm})).await;
    peer.enroll("off", json!({"provisioningStatus": "disabled", "capabilities": {"iotEdge": true}})).await;
    peer.enroll("gone", json!({})).await;
    assert_eq!(peer.service("DELETE", "/enrollments/gone", "").await.status, 204, "a hole in the numbers");
    peer.enroll_group("sensors", json!({"iotHubs": [A], "allocationPolicy": "static"})).await;
    let references = json!({"type": "x509", "x509": {"caReferences": {"primary": "root"}}});
    peer.enroll_group("plant", json!({"attestation": references, "provisioningStatus": null})).await;
    let signing = json!({"type": "x509", "x509": {"signingCertificates": {
        "primary": {"certificate": pki.intermediates[0].certificate_pem},
    }}});
    peer.enroll_group("line", json!({"attestation": signing})).await;
    peer.put_as(LATEST, "issued", names()).await;
    issue(peer, "issued", LATEST, &csr("issued")).await;
    peer.register("off", json!({})).await;
    let key = derive(PRIMARY, "sensor-1");
    let resource = format!("{}/registrations/sensor-1", emulator.id_scope());
    let begun = peer.device("PUT", "sensor-1/register", &sign(&key, &resource, "registration"), "").await;
    assert_eq!(begun.status, 202, "a registration that is not polled");

    let mut device = MqttDevice::at_hub(emulator).await;
    device.publish_acknowledged(5, &format!("{EVENTS}$.mid=m1&alarm=yes"), "{\"t\":21}").await;
    device.listen(TWIN_REPLIES, 0).await;
    device.request(&format!("{REPORT}1"), "{\"firmware\":\"1.2\"}").await;
    drop(device);
    let left = async {
        while site.device(A, "dev1")["identity"]["connectionState"] != "Disconnected" {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(60), left).await.unwrap();
    emulator.set_desired(A, "dev1", json!({"interval": 5})).unwrap();
    let message = CloudMessage::new("open the valve").with_property("urgent", "yes");
    emulator.send_to_device(A, "dev1", message).unwrap();
    emulator.inject(Fault::throttle(3).on(Operation::Register).of("nobody").nth(2).times(4)).unwrap();
    emulator.advance_clock(Duration::from_millis(1_500));
    (site, pki)
}

/// What the library shows of an emulator.
fn shown(emulator: &Emulator) -> [Value; 6] {
    [
        emulator.enrollments(),
        emulator.registrations(),
        emulator.ca_certificates(),
        emulator.certificate_policies(),
        emulator.hub_devices(A).unwrap(),
        json!(emulator.policy_names()),
    ]
}

async fn get(peer: &Emulated) -> String {
    let port = peer.emulator.manage_port().unwrap();
    let answer = ask_in_clear(port, "GET", "/state", "Host: localhost\r\n", "").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.text
}

async fn service(site: &Site, method: &str, path: &str) -> (u16, String) {
    let answer = site.peer.service(method, path, "").await;
    (answer.status, answer.text)
}
