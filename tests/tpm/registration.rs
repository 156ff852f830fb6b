//! A device with a TPM against the emulator, whose challenges only that TPM can answer.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use azure_dps_core::models::{AttestationMechanism, IndividualEnrollment};
use azure_dps_core::{ErrorKind, RegistrationId};
use azure_dps_device::transport::Transport;
use azure_dps_device::{Amqp, Assignment, Auto, Credential, Https, HubAccess, Mqtt, Slot, Tpm, TssTpm};
use azure_dps_emulator::Emulator;
use azure_dps_tests::hub_access::{sign_in, ways};
use azure_dps_tests::swtpm::{open, swtpm};
use azure_dps_tests::{CLOSED_PORT, Shown, device, endpoint_of, evidence, finishes_within, service_of};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::percent_decode_str;
use sha2::Sha256;

use super::tools::{MESSAGE, Tools};

#[derive(Clone, Copy, Debug)]
enum Over {
    Https,
    Amqp,
    AmqpWs,
}

impl Over {
    fn transport(self, emulator: &Emulator) -> Arc<dyn Transport> {
        let endpoint = endpoint_of(emulator);
        match self {
            Self::Https => Arc::new(Https::new(endpoint)),
            Self::Amqp => Arc::new(Amqp::new(endpoint.with_port(emulator.amqp_port()))),
            Self::AmqpWs => Arc::new(Amqp::new(endpoint).with_websocket()),
        }
    }
}

const EVERY: [Over; 3] = [Over::Https, Over::Amqp, Over::AmqpWs];

#[tokio::test]
async fn the_enrolled_tpm_registers_and_signs_for_its_hub() {
    for over in EVERY {
        let chip = swtpm();
        let tpm = Arc::new(open(&chip));
        let (emulator, id) = enrolled(&tpm).await;

        let credential = Credential::from_tpm(tpm.clone()).unwrap();
        assert_eq!(credential.registration_id(), &id);
        let client = device(emulator.id_scope(), credential, over.transport(&emulator));
        let assignment = client.register().await.unwrap();

        let of_now = password(client.credential().clone(), &assignment);
        assert!(signed_with(&of_now, &hub_key(&emulator, &id)), "{over:?}");
        // In another program, which has the stored assignment and the TPM, and does not register.
        let stored = serde_json::to_string(&assignment).unwrap();
        let read = serde_json::from_str(&stored).unwrap();
        let credential = Credential::tpm(id.clone(), Arc::new(open(&chip)));
        let of_later = password(credential.clone(), &read);
        assert!(signed_with(&of_later, &hub_key(&emulator, &id)), "{over:?}");
        for access in ways(&emulator, &HubAccess::new(credential, &read).unwrap()) {
            assert_eq!(sign_in(&access).await, 0, "{over:?}");
        }
        assert_eq!(Tools::on(&chip).held(), [0, 0, 3], "{over:?}");
        let client = concat!("azure-dps-device ", env!("CARGO_PKG_VERSION"));
        evidence::registered(client, assignment.summary().unwrap().transport, "TPM, individual");
    }
}

#[tokio::test]
async fn another_tpm_under_the_same_registration_id_is_refused() {
    let (chip, other) = (swtpm(), swtpm());
    let (tpm, other) = (Arc::new(open(&chip)), Arc::new(open(&other)));
    let (emulator, id) = enrolled(&tpm).await;
    for over in EVERY {
        let credential = Credential::tpm(id.clone(), other.clone());
        let error = device(emulator.id_scope(), credential, over.transport(&emulator)).register().await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{over:?}: {error}");
        assert!(error.help().contains("compare the EK of this TPM"), "{over:?}: {}", error.help());
        assert!(emulator.hub_key(id.as_str()).is_none(), "{over:?}");
    }
}

/// It shows the keys of the enrolled one, and then cannot use what was sealed for them.
#[derive(Debug)]
struct Impostor {
    shown: Arc<TssTpm>,
    own: TssTpm,
}

impl Tpm for Impostor {
    fn public_keys(&self) -> azure_dps_core::Result<azure_dps_device::TpmKeys> {
        self.shown.public_keys()
    }

    fn import(&self, blob: &[u8], slot: Slot) -> azure_dps_core::Result<()> {
        self.own.import(blob, slot)
    }

    fn sign(&self, slot: Slot, message: &[u8]) -> azure_dps_core::Result<Vec<u8>> {
        self.own.sign(slot, message)
    }
}

#[tokio::test]
async fn knowing_the_public_keys_of_another_tpm_is_of_no_use() {
    let (chip, other) = (swtpm(), swtpm());
    let shown = Arc::new(open(&chip));
    let (emulator, id) = enrolled(&shown).await;
    let impostor = Arc::new(Impostor { shown, own: open(&other) });
    for over in EVERY {
        let credential = Credential::tpm(id.clone(), impostor.clone());
        let error = device(emulator.id_scope(), credential, over.transport(&emulator)).register().await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Credential, "{over:?}: {error}");
        assert!(error.to_string().contains("is not for this TPM"), "{over:?}: {error}");
    }
}

#[tokio::test]
async fn mqtt_takes_no_tpm_and_opens_nothing() {
    let chip = swtpm();
    let credential = Credential::from_tpm(Arc::new(open(&chip))).unwrap();
    // Nothing listens there, and a TPM that is gone cannot be asked either.
    drop(chip);
    let endpoint = azure_dps_core::Endpoint::new("localhost").unwrap().with_port(CLOSED_PORT);
    for mqtt in [Mqtt::new(endpoint.clone()), Mqtt::new(endpoint).with_websocket()] {
        let error = device("0ne00ABCDEF", credential.clone(), mqtt).register().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
}

#[tokio::test]
async fn auto_passes_over_what_takes_no_tpm() {
    let chip = swtpm();
    let tpm = Arc::new(open(&chip));
    let (emulator, _) = enrolled(&tpm).await;
    let mqtt = Mqtt::new(endpoint_of(&emulator).with_port(emulator.mqtt_port()));
    let auto = Auto::of([Arc::new(mqtt) as Arc<dyn Transport>, Over::Amqp.transport(&emulator)]).unwrap();
    let client = device(emulator.id_scope(), Credential::from_tpm(tpm).unwrap(), auto);
    assert_eq!(client.register().await.unwrap().summary().unwrap().transport, "AMQP");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_cut_anywhere_leaves_an_identity_that_works() {
    let chip = swtpm();
    let tpm = Arc::new(open(&chip));
    let (emulator, id) = enrolled(&tpm).await;
    let service = service_of(&emulator);
    for over in EVERY {
        let transport = over.transport(&emulator);
        assert!(cut_after(usize::MAX, &emulator, &tpm, &transport).await);
        for polls in 0..1000 {
            let old = hub_key(&emulator, &id);
            // The service forgets the device and gives it another key.
            service.registrations().delete(id.as_str()).await.unwrap();
            let finished = cut_after(polls, &emulator, &tpm, &transport).await;

            let signature = tpm.sign(Slot::Identity, MESSAGE).unwrap();
            let new = emulator.hub_key(id.as_str()).map(|key| BASE64_STANDARD.decode(key).unwrap());
            let is_new = new.is_some_and(|key| signature == hmac(&key, MESSAGE));
            assert!(is_new || signature == hmac(&old, MESSAGE), "{over:?} after {polls} polls");
            if finished {
                assert!(is_new && polls > 1, "{over:?} after {polls} polls");
                break;
            }
            // For the next round, both sides have to agree again.
            assert!(cut_after(usize::MAX, &emulator, &tpm, &transport).await);
        }
    }
    assert_eq!(Tools::on(&chip).held(), [0, 0, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_registrations_leave_three_keys_and_nothing_else() {
    let chip = swtpm();
    let tpm = Arc::new(open(&chip));
    let (emulator, id) = enrolled(&tpm).await;
    for over in EVERY {
        let transport = over.transport(&emulator);
        for _ in 0..34 {
            assert!(cut_after(usize::MAX, &emulator, &tpm, &transport).await);
        }
    }
    assert_eq!(Tools::on(&chip).held(), [0, 0, 3]);
    let signature = tpm.sign(Slot::Identity, MESSAGE).unwrap();
    assert_eq!(signature, hmac(&hub_key(&emulator, &id), MESSAGE));
}

#[tokio::test]
async fn a_cleared_tpm_registers_again_under_the_same_enrollment() {
    let chip = swtpm();
    let tpm = Arc::new(open(&chip));
    let (emulator, id) = enrolled(&tpm).await;
    let transport = Over::Https.transport(&emulator);
    assert!(cut_after(usize::MAX, &emulator, &tpm, &transport).await);

    Tools::on(&chip).run("tpm2_clear -c lockout");
    assert!(tpm.sign(Slot::Identity, MESSAGE).is_err());

    assert!(cut_after(usize::MAX, &emulator, &tpm, &transport).await);
    let signature = tpm.sign(Slot::Identity, MESSAGE).unwrap();
    assert_eq!(signature, hmac(&hub_key(&emulator, &id), MESSAGE));
}

#[tokio::test]
async fn a_tpm_has_no_status_look_up() {
    let chip = swtpm();
    let credential = Credential::from_tpm(Arc::new(open(&chip))).unwrap();
    let endpoint = azure_dps_core::Endpoint::new("localhost").unwrap().with_port(CLOSED_PORT);
    for transport in
        [Arc::new(Https::new(endpoint.clone())) as Arc<dyn Transport>, Arc::new(Amqp::new(endpoint))]
    {
        let error = device("0ne00ABCDEF", credential.clone(), transport).lookup().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
}

/// An emulator on which the TPM is enrolled, under the registration id that its key gives.
/// tpm2-tools in the place of a client: no line of this project between them and what the emulator made.
#[derive(Debug)]
struct ByTools {
    keys: azure_dps_device::TpmKeys,
    tools: Mutex<Tools>,
}

impl Tpm for ByTools {
    fn public_keys(&self) -> azure_dps_core::Result<azure_dps_device::TpmKeys> {
        Ok(self.keys.clone())
    }

    fn import(&self, blob: &[u8], slot: Slot) -> azure_dps_core::Result<()> {
        let tools = self.tools.lock().unwrap();
        let (mut fields, mut rest) = (Vec::new(), blob);
        while let Some((length, _)) = rest.split_first_chunk() {
            let (field, after) = rest.split_at(2 + usize::from(u16::from_be_bytes(*length)));
            fields.push(field);
            rest = after;
        }
        let [credential, secret, duplicate, seed, public, _] = fields.try_into().unwrap();
        tools.write("credential", &[b"\xba\xdc\xc0\xde\0\0\0\x01", credential, secret].concat());
        tools.write("duplicate", duplicate);
        tools.write("seed", seed);
        tools.write("public", public);
        tools.run("tpm2_startauthsession --policy-session -S session");
        tools.run("tpm2_policysecret -S session -c e");
        tools.run(
            "tpm2_activatecredential -c 0x81000001 -C 0x81010001 -i credential -o inner -P session:session",
        );
        tools.run("tpm2_flushcontext session");
        tools.run("tpm2_import -C 0x81000001 -G hmac -u public -i duplicate -k inner -s seed -r private");
        tools.run(&format!("tpm2_load -C 0x81000001 -u public -r private -c {slot:?}"));
        Ok(())
    }

    fn sign(&self, slot: Slot, message: &[u8]) -> azure_dps_core::Result<Vec<u8>> {
        Ok(self.tools.lock().unwrap().hmac_with(&format!("{slot:?}"), message))
    }
}

#[tokio::test]
async fn tpm2_tools_can_use_what_the_emulator_makes() {
    let chip = swtpm();
    let tpm = open(&chip);
    let (emulator, id) = enrolled(&tpm).await;
    let tools = ByTools { keys: tpm.public_keys().unwrap(), tools: Mutex::new(Tools::on(&chip)) };
    let client = device(
        emulator.id_scope(),
        Credential::tpm(id.clone(), Arc::new(tools)),
        Over::Https.transport(&emulator),
    );

    let assignment = client.register().await.unwrap();

    let password = password(client.credential().clone(), &assignment);
    assert!(signed_with(&password, &hub_key(&emulator, &id)));
}

async fn enrolled(tpm: &TssTpm) -> (Shown, RegistrationId) {
    let emulator = Shown(Emulator::start().await.unwrap());
    let keys = tpm.public_keys().unwrap();
    let id = keys.registration_id().unwrap();
    let attestation = AttestationMechanism::tpm(keys.endorsement_key_base64());
    let enrollment = IndividualEnrollment::new(id.as_str(), attestation);
    service_of(&emulator).enrollments().create_or_update(&enrollment).await.unwrap();
    (emulator, id)
}

/// Polls a registration this often and drops it; whether it finished.
async fn cut_after(
    polls: usize,
    emulator: &Emulator,
    tpm: &Arc<TssTpm>,
    transport: &Arc<dyn Transport>,
) -> bool {
    let credential = Credential::from_tpm(tpm.clone()).unwrap();
    let client = device(emulator.id_scope(), credential, transport.clone());
    finishes_within(polls, client.register()).await
}

fn hub_key(emulator: &Emulator, id: &RegistrationId) -> Vec<u8> {
    BASE64_STANDARD.decode(emulator.hub_key(id.as_str()).unwrap()).unwrap()
}

/// The password for the device at its hub.
fn password(credential: Credential, assignment: &Assignment) -> String {
    let access = HubAccess::new(credential, assignment).unwrap();
    access.sign_in(HOUR, SystemTime::now().into()).unwrap().password().unwrap().to_owned()
}

/// Whether a token is what its own text says, signed with this key.
fn signed_with(text: &str, key: &[u8]) -> bool {
    let part = |name: &str| {
        let mut parts = text.split([' ', '&']).filter_map(|part| part.split_once('='));
        parts.find(|(found, _)| *found == name).unwrap().1
    };
    let signature = percent_decode_str(part("sig")).decode_utf8().unwrap();
    let message = format!("{}\n{}", part("sr"), part("se"));
    BASE64_STANDARD.decode(&*signature).unwrap() == hmac(key, message.as_bytes())
}

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(message).finalize().into_bytes().to_vec()
}

const HOUR: Duration = Duration::from_secs(3600);
