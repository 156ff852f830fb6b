//! What the page says and does when the port does not answer as it should.

use std::time::Duration;

use azure_dps_emulator::Emulator;
use azure_dps_tests::emulated::Emulated;
use azure_dps_tests::hub_device::assigned_with;
use azure_dps_tests::site::hubs;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::browser::{Browser, page};

#[tokio::test]
async fn another_token_after_a_restart_ends_all_requests_and_a_reload_is_offered() {
    let tokens = ["correct-horse-battery-staple", "another-horse-battery-staple"];
    let [first, second] = tokens.map(|token| Emulator::builder().manage_token(token));
    let first = first.manage_port(0).start().await.unwrap();
    let (port, url) = (first.manage_port().unwrap(), page(&first, "journal"));
    let Some(mut browser) = Browser::start().await else { return };
    let user = json!({"username": "any", "password": tokens[0]});
    browser.open(json!({"url": url, "user": user})).await;
    browser.see("#state", "Connected").await;

    drop(first);
    browser.see("#lost", "does not answer. It may have ended.").await;
    let _second = second.manage_port(port).start().await.unwrap();

    browser.see("#lost", "The management port does not accept the token of this page.").await;
    browser.see("#state", "Signed out").await;
    // Those that were under way have ended by then; an open loop sends one every two seconds.
    sleep(Duration::from_secs(1)).await;
    let sent = browser.act("requests", json!({})).await;
    sleep(Duration::from_secs(4)).await;
    assert_eq!(browser.act("requests", json!({})).await, sent);
    browser.click("button", "Reload the page").await;
    browser.miss("#lost", "token").await;
}

#[tokio::test]
async fn a_port_that_is_slow_is_not_reported_as_ended() {
    let peer = Emulated::start(Emulator::builder().manage_port(0)).await;
    let Some(mut browser) = Browser::start().await else { return };
    browser.open(json!({"url": page(&peer.emulator, "faults"), "clock": true})).await;
    browser.see("#empty-faults", "No fault waits.").await;

    browser.act("stall", json!({"path": "/counts", "seconds": 21})).await;

    browser.see("#lost", "The emulator has not answered for 20 seconds. It is busy or has stopped.").await;
    browser.see("#state", "No answer").await;
}

#[tokio::test]
async fn telemetry_that_cannot_be_read_is_reported_in_its_row_only() {
    let site = assigned_with(hubs().manage_port(0)).await;
    let Some(mut browser) = Browser::on(&site.peer.emulator, "devices").await else { return };
    browser.answer("/dev1/telemetry", 404).await;

    browser.unfold("#list-devices", "dev1").await;

    browser.see("#list-devices [data-telemetry]", "The telemetry cannot be read: it is broken").await;
    browser.see("#list-devices pre", "\"interval\": 1").await;
    browser.see("#state", "Connected").await;
}

#[tokio::test]
async fn a_refusal_of_the_port_is_shown_as_it_says() {
    let peer = Emulated::start(Emulator::builder().manage_port(0)).await;
    let Some(mut browser) = Browser::on(&peer.emulator, "journal").await else { return };
    browser.see("#state", "Connected").await;

    browser.answer("/counts", 500).await;

    browser.see("#lost", "The emulator refuses this page: it is broken").await;
}

#[tokio::test]
async fn each_section_reads_only_what_it_shows() {
    let site = assigned_with(hubs().manage_port(0)).await;
    let Some(mut browser) = Browser::on(&site.peer.emulator, "devices").await else { return };
    for path in ["/enrollments", "/registrations", "/faults", "/clock"] {
        browser.answer(path, 500).await;
    }

    browser.unfold("#list-devices", "dev1").await;
    browser.see("#list-devices [data-telemetry]", "None yet.").await;
    browser.see("nav", "Enrollments 1").await;
    browser.assert_innocent().await;
    browser.go("registrations", "Registration records").await;
    browser.see("#lost", "The emulator refuses this page: it is broken").await;
    let offences = browser.act("offences", json!({})).await;
    assert!(
        offences.as_array().unwrap().iter().all(|one| one.as_str().unwrap().contains("500")),
        "{offences}"
    );
    assert_ne!(offences, Value::Array(Vec::new()));
}

#[tokio::test]
async fn a_page_of_another_version_loads_itself_again() {
    let peer = Emulated::start(Emulator::builder().manage_port(0)).await;
    let Some(mut browser) = Browser::on(&peer.emulator, "journal").await else { return };
    browser.see("#state", "Connected").await;
    browser.evaluate("document.body.className = 'old'").await;
    let (_, mut info) = peer.manage("GET", "/info", "").await;
    info["version"] = "0.0.0".into();

    browser.act("answer", json!({"path": "/info", "status": 200, "json": info, "times": 1})).await;
    browser.act("answer", json!({"path": "/counts", "status": 500, "json": {}, "times": 1})).await;

    browser.see("#lost", "The emulator answered 500.").await;
    browser.miss("body.old", "Azure DPS emulator").await;
    browser.see("#state", "Connected").await;
}

#[tokio::test]
async fn a_hidden_page_does_not_follow_the_journal_until_it_is_seen_again() {
    let peer = Emulated::start(Emulator::builder().manage_port(0)).await;
    let Some(mut browser) = Browser::on(&peer.emulator, "journal").await else { return };
    browser.see("#state", "Connected").await;
    let turn = |hidden: bool| {
        format!(
            "Object.defineProperty(document, 'hidden', {{ configurable: true, get: () => {hidden} }}); \
             document.dispatchEvent(new Event('visibilitychange'))"
        )
    };
    browser.evaluate(&turn(true)).await;
    // It ends the poll that has begun, if the page was not between two of them.
    peer.enroll("dev1", json!({})).await;
    sleep(Duration::from_millis(300)).await;

    peer.enroll("dev2", json!({})).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(browser.count("#list-journal li:has-text('dev2')").await, 0);
    browser.evaluate(&turn(false)).await;

    browser.see("#list-journal li", "dev2").await;
    browser.assert_innocent().await;
}

impl Browser {
    /// Has requests whose path ends so fail.
    async fn answer(&mut self, path: &str, status: u16) {
        let answer = json!({"path": path, "status": status, "json": {"message": "it is broken"}});
        self.act("answer", answer).await;
    }
}
