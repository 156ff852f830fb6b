//! What the page must never do, whatever its data, and what other pages must not do to it.

use azure_dps_emulator::{Emulator, Fault};
use azure_dps_tests::emulated::Emulated;
use azure_dps_tests::hub_device::{EVENTS, assigned_with};
use azure_dps_tests::mqtt_device::MqttDevice;
use azure_dps_tests::site::{A, hubs, on};
use serde_json::json;

use crate::browser::{Browser, page};

const MARKUP: &str = r#"<img src=x onerror="alert(1)">"#;
const MARKUP_IN_JSON: &str = r#""note": "<img src=x onerror=\"alert(1)\">""#;
const SCRIPT: &str = "</script><script>alert(2)</script>'\"`${alert(3)}";
/// Right-to-left text with an override, which reorders what follows unless it is isolated.
const BACKWARDS: &str = "\u{202e}\u{5d0}\u{5d1}\u{5d2}\u{202e}gnp.exe";

#[tokio::test]
async fn hostile_names_and_bodies_are_text_and_run_nothing() {
    let site = assigned_with(hubs().manage_port(0)).await;
    let peer = &site.peer;
    let long = "x".repeat(128);
    let twin = json!({"tags": {"note": MARKUP, SCRIPT: BACKWARDS}, "properties": {"desired": {"a": SCRIPT}}});
    peer.enroll(&long, on(A, json!({"initialTwin": twin}))).await;
    peer.register(&long, json!({})).await;
    for id in [MARKUP, BACKWARDS, SCRIPT] {
        let id: String = id.bytes().map(|byte| format!("%{byte:02X}")).collect();
        assert!(
            peer.device("PUT", &format!("{id}/register"), "SharedAccessSignature sr=x", "").await.status
                >= 400
        );
    }
    for id in [MARKUP, BACKWARDS] {
        peer.emulator.inject(Fault::stall().of(id).times(9)).unwrap();
    }
    let mut device = MqttDevice::at_hub(&peer.emulator).await;
    device.publish_acknowledged(1, &format!("{EVENTS}%3Cb%3E=%3Ci%3E"), MARKUP).await;
    device.publish_acknowledged(2, EVENTS, &json!({"text": SCRIPT}).to_string()).await;

    let Some(mut browser) = Browser::start().await else { return };
    browser.open(json!({"url": page(&peer.emulator, "journal"), "width": 390})).await;
    browser.see("#list-journal li .id", MARKUP).await;
    browser.assert_text_only("Journal").await;
    browser.go("enrollments", "Enrollments and groups").await;
    browser.unfold("#list-enrollments", &long).await;
    browser.assert_text_only("Enrollments and groups").await;
    browser.go("registrations", "Registration records").await;
    browser.see("#list-registrations li .id", &long).await;
    browser.assert_text_only("Registration records").await;
    browser.go("devices", "Devices at their hubs").await;
    browser.unfold("#list-devices", &long).await;
    browser.see("#list-devices pre", MARKUP_IN_JSON).await;
    browser.unfold("#list-devices", "dev1").await;
    browser.see("#list-devices [data-telemetry]", "<b>=<i>").await;
    browser.see("#list-devices [data-telemetry] code", MARKUP).await;
    browser.assert_text_only("Devices at their hubs").await;
    browser.go("faults", "Faults").await;
    browser.see("#list-faults li .id", MARKUP).await;
    browser.see("#list-faults li .id", BACKWARDS).await;
    browser.assert_text_only("Faults").await;
    browser.assert_innocent().await;
}

impl Browser {
    /// Checks that the section has no element that its data made, and fits the window.
    async fn assert_text_only(&mut self, section: &str) {
        self.see("h2", section).await;
        assert_eq!(self.count("#page img, #page script, #page main b:has-text('=')").await, 0, "{section}");
        assert_eq!(self.act("overflow", json!({})).await, json!(0), "{section} is wider than the window");
    }
}

#[tokio::test]
async fn a_page_of_another_origin_changes_and_learns_nothing() {
    let peer = Emulated::start(Emulator::builder().manage_port(0)).await;
    let Some(mut browser) = Browser::start().await else { return };
    let port = peer.emulator.manage_port().unwrap();

    for host in ["127.0.0.1", "localhost"] {
        let attack = browser.act("attack", json!({"url": format!("http://{host}:{port}")})).await;

        assert_eq!(attack["learned"], json!([]), "{host}");
        let frames = attack["frames"].to_string();
        assert!(!frames.contains("ID scope") && !frames.contains("0ne00EMU1A7"), "{frames}");
    }
    assert_eq!(peer.emulator.faults(), []);
    let now = peer.manage("GET", "/clock", "").await.1["now"].to_string();
    let created = peer.enroll("dev1", json!({})).await["createdDateTimeUtc"].to_string();
    assert_eq!(now[..11], created[..11], "the clock is where it was");
}

#[tokio::test]
async fn a_page_of_another_origin_does_not_borrow_the_token_that_the_browser_knows() {
    let token = "correct-horse-battery-staple";
    let emulator = Emulator::builder().manage_port(0).manage_token(token).start().await.unwrap();
    let Some(mut browser) = Browser::start().await else { return };
    let url = format!("http://127.0.0.1:{}", emulator.manage_port().unwrap());

    let user = json!({"username": "any", "password": token});
    let attack = browser.act("attack", json!({"url": url, "user": user})).await;

    assert_eq!(attack["learned"], json!([]));
    assert!(!attack["frames"].to_string().contains("0ne00EMU1A7"), "{attack}");
    assert_eq!(emulator.faults(), []);
}

#[tokio::test]
async fn with_a_token_the_page_works_for_those_who_know_it() {
    let token = "correct-horse-battery-staple";
    let builder = Emulator::builder().manage_port(0).manage_token(token);
    let emulator = builder.start().await.unwrap();
    let Some(mut browser) = Browser::start().await else { return };
    let url = page(&emulator, "faults");
    let wrong = json!({"username": "any", "password": "wrong"});
    for user in [serde_json::Value::Null, wrong] {
        assert_eq!(browser.open(json!({"url": url, "user": user})).await["status"], 401);
        assert!(!browser.text("body").await.contains("0ne00EMU1A7"));
    }

    let user = json!({"username": "any", "password": token});
    assert_eq!(browser.open(json!({"url": url, "user": user})).await["status"], 200);

    browser.see("#state", "Connected").await;
    browser.click("button", "Set fault").await;
    browser.see("#list-faults li", "Throttle (429)").await;
    assert_eq!(emulator.faults(), [Fault::throttle(0)]);
    browser.click("button", "Clear all faults").await;
    browser.see("#empty-faults", "No fault waits.").await;
    browser.go("connect", "Connect").await;
    browser.see("#snippet", "curl --fail --user \"any:$TOKEN\" --output azure-dps-emulator-ca.pem").await;
    assert!(!browser.text("main").await.contains(token));
    let ca = browser.act("download", json!({"name": "Download the CA certificate"})).await;
    assert_eq!(ca["text"], emulator.ca_pem());
    browser.assert_innocent().await;
}

#[tokio::test]
async fn without_script_the_page_says_in_one_line_what_to_do() {
    let peer = Emulated::start(Emulator::builder().manage_port(0)).await;
    let Some(mut browser) = Browser::start().await else { return };

    browser.open(json!({"url": page(&peer.emulator, ""), "script": false})).await;

    let text = browser.text("body").await;
    assert!(text.trim().starts_with("This page needs JavaScript."), "{text}");
    assert!(!text.trim().contains('\n'), "{text}");
}
