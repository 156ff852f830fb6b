//! The stream below the AMQP library, and the switch that cuts it. The library's tasks read until the stream
//! ends; without the switch, a peer that stalls would keep them running for ever. Incoming bytes pass the
//! [`Guard`].

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::guard::{Guard, Refused};

/// A stream that ends as soon as its [`CutSwitch`] is dropped.
pub(super) struct CutStream<S> {
    stream: S,
    state: Arc<Mutex<State>>,
    guard: Guard,
    /// The bytes that have passed the guard.
    passed: Vec<u8>,
    /// How many of them the library has read.
    read: usize,
    /// Starts when the library closes the connection, because the library would wait for the peer's close for
    /// ever.
    closing: Option<Pin<Box<Sleep>>>,
}

/// Dropping it cuts the stream: reads return the end, writes fail.
pub(super) struct CutSwitch(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    cut: bool,
    /// The peer has closed its side.
    ended: bool,
    /// The first failure of the stream. The library does not pass it on to its caller.
    failure: Option<io::Error>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl<S> CutStream<S> {
    /// With `bare` the client connects without SASL.
    pub(super) fn new(stream: S, bare: bool) -> (Self, CutSwitch) {
        let state = Arc::default();
        let stream = Self {
            stream,
            state: Arc::clone(&state),
            guard: Guard::new(bare),
            passed: Vec::new(),
            read: 0,
            closing: None,
        };
        (stream, CutSwitch(state))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the stream is cut; if not, the cut wakes `context`.
    fn is_cut(&self, context: &Context<'_>, who: fn(&mut State) -> &mut Option<Waker>) -> bool {
        let mut state = self.state();
        if !state.cut {
            *who(&mut state) = Some(context.waker().clone());
        }
        state.cut
    }

    fn keep(&self, why: io::Error) -> io::Error {
        let kind = why.kind();
        self.state().failure.get_or_insert(why);
        kind.into()
    }

    /// Records a failed write and reports success: on an error the library would drop data that it has
    /// already read, which may contain the reason why the peer closed the connection. The library then reads
    /// until the end.
    fn written(&self, outcome: Poll<io::Result<usize>>, all: usize) -> Poll<io::Result<usize>> {
        match ready!(outcome) {
            Ok(count) => Poll::Ready(Ok(count)),
            Err(why) => {
                self.keep(why);
                Poll::Ready(Ok(all))
            }
        }
    }
}

impl CutSwitch {
    /// Whether the peer has closed the stream.
    pub(super) fn has_ended(&self) -> bool {
        self.state().ended
    }

    /// Takes the first failure of the stream.
    pub(super) fn failure(&self) -> Option<io::Error> {
        self.state().failure.take()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for CutSwitch {
    fn drop(&mut self) {
        let wakers = {
            let mut state = self.state();
            state.cut = true;
            [state.reader.take(), state.writer.take()]
        };
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for CutStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_cut(context, |state| &mut state.reader) {
            return Poll::Ready(Ok(()));
        }
        let stream = &mut *self;
        while stream.read == stream.passed.len() {
            let mut chunk = [0; CHUNK];
            let mut chunk = ReadBuf::new(&mut chunk);
            match Pin::new(&mut stream.stream).poll_read(context, &mut chunk) {
                Poll::Ready(Ok(())) if chunk.filled().is_empty() => {
                    stream.state().ended = true;
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Ok(())) => match stream.guard.pass(chunk.filled()) {
                    Ok(passed) => (stream.passed, stream.read) = (passed, 0),
                    Err(why) => return Poll::Ready(Err(stream.keep(why.into()))),
                },
                Poll::Ready(Err(why)) => return Poll::Ready(Err(stream.keep(why))),
                Poll::Pending => {
                    let over =
                        stream.closing.as_mut().is_some_and(|timer| timer.as_mut().poll(context).is_ready());
                    return if over { Poll::Ready(Ok(())) } else { Poll::Pending };
                }
            }
        }
        let unread = stream.passed.get(stream.read..).unwrap_or_default();
        let unread = unread.get(..bytes.remaining()).unwrap_or(unread);
        bytes.put_slice(unread);
        stream.read += unread.len();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for CutStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_cut(context, |state| &mut state.writer) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if self.closing.is_none() && bytes.windows(CLOSE.len()).any(|window| window == CLOSE) {
            self.closing = Some(Box::pin(sleep(LONGEST_CLOSE)));
            if let Some(reader) = self.state().reader.take() {
                reader.wake();
            }
        }
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(outcome, bytes.len())
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_cut(context, |state| &mut state.writer) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        self.written(outcome.map_ok(|()| 0), 0).map_ok(drop)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_cut(context, |state| &mut state.writer) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl From<Refused> for io::Error {
    fn from(why: Refused) -> Self {
        match why {
            Refused::Sasl => Self::from(io::ErrorKind::PermissionDenied),
            Refused::Frame(what) => Self::new(io::ErrorKind::InvalidData, what),
        }
    }
}

/// How much is read from the peer at once.
const CHUNK: usize = 8 * 1024;
/// Data offset, type, channel 0 and descriptor of the frame that closes a connection.
const CLOSE: [u8; 7] = [2, 0, 0, 0, 0, 0x53, 0x18];
/// How long the peer may take to answer the close.
const LONGEST_CLOSE: Duration = Duration::from_secs(1);

/// The library requires it and never prints it.
impl<S> fmt::Debug for CutStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CutStream")
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn dropping_the_switch_wakes_a_reader_and_a_writer_that_the_peer_keeps_waiting() {
        let (ours, _theirs) = tokio::io::duplex(1);
        let (stream, switch) = CutStream::new(ours, false);
        let (mut reader, mut writer) = tokio::io::split(stream);
        let reading = tokio::spawn(async move { reader.read_u8().await.unwrap_err().kind() });
        let writing =
            tokio::spawn(async move { writer.write_all(b"more than fits").await.unwrap_err().kind() });
        tokio::task::yield_now().await;
        drop(switch);
        assert_eq!(reading.await.unwrap(), io::ErrorKind::UnexpectedEof);
        assert_eq!(writing.await.unwrap(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn a_failure_of_the_stream_below_is_kept() {
        let failing = tokio_test_stream();
        let (mut stream, switch) = CutStream::new(failing, false);
        assert_eq!(stream.read_u8().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
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
