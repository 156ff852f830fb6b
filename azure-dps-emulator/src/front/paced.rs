//! A connection that is not faster than its client. While the client does not read its answers, nothing is
//! read from it, so that answers do not pile up. A client that does not read for too long loses the
//! connection.
//!
//! | the client | then |
//! | --- | --- |
//! | reads its answers | both directions are open |
//! | does not read | nothing is read from it, and its remaining time runs down |
//! | reads some bytes | its remaining time grows with each byte, up to [`PATIENCE`] |
//! | has no time left | reads and writes fail with `TimedOut` |

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

/// A TCP connection that one task uses.
#[derive(Debug)]
pub(super) struct Paced {
    stream: TcpStream,
    /// How long the client may still not read.
    patience: Duration,
    /// Since when the client has not read, and the timer for the end of its time.
    stalled: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Paced {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, patience: PATIENCE, stalled: None }
    }

    /// The address that the client connected to.
    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// Handles the outcome of a write: starts or checks the timer while the client does not read.
    fn written(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match outcome {
            Poll::Pending => {
                let patience = self.patience;
                let (_, over) = self.stalled.get_or_insert_with(|| {
                    let now = Instant::now();
                    (now, Box::pin(sleep_until(now + patience)))
                });
                ready!(over.as_mut().poll(cx));
                Poll::Ready(Err(too_slow()))
            }
            Poll::Ready(Ok(count)) => {
                self.resume();
                self.patience = gained(self.patience, count);
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }

    /// Stops the timer: the client reads again.
    fn resume(&mut self) {
        if let Some((since, _)) = self.stalled.take() {
            self.patience = self.patience.saturating_sub(since.elapsed());
        }
    }
}

/// The remaining time of a client after it has read so many bytes.
fn gained(patience: Duration, bytes: usize) -> Duration {
    let millis = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(1_000) / SLOWEST;
    patience.saturating_add(Duration::from_millis(millis)).min(PATIENCE)
}

fn too_slow() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the client does not read what it is sent")
}

impl AsyncRead for Paced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some((_, over)) = &mut self.stalled {
            if over.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(too_slow()));
            }
            ready!(self.stream.poll_write_ready(cx))?;
            self.resume();
        }
        Pin::new(&mut self.stream).poll_read(cx, bytes)
    }
}

impl AsyncWrite for Paced {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.written(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// How long a client may not read its answers.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes per second: a client that always lags behind must read at least this fast.
const SLOWEST: u64 = 16 * 1024;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (Paced, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Paced::new(listener.accept().await.unwrap().0), client)
    }

    /// Writes until the buffers are full.
    async fn fill(paced: &mut Paced) {
        let block = [0; 64 * 1024];
        while tokio::time::timeout(Duration::from_millis(200), paced.write_all(&block)).await.is_ok() {}
        assert!(paced.stalled.is_some());
    }

    #[tokio::test]
    async fn nothing_is_read_while_the_client_does_not_read() {
        let (mut paced, mut client) = pair().await;
        client.write_all(b"more").await.unwrap();
        fill(&mut paced).await;

        let mut byte = [0];
        let read = tokio::time::timeout(Duration::from_millis(200), paced.read(&mut byte)).await;
        read.unwrap_err();
        let reading = tokio::spawn(async move { paced.read(&mut [0]).await.map(|_| paced) });
        let mut taken = vec![0; 8 * 1024 * 1024];
        while !reading.is_finished() {
            let _count = tokio::time::timeout(Duration::from_millis(50), client.read(&mut taken)).await;
        }
        reading.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_for_too_long_loses_the_connection() {
        let (mut paced, client) = pair().await;
        fill(&mut paced).await;
        let now = Instant::now();
        paced.stalled = Some((now, Box::pin(sleep_until(now + Duration::from_millis(100)))));

        let read = paced.read(&mut [0]).await.unwrap_err();
        let write = paced.write_all(&[0; 64 * 1024]).await.unwrap_err();

        assert_eq!([read.kind(), write.kind()], [io::ErrorKind::TimedOut; 2]);
        drop(client);
    }

    #[test]
    fn a_client_that_reads_a_little_gains_a_little_time() {
        assert_eq!(gained(Duration::ZERO, 1), Duration::ZERO);
        assert_eq!(gained(Duration::ZERO, 16 * 1024), Duration::from_secs(1));
        assert_eq!(gained(Duration::from_secs(29), usize::MAX), PATIENCE);
    }
}
