//! Many enrollments at once, and lists of them, as the three official service clients handle them.

use azure_dps_emulator::Emulator;
use serde_json::{Value, json};

use crate::official_node_device_client_1_9_1::{KEY, keys};
use crate::scenarios::scenarios;
use crate::service_client::{GROUP, INDIVIDUAL, Kind, Peer, REGISTRATION, Service};
use crate::stage::Stage;

scenarios! {
    {
        enrollments_go_through_every_mode_and_each_failure_is_told,
        an_id_that_is_there_twice_fails_the_whole_operation,
        more_than_ten_records_fail_the_whole_operation,
        pages_come_until_there_is_no_more,
        a_new_query_goes_on_where_another_one_stopped,
        a_token_of_another_list_is_refused,
    }
    node_1_11_2: Node {
        the_mode_that_its_types_spell_otherwise_is_understood,
        an_empty_list_is_an_empty_page,
        the_devices_of_a_group_are_listed_by_pages,
    }
    // The only one that knows bulk operations of groups.
    python_1_0_0b1: Python {
        groups_go_through_every_mode_and_each_failure_is_told,
        a_group_that_is_there_twice_fails_the_whole_operation,
        an_empty_list_is_an_empty_page,
        the_devices_of_a_group_are_listed_by_pages,
    }
    // Its list of the devices of a group fails inside the client, whatever the service answers.
    classic_python_1_2_0: ClassicPython {}
}

async fn enrollments_go_through_every_mode_and_each_failure_is_told(peer: Peer) {
    every_mode(peer, INDIVIDUAL).await;
}

async fn groups_go_through_every_mode_and_each_failure_is_told(peer: Peer) {
    every_mode(peer, GROUP).await;
}

async fn every_mode(peer: Peer, kind: Kind) {
    let Some(stage) = Stage::start().await else { return };
    let mut service = peer.service(&stage).await;
    let [mut a, mut b, mut c] = ["a", "b", "c"].map(|id| kind.record(id, keys()));

    let created = service.bulk(kind, "create", json!([a, b])).await.unwrap();
    assert_succeeded(&created);
    let again = service.bulk(kind, "create", json!([b, c])).await.unwrap();
    assert_failed(&again, kind, &[("b", kind.conflict())]);
    assert_eq!(ids(&mut service, kind).await, ["a", "b", "c"], "the others are carried out");

    a["provisioningStatus"] = json!("disabled");
    let absent = kind.record("absent", keys());
    let updated = service.bulk(kind, "update", json!([a, absent])).await.unwrap();
    assert_failed(&updated, kind, &[("a", kind.conflict()), ("absent", 404_201)]);
    a["etag"] = service.get(kind, "a").await.unwrap()["etag"].take();
    assert_succeeded(&service.bulk(kind, "update", json!([a])).await.unwrap());
    assert_eq!(service.get(kind, "a").await.unwrap()["provisioningStatus"], "disabled");
    a.as_object_mut().unwrap().remove("etag");

    b["etag"] = json!("\"stale\"");
    c["etag"] = service.get(kind, "c").await.unwrap()["etag"].take();
    c["provisioningStatus"] = json!("disabled");
    let matched = service.bulk(kind, "updateIfMatchETag", json!([b, c])).await.unwrap();
    assert_failed(&matched, kind, &[("b", 412_001)]);
    assert_eq!(service.get(kind, "b").await.unwrap()["provisioningStatus"], "enabled");
    assert_eq!(service.get(kind, "c").await.unwrap()["provisioningStatus"], "disabled");

    c.as_object_mut().unwrap().remove("etag");
    let deleted = service.bulk(kind, "delete", json!([a, b, c, absent])).await.unwrap();
    assert_failed(&deleted, kind, &[("b", 412_001), ("absent", 404_201)]);
    assert_eq!(ids(&mut service, kind).await, ["b"]);
}

async fn an_id_that_is_there_twice_fails_the_whole_operation(peer: Peer) {
    doubled(peer, INDIVIDUAL).await;
}

async fn a_group_that_is_there_twice_fails_the_whole_operation(peer: Peer) {
    doubled(peer, GROUP).await;
}

async fn doubled(peer: Peer, kind: Kind) {
    let Some(stage) = Stage::start().await else { return };
    let mut service = peer.service(&stage).await;
    let [a, b] = ["a", "b"].map(|id| kind.record(id, keys()));

    peer.assert_refused(service.bulk(kind, "create", json!([a, b, a])).await, 400_000);

    assert!(stage.cause().ends_with(": a is there twice"), "{}", stage.cause());
    peer.assert_refused(service.get(kind, "b").await, 404_201);
}

async fn more_than_ten_records_fail_the_whole_operation(peer: Peer) {
    let Some(stage) = Stage::start().await else { return };
    let mut service = peer.service(&stage).await;
    let records: Value = (0..11).map(|number| INDIVIDUAL.record(&format!("a{number}"), keys())).collect();

    peer.assert_refused(service.bulk(INDIVIDUAL, "create", records).await, 400_000);
}

async fn the_mode_that_its_types_spell_otherwise_is_understood(peer: Peer) {
    let Some(stage) = Stage::start().await else { return };
    let mut service = peer.service(&stage).await;
    let mut record = service.put(INDIVIDUAL, INDIVIDUAL.record("a", keys())).await.unwrap();
    record["provisioningStatus"] = json!("disabled");

    assert_succeeded(&service.bulk(INDIVIDUAL, "updateIfMatchEtag", json!([record])).await.unwrap());

    assert_eq!(service.get(INDIVIDUAL, "a").await.unwrap()["provisioningStatus"], "disabled");
}

async fn an_empty_list_is_an_empty_page(peer: Peer) {
    let Some(stage) = Stage::start().await else { return };
    let mut service = peer.service(&stage).await;

    for (kind, window) in
        [(INDIVIDUAL, json!({})), (GROUP, json!({})), (REGISTRATION, json!({"group": "plant"}))]
    {
        let list = service.pages(kind, window, 1).await.unwrap();
        assert_eq!(list, json!({"pages": [[]], "token": null}));
    }
}

async fn pages_come_until_there_is_no_more(peer: Peer) {
    let Some(stage) = Stage::with(Emulator::builder().list_by_id()).await else { return };
    let mut service = peer.service(&stage).await;

    for kind in [INDIVIDUAL, GROUP] {
        for id in ["a", "b", "c"] {
            service.put(kind, kind.record(id, keys())).await.unwrap();
        }
        for (window, expected) in [
            (json!({"size": 1}), &[&["a"][..], &["b"], &["c"]][..]),
            (json!({"size": 2}), &[&["a", "b"], &["c"]]),
            (json!({"size": 3}), &[&["a", "b", "c"]]),
            (json!({}), &[&["a", "b", "c"]]),
        ] {
            let list = service.pages(kind, window, expected.len()).await.unwrap();
            assert_eq!(pages(&list, kind), expected);
            assert!(list["token"].is_null(), "{list}");
            for record in list["pages"].as_array().unwrap().iter().flat_map(|page| page.as_array().unwrap()) {
                assert_eq!(record["attestation"], json!({"type": "symmetricKey"}), "a list hides keys");
            }
        }
    }
}

async fn a_new_query_goes_on_where_another_one_stopped(peer: Peer) {
    let Some(stage) = Stage::with(Emulator::builder().list_by_id()).await else { return };
    let mut service = peer.service(&stage).await;

    for kind in [INDIVIDUAL, GROUP] {
        for id in ["a", "b", "c", "d"] {
            service.put(kind, kind.record(id, keys())).await.unwrap();
        }
        let first = service.pages(kind, json!({"size": 1, "most": 1}), 1).await.unwrap();
        assert_eq!(pages(&first, kind), [["a"]]);

        let window = json!({"size": 2, "token": first["token"]});
        let rest = service.pages(kind, window, 2).await.unwrap();

        assert_eq!(pages(&rest, kind), [&["b", "c"][..], &["d"]]);
    }
}

async fn a_token_of_another_list_is_refused(peer: Peer) {
    let Some(stage) = Stage::start().await else { return };
    let mut service = peer.service(&stage).await;
    for id in ["a", "b"] {
        service.put(INDIVIDUAL, INDIVIDUAL.record(id, keys())).await.unwrap();
    }
    let list = service.pages(INDIVIDUAL, json!({"size": 1, "most": 1}), 1).await.unwrap();

    let refused = service.pages(GROUP, json!({"token": list["token"]}), 1).await;

    peer.assert_refused(refused, 400_000);
}

async fn the_devices_of_a_group_are_listed_by_pages(peer: Peer) {
    let Some(stage) = Stage::with(Emulator::builder().list_by_id()).await else { return };
    let mut service = peer.service(&stage).await;
    let mut device = stage.device().await;
    service.put(GROUP, GROUP.record("plant", keys())).await.unwrap();
    for id in ["s-1", "s-2", "s-3"] {
        device.register(json!({"registrationId": id, "groupKey": KEY})).await.unwrap();
    }

    for (size, expected) in [(1, &[&["s-1"][..], &["s-2"], &["s-3"]][..]), (2, &[&["s-1", "s-2"], &["s-3"]])]
    {
        let window = json!({"group": "plant", "size": size});
        let list = service.pages(REGISTRATION, window, expected.len()).await.unwrap();
        assert_eq!(pages(&list, REGISTRATION), expected);
        assert_eq!(list["pages"][0][0]["status"], "assigned");
    }
    let first = json!({"group": "plant", "size": 2, "most": 1});
    let list = service.pages(REGISTRATION, first, 1).await.unwrap();
    let rest = json!({"group": "plant", "token": list["token"]});
    let list = service.pages(REGISTRATION, rest, 1).await.unwrap();
    assert_eq!(pages(&list, REGISTRATION), [["s-3"]]);
}

fn assert_succeeded(result: &Value) {
    assert_eq!(result["isSuccessful"], true, "{result}");
    assert!(result["errors"].as_array().is_none_or(Vec::is_empty), "{result}");
}

fn assert_failed(result: &Value, kind: Kind, expected: &[(&str, u32)]) {
    let errors = result["errors"].as_array().unwrap();
    let reported: Vec<_> =
        errors.iter().map(|error| (error[kind.id].as_str().unwrap(), error["errorCode"].clone())).collect();
    let expected: Vec<_> = expected.iter().map(|(id, code)| (*id, json!(code))).collect();
    assert_eq!((&result["isSuccessful"], reported), (&json!(false), expected));
    assert!(errors.iter().all(|error| error["errorStatus"].is_string()), "{result}");
}

async fn ids(service: &mut Service<'_>, kind: Kind) -> Vec<String> {
    let list = service.pages(kind, json!({}), 1).await.unwrap();
    let mut ids: Vec<_> = pages(&list, kind).concat().into_iter().map(str::to_owned).collect();
    ids.sort_unstable();
    ids
}

/// The ids on each page.
fn pages(list: &Value, kind: Kind) -> Vec<Vec<&str>> {
    let mut pages = Vec::new();
    for page in list["pages"].as_array().unwrap() {
        pages.push(page.as_array().unwrap().iter().map(|record| record[kind.id].as_str().unwrap()).collect());
    }
    pages
}
