//! Listings and bulk operations of the service client against the emulator.

use azure_dps_core::GroupKey;
use azure_dps_core::models::{BulkMode, EnrollmentGroup, IndividualEnrollment};
use azure_dps_device::Https;
use azure_dps_tests::back_end::{PRIMARY, keys};
use azure_dps_tests::ours::emulator;
use azure_dps_tests::{device, endpoint_of, service_of};
use futures_util::TryStreamExt as _;

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
