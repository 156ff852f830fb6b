//! Enrollments, groups and registration records, as `azure-iot-provisioning-service` 1.11.2 handles them.
//!
//! What holds for enrollments and groups alike is asked of both.

use azure_dps_emulator::Emulator;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use crate::stage::{Service, Stage};

#[tokio::test]
async fn given_keys_are_told_by_put_and_on_demand_but_hidden_by_get() {
    let Some(stage) = Stage::start().await else { return };
    let mut service = stage.service().await;

    for kind in [INDIVIDUAL, GROUP] {
        let created = kind.put(&mut service, kind.record("plant-1", keys())).await.unwrap();

        assert_eq!(created[kind.id], "plant-1");
        assert_eq!(created["attestation"]["symmetricKey"], keys()["symmetricKey"]);
        assert!(created["etag"].is_string());
        let read = kind.get(&mut service, "plant-1").await.unwrap();
        assert_eq!(read["attestation"], json!({"type": "symmetricKey"}));
        assert_eq!(read["etag"], created["etag"]);
        assert_eq!(kind.attestation(&mut service, "plant-1").await.unwrap(), created["attestation"]);
    }
}

#[tokio::test]
async fn missing_keys_are_generated() {
    let Some(stage) = Stage::start().await else { return };
    let mut service = stage.service().await;

    for kind in [INDIVIDUAL, GROUP] {
        let created =
            kind.put(&mut service, kind.record("a", json!({"type": "symmetricKey"}))).await.unwrap();

        let keys = &created["attestation"]["symmetricKey"];
        assert_eq!(keys["primaryKey"].as_str().unwrap().len(), 44);
        assert_ne!(keys["primaryKey"], keys["secondaryKey"]);
        assert_eq!(kind.attestation(&mut service, "a").await.unwrap(), created["attestation"]);
    }
}

#[tokio::test]
async fn every_member_that_the_client_knows_is_kept() {
    let Some(stage) = Stage::with(Emulator::builder().hub(HUB)).await else { return };
    let mut service = stage.service().await;
    let members = json!({
        "allocationPolicy": "static",
        "iotHubs": [HUB],
        "iotHubHostName": HUB,
        "provisioningStatus": "enabled",
        "capabilities": {"iotEdge": true},
        "reprovisionPolicy": {"updateHubAssignment": true, "migrateDeviceData": false},
        "initialTwin": {"tags": {"line": 3}, "properties": {"desired": {"rate": 1.5, "list": [null, "ü"]}}},
    });

    for kind in [INDIVIDUAL, GROUP] {
        let mut record = kind.record("a", keys());
        record.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        kind.put(&mut service, record).await.unwrap();

        let read = kind.get(&mut service, "a").await.unwrap();

        for (name, value) in members.as_object().unwrap() {
            assert_eq!(&read[name], value, "{name}");
        }
    }
}

#[tokio::test]
async fn a_record_that_was_read_can_be_changed_and_written_back() {
    let Some(stage) = Stage::start().await else { return };
    let mut service = stage.service().await;

    for kind in [INDIVIDUAL, GROUP] {
        kind.put(&mut service, kind.record("a", keys())).await.unwrap();
        let mut record = kind.get(&mut service, "a").await.unwrap();
        record["provisioningStatus"] = json!("disabled");

        let updated = kind.put(&mut service, record.clone()).await.unwrap();

        assert_eq!(updated["provisioningStatus"], "disabled");
        assert_eq!(updated["attestation"]["symmetricKey"], keys()["symmetricKey"]);
        assert_eq!(updated["createdDateTimeUtc"], record["createdDateTimeUtc"]);
        assert_ne!(updated["etag"], record["etag"]);
    }
}

#[tokio::test]
async fn another_version_is_neither_replaced_nor_deleted() {
    let Some(stage) = Stage::start().await else { return };
    let mut service = stage.service().await;

    for kind in [INDIVIDUAL, GROUP] {
        let stale = kind.put(&mut service, kind.record("a", keys())).await.unwrap();
        let current = kind.put(&mut service, stale.clone()).await.unwrap();

        let update = kind.put(&mut service, stale.clone()).await.unwrap_err();
        let delete = kind.delete(&mut service, json!([stale])).await.unwrap_err();

        for error in [update, delete] {
            assert_eq!(error["name"], "InvalidEtagError");
            assert_eq!(error["status"], 412);
        }
        assert_eq!(kind.get(&mut service, "a").await.unwrap()["etag"], current["etag"]);
    }
}

#[tokio::test]
async fn a_record_is_not_created_twice() {
    let Some(stage) = Stage::start().await else { return };
    let mut service = stage.service().await;

    for kind in [INDIVIDUAL, GROUP] {
        kind.put(&mut service, kind.record("a", keys())).await.unwrap();

        let error = kind.put(&mut service, kind.record("a", keys())).await.unwrap_err();

        assert_eq!(error["name"], "DeviceAlreadyExistsError");
        assert_eq!(error["status"], 409);
        assert_eq!(error["body"]["errorCode"], 409_201);
    }
}

#[tokio::test]
async fn a_deleted_record_is_gone() {
    let Some(stage) = Stage::start().await else { return };
    let mut service = stage.service().await;

    for kind in [INDIVIDUAL, GROUP] {
        let record = kind.put(&mut service, kind.record("by-tag", keys())).await.unwrap();
        kind.put(&mut service, kind.record("by-id", keys())).await.unwrap();

        kind.delete(&mut service, json!([record])).await.unwrap();
        kind.delete(&mut service, json!(["by-id"])).await.unwrap();

        for id in ["by-tag", "by-id"] {
            let error = kind.get(&mut service, id).await.unwrap_err();
            assert_eq!(error["message"], "Not found");
            assert_eq!(error["body"]["errorCode"], 404_201);
        }
    }
}

#[tokio::test]
async fn a_certificate_is_described_but_not_told() {
    let Some(stage) = Stage::start().await else { return };
    let mut service = stage.service().await;
    let key = KeyPair::generate().unwrap();
    let pem = CertificateParams::new(vec!["gw-7".into()]).unwrap().self_signed(&key).unwrap().pem();
    let attestation =
        json!({"type": "x509", "x509": {"clientCertificates": {"primary": {"certificate": pem}}}});

    let created = INDIVIDUAL.put(&mut service, INDIVIDUAL.record("gw-7", attestation)).await.unwrap();

    let slot = &created["attestation"]["x509"]["clientCertificates"]["primary"];
    assert!(slot["certificate"].is_null(), "{slot}");
    assert_eq!(slot["info"]["sha1Thumbprint"].as_str().unwrap().len(), 40);
    assert_eq!(INDIVIDUAL.get(&mut service, "gw-7").await.unwrap()["attestation"], created["attestation"]);
}

#[tokio::test]
async fn an_endorsement_key_is_kept() {
    let Some(stage) = Stage::start().await else { return };
    let mut service = stage.service().await;
    let attestation = json!({"type": "tpm", "tpm": {"endorsementKey": "AToAAQ=="}});

    INDIVIDUAL.put(&mut service, INDIVIDUAL.record("gw-7", attestation.clone())).await.unwrap();

    let read = INDIVIDUAL.get(&mut service, "gw-7").await.unwrap();
    assert_eq!(read["attestation"]["tpm"]["endorsementKey"], attestation["tpm"]["endorsementKey"]);
}

#[tokio::test]
async fn a_registration_record_is_read_and_deleted_by_version() {
    let Some(stage) = Stage::start().await else { return };
    let mut service = stage.service().await;
    INDIVIDUAL.put(&mut service, INDIVIDUAL.record("dev1", keys())).await.unwrap();
    let credential = json!({"registrationId": "dev1", "key": keys()["symmetricKey"]["primaryKey"]});
    let assigned = stage.device().await.register(credential).await.unwrap();

    let record = service.call("getDeviceRegistrationState", json!(["dev1"])).await.unwrap();

    assert_eq!(record["status"], "assigned");
    assert_eq!(record["assignedHub"], assigned["assignedHub"]);
    let error = service.call("deleteDeviceRegistrationState", json!(["dev1", "stale"])).await.unwrap_err();
    assert_eq!(error["name"], "InvalidEtagError");
    service.call("deleteDeviceRegistrationState", json!([record])).await.unwrap();
    let error = service.call("getDeviceRegistrationState", json!(["dev1"])).await.unwrap_err();
    assert_eq!(error["status"], 404);
}

#[tokio::test]
async fn a_wrong_policy_key_is_refused() {
    let Some(stage) = Stage::start().await else { return };
    let wrong = "HostName=localhost;SharedAccessKeyName=provisioningserviceowner;SharedAccessKey=d3Jvbmc=";
    let mut service = stage.service_with(wrong).await;

    for kind in [INDIVIDUAL, GROUP] {
        let error = kind.get(&mut service, "a").await.unwrap_err();

        assert_eq!(error["name"], "UnauthorizedError");
        assert_eq!(error["status"], 401);
        assert_eq!(stage.cause(), "signature does not match the key of policy provisioningserviceowner");
    }
}

/// What differs between enrollments and groups.
#[derive(Clone, Copy)]
struct Kind {
    id: &'static str,
    put: &'static str,
    get: &'static str,
    delete: &'static str,
    attestation: &'static str,
}

impl Kind {
    fn record(self, id: &str, attestation: Value) -> Value {
        json!({self.id: id, "attestation": attestation})
    }

    async fn put(self, service: &mut Service, record: Value) -> Result<Value, Value> {
        service.call(self.put, json!([record])).await
    }

    async fn get(self, service: &mut Service, id: &str) -> Result<Value, Value> {
        service.call(self.get, json!([id])).await
    }

    async fn delete(self, service: &mut Service, arguments: Value) -> Result<Value, Value> {
        service.call(self.delete, arguments).await
    }

    async fn attestation(self, service: &mut Service, id: &str) -> Result<Value, Value> {
        service.call(self.attestation, json!([id])).await
    }
}

fn keys() -> Value {
    json!({
        "type": "symmetricKey",
        "symmetricKey": {
            "primaryKey": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
            "secondaryKey": "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=",
        },
    })
}

const INDIVIDUAL: Kind = Kind {
    id: "registrationId",
    put: "createOrUpdateIndividualEnrollment",
    get: "getIndividualEnrollment",
    delete: "deleteIndividualEnrollment",
    attestation: "getIndividualEnrollmentAttestationMechanism",
};
const GROUP: Kind = Kind {
    id: "enrollmentGroupId",
    put: "createOrUpdateEnrollmentGroup",
    get: "getEnrollmentGroup",
    delete: "deleteEnrollmentGroup",
    attestation: "getEnrollmentGroupAttestationMechanism",
};
const HUB: &str = "berlin.azure-devices.net";
