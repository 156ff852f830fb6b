//! When the program ends: on a signal, or at the end of its standard input.

#[cfg(unix)]
use std::future;
use std::io::{self, Read};
use std::thread;

use tokio::sync::oneshot;

/// Resolves with the first signal that asks the program to end, and with `until_stdin_closes` also at the end of
/// its standard input. Both count from this call on.
pub(crate) fn ending(until_stdin_closes: bool) -> io::Result<impl Future<Output = ()>> {
    let signals = signals()?;
    let closed = if until_stdin_closes { Some(stdin_closes()?) } else { None };
    Ok(async move {
        match closed {
            Some(closed) => tokio::select! {
                () = signals => {}
                // An error means that the thread has ended, which it does after the last byte.
                _ = closed => {}
            },
            None => signals.await,
        }
    })
}

/// Reads and drops the standard input in a thread, because tokio would wait at the end of the program for a
/// read that does not return.
fn stdin_closes() -> io::Result<oneshot::Receiver<()>> {
    let (closed, closing) = oneshot::channel();
    thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        end_of(io::stdin());
        // No receiver is left if a signal came first.
        let _sent = closed.send(());
    })?;
    Ok(closing)
}

/// Returns when nothing more can be read.
fn end_of(mut input: impl Read) {
    let mut ignored = [0; 4096];
    loop {
        match input.read(&mut ignored) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Such as a terminal that is gone.
            Err(_) => return,
        }
    }
}

#[cfg(unix)]
fn signals() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // Sent when the terminal or the remote session closes. Handling it would undo nohup.
    let mut hang_up = if ignores_hang_up() { None } else { Some(signal(SignalKind::hangup())?) };
    Ok(async move {
        let hung_up = async {
            match &mut hang_up {
                Some(hang_up) => hang_up.recv().await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hung_up => {}
        }
    })
}

/// Returns whether the program was started so that it ignores SIGHUP. Only Linux shows this to safe code.
#[cfg(unix)]
fn ignores_hang_up() -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return false };
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // Bit 0 is signal 1, which is SIGHUP.
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(not(unix))]
fn signals() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown};

    let (mut interrupt, mut interrupt_by_break) = (ctrl_c()?, ctrl_break()?);
    let (mut close, mut shutdown) = (ctrl_close()?, ctrl_shutdown()?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = interrupt_by_break.recv() => {}
            _ = close.recv() => {}
            _ = shutdown.recv() => {}
        }
    })
}
