//! A row of the matrix: an emulator, who talks to it, and the judgement of each case.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use azure_dps_core::{Endpoint, Error, ErrorKind, GroupKey, RetryPolicy};
use azure_dps_emulator::{Emulator, KeyedCertificate, Pki};
use azure_dps_service::ServiceClient;
use azure_dps_tests::plant::Protocol;
use azure_dps_tests::relay::{Fault, Harm, Layer, Relay};
use azure_dps_tests::tls::{asking_server, presenting};
use azure_dps_tests::units::Units;
use azure_dps_tests::{Shown, service_of, trusting};
use rustls::ServerConfig;

use crate::figures::Cell;
use crate::service::Call;
use crate::{device, service};

/// Who talks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Subject {
    Device { protocol: Protocol, x509: bool },
    Call(Call),
}

impl Subject {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Device { protocol, x509 } => {
                format!("{protocol:?}, {}", if x509 { "X.509" } else { "key" })
            }
            Self::Call(call) => format!("service: {call:?}"),
        }
    }

    fn units(self) -> Units {
        match self {
            Self::Device { protocol: Protocol::Mqtt, .. } => Units::Mqtt,
            Self::Device { protocol: Protocol::Amqp, .. } => Units::Amqp,
            Self::Device { protocol: Protocol::MqttWs | Protocol::AmqpWs, .. } => Units::WebSocket,
            Self::Device { protocol: Protocol::Https, .. } | Self::Call(_) => Units::Http,
        }
    }
}

/// An emulator with the enrollments of a row.
pub(crate) struct Row {
    pub(crate) subject: Subject,
    pub(crate) emulator: Shown,
    /// Reaches the emulator without a relay.
    pub(crate) service: ServiceClient,
    pub(crate) group_key: GroupKey,
    certificates: BTreeMap<String, KeyedCertificate>,
    /// The relay's side of TLS, if it ends TLS, and the authority that clients trust.
    server: Option<Arc<ServerConfig>>,
    ca_pem: String,
}

/// The end of a case.
pub(crate) struct Seen {
    pub(crate) result: Result<(), Error>,
    pub(crate) elapsed: Duration,
    /// A second call of the same client, on a network without faults.
    pub(crate) again: Result<(), Error>,
    pub(crate) hits: usize,
    pub(crate) most: [usize; 2],
}

impl Row {
    pub(crate) async fn start(subject: Subject, of_messages: bool, names: &[String]) -> Self {
        let emulator = Shown(Emulator::builder().polls(1).start().await.unwrap());
        let service = service_of(&emulator);
        let pki = Pki::new(names, 1).unwrap();
        let group_key = device::enroll(&service, &pki).await;
        let (server, ca_pem) = match of_messages {
            true => {
                let (config, ca_pem) = asking_server(&pki.root.certificate_pem);
                (Some(Arc::new(config)), ca_pem)
            }
            false => (None, emulator.ca_pem().to_owned()),
        };
        let certificates = pki.devices.into_iter().map(|of| (of.name.clone(), of)).collect();
        let row = Self { subject, emulator, service, group_key, certificates, server, ca_pem };
        if let Subject::Call(call) = subject {
            service::prepare(&row, call, names).await;
        }
        row
    }

    /// The certificate of a device, if the row is about certificates.
    pub(crate) fn certificate(&self, name: &str) -> Option<&KeyedCertificate> {
        let certificates = matches!(self.subject, Subject::Device { x509: true, .. });
        certificates.then(|| &self.certificates[name])
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
        Relay::start(port, layer, fault).await
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

    pub(crate) async fn run(&self, name: &str, fault: Option<Fault>) -> Seen {
        match self.subject {
            Subject::Device { protocol, .. } => device::run(self, protocol, name, fault).await,
            Subject::Call(call) => service::run(self, call, name, fault).await,
        }
    }

    /// Runs a case, again if it ended late, because a busy machine is late now and then.
    pub(crate) async fn judged(&self, name: &str, fault: Fault) -> Cell {
        let mut seen = self.run(name, Some(fault)).await;
        for _ in 1..TRIES {
            if seen.elapsed <= deadline(Some(fault)) + LATE {
                break;
            }
            seen = self.run(name, Some(fault)).await;
        }
        let wrong = wrong(fault, &seen).map(|wrong| format!("{name}: {wrong}"));
        let kind = seen.result.err().map(|error| error.kind());
        Cell { harm: fault.harm, every: fault.every, is_reached: seen.hits > 0, kind, wrong }
    }

    /// Names whose records are not as they must be.
    pub(crate) fn wrong_records(&self, names: &[String]) -> Option<String> {
        let (wanted, counts) = match self.subject {
            Subject::Device { .. } => (1, device::records(&self.emulator)),
            Subject::Call(call) => (usize::from(call != Call::Delete), service::records(&self.emulator)),
        };
        let mut wrong = names.iter().map(|name| (name, counts.get(name).copied().unwrap_or(0)));
        wrong.find(|(_, count)| *count != wanted).map(|(name, count)| format!("{name} has {count} records"))
    }
}

/// What is wrong with the end of a case.
fn wrong(fault: Fault, seen: &Seen) -> Option<String> {
    if let Err(error) = &seen.again {
        return Some(format!("the second call failed: {:?}: {error}", error.kind()));
    }
    if seen.elapsed > deadline(Some(fault)) + LATE {
        return Some(format!("ended after {:?}", seen.elapsed));
    }
    match &seen.result {
        Ok(()) => None,
        Err(error) if !ends(fault) && RIGHT.contains(&error.kind()) => None,
        Err(error) => Some(format!("{:?}: {error}", error.kind())),
    }
}

/// Whether the client gets past the fault.
fn ends(fault: Fault) -> bool {
    !fault.every || fault.harm == Harm::Delay
}

/// The deadline of a case: short where nothing but the deadline ends it.
pub(crate) fn deadline(fault: Option<Fault>) -> Duration {
    let stalls = |fault: &Fault| matches!(fault.harm, Harm::Stall | Harm::HalfThenStall) && fault.every;
    if fault.as_ref().is_some_and(stalls) { SHORT } else { PATIENT }
}

/// Enough retries for a busy machine where the case must succeed; few where the fault has no end.
pub(crate) fn retry(fault: Option<Fault>) -> RetryPolicy {
    let retries = if fault.is_none_or(ends) { 8 } else { 2 };
    RetryPolicy::new().with_retries(retries).with_first_pause(Duration::from_millis(1))
}

/// The kinds of errors that a broken network may cause.
const RIGHT: [ErrorKind; 3] = [ErrorKind::Connect, ErrorKind::Io, ErrorKind::Timeout];
/// The limit of one attempt to connect, and of one exchange.
const LIMIT: Duration = Duration::from_secs(1);
/// Twice as long as an attempt of the HTTPS client, which may take both limits: the second call may need two.
const SHORT: Duration = Duration::from_secs(4);
pub(crate) const PATIENT: Duration = Duration::from_secs(60);
/// How late a call may end.
const LATE: Duration = Duration::from_millis(500);
const TRIES: usize = 3;
