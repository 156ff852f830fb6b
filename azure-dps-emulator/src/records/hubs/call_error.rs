//! Why a back end's call on a device at its hub fails.

use std::fmt;
use std::time::Duration;

use crate::records::hubs::limits::{LARGEST_MESSAGE, LARGEST_PAYLOAD, MOST_CALLS, MOST_MESSAGES};
use crate::report;

/// Why a call on a device at its hub fails. `{:?}` is the message, and `{:#?}` shows the structure.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HubCallError {
    /// No hub of this name is linked.
    #[error("hub {0} is not linked")]
    UnknownHub(String),
    /// The hub does not have the device.
    #[error("device {device_id} is not registered at hub {hub}: let it register first")]
    UnknownDevice {
        /// The hub.
        hub: String,
        /// The device.
        device_id: String,
    },
    /// The desired properties break a limit of twins; the text says which one.
    #[error("the twin cannot be written: {0}")]
    Twin(String),
    /// The message has this many bytes with its properties.
    #[error("the message has {0} bytes, and {LARGEST_MESSAGE} are the most")]
    MessageTooLarge(usize),
    /// 50 messages already wait for the device.
    #[error("{MOST_MESSAGES} messages already wait for the device: let it connect and take them")]
    TooManyMessages,
    /// The name of a method is empty, longer than 128 bytes, or does not fit into a topic.
    #[error("the method name {0:?} must have 1 to 128 bytes, without control characters and any of / ? # +")]
    MethodName(String),
    /// The payload of the call has this many bytes.
    #[error("the payload has {0} bytes, and {LARGEST_PAYLOAD} are the most")]
    PayloadTooLarge(usize),
    /// 16 calls already wait for answers of the device.
    #[error("{MOST_CALLS} calls of methods already wait for the device")]
    TooManyCalls,
    /// The device did not listen to methods within the time.
    #[error(
        "the device is not connected with a subscription to $iothub/methods/POST/#; it was waited for {0:?}"
    )]
    NotOnline(Duration),
    /// The device did not answer within the time.
    #[error("the device did not answer the method within {0:?}")]
    NoAnswer(Duration),
    /// No telemetry came within the time.
    #[error("the device sent no telemetry within {0:?}")]
    NoTelemetry(Duration),
}

impl fmt::Debug for HubCallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        report::debug(f, self, |f| match self {
            Self::UnknownHub(hub) => f.debug_tuple("UnknownHub").field(hub).finish(),
            Self::UnknownDevice { hub, device_id } => {
                f.debug_struct("UnknownDevice").field("hub", hub).field("device_id", device_id).finish()
            }
            Self::Twin(why) => f.debug_tuple("Twin").field(why).finish(),
            Self::MessageTooLarge(bytes) => f.debug_tuple("MessageTooLarge").field(bytes).finish(),
            Self::TooManyMessages => f.write_str("TooManyMessages"),
            Self::MethodName(name) => f.debug_tuple("MethodName").field(name).finish(),
            Self::PayloadTooLarge(bytes) => f.debug_tuple("PayloadTooLarge").field(bytes).finish(),
            Self::TooManyCalls => f.write_str("TooManyCalls"),
            Self::NotOnline(time) => f.debug_tuple("NotOnline").field(time).finish(),
            Self::NoAnswer(time) => f.debug_tuple("NoAnswer").field(time).finish(),
            Self::NoTelemetry(time) => f.debug_tuple("NoTelemetry").field(time).finish(),
        })
    }
}
