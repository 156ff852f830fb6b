//! The seam between the client and the wire: one request, one reply, and the two traits that a transport implements.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use azure_dps_core::models::ApiVersion;
use azure_dps_core::{IdScope, RegistrationId, Result, SasToken};

use crate::tpm::contract::Tpm;

/// A boxed future, as the transport traits return it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A way to reach the service: a plain value that says how to connect.
///
/// The client calls [`connect`](Self::connect) at the start of every registration and again after a connection was
/// lost. Implementations must end each call by themselves when the peer stalls; the client's deadline is only the last
/// resort. Report failures by [`ErrorKind`](azure_dps_core::ErrorKind): `Connect` and `Io` are tried again, `Tls` and
/// `Unauthorized` end the registration.
pub trait Transport: fmt::Debug + Send + Sync {
    /// Says before anything is sent whether this credential can ask for this operation here. Called at the start
    /// of every registration and look-up; [`Auto`](crate::Auto) asks its members again when it connects.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](azure_dps_core::ErrorKind::Unsupported) when the protocol has no form for it.
    fn check(&self, session: &Session, operation: &Operation) -> Result<()> {
        let _ = (session, operation);
        Ok(())
    }

    /// The port that it connects to, if that is known. [`Auto`](crate::Auto) does not ask a proxy again for a port that
    /// the proxy refused.
    fn port(&self) -> Option<u16> {
        None
    }

    /// Opens a channel for one device. Dropping the future abandons the attempt.
    fn connect(&self, session: Session) -> BoxFuture<'_, Result<Box<dyn Channel>>>;
}

impl<T: Transport + ?Sized> Transport for Arc<T> {
    fn check(&self, session: &Session, operation: &Operation) -> Result<()> {
        (**self).check(session, operation)
    }

    fn port(&self) -> Option<u16> {
        (**self).port()
    }

    fn connect(&self, session: Session) -> BoxFuture<'_, Result<Box<dyn Channel>>> {
        (**self).connect(session)
    }
}

/// One connection of one device. Dropping it must end the connection and everything that belongs to it.
pub trait Channel: Send {
    /// Sends a request and waits for the reply that belongs to it. Never called again after it failed.
    fn exchange<'a>(&'a mut self, request: &'a Request) -> BoxFuture<'a, Result<Reply>>;

    /// Waits between two requests. A protocol that needs keep-alive traffic sends it here.
    fn idle(&mut self, wait: Duration) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            tokio::time::sleep(wait).await;
            Ok(())
        })
    }

    /// Ends the connection politely. Failures are of no interest any more.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()>;

    /// What the client has to know about the protocol.
    fn facts(&self) -> Facts;
}

/// What the client has to know about a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The transport's name in logs and summaries, for example `HTTPS`.
    pub name: &'static str,
    /// Whether an operation can be asked for on another connection than the one that started it.
    pub operations_survive: bool,
}

/// What the device asks of the service.
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
    /// Ask for the device's present registration record, without registering.
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
    /// What is asked.
    pub operation: Operation,
    /// The token for this request, unless the connection or a certificate authenticates. Read by HTTPS only.
    pub authorization: Option<SasToken>,
}

/// One reply, as HTTPS, MQTT and AMQP all can give it. Its `Debug` does not show the body.
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

/// Who connects: the device, its scope, and how it authenticates. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Session(Arc<SessionParts>);

#[derive(Clone, Debug)]
struct SessionParts {
    id_scope: IdScope,
    registration_id: RegistrationId,
    api_version: ApiVersion,
    user_agent: String,
    auth: Auth,
    looks_up: bool,
}

impl Session {
    /// Puts a session together; the client does this, and tests of a transport.
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
            looks_up: false,
        }))
    }

    /// The same for a look-up in place of a registration, which not every transport has.
    #[must_use]
    pub fn for_lookup(mut self) -> Self {
        Arc::make_mut(&mut self.0).looks_up = true;
        self
    }

    /// What the session is for, without its body: what [`Transport::check`] can be asked about.
    pub fn purpose(&self) -> Operation {
        if self.0.looks_up {
            Operation::Lookup { body: Vec::new() }
        } else {
            Operation::Register { body: Vec::new() }
        }
    }

    /// The ID scope of the instance.
    pub fn id_scope(&self) -> &IdScope {
        &self.0.id_scope
    }

    /// The device's registration id.
    pub fn registration_id(&self) -> &RegistrationId {
        &self.0.registration_id
    }

    /// The api-version to speak.
    pub fn api_version(&self) -> &ApiVersion {
        &self.0.api_version
    }

    /// How the client names itself.
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
