//! A device that lives for years, as a program to copy: a provisioning manager, a connector to the hub, and a
//! folder for what has to survive a reboot. It prints one line for each event.
//!
//! `cargo run --example gateway` shows it on an embedded emulator: the first boot, a move to another hub, and a
//! reboot. With `DPS_CONNECTION_STRING` and `DPS_ID_SCOPE` set it enrolls a device in that instance, shows the
//! first boot and a reboot, and deletes what it made; the device stays known to its hub.
//!
//! With `GATEWAY_FOLDER` set it is the device that the environment describes (`DPS_ID_SCOPE`,
//! `DPS_REGISTRATION_ID`, `DPS_KEY` and the others of `DeviceClient::from_env`), until SIGTERM or Ctrl-C, or
//! until another program takes the device over:
//!
//! `GATEWAY_FOLDER`         a folder for the record and the private keys of the device
//! `GATEWAY_SECONDARY_KEY`  the other key of its enrollment, for when `DPS_KEY` is refused
//! `GATEWAY_HUB`            host:port where hubs are dialled, for an emulator or an IoT Edge gateway
//! `GATEWAY_LONGEST_PAUSE`  the longest pause between attempts in seconds, for an emulator
//!
//! The direct method `reprovision` provisions the device anew. The exit status is 0 after a signal, 3 if another
//! program took the device over, and 1 after an error.
#![allow(clippy::print_stderr)] // A sample prints for a person.

use std::io::{self, Write as _};
use std::process::ExitCode;

use azure_dps_device::core::{Error, ErrorKind, Result};
use azure_dps_device::manager::{EndReason, Events, Happening, ManagerEvent, ProvisioningManager, Snapshot};
use azure_dps_examples::{play, variable};

mod connector;
mod demonstration;
#[path = "../hub/session.rs"]
mod session;
mod settings;

#[tokio::main]
async fn main() -> ExitCode {
    let folder = variable("GATEWAY_FOLDER").filter(|_| std::env::args_os().len() < 2);
    let Some(folder) = folder else {
        return play(include_str!("main.rs"), demonstration::run).await;
    };
    match device(&folder).await {
        Ok(End::Asked) => ExitCode::SUCCESS,
        Ok(End::TakenOver) => {
            eprintln!("error: {}", taken_over().report());
            ExitCode::from(TAKEN_OVER)
        }
        Err(error) => {
            eprintln!("error: {}", error.report());
            ExitCode::FAILURE
        }
    }
}

/// For a service manager, which must not start this program again: the two would end the connections of each
/// other.
const TAKEN_OVER: u8 = 3;

/// Why a device ended.
pub(crate) enum End {
    Asked,
    TakenOver,
}

/// The device of the environment, until a signal.
async fn device(folder: &str) -> Result<End> {
    // Before the start, so that a signal never finds the program without a handler.
    let signal = signal()?;
    let manager = ProvisioningManager::start(settings::options(folder)?);
    let events = manager.events();
    live(manager, events, signal).await
}

/// Prints the events of a device until `end`, and then stops it, or until another program takes it over.
///
/// # Errors
/// When the manager stops for another reason.
pub(crate) async fn live(
    manager: ProvisioningManager,
    mut events: Events,
    end: impl Future<Output = ()>,
) -> Result<End> {
    let mut end = std::pin::pin!(end);
    let mut is_taken_over = false;
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(event) => {
                    is_taken_over |= event.happening == Happening::Disconnected(EndReason::TakenOver);
                    log(&line(&event, &manager.snapshot()));
                }
                None if is_taken_over => return Ok(End::TakenOver),
                None => return Err(panicked()),
            },
            () = &mut end => break,
        }
    }
    let snapshot = manager.snapshot();
    manager.stop().await;
    // What happened while it stopped.
    while let Some(event) = events.next().await {
        log(&line(&event, &snapshot));
    }
    Ok(End::Asked)
}

/// One line for a log. The state and the hub are those after the event.
fn line(event: &ManagerEvent, snapshot: &Snapshot) -> String {
    let mut line = format!("{:<26} {:?}", format!("{:?}", event.happening), event.state);
    if let Some(hub) = &snapshot.hub {
        line += &format!(" hub={hub}");
    }
    if snapshot.credential > 0 {
        line += &format!(" credential={}", snapshot.credential);
    }
    if let Some(days) = snapshot.certificate_days_left(event.at) {
        line += &format!(" certificate_days={days}");
    }
    if let Some(pause) = event.next_attempt {
        line += &format!(" next_attempt={:.1}s", pause.as_secs_f64());
    }
    if let Some(error) = &event.error {
        // The errors below it have the details: which address, which file.
        let causes = std::iter::successors(Some(&**error as &dyn std::error::Error), |&cause| cause.source());
        line += &format!(" error={:?}", causes.map(|cause| cause.to_string()).collect::<Vec<_>>().join(": "));
    }
    line
}

/// Prints a line. A log that is gone must not end the device, so `println!` does not fit: it panics.
pub(crate) fn log(line: &str) {
    let _printed = writeln!(io::stdout(), "{line}");
}

pub(crate) fn taken_over() -> Error {
    let message = "another program is connected to the hub with the identity of this device";
    Error::new(ErrorKind::Unauthorized, message)
        .with_help("end that program, or give one of them another identity")
}

fn panicked() -> Error {
    let message = "the provisioning manager panicked; standard error has the message";
    Error::new(ErrorKind::Config, message).with_help("start the program again, and report the message")
}

/// Completes with SIGTERM or SIGINT (Ctrl-C), which are caught from this call on.
#[cfg(unix)]
fn signal() -> Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let catch = |kind| {
        signal(kind)
            .map_err(|why| Error::new(ErrorKind::Config, "a signal cannot be caught").with_source(why))
    };
    let (mut terminate, mut interrupt) = (catch(SignalKind::terminate())?, catch(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Completes with Ctrl-C.
#[cfg(not(unix))]
fn signal() -> Result<impl Future<Output = ()>> {
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    })
}
