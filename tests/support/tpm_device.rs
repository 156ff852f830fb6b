//! A device with a TPM in software at an emulator's HTTPS port.

use std::sync::LazyLock;

use azure_dps_emulator::{Emulator, EmulatorBuilder, Entry};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::http_client::{HttpClient, Reply};
use crate::sas::{service_authorization, sign_as_written};
use crate::soft_tpm::SoftTpm;
use crate::{Shown, dev1, journal, trusting};

pub static TPM: LazyLock<SoftTpm> = LazyLock::new(SoftTpm::new);
pub static OTHER_TPM: LazyLock<SoftTpm> = LazyLock::new(SoftTpm::new);

/// The audience of the device's tokens.
pub const SCOPED: &str = "0ne00EMU1A7%2Fregistrations%2Fgw-7";

/// The device `gw-7`, and an emulator in which it is enrolled by TPM and `dev1` by symmetric key.
#[derive(Debug)]
pub struct TpmDevice {
    pub emulator: Shown,
    client: HttpClient,
}

impl TpmDevice {
    pub async fn start() -> Self {
        Self::with(seeded()).await
    }

    pub async fn with(builder: EmulatorBuilder) -> Self {
        let emulator = Shown(builder.start().await.unwrap());
        let client = HttpClient::new("localhost", emulator.https_port(), trusting(emulator.ca_pem()));
        Self { emulator, client }
    }

    /// Replaces the enrollment.
    pub async fn enroll(&self, tpm: &SoftTpm, members: Value) {
        self.enroll_as("2021-10-01", tpm, members).await;
    }

    /// The same with another api-version.
    pub async fn enroll_as(&self, api_version: &str, tpm: &SoftTpm, members: Value) {
        let mut record = enrollment(tpm);
        record.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let head = format!("{}If-Match: *\r\n", service_authorization());
        let target = format!("/enrollments/gw-7?api-version={api_version}");
        let answer = self.send("PUT", &target, &head, &record.to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    pub async fn present(&self, tpm: &SoftTpm) -> Reply {
        self.ask("PUT", "register", "", &body(&tpm.endorsement_key(), &tpm.storage_root_key())).await
    }

    /// The key of a new challenge.
    pub async fn challenged(&self, tpm: &SoftTpm) -> Vec<u8> {
        opened(tpm, &sealed(&self.present(tpm).await))
    }

    /// The registration state at the end.
    pub async fn register(&self, token: &str) -> Value {
        let head = authorization(token);
        let registered = self.ask("PUT", "register", &head, "").await;
        assert_eq!(registered.status, 202, "{}", registered.body);
        assert!(registered.body.get("registrationState").is_none());
        loop {
            let path = format!("operations/{}", registered.operation());
            let mut answer = self.ask("GET", &path, &head, "").await;
            if answer.status == 200 {
                return answer.body["registrationState"].take();
            }
            assert_eq!(answer.status, 202, "{}", answer.body);
        }
    }

    /// The key at the hub after a registration.
    pub async fn hub_key(&self, tpm: &SoftTpm) -> Vec<u8> {
        let key = self.challenged(tpm).await;
        let state = self.register(&token(&key, SCOPED)).await;
        opened(tpm, state["tpm"]["authenticationKey"].as_str().unwrap())
    }

    /// Asks for something below the path of the device.
    pub async fn ask(&self, method: &str, what: &str, head: &str, body: &str) -> Reply {
        let target = format!("/0ne00EMU1A7/registrations/gw-7/{what}?api-version=2019-03-31");
        self.send(method, &target, head, body).await
    }

    pub async fn send(&self, method: &str, target: &str, head: &str, body: &str) -> Reply {
        self.client.ask(method, target, &format!("Content-Type: application/json\r\n{head}"), body).await
    }

    pub fn last(&self) -> Entry {
        journal::last(&self.emulator)
    }

    pub fn cause(&self) -> String {
        self.last().cause.unwrap_or_default()
    }

    pub fn statuses(&self) -> Vec<u16> {
        self.emulator.journal().iter().map(|entry| entry.status).collect()
    }
}

/// The key in a challenge.
pub fn sealed(challenge: &Reply) -> String {
    assert_eq!(challenge.status, 401);
    challenge.body["authenticationKey"].as_str().unwrap().to_owned()
}

pub fn opened(tpm: &SoftTpm, sealed: &str) -> Vec<u8> {
    tpm.open(&BASE64.decode(sealed).unwrap()).unwrap()
}

/// A builder of an emulator in which `gw-7` is enrolled by TPM and `dev1` by symmetric key.
pub fn seeded() -> EmulatorBuilder {
    let enrollments = json!({"enrollments": [enrollment(&TPM), dev1::enrollment()]});
    Emulator::builder().polls(1).seed_json(enrollments.to_string())
}

fn enrollment(tpm: &SoftTpm) -> Value {
    let keys = json!({"endorsementKey": BASE64.encode(tpm.endorsement_key())});
    json!({"registrationId": "gw-7", "attestation": {"type": "tpm", "tpm": keys}})
}

/// The body of a register request that shows both keys.
pub fn body(endorsement: &[u8], root: &[u8]) -> String {
    let keys = json!({"endorsementKey": BASE64.encode(endorsement), "storageRootKey": BASE64.encode(root)});
    json!({"registrationId": "gw-7", "tpm": keys}).to_string()
}

pub fn authorization(token: &str) -> String {
    format!("Authorization: {token}\r\n")
}

/// A token whose audience is written as it is given.
pub fn token(key: &[u8], resource: &str) -> String {
    sign_as_written(&BASE64.encode(key), resource, "registration")
}
