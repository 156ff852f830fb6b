//! Calls of the service client through a relay, and the records that they leave.

use std::collections::BTreeMap;
use std::time::Instant;

use azure_dps_core::models::{AttestationMechanism, BulkMode, IndividualEnrollment, SymmetricKeyAttestation};
use azure_dps_core::{ConnectionString, Error};
use azure_dps_emulator::Emulator;
use azure_dps_service::ServiceClient;
use azure_dps_tests::relay::Fault;

use crate::case::{SHORT, Seen, deadline, retry};
use crate::row::Row;

/// A call of the service client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Create,
    Get,
    Update,
    Delete,
    List,
    BulkCreate,
}

impl Call {
    pub(crate) const ALL: [Self; 6] =
        [Self::Create, Self::Get, Self::Update, Self::Delete, Self::List, Self::BulkCreate];

    async fn make(self, client: &ServiceClient, name: &str) -> Result<(), Error> {
        let enrollments = client.enrollments();
        match self {
            Self::Create => enrollments.create_or_update(&enrollment(name)).await.map(drop),
            Self::Get => enrollments.get(name).await.map(drop),
            Self::Update => {
                let edit = |record: &mut IndividualEnrollment| {
                    record.iot_hub_host_name = None;
                    record.device_id = Some(name.to_owned());
                };
                enrollments.update(name, edit).await.map(drop)
            }
            Self::Delete => match enrollments.delete(name).await {
                Err(error) if error.is_not_found() => Ok(()),
                other => other,
            },
            Self::List => enrollments.list().page_size(2).next_page().await.map(drop),
            Self::BulkCreate => {
                enrollments.run_bulk_operation(BulkMode::Create, &[enrollment(name)]).await.map(drop)
            }
        }
    }
}

fn enrollment(name: &str) -> IndividualEnrollment {
    let keys = AttestationMechanism::symmetric_key(SymmetricKeyAttestation::new(KEY, KEY));
    IndividualEnrollment::new(name, keys)
}

/// Makes the records that calls read, change or delete.
pub(crate) async fn prepare(row: &Row, call: Call, names: &[String]) {
    if matches!(call, Call::Create | Call::BulkCreate) {
        return;
    }
    create(row, names).await;
}

async fn create(row: &Row, names: &[String]) {
    for ten in names.chunks(10) {
        let records: Vec<_> = ten.iter().map(|name| enrollment(name)).collect();
        let done = row.service.enrollments().run_bulk_operation(BulkMode::Create, &records).await.unwrap();
        assert!(done.is_successful);
    }
}

/// Makes the record of a case as it was before the case.
pub(crate) async fn restore(row: &Row, call: Call, name: &str) {
    match call {
        Call::Create | Call::BulkCreate => {
            let _ = row.service.enrollments().delete(name).await;
        }
        Call::Delete => create(row, &[name.to_owned()]).await,
        Call::Get | Call::Update | Call::List => {}
    }
}

pub(crate) async fn run(row: &Row, call: Call, name: &str, fault: Option<Fault>) -> Seen {
    let relay = row.relay(row.emulator.https_port(), name, fault).await;
    let connection: ConnectionString = row.emulator.service_connection_string().parse().unwrap();
    // An attempt may take both limits of the endpoint, and the second call has the same deadline.
    let deadline = deadline(fault).max(2 * SHORT);
    let client = ServiceClient::builder(row.endpoint(&relay), (&connection).into())
        .retry(retry(fault))
        .timeout(deadline)
        .build()
        .unwrap();

    let began = Instant::now();
    let result = call.make(&client, name).await;
    let elapsed = began.elapsed();
    relay.disarm();
    let again = match call.make(&client, name).await {
        // The first call created the record.
        Err(error) if call == Call::Create && error.service().is_some_and(|of| of.status == 409) => Ok(()),
        other => other,
    };
    drop(client);
    relay.ended().await;

    Seen { result, elapsed, deadline, again, hits: relay.hits(), most: relay.most() }
}

/// How many records each enrollment has.
pub(crate) fn records(emulator: &Emulator) -> BTreeMap<String, usize> {
    let mut records = BTreeMap::new();
    for record in emulator.enrollments()["enrollments"].as_array().unwrap() {
        *records.entry(record["registrationId"].as_str().unwrap().to_owned()).or_insert(0) += 1;
    }
    records
}

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
