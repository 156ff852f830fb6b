//! Converts requests to AMQP messages, and AMQP messages to replies. Pure.

use std::time::Duration;

use azure_dps_core::models::ProvisioningServiceErrorDetails;
use azure_dps_core::plumbing::read_json;
use azure_dps_core::{Error, ErrorKind, Result};
use fe2o3_amqp::types::definitions::Fields;
use fe2o3_amqp::types::messaging::{
    AmqpValue, ApplicationProperties, Body, Data, Message, MessageId, Properties,
};
use fe2o3_amqp::types::primitives::{Binary, Value};

use crate::transport::contract::{MOST_IN_MEMORY, Operation, Reply};

/// The message for a request; `None` if AMQP has no message for the operation.
pub(super) fn request(operation: &Operation, id: &str) -> Option<Message<Body<Value>>> {
    let properties = ApplicationProperties::builder();
    let (properties, body) = match operation {
        Operation::Register { body } => (
            properties.insert(OPERATION_TYPE, REGISTER).insert(FORCE_REGISTRATION, false),
            Body::from(Data(Binary::from(body.clone()))),
        ),
        Operation::Status { operation_id } => (
            properties.insert(OPERATION_TYPE, STATUS).insert(OPERATION_ID, operation_id.clone()),
            Body::from(AmqpValue(Value::String(String::new()))),
        ),
        Operation::Lookup { .. } => return None,
    };
    let message = Message::builder()
        .properties(Properties::builder().correlation_id(id.to_owned()).build())
        .application_properties(properties.build())
        .body(body)
        .build();
    Some(message)
}

/// Reads a message as the reply to the request `id`; `None` if it is the reply to another request. A message
/// without a correlation id counts as the reply.
///
/// # Errors
/// [`ErrorKind::Protocol`] when it is the reply and has no data section.
pub(crate) fn reply(message: Message<Body<Value>>, id: &str) -> Result<Option<Reply>> {
    match message.properties.and_then(|properties| properties.correlation_id) {
        Some(MessageId::String(other)) if other != id => return Ok(None),
        Some(MessageId::Ulong(_) | MessageId::Uuid(_) | MessageId::Binary(_)) => return Ok(None),
        Some(MessageId::String(_)) | None => {}
    }
    let Body::Data(data) = message.body else {
        return Err(Error::new(ErrorKind::Protocol, "the service's reply has no data section"));
    };
    let body: Vec<u8> = data.into_iter().flat_map(|Data(bytes)| bytes.into_vec()).collect();
    let retry_after = message.application_properties.and_then(|ApplicationProperties(properties)| {
        properties
            .into_iter()
            .find_map(|(name, value)| is_retry_after(&name).then(|| seconds(&value.into()))?)
    });
    Ok(Some(Reply { status: status(&body).unwrap_or(200), retry_after, body }))
}

/// The status in an error body: its error code is the status times 1000 plus a sub-code.
pub(super) fn status(body: &[u8]) -> Option<u16> {
    let details: ProvisioningServiceErrorDetails = read_json(body, MOST_IN_MEMORY).ok()?;
    u16::try_from(details.error_code? / 1000).ok().filter(|status| (400..600).contains(status))
}

pub(super) fn retry_after_in_info(info: &Fields) -> Option<Duration> {
    info.iter().find_map(|(name, value)| is_retry_after(name.as_str()).then(|| seconds(value))?)
}

/// The service sends both spellings.
fn is_retry_after(name: &str) -> bool {
    name.eq_ignore_ascii_case("retry-after")
}

/// Whole seconds, as a number of any width or as text.
fn seconds(value: &Value) -> Option<Duration> {
    let seconds = match value {
        Value::String(text) => text.trim().parse().ok()?,
        Value::Symbol(text) => text.as_str().trim().parse().ok()?,
        Value::Ubyte(seconds) => u64::from(*seconds),
        Value::Ushort(seconds) => u64::from(*seconds),
        Value::Uint(seconds) => u64::from(*seconds),
        Value::Ulong(seconds) => *seconds,
        Value::Byte(seconds) => u64::try_from(*seconds).ok()?,
        Value::Short(seconds) => u64::try_from(*seconds).ok()?,
        Value::Int(seconds) => u64::try_from(*seconds).ok()?,
        Value::Long(seconds) => u64::try_from(*seconds).ok()?,
        _ => return None,
    };
    Some(Duration::from_secs(seconds))
}

const OPERATION_TYPE: &str = "iotdps-operation-type";
const OPERATION_ID: &str = "iotdps-operation-id";
const FORCE_REGISTRATION: &str = "iotdps-forceRegistration";
const REGISTER: &str = "iotdps-register";
const STATUS: &str = "iotdps-get-operationstatus";
