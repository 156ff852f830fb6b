//! The soak: a mixed load for some minutes, and whether memory, descriptors and tasks stay flat meanwhile.

mod cutter;
mod load;
mod samples;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use self::load::World;
use self::samples::Samples;
use crate::Outcome;
use crate::emulator::{self, Server};
use crate::report::Page;

/// Runs the load, adds the figures to the page, and says whether they were flat.
pub(crate) fn run(minutes: u64, folder: &Path, page: &mut Page) -> Outcome<bool> {
    let (seed, _) = emulator::fleet(folder)?;
    let server = Server::start(folder, &seed)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(soak(&server, minutes, page))
}

async fn soak(server: &Server, minutes: u64, page: &mut Page) -> Outcome<bool> {
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    let world = Arc::new(World::prepare(server).await?);
    let mut lanes = JoinSet::new();
    load::start(&world, end, &mut lanes);
    let mut samples = Samples::default();
    while Instant::now() < end {
        sleep_until(Instant::now() + EVERY).await;
        samples.take(server.process())?;
        // A lane that ends early has seen an outcome that must not be.
        if let Some(ended) = lanes.try_join_next() {
            ended??;
        }
    }
    while let Some(ended) = lanes.join_next().await {
        ended??;
    }
    page.paragraph(&format!(
        "`cargo xtask soak` wrote this section. For {minutes} minutes each of the five transports registered devices \
         with keys and with certificates, two at once each: with valid, wrong and disabled credentials, on connections \
         that a relay cut in the middle, and in futures that were dropped. A service client created, read, edited, \
         listed and deleted enrollments. The emulator's program was another process. The processes had {} processors; \
         the load average of the machine was {} at the end.",
        std::thread::available_parallelism().map_or(0, usize::from),
        load_average(),
    ));
    page.table(["outcome", "how often"], &world.counts());
    page.paragraph(samples::RULE);
    Ok(samples.report(page))
}

fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

const EVERY: Duration = Duration::from_secs(1);
