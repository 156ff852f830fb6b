//! The SDK against peers that play literal bytes and know no semantics. Expected values come from captures of the
//! official clients.

mod amqp;
mod amqp_faults;
mod amqp_refusals;
mod amqp_sasl;
mod deadline;
mod https;
mod lost_writes;
mod mqtt;
mod mqtt_faults;
mod service;
mod tls;
mod websocket;
mod x509;
