//! The service client: against the emulator for what it means, against a peer without semantics for what is sent and
//! for lost answers.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)] // Test code.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_dps_core::models::{
    AttestationMechanism, AttestationType, BulkMode, EnrollmentGroup, IndividualEnrollment, InitialTwin,
    ProvisioningStatus, SymmetricKeyAttestation,
};
use azure_dps_core::{ConnectionString, CredentialKind, Error, ErrorKind, GroupKey};
use azure_dps_device::Https;
use azure_dps_emulator::{AccessPolicy, Emulator, EntraRole, Quotas, Right};
use azure_dps_service::{Credential, ServiceClient};
use azure_dps_tests::{Shown, device, endpoint_of, evidence, service_of};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use futures_util::TryStreamExt as _;

const PRIMARY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const SECONDARY: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";
const POLICY_KEY: &str = "n1ZYBqNSQr08ap5qh6o5wovRBSw0OVmAY6KrDrW1pas=";

/// An emulator whose only client is the SDK's; what that did is noted in the end.
struct Ours(Shown);

impl std::ops::Deref for Ours {
    type Target = Emulator;

    fn deref(&self) -> &Emulator {
        &self.0
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        evidence::service_calls(concat!("azure-dps-service ", env!("CARGO_PKG_VERSION")), self);
    }
}

async fn emulator() -> (Ours, ServiceClient) {
    let emulator = Emulator::start().await.unwrap();
    let service = service_of(&emulator);
    (Ours(Shown(emulator)), service)
}

fn keys() -> AttestationMechanism {
    AttestationMechanism::symmetric_key(SymmetricKeyAttestation::new(PRIMARY, SECONDARY))
}

fn enrollment() -> IndividualEnrollment {
    IndividualEnrollment::new("sensor-042", keys())
}

fn primary_key(attestation: &AttestationMechanism) -> &str {
    attestation.as_symmetric_key().unwrap().primary_key.as_deref().unwrap()
}

#[tokio::test]
async fn numbers_of_a_twin_keep_their_digits_when_another_member_is_changed() {
    let (_emulator, service) = emulator().await;
    let enrollments = service.enrollments();
    let numbers = [14.646918791571295, 0.1 + 0.2, 1e-7, f64::MIN_POSITIVE, f64::MAX, 52.520_006_599_999_99];
    let desired = numbers.iter().enumerate().map(|(at, number)| (format!("n{at}"), (*number).into()));
    let desired: serde_json::Map<String, serde_json::Value> = desired.collect();
    let twin = InitialTwin::new().with_desired(azure_dps_core::models::TwinCollection::from(desired));
    enrollments.create_or_update(&enrollment().with_initial_twin(twin.clone())).await.unwrap();

    let disable =
        |record: &mut IndividualEnrollment| record.provisioning_status = Some(ProvisioningStatus::Disabled);
    enrollments.update("sensor-042", disable).await.unwrap();

    let read = enrollments.get("sensor-042").await.unwrap();
    assert_eq!(read.initial_twin, Some(twin));
}

#[tokio::test]
async fn an_enrollment_is_created_read_changed_and_deleted() {
    let (_emulator, service) = emulator().await;
    let enrollments = service.enrollments();
    let twin = InitialTwin::new().with_tags([("site", "berlin")]);
    let created = enrollments
        .create_or_update(&enrollment().with_device_id("line-3").with_initial_twin(twin.clone()))
        .await
        .unwrap();
    assert_eq!(primary_key(&created.attestation), PRIMARY);
    assert!(created.etag.is_some() && created.created_date_time_utc.is_some());

    let read = enrollments.get("SENSOR-042").await.unwrap();
    assert_eq!((read.device_id.as_deref(), &read.initial_twin), (Some("line-3"), &Some(twin)));
    assert_eq!(read.etag, created.etag);
    assert!(
        read.attestation.as_symmetric_key().is_none_or(|keys| keys.primary_key.is_none()),
        "keys are hidden"
    );

    let changed = enrollments
        .update("sensor-042", |e| e.provisioning_status = Some(ProvisioningStatus::Disabled))
        .await
        .unwrap();
    assert_eq!(changed.provisioning_status, Some(ProvisioningStatus::Disabled));
    assert_eq!(primary_key(&changed.attestation), PRIMARY);
    assert_ne!(changed.etag, created.etag);

    enrollments.delete("sensor-042").await.unwrap();
    assert!(enrollments.get("sensor-042").await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn a_group_is_created_read_changed_and_deleted() {
    let (_emulator, service) = emulator().await;
    let groups = service.enrollment_groups();
    let created = groups.create_or_update(&EnrollmentGroup::new("plant", keys())).await.unwrap();
    assert_eq!(groups.get("plant").await.unwrap().etag, created.etag);
    let changed = groups.update("plant", |group| group.iot_hubs = Some(vec![])).await.unwrap();
    assert_eq!(primary_key(&changed.attestation), PRIMARY);
    assert_eq!(primary_key(&groups.attestation_mechanism("plant").await.unwrap()), PRIMARY);
    groups.delete_if_match("plant", &changed.etag.unwrap()).await.unwrap();
    assert!(groups.get("plant").await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn keys_left_out_are_generated_and_shown_by_the_attestation_mechanism() {
    let (_emulator, service) = emulator().await;
    let enrollments = service.enrollments();
    let generated = IndividualEnrollment::new("gen", AttestationMechanism::symmetric_key_generated());
    let created = enrollments.create_or_update(&generated).await.unwrap();
    let mechanism = enrollments.attestation_mechanism("gen").await.unwrap();
    assert_eq!(mechanism.attestation_type(), AttestationType::SymmetricKey);
    assert_eq!(primary_key(&mechanism), primary_key(&created.attestation));
}

#[tokio::test]
async fn a_second_create_is_a_conflict_and_says_what_to_do() {
    let (emulator, service) = emulator().await;
    service.enrollments().create_or_update(&enrollment()).await.unwrap();
    let error = service.enrollments().create_or_update(&enrollment()).await.unwrap_err();
    assert!(error.is_conflict() && !error.maybe_applied());
    assert_eq!(error.service().unwrap().code, Some(409201));
    assert!(error.help().contains("`update`"), "{}", error.help());
    assert_eq!(emulator.journal().len(), 2, "a conflict is neither repeated nor looked after");
}

#[tokio::test]
async fn a_stale_tag_is_refused_and_replace_ignores_it() {
    let (_emulator, service) = emulator().await;
    let enrollments = service.enrollments();
    let first = enrollments.create_or_update(&enrollment()).await.unwrap();
    let second = enrollments.create_or_update(&first).await.unwrap();
    assert_ne!(first.etag, second.etag);

    let stale = first.etag.clone().unwrap();
    assert!(enrollments.create_or_update(&first).await.unwrap_err().is_precondition_failed());
    assert!(enrollments.delete_if_match("sensor-042", &stale).await.unwrap_err().is_precondition_failed());
    enrollments.replace(&first).await.unwrap();
    assert!(
        enrollments.replace(&IndividualEnrollment::new("nobody", keys())).await.unwrap_err().is_not_found()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_loses_the_race_reads_again() {
    let (_emulator, service) = emulator().await;
    let enrollments = service.enrollments();
    enrollments.create_or_update(&enrollment()).await.unwrap();
    let (mut rounds, rival) = (0, service.enrollments());
    let changed = enrollments
        .update("sensor-042", |record| {
            rounds += 1;
            record.device_id = Some(format!("round-{rounds}"));
            if rounds == 1 {
                // Somebody else writes between the read and the write.
                let rival = rival.clone();
                let write = async move { rival.replace(&enrollment()).await };
                std::thread::scope(|scope| {
                    scope.spawn(|| tokio::runtime::Runtime::new().unwrap().block_on(write).unwrap());
                });
            }
        })
        .await
        .unwrap();
    assert_eq!((rounds, changed.device_id.as_deref()), (2, Some("round-2")));
}

#[tokio::test]
async fn a_wrong_policy_key_is_refused_and_the_cause_named() {
    let (emulator, _) = emulator().await;
    let credential = Credential::policy("provisioningserviceowner", POLICY_KEY.parse().unwrap());
    let service = ServiceClient::builder(endpoint_of(&emulator), credential).build().unwrap();
    let error = service.enrollments().get("sensor-042").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(error.help().contains("connection string"), "{}", error.help());
    assert_eq!(emulator.journal().len(), 1, "a refused credential is not tried again");
}

#[tokio::test]
async fn malformed_input_is_refused_before_anything_is_sent() {
    let (emulator, service) = emulator().await;
    for id in ["", ".", ".."] {
        assert_eq!(service.enrollments().get(id).await.unwrap_err().kind(), ErrorKind::Config);
    }
    let hub =
        format!("HostName=h.azure-devices.net;SharedAccessKeyName=iothubowner;SharedAccessKey={PRIMARY}");
    let error = ServiceClient::from_connection_string(&hub).unwrap_err();
    assert!(error.to_string().contains("IoT hub"), "{error}");
    assert!(emulator.journal().is_empty());
}

#[tokio::test]
async fn the_service_names_the_member_that_it_does_not_take() {
    let (_emulator, service) = emulator().await;
    let broken = enrollment().with_iot_hubs(["elsewhere.azure-devices.net"]);
    let error = service.enrollments().create_or_update(&broken).await.unwrap_err();
    assert_eq!((error.kind(), error.service().unwrap().status), (ErrorKind::Service, 400));
    assert!(error.to_string().contains("iotHubs"), "{error}");
}

#[tokio::test]
async fn ten_enrollments_are_created_read_and_deleted_in_one_call_each() {
    let (emulator, service) = emulator().await;
    let enrollments = service.enrollments();
    let mut fleet: Vec<_> = (0..10).map(|n| IndividualEnrollment::new(format!("s-{n}"), keys())).collect();
    assert!(enrollments.run_bulk_operation(BulkMode::Create, &fleet).await.unwrap().is_successful);

    let again = enrollments.run_bulk_operation(BulkMode::Create, &fleet[..2]).await.unwrap();
    assert!(!again.is_successful && again.errors.iter().all(|error| error.is_conflict()));

    fleet[0].etag = Some("\"stale\"".into());
    fleet[1].etag = enrollments.get("s-1").await.unwrap().etag;
    let updated = enrollments.run_bulk_operation(BulkMode::UpdateIfMatchETag, &fleet[..2]).await.unwrap();
    assert_eq!(updated.errors.len(), 1);
    assert!(updated.errors[0].id() == Some("s-0") && updated.errors[0].is_precondition_failed());

    let refused = enrollments.run_bulk_operation(BulkMode::Update, &fleet[2..]).await.unwrap();
    assert_eq!((refused.is_successful, refused.errors.len()), (false, 8), "none of these items has a tag");
    assert!(refused.errors.iter().all(|error| error.is_conflict()));
    fleet[0].etag = None;
    fleet[1].etag = None;
    assert!(enrollments.run_bulk_operation(BulkMode::Delete, &fleet).await.unwrap().is_successful);
    let gone = enrollments.run_bulk_operation(BulkMode::Delete, &fleet[..1]).await.unwrap();
    assert!(gone.errors[0].is_not_found());
    assert_eq!(emulator.journal().len(), 7, "each is one call, and the get");
}

#[tokio::test]
async fn a_bulk_operation_on_groups_is_the_same() {
    let (_emulator, service) = emulator().await;
    let groups = [EnrollmentGroup::new("a", keys()), EnrollmentGroup::new("b", keys())];
    let collection = service.enrollment_groups();
    assert!(collection.run_bulk_operation(BulkMode::Create, &groups).await.unwrap().is_successful);
    let result = collection.run_bulk_operation(BulkMode::Create, &groups[1..]).await.unwrap();
    assert_eq!(result.errors[0].id(), Some("b"));
}

#[tokio::test]
async fn every_enrollment_is_listed_once_without_keys_whatever_the_page_size() {
    let (emulator, service) = emulator().await;
    let fleet: Vec<_> = (10..35).map(|n| IndividualEnrollment::new(format!("s-{n}"), keys())).collect();
    for ten in fleet.chunks(10) {
        assert!(service.enrollments().run_bulk_operation(BulkMode::Create, ten).await.unwrap().is_successful);
    }
    let wanted: Vec<_> = fleet.iter().map(|record| record.registration_id.clone()).collect();
    for (size, pages) in [(None, 1), (Some(1), 25), (Some(7), 4), (Some(25), 1), (Some(1000), 1)] {
        let before = emulator.journal().len();
        let listing = service.enrollments().list();
        let listing = match size {
            Some(size) => listing.page_size(size),
            None => listing,
        };
        let listed: Vec<IndividualEnrollment> = listing.try_collect().await.unwrap();
        assert!(listed.iter().all(|record| {
            record.attestation.as_symmetric_key().is_none_or(|keys| keys.primary_key.is_none())
        }));
        let mut ids: Vec<_> = listed.into_iter().map(|record| record.registration_id).collect();
        ids.sort_unstable();
        assert_eq!(ids, wanted, "page size {size:?}");
        assert_eq!(emulator.journal().len() - before, pages, "page size {size:?}");
    }
}

#[tokio::test]
async fn a_listing_goes_on_in_another_client_with_the_token_of_a_page() {
    let (emulator, service) = emulator().await;
    for id in ["a", "b", "c"] {
        service.enrollment_groups().create_or_update(&EnrollmentGroup::new(id, keys())).await.unwrap();
    }
    let page = service.enrollment_groups().list().page_size(2).next_page().await.unwrap().unwrap();
    let token = page.continuation.unwrap();
    let other = service_of(&emulator);
    let rest: Vec<EnrollmentGroup> =
        other.enrollment_groups().list().resume(&token).try_collect().await.unwrap();
    let mut ids: Vec<_> =
        page.items.iter().chain(&rest).map(|group| group.enrollment_group_id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!((rest.len(), ids), (1, vec!["a", "b", "c"]));

    let error = other.enrollments().list().resume(token).next_page().await.unwrap_err();
    assert_eq!(error.service().unwrap().status, 400, "the token of another listing");
}

#[tokio::test]
async fn the_records_of_a_group_are_listed_also_when_the_group_is_gone() {
    let (emulator, service) = emulator().await;
    service.enrollment_groups().create_or_update(&EnrollmentGroup::new("plant", keys())).await.unwrap();
    let group: GroupKey = PRIMARY.parse().unwrap();
    for id in ["dev-1", "dev-2"] {
        let credential = azure_dps_device::Credential::from_group(&group, id.parse().unwrap());
        device(emulator.id_scope(), credential, Https::new(endpoint_of(&emulator))).register().await.unwrap();
    }
    service.enrollment_groups().delete("plant").await.unwrap();
    let records: Vec<_> = service.registrations().of_group("plant").page_size(1).try_collect().await.unwrap();
    let mut ids: Vec<_> = records.iter().map(|record| record.registration_id.as_deref().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["dev-1", "dev-2"]);
    service.registrations().delete("dev-1").await.unwrap();
    assert!(service.registrations().get("dev-1").await.unwrap_err().is_not_found());
    assert_eq!(service.registrations().of_group("nobody").next_page().await.unwrap().unwrap().items, []);
}

/// Every public call, and the rights of which one suffices. Whether the record exists is another question.
#[tokio::test]
async fn every_call_needs_the_right_that_its_documentation_names() {
    use Right::{EnrollmentRead, EnrollmentWrite, RegistrationStatusRead, RegistrationStatusWrite};
    let needs: [(&str, &[Right]); 11] = [
        ("get", &[EnrollmentRead]),
        ("list", &[EnrollmentRead]),
        ("attestation_mechanism", &[EnrollmentRead, EnrollmentWrite]),
        ("create_or_update", &[EnrollmentWrite]),
        ("replace", &[EnrollmentWrite]),
        ("delete", &[EnrollmentWrite]),
        ("delete_if_match", &[EnrollmentWrite]),
        ("run_bulk_operation", &[EnrollmentWrite]),
        ("get record", &[RegistrationStatusRead]),
        ("of_group", &[RegistrationStatusRead]),
        ("delete record", &[RegistrationStatusWrite]),
    ];
    let rights = [
        EnrollmentRead,
        EnrollmentWrite,
        RegistrationStatusRead,
        RegistrationStatusWrite,
        Right::ServiceConfig,
    ];
    for right in rights {
        let emulator =
            Emulator::builder().access_policy(AccessPolicy::new("few", [right])).start().await.unwrap();
        let emulator = Shown(emulator);
        let connection: ConnectionString = emulator.connection_string("few").unwrap().parse().unwrap();
        let few = ServiceClient::builder(endpoint_of(&emulator), (&connection).into()).build().unwrap();
        for (call, sufficient) in needs {
            let outcome = called(&few, call).await;
            if sufficient.contains(&right) {
                assert!(outcome.as_ref().err().is_none_or(Error::is_not_found), "{call} with {right:?}");
            } else {
                let error = outcome.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unauthorized, "{call} with {right:?}");
                assert!(error.help().contains("lacks the right"), "{}", error.help());
                let cause = emulator.journal().pop().unwrap().cause.unwrap();
                assert!(cause.contains(sufficient[0].as_str()), "{call} with {right:?}: {cause}");
            }
        }
    }
}

async fn called(service: &ServiceClient, call: &str) -> Result<(), Error> {
    let (enrollments, records) = (service.enrollments(), service.registrations());
    match call {
        "get" => enrollments.get("a").await.map(drop),
        "list" => enrollments.list().next_page().await.map(drop),
        "attestation_mechanism" => enrollments.attestation_mechanism("a").await.map(drop),
        "create_or_update" => enrollments.create_or_update(&enrollment()).await.map(drop),
        "replace" => enrollments.replace(&enrollment()).await.map(drop),
        "delete" => enrollments.delete("a").await,
        "delete_if_match" => enrollments.delete_if_match("a", "*").await,
        "run_bulk_operation" => {
            enrollments.run_bulk_operation(BulkMode::Delete, &[enrollment()]).await.map(drop)
        }
        "get record" => records.get("a").await.map(drop),
        "of_group" => records.of_group("a").next_page().await.map(drop),
        _ => records.delete("a").await,
    }
}

#[tokio::test]
async fn calls_that_were_carried_out_are_billed() {
    let (emulator, service) = emulator().await;
    service.enrollments().create_or_update(&enrollment()).await.unwrap();
    service.enrollments().update("sensor-042", |_| {}).await.unwrap();
    let _: Vec<IndividualEnrollment> = service.enrollments().list().try_collect().await.unwrap();
    assert_eq!(emulator.billed_operations().service, 1 + 3 + 1);
}

#[tokio::test]
async fn a_quota_that_is_used_up_is_told_and_free_again_after_its_minute() {
    let quotas = Quotas::documented().with_service_operations(1);
    let emulator = Shown(Emulator::builder().quotas(quotas).start().await.unwrap());
    let connection: ConnectionString = emulator.service_connection_string().parse().unwrap();
    let client = || {
        let builder = ServiceClient::builder(endpoint_of(&emulator), (&connection).into());
        builder.timeout(Duration::from_secs(20)).gate_timeout(Duration::from_secs(30)).build().unwrap()
    };
    let service = client();
    service.enrollments().list().next_page().await.unwrap();
    let error = service.enrollments().list().next_page().await.unwrap_err();
    assert!(error.is_throttled() && error.service().unwrap().retry_after > Some(Duration::from_secs(20)));
    // The other calls of this client wait without asking.
    let requests = emulator.journal().len();
    let error = service.clone().enrollments().get("a").await.unwrap_err();
    assert_eq!((error.kind(), error.maybe_applied()), (ErrorKind::Timeout, false));
    assert!(error.to_string().contains("gate timeout of 30s: the service throttles this client"), "{error}");
    assert_eq!(emulator.journal().len(), requests);

    emulator.advance_clock(Duration::from_secs(60));
    client().enrollments().list().next_page().await.unwrap();
}

/// A credential that mints the emulator's tokens and counts them.
#[derive(Debug)]
struct Minted {
    token: String,
    lives: Duration,
    asked: AtomicU32,
}

impl Minted {
    fn new(token: String, lives: Duration) -> Arc<Self> {
        Arc::new(Self { token, lives, asked: AtomicU32::new(0) })
    }
}

#[async_trait::async_trait]
impl TokenCredential for Minted {
    async fn get_token(
        &self,
        scopes: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        assert_eq!(scopes, ["https://azure-devices-provisioning.net/.default"]);
        self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(AccessToken::new(self.token.clone(), (SystemTime::now() + self.lives).into()))
    }
}

const HOUR: Duration = Duration::from_secs(3600);

fn entra(emulator: &Emulator, credential: &Arc<Minted>) -> ServiceClient {
    let credential = Credential::entra(Arc::clone(credential) as _);
    ServiceClient::builder(endpoint_of(emulator), credential).build().unwrap()
}

#[tokio::test]
async fn an_identity_of_entra_id_manages_enrollments_and_its_token_is_kept() {
    let (emulator, _) = emulator().await;
    let credential = Minted::new(emulator.entra_token("oid-1", HOUR), HOUR);
    let service = entra(&emulator, &credential);
    service.enrollments().create_or_update(&enrollment()).await.unwrap();
    service.enrollments().attestation_mechanism("sensor-042").await.unwrap();
    service.enrollments().delete("sensor-042").await.unwrap();
    assert_eq!(credential.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_token_near_its_expiry_is_renewed_for_every_call() {
    let (emulator, _) = emulator().await;
    let credential = Minted::new(emulator.entra_token("oid-1", HOUR), Duration::from_secs(299));
    let service = entra(&emulator, &credential);
    for _ in 0..2 {
        service.enrollments().list().next_page().await.unwrap();
    }
    assert_eq!(credential.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_token_that_expired_or_is_for_somebody_else_is_refused_and_forgotten() {
    let (emulator, _) = emulator().await;
    let elsewhere =
        jwt(&serde_json::json!({ "aud": "https://management.azure.com", "exp": 32_503_680_000_u64 }));
    let credential = Minted::new(elsewhere, HOUR);
    let service = entra(&emulator, &credential);
    for asked in 1..=2 {
        let error = service.enrollments().get("a").await.unwrap_err();
        assert_eq!(
            (error.kind(), error.credential()),
            (ErrorKind::Unauthorized, Some(CredentialKind::EntraId))
        );
        assert!(error.help().contains("audience"), "{}", error.help());
        assert_eq!(credential.asked.load(Ordering::SeqCst), asked);
    }
    assert!(emulator.journal().pop().unwrap().cause.unwrap().contains("aud of the bearer token"));

    let credential = Minted::new(emulator.entra_token("oid-1", HOUR), HOUR);
    let service = entra(&emulator, &credential);
    emulator.advance_clock(2 * HOUR);
    assert_eq!(service.enrollments().get("a").await.unwrap_err().kind(), ErrorKind::Unauthorized);
    assert!(emulator.journal().pop().unwrap().cause.unwrap().contains("expired"));
}

#[tokio::test]
async fn a_reader_reads_and_does_not_write() {
    let emulator = Emulator::builder().entra_role("oid-1", EntraRole::DataReader).start().await.unwrap();
    let emulator = Shown(emulator);
    let service = entra(&emulator, &Minted::new(emulator.entra_token("oid-1", HOUR), HOUR));
    assert!(service.enrollments().get("a").await.unwrap_err().is_not_found());
    let error = service.enrollments().create_or_update(&enrollment()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(error.help().contains("Data Contributor"), "{}", error.help());
}

fn jwt(claims: &serde_json::Value) -> String {
    let part = |value: &serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.", part(&serde_json::json!({ "alg": "none", "typ": "JWT" })), part(claims))
}
