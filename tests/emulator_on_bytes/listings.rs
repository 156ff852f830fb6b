//! Listings of the service API, page by page. Contract: docs/wire/service-api.md.

use azure_dps_emulator::Emulator;
use azure_dps_tests::emulated::{ALL, Emulated, PRIMARY, device_token};
use serde_json::json;

use crate::tokens::SERVICE;

#[tokio::test]
async fn a_listing_goes_on_page_by_page_and_in_the_order_of_ids_if_it_is_told_to() {
    let peer = Emulated::start(Emulator::builder().list_by_id()).await;
    for id in ["c", "A", "b", "E", "d"] {
        peer.enroll(id, json!({})).await;
    }

    let mut head = "x-ms-max-item-count: 2\r\n".to_owned();
    let mut pages = Vec::new();
    loop {
        let page = peer.ask("POST", "/enrollments/query", &head, ALL).await;
        assert_eq!(page.status, 200, "{}", page.body);
        assert_eq!(page.header("x-ms-item-type"), Some("Enrollment"));
        assert_eq!(page.header("x-ms-max-item-count"), None, "the service never returns it");
        pages.push(page.ids("registrationId"));
        let Some(token) = page.header("x-ms-continuation") else { break };
        head = format!("x-ms-max-item-count: 2\r\nx-ms-continuation: {token}\r\n");
    }

    assert_eq!(pages, [vec!["A", "b"], vec!["c", "d"], vec!["E"]]);
}

#[tokio::test]
async fn the_last_page_has_no_token_even_when_it_is_full() {
    let peer = Emulated::with_one_poll().await;
    let empty = peer.ask("POST", "/enrollments/query", "", ALL).await;
    assert_eq!((empty.status, &empty.body, empty.header("x-ms-continuation")), (200, &json!([]), None));
    assert_eq!(empty.header("x-ms-item-type"), Some("Enrollment"), "clients throw without it");
    peer.enroll("a", json!({})).await;
    peer.enroll("b", json!({})).await;

    let first = peer.ask("POST", "/enrollments/query", "x-ms-max-item-count: 1\r\n", ALL).await;
    let next = format!("x-ms-max-item-count: 1\r\nx-ms-continuation: {}\r\n", first.continuation());
    let second = peer.ask("POST", "/enrollments/query", &next, ALL).await;

    assert_eq!(first.ids("registrationId"), ["a"]);
    assert_eq!(second.ids("registrationId"), ["b"]);
    assert_eq!(second.header("x-ms-continuation"), None);
}

#[tokio::test]
async fn a_listing_has_the_order_of_a_store_with_partitions_whatever_the_page_size() {
    let peer = Emulated::with_one_poll().await;
    for n in (0..30).rev() {
        peer.enroll(&format!("s-{n:02}"), json!({})).await;
    }

    let mut orders = Vec::new();
    for size in [100, 7, 1] {
        let (mut ids, mut head) = (Vec::new(), format!("x-ms-max-item-count: {size}\r\n"));
        loop {
            let page = peer.ask("POST", "/enrollments/query", &head, ALL).await;
            ids.extend(page.ids("registrationId"));
            let Some(token) = page.header("x-ms-continuation") else { break };
            head = format!("x-ms-max-item-count: {size}\r\nx-ms-continuation: {token}\r\n");
        }
        orders.push(ids);
    }

    // Made in descending order: where one id is followed by a greater one, another partition begins.
    let begins = orders[0].windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!((1..5).contains(&begins), "{:?}", orders[0]);
    assert_eq!(sorted(orders[0].clone()).len(), 30);
    assert!(orders.iter().all(|order| *order == orders[0]), "{orders:?}");
}

#[tokio::test]
async fn items_are_as_get_tells_them_but_without_registration_state() {
    let peer = Emulated::with_one_poll().await;
    peer.enroll_group("plant", json!({})).await;
    peer.enroll("dev1", json!({})).await;
    let register = "/0ne00EMU1A7/registrations/dev1/register";
    assert_eq!(peer.ask_as("PUT", register, &device_token("dev1", PRIMARY), "", "{}").await.status, 202);
    let mut reported = peer.ask("GET", "/enrollments/dev1", "", "").await.body;
    assert_eq!(reported["registrationState"]["status"], "assigning");
    assert!(reported.as_object_mut().unwrap().remove("registrationState").is_some());

    let listed = peer.ask("POST", "/enrollments/query", "", ALL).await;
    let groups = peer.ask("POST", "/enrollmentgroups/query", "", ALL).await;

    assert_eq!(listed.body, json!([reported]));
    assert!(!listed.body.to_string().contains(PRIMARY));
    assert_eq!(groups.header("x-ms-item-type"), Some("EnrollmentGroup"));
    assert_eq!(groups.body, json!([peer.ask("GET", "/enrollmentGroups/plant", "", "").await.body]));
}

#[tokio::test]
async fn the_query_must_be_there_and_may_say_anything() {
    let peer = Emulated::with_one_poll().await;
    peer.enroll("a", json!({})).await;

    for text in ["", "*", "SELECT * FROM nothing WHERE 1 = 0", "DROP"] {
        let body = json!({"query": text}).to_string();
        assert_eq!(peer.ask("POST", "/enrollments/query", "", &body).await.ids("registrationId"), ["a"]);
    }
    for (body, message) in [
        ("", "the body is not JSON"),
        ("[]", "the body is not a JSON object"),
        ("{}", "query is missing"),
        (r#"{"query":null}"#, "query is missing"),
        (r#"{"query":1}"#, "query must be a string"),
        (r#"{"query":"*","top":1}"#, "no api-version knows top"),
    ] {
        for path in ["/enrollments/query", "/enrollmentGroups/query"] {
            let answer = peer.ask("POST", path, "", body).await;
            assert_eq!((answer.status, answer.message()), (400, message));
        }
    }
    let path = "/enrollments/query?api-version=2021-10-01";
    let head = format!("Authorization: {SERVICE}\r\nContent-Type: text/plain\r\n");
    let untyped = peer.client.ask("POST", path, &head, ALL).await;
    assert_eq!(untyped.status, 415);
}

#[tokio::test]
async fn query_as_an_id_means_the_query() {
    let peer = Emulated::with_one_poll().await;
    let body = json!({"registrationId": "query", "attestation": {"type": "symmetricKey"}}).to_string();

    for (method, path) in
        [("PUT", "/enrollments/query"), ("GET", "/enrollmentGroups/QUERY"), ("DELETE", "/enrollments/query")]
    {
        assert_eq!(peer.ask(method, path, "", &body).await.status, 405, "{method} {path}");
    }
    assert_eq!(peer.ask("POST", "/Enrollments/Query/", "", ALL).await.status, 200);
}

#[tokio::test]
async fn a_page_has_1_to_100_items() {
    let peer = Emulated::with_one_poll().await;

    for n in 0..101 {
        peer.enroll(&format!("s-{n}"), json!({})).await;
    }

    let mut sizes = Vec::new();
    for asked in [None, Some("1"), Some("100"), Some("101"), Some("2147483647")] {
        let head = asked.map(|asked| format!("x-ms-max-item-count: {asked}\r\n")).unwrap_or_default();
        sizes.push(peer.ask("POST", "/enrollments/query", &head, ALL).await.ids("registrationId").len());
    }
    assert_eq!(sizes, [100, 1, 100, 100, 100]);
    for wrong in ["0", "-1", "many", "1.0", ""] {
        let head = format!("x-ms-max-item-count: {wrong}\r\n");
        let page = peer.ask("POST", "/enrollments/query", &head, ALL).await;
        assert_eq!((page.status, page.message()), (400, "x-ms-max-item-count must be a whole number from 1"));
    }
}

#[tokio::test]
async fn a_token_is_good_on_a_new_connection_more_than_once_and_among_writes() {
    let peer = Emulated::with_one_poll().await;
    for id in ["b", "d", "f", "h"] {
        peer.enroll(id, json!({})).await;
    }
    let first = peer.ask("POST", "/enrollments/query", "x-ms-max-item-count: 2\r\n", ALL).await;
    let seen = first.ids("registrationId");
    let left: Vec<String> = peer.listed().await.into_iter().filter(|id| !seen.contains(id)).collect();
    assert_eq!((seen.len(), left.len()), (2, 2));
    let head = format!("x-ms-max-item-count: 2\r\nx-ms-continuation: {}\r\n", first.continuation());

    peer.client.disconnect();
    for _ in 0..2 {
        let rest = peer.ask("POST", "/enrollments/query", &head, ALL).await;
        assert_eq!(sorted(rest.ids("registrationId")), left);
    }
    for id in &seen {
        assert_eq!(peer.ask("DELETE", &format!("/enrollments/{id}"), "", "").await.status, 204);
    }
    for id in ["a", "c", "e"] {
        peer.enroll(id, json!({})).await;
    }
    let head = head.replace("max-item-count: 2", "max-item-count: 100");
    let rest = peer.ask("POST", "/enrollments/query", &head, ALL).await.ids("registrationId");
    assert!(left.iter().all(|id| rest.contains(id)), "not lost, though the record of the token has gone");
    assert!(!rest.iter().any(|id| seen.contains(id)), "not repeated");
}

#[tokio::test]
async fn a_token_that_is_none_or_another_listings_is_refused() {
    let peer = Emulated::with_one_poll().await;
    for id in ["a", "b"] {
        peer.enroll(id, json!({})).await;
    }
    let page = peer.ask("POST", "/enrollments/query", "x-ms-max-item-count: 1\r\n", ALL).await;
    let token = page.continuation().to_owned();

    for (path, token, message) in [
        ("/enrollmentGroups/query", token.as_str(), "x-ms-continuation is the token of another listing"),
        ("/registrations/a/query", token.as_str(), "x-ms-continuation is the token of another listing"),
        ("/enrollments/query", "2", "x-ms-continuation is no token of this service"),
        ("/enrollments/query", "", "x-ms-continuation is no token of this service"),
    ] {
        let head = format!("x-ms-continuation: {token}\r\n");
        let answer = peer.ask("POST", path, &head, ALL).await;
        assert_eq!((answer.status, answer.message()), (400, message), "{path} {token}");
    }
}

#[tokio::test]
async fn records_of_a_group_are_listed_as_long_as_they_exist() {
    let peer = Emulated::with_one_poll().await;
    for group in ["plant", "depot"] {
        peer.enroll_group(group, json!({})).await;
    }
    // Both groups have the same key; the first one by its id lets the devices in.
    for id in ["s-2", "s-1"] {
        peer.register(id, json!({})).await;
    }

    let listed = peer.ask("POST", "/registrations/DEPOT/query", "x-ms-max-item-count: 1\r\n", "").await;
    assert_eq!(listed.status, 200);
    assert_eq!(listed.header("x-ms-item-type"), Some("DeviceRegistration"));
    let first = listed.ids("registrationId").remove(0);
    assert_eq!(listed.body, json!([peer.ask("GET", &format!("/registrations/{first}"), "", "").await.body]));
    let head = format!("x-ms-continuation: {}\r\n", listed.continuation());
    let rest = peer.ask("POST", "/registrations/depot/query", &head, "").await.ids("registrationId");
    assert_eq!(sorted([vec![first], rest].concat()), ["s-1", "s-2"]);
    let other = peer.ask("POST", "/registrations/plant/query", "", "").await;
    assert_eq!((other.body, peer.last_cause()), (json!([]), None), "the group exists and has no device yet");

    assert_eq!(peer.ask("DELETE", "/enrollmentGroups/depot", "", "").await.status, 204);
    let kept = peer.ask("POST", "/registrations/depot/query", "", "").await;
    assert_eq!(sorted(kept.ids("registrationId")), ["s-1", "s-2"]);
}

#[tokio::test]
async fn an_unknown_group_lists_nothing_and_the_journal_says_why() {
    let peer = Emulated::with_one_poll().await;

    for (path, group) in [("nobody", "nobody"), ("registrations%2Fplant", "registrations/plant")] {
        let answer = peer.ask("POST", &format!("/registrations/{path}/query"), "", "").await;
        assert_eq!((answer.status, &answer.body), (200, &json!([])));
        assert_eq!(answer.header("x-ms-item-type"), Some("DeviceRegistration"));
        assert_eq!(
            peer.last_cause(),
            Some(format!("enrollment group {group} does not exist and has no registration records"))
        );
    }
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort_unstable();
    ids
}
