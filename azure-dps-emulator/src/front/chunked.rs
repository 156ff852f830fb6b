//! A body that is sent in chunks, as the service sends its answers, and not behind its length.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::Full;
use hyper::body::{Body, Bytes, Frame};

/// Nothing, or one chunk.
#[derive(Default)]
pub(super) struct Chunked(Full<Bytes>);

impl<T: Into<Bytes>> From<T> for Chunked {
    fn from(bytes: T) -> Self {
        Chunked(Full::new(bytes.into()))
    }
}

/// The length stays unsaid, so that hyper chooses chunks.
impl Body for Chunked {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.0).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}
