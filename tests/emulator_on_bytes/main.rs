//! The emulator against literal requests, packets and frames, and tokens that another program signed. Nothing of the SDK.

mod allocation;
mod amqp;
mod amqp_clients;
mod amqp_faults;
mod amqp_links;
mod amqp_sign_in;
mod amqp_tpm;
mod device;
mod https_clients;
mod hubs;
mod manage;
mod mqtt;
mod mqtt_clients;
mod mqtt_faults;
mod recordings;
mod recordings_device;
mod service;
mod tpm;
mod websocket;
mod x509;
