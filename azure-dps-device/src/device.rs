//! A device and how it reaches the service: the values that a client holds and a registration reads.

use std::sync::Arc;

#[cfg(feature = "tls")]
use azure_dps_core::CertificateRequest;
use azure_dps_core::models::ApiVersion;
use azure_dps_core::plumbing::misfit;
use azure_dps_core::{Error, ErrorKind, IdScope, Result, SasToken};
use time::OffsetDateTime;

use crate::credential::Credential;
use crate::policy::RegistrationPolicy;
use crate::transport::contract::{Auth, Purpose, Session, Transport};

#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub(crate) id_scope: IdScope,
    pub(crate) credential: Credential,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) policy: RegistrationPolicy,
    pub(crate) api_version: ApiVersion,
    /// The version of registrations with a certificate signing request.
    pub(crate) csr_api_version: ApiVersion,
    pub(crate) user_agent: String,
}

impl Device {
    /// The same device for a registration with this certificate signing request.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the request is for another registration id, or when the api-version was set
    /// to one without such requests: the service would assign the device and ignore the request.
    #[cfg(feature = "tls")]
    pub(crate) fn for_request(&self, request: &CertificateRequest) -> Result<Self> {
        request.check(self.credential.registration_id())?;
        let version = self.csr_api_version.clone();
        if !version.has_certificate_requests() {
            let message = format!(
                "the api-version {version} does not have certificate signing requests: set 2026-11-01, or \
                 leave it out"
            );
            return Err(Error::new(ErrorKind::Config, message));
        }
        Ok(Self { api_version: version, ..self.clone() })
    }

    /// The session for a connection. A symmetric key signs a token for it, unless `token` is still fresh.
    pub(crate) fn session(&self, purpose: Purpose, token: &mut Option<SasToken>) -> Result<Session> {
        let auth = match self.credential.auth() {
            Some(auth) => auth,
            None => Auth::Token(self.fresh_token(token)?),
        };
        let (id, version) = (self.credential.registration_id().clone(), self.api_version.clone());
        let session = Session::new(self.id_scope.clone(), id, version, self.user_agent.clone(), auth);
        Ok(session.with_purpose(purpose))
    }

    /// Explains a refusal by the cloud, if the ID scope belongs to another one than the host.
    pub(crate) fn explain(&self, error: Error) -> Error {
        let is_refusal = error.kind() == ErrorKind::Unauthorized || error.is_not_found();
        match self.transport.host().and_then(|host| misfit(self.id_scope.as_str(), host)) {
            Some(help) if is_refusal => error.with_help(help),
            _ => error,
        }
    }

    /// The token of the running registration, renewed long before it expires.
    pub(crate) fn fresh_token(&self, token: &mut Option<SasToken>) -> Result<SasToken> {
        let now = OffsetDateTime::now_utc();
        if let Some(token) = token.as_ref().filter(|token| is_fresh(token, now)) {
            return Ok(token.clone());
        }
        let fresh = self.credential.registration_token(&self.id_scope, now)?;
        Ok(token.insert(fresh).clone())
    }
}

/// Whether a token is still valid for long enough to be used.
pub(crate) fn is_fresh(token: &SasToken, now: OffsetDateTime) -> bool {
    token.expiry() > now.unix_timestamp() + MARGIN
}

/// A token is renewed when fewer seconds than these are left.
const MARGIN: i64 = 300;

#[cfg(test)]
mod tests {
    use azure_dps_core::{RegistrationId, SharedKey};

    use super::*;
    use crate::client::DeviceClient;
    use crate::transport::contract::{BoxFuture, Channel, Facts, Reply, Request};

    /// A service under a host name that answers every request with one status.
    #[derive(Clone, Copy, Debug)]
    struct Answering {
        host: Option<&'static str>,
        status: u16,
    }

    impl Transport for Answering {
        fn host(&self) -> Option<&str> {
            self.host
        }

        fn connect(&self, _: Session) -> BoxFuture<'_, Result<Box<dyn Channel>>> {
            let channel = *self;
            Box::pin(async move { Ok(Box::new(channel) as Box<dyn Channel>) })
        }
    }

    impl Channel for Answering {
        fn exchange<'a>(&'a mut self, _: &'a Request) -> BoxFuture<'a, Result<Reply>> {
            let reply = Reply { status: self.status, retry_after: None, body: Vec::new() };
            Box::pin(async move { Ok(reply) })
        }

        fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
            Box::pin(async {})
        }

        fn facts(&self) -> Facts {
            Facts { name: "answering", operations_survive: false }
        }
    }

    async fn help(scope: &str, host: Option<&'static str>, status: u16) -> &'static str {
        let id: RegistrationId = "d".parse().unwrap();
        let credential = Credential::symmetric_key(id, SharedKey::from_base64("AAAA").unwrap());
        let client = DeviceClient::new(scope.parse().unwrap(), credential, Answering { host, status });
        let error = client.register().await.unwrap_err();
        assert_eq!(client.lookup().await.unwrap_err().help(), error.help());
        error.help()
    }

    #[tokio::test]
    async fn a_refusal_is_explained_by_the_cloud_of_the_id_scope() {
        let (public, china) =
            ("global.azure-devices-provisioning.net", "contoso.azure-devices-provisioning.cn");
        for status in [401, 404] {
            assert!(
                help("0cn00111111", Some(public), status).await.contains("Endpoint::china()"),
                "{status}"
            );
            assert!(
                help("0ne00111111", Some(china), status).await.contains("Endpoint::global()"),
                "{status}"
            );
            for (scope, host) in [("0ne00111111", Some(public)), ("0cn00111111", Some(china)), ("0cn1", None)]
            {
                let help = help(scope, host, status).await;
                assert!(!help.contains("the ID scope begins with"), "{scope} {host:?} {status}: {help}");
            }
        }
        let help = help("0cn00111111", Some(public), 400).await;
        assert!(!help.contains("the ID scope begins with"), "{help}");
    }

    #[cfg(all(feature = "amqp", feature = "https", feature = "mqtt", feature = "ws"))]
    #[test]
    fn every_transport_knows_its_host() {
        use azure_dps_core::Endpoint;

        use crate::{Amqp, Auto, Https, Mqtt};

        let endpoint = Endpoint::china();
        let transports: [Arc<dyn Transport>; 4] = [
            Arc::new(Https::new(endpoint.clone())),
            Arc::new(Mqtt::new(endpoint.clone())),
            Arc::new(Amqp::new(endpoint.clone()).with_websocket()),
            Arc::new(Auto::new(endpoint)),
        ];
        for transport in &transports {
            assert_eq!(transport.host(), Some("global.azure-devices-provisioning.cn"), "{transport:?}");
        }
        let differing = Auto::of([
            Arc::clone(&transports[0]),
            Arc::new(Https::new(Endpoint::global())) as Arc<dyn Transport>,
        ])
        .unwrap();
        assert_eq!(differing.host(), None);
    }
}
