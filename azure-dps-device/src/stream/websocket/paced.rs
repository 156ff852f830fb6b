//! A stream that does not read while a write waits. Without it, a peer that sends pings but does not read
//! would fill the memory with the answers.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that one task reads and writes.
pub(super) struct Paced<S> {
    stream: S,
    /// A write waits until the peer reads.
    waits: bool,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, waits: false }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.waits {
            // If the flush fails, the read reports why.
            let _flushed = ready!(self.as_mut().poll_flush(context));
            self.waits = false;
        }
        Pin::new(&mut self.stream).poll_read(context, bytes)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.waits = outcome.is_pending();
        outcome
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        self.waits = outcome.is_pending();
        outcome
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// A peer that always has data to read, and accepts writes only when it is `open`.
    struct Deaf {
        open: bool,
    }

    impl AsyncRead for Deaf {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            bytes.put_slice(b"!");
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Deaf {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            if self.open { Poll::Ready(Ok(bytes.len())) } else { Poll::Pending }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            if self.open { Poll::Ready(Ok(())) } else { Poll::Pending }
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    async fn reads(paced: &mut Paced<Deaf>) -> bool {
        poll_fn(|context| Poll::Ready(std::pin::pin!(paced.read_u8()).poll(context).is_ready())).await
    }

    #[tokio::test]
    async fn nothing_is_read_while_a_write_waits() {
        let mut paced = Paced::new(Deaf { open: false });
        assert!(reads(&mut paced).await, "nothing waits yet");

        let waits =
            poll_fn(|context| Poll::Ready(Pin::new(&mut paced).poll_write(context, b"?").is_pending()));
        assert!(waits.await);
        assert!(!reads(&mut paced).await, "the write waits");
        paced.stream.open = true;
        assert!(reads(&mut paced).await, "the peer reads again");
    }
}
