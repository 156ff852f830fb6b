//! A webhook for custom allocation that plays a script.

use std::convert::Infallible;
use std::future;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::limits::HUNG;

/// What the webhook does with a request.
#[derive(Debug)]
pub enum Act {
    Answer(u16, Value),
    /// As soon as everybody is notified.
    After(Arc<Notify>, Value),
    Hang,
}

#[derive(Clone, Debug)]
pub struct Asked {
    pub line: String,
    pub content_type: String,
    pub body: Value,
}

/// A server that is asked for hubs. Dropping it ends it.
#[derive(Debug)]
pub struct Webhook {
    pub address: String,
    log: Arc<Log>,
    _task: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Log {
    asked: Mutex<Vec<Asked>>,
    answered: Mutex<usize>,
    changed: Notify,
}

impl Webhook {
    /// `script` gets the number of the request, from 1.
    pub async fn start(script: impl Fn(usize) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (log, script) = (Arc::new(Log::default()), Arc::new(script));
        let mut task = JoinSet::new();
        let served = Arc::clone(&log);
        task.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (log, script) = (Arc::clone(&served), Arc::clone(&script));
                let answer = service_fn(move |request: Request<Incoming>| {
                    let (log, script) = (Arc::clone(&log), Arc::clone(&script));
                    async move { Ok::<_, Infallible>(log.answer(request, script.as_ref()).await) }
                });
                open.spawn(async move {
                    let _ended = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        });
        Webhook { address, log, _task: task }
    }

    /// It holds its first answer, or every one, back until the [`Notify`] notifies, and acts by `others` otherwise.
    pub async fn held_back(answer: Value, others: Option<fn() -> Act>) -> (Self, Arc<Notify>) {
        let go = Arc::new(Notify::new());
        let notified = Arc::clone(&go);
        let script = move |number| match others.filter(|_| number > 1) {
            Some(other) => other(),
            None => Act::After(Arc::clone(&notified), answer.clone()),
        };
        (Self::start(script).await, go)
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.log.asked.lock().unwrap().clone()
    }

    pub async fn asked_once(&self) {
        self.asked_times(1).await;
    }

    pub async fn asked_times(&self, times: usize) {
        self.log.wait(|log| log.asked.lock().unwrap().len() >= times).await;
    }

    pub async fn answered(&self, times: usize) {
        self.log.wait(|log| *log.answered.lock().unwrap() >= times).await;
    }
}

impl Log {
    async fn answer(
        &self,
        request: Request<Incoming>,
        script: &impl Fn(usize) -> Act,
    ) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let asked = Asked {
            line: format!("{} {}", head.method, head.uri),
            content_type: head.headers["content-type"].to_str().unwrap().to_owned(),
            body: serde_json::from_slice(&body).unwrap(),
        };
        let reply = {
            let mut log = self.asked.lock().unwrap();
            log.push(asked);
            script(log.len())
        };
        let (status, body) = match reply {
            Act::Answer(status, body) => (status, body),
            Act::After(go, body) => {
                let notified = go.notified();
                self.changed.notify_waiters();
                notified.await;
                (200, body)
            }
            Act::Hang => {
                self.changed.notify_waiters();
                future::pending().await
            }
        };
        *self.answered.lock().unwrap() += 1;
        self.changed.notify_waiters();
        Response::builder().status(status).body(Full::from(body.to_string())).unwrap()
    }

    async fn wait(&self, done: impl Fn(&Log) -> bool) {
        let waited = async {
            loop {
                let changed = self.changed.notified();
                if done(self) {
                    return;
                }
                changed.await;
            }
        };
        timeout(HUNG, waited).await.unwrap();
    }
}
