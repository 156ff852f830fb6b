//! How the page behaves with much data, in a narrow window, and without a mouse.

use azure_dps_emulator::Emulator;
use azure_dps_tests::emulated::Emulated;
use serde_json::{Value, json};

use crate::browser::{Browser, page};

#[tokio::test]
async fn ten_thousand_enrollments_are_shown_in_parts_and_found_by_a_search() {
    let enrollments: Vec<Value> = (0..10_000)
        .map(|n| json!({"registrationId": format!("dev-{n:05}"), "attestation": {"type": "symmetricKey"}}))
        .collect();
    let seed = json!({"enrollments": enrollments}).to_string();
    let peer = Emulated::start(Emulator::builder().manage_port(0).seed_json(seed)).await;
    let Some(mut browser) = Browser::on(&peer.emulator, "enrollments").await else { return };

    browser.see("#more-enrollments", "100 of 10,000 shown.").await;
    browser.click("button", "Show 100 more").await;
    browser.see("#more-enrollments", "200 of 10,000 shown.").await;
    assert_eq!(browser.count("#list-enrollments > li").await, 200);
    browser.fill("Find enrollments", "dev-09999 individual").await;
    browser.see("#more-enrollments", "1 shown, 1 of 10,000 match.").await;
    browser.see("#list-enrollments li", "dev-09999").await;
    browser.fill("Find enrollments", "no such name").await;
    browser.see("#empty-enrollments", "Nothing matches.").await;
    browser.assert_innocent().await;
}

#[tokio::test]
async fn every_section_fits_a_narrow_window_and_is_reached_with_the_keyboard() {
    let peer = Emulated::start(Emulator::builder().manage_port(0)).await;
    peer.enroll("dev1", json!({})).await;
    let Some(mut browser) = Browser::start().await else { return };
    browser
        .open(json!({"url": page(&peer.emulator, "journal"), "width": 390, "height": 844, "dark": true}))
        .await;
    browser.see("#list-journal li", "dev1").await;

    for heading in [
        "Journal",
        "Enrollments and groups",
        "Registration records",
        "Devices at their hubs",
        "Faults",
        "Clock and reset",
        "Connect",
    ] {
        browser.see("h2", heading).await;
        assert_eq!(browser.act("overflow", json!({})).await, json!(0), "{heading}");
        // From the current section's link to the next one.
        browser.act("next", json!({})).await;
    }
    browser.assert_innocent().await;
}

#[tokio::test]
async fn a_row_that_gets_the_focus_is_not_below_the_sections() {
    let peer = Emulated::start(Emulator::builder().manage_port(0)).await;
    for number in 0..60 {
        peer.enroll(&format!("dev-{number}"), json!({})).await;
    }
    let Some(mut browser) = Browser::on(&peer.emulator, "journal").await else { return };
    browser.see("#list-journal li", "dev-0").await;
    browser.evaluate("document.querySelector('#list-journal li:last-child summary').focus()").await;

    for _ in 0..40 {
        browser.act("press", json!({"key": "Shift+Tab"})).await;
        let covered = "document.activeElement.getBoundingClientRect().top \
                       < document.querySelector('nav').getBoundingClientRect().bottom";
        assert_eq!(browser.evaluate(covered).await, false);
    }
}
