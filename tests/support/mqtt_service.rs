//! A service that speaks MQTT to a device of the SDK, in literal packets.

use crate::TlsListener;
use crate::mqtt_bytes::{MqttTalk, Published, REGISTER};
use crate::tls::ServerStream;

/// A conversation with the device.
pub type MqttService = MqttTalk<ServerStream>;

/// CONNACK 0, without a session.
pub const ACCEPTED: [u8; 4] = [0x20, 2, 0, 0];

impl MqttTalk<ServerStream> {
    pub async fn accept(listener: &TlsListener) -> Self {
        Self::new(listener.accept_stream().await)
    }

    /// A device that has its CONNACK and its SUBACK.
    pub async fn listening(listener: &TlsListener) -> Self {
        let mut talk = Self::accept(listener).await;
        assert_eq!(talk.hear().await.unwrap().0, 0x10, "CONNECT");
        talk.say(&ACCEPTED).await;
        let (first, rest) = talk.hear().await.unwrap();
        assert_eq!(first, 0x82, "SUBSCRIBE");
        talk.say(&[0x90, 3, rest[0], rest[1], 1]).await;
        talk
    }

    /// A device whose first request was heard: its `$rid`, and the request.
    pub async fn requested(listener: &TlsListener) -> (Self, String, Published) {
        let mut talk = Self::listening(listener).await;
        let request = talk.request().await;
        let rid = request.topic.strip_prefix(REGISTER).unwrap().to_owned();
        (talk, rid, request)
    }

    /// The next request.
    pub async fn request(&mut self) -> Published {
        let request = self.published().await;
        assert_eq!(request.first, 0x32, "PUBLISH, QoS 1, no DUP, no RETAIN");
        request
    }
}

/// The topic of a reply; `more` follows the `$rid`.
pub fn reply(status: u16, rid: &str, more: &str) -> String {
    format!("$dps/registrations/res/{status}/?$rid={rid}{more}")
}
