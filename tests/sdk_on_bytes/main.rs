//! The SDK against peers that play literal bytes and know no semantics. Expected values come from captures of the
//! official clients.

// Clippy allows these in test functions only, and the functions beside them are test code too.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod amqp;
mod amqp_faults;
mod amqp_refusals;
mod amqp_sasl;
mod bulk;
mod calls;
mod csr;
mod deadline;
mod https;
mod https_connections;
mod https_faults;
mod https_proxy;
mod hub;
mod issued_chain;
mod listings;
mod lost_writes;
mod mqtt;
mod mqtt_faults;
mod repeats;
mod throttling;
mod tls;
mod versions;
mod websocket;
mod writes;
mod x509;
