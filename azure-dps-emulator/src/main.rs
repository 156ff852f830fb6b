//! The emulator as a program: reads flags, prints one line of JSON when it is ready, and ends when it is
//! asked to.

#[path = "main/args.rs"]
mod args;
#[path = "main/ca_file.rs"]
mod ca_file;
#[path = "main/ending.rs"]
mod ending;
#[path = "main/explain.rs"]
mod explain;
#[path = "main/flag_names.rs"]
mod flag_names;
#[path = "main/health.rs"]
mod health;
#[path = "main/log.rs"]
mod log;
#[path = "main/variables.rs"]
mod variables;

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use azure_dps_emulator::plumbing::{limited_text, shown};
use azure_dps_emulator::{CaCertificate, EmulatorBuilder, Pki};
use clap::CommandFactory;
use tracing::level_filters::LevelFilter;

use crate::args::{CaCertificateFile, CommandLine, HealthArgs, PkiArgs, Serve, Task};
use crate::ca_file::CaFile;
use crate::flag_names::FlagNames;

fn main() -> ExitCode {
    let (CommandLine { task, serve }, names) =
        match variables::read(env::args_os().collect(), |name| env::var_os(name)) {
            Ok(read) => read,
            Err(error) => error.exit(),
        };
    match task {
        Some(Task::Health(health)) => check_health(&health),
        Some(Task::Pki(pki)) => write_pki(pki),
        Some(Task::Completions { shell }) => {
            let mut script = Vec::new();
            let mut command = CommandLine::command();
            clap_complete::generate(shell, &mut command, env!("CARGO_BIN_NAME"), &mut script);
            print(&script)
        }
        None => serve_until_the_end(&serve, &names),
    }
}

fn write_pki(PkiArgs { out, devices, intermediates }: PkiArgs) -> ExitCode {
    match Pki::new(devices, intermediates).and_then(|pki| pki.write_to(out)) {
        Ok(files) => print(format!("{files}\n").as_bytes()),
        Err(error) => fail(&error.to_string()),
    }
}

fn check_health(args: &HealthArgs) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot check: {error}")),
    };
    match runtime.block_on(health::check(args.manage_host, args.manage_port, args.timeout)) {
        Ok(url) => print(format!("healthy: {url}\n").as_bytes()),
        Err(why) => fail(&why),
    }
}

fn serve_until_the_end(serve: &Serve, names: &FlagNames) -> ExitCode {
    let builder = match serve.builder(names) {
        Ok(builder) => builder,
        Err(error) => error.exit(),
    };
    let level = if serve.quiet { LevelFilter::WARN } else { LevelFilter::INFO };
    let log = match log::begin(level) {
        Ok(log) => log,
        Err(error) => return fail(&format!("cannot start: {error}")),
    };
    for name in variables::unknown(env::vars_os().map(|(name, _)| name)) {
        tracing::warn!("the environment variable {name} belongs to no flag and is ignored");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}")),
    };
    let ended = runtime.block_on(run(serve, names, builder));
    // Only connections of clients still run, and the program does not wait for them.
    runtime.shutdown_timeout(Duration::from_millis(200));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log.end_with(&failure(&explain::with_sources(error.as_ref())));
            ExitCode::FAILURE
        }
    }
}

async fn run(serve: &Serve, names: &FlagNames, mut builder: EmulatorBuilder) -> Result<(), Box<dyn Error>> {
    if let Some(path) = serve.seed() {
        let seed = limited_text(path, LARGEST_SEED)
            .map_err(|error| explain::unreadable_seed(names, path, &error))?;
        builder = builder.seed_json(seed);
    }
    if let Some(path) = serve.data() {
        builder = builder.data_file(path);
    }
    for CaCertificateFile { name, path } in serve.ca_certificates() {
        let pem = limited_text(path, LARGEST_PEM).map_err(|error| {
            let given = format!("{} {}={}", names.of("--ca-certificate"), shown(name), shown(path));
            explain::unreadable_pem(&given, path, &error)
        })?;
        builder = builder.ca_certificate(CaCertificate::verified(name, pem));
    }
    if let Some(path) = serve.webhook_ca() {
        let pem = limited_text(path, LARGEST_PEM).map_err(|error| {
            let given = format!("{} {}", names.of("--webhook-ca"), shown(path));
            explain::unreadable_pem(&given, path, &error)
        })?;
        builder = builder.webhook_ca(pem);
    }
    // Before the ready line, so that no signal after it is missed.
    let ended = ending::ending(serve.until_stdin_closes)?;
    let emulator =
        builder.start().await.map_err(|error| explain::not_started(&error, names, serve.seed()))?;
    let ca_file = match serve.ca_dir() {
        Some(dir) => CaFile::kept(dir),
        None => CaFile::temporary(&env::temp_dir(), emulator.https_port(), emulator.ca_pem())?,
    };
    let mut out = io::stdout();
    writeln!(out, "{}", emulator.ready_line(ca_file.path())).and_then(|()| out.flush())?;
    ended.await;
    Ok(emulator.shut_down().await?)
}

fn print(text: &[u8]) -> ExitCode {
    // A closed stdout is not an error.
    let _written = io::stdout().write_all(text);
    ExitCode::SUCCESS
}

fn fail(message: &str) -> ExitCode {
    // A closed stderr does not matter, because the exit code reports the failure too.
    let _written = writeln!(io::stderr(), "{}", failure(message));
    ExitCode::FAILURE
}

/// The line that reports a failure.
fn failure(message: &str) -> String {
    format!("azure-dps-emulator: {}", message.replace('\n', " "))
}

/// The largest seed in MiB, which is as large as a state can be.
const LARGEST_SEED: usize = 512;
/// The largest PEM file in MiB.
const LARGEST_PEM: usize = 1;
