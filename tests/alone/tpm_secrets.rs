//! No secret of a TPM in any log line at any level, in any `Debug`, `Display` or error, while a device registers.
//!
//! One test, because the log is the process's; see `secrets.rs` for credentials of the other kinds.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::unwrap_used)] // Test code.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use azure_dps_core::models::{AttestationMechanism, IndividualEnrollment};
use azure_dps_core::{Error, Result};
use azure_dps_device::{Amqp, Credential, Https, HubAccess, Slot, Tpm, TpmKeys, TssTpm};
use azure_dps_emulator::Emulator;
use azure_dps_tests::log::Lines;
use azure_dps_tests::swtpm::{builder, open, swtpm};
use azure_dps_tests::{device, endpoint_of, service_of};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;

/// A TPM that remembers what went in and out.
struct Witness {
    tpm: TssTpm,
    seen: Mutex<Vec<Vec<u8>>>,
}

impl Tpm for Witness {
    fn public_keys(&self) -> Result<TpmKeys> {
        self.tpm.public_keys()
    }

    fn import(&self, blob: &[u8], slot: Slot) -> Result<()> {
        self.seen.lock().unwrap().push(blob.to_vec());
        self.tpm.import(blob, slot)
    }

    fn sign(&self, slot: Slot, message: &[u8]) -> Result<Vec<u8>> {
        let signature = self.tpm.sign(slot, message)?;
        self.seen.lock().unwrap().push(signature.clone());
        Ok(signature)
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tpm.fmt(f)
    }
}

#[tokio::test]
async fn no_secret_of_a_tpm_is_ever_printed() {
    let lines = Lines::capture();
    let (chip, other) = (swtpm(), swtpm());
    let emulator = Emulator::start().await.unwrap();

    let builder = builder(&chip).owner_password(PASSWORD).endorsement_password(PASSWORD);
    let mut printed = format!("{builder:?}");
    // Both passwords are wrong on a blank TPM.
    shown(&mut printed, &builder.open().unwrap().public_keys().unwrap_err());
    let tpm = Arc::new(Witness { tpm: open(&chip), seen: Mutex::default() });
    let keys = tpm.public_keys().unwrap();
    let credential = Credential::from_tpm(tpm.clone()).unwrap();
    let id = credential.registration_id().as_str();
    let attestation = AttestationMechanism::tpm(keys.endorsement_key_base64());
    let enrollment = IndividualEnrollment::new(id, attestation);
    printed += &format!("{keys:?} {tpm:?} {credential:?} {enrollment:?}");
    service_of(&emulator).enrollments().create_or_update(&enrollment).await.unwrap();

    let https = device(emulator.id_scope(), credential.clone(), Https::new(endpoint_of(&emulator)));
    let assignment = https.register().await.unwrap();
    let access = HubAccess::new(credential.clone(), &assignment).unwrap();
    let sign_in = access.sign_in(Duration::from_secs(60), SystemTime::now().into()).unwrap();
    let stored = serde_json::to_string(&assignment).unwrap();
    printed += &format!("{https:?} {assignment:?} {access:?} {sign_in:?} {stored}");
    let amqp = Amqp::new(endpoint_of(&emulator).with_port(emulator.amqp_port()));
    device(emulator.id_scope(), credential.clone(), amqp).register().await.unwrap();
    let blobs = tpm.seen.lock().unwrap().clone();
    for blob in &blobs {
        shown(&mut printed, &open(&other).import(blob, Slot::Challenge).unwrap_err());
    }
    let stranger = Credential::tpm(id.parse().unwrap(), Arc::new(open(&other)));
    let refused = device(emulator.id_scope(), stranger, Https::new(endpoint_of(&emulator))).register().await;
    shown(&mut printed, &refused.unwrap_err());
    printed += &format!("{emulator:?} {:?}", emulator.journal());

    let log = lines.text();
    for expected in ["dps_device", "azure_dps_emulator", "tss_esapi", "TRACE"] {
        assert!(log.contains(expected), "the log does not hold what it should: {expected}");
    }
    printed += &log;
    let hub_key = BASE64_STANDARD_NO_PAD.decode(emulator.hub_key(id).unwrap().trim_end_matches('=')).unwrap();
    let secrets = blobs.into_iter().chain([keys.endorsement_key, keys.storage_root_key, hub_key]);
    for (number, secret) in secrets.enumerate() {
        // Keys begin like all others of their kind.
        let end = &secret[secret.len() - 24..];
        for text in forms(end) {
            assert!(!printed.contains(&text), "secret {number} shows as {text}");
        }
    }
    assert!(!printed.contains(PASSWORD) && !printed.contains("sig="));
}

/// How these bytes may look in a text: in base64, wherever they begin in it, in hexadecimal, and as numbers.
fn forms(bytes: &[u8]) -> Vec<String> {
    let base64 = (0..3).map(|skip| BASE64_STANDARD_NO_PAD.encode(&bytes[skip..skip + 21]));
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let numbers = format!("{bytes:?}");
    let upper = hex.to_uppercase();
    base64.chain([hex, upper, numbers.trim_matches(['[', ']']).to_owned()]).collect()
}

fn shown(printed: &mut String, error: &Error) {
    *printed += &format!("{error} {error:?} {error:#?} {}", error.help());
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        *printed += &format!("{error} {error:?} {error:#?}");
        cause = error.source();
    }
}

const PASSWORD: &str = "password-must-not-be-seen";
