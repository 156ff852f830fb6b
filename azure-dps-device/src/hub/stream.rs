//! A connected stream to a hub, for an MQTT library.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::stream::Stream;

/// A connection to a hub on which nothing was sent yet: MQTT packets go in and come out. From
/// [`HubAccess::connect`](crate::HubAccess::connect).
///
/// It carries bytes over TLS, or in the binary messages of a WebSocket. Writing is buffered; flush it after a
/// packet. It has no time limits: an MQTT client finds a lost connection by its keep-alive. Dropping it closes
/// the connection; it has no task.
///
/// `Debug` shows where it leads and over which carrier.
pub struct HubStream {
    stream: Box<dyn Stream>,
    carrier: &'static str,
    place: String,
}

impl HubStream {
    pub(super) fn new(stream: Box<dyn Stream>, carrier: &'static str, place: String) -> Self {
        Self { stream, carrier, place }
    }
}

impl AsyncRead for HubStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, bytes)
    }
}

impl AsyncWrite for HubStream {
    /// Encrypts bytes into the buffer of the connection.
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    /// Encrypts bytes from several buffers.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    /// Whether writing from several buffers costs less than one write for each.
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl fmt::Debug for HubStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubStream")
            .field("carrier", &self.carrier)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}
