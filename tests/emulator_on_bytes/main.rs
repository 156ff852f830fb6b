//! The emulator against literal requests, packets and frames, and tokens that another program signed. Nothing
//! of the SDK.

// Clippy allows these in test functions only, and the functions beside them are test code too.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod access;
mod allocation;
mod amqp;
mod amqp_clients;
mod amqp_faults;
mod amqp_links;
mod amqp_sign_in;
mod amqp_tpm;
mod bodies;
mod bulk;
mod certificates;
mod certificates_refused;
mod device;
mod enrollments;
mod errors;
mod https_clients;
mod hub_bad_input;
mod hub_connect;
mod hub_faults;
mod hub_issued;
mod hub_manage;
mod hub_messages;
mod hub_methods;
mod hub_rest;
mod hub_telemetry;
mod hub_twin;
mod hubs;
mod journal;
mod listings;
mod manage;
mod mqtt;
mod mqtt_clients;
mod mqtt_faults;
mod openapi;
mod quotas;
mod recordings;
mod recordings_device;
mod reprovisioning;
mod service_clients;
mod starting;
mod state;
mod state_depth;
mod tokens;
mod tpm;
mod tpm_refusals;
mod webhooks;
mod websocket;
mod x509;
mod x509_authorities;
mod x509_chains;
mod x509_enrollments;
