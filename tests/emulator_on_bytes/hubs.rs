//! The REST API of the linked hubs. The requests are literal and the tokens signed by the tests.

use azure_dps_emulator::{Emulator, Pki};
use azure_dps_tests::emulated::{PRIMARY, SECONDARY, sign};
use azure_dps_tests::site::{A, B, Site, hubs, on, twin};
use serde_json::json;

#[tokio::test]
async fn an_identity_is_told_in_the_words_of_the_hub() {
    let site = Site::start(hubs()).await;
    site.enroll("dev1", on(A, json!({"capabilities": {"iotEdge": true}}))).await;
    site.register("dev1").await;

    let answer = site.get(A, "/devices/dev1").await;

    assert_eq!(answer.status, 200);
    let identity = &answer.body;
    assert_eq!(answer.header("etag").unwrap(), format!("\"{}\"", identity["etag"].as_str().unwrap()));
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
    assert_eq!(answer.header("etag").unwrap(), format!("\"{}\"", twin["etag"].as_str().unwrap()));
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
    let etag = site.get(A, "/devices/dev1").await.header("etag").unwrap().to_owned();

    for if_match in [None, Some("\"AAAA\"")] {
        let refused = site.delete(A, "dev1", if_match).await;
        assert_eq!((refused.status, refused.hub_error()), (412, "PreconditionFailed"));
    }
    assert_eq!(site.delete(A, "dev1", Some(&etag)).await.status, 204);
    for answer in [
        site.delete(A, "dev1", Some("*")).await,
        site.get(A, "/devices/dev1").await,
        site.get(A, "/twins/dev1").await,
    ] {
        assert_eq!((answer.status, answer.hub_error()), (404, "DeviceNotFound"));
        let message = answer.body["Message"].as_str().unwrap();
        assert_eq!(message, "ErrorCode:DeviceNotFound;Device dev1 not registered");
    }

    let record = site.record("dev1").await.body;
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
    let ask = async |method: &str, path: &str, key: &str, resource: &str| {
        let target = format!("{path}?api-version=2018-06-30");
        site.send_as(method, A, &target, &sign(key, resource, ""), "").await
    };
    let own = format!("{A}/devices/dev1");

    for key in [PRIMARY, SECONDARY] {
        let answer = ask("GET", "/devices/dev1/modules", key, &own).await;
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
        let refused = ask("GET", path, key, resource).await;
        assert_eq!((refused.status, refused.hub_error()), (401, "IotHubUnauthorizedAccess"), "{path}");
    }
    let message = ask("POST", "/devices/dev1/messages/events", PRIMARY, &own).await;
    assert_eq!((message.status, message.hub_error()), (501, "NotImplemented"));
}

#[tokio::test]
async fn a_device_lists_its_modules_with_its_own_certificate() {
    let site = Site::start(hubs()).await;
    let pki = Pki::new(["dev1"], 0).unwrap();
    let certificates = json!({"primary": {"certificate": pki.devices[0].certificate_pem}});
    let attestation = json!({"type": "x509", "x509": {"clientCertificates": certificates}});
    site.enroll("dev1", on(A, json!({"attestation": attestation}))).await;
    let stranger = Pki::new(["dev1"], 0).unwrap();
    assert_eq!(site.begin_with("dev1", &pki.devices[0]).await.status, 202);

    for (client, wanted) in [
        (site.client_with(A, &pki.devices[0]), 200),
        (site.client_with(A, &stranger.devices[0]), 401),
        (site.client(A), 401),
    ] {
        let target = "/devices/dev1/modules?api-version=2018-06-30";
        assert_eq!(client.ask("GET", target, "", "").await.status, wanted);
    }
}

#[tokio::test]
async fn a_path_of_a_hub_at_the_address_of_the_service_is_named_in_the_journal() {
    let site = Site::start(hubs()).await;

    let answer = site.client("localhost").ask("POST", "/devices/dev1/messages/events", "", "").await;

    assert_eq!((answer.status, &answer.body["errorCode"]), (404, &json!(404_000)));
    let cause = site.peer.emulator.journal().pop().unwrap().cause.unwrap();
    assert!(cause.starts_with("the path is that of an IoT hub; this is the provisioning service"), "{cause}");
}

#[tokio::test]
async fn a_hub_lets_in_who_has_its_own_key_only() {
    let site = Site::start(hubs()).await;
    let (key, other) = (site.key(A), site.key(B));
    let owner = "iothubowner";
    let send =
        async |token: &str| site.send_as("GET", A, "/devices/dev1?api-version=2021-04-12", token, "").await;

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
        assert_eq!((refused.status, refused.hub_error()), (401, "IotHubUnauthorizedAccess"));
        assert_eq!(refused.body["Message"], "ErrorCode:IotHubUnauthorizedAccess;Unauthorized");
        assert!(refused.body["ExceptionMessage"].as_str().unwrap().starts_with("Tracking ID:"));
        assert!(site.peer.cause().starts_with(cause), "{}", site.peer.cause());
    }
}

#[tokio::test]
async fn what_is_not_emulated_says_so() {
    let site = Site::start(hubs()).await;
    for (method, path) in [
        ("GET", "/statistics/devices"),
        ("POST", "/devices"),
        ("DELETE", "/twins/dev1"),
        ("PUT", "/jobs/v2/job1"),
        ("GET", "/configurations"),
    ] {
        let answer = site.send(method, A, path, "").await;
        assert_eq!((answer.status, answer.hub_error()), (501, "NotImplemented"), "{path}");
        assert!(answer.body["Message"].as_str().unwrap().contains("GET, PUT and DELETE /devices/{id}"));
    }
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: AMQPWSB10\r\n";
    let answer = site.send("GET", A, "/$iothub/websocket", upgrade).await;
    assert_eq!(answer.status, 501, "hubs speak no AMQP here");

    for (version, status) in
        [("2018-06-30", 404), ("2021-04-12", 404), ("2030-01-01", 404), ("2017-06-30", 400), ("x", 400)]
    {
        let answer = site.send("GET", A, &format!("/devices/dev1?api-version={version}"), "").await;
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
    let send = async |method: &str, path: &str| site.peer.manage(method, &format!("/hubs{path}"), "").await;
    let device = site.peer.emulator.hub_device(A, "line:3#1").unwrap();

    assert_eq!(send("GET", "").await.1[0]["devices"], 1);
    assert_eq!(send("GET", &format!("/{A}/devices")).await, (200, json!([device])));
    assert_eq!(send("GET", &format!("/{A}/devices/line:3%231")).await, (200, device));
    assert_eq!(send("GET", "/elsewhere.example/devices").await.0, 404);
    assert_eq!(send("PUT", &format!("/{A}/devices")).await.0, 405);
    assert_eq!(send("DELETE", &format!("/{A}/devices/line:3%231")).await.0, 204);
    assert_eq!(send("DELETE", &format!("/{A}/devices/line:3%231")).await.0, 404);
    assert!(!site.peer.emulator.delete_hub_device(A, "line:3#1"));
}
