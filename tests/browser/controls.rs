//! The controls of each section that no journey uses.

use azure_dps_emulator::{CloudMessage, Emulator};
use azure_dps_tests::emulated::Emulated;
use azure_dps_tests::hub_device::{EVENTS, assigned_with};
use azure_dps_tests::mqtt_bytes::publish;
use azure_dps_tests::mqtt_device::MqttDevice;
use azure_dps_tests::site::{A, hubs};
use serde_json::{Value, json};

use crate::browser::Browser;

#[tokio::test]
async fn the_journal_is_searched_reduced_to_reasons_and_shown_in_parts() {
    let peer = Emulated::start(Emulator::builder().manage_port(0)).await;
    for number in 0..110 {
        peer.service("GET", &format!("/enrollments/none-{number:03}"), "").await;
    }
    peer.enroll("dev1", json!({})).await;
    let Some(mut browser) = Browser::on(&peer.emulator, "journal").await else { return };

    browser.see("#more-journal", "100 of 111 shown.").await;
    browser.see("nav", "Journal 111").await;
    browser.click("button", "Show 100 more").await;
    browser.see("#list-journal li", "none-000").await;
    browser.act("check", json!({"label": "Only with a reason"})).await;
    browser.see("#more-journal", "110 shown, 110 of 111 match.").await;
    browser.fill("Find in the journal", "none-07 404").await;
    browser.see("#more-journal", "10 shown, 10 of 111 match.").await;
    // For screen readers.
    assert_eq!(
        browser.evaluate("document.getElementById('found').textContent").await,
        "10 shown, 10 of 111 match."
    );
    browser.fill("Find in the journal", "none-07 mqtt").await;
    browser.see("#empty-journal", "Nothing matches.").await;
    browser.assert_innocent().await;
}

#[tokio::test]
async fn records_and_devices_are_searched_and_shown_in_parts() {
    let site = assigned_with(hubs().manage_port(0)).await;
    let peer = &site.peer;
    peer.enroll_group("plant", json!({})).await;
    for number in 0..101 {
        peer.register(&format!("robot-{number:03}"), json!({})).await;
    }
    let Some(mut browser) = Browser::on(&peer.emulator, "registrations").await else { return };

    for (section, heading, label) in [
        ("registrations", "Registration records", "Find registration records"),
        ("devices", "Devices at their hubs", "Find devices"),
    ] {
        browser.go(section, heading).await;
        browser.see(&format!("#more-{section}"), "100 of 102 shown.").await;
        browser.click("button", "Show 100 more").await;
        browser.see(&format!("#list-{section} li"), "robot-100").await;
        browser.fill(label, "robot-05").await;
        browser.see(&format!("#more-{section}"), "10 shown, 10 of 102 match.").await;
        browser.fill(label, "").await;
    }
    let hubs = browser.text("#hubs").await;
    assert!(hubs.starts_with("Hubs and the number of their devices: hub-a.example ("), "{hubs}");
    browser.assert_innocent().await;
}

#[tokio::test]
async fn bodies_and_properties_are_shown_as_they_were_sent() {
    let site = assigned_with(hubs().manage_port(0)).await;
    let emulator = &site.peer.emulator;
    emulator.set_desired(A, "dev1", json!({"big": 1_234_567_890_123_456_789_u64})).unwrap();
    emulator.send_to_device(A, "dev1", CloudMessage::new("wait")).unwrap();
    let mut device = MqttDevice::at_hub(emulator).await;
    let long = "x".repeat(5_000);
    for (id, body) in (1..).zip([r#"{"b" : 1234567890123456789, "a":1.0}"#, "21.50", "", &long]) {
        device.publish_acknowledged(id, EVENTS, body).await;
    }
    let Some(mut browser) = Browser::on(emulator, "devices").await else { return };
    browser.unfold("#list-devices", "dev1").await;

    browser.see("#list-devices pre", "\"big\": 1234567890123456789").await;
    browser.see("#list-devices .message", r#"{"b" : 1234567890123456789, "a":1.0}"#).await;
    browser.see("#list-devices .message", "21.50").await;
    browser.see("#list-devices .message", "No body").await;
    browser.see("#list-devices .message", "xxx… (5,000 bytes in all)").await;
    browser.see("#list-devices dl", "Messages waiting").await;
    browser.see("#list-devices dl", "Last activity").await;
    let mut packet = publish(0, 0, EVENTS, "??");
    let at = packet.len() - 2;
    packet[at..].copy_from_slice(&[0xff, 0x00]);
    device.say(&packet).await;
    browser.see("#list-devices .message", "2 bytes: /wA=").await;
    browser.assert_innocent().await;
}

#[tokio::test]
async fn the_form_for_faults_has_every_word_of_the_port_and_sets_what_it_says() {
    let peer = Emulated::start(Emulator::builder().manage_port(0)).await;
    let Some(mut browser) = Browser::on(&peer.emulator, "faults").await else { return };
    for (field, body) in [
        ("effect", json!({"effect": "x"})),
        ("operation", json!({"effect": "stall", "operation": "x"})),
        ("front", json!({"effect": "stall", "front": "x"})),
    ] {
        let (_, refused) = peer.manage("POST", "/faults", &body.to_string()).await;
        let (_, words) = refused["message"].as_str().unwrap().split_once(" is none of ").unwrap();
        let mut words: Vec<&str> = words.split(", ").collect();
        let offered = format!("[...document.querySelectorAll('#{field} option')].map((one) => one.value)");
        let offered = browser.evaluate(&offered).await;
        let mut offered: Vec<&str> = offered.as_array().unwrap().iter().filter_map(Value::as_str).collect();
        offered.retain(|word| !word.is_empty());
        words.sort_unstable();
        offered.sort_unstable();
        assert_eq!(offered, words, "{field}");
    }

    for (label, over, fields, wanted) in [
        ("Throttle (429)", "HTTPS", vec![("Retry after, seconds", "5")], json!({"retryAfter": 5})),
        ("Answer with a status", "HTTPS", vec![("Status", "503")], json!({"status": 503})),
        ("Close the connection", "MQTT", vec![], json!({"effect": "hangUp"})),
        ("Never answer", "MQTT over WebSockets", vec![], json!({"effect": "stall", "front": "mqtt-ws"})),
        ("Answer later", "AMQP", vec![("Delay, milliseconds", "1500")], json!({"ms": 1500})),
        ("Answer with garbage", "AMQP over WebSockets", vec![], json!({"effect": "garbage"})),
        ("Answer with another request ID", "MQTT", vec![], json!({"effect": "wrongRid"})),
        ("Answer twice", "AMQP", vec![], json!({"effect": "duplicateReply", "front": "amqp"})),
    ] {
        browser.choose("What happens", label).await;
        browser.choose("On", "Register").await;
        browser.choose("Over", over).await;
        browser.fill("Of the ID", "dev1").await;
        browser.fill("From match number", "2").await;
        browser.fill("How many times", "3").await;
        for (field, value) in fields {
            browser.fill(field, value).await;
        }
        browser.click("button", "Set fault").await;
        browser.see("#note", "The fault waits for a matching request.").await;
        browser.see("#list-faults li", "3 times, after 1 more").await;
        let fault = peer.manage("GET", "/faults", "").await.1[0].take();
        for (member, value) in wanted.as_object().unwrap() {
            assert_eq!(&fault[member], value, "{label}: {fault}");
        }
        assert_eq!(
            (&fault["registrationId"], &fault["nth"], &fault["times"]),
            (&json!("dev1"), &json!(2), &json!(3))
        );
        browser.click("button", "Clear all faults").await;
        browser.see("#empty-faults", "No fault waits.").await;
    }
    browser.assert_innocent().await;
}

#[tokio::test]
async fn the_clock_moves_by_each_button_and_escape_cancels_a_reset() {
    let peer = Emulated::start(Emulator::builder().manage_port(0)).await;
    peer.enroll("dev1", json!({})).await;
    peer.manage("PUT", "/clock", r#"{"now":"2030-01-01T00:00:00Z"}"#).await;
    let Some(mut browser) = Browser::on(&peer.emulator, "clock").await else { return };

    for (button, now) in [
        ("Advance by 1 minute", "2030-01-01 00:01:00 UTC"),
        ("Advance by 1 hour", "2030-01-01 01:01:00 UTC"),
        ("Advance by 1 day", "2030-01-02 01:01:00 UTC"),
        ("Advance by 30 days", "2030-02-01 01:01:00 UTC"),
    ] {
        browser.click("button", button).await;
        browser.see("#now", now).await;
    }
    browser.fill("Advance by seconds", "90.5").await;
    browser.click("button", "Advance").await;
    browser.see("#now", "2030-02-01 01:02:30 UTC").await;
    browser.see("#note", "The clock is advanced.").await;
    browser.fill("Advance by seconds", "-1").await;
    browser.click("button", "Advance").await;
    assert_eq!(browser.evaluate("document.getElementById('seconds').validity.valid").await, false);

    browser.click("button", "Reset the emulator…").await;
    browser.see("dialog", "Reset the emulator?").await;
    browser.act("press", json!({"key": "Escape"})).await;
    browser.miss("dialog", "Reset the emulator?").await;
    assert_eq!(peer.listed().await, ["dev1"]);
    browser.assert_innocent().await;
}

#[tokio::test]
async fn each_copy_button_copies_the_whole_text_also_on_a_page_from_another_machine() {
    let peer = Emulated::start(Emulator::builder().manage_port(0).dns_name("dps.test")).await;
    let Some(mut browser) = Browser::start().await else { return };
    let port = peer.emulator.manage_port().unwrap();
    for host in ["127.0.0.1", "dps.test"] {
        browser.open(json!({"url": format!("http://{host}:{port}/#connect")})).await;
        browser.see("#facts", "ID scope").await;
        let has_clipboard = browser.evaluate("Boolean(navigator.clipboard)").await;
        assert_eq!(has_clipboard, host == "127.0.0.1", "{host}");
        let (_, info) = peer.manage("GET", "/info", "").await;
        let hub = &peer.emulator.hubs()[0];
        for (term, text) in [
            ("ID scope", &info["idScope"]),
            ("HTTPS", &info["endpoints"]["https"]),
            ("MQTT", &info["endpoints"]["mqtt"]),
            ("AMQP", &info["endpoints"]["amqp"]),
            ("Management", &json!(format!("http://{host}:{port}"))),
            ("Service connection string", &info["serviceConnectionString"]),
            (&format!("Hub {hub}"), &info["hubConnectionStrings"][hub]),
        ] {
            browser.click("button", &format!("Copy {term}")).await;
            browser.see("#note", "Copied.").await;
            browser.go("journal", "Journal").await;
            let pasted = browser.act("paste", json!({"label": "Find in the journal"})).await;
            assert_eq!(&pasted, text, "{term}");
            browser.fill("Find in the journal", "").await;
            browser.go("connect", "Connect").await;
        }
        let issuing = browser.act("download", json!({"name": "Download the issuing authority"})).await;
        assert_eq!(issuing["text"], peer.emulator.issuing_ca_pem());
    }
}
