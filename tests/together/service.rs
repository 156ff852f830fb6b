//! The service client against the emulator: records, one at a time, and what they cost.

use std::time::Duration;

use azure_dps_core::models::{
    AttestationMechanism, AttestationType, EnrollmentGroup, IndividualEnrollment, InitialTwin,
    ProvisioningStatus,
};
use azure_dps_core::{ConnectionString, ErrorKind};
use azure_dps_emulator::{Emulator, Quotas};
use azure_dps_service::ServiceClient;
use azure_dps_tests::back_end::{PRIMARY, enrollment, keys, primary_key};
use azure_dps_tests::ours::emulator;
use azure_dps_tests::{Shown, endpoint_of};
use futures_util::TryStreamExt as _;

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
