//! What the integration tests share: peers that know no semantics, and short ways to the emulator and the SDK.
//!
//! The peers play literal bytes. They share no code with the SDK or the emulator, so they cannot share a
//! misunderstanding with them.
#![allow(missing_docs)] // Names and tests say it.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)] // Test code.

#[path = "support/amqp_bytes.rs"]
pub mod amqp_bytes;
#[path = "support/amqp_device.rs"]
pub mod amqp_device;
#[path = "support/amqp_service.rs"]
pub mod amqp_service;
#[path = "support/amqp_value.rs"]
pub mod amqp_value;
#[path = "support/back_end.rs"]
pub mod back_end;
#[path = "support/chip.rs"]
pub mod chip;
#[path = "support/dev1.rs"]
pub mod dev1;
#[path = "support/emulated.rs"]
pub mod emulated;
#[path = "support/evidence.rs"]
pub mod evidence;
#[path = "support/http_bytes.rs"]
pub mod http_bytes;
#[path = "support/http_client.rs"]
pub mod http_client;
#[path = "support/hub_access.rs"]
pub mod hub_access;
#[path = "support/hub_device.rs"]
pub mod hub_device;
#[path = "support/journal.rs"]
pub mod journal;
#[path = "support/limits.rs"]
pub mod limits;
#[path = "support/listener.rs"]
pub mod listener;
#[path = "support/log.rs"]
pub mod log;
#[path = "support/lossy_store.rs"]
pub mod lossy_store;
#[path = "support/managed.rs"]
pub mod managed;
#[path = "support/mqtt_bytes.rs"]
pub mod mqtt_bytes;
#[path = "support/mqtt_device.rs"]
pub mod mqtt_device;
#[path = "support/mqtt_service.rs"]
pub mod mqtt_service;
#[path = "support/openssl.rs"]
pub mod openssl;
#[path = "support/ours.rs"]
pub mod ours;
#[path = "support/peer.rs"]
pub mod peer;
#[path = "support/plant.rs"]
pub mod plant;
#[path = "support/proxy.rs"]
pub mod proxy;
#[path = "support/recorded.rs"]
pub mod recorded;
#[path = "support/registration.rs"]
pub mod registration;
#[path = "support/relay.rs"]
pub mod relay;
#[path = "support/replay.rs"]
pub mod replay;
#[path = "support/sas.rs"]
pub mod sas;
#[path = "support/sasl_bytes.rs"]
pub mod sasl_bytes;
#[path = "support/scene.rs"]
pub mod scene;
#[path = "support/sdk.rs"]
pub mod sdk;
#[path = "support/shown.rs"]
pub mod shown;
#[path = "support/site.rs"]
pub mod site;
#[path = "support/soft_tpm.rs"]
pub mod soft_tpm;
#[path = "support/swtpm.rs"]
pub mod swtpm;
#[path = "support/tasks.rs"]
pub mod tasks;
#[path = "support/tls.rs"]
pub mod tls;
#[path = "support/tpm_device.rs"]
pub mod tpm_device;
#[path = "support/units.rs"]
pub mod units;
#[path = "support/webhook.rs"]
pub mod webhook;
#[path = "support/websocket_bytes.rs"]
pub mod websocket_bytes;
#[path = "support/x509_device.rs"]
pub mod x509_device;

pub use http_bytes::{body, header, read_answer, read_body};
pub use limits::{HUNG, PATIENCE, after_silence, pass};
pub use listener::{CLOSED_PORT, RawPeer, TlsListener};
pub use peer::{Act, Peer};
pub use proxy::OpenProxy;
pub use sdk::{device, endpoint_of, finishes_within, never_speaks_tls, service_as, service_of};
pub use shown::Shown;
pub use tls::{Certificate, trusting};
