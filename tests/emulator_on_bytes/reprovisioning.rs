//! Identities and twins on the hubs: what devices bring along, and what becomes of it when they move, are
//! reset, deleted and enrolled again.

use azure_dps_emulator::Pki;
use azure_dps_tests::emulated::{PRIMARY, SECONDARY, derive};
use azure_dps_tests::site::{A, B, Site, hubs, on, twin};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::json;
use sha1::{Digest as _, Sha1};

#[tokio::test]
async fn a_device_of_a_group_has_the_keys_that_are_derived_for_it() {
    let site = Site::start(hubs()).await;
    site.peer.enroll_group("plant", on(A, json!({}))).await;

    site.register("sensor-042").await;

    let keys = &site.device(A, "sensor-042")["identity"]["authentication"]["symmetricKey"];
    let derived = |key: &str| derive(key, "sensor-042");
    assert_eq!(*keys, json!({"primaryKey": derived(PRIMARY), "secondaryKey": derived(SECONDARY)}));
}

#[tokio::test]
async fn a_device_with_a_certificate_has_its_thumbprint() {
    let site = Site::start(hubs()).await;
    let pki = Pki::new(["dev1"], 1).unwrap();
    let root = json!({"primary": {"certificate": pki.root.certificate_pem}});
    let attestation = json!({"type": "x509", "x509": {"signingCertificates": root}});
    site.peer.enroll_group("plant", on(A, json!({"attestation": attestation}))).await;
    let device = &pki.devices[0];
    let leaf = CertificateDer::from_pem_slice(device.certificate_pem.as_bytes()).unwrap();

    assert_eq!(site.begin_with("dev1", device).await.status, 202);

    let thumbprint: String = Sha1::digest(leaf).iter().map(|byte| format!("{byte:02X}")).collect();
    assert_eq!(
        site.device(A, "dev1")["identity"]["authentication"],
        json!({
            "type": "selfSigned",
            "symmetricKey": {"primaryKey": null, "secondaryKey": null},
            "x509Thumbprint": {"primaryThumbprint": thumbprint, "secondaryThumbprint": null},
        })
    );
}

#[tokio::test]
async fn a_new_key_reaches_the_hub_with_the_next_registration() {
    let site = Site::start(hubs()).await;
    site.enroll("dev1", on(A, twin(1))).await;
    site.register("dev1").await;
    let before = site.device(A, "dev1");
    let keys = json!({"primaryKey": PRIMARY, "secondaryKey": PRIMARY});
    let attestation = json!({"type": "symmetricKey", "symmetricKey": keys});
    site.enroll("dev1", on(A, json!({"attestation": attestation, "initialTwin": twin(2)["initialTwin"]})))
        .await;
    assert_eq!(site.device(A, "dev1"), before);

    assert_eq!(site.register("dev1").await["substatus"], "initialAssignment");

    let after = site.device(A, "dev1");
    assert_eq!(after["identity"]["authentication"]["symmetricKey"], keys);
    assert_eq!(after["identity"]["generationId"], before["identity"]["generationId"]);
    assert_ne!(after["identity"]["etag"], before["identity"]["etag"]);
    assert_eq!(after["twin"]["tags"], json!({"n": 1}));
}

#[tokio::test]
async fn a_device_whose_hub_changes_follows_its_reprovision_policy() {
    let policy =
        |update: bool, migrate: bool| json!({"updateHubAssignment": update, "migrateDeviceData": migrate});
    for (policy, hub, substatus, n) in [
        (policy(true, true), B, "deviceDataMigrated", 1),
        (json!(null), B, "deviceDataMigrated", 1),
        (policy(true, false), B, "deviceDataReset", 2),
        (policy(false, true), A, "initialAssignment", 1),
        (policy(false, false), A, "initialAssignment", 1),
    ] {
        let site = Site::start(hubs()).await;
        let with = |n, hub| {
            let mut members = on(hub, twin(n));
            members["reprovisionPolicy"] = policy.clone();
            members
        };
        site.enroll("dev1", with(1, A)).await;
        let first = site.register("dev1").await;
        assert_eq!((&first["assignedHub"], &first["substatus"]), (&json!(A), &json!("initialAssignment")));
        site.enroll("dev1", with(2, B)).await;

        let second = site.register("dev1").await;

        assert_eq!(
            (&second["assignedHub"], &second["substatus"]),
            (&json!(hub), &json!(substatus)),
            "{policy}"
        );
        assert_ne!(
            second["createdDateTimeUtc"], first["createdDateTimeUtc"],
            "each registration shows its own"
        );
        assert_ne!(second["etag"], first["etag"]);
        assert_eq!(site.device(hub, "dev1")["twin"]["tags"], json!({"n": n}), "{policy}");
        let elsewhere = if hub == A { B } else { A };
        assert_eq!(site.peer.emulator.hub_device(elsewhere, "dev1"), None, "it is on one hub only");
        let again = site.register("dev1").await;
        assert_eq!((&again["assignedHub"], &again["substatus"]), (&json!(hub), &json!("initialAssignment")));
    }
}

#[tokio::test]
async fn a_device_is_reset_on_its_own_hub_only_when_the_emulator_is_told_to() {
    for (builder, substatus, n) in
        [(hubs(), "initialAssignment", 1), (hubs().reset_in_place(), "deviceDataReset", 2)]
    {
        let site = Site::start(builder).await;
        let reset = json!({"updateHubAssignment": true, "migrateDeviceData": false});
        for n in 1..=2 {
            let mut members = on(A, twin(n));
            members["reprovisionPolicy"] = reset.clone();
            site.enroll("dev1", members).await;
            let state = site.register("dev1").await;
            assert_eq!(state["substatus"], if n == 1 { "initialAssignment" } else { substatus });
        }
        assert_eq!(site.device(A, "dev1")["twin"]["tags"], json!({"n": n}));
    }
}

#[tokio::test]
async fn without_a_policy_devices_of_2018_keep_their_hub() {
    let site = Site::start(hubs()).await;
    let old = "2018-04-01";
    site.enroll("dev1", on(A, json!({}))).await;
    site.peer.register_as("dev1", old).await;
    site.enroll("dev1", on(B, json!({}))).await;

    assert_eq!(site.peer.register_as("dev1", old).await["assignedHub"], A);
    let saved = json!({"reprovisionPolicy": {"updateHubAssignment": true, "migrateDeviceData": true}});
    site.enroll("dev1", on(B, saved)).await;
    assert_eq!(site.peer.register_as("dev1", old).await["assignedHub"], B, "a saved policy counts");
    site.enroll("dev1", on(A, json!({}))).await;
    assert_eq!(site.register("dev1").await["assignedHub"], A, "a newer device moves");
}

#[tokio::test]
async fn a_device_that_the_hub_knows_already_is_taken_over() {
    for (api_version, substatus) in [
        ("2021-10-01", "reprovisionedToInitialAssignment"),
        ("2019-04-15", "reprovisionedToInitialAssignment"),
        ("2019-03-31", "initialAssignment"),
    ] {
        let site = Site::start(hubs()).await;
        site.enroll("dev1", on(A, twin(1))).await;
        site.register("dev1").await;
        site.remove("/registrations/dev1").await;
        site.enroll("dev1", on(A, twin(2))).await;

        let state = site.peer.register_as("dev1", api_version).await;

        assert_eq!(state["substatus"], substatus, "{api_version}");
        assert_eq!(site.device(A, "dev1")["twin"]["tags"], json!({"n": 1}), "the twin is left alone");
        let kept = site.record("dev1").await.body;
        assert_eq!(kept["substatus"], "reprovisionedToInitialAssignment", "the back end is newer");
    }
}

#[tokio::test]
async fn deleting_an_enrollment_leaves_the_device_on_its_hub() {
    let site = Site::start(hubs()).await;
    site.enroll("dev1", on(A, json!({}))).await;
    site.peer.enroll_group("plant", on(A, json!({}))).await;
    site.register("dev1").await;
    site.register("dev2").await;

    site.remove("/enrollments/dev1").await;
    site.remove("/enrollmentGroups/plant").await;

    assert_eq!(site.get(A, "/devices/dev1").await.status, 200);
    assert_eq!(site.get(A, "/devices/dev2").await.status, 200);
    assert_eq!(site.record("dev1").await.status, 404);
    assert_eq!(site.record("dev2").await.status, 200, "records of groups stay");
}

#[tokio::test]
async fn a_device_that_was_kept_out_of_its_group_comes_back_to_its_record() {
    let site = Site::start(hubs()).await;
    site.peer.enroll_group("plant", on(A, twin(1))).await;
    site.register("dev1").await;
    site.enroll("dev1", json!({"provisioningStatus": "disabled"})).await;
    site.remove("/enrollments/dev1").await;
    assert_eq!(site.record("dev1").await.status, 200);
    site.peer.enroll_group("plant", on(B, twin(2))).await;

    let state = site.register("dev1").await;

    assert_eq!((&state["assignedHub"], &state["substatus"]), (&json!(B), &json!("deviceDataMigrated")));
    assert_eq!(site.get(A, "/devices/dev1").await.status, 404);
    assert_eq!(site.device(B, "dev1")["twin"]["tags"], json!({"n": 1}));
}

#[tokio::test]
async fn an_id_that_is_gone_everywhere_begins_anew() {
    let site = Site::start(hubs()).await;
    site.enroll("dev1", on(A, twin(1))).await;
    site.register("dev1").await;
    site.remove("/enrollments/dev1").await;
    assert_eq!(site.delete(A, "dev1", Some("*")).await.status, 204);

    site.enroll("dev1", on(A, twin(2))).await;
    let state = site.register("dev1").await;

    assert_eq!(state["substatus"], "initialAssignment");
    assert_eq!(site.device(A, "dev1")["twin"]["tags"], json!({"n": 2}));
}

#[tokio::test]
async fn disabling_an_enrollment_leaves_the_device_on_its_hub() {
    let site = Site::start(hubs()).await;
    site.enroll("dev1", on(A, json!({}))).await;
    let before = site.register("dev1").await;
    site.enroll("dev1", on(A, json!({"provisioningStatus": "disabled"}))).await;
    let record = async || site.record("dev1").await.body;
    assert_eq!(record().await["status"], "assigned", "until the next attempt");

    assert_eq!(site.register("dev1").await["status"], "disabled");

    assert_eq!(record().await["status"], "disabled");
    assert_eq!(site.get(A, "/devices/dev1").await.body["status"], "enabled");
    site.enroll("dev1", on(A, json!({}))).await;
    let after = site.register("dev1").await;
    assert_eq!((&after["status"], &after["substatus"]), (&json!("assigned"), &before["substatus"]));
}

#[tokio::test]
async fn another_device_id_counts_when_the_record_is_gone() {
    let site = Site::start(hubs()).await;
    site.enroll("dev1", on(A, json!({"deviceId": "old"}))).await;
    site.register("dev1").await;
    site.enroll("dev1", on(A, json!({"deviceId": "new"}))).await;

    assert_eq!(site.register("dev1").await["deviceId"], "old");
    site.remove("/registrations/dev1").await;
    let state = site.register("dev1").await;

    assert_eq!((&state["deviceId"], &state["substatus"]), (&json!("new"), &json!("initialAssignment")));
    assert_eq!(site.get(A, "/devices/old").await.status, 200, "the old identity stays");
    assert_eq!(site.get(A, "/devices/new").await.status, 200);
}

#[tokio::test]
async fn an_individual_enrollment_takes_over_a_device_of_a_group() {
    let site = Site::start(hubs()).await;
    site.peer.enroll_group("plant", on(A, twin(1))).await;
    site.register("dev1").await;
    site.enroll("dev1", on(B, twin(2))).await;

    let state = site.register("dev1").await;

    assert_eq!((&state["assignedHub"], &state["substatus"]), (&json!(B), &json!("deviceDataMigrated")));
    let device = site.device(B, "dev1");
    assert_eq!(device["twin"]["tags"], json!({"n": 1}));
    assert_eq!(device["identity"]["authentication"]["symmetricKey"]["primaryKey"], PRIMARY);
}
