//! The load: registrations over every transport with keys and certificates, and service calls.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use azure_dps_core::models::{
    AttestationMechanism, EnrollmentGroup, IndividualEnrollment, ProvisioningStatus, SymmetricKeyAttestation,
    X509CertificateWithInfo,
};
use azure_dps_core::{ConnectionString, Endpoint, ErrorKind, GroupKey, IdScope, Identity};
use azure_dps_device::transport::Transport as Way;
use azure_dps_device::{Amqp, Credential, DeviceClient, Https, Mqtt, RegistrationPolicy};
use azure_dps_emulator::Pki;
use azure_dps_service::ServiceClient;
use futures_util::TryStreamExt as _;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::cutter;
use crate::Outcome;
use crate::emulator::{GROUP_KEY, Server};
use crate::job::{Ports, Transport};

/// What all lanes share.
pub(super) struct World {
    id_scope: IdScope,
    /// Trusts the emulator; without a port.
    endpoint: Endpoint,
    ports: Ports,
    /// Relays to the ports, which cut connections.
    cut: Ports,
    service: ServiceClient,
    group_key: GroupKey,
    pki: Pki,
    /// The same names below a root that is not enrolled.
    strangers: Pki,
    counts: Mutex<BTreeMap<&'static str, u64>>,
}

impl World {
    /// Enrolls what the lanes need.
    pub(super) async fn prepare(server: &Server) -> Outcome<Self> {
        let endpoint = Endpoint::new("localhost")?.without_proxy().trust_only(fs::read(&server.ca)?)?;
        let connection: ConnectionString = server.connection_string.parse()?;
        let to_service = endpoint.clone().with_port(server.ports.https);
        let service = ServiceClient::builder(to_service, (&connection).into()).build()?;

        let names = || lanes().map(|(transport, x509, lane)| id(transport, x509, lane));
        let (pki, strangers) = (Pki::new(names(), 1)?, Pki::new(names(), 1)?);
        let root = X509CertificateWithInfo::from_pem(&pki.root.certificate_pem)?;
        let group = EnrollmentGroup::new("soak", AttestationMechanism::x509_signing(root));
        service.enrollment_groups().create_or_update(&group).await?;
        for certificate in &pki.devices {
            let mut disabled = IndividualEnrollment::new(disabled(&certificate.name), keys());
            disabled.provisioning_status = Some(ProvisioningStatus::Disabled);
            service.enrollments().create_or_update(&disabled).await?;
        }

        let cut = Ports {
            https: cutter::start(server.ports.https).await?,
            mqtt: cutter::start(server.ports.mqtt).await?,
            amqp: cutter::start(server.ports.amqp).await?,
        };
        let (id_scope, group_key) = (server.id_scope.parse()?, GROUP_KEY.parse()?);
        let (ports, counts) = (server.ports, Mutex::default());
        Ok(Self { id_scope, endpoint, ports, cut, service, group_key, pki, strangers, counts })
    }

    /// How often each outcome was seen.
    pub(super) fn counts(&self) -> Vec<[String; 2]> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(outcome, count)| [(*outcome).to_owned(), count.to_string()]).collect()
    }

    fn count(&self, outcome: &'static str) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(outcome).or_insert(0) += 1;
    }

    fn way(&self, transport: Transport, ports: Ports) -> Arc<dyn Way> {
        let to = |port| self.endpoint.clone().with_port(port).with_exchange_timeout(Duration::from_secs(10));
        match transport {
            Transport::Https => Arc::new(Https::new(to(ports.https))),
            Transport::Mqtt => Arc::new(Mqtt::new(to(ports.mqtt))),
            Transport::MqttWs => Arc::new(Mqtt::new(to(ports.https)).with_websocket()),
            Transport::Amqp => Arc::new(Amqp::new(to(ports.amqp))),
            Transport::AmqpWs => Arc::new(Amqp::new(to(ports.https)).with_websocket()),
        }
    }
}

/// Starts two lanes for each transport and kind of credential, and one of the service.
pub(super) fn start(world: &Arc<World>, end: Instant, running: &mut JoinSet<Outcome<()>>) {
    for (transport, x509, lane) in lanes() {
        running.spawn(devices(Arc::clone(world), transport, id(transport, x509, lane), x509, end));
    }
    running.spawn(calls(Arc::clone(world), end));
}

fn lanes() -> impl Iterator<Item = (Transport, bool, u32)> {
    let kinds = [(false, 0), (false, 1), (true, 0), (true, 1)];
    Transport::ALL.into_iter().flat_map(move |of| kinds.map(|(x509, lane)| (of, x509, lane)))
}

async fn devices(
    world: Arc<World>,
    transport: Transport,
    id: String,
    x509: bool,
    end: Instant,
) -> Outcome<()> {
    let (direct, cut) = (world.way(transport, world.ports), world.way(transport, world.cut));
    let of = |pki: &Pki| -> Outcome<Credential> {
        let certificate = pki.devices.iter().find(|of| of.name == id).ok_or("no certificate")?;
        Ok(Credential::x509(Identity::from_pem(&certificate.chain_pem, &certificate.private_key_pem)?)?)
    };
    let (valid, wrong) = match x509 {
        true => (of(&world.pki)?, of(&world.strangers)?),
        false => (
            Credential::from_group(&world.group_key, id.parse()?),
            Credential::symmetric_key(id.parse()?, WRONG_KEY.parse()?),
        ),
    };
    let disabled = Credential::symmetric_key(disabled(&id).parse()?, GROUP_KEY.parse()?);
    let client = |credential: &Credential, way: &Arc<dyn Way>| {
        let policy = RegistrationPolicy::new().with_min_poll_interval(Duration::from_millis(10));
        DeviceClient::new(world.id_scope.clone(), credential.clone(), Arc::clone(way)).with_policy(policy)
    };
    for round in 0.. {
        if Instant::now() >= end {
            break;
        }
        client(&valid, &direct).register().await.map_err(|error| format!("{id}: {error:?}"))?;
        world.count("registered");

        for (credential, outcome) in [(&wrong, "refused: wrong credential"), (&disabled, "refused: disabled")]
        {
            let ended = client(credential, &direct).register().await;
            expect(&id, ended.map(drop), &[ErrorKind::Unauthorized, ErrorKind::Registration])?;
            world.count(outcome);
        }

        let on_cut_connections = client(&valid, &cut).register().timeout(Duration::from_secs(2)).await;
        match on_cut_connections {
            Ok(_) => world.count("connections cut: registered"),
            ended => {
                let kinds = [ErrorKind::Connect, ErrorKind::Io, ErrorKind::Timeout];
                expect(&id, ended.map(drop), &kinds)?;
                world.count("connections cut: failed");
            }
        }

        let dropped = timeout(Duration::from_millis(round % 40), client(&valid, &direct).register()).await;
        world.count(if dropped.is_err() { "dropped" } else { "registered before the drop" });
        sleep(PAUSE).await;
    }
    Ok(())
}

/// An error must have one of these kinds.
fn expect(id: &str, ended: azure_dps_core::Result<()>, kinds: &[ErrorKind]) -> Outcome<()> {
    match ended {
        Err(error) if kinds.contains(&error.kind()) => Ok(()),
        other => Err(format!("{id}: {other:?}, but expected one of {kinds:?}").into()),
    }
}

async fn calls(world: Arc<World>, end: Instant) -> Outcome<()> {
    let collection = world.service.enrollments();
    while Instant::now() < end {
        collection.create_or_update(&IndividualEnrollment::new("edited", keys())).await?;
        collection.update("edited", |record| record.device_id = Some("device".to_owned())).await?;
        collection.get("edited").await?;
        let listed: Vec<IndividualEnrollment> = collection.list().try_collect().await?;
        let there = world.pki.devices.len() + 1;
        if listed.len() != there {
            return Err(format!("{} enrollments are listed, but there are {there}", listed.len()).into());
        }
        collection.delete("edited").await?;
        match collection.get("edited").await {
            Err(error) if error.is_not_found() => world.count("rounds of service calls"),
            other => return Err(format!("a deleted enrollment: {other:?}").into()),
        }
        sleep(PAUSE).await;
    }
    Ok(())
}

fn id(transport: Transport, x509: bool, lane: u32) -> String {
    let kind = if x509 { "x509" } else { "key" };
    format!("soak-{}-{kind}-{lane}", transport.name().to_lowercase())
}

/// The id of a disabled enrollment for one lane: a second device with the same id would end its MQTT session.
fn disabled(id: &str) -> String {
    format!("{id}-disabled")
}

fn keys() -> AttestationMechanism {
    AttestationMechanism::symmetric_key(SymmetricKeyAttestation::new(GROUP_KEY, GROUP_KEY))
}

const WRONG_KEY: &str = "d3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmch";
const PAUSE: Duration = Duration::from_millis(20);
