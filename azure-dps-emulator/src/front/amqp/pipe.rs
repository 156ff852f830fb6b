//! Carries bytes between the client and the AMQP library, and checks each frame.

use std::future;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy, duplex, sink, split};
use tokio::time::{Instant, sleep_until, timeout};

use super::connection::{CLOSE_DEADLINE, Connection, End, PIPE};
use super::guard::Frames;
use super::replies::Written;
use super::sasl::Claim;
use super::sign_in::AMQP_HEADER;
use crate::refusal::Refusal;

impl Connection {
    /// Carries bytes between the client and the AMQP library.
    ///
    /// The library starts tasks that would keep the connection open. So it gets a pipe, which ends with this
    /// call, and its tasks end with the pipe.
    pub(super) async fn carry<S>(&self, stream: &mut S, claim: Claim, header: &[u8]) -> End
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (ours, theirs) = duplex(PIPE);
        let (mut from_client, mut to_client) = split(stream);
        let (mut from_library, mut to_library) = split(ours);
        let inbound = async {
            let handing_in = async {
                to_library.write_all(header).await.ok()?;
                self.hand_in(&mut from_client, &mut to_library, header).await
            };
            let end = tokio::select! {
                end = handing_in => end,
                () = self.goodbye.close.notified() => None,
            };
            // Gives the library time to notice that the client has closed the connection.
            let _done = to_library.shutdown().await;
            match end {
                Some(end) => end,
                None => future::pending().await,
            }
        };
        let mut outbound = Box::pin(self.forward(&mut from_library, &mut to_client));
        let mut connection = Box::pin(self.serve_amqp(theirs, &claim));
        let (end, has_more) = tokio::select! {
            end = &mut connection => (end, true),
            end = inbound => (end, true),
            end = &mut outbound => match end {
                // The library writes nothing more, and the other future may return the reason.
                End::Over => (timeout(CLOSE_DEADLINE, connection).await.unwrap_or(End::Over), false),
                end => (end, false),
            },
        };
        if has_more && !matches!(end, End::Cut) {
            // The last bytes of the library.
            let _sent = timeout(CLOSE_DEADLINE, outbound).await;
        }
        if matches!(end, End::Refused(_)) {
            // Unread answers would reset the connection before the client has read the reason.
            let _left = timeout(CLOSE_DEADLINE, copy(&mut from_client, &mut sink())).await;
        }
        end
    }

    /// Passes the client's bytes to the library, frame by frame. Returns the end of the connection if a frame
    /// is refused.
    async fn hand_in(
        &self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        header: &[u8],
    ) -> Option<End> {
        if header.is_empty() {
            let mut header = [0; AMQP_HEADER.len()];
            from.read_exact(&mut header).await.ok()?;
            to.write_all(&header).await.ok()?;
        }
        let (mut frames, mut bytes) =
            (Frames::new(self.waiting.clone(), self.untaken.clone()), BytesMut::with_capacity(PIPE));
        let mut last = Instant::now();
        loop {
            bytes.clear();
            if from.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
            match frames.take(&bytes) {
                Ok(bytes) => to.write_all(&bytes).await.ok()?,
                Err(cause) => return Some(self.refuse("frame", "", Refusal::invalid(cause))),
            }
            if frames.needs_pause() {
                sleep_until(last + BETWEEN_BURSTS).await;
                last = Instant::now();
            }
        }
    }

    /// Passes the library's bytes to the client, as long as the client reads them.
    async fn forward(&self, from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) -> End {
        let (mut written, mut bytes) = (Written::new(self.untaken.clone()), BytesMut::with_capacity(PIPE));
        loop {
            bytes.clear();
            match from.read_buf(&mut bytes).await {
                Ok(0) | Err(_) => return End::Over,
                Ok(_) => {}
            }
            let said = written.see(&bytes);
            if let Err(end) = self.write(to, &bytes).await {
                return end;
            }
            self.goodbye.written(said);
        }
    }
}

/// The pause after [`Frames::needs_pause`], in which the library processes the frames so far.
const BETWEEN_BURSTS: Duration = Duration::from_millis(100);
