//! The cost of a process as the operating system counts it.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use wait4::Wait4 as _;

use crate::Outcome;

/// What one process cost from its start to its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// In user mode and in the kernel.
    pub(crate) cpu: Duration,
    pub(crate) wall: Duration,
    /// The largest resident set, in KiB.
    pub(crate) peak_kib: u64,
}

/// Runs a command that prints how many operations succeeded.
///
/// # Errors
/// It does not start, fails, or prints another number.
pub(crate) fn run(command: &mut Command, wanted: u32) -> Outcome<Cost> {
    let start = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (mut printed, mut complaint) = (String::new(), String::new());
    if let Some(stdout) = &mut child.stdout {
        stdout.read_to_string(&mut printed)?;
    }
    if let Some(stderr) = &mut child.stderr {
        stderr.read_to_string(&mut complaint)?;
    }
    let ended = child.wait4()?;
    let wall = start.elapsed();
    if !ended.status.success() || printed.trim().parse() != Ok(wanted) {
        return Err(format!("{command:?} ended with {}: {printed}{complaint}", ended.status).into());
    }
    Ok(Cost { cpu: ended.rusage.utime + ended.rusage.stime, wall, peak_kib: ended.rusage.maxrss / 1024 })
}

/// The CPU time of a process that still runs.
pub(crate) fn cpu_of(process: u32) -> Outcome<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let behind_name = stat.rsplit_once(')').ok_or("no name")?.1;
    let mut fields = behind_name.split_whitespace().skip(11).map(str::parse::<u64>);
    let (user, system) = (fields.next().ok_or("no time")??, fields.next().ok_or("no time")??);
    // Linux counts here in hundredths of a second on every architecture.
    Ok(Duration::from_millis((user + system) * 10))
}

/// The resident set of a process that still runs, in KiB.
pub(crate) fn resident_of(process: u32) -> Outcome<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
