//! A connection to the hub that is under way: the work of the connector, its report and its end.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::Poll;

use azure_dps_core::{Error, ErrorKind};
use futures_util::FutureExt as _;
use tokio::sync::{mpsc, watch};
use tracing::Instrument as _;

use super::connector::{EndReason, HubConnector, HubSession, SessionEnd};
use crate::hub::HubAccess;
use crate::transport::contract::BoxFuture;

pub(crate) struct Session {
    work: BoxFuture<'static, SessionEnd>,
    /// The end, kept until the loop has received the report that came before it.
    ended: Option<SessionEnd>,
    connected: mpsc::Receiver<()>,
    end: watch::Sender<bool>,
}

pub(crate) enum News {
    Connected,
    Ended(SessionEnd),
}

impl Session {
    pub(crate) fn start(connector: Arc<dyn HubConnector>, access: HubAccess) -> Self {
        let (report, connected) = mpsc::channel(1);
        let (end, asked) = watch::channel(false);
        let span = tracing::info_span!("provisioning", attempt = "connect", hub = access.hub());
        let work = async move { connector.run(access, HubSession::new(report, asked)).await };
        let work = AssertUnwindSafe(work).catch_unwind().map(|end| end.unwrap_or_else(|_| panicked()));
        Self { work: Box::pin(work.instrument(span)), ended: None, connected, end }
    }

    /// The report that the hub is connected, or the end.
    pub(crate) async fn next(&mut self) -> News {
        poll_fn(|context| {
            if self.ended.is_none()
                && let Poll::Ready(end) = self.work.as_mut().poll(context)
            {
                self.ended = Some(end);
            }
            // A report from before the end comes first.
            match (self.connected.poll_recv(context), self.ended.take()) {
                (Poll::Ready(Some(())), ended) => {
                    self.ended = ended;
                    Poll::Ready(News::Connected)
                }
                (_, Some(ended)) => Poll::Ready(News::Ended(ended)),
                (_, None) => Poll::Pending,
            }
        })
        .await
    }

    pub(crate) fn ask_to_end(&self) {
        self.end.send_replace(true);
    }

    pub(crate) fn is_asked_to_end(&self) -> bool {
        *self.end.borrow()
    }
}

fn panicked() -> SessionEnd {
    let error = Error::new(ErrorKind::Config, "the hub connector panicked; standard error has the message");
    let help = "report the message to the authors of the hub connector; the manager connects again";
    SessionEnd::new(EndReason::Lost).with_error(error.with_help(help))
}

/// The connector did not do this in the time that the policy gives it.
pub(crate) fn too_slow(what: &str) -> Error {
    let help = "check that the hub connector reports when it is connected, and that it ends when it is asked to; \
         `ManagerPolicy` has the limits";
    Error::new(ErrorKind::Timeout, format!("the hub connector did not {what} in time")).with_help(help)
}
