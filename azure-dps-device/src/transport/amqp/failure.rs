//! Classifies the AMQP library's errors, and converts the service's AMQP errors to replies with a status.

use std::io;

use azure_dps_core::{Error, ErrorKind, ServiceError};
use fe2o3_amqp::connection::{ConnectionStopReason, Error as ConnectionError, OpenError};
use fe2o3_amqp::link::{
    DetachError, IllegalLinkStateError, LinkStateError, ReceiverAttachError, RecvError, SendError,
    SenderAttachError, SessionStopReason,
};
use fe2o3_amqp::session::BeginError;
use fe2o3_amqp::transport::Error as TransportError;
use fe2o3_amqp::types::definitions::{self, ErrorCondition};
use fe2o3_amqp::types::primitives::Symbol;

use super::message;
use crate::transport::contract::Reply;

/// Why the connection or a link cannot be used any longer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The service ended a link, the session or the connection, and gave the reason.
    Refused(definitions::Error),
    /// A link, the session or the connection ended without a reason.
    Ended,
    /// The connection stopped, and its handle has the reason.
    Stopped,
    /// The stream below failed.
    Stream(io::Error),
    /// The library reports the end of the stream. It does so too after bytes that it cannot decode.
    Exhausted,
    /// The peer sent data that is not AMQP, or a frame that is not allowed in this state.
    Garbled,
    /// The request exceeds the service's limit, which is given in bytes.
    TooLarge(u64),
}

impl Failure {
    /// The error when the service gave no reason.
    pub(super) fn into_error(self, place: &str) -> Error {
        match self {
            Self::TooLarge(limit) => Error::new(
                ErrorKind::Config,
                format!("the payload is too large: the message exceeds the service's limit of {limit} bytes"),
            ),
            Self::Garbled => {
                Error::new(ErrorKind::Protocol, format!("{place} violated the AMQP 1.0 protocol"))
            }
            Self::Stream(why) => {
                Error::new(ErrorKind::Io, format!("the connection to {place} was lost")).with_source(why)
            }
            Self::Refused(_) | Self::Ended | Self::Stopped | Self::Exhausted => {
                Error::new(ErrorKind::Io, format!("{place} closed the connection"))
            }
        }
    }
}

/// Converts an AMQP error of the service to the reply that HTTPS would have had. Its description is the JSON
/// body.
pub(crate) fn reply(error: &definitions::Error) -> Reply {
    let condition = name(&error.condition);
    let description = error.description.as_deref().unwrap_or_default();
    let (status, body) = match message::status(description.as_bytes()) {
        Some(status) => (status, description.to_owned()),
        None => (status(&condition), format!("{condition} {description}")),
    };
    let retry_after = error.info.as_deref().and_then(message::retry_after_in_info);
    Reply { status, retry_after, body: body.into_bytes() }
}

/// The error when the service refuses the connection.
pub(crate) fn refused(reply: &Reply) -> Error {
    let (kind, message) = match reply.status {
        401 | 403 => (ErrorKind::Unauthorized, "the service refused the device's credential"),
        408 | 429 | 500..=599 => (ErrorKind::Connect, "the service is unavailable"),
        _ => (ErrorKind::Service, "the service refused the connection"),
    };
    let service = ServiceError::from_answer(reply.status, reply.retry_after, &reply.body);
    Error::new(kind, message).with_service(service)
}

/// The status of an error condition, if the description has no error code.
fn status(condition: &str) -> u16 {
    match condition {
        "amqp:unauthorized-access" => 401,
        "amqp:not-found" => 404,
        "com.microsoft:timeout" => 408,
        "amqp:link:message-size-exceeded" => 413,
        "amqp:resource-limit-exceeded" | "com.microsoft:device-container-throttled" => 429,
        "amqp:internal-error" => 500,
        // A service that goes down for maintenance sends these.
        "amqp:connection:forced"
        | "amqp:link:detach-forced"
        | "amqp:link:stolen"
        | "com.microsoft:server-busy" => 503,
        _ => 400,
    }
}

fn name(condition: &ErrorCondition) -> String {
    let symbol = match condition {
        ErrorCondition::AmqpError(error) => Symbol::from(error),
        ErrorCondition::ConnectionError(error) => Symbol::from(error),
        ErrorCondition::SessionError(error) => Symbol::from(error),
        ErrorCondition::LinkError(error) => Symbol::from(error),
        ErrorCondition::Custom(symbol) => symbol.clone(),
    };
    symbol.into_inner()
}

impl From<OpenError> for Failure {
    fn from(why: OpenError) -> Self {
        match why {
            OpenError::RemoteClosedWithError(error) => Self::Refused(error),
            OpenError::RemoteClosed => Self::Ended,
            OpenError::Io(why) => why.into(),
            OpenError::TransportError(why) => why.into(),
            _ => Self::Garbled,
        }
    }
}

impl From<ConnectionError> for Failure {
    fn from(why: ConnectionError) -> Self {
        match why {
            ConnectionError::RemoteClosedWithError(error) => Self::Refused(error),
            ConnectionError::TransportError(why) => why.into(),
            ConnectionError::RemoteClosed | ConnectionError::JoinError(_) => Self::Ended,
            _ => Self::Garbled,
        }
    }
}

impl From<TransportError> for Failure {
    fn from(why: TransportError) -> Self {
        match why {
            TransportError::Io(why) => why.into(),
            TransportError::IdleTimeoutElapsed => Self::Ended,
            _ => Self::Garbled,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(why: io::Error) -> Self {
        match why.kind() {
            io::ErrorKind::UnexpectedEof => Self::Exhausted,
            _ => Self::Stream(why),
        }
    }
}

impl From<BeginError> for Failure {
    fn from(why: BeginError) -> Self {
        match why {
            BeginError::RemoteEndedWithError(error) => Self::Refused(error),
            BeginError::ConnectionStopped(reason) => reason.into(),
            BeginError::RemoteEnded => Self::Ended,
            _ => Self::Garbled,
        }
    }
}

impl From<ConnectionStopReason> for Failure {
    fn from(reason: ConnectionStopReason) -> Self {
        match reason {
            ConnectionStopReason::RemoteClosedWithError(error) => Self::Refused(error),
            ConnectionStopReason::RemoteClosed => Self::Ended,
            ConnectionStopReason::Closed | ConnectionStopReason::ClosedWithError(_) => Self::Stopped,
        }
    }
}

impl From<SessionStopReason> for Failure {
    fn from(reason: SessionStopReason) -> Self {
        match reason {
            SessionStopReason::RemoteEndedWithError(error) => Self::Refused(error),
            SessionStopReason::ConnectionStopped(reason) => reason.into(),
            SessionStopReason::Ended | SessionStopReason::RemoteEnded => Self::Ended,
            // The library ends a session when the peer violates the protocol.
            SessionStopReason::EndedWithError(_) => Self::Garbled,
        }
    }
}

impl From<ReceiverAttachError> for Failure {
    fn from(why: ReceiverAttachError) -> Self {
        match why {
            ReceiverAttachError::RemoteClosedWithError(error) => Self::Refused(error),
            ReceiverAttachError::SessionStopped(reason) => reason.into(),
            ReceiverAttachError::SessionNotMapped => Self::Ended,
            _ => Self::Garbled,
        }
    }
}

impl From<SenderAttachError> for Failure {
    fn from(why: SenderAttachError) -> Self {
        match why {
            SenderAttachError::RemoteClosedWithError(error) => Self::Refused(error),
            SenderAttachError::SessionStopped(reason) => reason.into(),
            SenderAttachError::SessionNotMapped => Self::Ended,
            _ => Self::Garbled,
        }
    }
}

impl From<SendError> for Failure {
    fn from(why: SendError) -> Self {
        match why {
            SendError::LinkStateError(why) => why.into(),
            SendError::Detached(why) => why.into(),
            SendError::MessageSizeExceeded(exceeded) => Self::TooLarge(exceeded.max_size),
            _ => Self::Garbled,
        }
    }
}

impl From<RecvError> for Failure {
    fn from(why: RecvError) -> Self {
        match why {
            RecvError::LinkStateError(why) => why.into(),
            _ => Self::Garbled,
        }
    }
}

impl From<DetachError> for Failure {
    fn from(why: DetachError) -> Self {
        LinkStateError::from(why).into()
    }
}

impl From<IllegalLinkStateError> for Failure {
    fn from(why: IllegalLinkStateError) -> Self {
        LinkStateError::from(why).into()
    }
}

impl From<LinkStateError> for Failure {
    fn from(why: LinkStateError) -> Self {
        match why {
            LinkStateError::RemoteDetachedWithError(error) | LinkStateError::RemoteClosedWithError(error) => {
                Self::Refused(error)
            }
            LinkStateError::SessionStopped(reason) => reason.into(),
            LinkStateError::RemoteDetached | LinkStateError::RemoteClosed | LinkStateError::IllegalState => {
                Self::Ended
            }
            LinkStateError::ExpectImmediateDetach => Self::Garbled,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fe2o3_amqp::types::primitives::{OrderedMap, Value};

    use super::*;

    fn error(condition: &str, description: Option<&str>) -> definitions::Error {
        let condition = ErrorCondition::Custom(Symbol::from(condition));
        definitions::Error::new(condition, description.map(str::to_owned), None)
    }

    #[test]
    fn the_code_in_the_description_is_the_status() {
        let body = r#"{"errorCode":429001,"trackingId":"t-1","message":"slow down"}"#;
        let reply = reply(&error("amqp:not-allowed", Some(body)));
        assert_eq!((reply.status, reply.body.as_slice()), (429, body.as_bytes()));
    }

    #[test]
    fn without_a_code_the_condition_gives_the_status_and_the_body() {
        for (condition, status) in [
            ("amqp:unauthorized-access", 401),
            ("com.microsoft:device-container-throttled", 429),
            ("amqp:internal-error", 500),
            ("com.example:anything", 400),
        ] {
            let reply = reply(&error(condition, Some("not JSON")));
            assert_eq!((reply.status, reply.body), (status, format!("{condition} not JSON").into_bytes()));
        }
        assert_eq!(reply(&error("amqp:not-found", Some(r#"{"errorCode":7}"#))).status, 404);
        assert_eq!(reply(&error("amqp:not-found", None)).status, 404);
    }

    #[test]
    fn retry_after_is_read_from_the_info() {
        let mut info = OrderedMap::new();
        info.insert(Symbol::from("Retry-After"), Value::String("7".into()));
        let error = definitions::Error::new(
            ErrorCondition::Custom(Symbol::from("com.microsoft:device-container-throttled")),
            None,
            info,
        );
        assert_eq!(reply(&error).retry_after, Some(Duration::from_secs(7)));
    }

    #[test]
    fn a_refused_connection_has_a_kind_by_its_status() {
        for (status, kind) in [
            (401, ErrorKind::Unauthorized),
            (403, ErrorKind::Unauthorized),
            (404, ErrorKind::Service),
            (429, ErrorKind::Connect),
        ] {
            let reply = Reply { status, retry_after: None, body: Vec::new() };
            let error = refused(&reply);
            assert_eq!((error.kind(), error.service().unwrap().status), (kind, status));
        }
    }
}
