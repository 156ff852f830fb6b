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
    for (width, section, heading) in [
        (1280, "journal", "Journal"),
        (390, "journal", "Journal"),
        (390, "enrollments", "Enrollments and groups"),
        (390, "registrations", "Registration records"),
        (390, "devices", "Devices at their hubs"),
        (390, "faults", "Faults"),
        (390, "connect", "Connect"),
    ] {
        browser.open(json!({"url": page(&peer.emulator, section), "width": width})).await;
        browser.see("h2", heading).await;
        browser.see("#state", "Connected").await;
        match section {
            "journal" => browser.see("#list-journal li .id", MARKUP).await,
            "enrollments" => browser.unfold("#list-enrollments", &long).await,
            "devices" => {
                browser.unfold("#list-devices", &long).await;
                browser.see("#list-devices pre", MARKUP_IN_JSON).await;
                browser.unfold("#list-devices", "dev1").await;
                browser.see("#list-devices [data-telemetry]", "<b>=<i>").await;
                browser.see("#list-devices [data-telemetry] code", MARKUP).await;
            }
            "faults" => browser.see("#list-faults li .id", MARKUP).await,
            _ => {}
        }
        let overflow = browser.act("overflow", json!({})).await;
        assert_eq!(overflow, json!(0), "{section} is wider than a window of {width} pixels");
        assert_eq!(browser.count("main img, main script, main b:has-text('=')").await, 0, "{section}");
        browser.assert_innocent().await;
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
async fn without_script_the_page_says_in_one_line_what_to_do() {
    let peer = Emulated::start(Emulator::builder().manage_port(0)).await;
    let Some(mut browser) = Browser::start().await else { return };

    browser.open(json!({"url": page(&peer.emulator, ""), "script": false})).await;

    let text = browser.text("body").await;
    assert!(text.trim().starts_with("This page needs JavaScript."), "{text}");
    assert!(!text.trim().contains('\n'), "{text}");
}
