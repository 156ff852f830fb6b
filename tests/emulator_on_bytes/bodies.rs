//! Bodies of the service API: a set that is accepted, a published one that is refused, and the order of
//! members.

use std::time::{Duration, UNIX_EPOCH};

use azure_dps_tests::emulated::{ALL, Emulated, keys};
use serde_json::{Value, json};

#[tokio::test]
async fn members_have_the_order_of_the_service_and_what_users_give_has_theirs() {
    let peer = Emulated::with_one_poll().await;
    let twin = r#""initialTwin":{"tags":{"z":1,"a":{"y":[{"q":2,"c":null}],"b":0.1}},"properties":{"desired":{"n":1,"m":"x"}}}"#;
    let information = r#""optionalDeviceInformation":{"serial":7,"batch":{"year":2026,"line":"b"}}"#;
    let body = format!(
        r#"{{"provisioningStatus":"disabled",{twin},"reprovisionPolicy":{{"migrateDeviceData":false,"updateHubAssignment":true}},{information},"attestation":{{"type":"symmetricKey"}},"deviceId":"d","registrationId":"dev1"}}"#
    );

    let put = peer.ask("PUT", "/enrollments/dev1", "", &body).await;
    let read = peer.ask("GET", "/enrollments/dev1", "", "").await;
    let listed = peer.ask("POST", "/enrollments/query", "", ALL).await;

    let policy = r#""reprovisionPolicy":{"updateHubAssignment":true,"migrateDeviceData":false}"#;
    for reported in [&put, &read, &listed] {
        let places = [
            r#""registrationId":"dev1""#,
            r#""deviceId":"d""#,
            information,
            r#""attestation":{"type":"symmetricKey""#,
            twin,
            r#""etag":"#,
            r#""provisioningStatus":"disabled""#,
            policy,
            r#""createdDateTimeUtc":"#,
            r#""lastUpdatedDateTimeUtc":"#,
        ]
        .map(|member| reported.text.find(member).unwrap_or_else(|| panic!("{member}: {}", reported.text)));
        assert!(places.is_sorted(), "{}", reported.text);
    }
}

#[tokio::test]
async fn an_answer_is_dated_by_the_clock_that_dates_records() {
    let peer = Emulated::with_one_poll().await;
    peer.emulator.set_clock(UNIX_EPOCH + Duration::from_secs(784_111_777));
    let record = json!({"registrationId": "a", "attestation": keys()}).to_string();
    let answer = peer.ask("PUT", "/enrollments/a", "", &record).await;
    assert_eq!(answer.header("date"), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    let created = answer.body["createdDateTimeUtc"].as_str().unwrap();
    assert!(created.starts_with("1994-11-06T08:49:37"), "{created}");
}

#[tokio::test]
async fn every_valid_body_is_accepted() {
    let vectors: Vec<Value> = serde_json::from_str(include_str!("../vectors/valid-bodies.json")).unwrap();
    let peer = Emulated::with_one_poll().await;
    for vector in &vectors {
        let text = |name: &str| vector[name].as_str().unwrap();
        let target = format!("{}?api-version={}", text("path"), text("apiVersion"));
        let answer = peer.ask(text("method"), &target, "", &vector["body"].to_string()).await;
        assert_eq!(answer.status, 200, "{}: {}", text("name"), answer.body);
        if text("method") == "POST" {
            assert_eq!(answer.body, json!({"isSuccessful": true, "errors": []}), "{}", text("name"));
        } else {
            for (member, value) in vector["body"].as_object().unwrap() {
                let reported = &answer.body[member];
                let kept = reported == value || READ_ONLY.contains(&member.as_str()) || value.is_null();
                assert!(
                    kept || member == "attestation",
                    "{}: {member} is returned as {reported}",
                    text("name")
                );
            }
            // Several have the same certificate, which may be in one individual enrollment only.
            if vector["body"].pointer("/attestation/x509/clientCertificates").is_some() {
                assert_eq!(peer.ask("DELETE", text("path"), "", "").await.status, 204);
            }
        }
    }
    assert_eq!(vectors.len(), 41, "a vector was lost or added");
}

/// They are placeholders: their attestation type is `none` next to the details of all others.
#[tokio::test]
async fn every_published_placeholder_body_is_refused_and_the_member_is_named() {
    let vectors: Vec<Value> =
        serde_json::from_str(include_str!("../vectors/service-2021-10-01.json")).unwrap();
    let peer = Emulated::with_one_poll().await;
    let mut refused = Vec::new();
    for vector in vectors.iter().filter(|vector| vector["direction"] == "request") {
        let body = &vector["body"];
        let answer = match vector["model"].as_str().unwrap() {
            "IndividualEnrollment" => {
                let path = format!("/enrollments/{}", body["registrationId"].as_str().unwrap());
                peer.ask("PUT", &path, "", &body.to_string()).await
            }
            "EnrollmentGroup" => {
                let path = format!("/enrollmentGroups/{}", body["enrollmentGroupId"].as_str().unwrap());
                peer.ask("PUT", &path, "", &body.to_string()).await
            }
            "BulkEnrollmentOperation" => peer.bulk("/enrollments", body.clone()).await,
            "BulkEnrollmentGroupOperation" => peer.bulk("/enrollmentGroups", body.clone()).await,
            _ => continue,
        };
        // A bulk operation reports the error of an item with that item.
        let (code, message) = match answer.status {
            200 => (&answer.body["errors"][0]["errorCode"], &answer.body["errors"][0]["errorStatus"]),
            _ => (&answer.body["errorCode"], &answer.body["message"]),
        };
        assert_eq!(code, 400_000, "{}: {}", vector["name"], answer.body);
        refused.push((vector["name"].as_str().unwrap().to_owned(), message.as_str().unwrap().to_owned()));
    }

    let message = |name: &str| match name {
        "EnrollmentGroup_CreateOrUpdate minimum request"
        | "EnrollmentGroup_RunBulkOperation minimum request" => {
            "attestation.type none is not possible for an enrollment group"
        }
        "IndividualEnrollment_CreateOrUpdate minimum request"
        | "IndividualEnrollment_RunBulkOperation minimum request" => {
            "attestation.type none is not possible for an individual enrollment"
        }
        _ => "attestation.tpm does not belong to attestation.type none",
    };
    for (name, reported) in &refused {
        assert_eq!(reported, message(name), "{name}");
    }
    assert_eq!(refused.len(), 8, "none of them is valid");
    assert_eq!(peer.emulator.enrollments(), json!({"enrollments": [], "enrollmentGroups": []}));
}

const READ_ONLY: &[&str] = &["registrationState", "etag", "createdDateTimeUtc", "lastUpdatedDateTimeUtc"];
