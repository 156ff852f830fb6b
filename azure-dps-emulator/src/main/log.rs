//! The log on stderr. A thread writes it, so that a pipe without a reader does not block the emulator: lines
//! that do not fit into the queue are dropped and counted.

use std::io::{self, Write};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::level_filters::LevelFilter;

/// Starts the log. Dropping the result writes the lines that wait, unless stderr has no reader.
pub(crate) fn begin(level: LevelFilter) -> io::Result<Log> {
    let (lines, waiting) = mpsc::sync_channel(ROOM);
    let lost = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&lost);
    thread::Builder::new().name("log".to_owned()).spawn(move || write(&waiting, &counted, io::stderr()))?;
    let line = Line { lines: lines.clone(), lost };
    let subscriber = tracing_subscriber::fmt().with_writer(move || line.clone());
    subscriber.with_ansi(false).with_max_level(level).init();
    Ok(Log { lines, last: Vec::new() })
}

/// The running log.
pub(crate) struct Log {
    lines: SyncSender<Message>,
    /// The line with which it ends.
    last: Vec<u8>,
}

impl Log {
    /// Ends the log with a line, which waits for a reader no longer than the others.
    pub(crate) fn end_with(mut self, last: &str) {
        self.last = format!("{last}\n").into_bytes();
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let (done, end) = mpsc::channel();
        let mut message = Message::End(mem::take(&mut self.last), done);
        let begun = Instant::now();
        while let Err(TrySendError::Full(back)) = self.lines.try_send(message) {
            if begun.elapsed() >= PATIENCE {
                return;
            }
            message = back;
            thread::sleep(Duration::from_millis(1));
        }
        // The program ends whether or not the last lines were written.
        let _written = end.recv_timeout(PATIENCE.saturating_sub(begun.elapsed()));
    }
}

enum Message {
    Line(Vec<u8>),
    /// With the last line.
    End(Vec<u8>, mpsc::Sender<()>),
}

/// Puts one line into the queue.
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
    let report_missing = |out: &mut dyn Write| {
        let missing = lost.swap(0, Ordering::Relaxed);
        if missing > 0 {
            // If a line cannot be written, stderr has no reader any more.
            let _written = writeln!(out, "{missing} log lines were dropped: stderr is read too slowly");
        }
    };
    loop {
        let message = waiting.try_recv().or_else(|_| {
            // The missing lines came after those that waited, so they are reported here.
            report_missing(&mut out);
            waiting.recv()
        });
        match message {
            Ok(Message::Line(line)) => drop(out.write_all(&line)),
            Ok(Message::End(last, done)) => {
                report_missing(&mut out);
                drop(out.write_all(&last));
                let _received = done.send(());
                return;
            }
            Err(_) => return,
        }
    }
}

/// The length of the queue in lines.
const ROOM: usize = 1024;
/// How long the program waits for its last lines at its end, which takes that long only if stderr is not read.
const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_queue_are_dropped_and_counted() {
        let (lines, waiting) = mpsc::sync_channel(2);
        let lost = Arc::new(AtomicU64::new(0));
        let mut line = Line { lines: lines.clone(), lost: Arc::clone(&lost) };
        for text in ["one\n", "two\n", "three\n", "four\n"] {
            assert_eq!(line.write(text.as_bytes()).unwrap(), text.len());
        }
        drop((line, lines));

        let mut out = Vec::new();
        write(&waiting, &lost, &mut out);

        assert_eq!(
            String::from_utf8(out).unwrap(),
            "one\ntwo\n2 log lines were dropped: stderr is read too slowly\n"
        );
    }

    #[test]
    fn the_last_line_comes_after_those_that_wait() {
        let (lines, waiting) = mpsc::sync_channel(2);
        lines.send(Message::Line(b"one\n".to_vec())).unwrap();
        let written = thread::spawn(move || {
            let mut out = Vec::new();
            write(&waiting, &AtomicU64::default(), &mut out);
            out
        });

        Log { lines, last: Vec::new() }.end_with("failed");

        assert_eq!(written.join().unwrap(), b"one\nfailed\n");
    }
}
