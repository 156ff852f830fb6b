//! One fault at each TLS record and each message of registrations and service calls.
//!
//! A relay between the SDK and the emulator harms one unit in one direction: on the first connection that gets
//! there, or on every connection. A run without a fault finds the units. `cargo xtask reliability` writes the
//! figures to docs/reliability.md.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)] // Test code.

mod device;
mod figures;
mod row;
mod service;

use std::sync::Arc;
use std::time::Instant;

use azure_dps_tests::plant::Protocol;
use azure_dps_tests::relay::{Fault, Harm, Side};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::figures::{Cell, Figures};
use crate::row::{Row, Subject};
use crate::service::Call;

const PROTOCOLS: [Protocol; 5] =
    [Protocol::Https, Protocol::Mqtt, Protocol::MqttWs, Protocol::Amqp, Protocol::AmqpWs];
const HARMS: [Harm; 5] = [Harm::Cut, Harm::Stall, Harm::Delay, Harm::Truncate, Harm::HalfThenStall];

/// How many cases run at once. Most wait for a limit.
const AT_ONCE: usize = 40;
/// The last messages of a goodbye are not always sent. The fault-free run is repeated to see them.
const PROBES: usize = 3;

#[allow(clippy::print_stdout)] // The step shows the progress.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: `cargo xtask test --only matrix`"]
async fn one_fault_anywhere_ends_in_success_and_faults_without_end_in_the_right_error() {
    let began = Instant::now();
    let few = Arc::new(Semaphore::new(AT_ONCE));
    let mut rows = JoinSet::new();
    for (number, (subject, of_messages)) in subjects().enumerate() {
        let few = Arc::clone(&few);
        rows.spawn(async move { (number, run(subject, of_messages, few).await) });
    }
    let mut figures = Figures::default();
    while let Some(row) = rows.join_next().await {
        let (number, (row, cells)) = row.unwrap();
        println!("      {row}: {} cases", cells.len());
        figures.add(number, row, cells);
    }
    figures.write(began.elapsed());
    assert!(
        figures.wrong().is_empty(),
        "{} cases ended wrong:\n{}",
        figures.wrong().len(),
        figures.wrong().join("\n")
    );
}

/// The rows: who talks, and whether records or messages are harmed. `DPS_MATRIX_ONLY` selects those whose names
/// contain its value.
fn subjects() -> impl Iterator<Item = (Subject, bool)> {
    let devices = PROTOCOLS
        .into_iter()
        .flat_map(|protocol| [false, true].map(|x509| Subject::Device { protocol, x509 }));
    let calls = Call::ALL.into_iter().map(Subject::Call);
    let only = std::env::var("DPS_MATRIX_ONLY").unwrap_or_default();
    let subjects = devices.chain(calls).filter(move |subject| subject.name().contains(&only));
    subjects.flat_map(|subject| [(subject, false), (subject, true)])
}

/// Finds the units of a row, and runs a case for each fault at each of them.
async fn run(subject: Subject, of_messages: bool, few: Arc<Semaphore>) -> (String, Vec<Cell>) {
    let mut most = [0, 0];
    {
        let _one = few.acquire().await.unwrap();
        let names: Vec<_> = (0..PROBES).map(|number| format!("probe-{number}")).collect();
        let row = Row::start(subject, of_messages, &names).await;
        for name in &names {
            let seen = row.run(name, None).await;
            seen.result.unwrap();
            most = [most[0].max(seen.most[0]), most[1].max(seen.most[1])];
        }
    }
    let title = format!("{} | {} | {} + {}", subject.name(), layer(of_messages), most[0], most[1]);
    let faults: Vec<_> = faults(most).collect();
    let names: Vec<_> = faults.iter().map(name).collect();
    let row = Arc::new(Row::start(subject, of_messages, &names).await);
    let mut cases = JoinSet::new();
    for (fault, name) in faults.into_iter().zip(names.clone()) {
        let (row, few) = (Arc::clone(&row), Arc::clone(&few));
        cases.spawn(async move {
            let _one = few.acquire().await.unwrap();
            row.judged(&name, fault).await
        });
    }
    let mut cells = cases.join_all().await;
    let wrong = row.wrong_records(&names);
    cells.iter_mut().for_each(|cell| cell.wrong = cell.wrong.take().map(|wrong| format!("{title}: {wrong}")));
    if let (Some(wrong), Some(cell)) = (wrong, cells.first_mut()) {
        cell.wrong = Some(format!("{title}: {wrong}"));
    }
    (title, cells)
}

fn layer(of_messages: bool) -> &'static str {
    if of_messages { "messages" } else { "TLS records" }
}

/// Each harm at each unit of both sides, once and on every connection.
fn faults(most: [usize; 2]) -> impl Iterator<Item = Fault> {
    let places = [Side::Client, Side::Server].into_iter().zip(most);
    let places = places.flat_map(|(side, most)| (0..most).map(move |at| (side, at)));
    places.flat_map(|(side, at)| {
        HARMS.into_iter().flat_map(move |harm| [false, true].map(|every| Fault { side, at, harm, every }))
    })
}

/// The registration id of a case.
fn name(fault: &Fault) -> String {
    let extent = if fault.every { "every" } else { "once" };
    format!("{:?}-{}-{:?}-{extent}", fault.side, fault.at, fault.harm).to_lowercase()
}
