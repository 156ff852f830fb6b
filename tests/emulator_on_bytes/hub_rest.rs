//! Devices, twins and queries over the REST API of an emulated hub. The requests are literal.

use azure_dps_tests::emulated::{PRIMARY, SECONDARY, sign};
use azure_dps_tests::hub_device::*;
use azure_dps_tests::mqtt_bytes::{CLEAN, connect};
use azure_dps_tests::mqtt_device::MqttDevice;
use azure_dps_tests::site::{A, B, Site, hubs};
use serde_json::json;

#[tokio::test]
async fn a_back_end_creates_a_device_that_connects() {
    let site = Site::start(hubs()).await;
    let body = json!({
        "deviceId": "dev1", "status": "enabled", "capabilities": {"iotEdge": false},
        "authentication": {"type": "sas", "symmetricKey": {"primaryKey": PRIMARY, "secondaryKey": SECONDARY}},
    });

    let created = site.write("PUT", A, "/devices/dev1", "", &body).await;

    assert_eq!(created.status, 200);
    assert_eq!(created.header("etag").unwrap(), format!("\"{}\"", created.body["etag"].as_str().unwrap()));
    assert_eq!(created.body["authentication"]["symmetricKey"]["primaryKey"], PRIMARY);
    MqttDevice::at_hub(&site.peer.emulator).await;
    assert_eq!(site.get(A, "/twins/dev1").await.body["properties"]["desired"]["$version"], 1);

    let again = site.write("PUT", A, "/devices/dev1", "", &body).await;
    assert_eq!((again.status, again.hub_error()), (409, "DeviceAlreadyExists"));
    let stale = site.write("PUT", A, "/devices/dev1", "If-Match: \"AAAA\"\r\n", &body).await;
    assert_eq!((stale.status, stale.hub_error()), (412, "PreconditionFailed"));
    let tagged = format!("If-Match: {}\r\n", created.header("etag").unwrap());
    let updated = site.write("PUT", A, "/devices/dev1", &tagged, &json!({"deviceId": "dev1"})).await;
    assert_eq!(updated.status, 200);
    assert_eq!(updated.body["authentication"], created.body["authentication"], "the keys stay");
    assert_eq!(updated.body["generationId"], created.body["generationId"]);
    assert_ne!(updated.body["etag"], created.body["etag"]);
}

#[tokio::test]
async fn a_device_without_keys_gets_some() {
    let site = Site::start(hubs()).await;
    let created = site.write("PUT", A, "/devices/line:3%231", "", &json!({"deviceId": "line:3#1"})).await;
    let key = created.body["authentication"]["symmetricKey"]["primaryKey"].as_str().unwrap();
    let token = sign(key, &format!("{A}/devices/line:3#1"), "");

    let mut device = MqttDevice::connect(&site.peer.emulator).await;
    assert_eq!(device.sign_in(&connect(CLEAN, 60, "line:3#1", &hub_user(A, "line:3%231"), &token)).await, 0);
    device.listen("devices/line%3A3%231/messages/devicebound/#", 0).await;
    site.peer.emulator.send_to_device(A, "line:3#1", azure_dps_emulator::CloudMessage::new("x")).unwrap();
    let heard = device.published().await.topic;
    assert!(heard.starts_with("devices/line%3A3%231/messages/devicebound/%24.to="), "{heard}");
    device.publish_acknowledged(1, "devices/line%3A3%231/messages/events/", "y").await;
    assert_eq!(site.peer.emulator.telemetry(A, "line:3#1")[0].body, b"y");
}

#[tokio::test]
async fn identities_that_cannot_be_used_are_refused() {
    let site = Site::start(hubs()).await;
    let long = "a".repeat(129);
    for (path, body) in [
        ("/devices/dev1".to_owned(), json!({"deviceId": "dev2"})),
        ("/devices/dev1".to_owned(), json!([])),
        ("/devices/a%2Fb".to_owned(), json!({"deviceId": "a/b"})),
        (format!("/devices/{long}"), json!({"deviceId": long})),
        ("/devices/dev1".to_owned(), json!({"deviceId": "dev1", "status": "on"})),
    ] {
        let reply = site.write("PUT", A, &path, "", &body).await;
        assert_eq!((reply.status, reply.hub_error()), (400, "ArgumentInvalid"), "{path} {body}");
    }
    let absent =
        site.write("PUT", A, "/devices/dev1", "If-Match: \"AAAA\"\r\n", &json!({"deviceId": "dev1"})).await;
    assert_eq!(absent.status, 412);
}

#[tokio::test]
async fn twins_are_patched_and_replaced() {
    let site = assigned().await;
    let mut device = MqttDevice::at_hub(&site.peer.emulator).await;
    device.listen(DESIRED, 0).await;
    let patch =
        json!({"tags": {"m": 2}, "properties": {"desired": {"led": 1, "$version": 7}, "reported": {"x": 1}}});

    let patched = site.write("PATCH", A, "/twins/dev1", "", &patch).await;
    assert_eq!((patched.status, &patched.body["tags"]), (200, &json!({"n": 1, "m": 2})));
    assert_eq!(device.published().await.body, json!({"led": 1, "$version": 2}));
    assert_eq!(patched.body["properties"]["reported"]["$version"], 1, "a back end does not report");

    let etag = patched.header("etag").unwrap();
    let whole = json!({"tags": {"k": 1}, "properties": {"desired": {"interval": 9}}});
    let stale = site.write("PUT", A, "/twins/dev1", "If-Match: \"AAAAAAAAAAA=\"\r\n", &whole).await;
    assert_eq!((stale.status, stale.hub_error()), (412, "PreconditionFailed"));
    let replaced = site.write("PUT", A, "/twins/dev1", &format!("If-Match: {etag}\r\n"), &whole).await;
    assert_eq!((replaced.status, &replaced.body["tags"]), (200, &json!({"k": 1})));
    assert_eq!(device.published().await.body, json!({"led": null, "interval": 9, "$version": 3}));
    assert_ne!(replaced.header("etag").unwrap(), etag);

    for (body, wanted) in [
        (json!({"tags": 1}), "tags must be an object"),
        (json!({"properties": {"desired": {"a$": 1}}}), "contains '$'"),
        (
            json!({"tags": {"a": "x".repeat(4_000), "b": "x".repeat(4_000), "c": "x".repeat(400)}}),
            "8192 bytes are the most",
        ),
    ] {
        let refused = site.write("PATCH", A, "/twins/dev1", "", &body).await;
        assert_eq!((refused.status, refused.hub_error()), (400, "ArgumentInvalid"));
        assert!(refused.body["Message"].as_str().unwrap().contains(wanted), "{}", refused.body);
    }
    assert_eq!(site.write("PATCH", A, "/twins/dev9", "", &patch).await.status, 404);
}

#[tokio::test]
async fn all_devices_are_listed_and_queried_page_by_page() {
    let site = Site::start(hubs()).await;
    for id in ["a", "B", "c"] {
        site.write("PUT", A, &format!("/devices/{id}"), "", &json!({"deviceId": id})).await;
    }
    site.write("PUT", B, "/devices/other", "", &json!({"deviceId": "other"})).await;
    let listed = site.get(A, "/devices").await;
    let ids = |body: &serde_json::Value| -> Vec<String> {
        let items = body.as_array().unwrap().iter();
        items.map(|item| item["deviceId"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&listed.body), ["B", "a", "c"]);
    assert!(listed.body[0]["authentication"]["symmetricKey"]["primaryKey"].is_string());
    assert_eq!(ids(&site.get(A, "/devices?top=2&api-version=2021-04-12").await.body), ["B", "a"]);
    assert_eq!(site.get(A, "/devices?top=0&api-version=2021-04-12").await.status, 400);

    let query = json!({"query": "select * from devices"});
    let mut head = "x-ms-max-item-count: 2\r\n".to_owned();
    let first = site.write("POST", A, "/devices/query", &head, &query).await;
    assert_eq!((first.status, ids(&first.body)), (200, vec!["B".to_owned(), "a".to_owned()]));
    assert_eq!(first.header("x-ms-item-type"), Some("Twin"));
    assert!(first.body[0]["properties"]["desired"].is_object(), "twins");
    let token = first.header("x-ms-continuation").unwrap();
    head += &format!("x-ms-continuation: {token}\r\n");
    let second = site.write("POST", A, "/devices/query", &head, &query).await;
    assert_eq!((ids(&second.body), second.header("x-ms-continuation")), (vec!["c".to_owned()], None));

    assert_eq!(
        site.write("POST", B, "/devices/query", &head, &query).await.status,
        400,
        "the token of a hub"
    );
    let other = json!({"query": "SELECT * FROM devices WHERE tags.n = 1"});
    let refused = site.write("POST", A, "/devices/query", "", &other).await;
    assert_eq!((refused.status, refused.hub_error()), (501, "NotImplemented"));
    for (head, body) in [("x-ms-max-item-count: 0\r\n", query), ("", json!({})), ("", json!([]))] {
        assert_eq!(site.write("POST", A, "/devices/query", head, &body).await.status, 400);
    }
}
