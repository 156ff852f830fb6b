//! What reaches the linked hubs, read from their own REST API: identities, twins, and what becomes of them when devices
//! move, are reset, deleted and enrolled again. The requests are literal and the tokens signed here.

// Clippy allows these in test functions only, and the helpers below are test code too.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use std::sync::Arc;

use azure_dps_emulator::{Emulator, EmulatorBuilder, KeyedCertificate, Pki};
use azure_dps_tests::emulated::{Emulated, PRIMARY, SECONDARY, derive, sign};
use azure_dps_tests::trusting;
use reqwest::header::HeaderMap;
use reqwest::{Client, Method};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};

const A: &str = "hub-a.example";
const B: &str = "hub-b.azure-devices.net";

// The REST API

#[tokio::test]
async fn an_identity_is_told_in_the_words_of_the_hub() {
    let site = Site::start(hubs()).await;
    site.enroll("dev1", on(A, json!({"capabilities": {"iotEdge": true}}))).await;
    site.register("dev1").await;

    let answer = site.get(A, "/devices/dev1").await;

    assert_eq!(answer.status, 200);
    let identity = &answer.body;
    assert_eq!(answer.headers["etag"], format!("\"{}\"", identity["etag"].as_str().unwrap()));
    assert_eq!(
        *identity,
        json!({
            "deviceId": "dev1",
            "generationId": identity["generationId"],
            "etag": identity["etag"],
            "connectionState": "Disconnected",
            "status": "enabled",
            "statusReason": null,
            "connectionStateUpdatedTime": "0001-01-01T00:00:00Z",
            "statusUpdatedTime": "0001-01-01T00:00:00Z",
            "lastActivityTime": "0001-01-01T00:00:00Z",
            "cloudToDeviceMessageCount": 0,
            "authentication": {
                "symmetricKey": {"primaryKey": PRIMARY, "secondaryKey": SECONDARY},
                "x509Thumbprint": {"primaryThumbprint": null, "secondaryThumbprint": null},
                "type": "sas",
            },
            "capabilities": {"iotEdge": true},
        })
    );
    let device = site.peer.emulator.hub_device(A, "dev1").unwrap();
    assert_eq!(device["identity"], *identity);
    assert_eq!(site.peer.emulator.hub_devices("HUB-A.example"), Some(json!([device])));
    assert_eq!(site.peer.emulator.hub_devices("elsewhere.example"), None);
}

#[tokio::test]
async fn a_twin_has_tags_and_desired_properties_with_their_metadata() {
    let site = Site::start(hubs()).await;
    site.enroll("dev1", on(A, twin(1))).await;
    site.register("dev1").await;

    let answer = site.get(A, "/twins/dev1").await;

    assert_eq!(answer.status, 200);
    let twin = &answer.body;
    assert_eq!(answer.headers["etag"], format!("\"{}\"", twin["etag"].as_str().unwrap()));
    assert_eq!((&twin["deviceId"], &twin["tags"]), (&json!("dev1"), &json!({"n": 1})));
    let desired = &twin["properties"]["desired"];
    assert_eq!((&desired["interval"], &desired["$version"]), (&json!(1), &json!(1)));
    let metadata = &desired["$metadata"];
    assert_eq!(
        metadata["interval"],
        json!({"$lastUpdated": metadata["$lastUpdated"], "$lastUpdatedVersion": 1})
    );
    let reported = &twin["properties"]["reported"];
    assert_eq!(
        *reported,
        json!({"$metadata": {"$lastUpdated": metadata["$lastUpdated"]}, "$version": 1}),
        "nothing is reported"
    );
    assert_eq!(site.peer.emulator.hub_device(A, "dev1").unwrap()["twin"], *twin);
}

#[tokio::test]
async fn a_device_is_deleted_in_the_version_that_was_seen() {
    let site = Site::start(hubs()).await;
    site.enroll("dev1", on(A, json!({}))).await;
    site.register("dev1").await;
    let etag = site.get(A, "/devices/dev1").await.headers["etag"].to_str().unwrap().to_owned();

    for if_match in [None, Some("\"AAAA\"")] {
        let refused = site.delete(A, "dev1", if_match).await;
        assert_eq!((refused.status, refused.error()), (412, "PreconditionFailed"));
    }
    assert_eq!(site.delete(A, "dev1", Some(&etag)).await.status, 204);
    for answer in [
        site.delete(A, "dev1", Some("*")).await,
        site.get(A, "/devices/dev1").await,
        site.get(A, "/twins/dev1").await,
    ] {
        assert_eq!((answer.status, answer.error()), (404, "DeviceNotFound"));
        let message = answer.body["Message"].as_str().unwrap();
        assert_eq!(message, "ErrorCode:DeviceNotFound;Device dev1 not registered");
    }

    let record = site.peer.service(Method::GET, "/registrations/dev1", None).await.1;
    assert_eq!(record["status"], "assigned", "the record does not notice");
    assert_eq!(site.register("dev1").await["substatus"], "initialAssignment");
    assert_eq!(site.delete(A, "dev1", Some("*")).await.status, 204, "it was there again");
}

/// The identity service lists them after every registration, and registers anew if it may not.
#[tokio::test]
async fn a_device_lists_its_modules_with_its_own_key() {
    let site = Site::start(hubs()).await;
    site.enroll("dev1", on(A, json!({}))).await;
    site.enroll("dev2", on(A, json!({}))).await;
    site.register("dev1").await;
    site.register("dev2").await;
    let ask = async |method: Method, path: &str, key: &str, resource: &str| {
        let target = format!("{path}?api-version=2018-06-30");
        Answer::read(site.request(method, A, &target).header("authorization", sign(key, resource, ""))).await
    };
    let own = format!("{A}/devices/dev1");

    for key in [PRIMARY, SECONDARY] {
        let answer = ask(Method::GET, "/devices/dev1/modules", key, &own).await;
        assert_eq!((answer.status, answer.body), (200, json!([])));
    }
    assert_eq!(site.get(A, "/devices/dev1/modules").await.body, json!([]), "the policy may, too");
    for (path, key, resource) in [
        ("/devices/dev2/modules", PRIMARY, own.as_str()),
        ("/devices/dev1/modules", "AAAA", &own),
        ("/devices/dev1/modules", PRIMARY, A),
        ("/devices/none/modules", PRIMARY, &format!("{A}/devices/none")),
        ("/devices/dev1", PRIMARY, &own),
        ("/twins/dev1", PRIMARY, &format!("{A}/twins/dev1")),
    ] {
        let refused = ask(Method::GET, path, key, resource).await;
        assert_eq!((refused.status, refused.error()), (401, "IotHubUnauthorizedAccess"), "{path}");
    }
    let message = ask(Method::POST, "/devices/dev1/messages/events", PRIMARY, &own).await;
    assert_eq!((message.status, message.error()), (501, "NotImplemented"));
}

#[tokio::test]
async fn a_device_lists_its_modules_with_its_own_certificate() {
    let site = Site::start(hubs()).await;
    let pki = Pki::new(["dev1"], 0).unwrap();
    let certificates = json!({"primary": {"certificate": pki.devices[0].certificate_pem}});
    let attestation = json!({"type": "x509", "x509": {"clientCertificates": certificates}});
    site.enroll("dev1", on(A, json!({"attestation": attestation}))).await;
    let device = site.client_with(&pki.devices[0]);
    let stranger = site.client_with(&Pki::new(["dev1"], 0).unwrap().devices[0]);
    assert_eq!(device.put(site.register_url("dev1")).send().await.unwrap().status(), 202);

    for (client, wanted) in [(&device, 200), (&stranger, 401), (&site.client, 401)] {
        let port = site.peer.emulator.https_port();
        let url = format!("https://{A}:{port}/devices/dev1/modules?api-version=2018-06-30");
        assert_eq!(Answer::read(client.get(url)).await.status, wanted);
    }
}

#[tokio::test]
async fn a_path_of_a_hub_at_the_address_of_the_service_is_named_in_the_journal() {
    let site = Site::start(hubs()).await;
    let url = format!("https://localhost:{}/devices/dev1/messages/events", site.peer.emulator.https_port());

    let answer = Answer::read(site.client.post(url)).await;

    assert_eq!((answer.status, &answer.body["errorCode"]), (404, &json!(404_000)));
    let cause = site.peer.emulator.journal().pop().unwrap().cause.unwrap();
    assert!(cause.starts_with("the path is that of an IoT hub; this is the provisioning service"), "{cause}");
}

#[tokio::test]
async fn a_hub_lets_in_who_has_its_own_key_only() {
    let site = Site::start(hubs()).await;
    let (key, other) = (site.key(A), site.key(B));
    let owner = "iothubowner";
    let send = async |token: &str| {
        let request = site.request(Method::GET, A, "/devices/dev1?api-version=2021-04-12");
        Answer::read(request.header("authorization", token)).await
    };

    for token in [sign(&key, A, owner), sign(&key, &format!("{A}/devices"), owner)] {
        assert_eq!(send(&token).await.status, 404, "let in");
    }
    for (token, cause) in [
        (String::new(), "the credential is not a SharedAccessSignature"),
        (sign(&other, A, owner), "signature does not match the key of policy iothubowner of this hub"),
        (sign(&key, B, owner), "SAS audience does not cover hub-a.example:"),
        (sign(&key, A, "service"), "the token does not name the policy iothubowner"),
    ] {
        let refused = send(&token).await;
        assert_eq!((refused.status, refused.error()), (401, "IotHubUnauthorizedAccess"));
        assert_eq!(refused.body["Message"], "ErrorCode:IotHubUnauthorizedAccess;Unauthorized");
        assert!(refused.body["ExceptionMessage"].as_str().unwrap().starts_with("Tracking ID:"));
        assert!(site.peer.cause().starts_with(cause), "{}", site.peer.cause());
    }
}

#[tokio::test]
async fn what_is_not_emulated_says_so() {
    let site = Site::start(hubs()).await;
    for (method, path) in [
        (Method::POST, "/devices/query"),
        (Method::PATCH, "/twins/dev1"),
        (Method::PUT, "/devices/dev1"),
        (Method::GET, "/devices"),
    ] {
        let answer = site.send(method, A, path, None).await;
        assert_eq!((answer.status, answer.error()), (501, "NotImplemented"), "{path}");
        assert!(answer.body["Message"].as_str().unwrap().contains("GET and DELETE /devices/{id}"));
    }
    let upgrade = site
        .request(Method::GET, A, "/$iothub/websocket?api-version=2021-04-12")
        .header("authorization", sign(&site.key(A), A, "iothubowner"))
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "mqtt");
    assert_eq!(Answer::read(upgrade).await.status, 501, "no device talks to a hub here");

    for (version, status) in
        [("2018-06-30", 404), ("2021-04-12", 404), ("2030-01-01", 404), ("2017-06-30", 400), ("x", 400)]
    {
        let request = site.request(Method::GET, A, &format!("/devices/dev1?api-version={version}"));
        let answer =
            Answer::read(request.header("authorization", sign(&site.key(A), A, "iothubowner"))).await;
        assert_eq!(answer.status, status, "{version}");
    }
}

#[tokio::test]
async fn a_hub_on_this_machine_does_not_stand_in_the_way_of_the_service() {
    let site = Site::start(Emulator::builder().hub("localhost").hub("127.0.0.1")).await;
    site.enroll("dev1", on("localhost", json!({}))).await;

    assert_eq!(site.register("dev1").await["assignedHub"], "localhost");
    assert_eq!(site.device("localhost", "dev1")["identity"]["deviceId"], "dev1");
}

#[tokio::test]
async fn the_management_port_shows_and_deletes_devices() {
    let site = Site::start(hubs().manage_port(0)).await;
    site.enroll("dev1", on(A, json!({"deviceId": "line:3#1"}))).await;
    site.register("dev1").await;
    let base = format!("http://127.0.0.1:{}/hubs", site.peer.emulator.manage_port().unwrap());
    let send = async |method: Method, path: &str| {
        let response = site.client.request(method, format!("{base}{path}")).send().await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_str::<Value>(&response.text().await.unwrap()).unwrap_or_default())
    };
    let device = site.peer.emulator.hub_device(A, "line:3#1").unwrap();

    assert_eq!(send(Method::GET, "").await.1[0]["devices"], 1);
    assert_eq!(send(Method::GET, &format!("/{A}/devices")).await, (200, json!([device])));
    assert_eq!(send(Method::GET, &format!("/{A}/devices/line:3%231")).await, (200, device));
    assert_eq!(send(Method::GET, "/elsewhere.example/devices").await.0, 404);
    assert_eq!(send(Method::PUT, &format!("/{A}/devices")).await.0, 405);
    assert_eq!(send(Method::DELETE, &format!("/{A}/devices/line:3%231")).await.0, 204);
    assert_eq!(send(Method::DELETE, &format!("/{A}/devices/line:3%231")).await.0, 404);
    assert!(!site.peer.emulator.delete_hub_device(A, "line:3#1"));
}

// What devices bring along

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
    let client = site.client_with(device);

    assert_eq!(client.put(site.register_url("dev1")).send().await.unwrap().status(), 202);

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

// Registering again

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
            "each registration tells its own"
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
        assert_eq!(site.peer.service(Method::DELETE, "/registrations/dev1", None).await.0, 204);
        site.enroll("dev1", on(A, twin(2))).await;

        let state = site.peer.register_as("dev1", api_version).await;

        assert_eq!(state["substatus"], substatus, "{api_version}");
        assert_eq!(site.device(A, "dev1")["twin"]["tags"], json!({"n": 1}), "the twin is left alone");
        let kept = site.peer.service(Method::GET, "/registrations/dev1", None).await.1;
        assert_eq!(kept["substatus"], "reprovisionedToInitialAssignment", "the back end is newer");
    }
}

// Removing and using again

#[tokio::test]
async fn deleting_an_enrollment_leaves_the_device_on_its_hub() {
    let site = Site::start(hubs()).await;
    site.enroll("dev1", on(A, json!({}))).await;
    site.peer.enroll_group("plant", on(A, json!({}))).await;
    site.register("dev1").await;
    site.register("dev2").await;

    assert_eq!(site.peer.service(Method::DELETE, "/enrollments/dev1", None).await.0, 204);
    assert_eq!(site.peer.service(Method::DELETE, "/enrollmentGroups/plant", None).await.0, 204);

    assert_eq!(site.get(A, "/devices/dev1").await.status, 200);
    assert_eq!(site.get(A, "/devices/dev2").await.status, 200);
    assert_eq!(site.peer.service(Method::GET, "/registrations/dev1", None).await.0, 404);
    assert_eq!(
        site.peer.service(Method::GET, "/registrations/dev2", None).await.0,
        200,
        "records of groups stay"
    );
}

#[tokio::test]
async fn a_device_that_was_kept_out_of_its_group_comes_back_to_its_record() {
    let site = Site::start(hubs()).await;
    site.peer.enroll_group("plant", on(A, twin(1))).await;
    site.register("dev1").await;
    site.enroll("dev1", json!({"provisioningStatus": "disabled"})).await;
    assert_eq!(site.peer.service(Method::DELETE, "/enrollments/dev1", None).await.0, 204);
    assert_eq!(site.peer.service(Method::GET, "/registrations/dev1", None).await.0, 200);
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
    assert_eq!(site.peer.service(Method::DELETE, "/enrollments/dev1", None).await.0, 204);
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
    let record = async || site.peer.service(Method::GET, "/registrations/dev1", None).await.1;
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
    assert_eq!(site.peer.service(Method::DELETE, "/registrations/dev1", None).await.0, 204);
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

/// An emulator with its hubs, and a client that reaches them by their names.
struct Site {
    peer: Emulated,
    client: Client,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Site {
    async fn start(builder: EmulatorBuilder) -> Self {
        let peer = Emulated::start(builder).await;
        let client = client(&peer, trusting(peer.emulator.ca_pem()));
        Site { peer, client }
    }

    /// A device that presents its certificate, to its hub as well.
    fn client_with(&self, device: &KeyedCertificate) -> Client {
        let chain = CertificateDer::pem_slice_iter(device.chain_pem.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(device.private_key_pem.as_bytes()).unwrap();
        let mut config = trusting(self.peer.emulator.ca_pem());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let signing = rustls::sign::CertifiedKey::from_der(chain, key, &provider).unwrap();
        config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(signing));
        client(&self.peer, config)
    }

    fn register_url(&self, id: &str) -> String {
        let port = self.peer.emulator.https_port();
        format!("https://localhost:{port}/0ne00EMU1A7/registrations/{id}/register?api-version=2021-10-01")
    }

    async fn enroll(&self, id: &str, members: Value) {
        self.peer.enroll(id, members).await;
    }

    async fn register(&self, id: &str) -> Value {
        self.peer.register(id, json!({})).await
    }

    fn device(&self, hub: &str, id: &str) -> Value {
        self.peer.emulator.hub_device(hub, id).unwrap()
    }

    /// The key of the hub's policy, from its connection string.
    fn key(&self, hub: &str) -> String {
        let text = self.peer.emulator.hub_connection_string(hub).unwrap();
        let wanted = format!(
            "HostName={hub}:{};SharedAccessKeyName=iothubowner;SharedAccessKey=",
            self.peer.emulator.https_port()
        );
        text.strip_prefix(&wanted).unwrap().to_owned()
    }

    async fn get(&self, hub: &str, path: &str) -> Answer {
        self.send(Method::GET, hub, path, None).await
    }

    async fn delete(&self, hub: &str, id: &str, if_match: Option<&str>) -> Answer {
        self.send(Method::DELETE, hub, &format!("/devices/{id}"), if_match).await
    }

    async fn send(&self, method: Method, hub: &str, path: &str, if_match: Option<&str>) -> Answer {
        let token = sign(&self.key(hub), hub, "iothubowner");
        let mut request = self.request(method, hub, &format!("{path}?api-version=2021-04-12"));
        request = request.header("authorization", token);
        if let Some(if_match) = if_match {
            request = request.header("if-match", if_match);
        }
        Answer::read(request).await
    }

    fn request(&self, method: Method, hub: &str, target: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("https://{hub}:{}{target}", self.peer.emulator.https_port()))
    }
}

impl Answer {
    async fn read(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        Answer { status, headers, body: serde_json::from_str(&text).unwrap_or_default() }
    }

    fn error(&self) -> &str {
        self.headers["iothub-errorcode"].to_str().unwrap()
    }
}

fn client(peer: &Emulated, config: rustls::ClientConfig) -> Client {
    let address = ([127, 0, 0, 1], peer.emulator.https_port()).into();
    let client = Client::builder().tls_backend_preconfigured(config).no_proxy();
    client.resolve(A, address).resolve(B, address).build().unwrap()
}

fn hubs() -> EmulatorBuilder {
    Emulator::builder().hub(A).hub(B)
}

/// The members of an enrollment whose devices go to this hub.
fn on(hub: &str, members: Value) -> Value {
    let mut all = json!({"allocationPolicy": "static", "iotHubs": [hub]});
    all.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    all
}

fn twin(n: u32) -> Value {
    json!({"initialTwin": {"tags": {"n": n}, "properties": {"desired": {"interval": n}}}})
}
