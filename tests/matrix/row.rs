//! A row of the matrix: an emulator, who talks to it, and the cases of both.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use azure_dps_core::{Endpoint, GroupKey};
use azure_dps_emulator::{Emulator, KeyedCertificate, Pki};
use azure_dps_service::ServiceClient;
use azure_dps_tests::plant::Protocol;
use azure_dps_tests::relay::{Fault, Layer, Relay};
use azure_dps_tests::tls::{asking_server, presenting};
use azure_dps_tests::{Shown, service_of, trusting, units};
use rustls::ServerConfig;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::case::{Case, LIMIT, Seen, Units};
use crate::figures::{Cell, Figure};
use crate::selection::Selection;
use crate::service::Call;
use crate::{device, service};

/// Who talks, and whether records or messages are harmed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Title {
    pub(crate) subject: Subject,
    pub(crate) of_messages: bool,
}

/// Who talks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Subject {
    Device { protocol: Protocol, x509: bool },
    Call(Call),
}

impl fmt::Display for Title {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.subject {
            Subject::Device { protocol, x509: false } => write!(f, "{}, key", protocol.name())?,
            Subject::Device { protocol, x509: true } => write!(f, "{}, X.509", protocol.name())?,
            Subject::Call(call) => write!(f, "service, {call:?}")?,
        }
        f.write_str(if self.of_messages { ", messages" } else { ", TLS records" })
    }
}

impl Subject {
    fn units(self) -> units::Units {
        match self {
            Self::Device { protocol: Protocol::Mqtt, .. } => units::Units::Mqtt,
            Self::Device { protocol: Protocol::Amqp, .. } => units::Units::Amqp,
            Self::Device { protocol: Protocol::MqttWs | Protocol::AmqpWs, .. } => units::Units::WebSocket,
            Self::Device { protocol: Protocol::Https, .. } | Self::Call(_) => units::Units::Http,
        }
    }
}

/// Finds the units of a row, and runs the selected cases.
pub(crate) async fn run(title: Title, selection: &Selection, turns: Arc<Semaphore>) -> Figure {
    let units = units_of(title, &turns).await;
    let cases: Vec<_> = units.cases().filter(|case| selection.has_case(case)).collect();
    let names: Vec<_> = cases.iter().map(Case::name).collect();
    let row = Arc::new(Row::start(title, &names, turns).await);
    let mut running = JoinSet::new();
    for case in cases {
        let row = Arc::clone(&row);
        running.spawn(async move {
            let cell = row.judged(&case).await;
            say_wrong(title, &case, &cell);
            (case, cell)
        });
    }
    let mut ended = running.join_all().await;
    let records = row.records();
    for (case, cell) in &mut ended {
        let count = records.get(&case.name()).copied().unwrap_or(0);
        if cell.wrong.is_none() && count != row.wanted_records() {
            cell.wrong = Some(format!("{count} records are left"));
            say_wrong(title, case, cell);
        }
    }
    let cells = ended.into_iter().map(|(_, cell)| cell).collect();
    Figure { title, units, cells, reruns: row.reruns.load(Relaxed) }
}

#[allow(clippy::print_stdout)] // The step shows it.
fn say_wrong(title: Title, case: &Case, cell: &Cell) {
    if let Some(wrong) = &cell.wrong {
        let (name, alone) = (case.name(), Selection::of(title, case));
        println!("      wrong: {title}: {name}: {wrong}\n        {alone} cargo xtask test --only matrix");
    }
}

/// Runs the subject without a fault.
async fn units_of(title: Title, turns: &Arc<Semaphore>) -> Units {
    let names: Vec<_> = (0..PROBES).map(|number| format!("probe-{number}")).collect();
    let row = Row::start(title, &names, Arc::clone(turns)).await;
    let mut units = Units { least: [usize::MAX; 2], most: [0; 2] };
    for name in &names {
        let seen = row.run(name, None).await;
        seen.result.and(seen.again).unwrap_or_else(|error| panic!("{title} without a fault: {error}"));
        for side in [0, 1] {
            units.least[side] = units.least[side].min(seen.most[side]);
            units.most[side] = units.most[side].max(seen.most[side]);
        }
    }
    units
}

/// An emulator with the enrollments of a row.
pub(crate) struct Row {
    subject: Subject,
    pub(crate) emulator: Shown,
    /// Reaches the emulator without a relay.
    pub(crate) service: ServiceClient,
    pub(crate) group_key: GroupKey,
    certificates: BTreeMap<String, KeyedCertificate>,
    /// The relay's side of TLS, if it ends TLS, and the authority that clients trust.
    server: Option<Arc<ServerConfig>>,
    ca_pem: String,
    /// The turns of the cases that work.
    turns: Arc<Semaphore>,
    /// How often a case ran again.
    reruns: AtomicUsize,
}

impl Row {
    async fn start(title: Title, names: &[String], turns: Arc<Semaphore>) -> Self {
        let emulator = Shown(Emulator::builder().polls(1).start().await.unwrap());
        let service = service_of(&emulator);
        let has_certificates = matches!(title.subject, Subject::Device { x509: true, .. });
        let certified = if has_certificates { names.to_vec() } else { Vec::new() };
        let pki = tokio::task::spawn_blocking(|| Pki::new(certified, 1).unwrap()).await.unwrap();
        let group_key = device::enroll(&service, &pki).await;
        let (server, ca_pem) = match title.of_messages {
            true => {
                let (config, ca_pem) = asking_server(&pki.root.certificate_pem);
                (Some(Arc::new(config)), ca_pem)
            }
            false => (None, emulator.ca_pem().to_owned()),
        };
        let certificates = pki.devices.into_iter().map(|of| (of.name.clone(), of)).collect();
        let (subject, reruns) = (title.subject, AtomicUsize::new(0));
        let row = Self { subject, emulator, service, group_key, certificates, server, ca_pem, turns, reruns };
        if let Subject::Call(call) = subject {
            service::prepare(&row, call, names).await;
        }
        row
    }

    pub(crate) fn certificate(&self, name: &str) -> Option<&KeyedCertificate> {
        self.certificates.get(name)
    }

    pub(crate) async fn relay(&self, port: u16, name: &str, fault: Option<Fault>) -> Relay {
        let layer = match &self.server {
            None => Layer::Records,
            Some(server) => {
                let client = match self.certificate(name) {
                    Some(certificate) => presenting(self.emulator.ca_pem(), certificate),
                    None => trusting(self.emulator.ca_pem()),
                };
                let server = Arc::clone(server);
                Layer::Messages { units: self.subject.units(), server, client: Arc::new(client) }
            }
        };
        let turn = Arc::clone(&self.turns).acquire_owned().await.unwrap();
        Relay::start(port, layer, fault, turn).await
    }

    /// The endpoint of a relay.
    pub(crate) fn endpoint(&self, relay: &Relay) -> Endpoint {
        Endpoint::new(self.emulator.host())
            .unwrap()
            .with_port(relay.port())
            .trust_only(&self.ca_pem)
            .unwrap()
            .with_connect_timeout(LIMIT)
            .with_exchange_timeout(LIMIT)
    }

    async fn run(&self, name: &str, fault: Option<Fault>) -> Seen {
        match self.subject {
            Subject::Device { protocol, .. } => device::run(self, protocol, name, fault).await,
            Subject::Call(call) => service::run(self, call, name, fault).await,
        }
    }

    /// Runs a case, and again as long as a busy machine may be the cause of its end.
    async fn judged(&self, case: &Case) -> Cell {
        let name = case.name();
        let mut seen = self.run(&name, Some(case.fault)).await;
        for _ in 1..TRIES {
            if !case.is_doubtful(&seen) {
                break;
            }
            self.reruns.fetch_add(1, Relaxed);
            if let Subject::Call(call) = self.subject {
                service::restore(self, call, &name).await;
            }
            seen = self.run(&name, Some(case.fault)).await;
        }
        let wrong = case.wrong(&seen);
        let kind = seen.result.err().map(|error| error.kind());
        let Fault { harm, every, .. } = case.fault;
        Cell { harm, every, is_reached: seen.hits > 0, kind, wrong }
    }

    /// How many records each name has.
    fn records(&self) -> BTreeMap<String, usize> {
        match self.subject {
            Subject::Device { .. } => device::records(&self.emulator),
            Subject::Call(_) => service::records(&self.emulator),
        }
    }

    /// How many records a case leaves.
    fn wanted_records(&self) -> usize {
        usize::from(!matches!(self.subject, Subject::Call(Call::Delete)))
    }
}

/// The last messages of a goodbye are not always sent, and a record holds more or fewer of them. So many runs
/// show the range.
const PROBES: usize = 12;
const TRIES: usize = 3;
