//! Traits of official service clients: each test sends what the client sends and takes only what the client
//! takes.

use azure_dps_tests::emulated::{ALL, Emulated, PRIMARY};
use azure_dps_tests::soft_tpm::ENDORSEMENT_KEY;
use serde_json::json;

#[tokio::test]
async fn the_node_client_ends_the_bulk_path_with_a_slash_and_writes_groups_in_lower_case() {
    let peer = Emulated::with_one_poll().await;
    let head = "Accept: application/json\r\nRequest-Id: 66637297-ee10-4344-b4f2-6e1dd96b3da3\r\n\
                User-Agent: azure-iot-provisioning-service/1.10.1\r\n";
    let tpm = json!({"type": "tpm", "tpm": {"endorsementKey": ENDORSEMENT_KEY}});
    let bulk = json!({"mode": "create", "enrollments": [{"registrationId": "first", "attestation": tpm}]});
    let answer = peer.ask("POST", "/enrollments/", head, &bulk.to_string()).await;
    assert_eq!(answer.body, json!({"isSuccessful": true, "errors": []}));
    peer.enroll_group("Plant", json!({})).await;

    let mechanism = peer.ask("POST", "/enrollmentgroups/Plant/attestationmechanism", head, "").await;
    assert_eq!(mechanism.body["symmetricKey"]["primaryKey"], PRIMARY);
    peer.register("s-1", json!({})).await;
    let query = r#"{"query":"*"}"#;
    let states = peer.ask("POST", "/registrations/Plant/query", head, query).await;
    assert_eq!(states.ids("registrationId"), ["s-1"]);
    assert_eq!(peer.ask("POST", "/enrollments/query", head, query).await.ids("registrationId"), ["first"]);
}

#[tokio::test]
async fn the_java_client_posts_an_empty_object_for_an_attestation_mechanism() {
    let peer = Emulated::with_one_poll().await;
    peer.enroll("dev1", json!({})).await;

    let head = "Request-Id: 1001\r\nAccept: application/json\r\nAccept-Charset: utf-8\r\n";
    let mechanism = peer.ask("POST", "/enrollments/dev1/attestationmechanism", head, "{}").await;

    assert_eq!((mechanism.status, &mechanism.body["symmetricKey"]["primaryKey"]), (200, &json!(PRIMARY)));
}

/// It compares header names byte by byte, quotes every tag, and posts a query specification for
/// registrations.
#[tokio::test]
async fn the_csharp_client_quotes_the_wildcard_and_needs_header_names_in_lower_case() {
    let peer = Emulated::with_one_poll().await;
    peer.enroll("a", json!({})).await;
    peer.enroll("b", json!({})).await;
    let body = r#"{"registrationId":"a","attestation":{"type":"symmetricKey"}}"#;
    assert_eq!(peer.ask("PUT", "/enrollments/a", "If-Match: \"*\"\r\n", body).await.status, 200);

    let head = "x-ms-max-item-count: 1\r\n";
    let page = peer.ask("POST", "/enrollments/query", head, ALL).await;
    for name in ["x-ms-item-type: Enrollment", "x-ms-continuation: ", "x-ms-request-id: "] {
        assert!(page.head.contains(&format!("\r\n{name}")), "{}", page.head);
    }
    let failed = peer.ask("GET", "/enrollments/none", "", "").await;
    assert!(failed.head.contains("\r\nx-ms-error-code: 404201\r\n"), "{}", failed.head);
    assert_eq!(peer.ask("POST", "/registrations/plant/query", head, ALL).await.body, json!([]));
    assert_eq!(peer.ask("DELETE", "/enrollments/a", "If-Match: \"*\"\r\n", "").await.status, 204);
}
