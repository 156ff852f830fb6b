//! The stream under the library, and the switch that ends it. The library's tasks read until the peer is gone; a peer
//! that stalls would keep them for ever.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that ends as soon as its [`Switch`] is dropped.
pub(super) struct Line<S> {
    stream: S,
    state: Arc<Mutex<State>>,
}

/// Dropping it ends the stream on this side: reads find the end, writes fail.
pub(super) struct Switch(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    cut: bool,
    /// The peer sends no more.
    ended: bool,
    /// What the library drops on its way up.
    failure: Option<io::Error>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl<S> Line<S> {
    pub(super) fn new(stream: S) -> (Self, Switch) {
        let state = Arc::default();
        (Self { stream, state: Arc::clone(&state) }, Switch(state))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the line is cut; if not, `context` hears of it.
    fn is_cut(&self, context: &Context<'_>, who: fn(&mut State) -> &mut Option<Waker>) -> bool {
        let mut state = self.state();
        if !state.cut {
            *who(&mut state) = Some(context.waker().clone());
        }
        state.cut
    }

    fn keep<T>(&self, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        outcome.map_err(|why| {
            let kind = why.kind();
            self.state().failure.get_or_insert(why);
            kind.into()
        })
    }
}

impl Switch {
    /// Whether the peer ended the stream.
    pub(super) fn has_ended(&self) -> bool {
        self.state().ended
    }

    /// What went wrong with the stream, once.
    pub(super) fn failure(&self) -> Option<io::Error> {
        self.state().failure.take()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        let wakers = {
            let mut state = self.state();
            state.cut = true;
            [state.reader.take(), state.writer.take()]
        };
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Line<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_cut(context, |state| &mut state.reader) {
            return Poll::Ready(Ok(()));
        }
        let before = bytes.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(context, bytes);
        if matches!(outcome, Poll::Ready(Ok(()))) && bytes.filled().len() == before {
            self.state().ended = true;
        }
        self.keep(outcome)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Line<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_cut(context, |state| &mut state.writer) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.keep(outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_cut(context, |state| &mut state.writer) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        self.keep(outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_cut(context, |state| &mut state.writer) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The library wants it, and prints it nowhere.
impl<S> fmt::Debug for Line<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Line")
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn dropping_the_switch_wakes_a_reader_and_a_writer_that_the_peer_keeps_waiting() {
        let (ours, _theirs) = tokio::io::duplex(1);
        let (line, switch) = Line::new(ours);
        let (mut reader, mut writer) = tokio::io::split(line);
        let reading = tokio::spawn(async move { reader.read_u8().await.unwrap_err().kind() });
        let writing =
            tokio::spawn(async move { writer.write_all(b"more than fits").await.unwrap_err().kind() });
        tokio::task::yield_now().await;
        drop(switch);
        assert_eq!(reading.await.unwrap(), io::ErrorKind::UnexpectedEof);
        assert_eq!(writing.await.unwrap(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn what_went_wrong_below_is_kept() {
        let failing = tokio_test_stream();
        let (mut line, switch) = Line::new(failing);
        assert_eq!(line.read_u8().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(switch.failure().unwrap().to_string(), "why");
    }

    /// A stream whose first read fails.
    fn tokio_test_stream() -> impl AsyncRead + Unpin {
        struct Failing;
        impl AsyncRead for Failing {
            fn poll_read(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
                _: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "why")))
            }
        }
        Failing
    }
}
