//! The pictures of the page in the guide. `DPS_BROWSER_PICTURES` names the folder to write them to; without it
//! the test writes nothing.

use std::path::PathBuf;

use azure_dps_emulator::{Emulator, Fault, Operation, Protocol};
use azure_dps_tests::emulated::{Emulated, PRIMARY, derive, sign};
use azure_dps_tests::hub_device::{EVENTS, REPORT, TWIN_REPLIES, hub_user};
use azure_dps_tests::mqtt_bytes::{CLEAN, connect};
use azure_dps_tests::mqtt_device::MqttDevice;
use azure_dps_tests::site::on;
use serde_json::json;

use crate::browser::{Browser, page};

#[tokio::test]
async fn the_page_looks_like_its_pictures() {
    let Some(folder) = std::env::var_os("DPS_BROWSER_PICTURES").map(PathBuf::from) else { return };
    let Some(mut browser) = Browser::start().await else { return };
    let peer = Emulated::start(Emulator::builder().manage_port(0)).await;
    let hub = peer.emulator.hubs().remove(1);
    let twin = json!({"tags": {"plant": "berlin"}, "properties": {"desired": {"interval": 60}}});
    peer.enroll_group("plant-berlin", on(&hub, json!({"initialTwin": twin}))).await;
    for id in ["pump-7", "sensor-001"] {
        peer.enroll(id, json!({})).await;
    }
    peer.enroll("retired-3", json!({"provisioningStatus": "disabled"})).await;
    peer.register("line-4-robot", json!({})).await;
    peer.register("sensor-001", json!({})).await;
    let resource = |id: &str| format!("0ne00EMU1A7/registrations/{id}");
    let wrong = sign(&derive(PRIMARY, "pump-8"), &resource("pump-7"), "registration");
    peer.device("PUT", "pump-7/register", &wrong, "").await;
    peer.device("PUT", "sensor-009/register", &sign(PRIMARY, &resource("sensor-009"), "registration"), "")
        .await;
    peer.register("retired-3", json!({})).await;
    peer.emulator.inject(Fault::throttle(5).on(Operation::Register).of("pump-7")).unwrap();
    peer.device("PUT", "pump-7/register", &sign(PRIMARY, &resource("pump-7"), "registration"), "").await;
    let fault = Fault::status(503).over(Protocol::Mqtt).on(Operation::Register).of("pump-7");
    peer.emulator.inject(fault.nth(3).times(2)).unwrap();
    let mut device = MqttDevice::connect(&peer.emulator).await;
    let token = sign(&derive(PRIMARY, "line-4-robot"), &format!("{hub}/devices/line-4-robot"), "");
    let user = hub_user(&hub, "line-4-robot");
    assert_eq!(device.sign_in(&connect(CLEAN, 60, "line-4-robot", &user, &token)).await, 0);
    device.listen(TWIN_REPLIES, 0).await;
    device.request(&format!("{REPORT}1"), r#"{"firmware":"2.4.1","battery":{"level":87}}"#).await;
    let events = EVENTS.replace("dev1", "line-4-robot");
    for (id, temperature) in [(2, 20.5), (3, 21.0)] {
        let body = json!({"temperature": temperature, "humidity": 41}).to_string();
        device.publish_acknowledged(id, &format!("{events}line=4"), &body).await;
    }

    for (name, section, width, height, dark) in [
        ("journal", "journal", 1120, 700, false),
        ("devices-dark", "devices", 1120, 840, true),
        ("faults", "faults", 1120, 640, false),
        ("connect-narrow", "connect", 390, 844, false),
    ] {
        let url = page(&peer.emulator, section);
        browser.open(json!({"url": url, "width": width, "height": height, "dark": dark})).await;
        browser.see("#state", "Connected").await;
        if section == "devices" {
            browser.unfold("#list-devices", "line-4-robot").await;
            browser.see("#list-devices [data-telemetry]", "\"temperature\":21").await;
        }
        let file = folder.join(format!("page-{name}.png"));
        browser.act("screenshot", json!({"file": file})).await;
        browser.assert_innocent().await;
    }
}
