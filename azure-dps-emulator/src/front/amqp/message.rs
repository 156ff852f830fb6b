//! Messages: reads requests, and writes answers and refusals. It knows names of properties, and no rule of
//! the service.

use fe2o3_amqp::types::definitions::{AmqpError, Error, ErrorCondition, LinkError};
use fe2o3_amqp::types::messaging::{ApplicationProperties, Body, Data, Message, MessageId, Properties};
use fe2o3_amqp::types::primitives::{Binary, OrderedMap, SimpleValue, Symbol, Value};

use crate::call::answer::Answer;
use crate::call::request::DeviceOperation;

/// A request message. Some clients send data, some a value, some an empty body.
pub(super) type Incoming = Message<Body<Value>>;
pub(super) type Outgoing = Message<Data>;

/// A request, read from a message.
pub(super) struct MessageRequest {
    pub(super) operation: DeviceOperation,
    pub(super) body: Vec<u8>,
}

impl MessageRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// Says why the message is not a request of the service.
    pub(super) fn parse(message: Incoming) -> Result<Self, &'static str> {
        let properties = message.application_properties.unwrap_or_default();
        let operation = match text(&properties, OPERATION_TYPE) {
            Some("iotdps-register") => DeviceOperation::Register,
            Some("iotdps-get-operationstatus") => {
                let id = text(&properties, OPERATION_ID).ok_or("the message has no iotdps-operation-id")?;
                DeviceOperation::Poll { operation_id: id.to_owned() }
            }
            Some(_) => return Err("the service has no such iotdps-operation-type"),
            None => return Err("the message has no iotdps-operation-type"),
        };
        Ok(MessageRequest { operation, body: bytes(message.body) })
    }
}

/// The name of a request in the journal.
pub(super) fn target(message: &Incoming) -> String {
    let properties = message.application_properties.as_ref();
    properties.and_then(|properties| text(properties, OPERATION_TYPE)).unwrap_or_default().to_owned()
}

fn text<'a>(properties: &'a ApplicationProperties, name: &str) -> Option<&'a str> {
    match properties.get(name)? {
        SimpleValue::String(text) => Some(text),
        SimpleValue::Symbol(text) => Some(text.as_str()),
        _ => None,
    }
}

fn bytes(body: Body<Value>) -> Vec<u8> {
    match body {
        Body::Data(sections) => sections.into_iter().flat_map(|Data(bytes)| bytes.into_vec()).collect(),
        Body::Value(value) => match value.0 {
            Value::String(text) => text.into_bytes(),
            Value::Binary(bytes) => bytes.into_vec(),
            _ => Vec::new(),
        },
        Body::Sequence(_) | Body::Empty => Vec::new(),
    }
}

pub(super) fn correlation_id(message: &Incoming) -> Option<MessageId> {
    message.properties.as_ref()?.correlation_id.clone()
}

/// A correlation id that the client has not used.
pub(super) fn wrong(correlation_id: Option<MessageId>) -> MessageId {
    let text = match correlation_id {
        Some(MessageId::String(text)) => text,
        _ => String::new(),
    };
    MessageId::String(format!("wrong-{text}"))
}

/// The message of an answer, with the status and the retry-after as properties.
pub(super) fn reply(answer: &Answer, correlation_id: Option<MessageId>) -> Outgoing {
    let body = answer.body.as_ref().map_or_else(|| "{}".to_owned(), ToString::to_string);
    message(answer.status, answer.retry_after, correlation_id, body)
}

/// A message of status 200 whose body is not JSON.
pub(super) fn garbage(text: &str, correlation_id: Option<MessageId>) -> Outgoing {
    message(200, None, correlation_id, text.to_owned())
}

fn message(
    status: u16,
    retry_after: Option<u32>,
    correlation_id: Option<MessageId>,
    body: String,
) -> Outgoing {
    let mut properties = OrderedMap::new();
    properties.insert("iotdps-status".to_owned(), SimpleValue::String(status.to_string()));
    for name in retry_after.iter().flat_map(|_| RETRY_AFTER) {
        let seconds = retry_after.unwrap_or_default().to_string();
        properties.insert(name.to_owned(), SimpleValue::String(seconds));
    }
    Message::builder()
        .properties(Properties { correlation_id, ..Properties::default() })
        .application_properties(ApplicationProperties(properties))
        .data(Binary::from(body.into_bytes()))
        .build()
}

/// A refusal: a condition that clients know, and the JSON that the other protocols send as body.
pub(super) fn error(answer: &Answer) -> Error {
    let info = answer.retry_after.map(|seconds| {
        RETRY_AFTER.iter().map(|name| (Symbol::from(*name), Value::String(seconds.to_string()))).collect()
    });
    Error {
        condition: condition(answer.status),
        description: answer.body.as_ref().map(ToString::to_string),
        info: info.map(Box::new),
    }
}

fn condition(status: u16) -> ErrorCondition {
    let own = |text: &str| ErrorCondition::Custom(Symbol::from(text));
    match status {
        401 | 403 => AmqpError::UnauthorizedAccess.into(),
        404 => AmqpError::NotFound.into(),
        408 => own("com.microsoft:timeout"),
        413 => LinkError::MessageSizeExceeded.into(),
        429 => own("com.microsoft:device-container-throttled"),
        500.. => AmqpError::InternalError.into(),
        _ => AmqpError::NotAllowed.into(),
    }
}

const OPERATION_TYPE: &str = "iotdps-operation-type";
const OPERATION_ID: &str = "iotdps-operation-id";
/// Both spellings of retry-after: one is for the C# client, the other for all others.
const RETRY_AFTER: [&str; 2] = ["retry-after", "Retry-After"];

#[cfg(test)]
mod tests {
    use super::*;
    use fe2o3_amqp::types::messaging::{AmqpValue, Batch};

    #[test]
    fn only_the_two_requests_are_read() {
        let operation = |properties: &[(&str, &str)]| {
            MessageRequest::parse(request(properties, Body::Empty)).ok().map(|request| request.operation)
        };
        assert_eq!(operation(&[(OPERATION_TYPE, "iotdps-register")]), Some(DeviceOperation::Register));
        let poll = [(OPERATION_TYPE, "iotdps-get-operationstatus"), (OPERATION_ID, "5.a")];
        assert_eq!(operation(&poll), Some(DeviceOperation::Poll { operation_id: "5.a".into() }));
        assert_eq!(operation(&poll[..1]), None);
        assert_eq!(operation(&poll[1..]), None);
        assert_eq!(operation(&[(OPERATION_TYPE, "iotdps-else")]), None);
    }

    #[test]
    fn a_body_can_be_data_in_pieces_a_value_or_absent() {
        let body = |body| {
            MessageRequest::parse(request(&[(OPERATION_TYPE, "iotdps-register")], body))
                .map(|request| request.body)
        };
        let piece = |text: &str| Data(Binary::from(text.as_bytes()));
        let pieces = Body::Data(Batch::new(vec![piece("{\"a\""), piece(":1}")]));
        assert_eq!(body(pieces), Ok(b"{\"a\":1}".to_vec()));
        assert_eq!(body(Body::Value(AmqpValue(Value::String("{}".into())))), Ok(b"{}".to_vec()));
        assert_eq!(body(Body::Value(AmqpValue(Value::Null))), Ok(Vec::new()));
        assert_eq!(body(Body::Empty), Ok(Vec::new()));
    }

    #[test]
    fn the_retry_after_has_both_spellings() {
        let answer = Answer::accepted(crate::json::json!({}), 0);

        let properties = reply(&answer, None).application_properties.unwrap();

        assert_eq!(text(&properties, "retry-after"), Some("0"));
        assert_eq!(text(&properties, "Retry-After"), Some("0"));
        assert_eq!(text(&properties, "iotdps-status"), Some("202"));
        assert_eq!(error(&answer).info.unwrap().len(), 2);
    }

    fn request(properties: &[(&str, &str)], body: Body<Value>) -> Incoming {
        let properties = properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).into()));
        Message {
            header: None,
            delivery_annotations: None,
            message_annotations: None,
            properties: None,
            application_properties: Some(ApplicationProperties(properties.collect())),
            body,
            footer: None,
        }
    }
}
