//! What a person does on the page, one after the other.

use std::time::Duration;

use azure_dps_emulator::{Emulator, Fault, Operation};
use azure_dps_tests::emulated::{Emulated, PRIMARY, VERSION, sign};
use azure_dps_tests::hub_device::{EVENTS, REPORT, TWIN_REPLIES, assigned_with};
use azure_dps_tests::mqtt_device::MqttDevice;
use azure_dps_tests::site::{A, hubs, on};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::browser::Browser;

#[tokio::test]
async fn a_registration_and_the_reason_of_a_refusal_appear_without_a_reload() {
    let peer = Emulated::start(Emulator::builder().manage_port(0)).await;
    let Some(mut browser) = Browser::on(&peer.emulator, "journal").await else { return };
    browser.see("#empty-journal", "No request has arrived yet.").await;
    let hub = "emulator-hub-2.azure-devices.net";
    peer.enroll("dev1", on(hub, json!({}))).await;
    peer.enroll_group("plant-berlin", json!({})).await;
    browser.go("enrollments", "Enrollments and groups").await;
    browser.see("#list-enrollments li", "dev1").await;
    browser.see("#list-enrollments li", hub).await;
    let group = browser.text("#list-enrollments li:has-text('plant-berlin')").await;
    assert!(
        ["group", "symmetric key", "enabled", "any hub"].iter().all(|word| group.contains(word)),
        "{group}"
    );

    let wrong = sign("d3Jvbmcga2V5IHdyb25nIGtleSB3cm9uZyBrZXkhISE=", "0ne00EMU1A7/registrations/dev1", "");
    browser.go("journal", "Journal").await;
    assert_eq!(peer.device("PUT", "dev1/register", &wrong, "").await.status, 401);
    browser.see("#list-journal li", "signature matches neither the primary nor the secondary key").await;
    browser.see("#list-journal li", "401 refused (401002)").await;
    peer.register("dev1", json!({})).await;
    browser.see("#list-journal li", "/0ne00EMU1A7/registrations/dev1/register").await;
    browser.see("#list-journal li", "200 ok").await;

    for _ in 0..2 {
        peer.device("PUT", "dev1/register", &wrong, "").await;
        peer.device("PUT", "dev1/register", &wrong, "").await;
        peer.poll("dev1", VERSION, "none").await;
    }
    browser.see("#list-journal li", "(5 times)").await;
    assert_eq!(
        browser.count("#list-journal .why:has-text('signature matches')").await,
        1,
        "they are one entry"
    );

    browser.go("registrations", "Registration records").await;
    browser.unfold("#list-registrations", "dev1").await;
    browser.see("#list-registrations pre", "\"assignedHub\": \"emulator-hub-2.azure-devices.net\"").await;

    peer.emulator.reset();
    browser.see("#empty-registrations", "No device has registered yet.").await;
    browser.go("journal", "Journal").await;
    browser.see("#empty-journal", "No request has arrived yet.").await;
    browser.assert_innocent().await;
}

#[tokio::test]
async fn the_journal_goes_on_while_no_more_requests_may_wait_for_it() {
    let peer = Emulated::start(Emulator::builder().manage_port(0)).await;
    let mut waiting = Vec::new();
    for _ in 0..64 {
        let mut reader =
            TcpStream::connect(("127.0.0.1", peer.emulator.manage_port().unwrap())).await.unwrap();
        let request = "GET /journal?id=nobody&wait=300 HTTP/1.1\r\nHost: localhost\r\n\r\n";
        reader.write_all(request.as_bytes()).await.unwrap();
        waiting.push(reader);
    }
    let Some(mut browser) = Browser::on(&peer.emulator, "journal").await else { return };
    // With no entry to answer with, a request of the page would have to wait, and all places are taken.
    browser.first_offences().await;

    for id in ["dev1", "dev2", "dev3"] {
        peer.enroll(id, json!({})).await;
        browser.see("#list-journal li", id).await;
    }
    assert_eq!(browser.text("#stale").await, "");
    let refused = browser.offences().await;
    assert!(refused.iter().all(|one| one.contains("429")), "{refused:?}");
}

#[tokio::test]
async fn an_answer_that_a_fault_changes_is_not_shown_as_ok() {
    let peer = Emulated::start(Emulator::builder().manage_port(0)).await;
    let Some(mut browser) = Browser::on(&peer.emulator, "journal").await else { return };
    peer.enroll("dev1", json!({})).await;
    peer.emulator.inject(Fault::delay(Duration::from_millis(1)).on(Operation::Register)).unwrap();

    peer.register("dev1", json!({})).await;

    browser.see("#list-journal li", "202 with a fault").await;
    browser.see("#list-journal .why", "Fault: the answer is sent 1ms later").await;
    browser.assert_innocent().await;
}

#[tokio::test]
async fn the_twin_and_the_telemetry_of_a_device_are_shown_as_they_change() {
    let site = assigned_with(hubs().manage_port(0)).await;
    let Some(mut browser) = Browser::on(&site.peer.emulator, "devices").await else { return };
    browser.see("#list-devices li", "not connected").await;
    browser.unfold("#list-devices", "dev1").await;
    browser.see("#list-devices pre", "\"interval\": 1").await;

    let mut device = MqttDevice::at_hub(&site.peer.emulator).await;
    device.listen(TWIN_REPLIES, 0).await;
    device.request(&format!("{REPORT}1"), r#"{"firmware":"2.4.1"}"#).await;
    device.publish_acknowledged(2, &format!("{EVENTS}line=4"), r#"{"temperature":20.5}"#).await;
    browser.see("#list-devices pre", "\"firmware\": \"2.4.1\"").await;
    browser.see("#list-devices [data-telemetry]", "{\"temperature\":20.5}").await;
    browser.see("#list-devices [data-telemetry]", "line=4").await;
    browser.see("#list-devices summary", A).await;
    drop(device);
    browser.see("#list-devices summary", "not connected").await;
    browser.assert_innocent().await;
}

#[tokio::test]
async fn a_fault_that_is_set_by_clicks_acts_until_it_is_cleared() {
    let peer = Emulated::start(Emulator::builder().manage_port(0)).await;
    peer.enroll("dev1", json!({})).await;
    let Some(mut browser) = Browser::on(&peer.emulator, "faults").await else { return };
    browser.see("#empty-faults", "No fault waits.").await;

    browser.choose("What happens", "Answer with a status").await;
    browser.fill("Status", "503").await;
    browser.choose("On", "Register").await;
    browser.choose("Over", "HTTPS").await;
    browser.fill("Of the ID", "dev1").await;
    browser.fill("How many times", "9").await;
    browser.click("button", "Set fault").await;
    browser.see("#list-faults li", "Register over HTTPS of dev1").await;
    let token = sign(PRIMARY, "0ne00EMU1A7/registrations/dev1", "");
    assert_eq!(peer.device("PUT", "dev1/register", &token, "").await.status, 503);
    browser.see("#list-faults li", "8 times").await;
    browser.click("button", "Clear all faults").await;
    browser.see("#empty-faults", "No fault waits.").await;
    assert_eq!(peer.device("PUT", "dev1/register", &token, "").await.status, 202);

    browser.choose("What happens", "Answer twice").await;
    browser.click("button", "Set fault").await;
    browser.see("#fault-form [role=alert]", "the fault would never act: ").await;
    browser.go("journal", "Journal").await;
    browser.see("#list-journal li", "Fault: answered in place of the service").await;
    // The refusal of the impossible fault is an error in the console of the browser, which is its own.
    let offences = browser.first_offences().await;
    assert!(offences.len() == 1 && offences[0].contains("400 (Bad Request)"), "{offences:?}");
}

#[tokio::test]
async fn the_clock_is_advanced_and_stopped_and_a_reset_asks_first() {
    let peer = Emulated::start(Emulator::builder().manage_port(0)).await;
    peer.enroll("dev1", json!({})).await;
    let Some(mut browser) = Browser::on(&peer.emulator, "clock").await else { return };
    browser.see("#now-text", "The clock runs. It agrees with the clock of this browser.").await;

    browser.click("button", "Advance by 1 day").await;
    browser.see("#now-text", "The clock runs. It is 1 day ahead of the clock of this browser.").await;
    browser.fill("Stop at a time (UTC)", "2030-01-01T00:00:00").await;
    browser.click("button", "Stop the clock there").await;
    browser.see("#now-text", "The clock is stopped.").await;
    browser.see("#now", "2030-01-01 00:00:00 UTC").await;
    assert_eq!(peer.enroll("dev2", json!({})).await["createdDateTimeUtc"], "2030-01-01T00:00:00Z");
    browser.click("button", "Back to the system time").await;
    browser.see("#now-text", "The clock runs. It agrees").await;

    browser.click("button", "Reset the emulator…").await;
    browser.click("button", "Cancel").await;
    assert_eq!(peer.listed().await, ["dev1", "dev2"]);
    browser.click("button", "Reset the emulator…").await;
    browser.click("button", "Reset").await;
    browser.go("enrollments", "Enrollments and groups").await;
    browser.see("#empty-enrollments", "There is no enrollment.").await;
    browser.assert_innocent().await;
}

#[tokio::test]
async fn the_page_hands_out_the_authority_and_connection_strings_and_shows_keys_on_request() {
    let peer = Emulated::start(Emulator::builder().manage_port(0)).await;
    let Some(mut browser) = Browser::on(&peer.emulator, "connect").await else { return };

    let ca = browser.act("download", json!({"name": "Download the CA certificate"})).await;
    assert_eq!(ca, json!({"file": "azure-dps-emulator-ca.pem", "text": peer.emulator.ca_pem()}));
    let string = peer.emulator.service_connection_string();
    let (open, key) = string.split_once("SharedAccessKey=").unwrap();
    browser.see("#facts", open).await;
    browser.see("#snippet", "export DPS_ID_SCOPE='0ne00EMU1A7'").await;
    assert!(!browser.text("main").await.contains(key));
    browser.click("button", "Show keys").await;
    browser.see("#facts", key).await;
    browser.see("#snippet", &string).await;
    let hub = peer.emulator.hub_connection_string(&peer.emulator.hubs()[0]).unwrap();
    browser.see("#facts", &hub).await;
    browser.click("button", "Hide keys").await;
    browser.miss("#facts", key).await;
    browser.assert_innocent().await;
}

#[tokio::test]
async fn the_end_of_the_emulator_is_reported_and_its_return_too() {
    let first = Emulator::builder().manage_port(0).start().await.unwrap();
    let port = first.manage_port().unwrap();
    let Some(mut browser) = Browser::on(&first, "journal").await else { return };
    browser.see("#state", "Connected").await;

    drop(first);
    browser.see("#lost", "does not answer. It may have ended.").await;
    browser.see("#state", "Disconnected").await;
    let again = Emulated::start(Emulator::builder().manage_port(port).id_scope("0ne00AGAIN1")).await;
    browser.see("#state", "Connected").await;
    browser.miss("#lost", "does not answer").await;
    browser.see("#scope", "0ne00AGAIN1").await;
    again.enroll("dev1", json!({})).await;
    browser.see("#list-journal li", "dev1").await;
}
