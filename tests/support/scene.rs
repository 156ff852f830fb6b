//! What a recording was made in: an instance, and a device that is enrolled in it.

use azure_dps_emulator::{Emulator, EmulatorBuilder, KeyedCertificate, Pki};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::ClientConfig;
use serde_json::{Value, json};

use crate::emulated::PRIMARY;
use crate::http_client::HttpClient;
use crate::recorded::Node;
use crate::sas::{derive, sign};
use crate::tls::presenting;
use crate::{Shown, trusting};

/// The hub of the recordings of IoT Central, whose names of hubs are as long as this one.
pub const CENTRAL: &str = "iotc-00000000-0000-0000-0000-000000000000.azure-devices.net";
pub(crate) const JSON: &str = "Content-Type: application/json\r\n";

/// How the device of a recording is enrolled.
#[derive(Debug)]
pub enum How {
    Key,
    KeyGroup,
    X509,
    X509Group(&'static str),
    Webhook(String),
}

/// What a recording was made in.
#[derive(Debug)]
pub struct Scene {
    pub id_scope: &'static str,
    pub id: &'static str,
    pub hub: &'static str,
    pub how: How,
    /// For how many polls the service was assigning.
    pub polls: u32,
}

/// A scene with an emulator in it.
#[derive(Debug)]
pub struct Stage {
    pub emulator: Shown,
    pub pki: Pki,
    pub device: String,
    pub id: &'static str,
    pub token: Option<String>,
}

impl Scene {
    pub fn new(id_scope: &'static str, id: &'static str, hub: &'static str, how: How) -> Self {
        Scene { id_scope, id, hub, how, polls: 0 }
    }

    pub async fn stage(&self) -> Stage {
        let pki = Pki::new([self.id], 1).unwrap();
        let keys =
            json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": PRIMARY, "secondaryKey": PRIMARY}});
        let certificate = |of: &KeyedCertificate| json!({"primary": {"certificate": of.certificate_pem}});
        let single = |attestation: Value| json!({"enrollments": [{"registrationId": self.id, "attestation": attestation}]});
        let group = |id: &str, attestation: Value| json!({"enrollmentGroups": [{"enrollmentGroupId": id, "attestation": attestation}]});
        let device = format!("{}/registrations/{}", self.id_scope, self.id);
        let own = sign(PRIMARY, &device, "registration");
        let (seed, token) = match &self.how {
            How::Key => (single(keys), Some(own)),
            How::KeyGroup => {
                (group("group", keys), Some(sign(&derive(PRIMARY, self.id), &device, "registration")))
            }
            How::X509 => {
                let certificates = certificate(&pki.devices[0]);
                (single(json!({"type": "x509", "x509": {"clientCertificates": certificates}})), None)
            }
            How::X509Group(id) => {
                let certificates = certificate(&pki.root);
                (group(id, json!({"type": "x509", "x509": {"signingCertificates": certificates}})), None)
            }
            How::Webhook(url) => {
                let mut seed = single(keys);
                seed["enrollments"][0]["allocationPolicy"] = "custom".into();
                seed["enrollments"][0]["customAllocationDefinition"] =
                    json!({"webhookUrl": url, "apiVersion": "2021-10-01"});
                (seed, Some(own))
            }
        };
        let builder =
            Emulator::builder().hub(self.hub).id_scope(self.id_scope).retry_after(3).polls(self.polls);
        let builder: EmulatorBuilder = builder.seed_json(seed.to_string());
        Stage { emulator: Shown(builder.start().await.unwrap()), pki, device, id: self.id, token }
    }
}

impl Stage {
    pub fn certificate(&self) -> Option<&KeyedCertificate> {
        self.token.is_none().then(|| &self.pki.devices[0])
    }

    pub fn authorization(&self) -> String {
        self.token.as_ref().map(|token| format!("Authorization: {token}\r\n")).unwrap_or_default()
    }

    pub fn target(&self, path: &str) -> String {
        format!("/{}/{path}?api-version=2021-06-01", self.device)
    }

    /// A request of the device on a new connection.
    pub async fn ask_own(&self, method: &str, path: &str, body: &str) -> Node {
        let head = format!("{JSON}{}", self.authorization());
        let reply = self.https(self.certificate()).ask(method, &self.target(path), &head, body).await;
        Node::read(&reply.text)
    }

    /// The text of the answer to a request of a back end.
    pub async fn service(&self, method: &str, path: &str, body: &str) -> String {
        let key = BASE64_STANDARD.encode("this-emulator-key-protects-none!");
        let token = sign(&key, "localhost", "provisioningserviceowner");
        let head = format!("{JSON}Authorization: {token}\r\n");
        self.https(None).ask(method, &format!("{path}?api-version=2021-10-01"), &head, body).await.text
    }

    /// A client of the HTTPS port that presents this certificate.
    pub fn https(&self, certificate: Option<&KeyedCertificate>) -> HttpClient {
        HttpClient::new("localhost", self.emulator.https_port(), self.tls(certificate))
    }

    pub(crate) fn tls(&self, certificate: Option<&KeyedCertificate>) -> ClientConfig {
        let ca = self.emulator.ca_pem();
        certificate.map_or_else(|| trusting(ca), |certificate| presenting(ca, certificate))
    }
}
