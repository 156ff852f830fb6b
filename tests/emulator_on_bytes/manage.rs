//! Faults, clock, reset and the management port of the emulator, over HTTPS and literal management requests.

use std::time::{Duration, UNIX_EPOCH};

use azure_dps_emulator::{
    AccessPolicy, Emulator, EmulatorBuilder, Fault, FaultError, Hub, OnKeylessUpdate, Operation, Right,
};
use azure_dps_tests::emulated::{Emulated, PRIMARY, Reply, keys};
use azure_dps_tests::http_client::ask_in_clear;
use azure_dps_tests::journal::cause;
use azure_dps_tests::tasks::settles;
use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};

use crate::tokens::{DEV1, SERVICE};

#[tokio::test]
async fn requests_over_https_can_fail_in_every_way() {
    let peer = Emulated::start(seeded()).await;

    peer.emulator.inject(Fault::throttle(7).on(Operation::Register)).unwrap();
    let throttled = register(&peer).await;
    assert_eq!(throttled.status, 429);
    assert_eq!(throttled.header("retry-after"), Some("7"));
    assert!(throttled.header("location").is_none());
    assert_eq!(throttled.code(), 429_001);
    assert_eq!(peer.emulator.registrations(), json!([]), "nothing was carried out");

    peer.emulator.inject(Fault::status(503).on(Operation::Service).of("dev1")).unwrap();
    let failed = peer.service("GET", "/enrollments/dev1", "").await;
    assert_eq!(failed.status, 503);
    assert!(failed.header("retry-after").is_none());

    peer.emulator.inject(Fault::garbage().on(Operation::Register)).unwrap();
    let garbage = register(&peer).await;
    assert_eq!(garbage.status, 200);
    assert!(serde_json::from_str::<Value>(&garbage.text).is_err());

    peer.emulator.inject(Fault::hang_up().on(Operation::Service)).unwrap();
    let head = format!("Authorization: {SERVICE}\r\n");
    let target = "/registrations/dev1?api-version=2021-10-01";
    assert!(peer.client.try_ask("DELETE", target, &head, "").await.is_err());
    assert_eq!(peer.emulator.registrations(), json!([]), "it was carried out");
    let entry = peer.emulator.journal().pop().unwrap();
    assert_eq!((entry.status, entry.cause.as_deref()), (204, Some("fault: hung up in place of the answer")));

    peer.emulator.inject(Fault::stall().on(Operation::Register)).unwrap();
    tokio::select! {
        answer = register(&peer) => panic!("{}", answer.text),
        () = settles(|| cause(&peer.emulator).contains("never sent")) => {}
    }
    assert_eq!(register(&peer).await.status, 202, "others are not held up");

    peer.emulator.inject(Fault::wrong_rid()).unwrap();
    assert_eq!(register(&peer).await.status, 202, "there is no $rid in HTTPS");
}

#[tokio::test]
async fn the_clock_is_the_time_of_tokens_and_records() {
    let peer = Emulated::start(seeded()).await;
    peer.emulator.set_clock(UNIX_EPOCH + Duration::from_secs(1_893_456_000));
    let put = peer.enroll("dev2", json!({})).await;
    assert_eq!(put["createdDateTimeUtc"], "2030-01-01T00:00:00Z");
    peer.emulator.advance_clock(Duration::from_millis(1_500));
    let put = peer.enroll("dev3", json!({})).await;
    assert_eq!(put["createdDateTimeUtc"], "2030-01-01T00:00:01.5Z");

    peer.emulator.set_clock(UNIX_EPOCH + Duration::from_secs(4_102_444_800 + 301));
    assert_eq!(register(&peer).await.status, 401);
    peer.emulator.reset_clock();
    assert_eq!(register(&peer).await.status, 202);
}

#[tokio::test]
async fn a_reset_goes_back_to_the_start() {
    let peer = Emulated::start(seeded()).await;
    let story = async || {
        peer.enroll("dev2", json!({})).await;
        let operation = register(&peer).await.body;
        let journal = peer.emulator.journal().into_iter().map(|entry| (entry.seq, entry.target));
        (operation, journal.collect::<Vec<_>>())
    };
    let first = story().await;
    peer.emulator.set_clock(UNIX_EPOCH);
    peer.emulator.inject(Fault::status(500).times(9)).unwrap();

    peer.emulator.reset();

    assert!(peer.emulator.journal().is_empty());
    assert_eq!(peer.emulator.registrations(), json!([]));
    let ids: Vec<Value> = peer.emulator.enrollments()["enrollments"].as_array().unwrap().to_vec();
    assert_eq!(ids.iter().map(|body| &body["registrationId"]).collect::<Vec<_>>(), ["dev1"], "the seed");
    assert_eq!(story().await, first, "ids are counted from the beginning");
}

#[tokio::test]
async fn keys_are_kept_or_regenerated_by_an_update_without_keys() {
    for (setting, same) in [(OnKeylessUpdate::Keep, true), (OnKeylessUpdate::Regenerate, false)] {
        let peer = Emulated::start(seeded().on_keyless_update(setting)).await;
        let update = json!({"registrationId": "dev1", "attestation": {"type": "symmetricKey"}});
        let answer = peer.service_if("PUT", "/enrollments/dev1", "*", &update.to_string()).await;
        let keys = answer.body["attestation"]["symmetricKey"].clone();
        assert_eq!(keys["primaryKey"] == PRIMARY, same, "{setting:?}");
    }
}

#[tokio::test]
async fn the_management_port_is_closed_unless_it_is_asked_for() {
    let emulator = Emulator::start().await.unwrap();
    assert_eq!(emulator.manage_port(), None);
}

#[tokio::test]
async fn the_management_port_shows_what_the_library_shows() {
    let hubs = seeded().hub("a.example").hub(Hub::new("b.example").with_weight(0).with_region("westeurope"));
    let peer = Emulated::start(hubs.manage_port(0)).await;
    let operation = register(&peer).await.body;
    let path = format!("dev1/operations/{}", operation["operationId"].as_str().unwrap());
    assert_eq!(peer.device("GET", &path, DEV1, "").await.status, 200);

    assert_eq!(peer.manage("GET", "/health", "").await, (200, json!({"status": "ok"})));
    let port = peer.emulator.manage_port().unwrap();
    let pem = ask_in_clear(port, "GET", "/ca.pem", "Host: localhost\r\n", "").await.text;
    assert_eq!(pem, peer.emulator.ca_pem());
    let (_, journal) = peer.manage("GET", "/journal", "").await;
    assert_eq!(journal[0]["seq"], 1);
    assert_eq!(
        (&journal[0]["front"], &journal[0]["method"], &journal[0]["status"]),
        (&json!("https"), &json!("PUT"), &json!(202))
    );
    let (_, enrollments) = peer.manage("GET", "/enrollments", "").await;
    assert_eq!(enrollments, peer.emulator.enrollments());
    assert_eq!(enrollments["enrollments"][0]["attestation"], json!({"type": "symmetricKey"}), "no keys");
    assert_eq!(enrollments["enrollmentGroups"], json!([]));
    let (_, registrations) = peer.manage("GET", "/registrations", "").await;
    assert_eq!(registrations[0]["assignedHub"], "a.example");
    let (_, hubs) = peer.manage("GET", "/hubs", "").await;
    assert_eq!(
        hubs,
        json!([
            {
                "hostName": "a.example", "weight": 1, "region": null, "applyAllocationPolicy": true, "devices": 1,
            },
            {
                "hostName": "b.example", "weight": 0, "region": "westeurope", "applyAllocationPolicy": true, "devices": 0,
            },
        ])
    );
}

#[tokio::test]
async fn the_management_port_does_what_the_library_does() {
    let peer = Emulated::start(seeded().manage_port(0)).await;

    let faults =
        r#"[{"effect":"throttle","retryAfter":2,"operation":"register"},{"effect":"status","status":500}]"#;
    assert_eq!(peer.manage("POST", "/faults", faults).await.0, 204);
    assert_eq!(register(&peer).await.header("retry-after"), Some("2"));
    assert_eq!(register(&peer).await.status, 500);

    let clock = |body: &'static str| peer.manage("PUT", "/clock", body);
    let now = clock(r#"{"now":"2100-01-01T00:05:00Z"}"#).await;
    assert_eq!(now, (200, json!({"now": "2100-01-01T00:05:00Z"})));
    assert_eq!(register(&peer).await.status, 202);
    let now = clock(r#"{"advanceSeconds":1.5}"#).await;
    assert_eq!(now, (200, json!({"now": "2100-01-01T00:05:01.5Z"})));
    assert_eq!(register(&peer).await.status, 401);
    assert_eq!(clock(r#"{"now":null}"#).await.0, 200);
    assert_eq!(register(&peer).await.status, 202);

    let latencies = json!([{"devices": "berlin-*", "regions": {"westeurope": 12}}]);
    let rules = json!({"allocationPolicy": "geoLatency", "latencies": latencies});
    assert_eq!(peer.manage("PUT", "/allocation", r#"{"allocationPolicy":"geoLatency"}"#).await.0, 200);
    let body = r#"{"latencies":[{"devices":"berlin-*","regions":{"westeurope":12}}]}"#;
    assert_eq!(peer.manage("PUT", "/allocation", body).await, (200, rules.clone()));
    assert_eq!(peer.manage("GET", "/allocation", "").await, (200, rules));

    assert_eq!(peer.manage("POST", "/reset", "").await.0, 204);
    let rules = json!({"allocationPolicy": "hashed", "latencies": []});
    assert_eq!(peer.manage("GET", "/allocation", "").await, (200, rules));
    assert!(peer.emulator.journal().is_empty());
}

#[tokio::test]
async fn the_management_port_makes_a_test_pki() {
    let peer = Emulated::start(seeded().manage_port(0)).await;
    let (status, pki) = peer.manage("POST", "/pki", r#"{"devices":["a","b"],"intermediates":2}"#).await;
    assert_eq!(status, 200);
    let count = |pem: &Value| pem.as_str().unwrap().matches("BEGIN CERTIFICATE").count();
    assert_eq!(count(&pki["root"]["certificate"]), 1);
    assert_eq!(pki["intermediates"].as_array().unwrap().len(), 2);
    assert_eq!((&pki["devices"][1]["name"], count(&pki["devices"][1]["chain"])), (&json!("b"), 3));
    for leaf in [&pki["devices"][0], &pki["expired"], &pki["foreign"]] {
        assert_eq!(leaf["name"], "a");
        assert!(leaf["privateKey"].as_str().unwrap().starts_with("-----BEGIN PRIVATE KEY-----"));
    }
}

#[tokio::test]
async fn what_the_management_port_does_not_understand_is_named() {
    let peer = Emulated::start(seeded().manage_port(0)).await;
    for (method, path, body, status, wanted) in [
        ("GET", "/nothing", "", 404, "there are only /, /health, /info, /ca.pem, "),
        ("GET", "/reset", "", 405, "/reset does not know GET"),
        ("POST", "/faults", "", 400, "the body is not JSON: "),
        ("POST", "/faults", r#"{"effect":"boom"}"#, 400, "effect boom is none of throttle, "),
        ("POST", "/faults", r#"[{"effect":"stall"},{}]"#, 400, "effect is missing"),
        ("POST", "/faults", r#"{"effect":"stall","nth":0}"#, 400, "nth must be at least 1"),
        ("POST", "/faults", r#"{"effect":"stall","count":0}"#, 400, "count must be at least 1"),
        (
            "POST",
            "/faults",
            r#"{"effect":"duplicateReply","front":"https"}"#,
            400,
            "the fault would never act: ",
        ),
        ("POST", "/faults", r#"{"effect":"delay"}"#, 400, "ms is missing: "),
        ("POST", "/pki", r#"{"devices":"a"}"#, 400, "devices is an array of strings"),
        ("POST", "/pki", r#"{"device":["a"]}"#, 400, "a test PKI has no device; "),
        (
            "POST",
            "/pki",
            r#"{"devices":["a b"]}"#,
            400,
            "the test PKI cannot be made: `a b` is not a valid registration id for a certificate: ",
        ),
        ("PUT", "/clock", r#"{"now":"tomorrow"}"#, 400, "now is not a time such as "),
        ("PUT", "/clock", r#"{"advanceSeconds":-1}"#, 400, "advanceSeconds is not a number of seconds"),
        ("PUT", "/clock", r#"{"advanceSeconds":1e18}"#, 400, "advanceSeconds is more than a hundred years"),
        (
            "PUT",
            "/allocation",
            r#"{"allocationPolicy":"custom"}"#,
            400,
            "allocationPolicy custom is none of hashed, geoLatency, static",
        ),
        ("PUT", "/allocation", r#"{"latencies":[{"devices":"a"}]}"#, 400, "latencies is not an array of "),
        ("PUT", "/allocation", r#"{"policy":"hashed"}"#, 400, "an allocation has no policy; "),
        ("PUT", "/clock", "{}", 400, "the body must have either now, "),
        ("GET", "/health?x", "", 400, "/health knows no query member; it has none"),
        ("GET", "/health?c2VjcmV0c2VjcmV0==", "", 400, "/health knows no query member; it has none"),
        ("GET", "/health?c2VjcmV0c2VjcmV0c2VjcmV0=1", "", 400, "/health knows no query member; it has"),
        ("PUT", "/journal?id=a", "", 400, "/journal knows no query member such as id; it has none"),
        ("GET", "/nothing?id=a", "", 400, "/nothing knows no query member such as id; it has none"),
        ("POST", "/reset?dry-run=true", "", 400, "/reset knows no query member such as dry-run; "),
        ("GET", "/hubs/a/devices?&top=1", "", 400, "/hubs/a/devices knows no query member such as top; "),
        (
            "PUT",
            "/certificates/root?force=1",
            "{}",
            400,
            "/certificates/root knows no query member such as force; ",
        ),
    ] {
        let (answered, body) = peer.manage(method, path, body).await;
        assert_eq!(answered, status, "{method} {path}");
        assert!(body["message"].as_str().unwrap().starts_with(wanted), "{body}");
    }
    assert_eq!(register(&peer).await.status, 202, "no fault was injected");
}

#[tokio::test]
async fn a_page_of_another_origin_and_a_name_made_to_lead_here_change_and_learn_nothing() {
    let peer = Emulated::start(seeded().manage_port(0)).await;
    let port = peer.emulator.manage_port().unwrap();
    let own = format!("localhost:{port}");
    let certificate = r#"{"certificate":"x","isVerified":true}"#;
    let routes = [
        ("GET", "/", ""),
        ("GET", "/health", ""),
        ("GET", "/info", ""),
        ("GET", "/ca.pem", ""),
        ("GET", "/journal", ""),
        ("GET", "/enrollments", ""),
        ("GET", "/registrations", ""),
        ("GET", "/hubs", ""),
        ("GET", "/hubs/emulator-hub-1.azure-devices.net/devices", ""),
        ("DELETE", "/hubs/emulator-hub-1.azure-devices.net/devices/dev1", ""),
        ("GET", "/billing", ""),
        ("GET", "/counts", ""),
        ("GET", "/keys/enrollments/dev1", ""),
        ("GET", "/hub-keys/dev1", ""),
        ("POST", "/reset", ""),
        ("POST", "/faults", r#"{"effect":"status","status":500,"times":9}"#),
        ("GET", "/faults", ""),
        ("DELETE", "/faults", ""),
        ("POST", "/pki", "{}"),
        ("GET", "/certificates", ""),
        ("PUT", "/certificates/root", certificate),
        ("GET", "/allocation", ""),
        ("PUT", "/allocation", r#"{"allocationPolicy":"static"}"#),
        ("GET", "/clock", ""),
        ("PUT", "/clock", r#"{"now":"2100-01-01T00:05:00Z"}"#),
        ("GET", "/nothing", ""),
        ("OPTIONS", "/faults", ""),
    ];
    assert_eq!(register(&peer).await.status, 202);
    let before = (peer.emulator.journal().len(), peer.emulator.registrations());
    let foreign = [
        (own.as_str(), "Origin: https://evil.example\r\n", 403),
        (&own, "Origin: null\r\n", 403),
        (&own, "Origin: http://localhost:1\r\n", 403),
        ("evil.example:1234", "Origin: https://evil.example\r\n", 421),
        ("rebind.evil.example", "", 421),
    ];
    for (method, path, body) in routes {
        for (host, origin, wanted) in foreign {
            let head = format!("Host: {host}\r\n{origin}Content-Type: text/plain\r\n");
            let answer = ask_in_clear(port, method, path, &head, body).await;
            assert_eq!(answer.status, wanted, "{method} {path} {host}");
            assert!(answer.body["message"].is_string(), "{}", answer.text);
            assert!(!answer.head.to_lowercase().contains("access-control"), "{}", answer.head);
        }
        let answer = ask_in_clear(port, method, path, "", body).await;
        assert_eq!(answer.status, 421, "{method} {path}");
    }

    assert_eq!((peer.emulator.journal().len(), peer.emulator.registrations()), before);
    assert_eq!(peer.emulator.ca_certificates(), json!([]));
    assert_eq!(peer.manage("GET", "/allocation", "").await.1["allocationPolicy"], "hashed");
    assert_eq!(register(&peer).await.status, 202, "no fault, and the clock runs");
    let origin = format!("Host: {own}\r\nOrigin: http://{own}\r\n");
    assert!(ask_in_clear(port, "POST", "/reset", &origin, "").await.status == 204);
}

#[tokio::test]
async fn the_https_port_lets_no_page_send_a_credential() {
    let peer = Emulated::start(seeded()).await;
    let ask = "Origin: https://evil.example\r\nAccess-Control-Request-Method: GET\r\n\
               Access-Control-Request-Headers: authorization\r\n";

    let answer = peer.client.ask("OPTIONS", "/enrollments/dev1?api-version=2021-10-01", ask, "").await;

    assert!((400..500).contains(&answer.status));
    assert!(!answer.head.to_lowercase().contains("access-control"));
}

#[tokio::test]
async fn the_routes_of_the_page_refuse_other_methods_and_queries() {
    let peer = Emulated::start(seeded().manage_port(0)).await;
    for (method, path, status) in [
        ("POST", "/", 405),
        ("GET", "/?journal=1", 400),
        ("GET", "//", 404),
        ("PUT", "/info", 405),
        ("GET", "/info?keys=false", 400),
        ("PATCH", "/faults", 405),
        ("DELETE", "/clock", 405),
    ] {
        let (answered, body) = peer.manage(method, path, "").await;
        assert_eq!(answered, status, "{method} {path}: {body}");
    }
}

#[tokio::test]
async fn the_page_is_one_file_that_may_run_its_own_script_only_and_is_never_kept() {
    let peer = Emulated::start(seeded().manage_port(0)).await;
    let port = peer.emulator.manage_port().unwrap();

    let page = ask_in_clear(port, "GET", "/", "Host: localhost\r\n", "").await;

    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    for wanted in [
        "default-src 'none'; script-src 'sha256-",
        "; style-src 'sha256-",
        "; connect-src 'self'; ",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'; trusted-types 'none'",
    ] {
        assert!(policy.contains(wanted), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
    for part in ["http://", "https://"] {
        let elsewhere = page.text.replace("http://www.w3.org/2000/svg", "");
        assert!(!elsewhere.contains(part), "the page names an address");
    }
    for path in ["/", "/info", "/journal", "/nothing"] {
        let answer = ask_in_clear(port, "GET", path, "Host: localhost\r\n", "").await;
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
    }
}

#[tokio::test]
async fn how_clients_connect_is_the_same_in_the_library_and_on_the_management_port() {
    let builder = seeded().manage_port(0).access_policy(AccessPolicy::new("reader", [Right::EnrollmentRead]));
    let peer = Emulated::start(builder.hub("a.example")).await;

    let (status, info) = peer.manage("GET", "/info", "").await;

    let emulator = &peer.emulator;
    let wanted = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "idScope": emulator.id_scope(),
        "serviceConnectionString": emulator.service_connection_string(),
        "endpoints": {
            "https": format!("localhost:{}", emulator.https_port()),
            "mqtt": format!("localhost:{}", emulator.mqtt_port()),
            "amqp": format!("localhost:{}", emulator.amqp_port()),
            "manage": emulator.manage_url(),
        },
        "manageNeedsToken": false,
        "hubs": ["a.example"],
        "hubConnectionStrings": {"a.example": emulator.hub_connection_string("a.example")},
        "policyConnectionStrings": {
            "provisioningserviceowner": emulator.service_connection_string(),
            "reader": emulator.connection_string("reader"),
        },
    });
    assert_eq!((status, info), (200, wanted));
}

#[tokio::test]
async fn faults_that_wait_are_listed_and_cleared() {
    let peer = Emulated::start(seeded().manage_port(0)).await;
    let fault = Fault::throttle(7).on(Operation::Register).nth(2).times(2);
    peer.emulator.inject(fault.clone()).unwrap();
    peer.emulator.inject(Fault::hang_up().of("dev2")).unwrap();
    assert_eq!(register(&peer).await.status, 202);

    let (status, listed) = peer.manage("GET", "/faults", "").await;

    let written = json!({
        "effect": "throttle", "status": null, "retryAfter": 7, "ms": null, "front": null, "operation": "register",
        "registrationId": null, "nth": 1, "times": 2,
    });
    assert_eq!((status, &listed[0]), (200, &written), "the first request is counted");
    assert_eq!(peer.emulator.faults(), [fault.nth(1), Fault::hang_up().of("dev2")]);
    assert_eq!(peer.manage("DELETE", "/faults", "").await.0, 204);
    assert_eq!(peer.manage("GET", "/faults", "").await.1, json!([]));
    assert_eq!(register(&peer).await.status, 202);
    assert_eq!(
        peer.manage("POST", "/faults", &listed.to_string()).await.0,
        204,
        "it is read as it was written"
    );
    assert_eq!(register(&peer).await.status, 429);
    peer.emulator.clear_faults();
    assert_eq!(register(&peer).await.status, 202);
}

#[tokio::test]
async fn the_management_port_shows_the_clock() {
    let peer = Emulated::start(seeded().manage_port(0)).await;
    assert_eq!(peer.manage("GET", "/clock", "").await.1["isStopped"], false);

    peer.emulator.set_clock(UNIX_EPOCH + Duration::from_secs(1_893_456_000));

    let stopped = json!({"now": "2030-01-01T00:00:00Z", "isStopped": true});
    assert_eq!(peer.manage("GET", "/clock", "").await, (200, stopped));
}

#[tokio::test]
async fn faults_that_wait_are_limited_and_cost_little() {
    let peer = Emulated::start(seeded().manage_port(0)).await;
    let fault = r#"{"effect":"stall","operation":"register","registrationId":"nobody","times":4294967295}"#;
    let many = async |count: usize| {
        let faults = format!("[{}]", vec![fault; count].join(","));
        peer.manage("POST", "/faults", &faults).await
    };

    assert_eq!(many(1_001).await.0, 429);
    assert_eq!(many(1_000).await.0, 204, "none of the 1,001 was taken");
    let (status, body) = many(1).await;
    assert_eq!(status, 429);
    assert!(body["message"].as_str().unwrap().starts_with("at most 1000 faults can wait "), "{body}");
    assert_eq!(peer.emulator.inject(Fault::stall()), Err(FaultError::TooMany));
    assert_eq!(register(&peer).await.status, 202);

    peer.emulator.reset();
    assert_eq!(many(1_000).await.0, 204, "a reset forgets them");
    let (status, body) = peer.manage("POST", "/faults", &fault.replace("4294967295", "4294967296")).await;
    assert_eq!((status, &body["message"]), (400, &json!("times must be a whole number, at most 4294967295")));
    let devices: Vec<String> = (0..1_001).map(|n| format!("dev-{n}")).collect();
    let (status, body) = peer.manage("POST", "/pki", &json!({"devices": devices}).to_string()).await;
    let wanted = "a test PKI for 1001 devices is too large: 1000 are the most";
    assert_eq!((status, &body["message"]), (400, &json!(wanted)));
}

async fn register(peer: &Emulated) -> Reply {
    peer.device("PUT", "dev1/register", DEV1, "{}").await
}

/// An emulator that knows dev1.
fn seeded() -> EmulatorBuilder {
    let attestation = json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": PRIMARY}});
    let enrollment = json!({"registrationId": "dev1", "attestation": attestation});
    Emulator::builder().seed_json(json!({"enrollments": [enrollment]}).to_string())
}

#[tokio::test]
async fn a_management_port_with_a_token_answers_those_who_have_it() {
    const TOKEN: &str = "correct-horse-battery";
    let guarded = seeded().manage_port(0).manage_token(TOKEN).dns_name("dps.example");
    let peer = Emulated::start(guarded).await;
    let port = peer.emulator.manage_port().unwrap();
    let ask = async |method, path, headers: &str| {
        let headers = format!("Host: dps.example:{port}\r\n{headers}");
        ask_in_clear(port, method, path, &headers, "").await
    };
    let basic = |text: &str| format!("Authorization: Basic {}\r\n", BASE64_STANDARD.encode(text));
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");

    for headers in [
        "",
        "Authorization: Bearer correct-horse-batterx\r\n",
        &basic(&format!("{TOKEN}:")),
        &format!("{bearer}{bearer}"),
    ] {
        for (method, path) in
            [("GET", "/journal"), ("POST", "/reset"), ("GET", "/nowhere"), ("GET", "/hubs/a/devices")]
        {
            let answer = ask(method, path, headers).await;
            assert_eq!(answer.status, 401, "{method} {path} {headers}");
            assert!(
                answer.header("www-authenticate").unwrap().starts_with("Bearer "),
                "no dialog for a script"
            );
            let document = ask(method, path, &format!("{headers}Accept: text/html,*/*;q=0.8\r\n")).await;
            assert_eq!(document.status, 401);
            assert_eq!(document.header("www-authenticate"), Some(r#"Basic realm="azure-dps-emulator""#));
            assert!(
                !answer.text.contains(TOKEN) && answer.text.contains("needs its token"),
                "{}",
                answer.text
            );
        }
    }
    for headers in [&bearer, &basic(&format!("anyone:{TOKEN}"))] {
        assert_eq!(ask("GET", "/journal", headers).await.status, 200, "{headers}");
        assert_eq!(ask("POST", "/reset", headers).await.status, 204, "{headers}");
        assert_eq!(ask("GET", "/health", headers).await.status, 200, "{headers}");
    }
    assert_eq!(ask("GET", "/health", "").await.status, 200);
    let page = format!("{bearer}Origin: http://evil.example\r\n");
    assert_eq!(ask("GET", "/journal", &page).await.status, 403);
    let journal = format!("{:?}", peer.emulator.journal());
    assert!(!journal.contains(TOKEN) && !format!("{:?}", peer.emulator).contains(TOKEN));
}

#[tokio::test]
async fn records_are_counted_and_symmetric_keys_shown() {
    let peer = Emulated::start(seeded().manage_port(0)).await;
    let seeded = peer.manage("GET", "/counts", "").await.1;
    peer.enroll("dev9", json!({})).await;
    peer.enroll_group("plant", json!({})).await;
    peer.register("dev9", json!({})).await;
    peer.manage("POST", "/faults", r#"{"effect":"stall"}"#).await;

    let keys = keys();
    let counts = peer.manage("GET", "/counts", "").await.1;

    for kind in ["enrollments", "enrollmentGroups", "registrations", "devices", "faults"] {
        assert_eq!(counts[kind].as_u64(), seeded[kind].as_u64().map(|count| count + 1), "{kind}");
    }
    for path in ["enrollments/dev9", "enrollments/DEV%39", "enrollmentGroups/plant"] {
        assert_eq!(
            peer.manage("GET", &format!("/keys/{path}"), "").await,
            (200, keys["symmetricKey"].clone()),
            "{path}"
        );
    }
    let (status, answer) = peer.manage("GET", "/keys/enrollments/plant", "").await;
    let message = "an individual enrollment plant with symmetric keys does not exist";
    assert_eq!((status, &answer["message"]), (404, &json!(message)));
}
