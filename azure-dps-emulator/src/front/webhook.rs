//! Sends webhook calls and brings their decisions back. The calls are independent of each other, and the
//! instance does not wait for them.

mod trust;

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use self::trust::{Failure, Trust};
use crate::api::webhook::{NoDecision, WebhookCall};
use crate::crypto::pem;
use crate::instance::Instance;

/// Sends webhook calls until the emulator stops, which also cancels the calls that are open.
pub(crate) async fn run(
    mut webhook_calls: UnboundedReceiver<(WebhookCall, OwnedSemaphorePermit)>,
    instance: Arc<Instance>,
    roots: Vec<CertificateDer<'static>>,
) {
    let (mut open, trust) = (JoinSet::new(), Arc::new(Trust::new(roots)));
    loop {
        tokio::select! {
            webhook_call = webhook_calls.recv() => {
                let Some((webhook_call, room)) = webhook_call else { return };
                let (instance, trust) = (Arc::clone(&instance), Arc::clone(&trust));
                open.spawn(async move {
                    let limit = instance.settings().webhook_timeout;
                    let decision = call_webhook(&webhook_call, limit, &trust).await;
                    instance.conclude(webhook_call.pending, decision);
                    drop(room);
                });
            }
            Some(_) = open.join_next() => {}
        }
    }
}

/// Reads the certificates in a PEM text, at least one.
///
/// # Errors
/// Says what is wrong with the text, or with which block.
pub(crate) fn roots(text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    match pem::certificates(text.as_bytes())? {
        found if found.is_empty() => Err("has no certificate".to_owned()),
        found => Ok(found.into_iter().map(CertificateDer::from).collect()),
    }
}

async fn call_webhook(
    webhook_call: &WebhookCall,
    limit: Duration,
    trust: &Trust,
) -> Result<crate::api::placement::Decision, NoDecision> {
    let url = crate::api::webhook::masked(&webhook_call.url);
    let body = Bytes::from(webhook_call.question.clone());
    match timeout(limit, post(&webhook_call.url, body, trust)).await {
        Ok(Ok((status, body))) => crate::api::webhook::read(status, &body, &webhook_call.pending.offered)
            .map_err(|no| NoDecision { cause: format!("{url}: {}", no.cause), ..no }),
        Ok(Err(error)) => Err(NoDecision::new("no response.", format!("{url}: {error}"))),
        Err(_) => {
            let cause = format!("{url}: no answer within {} s", limit.as_secs_f32());
            Err(NoDecision::new("no response in time.", cause))
        }
    }
}

async fn post(url: &str, body: Bytes, trust: &Trust) -> Result<(u16, Bytes), Failure> {
    let uri: Uri = url.parse().map_err(|_| "the URL of the webhook cannot be read")?;
    let authority = uri.authority().ok_or("the URL of the webhook has no host")?;
    let host = authority.host().trim_matches(['[', ']']);
    let (_, named) = authority.as_str().rsplit_once('@').unwrap_or(("", authority.as_str()));
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    // A URL can have a query without a path.
    let path = format!("{}{query}", if uri.path().is_empty() { "/" } else { uri.path() });
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(HOST, named)
        .header(CONTENT_TYPE, "application/json; charset=utf-8")
        .header(USER_AGENT, "azure-dps-emulator")
        .body(Full::new(body))?;
    match uri.scheme_str() {
        Some("http") => {
            let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(80))).await?;
            exchange(stream, request).await
        }
        Some("https") => {
            let connector = TlsConnector::from(trust.config().await?);
            let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(443))).await?;
            exchange(connector.connect(ServerName::try_from(host.to_owned())?, stream).await?, request).await
        }
        _ => Err("the URL of the webhook is neither http nor https".into()),
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<(u16, Bytes), Failure> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Polled in the same future as the request, so that nothing is left behind when the time is over.
    let answer = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, BODY_LIMIT).collect().await?;
        Ok((head.status.as_u16(), body.to_bytes()))
    };
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        // A webhook may answer and close before it has read the whole request; its answer counts.
        ended = connection => match (answer.await, ended) {
            (Err(_), Err(error)) => Err(error.into()),
            (answer, _) => answer,
        },
    }
}

const BODY_LIMIT: usize = 1024 * 1024;
