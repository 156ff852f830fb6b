//! Who may do what on the service API: access policies, and roles of Microsoft Entra ID.

use std::time::{Duration, UNIX_EPOCH};

use azure_dps_emulator::{AccessPolicy, Emulator, EntraRole, Right};
use azure_dps_tests::emulated::{ALL, Emulated, PRIMARY, SECONDARY, sign};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

#[tokio::test]
async fn every_operation_needs_its_right() {
    let policies = [
        ("er", Right::EnrollmentRead),
        ("ew", Right::EnrollmentWrite),
        ("rr", Right::RegistrationStatusRead),
        ("rw", Right::RegistrationStatusWrite),
        ("sc", Right::ServiceConfig),
    ];
    let mut builder = Emulator::builder();
    for (name, right) in policies {
        builder = builder.access_policy(AccessPolicy::new(name, [right]).with_primary_key(PRIMARY));
    }
    let peer = Emulated::start(builder).await;
    let put = r#"{"registrationId":"a","attestation":{"type":"symmetricKey"}}"#;
    let bulk = r#"{"mode":"delete","enrollmentGroups":[{"enrollmentGroupId":"a"}]}"#;

    for (method, path, body, allowed, wanted) in [
        ("PUT", "/enrollments/a", put, &["ew"][..], "EnrollmentWrite"),
        ("GET", "/enrollments/a", "", &["er"], "EnrollmentRead"),
        ("POST", "/enrollments/query", ALL, &["er"], "EnrollmentRead"),
        ("POST", "/enrollmentGroups/query", ALL, &["er"], "EnrollmentRead"),
        (
            "POST",
            "/enrollments/a/attestationmechanism",
            "",
            &["er", "ew"],
            "EnrollmentRead or EnrollmentWrite",
        ),
        ("POST", "/enrollmentGroups", bulk, &["ew"], "EnrollmentWrite"),
        ("DELETE", "/enrollmentGroups/a", "", &["ew"], "EnrollmentWrite"),
        ("GET", "/registrations/a", "", &["rr"], "RegistrationStatusRead"),
        ("POST", "/registrations/a/query", "", &["rr"], "RegistrationStatusRead"),
        ("DELETE", "/registrations/a", "", &["rw"], "RegistrationStatusWrite"),
    ] {
        for (name, _) in policies {
            let answer = peer.ask_as(method, path, &sign(PRIMARY, "localhost", name), "", body).await;
            if allowed.contains(&name) {
                assert_ne!(answer.status, 401, "{name} {method} {path}");
            } else {
                assert_eq!((answer.status, answer.code()), (401, 401_000), "{name} {method} {path}");
                assert_eq!(answer.message(), "Unauthorized");
                assert_eq!(peer.last_cause(), Some(format!("policy {name} lacks the right {wanted}")));
            }
        }
    }
}

#[tokio::test]
async fn every_policy_has_two_keys_and_a_connection_string() {
    let reader = AccessPolicy::new("reader", [Right::EnrollmentRead]).with_secondary_key(SECONDARY);
    let peer = Emulated::start(Emulator::builder().access_policy(reader)).await;
    let port = peer.emulator.https_port();
    assert_eq!(peer.emulator.policy_names(), ["provisioningserviceowner", "reader"]);
    assert_eq!(peer.emulator.connection_string("nobody"), None);
    let owner = peer.emulator.connection_string("provisioningserviceowner");
    assert_eq!(owner.as_deref(), Some(peer.emulator.service_connection_string().as_str()));

    let string = peer.emulator.connection_string("reader").unwrap();
    let prefix = format!("HostName=localhost:{port};SharedAccessKeyName=reader;SharedAccessKey=");
    let generated = string.strip_prefix(&prefix).unwrap();
    assert_eq!(BASE64_STANDARD.decode(generated).unwrap().len(), 32);
    for key in [generated, SECONDARY] {
        let answer = peer.ask_as("GET", "/enrollments/a", &sign(key, "localhost", "reader"), "", "").await;
        assert_eq!(answer.status, 404);
    }
    let second = "dGhpcy1lbXVsYXRvci1rZXktaXMtdGhlLXNlY29uZCE=";
    let answer = peer
        .ask_as("GET", "/enrollments/a", &sign(second, "localhost", "provisioningserviceowner"), "", "")
        .await;
    assert_eq!(answer.status, 404);
    for (token, code, cause) in [
        (sign(PRIMARY, "localhost", "reader"), 401_002, "signature does not match the key of policy reader"),
        (
            sign(PRIMARY, "localhost", "writer"),
            401_000,
            "the token does not name one of the policies provisioningserviceowner, reader",
        ),
    ] {
        let answer = peer.ask_as("GET", "/enrollments/a", &token, "", "").await;
        assert_eq!((answer.status, answer.code(), peer.last_cause().as_deref()), (401, code, Some(cause)));
    }
}

#[tokio::test]
async fn the_default_policy_can_be_replaced() {
    let narrow =
        AccessPolicy::new("provisioningserviceowner", [Right::EnrollmentRead]).with_primary_key(PRIMARY);
    let peer = Emulated::start(Emulator::builder().access_policy(narrow)).await;

    let token = sign(PRIMARY, "localhost", "provisioningserviceowner");
    assert_eq!(peer.ask_as("GET", "/enrollments/a", &token, "", "").await.status, 404);
    assert_eq!(peer.ask_as("DELETE", "/enrollments/a", &token, "", "").await.status, 401);
    assert_eq!(peer.ask("GET", "/enrollments/a", "", "").await.code(), 401_002);
}

#[tokio::test]
async fn an_entra_token_is_judged_by_its_claims_and_not_by_its_signature() {
    let peer = Emulated::with_one_poll().await;
    peer.emulator.set_clock(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    let claims = |rest: Value| {
        let mut claims = json!({"aud": "https://azure-devices-provisioning.net", "exp": 1_800_000_060});
        claims.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        format!("Bearer eyJhbGciOiJSUzI1NiJ9.{}.c2lnbmF0dXJl", URL_SAFE_NO_PAD.encode(claims.to_string()))
    };

    for good in [
        json!({}),
        json!({"aud": "https://azure-devices-provisioning.net/", "oid": "x", "nbf": 1_800_000_000}),
        json!({"exp": 1_800_000_000 - 300, "nbf": 1_800_000_000 + 300}),
    ] {
        let answer = peer.ask_as("DELETE", "/enrollments/a", &claims(good), "", "").await;
        assert_eq!(answer.status, 404, "no principal has a role, so every principal may do everything");
    }
    for (token, cause) in [
        (claims(json!({"exp": 1_799_999_699})), "the bearer token expired 301 s ago"),
        (claims(json!({"nbf": 1_800_000_301})), "the bearer token is not valid for another 301 s"),
        (
            claims(json!({"aud": "https://iothubs.azure.net"})),
            "aud of the bearer token is not https://azure-devices-provisioning.net",
        ),
        (claims(json!({"exp": null})), "exp of the bearer token is not a number of seconds"),
        ("Bearer opaque".to_owned(), "the bearer token does not have three segments"),
    ] {
        let answer = peer.ask_as("GET", "/enrollments/a", &token, "", "").await;
        assert_eq!((answer.status, answer.code(), peer.last_cause().as_deref()), (401, 401_000, Some(cause)));
    }
    let register = "/0ne00EMU1A7/registrations/a/register";
    let answer = peer.ask_as("PUT", register, &claims(json!({})), "", "{}").await;
    assert_eq!((answer.status, answer.code()), (401, 401_000), "the device API takes no such token");
    assert_eq!(peer.last_cause().as_deref(), Some("the credential is not a SharedAccessSignature"));
}

#[tokio::test]
async fn a_minted_token_expires_by_the_clock_of_the_emulator() {
    let peer = Emulated::with_one_poll().await;
    peer.emulator.set_clock(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    let token = format!("Bearer {}", peer.emulator.entra_token("oid-1", Duration::from_secs(60)));

    assert_eq!(peer.ask_as("GET", "/enrollments/a", &token, "", "").await.status, 404);
    peer.emulator.advance_clock(Duration::from_secs(60 + 301));
    assert_eq!(peer.ask_as("GET", "/enrollments/a", &token, "", "").await.status, 401);
}

#[tokio::test]
async fn roles_decide_as_soon_as_a_principal_has_one() {
    let builder = Emulator::builder()
        .entra_role("READER-oid", EntraRole::DataReader)
        .entra_role("writer-oid", EntraRole::DataContributor);
    let peer = Emulated::start(builder).await;
    let bearer =
        |principal: &str| format!("Bearer {}", peer.emulator.entra_token(principal, Duration::from_secs(60)));
    let (reader, writer, stranger) = (bearer("reader-oid"), bearer("writer-oid"), bearer("stranger"));
    let put = r#"{"registrationId":"a","attestation":{"type":"symmetricKey"}}"#;
    let bulk = r#"{"mode":"delete","enrollments":[{"registrationId":"a"}]}"#;

    for (method, path, body, reads) in [
        ("PUT", "/enrollments/a", put, false),
        ("GET", "/enrollments/a", "", true),
        ("POST", "/enrollments/query", ALL, true),
        ("POST", "/enrollments/a/attestationmechanism", "", false),
        ("POST", "/enrollments", bulk, false),
        ("DELETE", "/enrollmentGroups/a", "", false),
        ("GET", "/registrations/a", "", true),
        ("POST", "/registrations/a/query", "", true),
        ("DELETE", "/registrations/a", "", false),
    ] {
        assert_ne!(peer.ask_as(method, path, &writer, "", body).await.status, 401, "{method} {path}");
        assert_eq!(peer.ask_as(method, path, &stranger, "", body).await.status, 401);
        assert_eq!(peer.last_cause().as_deref(), Some("principal stranger has no role"));
        let answer = peer.ask_as(method, path, &reader, "", body).await;
        assert_eq!(answer.status != 401, reads, "{method} {path}");
        if !reads {
            assert_eq!(
                peer.last_cause().as_deref(),
                Some("principal reader-oid has only the role DataReader")
            );
        }
    }
}
