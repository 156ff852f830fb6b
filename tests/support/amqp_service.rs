//! A service that speaks AMQP to a device of the SDK, in literal frames.

use crate::TlsListener;
use crate::amqp_bytes::*;
use crate::tls::ServerStream;

/// The steps of a connection, each up to what the peer is then waited for.
pub const STEPS: [&str; 8] =
    ["SASL header", "SASL offer", "SASL outcome", "AMQP header", "open", "begin", "attach", "transfer"];

/// A request as it was heard.
#[derive(Clone, Debug)]
pub struct Request {
    pub delivery: Value,
    pub correlation_id: Value,
    pub properties: Vec<(String, Value)>,
    /// The descriptor of the body's section, and what is in it.
    pub body: (u8, Value),
}

/// One AMQP conversation in literal frames.
#[derive(Debug)]
pub struct AmqpService {
    stream: ServerStream,
    /// What our open says.
    pub frame_size: u32,
    replies: u32,
}

impl AmqpService {
    pub async fn accept(listener: &TlsListener) -> Self {
        Self { stream: listener.accept_stream().await, frame_size: 65536, replies: 0 }
    }

    /// A client that was offered all mechanisms and has chosen one.
    pub async fn offered(listener: &TlsListener) -> Self {
        let mut talk = Self::accept(listener).await;
        talk.header().await;
        talk.raw(&SASL).await;
        talk.offer(&["TPM", "PLAIN"]).await;
        talk.hear_sasl(INIT).await;
        talk
    }

    pub async fn signed_in(listener: &TlsListener) -> Self {
        let mut talk = Self::offered(listener).await;
        talk.judge(0).await;
        talk
    }

    pub async fn requested(listener: &TlsListener) -> (Self, Request) {
        let mut talk = Self::signed_in(listener).await;
        talk.attached().await;
        let request = talk.hear_request().await;
        (talk, request)
    }

    pub async fn begun(&mut self) {
        assert_eq!(self.header().await, AMQP);
        self.raw(&AMQP).await;
        self.hear(OPEN).await;
        let mut open = open_fields();
        open[2] = Value::Uint(self.frame_size);
        self.say(OPEN, open).await;
        self.hear(BEGIN).await;
        self.say(BEGIN, begin_fields()).await;
    }

    /// Goes on until requests may come.
    pub async fn attached(&mut self) {
        self.begun().await;
        self.linked().await;
    }

    pub async fn linked(&mut self) {
        for _ in 0..2 {
            let link = self.hear(ATTACH).await;
            self.say(ATTACH, attach_fields(&link)).await;
        }
        self.say(FLOW, flow_fields()).await;
    }

    pub async fn header(&mut self) -> [u8; 8] {
        read_header(&mut self.stream).await
    }

    pub async fn raw(&mut self, bytes: &[u8]) {
        say(&mut self.stream, bytes).await;
    }

    /// The next frame: its type and body. `None` at the end.
    pub async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        read_frame(&mut self.stream).await
    }

    pub async fn hear_sasl(&mut self, code: u8) -> Vec<Value> {
        let (kind, body) = self.frame().await.unwrap();
        assert_eq!(kind, 1, "a frame of SASL");
        fields_of(&body, code).0
    }

    /// The fields of the next performative, which has to be this one unless it is a flow.
    pub async fn hear(&mut self, code: u8) -> Vec<Value> {
        self.hear_with_payload(code).await.0
    }

    pub async fn hear_with_payload(&mut self, code: u8) -> (Vec<Value>, Vec<u8>) {
        loop {
            let (kind, body) = self.frame().await.unwrap();
            assert_eq!(kind, 0, "a frame of AMQP");
            // A frame without a body keeps the connection alive.
            if !body.is_empty() && (body[2] != FLOW || code == FLOW) {
                return fields_of(&body, code);
            }
        }
    }

    pub async fn hear_request(&mut self) -> Request {
        let (first, mut message) = self.hear_with_payload(TRANSFER).await;
        let mut more = first.get(5) == Some(&Value::Bool(true));
        while more {
            let (next, part) = self.hear_with_payload(TRANSFER).await;
            message.extend_from_slice(&part);
            more = next.get(5) == Some(&Value::Bool(true));
        }
        assert_eq!(first[0], Value::Uint(1), "on the sending link");
        assert_eq!(first.get(4).unwrap_or(&Value::Null), &Value::Bool(false), "unsettled");
        let (mut rest, mut request) = (message.as_slice(), None);
        let (mut correlation_id, mut properties) = (Value::Null, Vec::new());
        while !rest.is_empty() {
            match take_section(&mut rest) {
                (PROPERTIES, Value::List(fields)) => correlation_id = fields[5].clone(),
                (APPLICATION_PROPERTIES, Value::Map(map)) => {
                    properties = map.into_iter().map(|(name, value)| (text(&name), value)).collect();
                }
                (code @ (DATA | VALUE), value) => request = Some((code, value)),
                other => panic!("{other:?}"),
            }
        }
        Request { delivery: first[1].clone(), correlation_id, properties, body: request.unwrap() }
    }

    pub async fn say(&mut self, code: u8, fields: Vec<Value>) {
        self.raw(&amqp_frame(code, fields)).await;
    }

    pub async fn offer(&mut self, mechanisms: &[&str]) {
        self.raw(&sasl_frame(MECHANISMS, vec![symbols(mechanisms)])).await;
    }

    pub async fn challenge(&mut self, bytes: &[u8]) {
        self.raw(&sasl_frame(CHALLENGE, vec![binary(bytes)])).await;
    }

    pub async fn judge(&mut self, code: u8) {
        self.raw(&sasl_frame(OUTCOME, vec![Value::Ubyte(code)])).await;
    }

    pub async fn accept_request(&mut self, request: &Request) {
        self.settle(request, composite(ACCEPTED, vec![])).await;
    }

    pub async fn settle(&mut self, request: &Request, state: Value) {
        let delivery = request.delivery.clone();
        self.say(DISPOSITION, vec![Value::Bool(true), delivery.clone(), delivery, Value::Bool(true), state])
            .await;
    }

    pub async fn reply(&mut self, request: &Request, properties: &[(&str, Value)], body: &str) {
        let map = properties.iter().map(|(name, value)| (string(name), value.clone())).collect();
        let message = [
            performative(PROPERTIES, correlation(request)),
            section(APPLICATION_PROPERTIES, Value::Map(map)),
            section(DATA, binary(body.as_bytes())),
        ];
        self.transfer(&message.concat()).await;
    }

    /// Hears the client's goodbye, which waits for no answer: its last frame closes the connection.
    pub async fn leave(mut self) {
        let mut last = None;
        while let Some((_, body)) = self.frame().await {
            last = body.get(2).copied();
        }
        assert_eq!(last, Some(CLOSE));
    }

    pub async fn transfer(&mut self, message: &[u8]) {
        let id = self.replies;
        self.replies += 1;
        let tag = binary(id.to_be_bytes());
        let fields = vec![
            Value::Uint(0),
            Value::Uint(id),
            tag,
            Value::Uint(0),
            Value::Bool(false),
            Value::Bool(false),
        ];
        self.raw(&frame(0, &[performative(TRANSFER, fields), message.to_vec()].concat())).await;
    }

    /// Goes along until the step, which is left unanswered.
    pub async fn until(step: &str, listener: &TlsListener) -> Self {
        let mut talk = Self::accept(listener).await;
        let at = STEPS.iter().position(|other| *other == step).unwrap();
        talk.header().await;
        if at > 0 {
            talk.raw(&SASL).await;
        }
        if at > 1 {
            talk.offer(&["PLAIN"]).await;
            talk.hear_sasl(INIT).await;
        }
        if at > 2 {
            talk.judge(0).await;
            talk.header().await;
        }
        if at > 3 {
            talk.raw(&AMQP).await;
            talk.hear(OPEN).await;
        }
        if at > 4 {
            talk.say(OPEN, open_fields()).await;
            talk.hear(BEGIN).await;
        }
        if at > 5 {
            talk.say(BEGIN, begin_fields()).await;
        }
        if at == 6 {
            talk.hear(ATTACH).await;
        }
        if at > 6 {
            talk.linked().await;
            talk.hear_request().await;
        }
        talk
    }
}

pub fn rejected(condition: &str, description: &str, info: &[(Value, Value)]) -> Value {
    composite(REJECTED, vec![failure(condition, description, info)])
}

pub fn correlation(request: &Request) -> Vec<Value> {
    let mut fields = vec![Value::Null; 5];
    fields.push(request.correlation_id.clone());
    fields
}

pub fn open_fields() -> Vec<Value> {
    vec![string("peer"), Value::Null, Value::Uint(65536), Value::Ushort(8191), Value::Uint(240_000)]
}

pub fn begin_fields() -> Vec<Value> {
    vec![Value::Ushort(0), Value::Uint(0), Value::Uint(5000), Value::Uint(5000), Value::Uint(31)]
}

/// The answer to an attach: the other role, the same name, handle and termini.
pub fn attach_fields(attach: &[Value]) -> Vec<Value> {
    let we_send = attach[2] == Value::Bool(true);
    let termini = [attach[5].clone(), attach[6].clone()];
    let [source, target] = termini;
    let first = if we_send { Value::Uint(0) } else { Value::Null };
    vec![
        attach[0].clone(),
        attach[1].clone(),
        Value::Bool(!we_send),
        Value::Null,
        Value::Null,
        source,
        target,
        Value::Null,
        Value::Null,
        first,
        Value::Ulong(65536),
    ]
}

/// Credit for the link with the handle 1.
pub fn flow_fields() -> Vec<Value> {
    vec![
        Value::Uint(0),
        Value::Uint(5000),
        Value::Uint(0),
        Value::Uint(5000),
        Value::Uint(1),
        Value::Uint(0),
        Value::Uint(50),
    ]
}
