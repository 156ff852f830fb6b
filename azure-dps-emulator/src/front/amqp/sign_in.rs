//! The steps before AMQP itself: protocol headers and SASL.

use fe2o3_amqp::frames::sasl::Frame;
use tokio::io::{AsyncRead, AsyncWrite, copy, sink};

use super::connection::{Connection, End, device_request};
use super::sasl::{self, Claim, Keys, Mechanism, Step};
use crate::api::hub::NO_HUB_HERE;
use crate::call::Handled;
use crate::call::answer::{Answer, Delivery};
use crate::call::request::DeviceOperation;
use crate::front::delay::hold_back;
use crate::json::Value;
use crate::refusal::Refusal;

impl Connection {
    /// Performs the steps before AMQP; also returns bytes that were read and belong to AMQP.
    pub(super) async fn greet<S>(&self, stream: &mut S) -> Result<(Claim, &'static [u8]), End>
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
            AMQP_HEADER => "the client uses neither SASL nor a client certificate",
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
        let Some(mechanism) = Mechanism::find(name, self.has_certificate()) else {
            let cause = match sasl::is_of_hub(name) {
                true => format!("{name} is how clients sign in to an IoT hub; {NO_HUB_HERE}"),
                false => "the SASL mechanism was not offered".to_owned(),
            };
            return Err(self.turn_away(stream, name, Refusal::unauthorized(cause)).await);
        };
        let response = init.initial_response.map(|bytes| bytes.into_vec());
        let (claim, presented) = self.negotiate(stream, name, mechanism, response).await?;
        let judged = match &claim {
            Claim::Token { device, .. } => Some((device, "sasl-init", DeviceOperation::SignIn)),
            Claim::Tpm { device, .. } => Some((device, "sasl-response", DeviceOperation::Prove)),
            Claim::Certificate => None,
        };
        if let Some((device, word, operation)) = judged {
            let mut call = self.question(word, device, &claim, None, operation);
            call.body.bytes = presented.map(|keys| keys.to_string().into_bytes()).unwrap_or_default();
            let handled = self.instance.handle(call);
            let answer = self.delivered(stream, handled).await?;
            if answer.status >= 300 {
                self.write_frame(stream, sasl::outcome(sasl::code(answer.status))).await?;
                return Err(End::Over);
            }
        }
        self.write_frame(stream, sasl::outcome(sasl::code(200))).await?;
        Ok(claim)
    }

    /// Exchanges challenges and responses until the client has made its claim. For a TPM also returns the
    /// keys that it presented.
    async fn negotiate<S>(
        &self,
        stream: &mut S,
        name: &str,
        mut mechanism: Mechanism,
        mut response: Option<Vec<u8>>,
    ) -> Result<(Claim, Option<Value>), End>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut presented = None;
        loop {
            match mechanism.step(response.as_deref()) {
                Step::Done(claim) => return Ok((claim, presented)),
                Step::AtHub => {
                    let cause = format!("the user name is for an IoT hub; {NO_HUB_HERE}");
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
                    response = Some(next.response.into_vec());
                }
                Step::Seal(keys) => {
                    let handled = self.ask_for_challenge(&keys);
                    presented = Some(keys.to_json());
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
        }
    }

    /// The answer, unless a fault replaces it.
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

    /// Ends the exchange for a reason other than the device's identity.
    async fn turn_away<S>(&self, stream: &mut S, mechanism: &str, refusal: Refusal) -> End
    where
        S: AsyncWrite + Unpin,
    {
        let end = self.refuse("sasl-init", mechanism, refusal);
        hold_back(self.instance.settings().latency).await;
        match self.write_frame(stream, sasl::outcome(sasl::code(401))).await {
            Ok(()) => end,
            Err(end) => end,
        }
    }

    /// Requests the challenge in the same form as over HTTPS.
    fn ask_for_challenge(&self, keys: &Keys) -> Handled {
        let mut call = self.note(
            "sasl-response",
            &keys.device.registration_id,
            Refusal::invalid("the call has no operation"),
        );
        call.body.bytes = keys.to_json().to_string().into_bytes();
        call.request = Ok(device_request(&keys.device, DeviceOperation::Challenge));
        self.instance.handle(call)
    }

    async fn read_frame(&self, stream: &mut (impl AsyncRead + Unpin)) -> Result<Frame, End> {
        let unreadable = || self.refuse("sasl", "", Refusal::invalid("malformed SASL frame"));
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
}

const SASL_HEADER: [u8; 8] = *b"AMQP\x03\x01\x00\x00";
pub(super) const AMQP_HEADER: [u8; 8] = *b"AMQP\x00\x01\x00\x00";
