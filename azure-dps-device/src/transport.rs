//! Transports: the contract that each fulfils, and those over AMQP, HTTPS and MQTT.

pub(crate) mod contract;
pub use contract::{Auth, BoxFuture, Channel, Facts, Operation, Purpose, Reply, Request, Session, Transport};

#[cfg(feature = "amqp")]
pub(crate) mod amqp;
pub(crate) mod auto;
#[cfg(feature = "https")]
pub(crate) mod https;
#[cfg(feature = "mqtt")]
pub(crate) mod mqtt;
