//! Which credentials of the three official service clients let them in.

use std::time::Duration;

use azure_dps_emulator::{AccessPolicy, Emulator, EntraRole, Right};
use serde_json::json;

use crate::official_node_device_client_1_9_1::{KEY, OTHER_KEY, keys};
use crate::scenarios::scenarios;
use crate::service_client::{GROUP, INDIVIDUAL, Peer, REGISTRATION, Service};
use crate::stage::Stage;

scenarios! {
    {
        a_wrong_policy_key_is_refused,
        a_signature_with_any_character_lets_in,
        a_policy_permits_what_its_rights_say,
    }
    node_1_11_2: Node {
        a_contributor_may_do_everything,
        a_reader_may_not_write,
        an_expired_token_is_refused,
    }
    python_1_0_0b1: Python {
        a_token_that_was_made_beforehand_lets_in,
        a_contributor_may_do_everything,
        a_reader_may_not_write,
        an_expired_token_is_refused,
    }
    // It takes connection strings only.
    classic_python_1_2_0: ClassicPython {}
}

async fn a_wrong_policy_key_is_refused(peer: Peer) {
    let Some(stage) = Stage::start().await else { return };
    let port = stage.emulator().https_port();
    let wrong = format!(
        "HostName=localhost:{port};SharedAccessKeyName=provisioningserviceowner;SharedAccessKey={OTHER_KEY}"
    );
    let mut service = peer.service_with(&stage, &wrong).await;

    for kind in [INDIVIDUAL, GROUP] {
        peer.assert_refused(service.get(kind, "a").await, 401_002);

        assert_eq!(stage.cause(), "signature does not match the key of policy provisioningserviceowner");
    }
}

/// One client does not escape the slash of base64 in its signature. Every other signature has one, and every other a
/// plus sign, so of those with 16 keys some have.
async fn a_signature_with_any_character_lets_in(peer: Peer) {
    let names: Vec<String> = (0..16).map(|number| format!("policy-{number}")).collect();
    let policies = names.iter().map(|name| AccessPolicy::new(name, [Right::EnrollmentRead]));
    let builder = policies.fold(Emulator::builder(), |builder, policy| builder.access_policy(policy));
    let Some(stage) = Stage::with(builder).await else { return };
    let mut service = peer.service(&stage).await;
    service.put(GROUP, GROUP.record("plant", keys())).await.unwrap();

    for name in names {
        service.connect_with(&stage.emulator().connection_string(&name).unwrap()).await;
        service.get(GROUP, "plant").await.unwrap();
    }
}

async fn a_policy_permits_what_its_rights_say(peer: Peer) {
    let reader = AccessPolicy::new("reader", [Right::EnrollmentRead, Right::RegistrationStatusRead]);
    let Some(stage) = Stage::with(Emulator::builder().access_policy(reader)).await else { return };
    peer.service(&stage).await.put(INDIVIDUAL, INDIVIDUAL.record("dev1", keys())).await.unwrap();
    let policy = stage.emulator().connection_string("reader").unwrap();
    let mut service = peer.service_with(&stage, &policy).await;

    service.get(INDIVIDUAL, "dev1").await.unwrap();
    service.pages(INDIVIDUAL, json!({}), 1).await.unwrap();
    service.attestation(INDIVIDUAL, "dev1").await.unwrap();
    peer.assert_refused(service.get(REGISTRATION, "dev1").await, 404_201);

    assert_writes_are_refused(peer, &mut service).await;
    assert_eq!(stage.cause(), "policy reader lacks the right RegistrationStatusWrite");
}

async fn a_token_that_was_made_beforehand_lets_in(peer: Peer) {
    let Some(stage) = Stage::with(Emulator::builder().policy_key(KEY)).await else { return };
    let endpoint = endpoint(peer, &stage);

    // The client signs the given text as it is, here an address with its scheme.
    let credential = json!({"endpoint": endpoint, "policy": "provisioningserviceowner", "key": KEY});
    let mut service = peer.start(&stage).await;
    service.connect(credential).await;

    service.put(GROUP, GROUP.record("plant", keys())).await.unwrap();
}

async fn a_contributor_may_do_everything(peer: Peer) {
    let builder = Emulator::builder().entra_role(PRINCIPAL, EntraRole::DataContributor);
    let Some(stage) = Stage::with(builder).await else { return };
    let mut service = with_entra(peer, &stage, HOUR).await;

    for kind in [INDIVIDUAL, GROUP] {
        service.put(kind, kind.record("a", keys())).await.unwrap();
        service.get(kind, "a").await.unwrap();
        service.attestation(kind, "a").await.unwrap();
        service.pages(kind, json!({}), 1).await.unwrap();
    }
    service.bulk(INDIVIDUAL, "create", json!([INDIVIDUAL.record("b", keys())])).await.unwrap();
    stage.device().await.register(json!({"registrationId": "s-1", "groupKey": KEY})).await.unwrap();
    service.get(REGISTRATION, "s-1").await.unwrap();
    service.pages(REGISTRATION, json!({"group": "a"}), 1).await.unwrap();
    service.delete_by_id(REGISTRATION, "s-1", None).await.unwrap();
    for kind in [INDIVIDUAL, GROUP] {
        service.delete_by_id(kind, "a", None).await.unwrap();
    }
}

async fn a_reader_may_not_write(peer: Peer) {
    let builder = Emulator::builder().entra_role(PRINCIPAL, EntraRole::DataReader);
    let Some(stage) = Stage::with(builder).await else { return };
    peer.service(&stage).await.put(INDIVIDUAL, INDIVIDUAL.record("dev1", keys())).await.unwrap();
    let mut service = with_entra(peer, &stage, HOUR).await;

    service.get(INDIVIDUAL, "dev1").await.unwrap();
    service.pages(INDIVIDUAL, json!({}), 1).await.unwrap();
    peer.assert_refused(service.get(REGISTRATION, "dev1").await, 404_201);

    peer.assert_refused(service.attestation(INDIVIDUAL, "dev1").await, 401_000);
    assert_writes_are_refused(peer, &mut service).await;
    assert_eq!(stage.cause(), format!("principal {PRINCIPAL} has only the role DataReader"));
}

async fn an_expired_token_is_refused(peer: Peer) {
    let Some(stage) = Stage::start().await else { return };
    let mut service = with_entra(peer, &stage, HOUR).await;
    service.pages(GROUP, json!({}), 1).await.unwrap();

    stage.emulator().advance_clock(2 * HOUR);

    peer.assert_refused(service.pages(GROUP, json!({}), 1).await, 401_000);
}

async fn assert_writes_are_refused(peer: Peer, service: &mut Service<'_>) {
    for kind in [INDIVIDUAL, GROUP] {
        peer.assert_refused(service.put(kind, kind.record("new", keys())).await, 401_000);
        peer.assert_refused(service.delete_by_id(kind, "dev1", None).await, 401_000);
    }
    let records = json!([INDIVIDUAL.record("new", keys())]);
    peer.assert_refused(service.bulk(INDIVIDUAL, "create", records).await, 401_000);
    peer.assert_refused(service.delete_by_id(REGISTRATION, "dev1", None).await, 401_000);
}

async fn with_entra(peer: Peer, stage: &Stage, lifetime: Duration) -> Service<'_> {
    let token = stage.emulator().entra_token(PRINCIPAL, lifetime);
    let mut service = peer.start(stage).await;
    service.connect(json!({"endpoint": endpoint(peer, stage), "token": token})).await;
    service
}

/// The service as the constructor of a client wants it named.
fn endpoint(peer: Peer, stage: &Stage) -> String {
    match peer {
        Peer::Node => "localhost".to_owned(),
        Peer::Python | Peer::ClassicPython => format!("https://localhost:{}", stage.emulator().https_port()),
    }
}

const PRINCIPAL: &str = "11111111-2222-3333-4444-555555555555";
const HOUR: Duration = Duration::from_secs(3600);
