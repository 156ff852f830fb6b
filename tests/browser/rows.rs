//! What the user keeps while rows change: the open row, the focus, the selection and the scroll position.

use azure_dps_emulator::{Emulator, Fault};
use azure_dps_tests::emulated::{Emulated, sign};
use azure_dps_tests::hub_device::{EVENTS, REPORT, TWIN_REPLIES, assigned_with};
use azure_dps_tests::mqtt_device::MqttDevice;
use azure_dps_tests::site::hubs;
use serde_json::{Value, json};

use crate::browser::Browser;

const WRONG: &str = "d3Jvbmcga2V5IHdyb25nIGtleSB3cm9uZyBrZXkhISE=";

#[tokio::test]
async fn a_refused_client_that_repeats_leaves_its_row_open_with_focus_and_selection() {
    let peer = Emulated::start(Emulator::builder().manage_port(0)).await;
    peer.enroll("dev1", json!({})).await;
    let wrong = sign(WRONG, "0ne00EMU1A7/registrations/dev1", "");
    assert_eq!(peer.device("PUT", "dev1/register", &wrong, "").await.status, 401);
    let Some(mut browser) = Browser::on(&peer.emulator, "journal").await else { return };
    browser.unfold("#list-journal", "signature matches").await;
    browser.see("#list-journal .inside", "401, error code 401002").await;
    let selected = browser.select("#list-journal details[open] dd:last-of-type").await;

    for repeats in 2..5 {
        // It moves the row down, and the repetition moves it up again.
        peer.enroll(&format!("other-{repeats}"), json!({})).await;
        assert_eq!(peer.device("PUT", "dev1/register", &wrong, "").await.status, 401);
        browser.see("#list-journal .why", &format!("({repeats} times)")).await;
    }

    browser.see("#list-journal > li:first-child .inside", "401, error code 401002").await;
    assert_eq!(browser.evaluate("String(getSelection())").await, selected);
    let focused = browser.evaluate("document.activeElement.innerText").await;
    assert!(focused.as_str().unwrap().contains("(4 times)"), "{focused}");
    browser.assert_innocent().await;
}

#[tokio::test]
async fn a_row_that_is_open_when_the_emulator_is_reset_closes() {
    let peer = Emulated::start(Emulator::builder().manage_port(0)).await;
    peer.enroll("dev1", json!({})).await;
    let Some(mut browser) = Browser::on(&peer.emulator, "journal").await else { return };
    browser.unfold("#list-journal", "dev1").await;
    browser.see("#list-journal .inside", "PUT /enrollments/dev1").await;

    peer.emulator.reset();
    peer.enroll("dev2", json!({})).await;

    browser.see("#list-journal li", "dev2").await;
    assert_eq!(browser.count("#list-journal details[open]").await, 0);
}

#[tokio::test]
async fn an_open_device_keeps_scroll_position_and_selection_while_messages_arrive() {
    let site = assigned_with(hubs().manage_port(0)).await;
    let emulator = &site.peer.emulator;
    let settings: serde_json::Map<String, Value> =
        (0..100).map(|n| (format!("setting-{n:03}"), json!(n))).collect();
    emulator.set_desired("hub-a.example", "dev1", Value::Object(settings)).unwrap();
    let mut device = MqttDevice::at_hub(emulator).await;
    device.listen(TWIN_REPLIES, 0).await;
    device.publish_acknowledged(1, EVENTS, "first").await;
    let Some(mut browser) = Browser::on(emulator, "devices").await else { return };
    browser.unfold("#list-devices", "dev1").await;
    browser.see("#list-devices [data-telemetry]", "first").await;
    browser.evaluate("document.querySelector('#list-devices pre').scrollTop = 400").await;
    let selected = browser.select("#list-devices [data-telemetry] code").await;
    assert_eq!(selected, "first");

    for number in 2..6 {
        device.publish_acknowledged(number, EVENTS, &format!("message {number}")).await;
        browser.see("#list-devices [data-telemetry]", &format!("message {number}")).await;
    }
    device.request(&format!("{REPORT}1"), r#"{"firmware":"2.4.1"}"#).await;
    browser.see("#list-devices pre", "\"firmware\": \"2.4.1\"").await;

    assert_eq!(browser.evaluate("document.querySelector('#list-devices pre').scrollTop").await, 400);
    assert_eq!(browser.evaluate("String(getSelection())").await, selected);
    assert_eq!(browser.count("#list-devices details[open]").await, 1);
    browser.assert_innocent().await;
}

#[tokio::test]
async fn a_button_that_disappears_hands_the_focus_on() {
    let seed = (0..150)
        .map(|n| json!({"registrationId": format!("dev-{n:03}"), "attestation": {"type": "symmetricKey"}}));
    let seed = json!({"enrollments": seed.collect::<Vec<_>>()}).to_string();
    let peer = Emulated::start(Emulator::builder().manage_port(0).seed_json(seed)).await;
    peer.emulator.inject(Fault::stall().times(150)).unwrap();
    let Some(mut browser) = Browser::on(&peer.emulator, "enrollments").await else { return };

    browser.click("button", "Show 100 more").await;
    let focused = browser.evaluate("document.activeElement.innerText").await;
    assert!(focused.as_str().unwrap().contains("dev-100"), "{focused}");

    browser.go("faults", "Faults").await;
    browser.click("button", "Clear all faults").await;
    browser.see("#empty-faults", "No fault waits.").await;
    assert_eq!(browser.evaluate("document.activeElement.id").await, "h-waiting");
    browser.assert_innocent().await;
}

impl Browser {
    /// Selects an element, and returns its text.
    async fn select(&mut self, selector: &str) -> Value {
        self.evaluate(&format!("getSelection().selectAllChildren(document.querySelector('{selector}'))"))
            .await;
        self.evaluate("String(getSelection())").await
    }
}
