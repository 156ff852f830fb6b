//! Where the samples run: on an embedded emulator, or against Azure when `DPS_CONNECTION_STRING` and `DPS_ID_SCOPE`
//! name an instance. Nothing else in the samples differs.

use std::time::Duration;

use azure_dps_core::{ConnectionString, Endpoint, Error, ErrorKind, IdScope, Result};
use azure_dps_device::{Https, RegistrationPolicy};
use azure_dps_emulator::Emulator;
use azure_dps_service::{Credential, ServiceClient};

/// An instance to play with.
#[derive(Debug)]
pub struct Playground {
    /// Held because dropping it stops it.
    emulator: Option<Emulator>,
    connection: ConnectionString,
    id_scope: IdScope,
}

impl Playground {
    /// Starts the emulator, or takes the instance that the environment names.
    pub async fn start() -> Result<Self> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        match (variable("DPS_CONNECTION_STRING"), variable("DPS_ID_SCOPE")) {
            (Some(connection), Some(scope)) => {
                Ok(Self { emulator: None, connection: connection.parse()?, id_scope: scope.trim().parse()? })
            }
            (None, None) => {
                let failed =
                    |why| Error::new(ErrorKind::Config, "the emulator does not start").with_source(why);
                let emulator = Emulator::start().await.map_err(failed)?;
                let connection = emulator.service_connection_string().parse()?;
                let id_scope = emulator.id_scope().parse()?;
                Ok(Self { emulator: Some(emulator), connection, id_scope })
            }
            _ => Err(Error::new(
                ErrorKind::Config,
                "set both DPS_CONNECTION_STRING and DPS_ID_SCOPE to use an instance in Azure, or neither to use the emulator",
            )),
        }
    }

    /// What runs here, in a few words.
    pub fn describe(&self) -> String {
        let place = if self.emulator.is_some() { "embedded emulator" } else { "Azure" };
        let port = self.connection.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{place}, {}{port}, ID scope {}", self.connection.host(), self.id_scope)
    }

    /// The ID scope that devices name.
    pub fn id_scope(&self) -> IdScope {
        self.id_scope.clone()
    }

    /// The service client of a back end.
    pub fn service(&self) -> Result<ServiceClient> {
        ServiceClient::builder(self.endpoint()?, Credential::from(&self.connection)).build()
    }

    /// The HTTPS transport of a device.
    pub fn https(&self) -> Result<Https> {
        self.endpoint().map(Https::new)
    }

    /// How devices wait: as in the field against Azure, without a pause on the emulator.
    pub fn policy(&self) -> RegistrationPolicy {
        match self.emulator {
            Some(_) => RegistrationPolicy::new().min_poll(Duration::ZERO),
            None => RegistrationPolicy::new(),
        }
    }

    /// The instance's own host serves devices too, so that one endpoint is enough here.
    fn endpoint(&self) -> Result<Endpoint> {
        let endpoint = Endpoint::try_from(&self.connection)?;
        match &self.emulator {
            Some(emulator) => endpoint.trust_only(emulator.ca_pem()),
            None => Ok(endpoint),
        }
    }
}

/// The programs of the project's README, which run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
