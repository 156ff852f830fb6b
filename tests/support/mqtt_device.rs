//! A device at an emulator's MQTT port, in literal packets.

use std::io;
use std::sync::Arc;

use azure_dps_emulator::Emulator;
use rustls::ClientConfig;
use serde_json::Value;

use crate::mqtt_bytes::{MqttTalk, POLL, Published, REGISTER, REPLIES, connect, puback, subscribe};
use crate::tls::{self, ClientStream};
use crate::trusting;

/// A conversation with the emulator.
pub type MqttDevice = MqttTalk<ClientStream>;

impl MqttTalk<ClientStream> {
    pub async fn connect(emulator: &Emulator) -> Self {
        Self::connect_with(emulator, trusting(emulator.ca_pem())).await.unwrap()
    }

    pub async fn connect_with(emulator: &Emulator, config: impl Into<Arc<ClientConfig>>) -> io::Result<Self> {
        Ok(Self::new(tls::connect(emulator.mqtt_port(), config).await?))
    }

    /// The device `dev1` after its CONNACK 0 and its SUBACK 1.
    pub async fn signed_in(emulator: &Emulator, flags: u8, keep_alive: u16, user: &str, token: &str) -> Self {
        let mut device = Self::connect(emulator).await;
        let code = device.sign_in(&connect(flags, keep_alive, "dev1", user, token)).await;
        assert_eq!(code, 0, "CONNACK");
        device.subscribe(1).await;
        device
    }

    /// Sends a CONNECT and returns the code of the answer.
    pub async fn sign_in(&mut self, connect: &[u8]) -> u8 {
        self.say(connect).await;
        let (first, rest) = self.hear().await.unwrap();
        assert_eq!((first, rest.len(), rest[0]), (0x20, 2, 0), "CONNACK without a session");
        rest[1]
    }

    pub async fn subscribe(&mut self, qos: u8) {
        self.say(&subscribe(REPLIES, qos)).await;
        assert_eq!(self.hear().await, Some((0x90, vec![0, 1, qos])), "SUBACK");
    }

    /// Registers and polls to the end: the registration state, or the reply that is an error.
    pub async fn register(&mut self, qos: u8, body: &str, poll_body: &str) -> Result<Value, Published> {
        let mut topic = format!("{REGISTER}1");
        let mut body = body;
        for rid in 2.. {
            self.publish(qos, rid, &topic, body).await;
            if qos == 1 {
                assert_eq!(self.hear().await, Some(puback(rid)), "PUBACK before the reply");
            }
            let reply = self.published().await;
            self.acknowledge(&reply).await;
            assert!(reply.topic.contains(&format!("?$rid={}", rid - 1)), "{}", reply.topic);
            match reply.body["status"].as_str() {
                None => return Err(reply),
                Some("assigning") => assert!(reply.topic.ends_with("&retry-after=3"), "{}", reply.topic),
                Some(_) => {
                    assert!(rid > 2, "the first reply is never the last");
                    return Ok(reply.body["registrationState"].clone());
                }
            }
            topic = format!("{POLL}{rid}&operationId={}", reply.operation());
            body = poll_body;
        }
        unreachable!()
    }
}
