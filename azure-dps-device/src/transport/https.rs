//! Registration over HTTPS: one PUT, then GETs until the state is final; one POST for a look-up.
//!
//! An [`Https`] value and its clones keep their connections and share them among registrations.
//! Wire form: `docs/wire/device-https.md`.

use std::sync::{Arc, Mutex, PoisonError};

use azure_dps_core::http::{HttpClient, HttpMethod, HttpRequest};
use azure_dps_core::plumbing::percent_encode;
use azure_dps_core::{Endpoint, Error, ErrorKind, Identity, Result};

use crate::transport::contract::{
    Auth, BoxFuture, Channel, Facts, LONGEST_REPLY, Operation, Purpose, Reply, Request, Session, Transport,
};
use crate::trust;

/// The HTTPS transport, port 443.
///
/// Keep one value and clone it: clones share connections and the TLS configuration, so that a fleet of
/// simulated devices, or one device that registers again, needs only one handshake. A device with a
/// certificate does not share its connections, but the limit of connections holds for it too.
///
/// ```
/// use azure_dps_device::Https;
///
/// let global = Https::default();
/// # let _ = global;
/// ```
#[derive(Clone, Debug, Default)]
pub struct Https {
    endpoint: Endpoint,
    /// `None` is the default of the client.
    max_connections: Option<usize>,
    clients: Arc<Mutex<Clients>>,
}

/// The clients that are kept between registrations. A certificate authenticates the connection, so another
/// device must not use it.
#[derive(Debug, Default)]
struct Clients {
    anonymous: Option<HttpClient>,
    /// Only that of the device that registered last: one for each device of a simulated fleet would fill the
    /// memory.
    identified: Option<(Identity, HttpClient)>,
}

impl Https {
    /// Reaches the service at `endpoint`. `Https::default()` reaches the global one.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, max_connections: None, clients: Arc::default() }
    }

    /// Sets how many connections this value and its later clones may have at once. Default 64; 0 counts as 1.
    ///
    /// A request takes a connection from connecting to the end of the answer. The requests beyond the limit
    /// wait, in the order in which they came, as long as their registrations may take; then these fail with
    /// [`ErrorKind::Timeout`]. Between its requests a registration takes no connection, so that the limit is
    /// not a limit of registrations.
    #[must_use]
    pub fn with_max_connections(self, connections: usize) -> Self {
        Self { max_connections: Some(connections), clients: Arc::default(), ..self }
    }

    fn client(&self, auth: &Auth) -> Result<HttpClient> {
        let mut kept = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let anonymous = match &kept.anonymous {
            Some(client) => client.clone(),
            None => {
                let client = HttpClient::new(&self.endpoint)?.with_longest_answer(LONGEST_REPLY);
                let client = match self.max_connections {
                    Some(limit) => client.with_max_connections(limit),
                    None => client,
                };
                kept.anonymous.insert(client).clone()
            }
        };
        let Auth::Certificate(wanted) = auth else { return Ok(anonymous) };
        match &kept.identified {
            Some((identity, client)) if identity.certificates() == wanted.certificates() => {
                Ok(client.clone())
            }
            _ => {
                let client = anonymous.for_identity(wanted)?;
                kept.identified = Some((wanted.clone(), client.clone()));
                Ok(client)
            }
        }
    }
}

impl Transport for Https {
    fn check(&self, session: &Session) -> Result<()> {
        match (session.auth(), session.purpose()) {
            // The service challenges a TPM when it registers; nothing else is documented.
            (Auth::Tpm(_), Purpose::Lookup) => Err(Error::new(
                ErrorKind::Unsupported,
                "the service does not offer a status look-up for TPMs: register again",
            )),
            _ => Ok(()),
        }
    }

    fn port(&self) -> Option<u16> {
        Some(self.endpoint.port().unwrap_or(443))
    }

    fn host(&self) -> Option<&str> {
        Some(self.endpoint.host())
    }

    fn name(&self) -> Option<&str> {
        Some(NAME)
    }

    fn connect(&self, session: Session) -> BoxFuture<'_, Result<Box<dyn Channel>>> {
        Box::pin(async move {
            trust::read(&self.endpoint).await?;
            let client = self.client(session.auth())?;
            Ok(Box::new(HttpsChannel { client, session }) as Box<dyn Channel>)
        })
    }
}

struct HttpsChannel {
    client: HttpClient,
    session: Session,
}

impl Channel for HttpsChannel {
    fn exchange<'a>(&'a mut self, request: &'a Request) -> BoxFuture<'a, Result<Reply>> {
        let request = http_request(&self.session, request);
        Box::pin(async move {
            let answer = self.client.send(request).await?;
            Ok(Reply { status: answer.status, retry_after: answer.retry_after(), body: answer.body })
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        // The connection returns to the transport's pool.
        Box::pin(std::future::ready(()))
    }

    fn facts(&self) -> Facts {
        Facts { name: NAME, operations_survive: true }
    }
}

fn http_request(session: &Session, request: &Request) -> HttpRequest {
    let (scope, id) = (session.id_scope(), session.registration_id());
    let (method, path, body) = match &request.operation {
        Operation::Register { body } => (HttpMethod::Put, "/register".to_owned(), Some(body.clone())),
        Operation::Status { operation_id } => {
            let id = percent_encode(operation_id);
            (HttpMethod::Get, format!("/operations/{id}"), None)
        }
        Operation::Lookup { body } => (HttpMethod::Post, String::new(), Some(body.clone())),
    };
    let version = session.api_version();
    let mut headers =
        vec![("accept", "application/json".to_owned()), ("user-agent", session.user_agent().to_owned())];
    if let Some(token) = &request.authorization {
        headers.push(("authorization", token.expose().to_owned()));
    }
    HttpRequest {
        method,
        target: format!("/{scope}/registrations/{id}{path}?api-version={version}"),
        headers,
        body,
    }
}

/// The name in logs and summaries.
const NAME: &str = "HTTPS";

#[cfg(test)]
mod tests {
    use azure_dps_core::models::ApiVersion;
    use azure_dps_core::{SharedKey, UnsignedSas};
    use time::OffsetDateTime;

    use super::*;

    fn sent(operation: Operation) -> HttpRequest {
        let scope: azure_dps_core::IdScope = "0ne00111111".parse().unwrap();
        let id: azure_dps_core::RegistrationId = "Dev:1".parse().unwrap();
        let key = SharedKey::from_base64("AAAA").unwrap();
        let token = UnsignedSas::for_registration(&scope, &id, OffsetDateTime::UNIX_EPOCH).sign(&key);
        let session = Session::new(scope, id, ApiVersion::default(), "test", Auth::Token(token.clone()));
        http_request(&session, &Request { operation, authorization: Some(token) })
    }

    #[test]
    fn register_is_a_put_with_the_body_and_the_token() {
        let request = sent(Operation::Register { body: b"{}".to_vec() });
        assert_eq!(request.method, HttpMethod::Put);
        assert_eq!(request.target, "/0ne00111111/registrations/Dev:1/register?api-version=2021-10-01");
        assert_eq!(request.body.as_deref(), Some(&b"{}"[..]));
        assert!(request.headers.iter().any(|(name, value)| {
            *name == "authorization"
                && value.starts_with("SharedAccessSignature sr=0ne00111111%2Fregistrations%2FDev%3A1&")
        }));
    }

    #[test]
    fn the_operation_id_is_encoded_as_one_segment() {
        let request = sent(Operation::Status { operation_id: "5.a/b?c".into() });
        assert_eq!(request.method, HttpMethod::Get);
        assert_eq!(
            request.target,
            "/0ne00111111/registrations/Dev:1/operations/5.a%2Fb%3Fc?api-version=2021-10-01"
        );
        assert_eq!(request.body, None);
    }

    #[test]
    fn lookup_is_a_post_to_the_registration() {
        let request = sent(Operation::Lookup { body: b"{}".to_vec() });
        assert_eq!(request.method, HttpMethod::Post);
        assert_eq!(request.target, "/0ne00111111/registrations/Dev:1?api-version=2021-10-01");
    }
}
