//! One fault at each TLS record and each message of registrations and service calls.
//!
//! A relay between the SDK and the emulator harms one unit in one direction: on the first connection that gets
//! there, or on every connection. Runs without a fault find the units. `cargo xtask reliability` writes the
//! figures to docs/reliability.md.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)] // Test code.

mod case;
mod device;
mod figures;
mod row;
mod selection;
mod service;

use std::sync::Arc;
use std::time::Instant;

use azure_dps_tests::plant::Protocol;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::figures::Figures;
use crate::row::{Subject, Title};
use crate::selection::Selection;
use crate::service::Call;

const PROTOCOLS: [Protocol; 5] =
    [Protocol::Https, Protocol::Mqtt, Protocol::MqttWs, Protocol::Amqp, Protocol::AmqpWs];

/// How many cases work at once. With more of them, a handshake may exceed the limit of an attempt.
const WORKING: usize = 8;
/// How many rows run at once. Most of their cases wait for a limit or for their turn.
const ROWS: usize = 4;

#[allow(clippy::print_stdout)] // The step shows the progress.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: `cargo xtask test --only matrix`"]
async fn one_fault_anywhere_ends_in_success_and_faults_without_end_in_the_right_error() {
    let began = Instant::now();
    let (turns, selection) = (Arc::new(Semaphore::new(WORKING)), Arc::new(Selection::read()));
    let few_rows = Arc::new(Semaphore::new(ROWS));
    let mut rows = JoinSet::new();
    for (number, title) in titles().enumerate().filter(|(_, title)| selection.has_row(*title)) {
        let (turns, selection) = (Arc::clone(&turns), Arc::clone(&selection));
        let few_rows = Arc::clone(&few_rows);
        rows.spawn(async move {
            let _one = few_rows.acquire().await.unwrap();
            (number, row::run(title, &selection, turns).await)
        });
    }
    let mut figures = Figures::default();
    while let Some(row) = rows.join_next().await {
        let (number, row) = row.unwrap();
        println!("      {row}");
        figures.add(number, row);
    }
    figures.write(began.elapsed());
    assert!(figures.cases() > 0, "{selection} selects no case");
    assert!(figures.wrong() == 0, "{} cases ended wrong; see above", figures.wrong());
}

/// All rows.
fn titles() -> impl Iterator<Item = Title> {
    let devices = PROTOCOLS
        .into_iter()
        .flat_map(|protocol| [false, true].map(|x509| Subject::Device { protocol, x509 }));
    let calls = Call::ALL.into_iter().map(Subject::Call);
    let subjects = devices.chain(calls);
    subjects.flat_map(|subject| [false, true].map(|of_messages| Title { subject, of_messages }))
}
