//! AMQP 1.0: from messages to calls and from answers to messages. It knows the layers of a connection, and no rule.
//!
//! | from the client | answer |
//! | --- | --- |
//! | SASL header | SASL header and the mechanisms |
//! | PLAIN with a token | outcome 0 accepted, 1 refused, 2 and 4 fault |
//! | TPM with the keys of a TPM, enrolled or not | the challenge in two parts; a token, then an outcome as with PLAIN |
//! | EXTERNAL, or an AMQP header at once, with a client certificate | accepted; the first link shows for whom |
//! | an AMQP header at once, without a certificate | SASL header, and the connection ends |
//! | link from or to `{idScope}/registrations/{registrationId}` | accepted |
//! | link from or to anything else, or for another device | end and close with an error |
//! | request | accepted, then the reply; or rejected with the error |
//!
//! A refusal never is a detach alone: a client that is busy attaching the next link may not notice it.

mod address;
mod attach;
mod message;
mod replies;
mod sasl;
mod sound;
mod values;

use std::future;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use fe2o3_amqp::acceptor::error::AcceptorAttachError;
use fe2o3_amqp::acceptor::{
    ConnectionAcceptor, LinkAcceptor, LinkEndpoint, ListenerSessionHandle, SessionAcceptor,
};
use fe2o3_amqp::frames::sasl::Frame;
use fe2o3_amqp::link::RecvError;
use fe2o3_amqp::link::delivery::Delivery as Received;
use fe2o3_amqp::types::definitions;
use fe2o3_amqp::types::messaging::Body;
use fe2o3_amqp::types::performatives::Attach;
use fe2o3_amqp::types::primitives::Value;
use fe2o3_amqp::{Receiver, connection, transport};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, copy, duplex, sink, split,
};
use tokio::time::{Instant, sleep_until, timeout};

use self::address::Address;
use self::message::Asked;
use self::replies::{Replies, Untaken, Written};
use self::sasl::{Claim, Keys, Mechanism, Step};
use self::sound::{Frames, HIGHEST_CHANNEL, HIGHEST_HANDLE, Waiting};
use super::hold_back;
use crate::api::hub::NO_HUB_HERE;
use crate::call::answer::Answer;
use crate::call::answer::Delivery;
use crate::call::request::DeviceOperation;
use crate::call::request::DeviceRequest;
use crate::call::request::Request;
use crate::call::schema::Body as Document;
use crate::call::{Call, Handled, Origin};
use crate::front::peer::Peer;
use crate::instance::Service;
use crate::refusal::{REQUEST_TIMEOUT, Refusal};
use crate::state::fault::GARBAGE;

/// Serves one connection until either side ends it.
pub(super) async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: Peer,
    service: Arc<Service>,
) {
    let talk = Talk { peer, service, waiting: Waiting::default(), untaken: Untaken::default() };
    let end = match talk.greet(&mut stream).await {
        Ok((claim, header)) => talk.carry(&mut stream, claim, header).await,
        Err(end) => end,
    };
    if matches!(end, End::Garbage) {
        // The connection ends anyway.
        let _sent = timeout(WRITE_DEADLINE, stream.write_all(GARBAGE.as_bytes())).await;
    }
    if !matches!(end, End::Cut) {
        let _done = timeout(CLOSE_DEADLINE, stream.shutdown()).await;
    }
}

/// Why a connection ends; the journal knows it already.
enum End {
    /// The client ended it, or knows why it ends.
    Over,
    /// A fault ends it without a word.
    Cut,
    /// A fault ends it with bytes that are no frame.
    Garbage,
    /// The client may not go on, and is told so.
    Refused(Box<definitions::Error>),
}

/// A device that has links.
struct Client {
    device: Address,
    api_version: Option<String>,
}

/// A session and its links: one for requests, one for replies.
struct Attended {
    session: ListenerSessionHandle,
    client: Option<Client>,
    requests: Option<Receiver>,
    replies: Option<Replies>,
}

struct Talk {
    peer: Peer,
    service: Arc<Service>,
    /// The requests that are on their way through the library.
    waiting: Waiting,
    untaken: Untaken,
}

impl Talk {
    /// Everything before AMQP itself; gives bytes that were read and belong to it.
    async fn greet<S>(&self, stream: &mut S) -> Result<(Claim, &'static [u8]), End>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut header = [0; AMQP_HEADER.len()];
        self.read(stream, &mut header).await?;
        if header == AMQP_HEADER && self.has_certificate() {
            return Ok((Claim::Certificate, &AMQP_HEADER));
        }
        self.write(stream, &SASL_HEADER).await?;
        let cause = match header {
            SASL_HEADER => return Ok((self.authenticate(stream).await?, &[])),
            AMQP_HEADER => "there is neither SASL nor a client certificate",
            _ => "the connection does not begin with a header of SASL or AMQP 1.0",
        };
        Err(self.refuse("header", "", Refusal::unauthorized(cause)))
    }

    async fn authenticate<S>(&self, stream: &mut S) -> Result<Claim, End>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.write_frame(stream, sasl::mechanisms(self.has_certificate())).await?;
        let Frame::Init(init) = self.read_frame(stream).await? else {
            return Err(self.refuse("sasl", "", Refusal::invalid("sasl-init was expected")));
        };
        let name = init.mechanism.as_str();
        let Some(mut mechanism) = Mechanism::find(name, self.has_certificate()) else {
            let cause = match sasl::is_of_hub(name) {
                true => format!("{name} is how clients sign in to an IoT hub; {NO_HUB_HERE}"),
                false => "the SASL mechanism is none of those that were offered".to_owned(),
            };
            return Err(self.turn_away(stream, name, Refusal::unauthorized(cause)).await);
        };
        let mut shown = None;
        let mut response = init.initial_response;
        let claim = loop {
            match mechanism.step(response.as_ref().map(|bytes| bytes.as_slice())) {
                Step::Done(claim) => break claim,
                Step::AtHub => {
                    let cause = format!("the user name is that of a device at its IoT hub; {NO_HUB_HERE}");
                    return Err(self.turn_away(stream, name, Refusal::unauthorized(cause)).await);
                }
                Step::Refuse(cause) => {
                    return Err(self.turn_away(stream, name, Refusal::unauthorized(cause)).await);
                }
                Step::Challenge(bytes) => {
                    self.write_frame(stream, sasl::challenge(bytes)).await?;
                    let Frame::Response(next) = self.read_frame(stream).await? else {
                        return Err(self.refuse("sasl", "", Refusal::invalid("sasl-response was expected")));
                    };
                    response = Some(next.response);
                }
                Step::Seal(keys) => {
                    let handled = self.ask_for_challenge(&keys);
                    shown = Some(keys.to_json());
                    let status = handled.answer.status;
                    let body = self.delivered(stream, handled).await?.body;
                    let Some(blob) = body.as_ref().and_then(sasl::sealed) else {
                        self.write_frame(stream, sasl::outcome(sasl::code(status))).await?;
                        return Err(End::Over);
                    };
                    mechanism = Mechanism::sealed(keys.device, blob);
                    response = None;
                }
            }
        };
        let judged = match &claim {
            Claim::Token { device, .. } => Some((device, "sasl-init", DeviceOperation::SignIn)),
            Claim::Tpm { device, .. } => Some((device, "sasl-response", DeviceOperation::Prove)),
            Claim::Certificate => None,
        };
        if let Some((device, word, operation)) = judged {
            let mut call = self.question(word, device, &claim, None, operation);
            call.body.bytes = shown.map(|keys| keys.to_string().into_bytes()).unwrap_or_default();
            let handled = self.service.handle(call);
            let answer = self.delivered(stream, handled).await?;
            if answer.status >= 300 {
                self.write_frame(stream, sasl::outcome(sasl::code(answer.status))).await?;
                return Err(End::Over);
            }
        }
        self.write_frame(stream, sasl::outcome(sasl::code(200))).await?;
        Ok(claim)
    }

    /// The answer, unless a fault puts something else in its place.
    async fn delivered(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
        handled: Handled,
    ) -> Result<Answer, End> {
        hold_back(handled.delay).await;
        match handled.delivery {
            Delivery::HangUp => Err(End::Cut),
            Delivery::Garbage => Err(End::Garbage),
            Delivery::Stall => {
                let _left = copy(stream, &mut sink()).await;
                Err(End::Over)
            }
            Delivery::Plain | Delivery::WrongRid | Delivery::Twice => Ok(handled.answer),
        }
    }

    /// Ends the exchange for a reason that has nothing to do with who the device is.
    async fn turn_away<S>(&self, stream: &mut S, mechanism: &str, refusal: Refusal) -> End
    where
        S: AsyncWrite + Unpin,
    {
        let end = self.refuse("sasl-init", mechanism, refusal);
        hold_back(self.service.settings().latency).await;
        match self.write_frame(stream, sasl::outcome(sasl::code(401))).await {
            Ok(()) => end,
            Err(end) => end,
        }
    }

    /// Carries bytes between the client and the AMQP library.
    ///
    /// The library runs tasks of its own and would keep the connection for as long as it likes; it gets a pipe instead,
    /// which ends with this call, and its tasks end with the pipe.
    async fn carry<S>(&self, stream: &mut S, claim: Claim, header: &[u8]) -> End
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (ours, theirs) = duplex(PIPE);
        let (mut from_client, mut to_client) = split(stream);
        let (mut from_library, mut to_library) = split(ours);
        let inbound = async {
            let end = match to_library.write_all(header).await {
                Ok(()) => self.hand_in(&mut from_client, &mut to_library, header).await,
                Err(_) => None,
            };
            // The library gets time to notice that the client is gone.
            let _done = to_library.shutdown().await;
            match end {
                Some(end) => end,
                None => future::pending().await,
            }
        };
        let mut outbound = Box::pin(self.forward(&mut from_library, &mut to_client));
        let mut talk = Box::pin(self.converse(theirs, &claim));
        let end = tokio::select! {
            end = &mut talk => end,
            end = inbound => end,
            end = &mut outbound => return match end {
                // The library has nothing more to say, and the conversation may know why.
                End::Over => timeout(CLOSE_DEADLINE, talk).await.unwrap_or(End::Over),
                end => end,
            },
        };
        if !matches!(end, End::Cut) {
            // What the library said last.
            let _sent = timeout(CLOSE_DEADLINE, outbound).await;
        }
        end
    }

    /// Hands over what the client says, frame by frame; the end of the connection if the client may not go on.
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
            if frames.hurry() {
                sleep_until(last + BETWEEN_BURSTS).await;
                last = Instant::now();
            }
        }
    }

    /// Hands over what the library says, for as long as the client takes it.
    async fn forward(&self, from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) -> End {
        let (mut written, mut bytes) = (Written::new(self.untaken.clone()), BytesMut::with_capacity(PIPE));
        loop {
            bytes.clear();
            match from.read_buf(&mut bytes).await {
                Ok(0) | Err(_) => return End::Over,
                Ok(_) => written.see(&bytes),
            }
            if let Err(end) = self.write(to, &bytes).await {
                return end;
            }
        }
    }

    /// Speaks AMQP until the connection ends.
    async fn converse(&self, pipe: DuplexStream, claim: &Claim) -> End {
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
                        Ok(Ok(session)) => sessions.push(self.attend(session, claim)),
                        _ => return End::Over,
                    }
                }
                Some(ended) = sessions.next() => {
                    let (Err(end), mut attended) = ended else { continue };
                    if let End::Refused(error) = &end {
                        // A client may wait for the end of its session even when the connection is closed.
                        let ended = attended.session.end_with_error((**error).clone());
                        let _done = timeout(CLOSE_DEADLINE, ended).await;
                        let closed = connection.close_with_error((**error).clone());
                        let _done = timeout(CLOSE_DEADLINE, closed).await;
                    }
                    return end;
                }
            }
        }
    }

    /// Why the library has no more sessions: most often the client left.
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

    /// Serves one session until it ends, and gives back what is left of it.
    async fn attend(&self, session: ListenerSessionHandle, claim: &Claim) -> (Result<(), End>, Attended) {
        let mut attended = Attended { session, client: None, requests: None, replies: None };
        (self.serve_links(&mut attended, claim).await, attended)
    }

    async fn serve_links(&self, attended: &mut Attended, claim: &Claim) -> Result<(), End> {
        let Attended { session, client, requests, replies } = attended;
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

    /// Says whether a link may be attached, and for whom it is.
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
            let handled = self.service.handle(call);
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
        let asked = Asked::parse(request).map_err(Refusal::invalid).and_then(|asked| match replies {
            Some(_) => Ok(asked),
            None => {
                Err(Refusal::invalid("the client does not listen to replies: no link for them is attached"))
            }
        });
        let mut call = self.call("transfer", &target, client, claim);
        call.request = asked.map(|asked| {
            call.body.bytes = asked.body;
            device_request(&client.device, asked.operation)
        });
        let Handled { answer, delivery, delay, .. } = self.service.handle(call);
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
        // Clients insist on it before the reply.
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

    /// A call that asks for this operation, with nothing in its body.
    fn question(
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

    /// Asks for the challenge in the words in which a TPM asks for it over HTTPS.
    fn ask_for_challenge(&self, keys: &Keys) -> Handled {
        let mut call =
            self.note("sasl-response", &keys.device.registration_id, Refusal::invalid("nothing was asked"));
        call.body.bytes = keys.to_json().to_string().into_bytes();
        call.request = Ok(device_request(&keys.device, DeviceOperation::Challenge));
        self.service.handle(call)
    }

    /// A call that asks for nothing yet.
    fn call(&self, word: &str, target: &str, client: &Client, claim: &Claim) -> Call {
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
            ..self.note(word, target, Refusal::invalid("nothing was asked"))
        }
    }

    /// Ends the connection for what no operation answers, and puts it into the journal.
    fn refuse(&self, word: &str, target: &str, refusal: Refusal) -> End {
        let handled = self.service.handle(self.note(word, target, refusal));
        End::Refused(Box::new(message::error(&handled.answer)))
    }

    fn note(&self, word: &str, target: &str, refusal: Refusal) -> Call {
        let origin = Origin {
            front: self.peer.front,
            connection: self.peer.connection,
            method: word.to_owned(),
            target: target.to_owned(),
        };
        Call { body: Document { bytes: Vec::new(), json: true }, ..Call::refused(origin, refusal) }
    }

    fn has_certificate(&self) -> bool {
        !self.peer.certificates.is_empty()
    }

    async fn read_frame(&self, stream: &mut (impl AsyncRead + Unpin)) -> Result<Frame, End> {
        let unreadable = || self.refuse("sasl", "", Refusal::invalid("no SASL frame"));
        let mut length = [0; 4];
        self.read(stream, &mut length).await?;
        let mut rest = vec![0; sasl::rest(length).ok_or_else(unreadable)?];
        self.read(stream, &mut rest).await?;
        sasl::decode(&rest).ok_or_else(unreadable)
    }

    async fn write_frame(&self, stream: &mut (impl AsyncWrite + Unpin), frame: Frame) -> Result<(), End> {
        match sasl::encode(&frame) {
            Ok(bytes) => self.write(stream, &bytes).await,
            Err(error) => {
                tracing::warn!(%error, "a SASL frame cannot be encoded");
                Err(End::Over)
            }
        }
    }

    async fn read(&self, stream: &mut (impl AsyncRead + Unpin), bytes: &mut [u8]) -> Result<(), End> {
        match timeout(GREETING_DEADLINE, stream.read_exact(bytes)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                tracing::debug!(%error, "connection ended");
                Err(End::Over)
            }
            Err(_) => {
                let refusal = Refusal::new(REQUEST_TIMEOUT, "the client did not go on in time");
                Err(self.refuse("sasl", "", refusal))
            }
        }
    }

    async fn write(&self, stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), End> {
        let written = self.within(async {
            stream.write_all(bytes).await?;
            stream.flush().await
        });
        written.await?.map_err(|error| {
            tracing::debug!(%error, "connection ended");
            End::Over
        })
    }

    /// Whatever the client must take part in has its time.
    async fn within<T>(&self, done: impl Future<Output = T>) -> Result<T, End> {
        timeout(WRITE_DEADLINE, done).await.map_err(|_| {
            let refusal = Refusal::new(REQUEST_TIMEOUT, "the client does not take what it is sent");
            self.refuse("transfer", "", refusal)
        })
    }
}

fn device_request(device: &Address, operation: DeviceOperation) -> Request {
    Request::Device(DeviceRequest {
        id_scope: device.id_scope.clone(),
        registration_id: device.registration_id.clone(),
        operation,
    })
}

/// Whether the answer is told by rejecting the request.
fn refuses(answer: &Answer, delivery: Delivery) -> bool {
    answer.status >= 300 && !matches!(delivery, Delivery::Garbage | Delivery::Stall)
}

/// Why the library does not attach a link.
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

const SASL_HEADER: [u8; 8] = *b"AMQP\x03\x01\x00\x00";
const AMQP_HEADER: [u8; 8] = *b"AMQP\x00\x01\x00\x00";
const PIPE: usize = 64 * 1024;
/// Frames between the tasks of the library.
const QUEUE: usize = 16;
/// Between as many frames as the library can look at in it.
const BETWEEN_BURSTS: Duration = Duration::from_millis(100);
const LARGEST_FRAME: u32 = 64 * 1024;
const LARGEST_MESSAGE: u64 = 256 * 1024;
/// Milliseconds after which a client that says nothing is gone; it learns this and keeps the connection alive.
const SILENCE: u32 = 240_000;
const GREETING_DEADLINE: Duration = Duration::from_secs(10);
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);
