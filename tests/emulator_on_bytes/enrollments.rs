//! Enrollments and records of registrations on the service API.

use azure_dps_emulator::Emulator;
use azure_dps_tests::emulated::Emulated;
use azure_dps_tests::recorded;
use serde_json::{Value, json};

use crate::tokens::{DEV1, SENSOR};

#[tokio::test]
async fn custom_allocation_is_stored_as_it_is_given() {
    let peer = Emulated::with_one_poll().await;
    let webhook = json!({"webhookUrl": "https://alloc.example/pick?code=1", "apiVersion": "2021-10-01"});
    peer.enroll("dev1", json!({"allocationPolicy": "custom", "customAllocationDefinition": webhook})).await;

    let reported = peer.service("GET", "/enrollments/dev1", "").await.body;

    assert_eq!(reported["customAllocationDefinition"], webhook);
}

#[tokio::test]
async fn an_enrollment_is_created_with_keys_and_defaults() {
    let peer = Emulated::with_one_poll().await;

    let created = peer
        .service(
            "PUT",
            "/enrollments/Sensor-1",
            r#"{"registrationId":"Sensor-1","attestation":{"type":"symmetricKey"}}"#,
        )
        .await;

    assert_eq!(created.status, 200, "{}", created.body);
    assert_eq!(created.header("etag"), None);
    assert!(recorded::is_tag(created.body["etag"].as_str().unwrap()), "{}", created.body);
    assert_eq!(created.body["registrationId"], "Sensor-1");
    assert_eq!(created.body["provisioningStatus"], "enabled");
    for absent in ["capabilities", "reprovisionPolicy", "allocationPolicy", "registrationState"] {
        assert_eq!(created.body.get(absent), None, "{absent}");
    }
    assert_eq!(created.body["createdDateTimeUtc"], created.body["lastUpdatedDateTimeUtc"]);
    let keys = &created.body["attestation"]["symmetricKey"];
    assert_eq!(keys["primaryKey"].as_str().unwrap().len(), 44);
    assert_ne!(keys["primaryKey"], keys["secondaryKey"]);

    let read = peer.service("GET", "/enrollments/SENSOR-1/", "").await;
    assert_eq!(read.body["attestation"], json!({"type": "symmetricKey"}));
    assert_eq!(read.body["registrationId"], "Sensor-1");
    assert_eq!(read.header("etag"), None);
    let state = json!({"registrationId": "Sensor-1", "status": "unassigned"});
    assert_eq!(read.body["registrationState"], state, "a device that never registered");
    for body in ["", "{}"] {
        let mechanism = peer.service("POST", "/Enrollments/sensor-1/attestationMechanism", body).await;
        assert_eq!((mechanism.status, &mechanism.body), (200, &created.body["attestation"]));
    }
}

#[tokio::test]
async fn an_update_needs_a_tag_and_keeps_the_keys() {
    let peer = Emulated::with_one_poll().await;
    let body =
        r#"{"enrollmentGroupId":"g","attestation":{"type":"symmetricKey"},"provisioningStatus":"disabled"}"#;
    let created = peer.service("PUT", "/enrollmentGroups/g", body).await;
    let tag = created.body["etag"].as_str().unwrap();

    assert_eq!(peer.service("PUT", "/enrollmentGroups/g", body).await.code(), 409_202);
    let stale = peer.service_if("PUT", "/enrollmentGroups/g", "\"stale\"", body).await;
    assert_eq!((stale.status, stale.code()), (412, 412_001));
    let absent = peer.service_if("PUT", "/enrollmentGroups/h", "*", &body.replace("\"g\"", "\"h\"")).await;
    assert_eq!((absent.status, absent.code()), (404, 404_201));
    let updated = peer.service_if("PUT", "/enrollmentGroups/g", tag, body).await;
    assert_eq!(updated.status, 200);
    assert_ne!(updated.body["etag"], tag);
    assert_eq!(updated.body["attestation"], created.body["attestation"]);
    assert_eq!(peer.service_if("PUT", "/enrollmentGroups/g", "\"*\"", body).await.status, 200);
    assert_eq!(peer.service_if("DELETE", "/enrollmentGroups/g", tag, "").await.status, 412);
    let deleted = peer.service_if("DELETE", "/enrollmentGroups/g", "*", "").await;
    assert_eq!(
        (deleted.status, deleted.body.clone(), deleted.header("content-type")),
        (204, Value::Null, None)
    );
    assert_eq!(peer.service("DELETE", "/enrollmentGroups/g", "").await.code(), 404_201);
    assert_eq!(peer.service("GET", "/enrollmentGroups/g", "").await.code(), 404_201);
}

#[tokio::test]
async fn what_an_enrollment_may_not_say_is_named() {
    let peer = Emulated::with_one_poll().await;
    let put = |members: Value| {
        let mut body = json!({"registrationId": "a", "attestation": {"type": "symmetricKey"}});
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        body.to_string()
    };

    for (members, message) in [
        (json!({"registrationId": "b"}), "registrationId is not the id in the path"),
        (json!({"registrationId": null}), "registrationId is missing"),
        (json!({"attestation": null}), "attestation is missing"),
        (json!({"deviceId": ".."}), "deviceId is \"..\", which clients remove from the path of a URL"),
        (json!({"colour": "red"}), "no api-version knows colour"),
        (json!({"iotHubs": ["far.azure-devices.net"]}), "iotHubs: hub far.azure-devices.net is not linked"),
        (
            json!({"allocationPolicy": "custom", "customAllocationDefinition": {"webhookUrl": "https://x"}}),
            "allocationPolicy custom needs customAllocationDefinition.apiVersion",
        ),
        (
            json!({"attestation": {"type": "x509", "x509": {"clientCertificates": {"primary": {"certificate": "?"}}}}}),
            "attestation.x509.clientCertificates.primary.certificate is neither PEM nor base64: there is '?' at position 1",
        ),
    ] {
        let answer = peer.service("PUT", "/enrollments/a", &put(members)).await;
        assert_eq!((answer.status, answer.code()), (400, 400_000));
        assert_eq!(answer.body["message"], message);
    }
    let bad_id = peer.service(
        "PUT",
        "/enrollments/a_",
        r#"{"registrationId":"a_","attestation":{"type":"symmetricKey"}}"#,
    );
    assert_eq!(bad_id.await.body["message"], "registrationId is not a valid id");
    assert_eq!(peer.service("GET", "/enrollments/a", "").await.status, 404);
}

#[tokio::test]
async fn read_only_members_and_nulls_pass() {
    let peer = Emulated::with_one_poll().await;
    let body = r#"{"registrationId":"a","registrationState":{},"etag":"x","createdDateTimeUtc":null,"lastUpdatedDateTimeUtc":"now",
        "attestation":{"type":"symmetricKey","tpm":null,"symmetricKey":{"primaryKey":"","secondaryKey":null}},"deviceId":null}"#;

    let answer = peer.service("PUT", "/enrollments/a", body).await;

    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_ne!(answer.body["etag"], "x");
}

#[tokio::test]
async fn a_loose_emulator_lets_unknown_members_pass() {
    let peer = Emulated::start(Emulator::builder().loose()).await;

    let answer = peer
        .service(
            "PUT",
            "/enrollments/a",
            r#"{"registrationId":"a","attestation":{"type":"symmetricKey"},"colour":"red"}"#,
        )
        .await;

    assert_eq!(answer.status, 200);
    assert!(answer.body.get("colour").is_none());
}

#[tokio::test]
async fn a_certificate_is_described_and_kept_by_its_description() {
    let peer = Emulated::with_one_poll().await;
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = rcgen::CertificateParams::new(vec!["gw-7".into()]).unwrap().self_signed(&key).unwrap().pem();
    let body = |slot: Value| {
        json!({
            "registrationId": "gw-7",
            "attestation": {"type": "x509", "x509": {"clientCertificates": {"primary": slot}}},
        })
        .to_string()
    };

    let created = peer.service("PUT", "/enrollments/gw-7", &body(json!({"certificate": pem}))).await;

    assert_eq!(created.status, 200, "{}", created.body);
    let primary = created.body["attestation"]["x509"]["clientCertificates"]["primary"].clone();
    assert!(primary.get("certificate").is_none());
    assert_eq!(primary["info"]["version"], 3);
    assert_eq!(
        peer.service("GET", "/enrollments/gw-7", "").await.body["attestation"],
        created.body["attestation"]
    );
    let kept = peer.service_if("PUT", "/enrollments/gw-7", "*", &body(primary.clone())).await;
    assert_eq!((kept.status, &kept.body["attestation"]), (200, &created.body["attestation"]));
    let unknown = peer.service_if("PUT", "/enrollments/gw-7", "*", &body(json!({"info": {}}))).await;
    assert_eq!(unknown.body["message"], "attestation.x509.clientCertificates.primary.certificate is missing");
}

#[tokio::test]
async fn an_individual_enrollment_shows_and_takes_along_its_registration() {
    let peer = Emulated::with_one_poll().await;
    peer.enroll("dev1", json!({})).await;
    peer.register_with("dev1", DEV1, "{}").await;

    let shown = peer.service("GET", "/enrollments/dev1", "").await.body["registrationState"].clone();
    let record = peer.service("GET", "/registrations/DEV1", "").await;

    assert_eq!((record.status, &record.body), (200, &shown));
    assert_eq!(record.body["status"], "assigned");
    assert!(record.body.get("symmetricKey").is_none());
    assert_eq!(peer.service("DELETE", "/enrollments/dev1", "").await.status, 204);
    assert_eq!(peer.service("GET", "/registrations/dev1", "").await.code(), 404_201);
}

#[tokio::test]
async fn a_registration_outlives_its_group_and_can_be_deleted() {
    let peer = Emulated::with_one_poll().await;
    peer.enroll_group("plant", json!({})).await;
    let state = peer.register_with("sensor-042", SENSOR, "{}").await;
    assert_eq!(peer.service("DELETE", "/enrollmentGroups/plant", "").await.status, 204);

    let path = "/registrations/sensor-042";
    assert_eq!(peer.service("GET", path, "").await.body["status"], "assigned");
    assert_eq!(peer.service_if("DELETE", path, "\"stale\"", "").await.status, 412);
    let tag = format!("\"{}\"", state["etag"].as_str().unwrap());
    assert_eq!(peer.service_if("DELETE", path, &tag, "").await.status, 204);
    assert_eq!(peer.service("GET", path, "").await.code(), 404_201);
}
