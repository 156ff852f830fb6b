//! The subscriptions of a device at its hub.
//!
//! | filter | outcome |
//! | --- | --- |
//! | `devices/{id}/messages/devicebound/#` of the device itself | granted |
//! | `$iothub/twin/res/#`, `$iothub/twin/PATCH/properties/desired/#`, `$iothub/methods/POST/#` | granted |
//! | a narrower filter, such as `$iothub/methods/POST/reboot/#` | granted |
//! | one more than five | refused in the SUBACK |
//! | anything else | the connection ends |
//!
//! QoS 2 is granted as 1. The same filter again replaces the earlier one.

use rumqttc::mqttbytes::QoS;

use super::topic;
use crate::records::hubs::link::Listens;

#[derive(Default)]
pub(super) struct Subscriptions {
    granted: Vec<Subscription>,
}

struct Subscription {
    filter: String,
    channel: Channel,
    qos: QoS,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Channel {
    TwinReplies,
    Desired,
    Methods,
    /// With the id of the device as the filter has it.
    Messages(String),
}

/// Why a subscription is not granted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotGranted {
    /// The hub has no such topics.
    Foreign,
    TooMany,
}

impl Subscriptions {
    /// Adds a subscription, and returns the QoS that it gets.
    pub(super) fn add(&mut self, filter: &str, qos: QoS, device_id: &str) -> Result<QoS, NotGranted> {
        let channel = Channel::of(filter, device_id).ok_or(NotGranted::Foreign)?;
        let qos = match qos {
            QoS::AtMostOnce => QoS::AtMostOnce,
            QoS::AtLeastOnce | QoS::ExactlyOnce => QoS::AtLeastOnce,
        };
        self.remove(filter);
        if self.granted.len() == MOST {
            return Err(NotGranted::TooMany);
        }
        self.granted.push(Subscription { filter: filter.to_owned(), channel, qos });
        Ok(qos)
    }

    pub(super) fn remove(&mut self, filter: &str) {
        self.granted.retain(|granted| granted.filter != filter);
    }

    /// The QoS of a message with this topic; `None` if the device does not listen to it.
    pub(super) fn qos(&self, topic: &str) -> Option<QoS> {
        let matching = self.granted.iter().filter(|granted| matches(&granted.filter, topic));
        matching.map(|granted| granted.qos).max_by_key(|qos| *qos as u8)
    }

    /// The id of the device, as it has written it in the filter for its messages.
    pub(super) fn own_id(&self) -> Option<&str> {
        self.granted.iter().find_map(|granted| match &granted.channel {
            Channel::Messages(id) => Some(id.as_str()),
            Channel::TwinReplies | Channel::Desired | Channel::Methods => None,
        })
    }

    pub(super) fn listens(&self) -> Listens {
        let mut listens = Listens::default();
        for granted in &self.granted {
            match granted.channel {
                Channel::TwinReplies => {}
                Channel::Desired => listens.desired = true,
                Channel::Methods => listens.methods = true,
                Channel::Messages(_) => listens.messages = true,
            }
        }
        listens
    }
}

impl Channel {
    fn of(filter: &str, device_id: &str) -> Option<Self> {
        let below = |prefix: &str| filter.strip_prefix(prefix).is_some_and(is_filter);
        if let Some((id, rest)) = topic::of_device(filter, "/messages/devicebound") {
            let is_own = topic::is_id(id, device_id) && is_filter(rest);
            return is_own.then(|| Channel::Messages(id.to_owned()));
        }
        match () {
            () if below("$iothub/twin/res/") => Some(Channel::TwinReplies),
            () if below("$iothub/twin/PATCH/properties/desired/") => Some(Channel::Desired),
            () if below("$iothub/methods/POST/") => Some(Channel::Methods),
            () => None,
        }
    }
}

/// Returns whether a text is the end of a filter: `#` is its last level, and a wildcard fills its level.
fn is_filter(text: &str) -> bool {
    let is_level = |level: &str| level == "+" || !level.contains(['#', '+']);
    let (above, last) = text.rsplit_once('/').map_or((None, text), |(above, last)| (Some(above), last));
    let is_above = above.is_none_or(|above| above.split('/').all(is_level));
    !text.is_empty() && is_above && (last == "#" || is_level(last))
}

/// Returns whether a topic matches a filter (MQTT 3.1.1, section 4.7).
fn matches(filter: &str, topic: &str) -> bool {
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// The limit of IoT Hub.
pub(super) const MOST: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_filters_of_the_device_are_granted() {
        let mut subscriptions = Subscriptions::default();
        for filter in [
            "devices/d#1/messages/devicebound/#",
            "devices/d%231/messages/devicebound/#",
            "$iothub/twin/res/#",
            "$iothub/twin/PATCH/properties/desired/#",
            "$iothub/methods/POST/+/#",
        ] {
            assert!(subscriptions.add(filter, QoS::AtMostOnce, "d#1").is_ok(), "{filter}");
        }
        for filter in [
            "#",
            "devices/d2/messages/devicebound/#",
            "devices/+/messages/devicebound/#",
            "devices/d1/messages/devicebound/a#",
            "devices/d1/messages/events/#",
            "$iothub/#",
            "$iothub/methods/POST/#/x",
            "$iothub/methods/POST/x+/#",
            "$iothub/methods/POST/",
            "$dps/registrations/res/#",
            "",
        ] {
            let refused = subscriptions.add(filter, QoS::AtMostOnce, "d1");
            assert_eq!(refused, Err(NotGranted::Foreign), "{filter}");
        }
    }

    #[test]
    fn five_filters_are_the_most_and_qos_2_becomes_1() {
        let mut subscriptions = Subscriptions::default();
        for n in 0..MOST {
            let filter = format!("$iothub/methods/POST/m{n}/#");
            assert_eq!(subscriptions.add(&filter, QoS::ExactlyOnce, "d1"), Ok(QoS::AtLeastOnce));
        }
        let filter = "$iothub/twin/res/#";
        assert_eq!(subscriptions.add(filter, QoS::AtMostOnce, "d1"), Err(NotGranted::TooMany));
        let again = "$iothub/methods/POST/m1/#";
        assert_eq!(subscriptions.add(again, QoS::AtMostOnce, "d1"), Ok(QoS::AtMostOnce));
        assert_eq!(subscriptions.qos("$iothub/methods/POST/m1/?$rid=1"), Some(QoS::AtMostOnce));
        assert_eq!(subscriptions.qos("$iothub/methods/POST/m2/?$rid=1"), Some(QoS::AtLeastOnce));
        assert_eq!(subscriptions.qos("$iothub/methods/POST/else/?$rid=1"), None);
        assert!(subscriptions.listens().methods);
        subscriptions.remove(again);
        assert!(subscriptions.add(filter, QoS::AtMostOnce, "d1").is_ok());
    }

    #[test]
    fn the_id_of_the_device_stays_as_it_wrote_it() {
        let mut subscriptions = Subscriptions::default();
        assert_eq!(subscriptions.own_id(), None);

        subscriptions.add("devices/d%231/messages/devicebound/#", QoS::AtMostOnce, "d#1").unwrap();

        assert_eq!(subscriptions.own_id(), Some("d%231"));
        let listens = Listens { messages: true, ..Listens::default() };
        assert_eq!(subscriptions.listens(), listens);
    }

    #[test]
    fn filters_match_as_mqtt_says() {
        for (filter, topic, wanted) in [
            ("a/#", "a/b/c", true),
            ("a/#", "a", true),
            ("a/+/c", "a/b/c", true),
            ("a/+", "a/b/c", false),
            ("a/b", "a/b", true),
            ("a/b", "a", false),
        ] {
            assert_eq!(matches(filter, topic), wanted, "{filter} {topic}");
        }
    }
}
