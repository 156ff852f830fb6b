//! The stream below the AMQP library, and the switch that cuts it. The library's tasks read until the stream
//! ends; without the switch, a peer that stalls would keep them running for ever. Incoming bytes pass the
//! [`Guard`].
//!
//! | the library | the stream |
//! |---|---|
//! | writes its header and reads the peer's | answers with the peer's header, which the guard checks when it arrives |
//! | has sent its close | ends, without waiting for the peer's close |
//! | uses the stream after a cut | ends; writes fail |
//!
//! The first row saves a round trip: the open leaves with the header, as AMQP 1.0 allows in part 2.4.5. The second
//! row keeps the library from a busy loop: until it hears the peer's close, its tasks poll a channel that is closed.

use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

use super::guard::{AMQP, Guard, Refused};

/// A stream that ends as soon as its [`CutSwitch`] is dropped.
pub(super) struct CutStream<S> {
    stream: S,
    state: Arc<Mutex<State>>,
    guard: Guard,
    /// The bytes that have passed the guard.
    passed: Vec<u8>,
    /// How many of them the library has read.
    read: usize,
    /// How many of the next bytes that pass the guard the library has read already: the header.
    ahead: usize,
    /// What the library has written, and what of it is flushed.
    written: Goodbye,
    sent: watch::Sender<Goodbye>,
}

/// How far the library's goodbye is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Goodbye {
    #[default]
    Nothing,
    /// The end of the session.
    End,
    /// The close of the connection.
    Close,
}

impl Goodbye {
    /// Finds the last goodbye in outgoing bytes. Other frames do not contain these bytes: a payload is JSON, which
    /// has no byte 0.
    fn last_in(bytes: &[u8]) -> Self {
        let descriptors = bytes.windows(7).filter_map(|window| match window {
            [2, 0, 0, 0, 0, 0x53, END] => Some(Self::End),
            [2, 0, 0, 0, 0, 0x53, CLOSE] => Some(Self::Close),
            _ => None,
        });
        descriptors.max().unwrap_or_default()
    }
}

/// Dropping it cuts the stream: reads return the end, writes fail.
pub(super) struct CutSwitch {
    state: Arc<Mutex<State>>,
    sent: watch::Receiver<Goodbye>,
}

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
        let (sent, watched) = watch::channel(Goodbye::Nothing);
        let stream = Self {
            stream,
            state: Arc::default(),
            guard: Guard::new(bare),
            passed: AMQP.to_vec(),
            read: 0,
            ahead: AMQP.len(),
            written: Goodbye::Nothing,
            sent,
        };
        let switch = CutSwitch { state: Arc::clone(&stream.state), sent: watched };
        (stream, switch)
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

    /// Waits until the library has sent this, or has dropped the stream.
    pub(super) async fn has_sent(&mut self, goodbye: Goodbye) {
        // The error says that the stream is dropped.
        let _ = self.sent.wait_for(|sent| *sent >= goodbye).await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        if self.is_cut(context, |state| &mut state.reader) || *self.sent.borrow() == Goodbye::Close {
            return Poll::Ready(Ok(()));
        }
        let stream = &mut *self;
        while stream.read == stream.passed.len() {
            // Not zeroed: the library polls far more often than bytes arrive.
            let mut chunk = [MaybeUninit::uninit(); CHUNK];
            let mut chunk = ReadBuf::uninit(&mut chunk);
            match ready!(Pin::new(&mut stream.stream).poll_read(context, &mut chunk)) {
                Ok(()) if chunk.filled().is_empty() => {
                    stream.state().ended = true;
                    return Poll::Ready(Ok(()));
                }
                Ok(()) => match stream.guard.pass(chunk.filled()) {
                    // The guard passes the header as a whole, and first.
                    Ok(passed) => {
                        stream.read = stream.ahead.min(passed.len());
                        stream.ahead -= stream.read;
                        stream.passed = passed;
                    }
                    Err(why) => return Poll::Ready(Err(stream.keep(why.into()))),
                },
                Err(why) => return Poll::Ready(Err(stream.keep(why))),
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
        self.written = self.written.max(Goodbye::last_in(bytes));
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(outcome, bytes.len())
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_cut(context, |state| &mut state.writer) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        ready!(self.written(outcome.map_ok(|()| 0), 0))?;
        let goodbye = self.written;
        let is_news = self.sent.send_if_modified(|sent| std::mem::replace(sent, goodbye) != goodbye);
        if is_news && let Some(reader) = self.state().reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(()))
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
/// The descriptors of the frames that end a session and close a connection.
const END: u8 = 0x17;
const CLOSE: u8 = 0x18;

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
        reader.read_exact(&mut [0; 8]).await.unwrap();
        let reading = tokio::spawn(async move { reader.read_u8().await.unwrap_err().kind() });
        let writing =
            tokio::spawn(async move { writer.write_all(b"more than fits").await.unwrap_err().kind() });
        tokio::task::yield_now().await;
        drop(switch);
        assert_eq!(reading.await.unwrap(), io::ErrorKind::UnexpectedEof);
        assert_eq!(writing.await.unwrap(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn the_header_is_answered_at_once_and_the_peers_is_checked_and_removed() {
        let alive = [0, 0, 0, 8, 2, 0, 0, 0];
        let (ours, mut theirs) = tokio::io::duplex(64);
        let (mut stream, _switch) = CutStream::new(ours, false);
        let mut read = [0; 8];
        stream.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, AMQP, "before the peer has sent anything");
        theirs.write_all(&[&AMQP[..], &alive].concat()).await.unwrap();
        stream.read_exact(&mut read).await.unwrap();
        assert_eq!(read, alive);

        let (ours, mut theirs) = tokio::io::duplex(64);
        let (mut stream, switch) = CutStream::new(ours, false);
        stream.read_exact(&mut read).await.unwrap();
        theirs.write_all(b"HTTP/1.1").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(switch.failure().unwrap().to_string().contains("header"));
    }

    #[tokio::test]
    async fn the_stream_ends_as_soon_as_a_close_is_sent() {
        let frame = |code| [0, 0, 0, 12, 2, 0, 0, 0, 0, 0x53, code, 0x45];
        let (ours, _theirs) = tokio::io::duplex(64);
        let (mut stream, mut switch) = CutStream::new(ours, false);
        stream.read_exact(&mut [0; 8]).await.unwrap();
        for (code, goodbye) in [(END, Goodbye::End), (CLOSE, Goodbye::Close)] {
            stream.write_all(&frame(code)).await.unwrap();
            assert!(*switch.sent.borrow() < goodbye, "written, and not flushed");
            stream.flush().await.unwrap();
            switch.has_sent(goodbye).await;
        }
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
        assert!(!switch.has_ended(), "the peer has not closed its side");
        drop(stream);
        switch.has_sent(Goodbye::Close).await;
    }

    #[tokio::test]
    async fn a_stream_that_is_dropped_sends_no_goodbye_that_could_be_waited_for() {
        let (ours, _theirs) = tokio::io::duplex(64);
        let (stream, mut switch) = CutStream::new(ours, false);
        drop(stream);
        switch.has_sent(Goodbye::End).await;
    }

    #[tokio::test]
    async fn a_failure_of_the_stream_below_is_kept() {
        let failing = tokio_test_stream();
        let (mut stream, switch) = CutStream::new(failing, false);
        stream.read_exact(&mut [0; 8]).await.unwrap();
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
