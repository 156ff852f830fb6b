//! Single enrollments, groups and registration records, as the three official service clients handle them.
//!
//! What holds for enrollments and groups alike is asked of both.

use azure_dps_emulator::{Emulator, Pki};
use azure_dps_tests::soft_tpm::ENDORSEMENT_KEY;
use serde_json::{Value, json};

use crate::official_node_device_client_1_9_1::{KEY, keys};
use crate::scenarios::scenarios;
use crate::service_client::{GROUP, INDIVIDUAL, Peer, REGISTRATION};
use crate::stage::Stage;

scenarios! {
    {
        given_keys_are_told_by_put_and_on_demand_but_hidden_by_get,
        missing_keys_are_generated,
        every_member_that_the_client_knows_is_kept,
        a_record_that_was_read_can_be_changed_and_written_back,
        an_id_may_have_every_character_and_its_case_does_not_count,
        an_asterisk_replaces_any_version,
        another_version_is_neither_replaced_nor_deleted,
        a_record_is_not_created_twice,
        a_deleted_record_is_gone,
        certificates_are_described_but_not_told,
        certificates_stay_when_their_description_is_written_back,
        a_group_can_name_authorities_of_the_instance,
        an_endorsement_key_is_kept,
        a_registration_record_is_read_and_deleted_by_version,
    }
    node_1_11_2: Node {}
    python_1_0_0b1: Python {}
    classic_python_1_2_0: ClassicPython {}
}

async fn given_keys_are_told_by_put_and_on_demand_but_hidden_by_get(peer: Peer) {
    let Some(stage) = Stage::start().await else { return };
    let mut service = peer.service(&stage).await;

    for kind in [INDIVIDUAL, GROUP] {
        let created = service.put(kind, kind.record("plant-1", keys())).await.unwrap();

        assert_eq!(created[kind.id], "plant-1");
        assert_eq!(created["attestation"], keys());
        assert!(created["etag"].is_string());
        let read = service.get(kind, "plant-1").await.unwrap();
        assert_eq!(read["attestation"], json!({"type": "symmetricKey"}));
        assert_eq!(read["etag"], created["etag"]);
        assert_eq!(service.attestation(kind, "plant-1").await.unwrap(), keys());
    }
}

async fn missing_keys_are_generated(peer: Peer) {
    let Some(stage) = Stage::start().await else { return };
    let mut service = peer.service(&stage).await;

    for kind in [INDIVIDUAL, GROUP] {
        let created = service.put(kind, kind.record("a", json!({"type": "symmetricKey"}))).await.unwrap();

        let keys = &created["attestation"]["symmetricKey"];
        assert_eq!(keys["primaryKey"].as_str().unwrap().len(), 44);
        assert_ne!(keys["primaryKey"], keys["secondaryKey"]);
        assert_eq!(service.attestation(kind, "a").await.unwrap(), created["attestation"]);
    }
}

async fn every_member_that_the_client_knows_is_kept(peer: Peer) {
    let Some(stage) = Stage::with(Emulator::builder().hub(HUB)).await else { return };
    let mut service = peer.service(&stage).await;

    for kind in [INDIVIDUAL, GROUP] {
        let mut members = json!({
            "allocationPolicy": "custom",
            "customAllocationDefinition": {"webhookUrl": "https://hook.example/", "apiVersion": "2019-03-31"},
            "iotHubs": [HUB],
            "iotHubHostName": HUB,
            "provisioningStatus": "disabled",
            "reprovisionPolicy": {"updateHubAssignment": true, "migrateDeviceData": false},
            "initialTwin": {"tags": {"line": 3}, "properties": {"desired": {"rate": 1.5, "list": [null, "ü"]}}},
        });
        if kind.id == INDIVIDUAL.id {
            members["deviceId"] = json!("line-3");
        }
        if kind.id == INDIVIDUAL.id && peer != Peer::ClassicPython {
            members["optionalDeviceInformation"] = json!({"batch": {"year": 2026}});
        }
        if kind.id == INDIVIDUAL.id || peer != Peer::ClassicPython {
            members["capabilities"] = json!({"iotEdge": true});
        }
        let mut record = kind.record("a", keys());
        record.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        service.put(kind, record).await.unwrap();

        let read = service.get(kind, "a").await.unwrap();

        for (name, value) in members.as_object().unwrap() {
            assert_eq!(&read[name], value, "{name}");
        }
    }
}

async fn a_record_that_was_read_can_be_changed_and_written_back(peer: Peer) {
    let Some(stage) = Stage::start().await else { return };
    let mut service = peer.service(&stage).await;

    for kind in [INDIVIDUAL, GROUP] {
        service.put(kind, kind.record("a", keys())).await.unwrap();
        let mut record = service.get(kind, "a").await.unwrap();
        record["provisioningStatus"] = json!("disabled");

        let updated = service.put(kind, record.clone()).await.unwrap();

        assert_eq!(updated["provisioningStatus"], "disabled");
        assert_eq!(updated["attestation"], keys());
        assert_eq!(updated["createdDateTimeUtc"], record["createdDateTimeUtc"]);
        assert_ne!(updated["etag"], record["etag"]);
    }
}

async fn an_id_may_have_every_character_and_its_case_does_not_count(peer: Peer) {
    let Some(stage) = Stage::start().await else { return };
    let mut service = peer.service(&stage).await;

    for kind in [INDIVIDUAL, GROUP] {
        service.put(kind, kind.record("Line:3.Gw_7-A", keys())).await.unwrap();

        assert_eq!(service.get(kind, "Line:3.Gw_7-A").await.unwrap()[kind.id], "Line:3.Gw_7-A");
        assert_eq!(service.attestation(kind, "LINE:3.GW_7-A").await.unwrap(), keys());
        service.delete_by_id(kind, "line:3.gw_7-a", None).await.unwrap();
        peer.assert_refused(service.get(kind, "Line:3.Gw_7-A").await, 404_201);
    }
}

async fn an_asterisk_replaces_any_version(peer: Peer) {
    let Some(stage) = Stage::start().await else { return };
    let mut service = peer.service(&stage).await;

    for kind in [INDIVIDUAL, GROUP] {
        let mut record = kind.record("a", keys());
        record["etag"] = json!("*");
        peer.assert_refused(service.put(kind, record.clone()).await, 404_201);
        let created = service.put(kind, kind.record("a", keys())).await.unwrap();

        let updated = service.put(kind, record).await.unwrap();

        assert_ne!(updated["etag"], created["etag"]);
    }
}

async fn another_version_is_neither_replaced_nor_deleted(peer: Peer) {
    let Some(stage) = Stage::start().await else { return };
    let mut service = peer.service(&stage).await;

    for kind in [INDIVIDUAL, GROUP] {
        let stale = service.put(kind, kind.record("a", keys())).await.unwrap();
        let current = service.put(kind, stale.clone()).await.unwrap();

        peer.assert_refused(service.put(kind, stale.clone()).await, 412_001);
        peer.assert_refused(service.delete(kind, &stale).await, 412_001);
        peer.assert_refused(service.delete_by_id(kind, "a", stale["etag"].as_str()).await, 412_001);

        assert_eq!(service.get(kind, "a").await.unwrap()["etag"], current["etag"]);
    }
}

async fn a_record_is_not_created_twice(peer: Peer) {
    let Some(stage) = Stage::start().await else { return };
    let mut service = peer.service(&stage).await;

    for kind in [INDIVIDUAL, GROUP] {
        service.put(kind, kind.record("a", keys())).await.unwrap();

        peer.assert_refused(service.put(kind, kind.record("a", keys())).await, kind.conflict());
    }
}

async fn a_deleted_record_is_gone(peer: Peer) {
    let Some(stage) = Stage::start().await else { return };
    let mut service = peer.service(&stage).await;

    for kind in [INDIVIDUAL, GROUP] {
        let record = service.put(kind, kind.record("by-record", keys())).await.unwrap();
        let tagged = service.put(kind, kind.record("by-tag", keys())).await.unwrap();
        service.put(kind, kind.record("by-id", keys())).await.unwrap();

        service.delete(kind, &record).await.unwrap();
        service.delete_by_id(kind, "by-tag", tagged["etag"].as_str()).await.unwrap();
        service.delete_by_id(kind, "by-id", None).await.unwrap();

        for id in ["by-record", "by-tag", "by-id"] {
            peer.assert_refused(service.get(kind, id).await, 404_201);
            peer.assert_refused(service.attestation(kind, id).await, 404_201);
        }
        peer.assert_refused(service.delete_by_id(kind, "by-id", None).await, 404_201);
    }
}

async fn certificates_are_described_but_not_told(peer: Peer) {
    let Some(stage) = Stage::start().await else { return };
    let mut service = peer.service(&stage).await;

    for (kind, member, attestation) in [
        (INDIVIDUAL, "clientCertificates", client_certificates()),
        (GROUP, "signingCertificates", signing_certificates()),
    ] {
        let created = service.put(kind, kind.record("gw-7", attestation)).await.unwrap();

        for (slot, name) in [("primary", "CN=gw-7"), ("secondary", "CN=gw-8")] {
            let slot = &created["attestation"]["x509"][member][slot];
            assert!(slot["certificate"].is_null(), "{slot}");
            assert_eq!(slot["info"]["sha1Thumbprint"].as_str().unwrap().len(), 40);
            if kind.id == INDIVIDUAL.id {
                assert_eq!(slot["info"]["subjectName"], name);
            }
        }
        assert_eq!(service.get(kind, "gw-7").await.unwrap()["attestation"], created["attestation"]);
        assert_eq!(service.attestation(kind, "gw-7").await.unwrap(), created["attestation"]);
    }
}

async fn certificates_stay_when_their_description_is_written_back(peer: Peer) {
    let Some(stage) = Stage::start().await else { return };
    let mut service = peer.service(&stage).await;

    for (kind, attestation) in [(INDIVIDUAL, client_certificates()), (GROUP, signing_certificates())] {
        service.put(kind, kind.record("gw-7", attestation)).await.unwrap();
        let record = service.get(kind, "gw-7").await.unwrap();

        let updated = service.put(kind, record.clone()).await.unwrap();

        assert_eq!(updated["attestation"], record["attestation"]);
        assert_ne!(updated["etag"], record["etag"]);
    }
}

async fn a_group_can_name_authorities_of_the_instance(peer: Peer) {
    let Some(stage) = Stage::start().await else { return };
    let mut service = peer.service(&stage).await;
    let references = json!({"caReferences": {"primary": "root-2026", "secondary": "root-2027"}});
    let attestation = json!({"type": "x509", "x509": references});

    service.put(GROUP, GROUP.record("plant", attestation.clone())).await.unwrap();

    assert_eq!(service.get(GROUP, "plant").await.unwrap()["attestation"], attestation);
    assert_eq!(service.attestation(GROUP, "plant").await.unwrap(), attestation);
}

async fn an_endorsement_key_is_kept(peer: Peer) {
    let Some(stage) = Stage::start().await else { return };
    let mut service = peer.service(&stage).await;
    let attestation =
        json!({"type": "tpm", "tpm": {"endorsementKey": ENDORSEMENT_KEY, "storageRootKey": "AToAAg=="}});

    service.put(INDIVIDUAL, INDIVIDUAL.record("gw-7", attestation.clone())).await.unwrap();

    assert_eq!(service.get(INDIVIDUAL, "gw-7").await.unwrap()["attestation"], attestation);
    assert_eq!(service.attestation(INDIVIDUAL, "gw-7").await.unwrap(), attestation);
    peer.assert_refused(service.put(GROUP, GROUP.record("plant", attestation)).await, 400_000);
}

async fn a_registration_record_is_read_and_deleted_by_version(peer: Peer) {
    let Some(stage) = Stage::start().await else { return };
    let mut service = peer.service(&stage).await;
    let mut device = stage.device().await;
    for id in ["dev1", "dev2", "dev3"] {
        service.put(INDIVIDUAL, INDIVIDUAL.record(id, keys())).await.unwrap();
        let assigned = device.register(json!({"registrationId": id, "key": KEY})).await.unwrap();

        let record = service.get(REGISTRATION, id).await.unwrap();

        assert_eq!((&record["registrationId"], &record["status"]), (&json!(id), &json!("assigned")));
        assert_eq!(record["assignedHub"], assigned["assignedHub"]);
        let enrollment = service.get(INDIVIDUAL, id).await.unwrap();
        assert_eq!(enrollment["registrationState"]["etag"], record["etag"]);
    }

    let record = service.get(REGISTRATION, "dev1").await.unwrap();
    peer.assert_refused(service.delete_by_id(REGISTRATION, "dev1", Some("stale")).await, 412_001);
    service.delete(REGISTRATION, &record).await.unwrap();
    let record = service.get(REGISTRATION, "dev2").await.unwrap();
    service.delete_by_id(REGISTRATION, "dev2", record["etag"].as_str()).await.unwrap();
    service.delete_by_id(REGISTRATION, "dev3", None).await.unwrap();

    for id in ["dev1", "dev2", "dev3"] {
        peer.assert_refused(service.get(REGISTRATION, id).await, 404_201);
    }
}

fn client_certificates() -> Value {
    let [primary, secondary] = ["gw-7", "gw-8"].map(|name| {
        let pki = Pki::new([name], 1).unwrap();
        json!({"certificate": pki.devices[0].certificate_pem})
    });
    json!({"type": "x509", "x509": {"clientCertificates": {"primary": primary, "secondary": secondary}}})
}

fn signing_certificates() -> Value {
    let pki = Pki::new(["gw-7"], 2).unwrap();
    let [primary, secondary] = [0, 1].map(|at| json!({"certificate": pki.intermediates[at].certificate_pem}));
    json!({"type": "x509", "x509": {"signingCertificates": {"primary": primary, "secondary": secondary}}})
}

const HUB: &str = "berlin.azure-devices.net";
