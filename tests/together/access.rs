//! The credentials of the service client against the emulator: which rights and roles a call needs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_dps_core::models::BulkMode;
use azure_dps_core::{ConnectionString, CredentialKind, Error, ErrorKind};
use azure_dps_emulator::{AccessPolicy, Emulator, EntraRole, Right};
use azure_dps_service::{Credential, ServiceClient};
use azure_dps_tests::back_end::{POLICY_KEY, enrollment};
use azure_dps_tests::ours::emulator;
use azure_dps_tests::{Shown, endpoint_of};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};

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
async fn an_expired_token_and_one_for_another_audience_are_refused_and_forgotten() {
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
