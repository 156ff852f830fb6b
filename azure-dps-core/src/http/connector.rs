//! Opens the connection of a client that has one exchange at a time, and never a second one beside it.
//!
//! The HTTP library gives a connection back to its pool a moment after the answer. An exchange that begins in
//! between starts to connect, and the library would complete that in the background although the exchange
//! takes the returned connection. So the connector first waits for the return, and gives up as soon as
//! its exchange is served otherwise.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tower_layer::Layer;
use tower_service::Service;

tokio::task_local! {
    /// Set while the future of an exchange is polled. The library completes a connection that its exchange no
    /// longer needs in a separate task, where this is not set.
    static EXCHANGE: ();
}

/// Runs an exchange. Only a connection that is opened inside is completed.
pub(super) fn exchange<F: Future>(future: F) -> impl Future<Output = F::Output> {
    EXCHANGE.scope((), future)
}

/// Until when the connection of the last exchange may still return to the pool.
#[derive(Clone, Default)]
pub(super) struct Returning(Arc<Mutex<Option<Instant>>>);

impl Returning {
    /// Records the end of an answer, after which the server keeps the connection open or not.
    pub(super) fn answered(&self, stays: bool) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = stays.then(|| Instant::now() + RETURN);
    }

    fn until(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone)]
pub(super) struct ConnectorLayer(Returning);

impl<S> Layer<S> for ConnectorLayer {
    type Service = Connector<S>;

    fn layer(&self, inner: S) -> Connector<S> {
        Connector { inner, returning: self.0.clone() }
    }
}

#[derive(Clone)]
pub(super) struct Connector<S> {
    inner: S,
    returning: Returning,
}

impl Connector<()> {
    pub(super) fn layer(returning: &Returning) -> ConnectorLayer {
        ConnectorLayer(returning.clone())
    }
}

impl<S, R> Service<R> for Connector<S>
where
    S: Service<R, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, target: R) -> Self::Future {
        let (connecting, until) = (self.inner.call(target), self.returning.until());
        let mut connecting = Box::pin(async move {
            if let Some(until) = until {
                sleep_until(until).await;
            }
            connecting.await
        });
        Box::pin(poll_fn(move |context| match EXCHANGE.try_with(|()| ()) {
            Ok(()) => connecting.as_mut().poll(context),
            Err(_) => Poll::Ready(Err("the exchange uses another connection".into())),
        }))
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long a connection may take to return. It matters only when the server closes a connection without
/// having announced it.
const RETURN: Duration = Duration::from_millis(100);
