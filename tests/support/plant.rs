//! An emulator with one transport of the SDK, which all devices of a test share.

use std::sync::Arc;

use azure_dps_core::models::{
    ApiVersion, AttestationMechanism, EnrollmentGroup, IndividualEnrollment, X509Certificates,
};
use azure_dps_core::{Endpoint, GroupKey, Identity, Proxy, Result, Sensitive, SharedKey};
use azure_dps_device::transport::Transport;
use azure_dps_device::{Amqp, Assignment, Credential, DeviceClient, Https, Mqtt};
use azure_dps_emulator::{Emulator, EmulatorBuilder, KeyedCertificate};
use azure_dps_service::ServiceClient;

use crate::{OpenProxy, Shown, device, endpoint_of, evidence, service_as, service_of};

const SDK: &str = concat!("azure-dps-device ", env!("CARGO_PKG_VERSION"));

/// What a scenario runs over.
#[derive(Clone, Copy, Debug)]
pub struct Over {
    pub protocol: Protocol,
    pub proxied: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Https,
    Mqtt,
    MqttWs,
    Amqp,
    AmqpWs,
}

impl Protocol {
    /// The emulator's port for this protocol.
    pub fn port(self, emulator: &Emulator) -> u16 {
        match self {
            Self::Mqtt => emulator.mqtt_port(),
            Self::Amqp => emulator.amqp_port(),
            Self::Https | Self::MqttWs | Self::AmqpWs => emulator.https_port(),
        }
    }

    /// The name of the SDK's transport.
    pub fn name(self) -> &'static str {
        match self {
            Self::Https => "HTTPS",
            Self::Mqtt => "MQTT",
            Self::MqttWs => "MQTT-WS",
            Self::Amqp => "AMQP",
            Self::AmqpWs => "AMQP-WS",
        }
    }

    /// The SDK's transport to an endpoint that has its port.
    pub fn transport(self, endpoint: Endpoint) -> Arc<dyn Transport> {
        match self {
            Self::Https => Arc::new(Https::new(endpoint)),
            Self::Mqtt => Arc::new(Mqtt::new(endpoint)),
            Self::MqttWs => Arc::new(Mqtt::new(endpoint).with_websocket()),
            Self::Amqp => Arc::new(Amqp::new(endpoint)),
            Self::AmqpWs => Arc::new(Amqp::new(endpoint).with_websocket()),
        }
    }
}

impl Over {
    pub const HTTPS: Self = Self::directly(Protocol::Https);
    pub const MQTT: Self = Self::directly(Protocol::Mqtt);

    pub const fn directly(protocol: Protocol) -> Self {
        Self { protocol, proxied: false }
    }

    pub const fn by_proxy(protocol: Protocol) -> Self {
        Self { protocol, proxied: true }
    }
}

/// An emulator, the back end's client and one transport, which all devices of a test share.
#[derive(Debug)]
pub struct Plant {
    pub emulator: Shown,
    pub service: ServiceClient,
    pub transport: Arc<dyn Transport>,
    /// Ends with the test.
    _proxy: Option<OpenProxy>,
}

impl Plant {
    pub async fn start(over: Over) -> Self {
        Self::with(over, Emulator::builder()).await
    }

    pub async fn with(over: Over, builder: EmulatorBuilder) -> Self {
        let emulator = Shown(builder.start().await.unwrap());
        let service = service_of(&emulator);
        let proxy = if over.proxied { Some(OpenProxy::start().await) } else { None };
        let endpoint = match &proxy {
            Some(proxy) => endpoint_of(&emulator).with_proxy(Proxy::new(&proxy.url()).unwrap()),
            None => endpoint_of(&emulator),
        };
        let transport = over.protocol.transport(endpoint.with_port(over.protocol.port(&emulator)));
        Self { emulator, service, transport, _proxy: proxy }
    }

    /// Another client of the back end, of this api-version.
    pub fn service_as(&self, version: ApiVersion) -> ServiceClient {
        service_as(&self.emulator, version)
    }

    pub fn device(&self, credential: Credential) -> DeviceClient {
        device(self.emulator.id_scope(), credential, Arc::clone(&self.transport))
    }

    /// Enrolls one device and gives its keys.
    pub async fn enroll(&self, id: &str) -> (SharedKey, SharedKey) {
        let enrollment = IndividualEnrollment::new(id, AttestationMechanism::symmetric_key_generated());
        let created = self.service.enrollments().create_or_update(&enrollment).await.unwrap();
        keys(&created.attestation)
    }

    /// Makes a group and gives its primary key.
    pub async fn group(&self, id: &str) -> GroupKey {
        let group = EnrollmentGroup::new(id, AttestationMechanism::symmetric_key_generated());
        let created = self.service.enrollment_groups().create_or_update(&group).await.unwrap();
        keys(&created.attestation).0.to_base64().parse().unwrap()
    }

    /// Enrolls one device by its certificates.
    pub async fn enroll_certificate(&self, id: &str, certificates: impl Into<X509Certificates>) {
        let record = IndividualEnrollment::new(id, AttestationMechanism::x509_client(certificates));
        self.service.enrollments().create_or_update(&record).await.unwrap();
    }

    /// Makes a group of devices whose certificates these issued.
    pub async fn group_of(&self, id: &str, certificates: impl Into<X509Certificates>) {
        let record = EnrollmentGroup::new(id, AttestationMechanism::x509_signing(certificates));
        self.service.enrollment_groups().create_or_update(&record).await.unwrap();
    }

    /// Registers a device with its certificate.
    pub async fn register_with(&self, of: &KeyedCertificate) -> Result<Assignment> {
        self.device(certified(of)).register().await
    }

    /// Notes that a device of this kind registered.
    pub fn proved(&self, attestation: &str, assignment: &Assignment) {
        evidence::registered(SDK, assignment.summary().unwrap().transport, attestation);
    }

    /// The real cause of the last refusal.
    pub fn cause(&self) -> String {
        self.emulator.journal().into_iter().rev().find_map(|entry| entry.cause).unwrap()
    }
}

impl Drop for Plant {
    fn drop(&mut self) {
        evidence::service_calls(concat!("azure-dps-service ", env!("CARGO_PKG_VERSION")), &self.emulator);
    }
}

pub fn keys(attestation: &AttestationMechanism) -> (SharedKey, SharedKey) {
    let keys = attestation.as_symmetric_key().unwrap();
    let parse = |key: &Option<Sensitive<String>>| key.as_deref().unwrap().parse().unwrap();
    (parse(&keys.primary_key), parse(&keys.secondary_key))
}

pub fn key(id: &str, key: &SharedKey) -> Credential {
    Credential::symmetric_key(id.parse().unwrap(), key.clone())
}

/// A credential of this certificate.
pub fn certified(of: &KeyedCertificate) -> Credential {
    Credential::x509(Identity::from_pem(&of.chain_pem, &of.private_key_pem).unwrap()).unwrap()
}
