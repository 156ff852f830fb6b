//! The emulator against literal requests, packets and frames, and tokens that another program signed. Nothing of the SDK.

mod allocation;
mod amqp;
mod device;
mod https_clients;
mod hubs;
mod manage;
mod mqtt;
mod recordings;
mod recordings_device;
mod service;
mod tpm;
mod websocket;
mod x509;
