//! A body that is sent with chunked encoding and without `Content-Length`, as the service sends its answers.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::Full;
use hyper::body::{Body, Bytes, Frame};

/// An empty body, or one chunk.
#[derive(Default)]
pub(super) struct Chunked(Full<Bytes>);

impl<T: Into<Bytes>> From<T> for Chunked {
    fn from(bytes: T) -> Self {
        Chunked(Full::new(bytes.into()))
    }
}

/// Reports no length, so that hyper uses chunked encoding.
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
