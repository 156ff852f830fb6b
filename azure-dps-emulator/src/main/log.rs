//! The log on stderr. It is written beside the emulator, so that a pipe that nobody reads holds nothing up: lines that find
//! no room are dropped, and counted where they are missing.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::level_filters::LevelFilter;

/// Begins the log. Lines that wait are written when the result is dropped, unless nobody reads them.
pub(crate) fn begin(level: LevelFilter) -> io::Result<Log> {
    let (lines, waiting) = mpsc::sync_channel(ROOM);
    let lost = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&lost);
    thread::Builder::new().name("log".to_owned()).spawn(move || write(&waiting, &counted, io::stderr()))?;
    let line = Line { lines: lines.clone(), lost };
    let subscriber = tracing_subscriber::fmt().with_writer(move || line.clone());
    subscriber.with_ansi(false).with_max_level(level).init();
    Ok(Log(lines))
}

/// The log while the program runs.
pub(crate) struct Log(SyncSender<Message>);

impl Drop for Log {
    fn drop(&mut self) {
        let (told, end) = mpsc::channel();
        let mut message = Message::End(told);
        let asked = Instant::now();
        while let Err(TrySendError::Full(back)) = self.0.try_send(message) {
            if asked.elapsed() >= PATIENCE {
                return;
            }
            message = back;
            thread::sleep(Duration::from_millis(1));
        }
        // Whether the last lines were written or not, the program ends.
        let _written = end.recv_timeout(PATIENCE);
    }
}

enum Message {
    Line(Vec<u8>),
    End(mpsc::Sender<()>),
}

/// Takes one line.
#[derive(Clone)]
struct Line {
    lines: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.lines.try_send(Message::Line(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write(waiting: &Receiver<Message>, lost: &AtomicU64, mut out: impl Write) {
    let tell_missing = |out: &mut dyn Write| {
        let missing = lost.swap(0, Ordering::Relaxed);
        if missing > 0 {
            // Nobody reads it any more when a line cannot be written.
            let _written = writeln!(out, "{missing} lines of the log had no room");
        }
    };
    loop {
        let message = waiting.try_recv().or_else(|_| {
            // They came when there was no room, so their place is behind what waited.
            tell_missing(&mut out);
            waiting.recv()
        });
        match message {
            Ok(Message::Line(line)) => drop(out.write_all(&line)),
            Ok(Message::End(told)) => {
                tell_missing(&mut out);
                let _heard = told.send(());
                return;
            }
            Err(_) => return,
        }
    }
}

/// How many lines wait for a reader.
const ROOM: usize = 1024;
/// How long the end waits for the last lines.
const PATIENCE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_without_room_are_dropped_and_counted() {
        let (lines, waiting) = mpsc::sync_channel(2);
        let lost = Arc::new(AtomicU64::new(0));
        let mut line = Line { lines: lines.clone(), lost: Arc::clone(&lost) };
        for text in ["one\n", "two\n", "three\n", "four\n"] {
            assert_eq!(line.write(text.as_bytes()).unwrap(), text.len());
        }
        drop((line, lines));

        let mut out = Vec::new();
        write(&waiting, &lost, &mut out);

        assert_eq!(String::from_utf8(out).unwrap(), "one\ntwo\n2 lines of the log had no room\n");
    }
}
