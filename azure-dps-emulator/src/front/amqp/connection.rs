//! One connection: its client, the calls that its messages become, and its end.

use std::sync::Arc;
use std::time::Duration;

use fe2o3_amqp::types::definitions;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::address::Address;
use super::goodbye::Goodbye;
use super::guard::Waiting;
use super::message;
use super::replies::Untaken;
use super::sasl::Claim;
use crate::call::request::{DeviceOperation, DeviceRequest, Request};
use crate::call::schema::Body as Document;
use crate::call::{Call, Origin};
use crate::front::peer::Peer;
use crate::instance::Instance;
use crate::refusal::{REQUEST_TIMEOUT, Refusal};

pub(super) struct Connection {
    pub(super) peer: Peer,
    pub(super) instance: Arc<Instance>,
    /// The requests that the library is still processing.
    pub(super) waiting: Waiting,
    pub(super) untaken: Untaken,
    pub(super) goodbye: Goodbye,
}

/// Why a connection ends. The journal already has the reason.
pub(super) enum End {
    /// The client closed it, or has been sent the reason.
    Over,
    /// A fault closes it without an answer.
    Cut,
    /// A fault closes it after bytes that are not a frame.
    Garbage,
    /// The client is refused with this error.
    Refused(Box<definitions::Error>),
}

/// A device that has links.
pub(super) struct Client {
    pub(super) device: Address,
    pub(super) api_version: Option<String>,
}

impl Connection {
    /// A call for this operation, with an empty body.
    pub(super) fn question(
        &self,
        word: &str,
        device: &Address,
        claim: &Claim,
        api_version: Option<&str>,
        operation: DeviceOperation,
    ) -> Call {
        let client = Client { device: device.clone(), api_version: api_version.map(str::to_owned) };
        let mut call = self.call(word, &device.registration_id, &client, claim);
        call.request = Ok(device_request(device, operation));
        call
    }

    /// A call without an operation, which the caller sets.
    pub(super) fn call(&self, word: &str, target: &str, client: &Client, claim: &Claim) -> Call {
        let token = match claim {
            Claim::Token { token, .. } | Claim::Tpm { token, .. } => {
                Some(token.clone()).filter(|token| !token.is_empty())
            }
            Claim::Certificate => None,
        };
        Call {
            authorization: token,
            certificates: Arc::clone(&self.peer.certificates),
            for_tpm: matches!(claim, Claim::Tpm { .. }),
            api_version: client.api_version.clone(),
            ..self.note(word, target, Refusal::invalid("no operation"))
        }
    }

    /// Records in the journal a frame that no operation answers, and ends the connection with it.
    pub(super) fn refuse(&self, word: &str, target: &str, refusal: Refusal) -> End {
        let handled = self.instance.handle(self.note(word, target, refusal));
        End::Refused(Box::new(message::error(&handled.answer)))
    }

    pub(super) fn note(&self, word: &str, target: &str, refusal: Refusal) -> Call {
        let origin = Origin {
            protocol: self.peer.protocol,
            connection: self.peer.connection,
            method: word.to_owned(),
            target: target.to_owned(),
        };
        Call { body: Document { bytes: Vec::new(), json: true }, ..Call::refused(origin, refusal) }
    }

    pub(super) fn has_certificate(&self) -> bool {
        !self.peer.certificates.is_empty()
    }

    pub(super) async fn read(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
        bytes: &mut [u8],
    ) -> Result<(), End> {
        match timeout(GREETING_DEADLINE, stream.read_exact(bytes)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                tracing::debug!(%error, "connection ended");
                Err(End::Over)
            }
            Err(_) => {
                let refusal = Refusal::new(REQUEST_TIMEOUT, "the client did not send its next frame in time");
                Err(self.refuse("sasl", "", refusal))
            }
        }
    }

    pub(super) async fn write(
        &self,
        stream: &mut (impl AsyncWrite + Unpin),
        bytes: &[u8],
    ) -> Result<(), End> {
        let written = self.within(async {
            stream.write_all(bytes).await?;
            stream.flush().await
        });
        written.await?.map_err(|error| {
            tracing::debug!(%error, "connection ended");
            End::Over
        })
    }

    /// Limits the time of an operation that waits for the client.
    pub(super) async fn within<T>(&self, done: impl Future<Output = T>) -> Result<T, End> {
        timeout(WRITE_DEADLINE, done).await.map_err(|_| {
            let refusal = Refusal::new(REQUEST_TIMEOUT, "the client does not take what it is sent");
            self.refuse("transfer", "", refusal)
        })
    }
}

pub(super) fn device_request(device: &Address, operation: DeviceOperation) -> Request {
    Request::Device(DeviceRequest {
        id_scope: device.id_scope.clone(),
        registration_id: device.registration_id.clone(),
        operation,
    })
}

pub(super) const GREETING_DEADLINE: Duration = Duration::from_secs(10);
pub(super) const WRITE_DEADLINE: Duration = Duration::from_secs(10);
pub(super) const CLOSE_DEADLINE: Duration = Duration::from_secs(1);
pub(super) const PIPE: usize = 64 * 1024;
