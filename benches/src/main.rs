//! The benchmarks: what a registration and a service call cost with the SDK, with Microsoft's clients and with exchanges
//! written by hand, on one emulator in one run. It prints a page in Markdown.
//!
//! `cargo xtask bench` builds what it needs and writes the page to `docs/performance.md`. `--once` runs everything
//! once with small numbers, to show that it works; the figures mean nothing then.
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
mod subject;

use std::error::Error;
use std::path::PathBuf;
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

fn main() -> Outcome<()> {
    let scale = match env::args().nth(1).as_deref() {
        None => FULL,
        Some("--once") => ONCE,
        Some(other) => return Err(format!("`{other}` is not an option; the only one is --once").into()),
    };
    let folder = env::temp_dir().join(format!("azure-dps-bench-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let outcome = run(scale, folder.clone());
    fs::remove_dir_all(&folder)?;
    print!("{}", outcome?.text());
    Ok(())
}

fn run(scale: Scale, folder: PathBuf) -> Outcome<Page> {
    let (seed, identity) = emulator::fleet(&folder)?;
    let server = Server::start(&folder, &seed)?;
    let bench = Bench { scale, server, identity, folder, runs: AtomicU32::new(0) };
    let mut page = Page::default();
    page.heading(1, "Performance");
    machine::describe(&mut page);
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
        section(&bench, &mut page)?;
    }
    Ok(page)
}
