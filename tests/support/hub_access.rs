//! A device of the SDK at a hub of the emulator: it connects, and sends CONNECT in literal bytes.

use std::time::{Duration, SystemTime};

use azure_dps_device::{HubAccess, HubStream};
use azure_dps_emulator::Emulator;

use crate::endpoint_of;
use crate::mqtt_bytes::{CLEAN, MqttTalk, NO_PASSWORD, connect_with};

/// The life of a password.
pub const HOUR: Duration = Duration::from_secs(3600);

/// The same device over TLS and in a WebSocket.
pub fn ways(emulator: &Emulator, access: &HubAccess) -> [HubAccess; 2] {
    let endpoint = endpoint_of(emulator);
    let over_tls = access.clone().with_endpoint(endpoint.clone().with_port(emulator.mqtt_port()));
    [over_tls, access.clone().with_endpoint(endpoint).with_websocket()]
}

/// Connects and signs in; the return code of CONNACK.
pub async fn sign_in(access: &HubAccess) -> u8 {
    sign_in_at(access, SystemTime::now()).await.1
}

/// Connects and signs in with a password that is made at `now`; the connection, and the return code of CONNACK.
pub async fn sign_in_at(access: &HubAccess, now: SystemTime) -> (MqttTalk<HubStream>, u8) {
    let sign_in = access.sign_in(HOUR, now.into()).unwrap();
    let mut talk = MqttTalk::new(access.connect().await.unwrap());
    let (client_id, user_name) = (access.client_id(), access.user_name());
    talk.say(&match sign_in.password() {
        Some(password) => connect_with(CLEAN, 60, &[client_id, &user_name, password]),
        None => connect_with(NO_PASSWORD, 60, &[client_id, &user_name]),
    })
    .await;
    let (first, rest) = talk.hear().await.unwrap();
    assert_eq!(first, 0x20, "CONNACK");
    (talk, rest[1])
}
