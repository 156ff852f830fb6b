//! The benchmarks: what a registration and a service call cost with the SDK, with Microsoft's clients and
//! with exchanges written by hand, on one emulator in one run. It prints a page in Markdown.
//!
//! `cargo xtask bench` builds what it needs and writes the page to `docs/performance.md`. `--once` runs everything
//! once with small numbers, to show that it works; the figures mean nothing then. `--soak MINUTES` runs a mixed load
//! and prints whether memory, descriptors and tasks stay flat.
#![allow(clippy::print_stdout, clippy::print_stderr)] // A command talks to a person.

mod device;
mod emulator;
mod growth;
mod instructions;
mod job;
mod machine;
mod measure;
mod network;
mod proxy;
mod report;
mod service;
mod soak;
mod subject;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs};

use crate::emulator::Server;
use crate::report::Page;
use crate::subject::Run;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// How often each figure is taken; all subjects take turns.
    pub(crate) runs: u32,
    pub(crate) cold_runs: u32,
    /// Registrations of a process that shows the cost of one more.
    pub(crate) steady: u32,
    pub(crate) fleets: &'static [u32],
    pub(crate) round_trips_ms: &'static [u64],
    /// How many kinds of registration run below callgrind.
    pub(crate) counted: usize,
    pub(crate) service: u32,
    pub(crate) groups: &'static [u32],
    pub(crate) enrollments: &'static [u32],
}

const FULL: Scale = Scale {
    runs: 5,
    cold_runs: 9,
    steady: 200,
    fleets: &[64, 1000, 5000],
    round_trips_ms: &[20, 50, 100],
    counted: usize::MAX,
    service: 500,
    groups: &[1, 100, 1000, 10_000],
    enrollments: &[1000, 10_000, 100_000],
};

const ONCE: Scale = Scale {
    runs: 1,
    cold_runs: 1,
    steady: 3,
    fleets: &[4],
    round_trips_ms: &[2],
    counted: 1,
    service: 10,
    groups: &[2],
    enrollments: &[10],
};

/// What every section works on.
pub(crate) struct Bench {
    pub(crate) scale: Scale,
    pub(crate) server: Server,
    pub(crate) identity: (PathBuf, PathBuf),
    pub(crate) folder: PathBuf,
    runs: AtomicU32,
}

impl Bench {
    /// A run of a client on the common server, with registration ids that no run before had.
    pub(crate) fn run(&self, count: u32, width: u32) -> Run<'_> {
        self.run_on(&self.server, &self.identity, count, width)
    }

    /// The same on another server.
    pub(crate) fn run_on<'a>(
        &self,
        server: &'a Server,
        identity: &'a (PathBuf, PathBuf),
        count: u32,
        width: u32,
    ) -> Run<'a> {
        let prefix = format!("run{}", self.runs.fetch_add(1, Ordering::Relaxed));
        Run { server, ports: server.ports, identity, prefix, count, width }
    }
}

fn main() -> Outcome<ExitCode> {
    let folder = env::temp_dir().join(format!("azure-dps-bench-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let words: Vec<String> = env::args().skip(1).collect();
    let mut page = Page::default();
    let outcome = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => run(FULL, folder.clone(), &mut page).map(|()| true),
        ["--once"] => run(ONCE, folder.clone(), &mut page).map(|()| true),
        ["--soak", minutes] => {
            minutes.parse().map_err(Into::into).and_then(|minutes| soak::run(minutes, &folder, &mut page))
        }
        other => Err(format!("`{}` is not --once or --soak MINUTES", other.join(" ")).into()),
    };
    fs::remove_dir_all(&folder)?;
    let is_good = outcome?;
    print!("{}", page.text());
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run(scale: Scale, folder: PathBuf, page: &mut Page) -> Outcome<()> {
    let (seed, identity) = emulator::fleet(&folder)?;
    let server = Server::start(&folder, &seed)?;
    let bench = Bench { scale, server, identity, folder, runs: AtomicU32::new(0) };
    page.heading(1, "Performance");
    machine::describe(page);
    type Section = fn(&Bench, &mut Page) -> Outcome<()>;
    let sections: [(&str, Section); 7] = [
        ("cold starts", device::cold),
        ("steady cost", device::steady),
        ("fleets", device::fleets),
        ("round trips", network::round_trips),
        ("instructions", instructions::count),
        ("service calls", service::calls),
        ("growth of the emulator", growth::measure),
    ];
    for (name, section) in sections {
        eprintln!("measuring {name}");
        section(&bench, page)?;
    }
    Ok(())
}
