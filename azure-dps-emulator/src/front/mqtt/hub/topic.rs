//! The topics of a hub: text only.
//!
//! | topic of a PUBLISH | request |
//! | --- | --- |
//! | `devices/{id}/messages/events/[{name}={value}&…]` | telemetry |
//! | `$iothub/twin/GET/?$rid={rid}` | get the twin |
//! | `$iothub/twin/PATCH/properties/reported/?$rid={rid}` | report properties |
//! | `$iothub/methods/res/{status}/?$rid={rid}` | answer a direct method |
//! | anything else | none |
//!
//! The id in a topic is that of the device itself, raw or percent-encoded.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::call::hub::MessageProperties;
use crate::records::hubs::message::CloudMessage;

/// What a device asks for with a topic.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked<'a> {
    Telemetry(MessageProperties),
    GetTwin { rid: &'a str },
    Report { rid: &'a str },
    AnswerMethod { rid: &'a str, status: i32 },
}

impl<'a> Asked<'a> {
    /// Reads the topic of a PUBLISH.
    ///
    /// # Errors
    /// Says why the topic is not one of the hub.
    pub(super) fn read(topic: &'a str, device_id: &str) -> Result<Self, String> {
        if let Some((id, rest)) = of_device(topic, "/messages/events") {
            return match is_id(id, device_id) {
                true => Ok(Asked::Telemetry(properties(rest))),
                false => Err("the topic is that of another device; a device sends its own only".to_owned()),
            };
        }
        let (path, parameters) = topic.split_once('?').unwrap_or((topic, ""));
        let rid = rid(parameters);
        if rid.len() > LONGEST_RID {
            return Err(format!("the $rid is longer than {LONGEST_RID} bytes"));
        }
        match path.strip_suffix('/').unwrap_or(path) {
            "$iothub/twin/GET" => Ok(Asked::GetTwin { rid }),
            "$iothub/twin/PATCH/properties/reported" => Ok(Asked::Report { rid }),
            path => match path.strip_prefix("$iothub/methods/res/").map(str::parse) {
                Some(Ok(status)) => Ok(Asked::AnswerMethod { rid, status }),
                Some(Err(_)) => Err("the status of the method's answer is not a whole number".to_owned()),
                None => Err("the hub has no such topic".to_owned()),
            },
        }
    }
}

/// A topic without its parameters and properties, which may contain secrets.
pub(super) fn path(topic: &str) -> &str {
    match of_device(topic, "/messages/events") {
        Some((id, _)) => topic.get(..DEVICES.len() + id.len() + "/messages/events".len()).unwrap_or_default(),
        None => topic.split_once('?').map_or(topic, |(path, _)| path.trim_end_matches('/')),
    }
}

/// The id in a topic `devices/{id}{suffix}[/{rest}]`, and the rest.
pub(super) fn of_device<'a>(topic: &'a str, suffix: &str) -> Option<(&'a str, &'a str)> {
    let (id, rest) = topic.strip_prefix(DEVICES)?.split_once('/')?;
    let rest = rest.strip_prefix(suffix.trim_start_matches('/'))?;
    match rest.strip_prefix('/') {
        Some(rest) => Some((id, rest)),
        None => rest.is_empty().then_some((id, "")),
    }
}

/// Returns whether the id in a topic is this device's.
pub(super) fn is_id(id: &str, device_id: &str) -> bool {
    id == device_id || percent_decode_str(id).decode_utf8_lossy() == device_id
}

fn rid(parameters: &str) -> &str {
    let mut pairs = parameters.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| *name == "$rid").map_or("", |(_, value)| value)
}

/// The properties in a topic; a name without `=` has an empty value.
fn properties(text: &str) -> MessageProperties {
    let mut found = MessageProperties::default();
    let text = text.trim_start_matches('?').trim_end_matches('/');
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let [name, value] =
            [name, value].map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned());
        match name.strip_prefix("$.") {
            Some(short) => found.system.push((system_name(short).to_owned(), value)),
            None => found.application.push((name, value)),
        }
    }
    found
}

/// The name of a system property in IoT Hub.
fn system_name(short: &str) -> &str {
    let known = SYSTEM_NAMES.iter().find(|(own, _)| *own == short);
    known.map_or(short, |(_, name)| name)
}

const SYSTEM_NAMES: [(&str, &str); 11] = [
    ("mid", "message-id"),
    ("cid", "correlation-id"),
    ("uid", "user-id"),
    ("to", "to"),
    ("ct", "content-type"),
    ("ce", "content-encoding"),
    ("exp", "absolute-expiry-time"),
    ("ctime", "iothub-creation-time-utc"),
    ("on", "iothub-outputname"),
    ("ifid", "iothub-interface-id"),
    ("sub", "dt-subject"),
];

/// The topic of an answer about the twin.
pub(super) fn twin_reply(status: u16, rid: &str, version: Option<&str>) -> String {
    match version {
        Some(version) => format!("$iothub/twin/res/{status}/?$rid={rid}&$version={version}"),
        None => format!("$iothub/twin/res/{status}/?$rid={rid}"),
    }
}

pub(super) fn desired(version: u64) -> String {
    format!("$iothub/twin/PATCH/properties/desired/?$version={version}")
}

pub(super) fn method(name: &str, rid: &str) -> String {
    format!("$iothub/methods/POST/{name}/?$rid={rid}")
}

/// The topic of a message to a device, whose id is written as the device has written it.
pub(super) fn message(id: &str, device_id: &str, message: &CloudMessage) -> String {
    let encode = |text: &str| utf8_percent_encode(text, PROPERTY).to_string();
    let to = ("$.to".to_owned(), format!("/devices/{device_id}/messages/deviceBound"));
    let pairs = [&to].into_iter().chain(&message.properties).map(|(name, value)| match value.as_str() {
        "" => encode(name),
        value => format!("{}={}", encode(name), encode(value)),
    });
    let pairs: Vec<String> = pairs.collect();
    format!("{DEVICES}{id}/messages/devicebound/{}", pairs.join("&"))
}

const DEVICES: &str = "devices/";
/// Everything but the unreserved characters of RFC 3986.
const PROPERTY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Keeps the topic of the answer within the 65,535 bytes that MQTT allows.
const LONGEST_RID: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_of_a_device_has_its_topic() {
        for (topic, wanted) in [
            ("$iothub/twin/GET/?$rid=1", Asked::GetTwin { rid: "1" }),
            ("$iothub/twin/GET?$rid=a-b", Asked::GetTwin { rid: "a-b" }),
            ("$iothub/twin/PATCH/properties/reported/?$rid=2&x=y", Asked::Report { rid: "2" }),
            ("$iothub/methods/res/200/?$rid=3", Asked::AnswerMethod { rid: "3", status: 200 }),
            ("$iothub/methods/res/-1/?$rid=3", Asked::AnswerMethod { rid: "3", status: -1 }),
            ("devices/d#1/messages/events", Asked::Telemetry(MessageProperties::default())),
            ("devices/d%231/messages/events/", Asked::Telemetry(MessageProperties::default())),
        ] {
            assert_eq!(Asked::read(topic, "d#1"), Ok(wanted), "{topic}");
        }
        for topic in [
            "devices/d2/messages/events/",
            "devices/d1/messages/eventsx/",
            "devices/d1/messages/devicebound/",
            "devices/d1",
            "$iothub/twin/GET/x/?$rid=1",
            "$iothub/twin/res/200/?$rid=1",
            "$iothub/methods/res/ok/?$rid=1",
            "$iothub/credentials/POST/issueCertificate/?$rid=1",
            "$dps/registrations/PUT/iotdps-register/?$rid=1",
            "",
        ] {
            assert!(Asked::read(topic, "d1").is_err(), "{topic}");
        }
        let long = format!("$iothub/twin/GET/?$rid={}", "x".repeat(1025));
        assert_eq!(Asked::read(&long, "d1"), Err("the $rid is longer than 1024 bytes".into()));
    }

    #[test]
    fn properties_are_decoded_and_system_properties_get_their_names() {
        let topic =
            "devices/d1/messages/events/%24.ct=application%2Fjson&$.mid=m%201&$.zz=1&a%26b=c%3Dd&bare&e=/";

        let Ok(Asked::Telemetry(found)) = Asked::read(topic, "d1") else { panic!("{topic}") };

        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let system = [("content-type", "application/json"), ("message-id", "m 1"), ("zz", "1")];
        assert_eq!(found.system, pairs(&system));
        assert_eq!(found.application, pairs(&[("a&b", "c=d"), ("bare", ""), ("e", "")]));
    }

    #[test]
    fn the_journal_gets_no_properties() {
        assert_eq!(path("devices/d1/messages/events/key=secret"), "devices/d1/messages/events");
        assert_eq!(path("$iothub/twin/GET/?$rid=1"), "$iothub/twin/GET");
        assert_eq!(path("else/?x"), "else");
    }

    #[test]
    fn a_message_to_a_device_carries_its_properties() {
        let sent = CloudMessage::new("")
            .with_system_property("mid", "1/2")
            .with_property("a b", "")
            .with_property("c", "é");

        assert_eq!(
            message("d%231", "d#1", &sent),
            "devices/d%231/messages/devicebound/%24.to=%2Fdevices%2Fd%231%2Fmessages%2FdeviceBound&%24.mid=1%2F2&\
             a%20b&c=%C3%A9"
        );
    }
}
