//! Starts an emulator: ports, certificates, tasks.

use std::io::ErrorKind;
use std::mem;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::KeyPair;
use time::OffsetDateTime;

use crate::access::Gate;
use crate::access::policy::{AccessPolicy, DEFAULT_PRIMARY_KEY, DEFAULT_SECONDARY_KEY};
use crate::builder::EmulatorBuilder;
use crate::builder::exposure::Exposure;
use crate::builder::reach::Reach;
use crate::builder::saved::Beginning;
use crate::emulator::Emulator;
use crate::front;
use crate::front::addresses::{Addresses, Ports};
use crate::front::manage::caller::Callers;
use crate::front::port::{BoundPort, Counter, Listener, bind};
use crate::front::tls;
use crate::front::tls::authority;
use crate::front::tls::names::Names;
use crate::front::webhook;
use crate::instance::Instance;
use crate::issuance::authority::IssuingAuthority;
use crate::records::hub::{Hub, HubFault, check_names};
use crate::records::seed::Seed;
use crate::start_error::StartError;
use crate::state::saved::SavedState;
use crate::state::settings::{DEFAULT_ID_SCOPE, ServerAuthority, Settings, is_id_scope};

impl EmulatorBuilder {
    /// Starts the emulator.
    ///
    /// # Errors
    /// [`StartError`] if a setting cannot be used, a port is in use, or a certificate cannot be made.
    pub async fn start(mut self) -> Result<Emulator, StartError> {
        let Beginning { state, server_authority } = self.begin()?;
        let seed = self.seed.take().map(|text| Seed::new(text, self.settings.strictness));
        let reach = mem::take(&mut self.reach);
        let ca_dir = self.ca_dir.take();
        let webhook_ca =
            self.webhook_ca.take().map(|pem| webhook::roots(&pem).map_err(StartError::WebhookCa));
        let webhook_roots = webhook_ca.transpose()?.unwrap_or_default();
        let mut settings = self.settings()?;
        let token = reach.check(&settings.enrolling.hubs)?;
        let names = Names::new(reach.host, &reach.dns_names, &settings.enrolling.hubs);
        let (authority, issuing) = authorities(ca_dir, &names, server_authority.as_ref(), state.as_ref())?;
        let (ca_pem, key) = &authority;
        let server_authority = ServerAuthority { certificate: ca_pem.clone(), key: key.serialize_pem() };
        settings.server_authority = Some(server_authority);
        let (instance, webhook_calls) =
            Instance::new(settings, issuing, seed.unwrap_or_default()).map_err(StartError::Seed)?;
        if let Some(state) = state {
            instance.begin_with(state).map_err(StartError::State)?;
        }
        let instance = Arc::new(instance);

        let certificates = tls::issue(&names, authority).map_err(StartError::Certificate)?;
        let mut listeners = Vec::new();
        let mut ports = Ports {
            https: listen(Listener::Https, reach.host, reach.port, &mut listeners).await?,
            mqtt: listen(Listener::Mqtt, reach.host, reach.mqtt_port, &mut listeners).await?,
            amqp: listen(Listener::Amqp, reach.host, reach.amqp_port, &mut listeners).await?,
            manage: None,
        };
        if let Some(port) = reach.manage_port {
            ports.manage = Some(listen(Listener::Manage, reach.manage_host, port, &mut listeners).await?);
        }
        warn_of_exposure(&reach, &instance.settings().gate);
        let connections = Counter::default();
        let addresses = Arc::new(Addresses {
            host: reach.client_host(),
            manage_url: ports.manage.map(|port| reach.manage_url(port)),
            ports,
        });
        let manage = front::manage::Context {
            callers: Arc::new(Callers::new(reach.manage_host, &reach.dns_names, token)),
            ca_pem: certificates.ca_pem.as_str().into(),
            addresses: Arc::clone(&addresses),
            instance: Arc::clone(&instance),
        };
        let listening = front::Listening::new(&certificates, manage, connections.clone())
            .map_err(|source| StartError::Certificate(source.into()))?;
        let mut tasks = front::serve(listeners, &listening);
        tasks.spawn(webhook::run(webhook_calls, Arc::clone(&instance), webhook_roots));
        let id_scope = &instance.settings().id_scope;
        tracing::info!(
            https = ports.https,
            mqtt = ports.mqtt,
            amqp = ports.amqp,
            manage = ports.manage,
            %id_scope,
            "started, for tests only"
        );
        Ok(Emulator { instance, connections, addresses, ca_pem: certificates.ca_pem, tasks })
    }

    pub(crate) fn settings(self) -> Result<Settings, StartError> {
        let mut settings = self.settings;
        settings.id_scope = self.id_scope.unwrap_or_else(|| DEFAULT_ID_SCOPE.to_owned());
        if !is_id_scope(&settings.id_scope) {
            return Err(StartError::IdScope(settings.id_scope));
        }
        let policies = self.policies.into_iter().map(AccessPolicy::resolve_keys);
        settings.gate.policies = policies.collect::<Result<_, _>>()?;
        settings.enrolling.hubs = self.hubs.unwrap_or_else(|| DEFAULT_HUBS.map(Hub::from).to_vec());
        check_names(&settings.enrolling.hubs).map_err(|fault| match fault {
            HubFault::Name(name) => StartError::Hub(name),
            HubFault::Twice(name) => StartError::HubTwice(name),
        })?;
        for certificate in self.ca_certificates {
            let now = OffsetDateTime::now_utc();
            settings.authorities.put(certificate, now).map_err(StartError::CaCertificate)?;
        }
        Ok(settings)
    }
}

/// The authority of the server certificate, and the one that issues certificates to devices.
fn authorities(
    ca_dir: Option<PathBuf>,
    names: &Names,
    server_authority: Option<&ServerAuthority>,
    state: Option<&SavedState>,
) -> Result<((String, KeyPair), IssuingAuthority), StartError> {
    if let (None, Some(state)) = (&ca_dir, state) {
        let issuing = state.issuing_authority().map_err(StartError::State)?;
        let authority = authority::saved(server_authority, names).map_err(StartError::Certificate)?;
        return Ok((authority, issuing));
    }
    match ca_dir {
        Some(directory) => authority::kept(&directory, names)
            .and_then(|authority| Ok((authority, IssuingAuthority::kept(&directory)?)))
            .map_err(|source| StartError::CaDir { directory, source }),
        None => authority::new(names, tls::A_YEAR)
            .map_err(Into::into)
            .and_then(|authority| Ok((authority, IssuingAuthority::new()?)))
            .map_err(StartError::Certificate),
    }
}

/// Binds a port, adds it to `listeners`, and returns its number.
async fn listen(
    listener: Listener,
    host: IpAddr,
    port: u16,
    listeners: &mut Vec<(BoundPort, Listener)>,
) -> Result<u16, StartError> {
    let bound = bind(host, port).await.map_err(|(address, error)| {
        let own = listeners.iter().find(|(other, _)| other.have(address));
        match own.filter(|_| error.kind() == ErrorKind::AddrInUse) {
            Some((_, first)) => StartError::SamePort { port, first: *first, second: listener },
            None => StartError::Bind { listener, address, error },
        }
    })?;
    let port = bound.port;
    listeners.push((bound, listener));
    Ok(port)
}

/// Logs warnings if other machines can reach the addresses.
fn warn_of_exposure(reach: &Reach, gate: &Gate) {
    let public_keys = [DEFAULT_PRIMARY_KEY, DEFAULT_SECONDARY_KEY].map(|key| key.as_slice());
    let public_policies = gate.policies_with(&public_keys);
    let exposure = Exposure {
        host: reach.host,
        public_policies,
        has_roles: !gate.roles.is_empty(),
        manage_host: reach.manage_port.map(|_| reach.manage_host),
    };
    for warning in exposure.warnings() {
        tracing::warn!("{warning}");
    }
}

const DEFAULT_HUBS: [&str; 2] = ["emulator-hub-1.azure-devices.net", "emulator-hub-2.azure-devices.net"];
