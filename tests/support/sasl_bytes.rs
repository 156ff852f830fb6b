//! A device at an emulator's AMQP port in literal frames: SASL, and the performatives before its first link.

use azure_dps_emulator::{Emulator, KeyedCertificate};
use tokio::time::timeout;

use crate::amqp_bytes::{
    AMQP, BEGIN, CHALLENGE, INIT, MECHANISMS, OPEN, OUTCOME, RESPONSE, SASL, Value, amqp_frame, binary,
    bytes, fields_of, read_frame, read_header, sasl_frame, say, string, symbol, text,
};
use crate::dev1::DEV1;
use crate::limits::HUNG;
use crate::tls::{ClientStream, connect, presenting};
use crate::trusting;

pub async fn tls(emulator: &Emulator, certificate: Option<&KeyedCertificate>) -> ClientStream {
    let ca = emulator.ca_pem();
    let config = certificate.map_or_else(|| trusting(ca), |certificate| presenting(ca, certificate));
    connect(emulator.amqp_port(), config).await.unwrap()
}

/// The next frame, which is this performative of AMQP: its bytes.
pub async fn hear(stream: &mut ClientStream, code: u8) -> Vec<u8> {
    let (kind, body) = next(stream).await;
    assert_eq!((kind, body[2]), (0, code));
    body
}

/// The fields of the next frame, which is this performative of SASL.
pub async fn hear_sasl(stream: &mut ClientStream, code: u8) -> Vec<Value> {
    let (kind, body) = next(stream).await;
    assert_eq!(kind, 1, "a frame of SASL");
    fields_of(&body, code).0
}

/// The next frame: its kind and its body.
pub async fn next(stream: &mut ClientStream) -> (u8, Vec<u8>) {
    timeout(HUNG, read_frame(stream)).await.unwrap().unwrap()
}

/// Begins SASL and returns the mechanisms that are offered.
pub async fn offers(stream: &mut ClientStream) -> Vec<String> {
    say(stream, &SASL).await;
    assert_eq!(read_header(stream).await, SASL);
    match hear_sasl(stream, MECHANISMS).await.swap_remove(0) {
        Value::Array(mechanisms) => mechanisms.iter().map(text).collect(),
        single => vec![text(&single)],
    }
}

/// Begins SASL, chooses PLAIN and returns the code of the outcome.
pub async fn sign_in(stream: &mut ClientStream, user_name: &str, token: &str) -> u8 {
    offers(stream).await;
    say_init(stream, "PLAIN", Some(&plain_response(user_name, token))).await
}

/// Chooses a mechanism and returns the code of the outcome.
pub async fn say_init(stream: &mut ClientStream, mechanism: &str, response: Option<&[u8]>) -> u8 {
    say(stream, &init(mechanism, response)).await;
    outcome(stream).await
}

pub fn init(mechanism: &str, response: Option<&[u8]>) -> Vec<u8> {
    sasl_frame(INIT, vec![symbol(mechanism), response.map_or(Value::Null, binary)])
}

/// The choice of PLAIN, as `dev1` with this token.
pub fn plain(token: &str) -> Vec<u8> {
    init("PLAIN", Some(&plain_response(DEV1, token)))
}

pub fn plain_response(user_name: &str, token: &str) -> Vec<u8> {
    format!("\0{user_name}\0{token}").into_bytes()
}

/// The bytes of the next challenge.
pub async fn challenge(stream: &mut ClientStream) -> Vec<u8> {
    let (kind, body) = next(stream).await;
    assert!(kind == 1 && 8 + body.len() <= 512, "a frame of SASL has at most 512 bytes");
    bytes(&fields_of(&body, CHALLENGE).0[0])
}

pub async fn respond(stream: &mut ClientStream, bytes: &[u8]) {
    say(stream, &sasl_frame(RESPONSE, vec![binary(bytes)])).await;
}

/// The code of the outcome, which comes next.
pub async fn outcome(stream: &mut ClientStream) -> u8 {
    let Value::Ubyte(code) = hear_sasl(stream, OUTCOME).await[0] else { panic!("no code") };
    code
}

/// The header of AMQP, an open and a begin.
pub fn opening() -> [Vec<u8>; 3] {
    let begin = vec![Value::Null, Value::Uint(0), Value::Uint(100), Value::Uint(100)];
    [AMQP.to_vec(), amqp_frame(OPEN, vec![string("c")]), amqp_frame(BEGIN, begin)]
}
