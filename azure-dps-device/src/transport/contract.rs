//! The contract between the client and a transport: the traits that a transport implements, and the requests,
//! replies and sessions that they exchange.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use azure_dps_core::models::ApiVersion;
use azure_dps_core::{IdScope, RegistrationId, Result, SasToken};

use crate::tpm::contract::Tpm;

/// The longest body of a reply in bytes, over any transport. The service documents 96 KB.
#[cfg(any(feature = "amqp", feature = "https"))]
pub(crate) const LONGEST_REPLY: usize = 256 * 1024;
/// How much memory the values of a reply may take, in bytes.
pub(crate) const MOST_IN_MEMORY: usize = 3 * 1024 * 1024;

/// A boxed future, as the transport traits return it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A way to reach the service: a plain value that says how to connect.
///
/// The client calls [`connect`](Self::connect) at the start of every registration and again after it lost a
/// connection. Implementations must end each call themselves when the peer stalls; the client's deadline is
/// only the last resort. The [`ErrorKind`](azure_dps_core::ErrorKind) of a failure decides what happens next:
/// the client retries after `Connect` and `Io`, while `Tls` and `Unauthorized` end the registration.
pub trait Transport: fmt::Debug + Send + Sync {
    /// Checks, before anything is sent, whether the session's credential can be used for its
    /// [`purpose`](Session::purpose) over this protocol. The client calls it at the start of every
    /// registration and look-up; [`Auto`](crate::Auto) asks its members again when it connects. The default
    /// accepts every session.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](azure_dps_core::ErrorKind::Unsupported) when the protocol cannot express
    /// it.
    fn check(&self, session: &Session) -> Result<()> {
        let _ = session;
        Ok(())
    }

    /// The port that it connects to; `None`, the default, if that is not known. [`Auto`](crate::Auto) does
    /// not ask a proxy again for a port that the proxy has refused.
    fn port(&self) -> Option<u16> {
        None
    }

    /// The host of the service that it connects to; `None`, the default, if that is not known. The client
    /// explains a refusal by it if the ID scope belongs to another cloud.
    fn host(&self) -> Option<&str> {
        None
    }

    /// The name of the transport, as in [`Facts::name`]; `None`, the default, if that is not known or not
    /// always the same.
    fn name(&self) -> Option<&str> {
        None
    }

    /// Recommends the transport with this name, because it worked before; `None` recommends to begin anew with
    /// the first. [`Auto`](crate::Auto) follows it. By default this has no effect.
    fn prefer(&self, name: Option<&str>) {
        let _ = name;
    }

    /// Opens a channel for one device. Dropping the future abandons the attempt.
    fn connect(&self, session: Session) -> BoxFuture<'_, Result<Box<dyn Channel>>>;
}

impl<T: Transport + ?Sized> Transport for Arc<T> {
    fn check(&self, session: &Session) -> Result<()> {
        (**self).check(session)
    }

    fn port(&self) -> Option<u16> {
        (**self).port()
    }

    fn host(&self) -> Option<&str> {
        (**self).host()
    }

    fn name(&self) -> Option<&str> {
        (**self).name()
    }

    fn prefer(&self, name: Option<&str>) {
        (**self).prefer(name);
    }

    fn connect(&self, session: Session) -> BoxFuture<'_, Result<Box<dyn Channel>>> {
        (**self).connect(session)
    }
}

/// One connection of one device. Dropping it must end the connection and every task that belongs to it.
pub trait Channel: Send {
    /// Sends a request and waits for its reply. The client does not call it again after it has failed.
    fn exchange<'a>(&'a mut self, request: &'a Request) -> BoxFuture<'a, Result<Reply>>;

    /// Waits between two requests. A protocol that needs keep-alive traffic sends it here.
    fn idle(&mut self, wait: Duration) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            tokio::time::sleep(wait).await;
            Ok(())
        })
    }

    /// Closes the connection as the protocol asks for. Failures are ignored: the outcome is already known.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()>;

    /// The properties of the protocol that the client needs to know.
    fn facts(&self) -> Facts;
}

/// The properties of a protocol that the client needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The transport's name in logs and summaries, for example `HTTPS`.
    pub name: &'static str,
    /// Whether an operation can be polled on another connection than the one that started it.
    pub operations_survive: bool,
}

/// The purpose of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// Registers the device and waits for its assignment.
    Register,
    /// Reads the device's registration record without registering.
    Lookup,
}

/// A request to the service.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// Start a registration. The body is the JSON of a `DeviceRegistration`.
    Register {
        /// The JSON body.
        body: Vec<u8>,
    },
    /// Ask for the state of a registration that is under way.
    Status {
        /// The id that the service gave the operation.
        operation_id: String,
    },
    /// Ask for the device's registration record, without registering.
    Lookup {
        /// The JSON body.
        body: Vec<u8>,
    },
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Register { .. } => f.write_str("Register"),
            Self::Status { operation_id } => write!(f, "Status({operation_id})"),
            Self::Lookup { .. } => f.write_str("Lookup"),
        }
    }
}

/// One request. Its `Debug` shows neither body nor token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The operation and its body.
    pub operation: Operation,
    /// The token for this request, unless the connection or a certificate authenticates. Only HTTPS reads it.
    pub authorization: Option<SasToken>,
}

/// One reply, reduced to what HTTPS, MQTT and AMQP have in common. Its `Debug` does not show the body.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status or its equivalent.
    pub status: u16,
    /// How long the service asks to wait before the next request.
    pub retry_after: Option<Duration>,
    /// The JSON body.
    pub body: Vec<u8>,
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("status", &self.status)
            .field("retry_after", &self.retry_after)
            .finish_non_exhaustive()
    }
}

/// The device that connects, its ID scope, how it authenticates, and for what purpose. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Session(Arc<SessionParts>);

#[derive(Clone, Debug)]
struct SessionParts {
    id_scope: IdScope,
    registration_id: RegistrationId,
    api_version: ApiVersion,
    user_agent: String,
    auth: Auth,
    purpose: Purpose,
}

impl Session {
    /// Creates a session for a registration. The client does this; tests of a transport may.
    pub fn new(
        id_scope: IdScope,
        registration_id: RegistrationId,
        api_version: ApiVersion,
        user_agent: impl Into<String>,
        auth: Auth,
    ) -> Self {
        Self(Arc::new(SessionParts {
            id_scope,
            registration_id,
            api_version,
            user_agent: user_agent.into(),
            auth,
            purpose: Purpose::Register,
        }))
    }

    /// Sets the purpose. Default [`Purpose::Register`].
    #[must_use]
    pub fn with_purpose(mut self, purpose: Purpose) -> Self {
        Arc::make_mut(&mut self.0).purpose = purpose;
        self
    }

    /// The purpose of the session.
    pub fn purpose(&self) -> Purpose {
        self.0.purpose
    }

    /// The ID scope of the instance.
    pub fn id_scope(&self) -> &IdScope {
        &self.0.id_scope
    }

    /// The device's registration id.
    pub fn registration_id(&self) -> &RegistrationId {
        &self.0.registration_id
    }

    /// The api-version that requests name.
    pub fn api_version(&self) -> &ApiVersion {
        &self.0.api_version
    }

    /// The user agent that requests name.
    pub fn user_agent(&self) -> &str {
        &self.0.user_agent
    }

    /// How the device authenticates when it connects.
    pub fn auth(&self) -> &Auth {
        &self.0.auth
    }
}

/// How a device authenticates when it connects.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Auth {
    /// With a token made from a symmetric key.
    Token(SasToken),
    /// With a certificate, which TLS presents.
    #[cfg(feature = "tls")]
    Certificate(azure_dps_core::Identity),
    /// With a TPM, which answers the service's challenge.
    Tpm(Arc<dyn Tpm>),
}

#[cfg(any(feature = "amqp", feature = "hub", feature = "mqtt"))]
impl Auth {
    /// The client certificate for TLS, if the device authenticates with one.
    pub(crate) fn identity(&self) -> Option<&azure_dps_core::Identity> {
        match self {
            Self::Certificate(identity) => Some(identity),
            Self::Token(_) | Self::Tpm(_) => None,
        }
    }
}
