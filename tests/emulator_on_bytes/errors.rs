//! What is refused: with which status and code, and what the journal says about it.

use azure_dps_emulator::{Fault, Operation};
use azure_dps_tests::emulated::{Emulated, PRIMARY, SECONDARY};
use serde_json::json;

use crate::tokens::{
    DEV1, DEV1_EXPIRED, DEV1_WRONG_KEY, SENSOR, SERVICE, SERVICE_ELSEWHERE, SERVICE_EXPIRED,
    SERVICE_WITH_SCHEME_AND_PORT, SERVICE_WRONG_KEY,
};

#[tokio::test]
async fn a_refused_device_learns_little_and_the_journal_everything() {
    let peer = Emulated::with_one_poll().await;
    peer.enroll("dev1", json!({})).await;
    let register = |path, token| peer.device("PUT", path, token, "{}");

    for (path, token, status, code, cause) in [
        (
            "dev1/register",
            DEV1_WRONG_KEY,
            401,
            401_002,
            "neither the primary nor the secondary key of enrollment dev1",
        ),
        ("dev1/register", DEV1_EXPIRED, 401, 401_000, "the token expired "),
        ("dev2/register", DEV1, 401, 401_000, "SAS audience is for another registration id: dev1"),
        ("dev1/register", SERVICE, 401, 401_000, "SAS audience is not 0ne00EMU1A7/registrations/dev1"),
        ("dev1/register", "Bearer abc", 401, 401_000, "not a SharedAccessSignature"),
        ("dev1/register", "", 401, 401_000, "the request has neither a token nor a client certificate"),
        (
            "sensor-042/register",
            SENSOR,
            404,
            404_201,
            "sensor-042 has no individual enrollment, and no group",
        ),
    ] {
        let answer = register(path, token).await;

        assert_eq!((answer.status, answer.code()), (status, code), "{cause}");
        let entry = peer.emulator.journal().pop().unwrap();
        assert!(entry.cause.as_ref().unwrap().contains(cause), "{entry}");
        assert_eq!(entry.error_code, Some(code));
        assert!(!answer.body["message"].as_str().unwrap().contains("key of"), "{}", answer.body);
    }
}

#[tokio::test]
async fn an_error_has_four_members_and_two_headers() {
    let peer = Emulated::with_one_poll().await;

    let answer = peer.service("GET", "/enrollments/none", "").await;

    assert_eq!(answer.status, 404);
    let body = answer.body.as_object().unwrap();
    assert_eq!(body.keys().collect::<Vec<_>>(), ["errorCode", "message", "timestampUtc", "trackingId"]);
    assert_eq!(body["errorCode"], 404_201);
    assert_eq!(answer.header("x-ms-error-code"), Some("404201"));
    assert_eq!(answer.header("x-ms-request-id"), body["trackingId"].as_str());
}

#[tokio::test]
async fn an_unknown_id_scope_is_not_found() {
    let peer = Emulated::with_one_poll().await;

    let answer =
        peer.send("PUT", "/0ne00OTHER/registrations/dev1/register?api-version=2019-03-31", DEV1, "{}").await;

    assert_eq!((answer.status, answer.code()), (404, 404_001));
}

#[tokio::test]
async fn a_register_body_must_fit() {
    let peer = Emulated::with_one_poll().await;
    peer.enroll("dev1", json!({})).await;

    for (body, message) in [
        (r#"{"registrationId":"dev2"}"#, "registrationId is not the id in the path"),
        (r#"{"registrationID":"dev1"}"#, "no api-version knows registrationID"),
        (r#"{"tpm":{"ek":"a"}}"#, "no api-version knows tpm.ek"),
    ] {
        let answer = peer.device("PUT", "dev1/register", DEV1, body).await;
        assert_eq!((answer.status, answer.code()), (400, 400_000));
        assert_eq!(answer.body["message"], message);
    }
}

#[tokio::test]
async fn a_body_that_is_no_registration_is_refused_in_one_word_and_the_journal_says_why() {
    let peer = Emulated::with_one_poll().await;
    peer.enroll("dev1", json!({})).await;

    for (body, cause) in [
        ("{", "the body is not JSON: EOF while parsing an object at line 1 column 1"),
        (r#"{"registrationId":"dev1","payload":"{ "a": 1 }"}"#, "the body is not JSON: expected `,` or `}`"),
        (r#"{'registrationId':'dev1'}"#, "the body is not JSON: key must be a string at line 1 column 2"),
        (r#"{payload:{"a":1}}"#, "the body is not JSON: key must be a string at line 1 column 2"),
        (r#"{"payload":NaN}"#, "the body is not JSON: expected value"),
        (r#"{"payload":1}]"#, "the body is not JSON: trailing characters"),
        ("\u{feff}{}", "the body is not JSON: it begins with a byte order mark"),
        ("[]", "the body is not a JSON object"),
        ("\"{}\"", "the body is not a JSON object"),
        ("null", "the body is not a JSON object"),
        (r#"{"registrationId":7}"#, "registrationId must be a string"),
        (r#"{"tpm":"EK"}"#, "tpm must be an object"),
    ] {
        for (method, path) in [("PUT", "dev1/register"), ("POST", "dev1")] {
            let answer = peer.device(method, path, DEV1, body).await;
            assert_eq!((answer.status, answer.code()), (400, 400_012), "{body}");
            assert_eq!(answer.body["message"], "Deserialization error.");
            assert!(answer.body.get("info").is_none(), "{}", answer.body);
            let reported = peer.emulator.journal().pop().unwrap().cause.unwrap();
            assert!(reported.starts_with(cause), "{body}: {reported}");
        }
    }
}

#[tokio::test]
async fn a_fault_answers_as_the_service_does_when_a_device_registers_several_times_at_once() {
    let peer = Emulated::with_one_poll().await;
    peer.enroll("dev1", json!({})).await;
    peer.emulator.inject(Fault::status(409).on(Operation::Register)).unwrap();

    let answer = peer.device("PUT", "dev1/register", DEV1, "{}").await;

    assert_eq!((answer.status, answer.code()), (409, 409_203));
    assert_eq!(answer.body["message"], "Precondition failed.");
    assert_eq!(peer.register_with("dev1", DEV1, "{}").await["status"], "assigned");
}

#[tokio::test]
async fn the_service_api_is_closed_without_the_right_token() {
    let peer = Emulated::with_one_poll().await;
    let path = "/enrollments/a?api-version=2021-10-01";

    for (token, code, cause) in [
        (SERVICE_WRONG_KEY, 401_002, "signature does not match the key of policy provisioningserviceowner"),
        (SERVICE_EXPIRED, 401_000, "the token expired "),
        (SERVICE_ELSEWHERE, 401_000, "SAS audience does not cover localhost:"),
        (DEV1, 401_000, "SAS audience does not cover localhost:"),
        ("Bearer abc", 401_000, "the bearer token does not have three segments"),
    ] {
        let answer = peer.send("GET", path, token, "").await;
        assert_eq!((answer.status, answer.code()), (401, code), "{cause}");
        assert_eq!(answer.body["message"], "Unauthorized");
        let entry = peer.emulator.journal().pop().unwrap();
        assert!(entry.cause.as_ref().unwrap().starts_with(cause), "{entry}");
    }
    assert_eq!(peer.send("GET", path, SERVICE_WITH_SCHEME_AND_PORT, "").await.code(), 404_201);
}

#[tokio::test]
async fn requests_that_make_no_sense_are_told_so() {
    let peer = Emulated::with_one_poll().await;

    for (method, target, status) in [
        ("GET", "/enrollments/a", 400),
        ("GET", "/enrollments/a?api-version=", 400),
        ("GET", "/enrollments/a?api-version=2020-02-30", 400),
        ("GET", "/nothing?api-version=2021-10-01", 404),
        ("PATCH", "/enrollments/a?api-version=2021-10-01", 405),
        ("GET", "/enrollments/a/attestationmechanism?api-version=2021-10-01", 405),
        ("GET", "/enrollments/a?x=y&api-version=2018-04-01&forceRegistration=true", 404),
    ] {
        let answer = peer.send(method, target, SERVICE, "").await;
        assert_eq!(answer.status, status, "{method} {target}");
        assert_eq!(answer.code() / 1000, u32::from(status));
    }
    let unauthorized = peer.send("GET", "/enrollments/a", SERVICE_WRONG_KEY, "").await;
    assert_eq!(unauthorized.status, 401, "the credential comes before the api-version");
}

#[tokio::test]
async fn a_body_must_be_json_and_of_reasonable_size() {
    let peer = Emulated::with_one_poll().await;
    let path = "/enrollments/a?api-version=2021-10-01";
    let json = "Content-Type: application/json\r\n";

    for (head, body, status) in [
        ("Content-Type: text/plain\r\n", "{}".to_owned(), 415),
        ("", "{}".to_owned(), 415),
        (json, " ".repeat(1024 * 1024), 400),
        (json, " ".repeat(1024 * 1024 + 1), 413),
    ] {
        let head = format!("Authorization: {SERVICE}\r\n{head}");
        assert_eq!(peer.client.ask("PUT", path, &head, &body).await.status, status);
    }
}

#[tokio::test]
async fn the_journal_has_every_request_and_no_secret() {
    let peer = Emulated::with_one_poll().await;
    peer.enroll("dev1", json!({})).await;
    peer.register_with("dev1", DEV1, r#"{"payload":{"pin":"1234-secret"}}"#).await;
    peer.send("GET", "/registrations/x?api-version=2021-10-01&sig=hidden", DEV1_WRONG_KEY, "").await;

    let journal = peer.emulator.journal();

    let answers: Vec<_> = journal.iter().map(|entry| (entry.seq, entry.status)).collect();
    assert_eq!(answers, [(1, 200), (2, 202), (3, 202), (4, 200), (5, 401)]);
    assert_eq!(journal[1].id.as_deref(), Some("dev1"));
    assert_eq!((journal[1].protocol, journal[1].connection, journal[1].method.as_str()), ("https", 1, "PUT"));
    assert_eq!(journal[1].target, "/0ne00EMU1A7/registrations/dev1/register?api-version=2019-03-31");
    assert_eq!(journal[1].cause, None);
    let text = journal.iter().map(|entry| format!("{entry} {entry:?}\n")).collect::<String>();
    for secret in [PRIMARY, SECONDARY, "Eha5Nv0", "Y56WKKYj", "fKT4xk", "1234-secret", "hidden"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    assert!(text.contains("-> 401 (401000: SAS audience does not cover localhost:"), "{text}");
}
