//! Sessions and links: judges attaches, and answers the requests that arrive on links.

use std::future;

use fe2o3_amqp::acceptor::error::AcceptorAttachError;
use fe2o3_amqp::acceptor::{
    ConnectionAcceptor, LinkAcceptor, LinkEndpoint, ListenerSessionHandle, SessionAcceptor,
};
use fe2o3_amqp::link::RecvError;
use fe2o3_amqp::link::delivery::Delivery as Received;
use fe2o3_amqp::types::definitions;
use fe2o3_amqp::types::messaging::Body;
use fe2o3_amqp::types::performatives::Attach;
use fe2o3_amqp::types::primitives::Value;
use fe2o3_amqp::{Receiver, connection, transport};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::io::DuplexStream;
use tokio::time::timeout;

use super::address::{self, Address};
use super::attach;
use super::connection::{
    CLOSE_DEADLINE, Client, Connection, End, GREETING_DEADLINE, WRITE_DEADLINE, device_request,
};
use super::guard::{HIGHEST_CHANNEL, HIGHEST_HANDLE, LARGEST_FRAME};
use super::message::{self, MessageRequest};
use super::replies::Replies;
use super::sasl::Claim;
use crate::api::hub::NO_HUB_HERE;
use crate::call::Handled;
use crate::call::answer::{Answer, Delivery};
use crate::call::request::DeviceOperation;
use crate::front::delay::hold_back;
use crate::refusal::{REQUEST_TIMEOUT, Refusal};
use crate::state::fault::GARBAGE;

/// A session and its links: one for requests, one for replies.
struct OpenSession {
    session: ListenerSessionHandle,
    client: Option<Client>,
    requests: Option<Receiver>,
    replies: Option<Replies>,
}

impl Connection {
    /// Serves AMQP until the connection ends.
    pub(super) async fn serve_amqp(&self, pipe: DuplexStream, claim: &Claim) -> End {
        let acceptor = ConnectionAcceptor::builder()
            .container_id("azure-dps-emulator")
            .max_frame_size(LARGEST_FRAME)
            .idle_time_out(SILENCE)
            .channel_max(HIGHEST_CHANNEL)
            .buffer_size(QUEUE)
            .build();
        let accepting = SessionAcceptor::builder().handle_max(HIGHEST_HANDLE).buffer_size(QUEUE).build();
        let mut connection = match timeout(GREETING_DEADLINE, acceptor.accept(pipe)).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                tracing::debug!(%error, "the client did not open the connection");
                return End::Over;
            }
            Err(_) => {
                let refusal = Refusal::new(REQUEST_TIMEOUT, "the connection was not opened in time");
                return self.refuse("open", "", refusal);
            }
        };
        let mut sessions = FuturesUnordered::new();
        loop {
            tokio::select! {
                session = connection.next_incoming_session() => {
                    let Some(session) = session else {
                        let ended = timeout(CLOSE_DEADLINE, connection.on_close()).await;
                        return ended.map_or(End::Over, |ended| self.ended(ended));
                    };
                    let accepted = accepting.accept_incoming_session(session, &mut connection);
                    match timeout(WRITE_DEADLINE, accepted).await {
                        Ok(Ok(session)) => sessions.push(self.serve_session(session, claim)),
                        _ => return End::Over,
                    }
                }
                Some(ended) = sessions.next() => {
                    let (Err(end), mut open) = ended else { continue };
                    if let End::Refused(error) = &end {
                        self.end_session(&mut open.session, error).await;
                        let closed = connection.close_with_error((**error).clone());
                        let _done = timeout(CLOSE_DEADLINE, closed).await;
                    }
                    return end;
                }
            }
        }
    }

    /// Why the library returns no more sessions; usually the client has closed the connection.
    fn ended(&self, ended: Result<(), connection::Error>) -> End {
        let cause = match ended {
            Ok(())
            | Err(
                connection::Error::RemoteClosed
                | connection::Error::RemoteClosedWithError(_)
                | connection::Error::TransportError(transport::Error::Io(_)),
            ) => return End::Over,
            Err(connection::Error::TransportError(transport::Error::DecodeError(why))) => {
                format!("a frame cannot be read: {why}")
            }
            Err(error) => format!("the connection cannot go on: {error}"),
        };
        self.refuse("frame", "", Refusal::invalid(cause))
    }

    /// Ends the session of a refused client too, because a client may wait for that even if the connection is
    /// closed.
    async fn end_session(&self, session: &mut ListenerSessionHandle, error: &definitions::Error) {
        self.goodbye.begin();
        // Of another session.
        let _earlier = self.goodbye.end.notified().now_or_never();
        let ended = session.end_with_error(error.clone());
        tokio::select! {
            biased;
            _ = timeout(CLOSE_DEADLINE, ended) => {}
            () = self.goodbye.end.notified() => {}
        }
    }

    /// Serves one session until it ends, and returns its remaining parts.
    async fn serve_session(
        &self,
        session: ListenerSessionHandle,
        claim: &Claim,
    ) -> (Result<(), End>, OpenSession) {
        let mut open = OpenSession { session, client: None, requests: None, replies: None };
        (self.serve_links(&mut open, claim).await, open)
    }

    async fn serve_links(&self, open: &mut OpenSession, claim: &Claim) -> Result<(), End> {
        let OpenSession { session, client, requests, replies } = open;
        let links = LinkAcceptor::builder().max_message_size(LARGEST_MESSAGE).build();
        loop {
            tokio::select! {
                attach = session.next_incoming_attach() => {
                    let Some(attach) = attach else { return Ok(()) };
                    let address = attach::address(&attach).unwrap_or_default().to_owned();
                    *client = Some(self.admit(&attach, client.take(), claim).await?);
                    let attach = attach::complete(attach)
                        .map_err(|cause| self.refuse("attach", &address, Refusal::invalid(cause)))?;
                    match self.within(links.accept_incoming_attach(attach, session)).await? {
                        Ok(LinkEndpoint::Receiver(link)) => *requests = Some(link),
                        Ok(LinkEndpoint::Sender(link)) => *replies = Some(Replies::on(link)),
                        // The next attach of such a session never comes.
                        Err(AcceptorAttachError::SessionStopped(_)) => {}
                        Err(error) => return Err(self.refuse("attach", &address, unattached(&error))),
                    }
                }
                request = next(requests) => match (request, &*requests, &*client) {
                    (Ok(request), Some(requests), Some(client)) => {
                        self.answer(request, requests, replies, client, claim).await?;
                    }
                    (Err(RecvError::MessageDecode(_)), _, _) => {
                        let refusal = Refusal::invalid("the message cannot be decoded");
                        return Err(self.refuse("transfer", "", refusal));
                    }
                    _ => *requests = None,
                },
                () = detached(replies) => *replies = None,
            }
        }
    }

    /// Judges whether a link may be attached, and returns its device.
    async fn admit(&self, attach: &Attach, known: Option<Client>, claim: &Claim) -> Result<Client, End> {
        let address = attach::address(attach);
        let text = address.unwrap_or_default();
        let Some(device) = Address::parse(text) else {
            let cause = match address {
                None => attach::missing_address(attach).to_owned(),
                Some(text) if address::is_of_hub(text) => {
                    format!("the address is that of an IoT hub; {NO_HUB_HERE}")
                }
                Some(_) => "the address is not {idScope}/registrations/{registrationId}".to_owned(),
            };
            let refusal = Refusal::not_found(cause).with_message("The address is not known");
            return Err(self.refuse("attach", text, refusal));
        };
        let own = match (claim, &known) {
            (Claim::Token { device, .. } | Claim::Tpm { device, .. }, _) => Some(device),
            (Claim::Certificate, Some(client)) => Some(&client.device),
            (Claim::Certificate, None) => None,
        };
        if own.is_some_and(|own| *own != device) {
            let cause = "the link is for another device than the connection";
            return Err(self.refuse("attach", text, Refusal::unauthorized(cause)));
        }
        let api_version = attach::api_version(attach);
        if own.is_none() {
            let version = api_version.as_deref();
            let call = self.question("attach", &device, claim, version, DeviceOperation::Connect);
            let handled = self.instance.handle(call);
            hold_back(handled.delay).await;
            match handled.delivery {
                Delivery::HangUp => return Err(End::Cut),
                Delivery::Garbage => return Err(End::Garbage),
                Delivery::Stall => future::pending().await,
                Delivery::Plain | Delivery::WrongRid | Delivery::Twice => {}
            }
            if handled.answer.status >= 300 {
                return Err(End::Refused(Box::new(message::error(&handled.answer))));
            }
        }
        Ok(Client { device, api_version: api_version.or(known.and_then(|client| client.api_version)) })
    }

    async fn answer(
        &self,
        request: Received<Body<Value>>,
        requests: &Receiver,
        replies: &mut Option<Replies>,
        client: &Client,
        claim: &Claim,
    ) -> Result<(), End> {
        self.waiting.answered();
        let (info, request) = request.into_parts();
        let correlation_id = message::correlation_id(&request);
        let target = message::target(&request);
        let parsed =
            MessageRequest::parse(request).map_err(Refusal::invalid).and_then(|request| match replies {
                Some(_) => Ok(request),
                None => Err(Refusal::invalid(
                    "the client does not listen to replies: no link for them is attached",
                )),
            });
        let mut call = self.call("transfer", &target, client, claim);
        call.request = parsed.map(|request| {
            call.body.bytes = request.body;
            device_request(&client.device, request.operation)
        });
        let Handled { answer, delivery, delay, .. } = self.instance.handle(call);
        hold_back(delay).await;
        let copies = match delivery {
            Delivery::HangUp => return Err(End::Cut),
            Delivery::Stall => 0,
            Delivery::Plain | Delivery::WrongRid | Delivery::Garbage => 1,
            Delivery::Twice => 2,
        };
        if refuses(&answer, delivery) {
            let _link_gone = self.within(requests.reject(info, message::error(&answer))).await?;
            return Ok(());
        }
        // Before the reply, because clients insist on this order.
        let _link_gone = self.within(requests.accept(info)).await?;
        let reply = match delivery {
            Delivery::Garbage => message::garbage(GARBAGE, correlation_id),
            Delivery::WrongRid => message::reply(&answer, Some(message::wrong(correlation_id))),
            _ => message::reply(&answer, correlation_id),
        };
        for _ in 0..copies {
            let Some(link) = replies.as_mut() else { break };
            if link.pile_up() || self.untaken.pile_up() {
                let refusal = Refusal::invalid("the client does not take or settle its replies");
                return Err(self.refuse("transfer", &target, refusal));
            }
            self.untaken.add_reply();
            if self.within(link.send(reply.clone())).await?.is_err() {
                *replies = None;
            }
        }
        Ok(())
    }
}

/// Returns whether the answer is sent by rejecting the request.
fn refuses(answer: &Answer, delivery: Delivery) -> bool {
    answer.status >= 300 && !matches!(delivery, Delivery::Garbage | Delivery::Stall)
}

/// Why the library cannot attach a link.
fn unattached(error: &AcceptorAttachError) -> Refusal {
    let cause = match error {
        AcceptorAttachError::LocalSender(error) => error.to_string(),
        AcceptorAttachError::LocalReceiver(error) => error.to_string(),
        AcceptorAttachError::SessionStopped(_) => error.to_string(),
    };
    Refusal::invalid(format!("the link cannot be attached: {cause}"))
}

async fn next(link: &mut Option<Receiver>) -> Result<Received<Body<Value>>, RecvError> {
    match link {
        Some(link) => link.recv().await,
        None => future::pending().await,
    }
}

/// Waits until the client detaches a link.
async fn detached(replies: &mut Option<Replies>) {
    match replies {
        Some(replies) => {
            let _why = replies.link.on_detach().await;
        }
        None => future::pending().await,
    }
}

/// The capacity of the library's channels, in frames.
const QUEUE: usize = 16;
const LARGEST_MESSAGE: u64 = 256 * 1024;
/// The idle timeout in milliseconds. It is sent to the client, which keeps the connection alive.
const SILENCE: u32 = 240_000;
