//! AMQP 1.0 in literal frames: the one codec of frames, performatives and values for both sides.
//!
//! It shares no code with the SDK, the emulator or their AMQP library.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

pub use crate::amqp_value::Value;

/// The header that begins SASL.
pub const SASL: [u8; 8] = *b"AMQP\x03\x01\0\0";
/// The header that begins AMQP.
pub const AMQP: [u8; 8] = *b"AMQP\0\x01\0\0";

// The descriptors of AMQP 1.0, parts 2, 3 and 5.
pub const OPEN: u8 = 0x10;
pub const BEGIN: u8 = 0x11;
pub const ATTACH: u8 = 0x12;
pub const FLOW: u8 = 0x13;
pub const TRANSFER: u8 = 0x14;
pub const DISPOSITION: u8 = 0x15;
pub const DETACH: u8 = 0x16;
pub const END: u8 = 0x17;
pub const CLOSE: u8 = 0x18;
pub const ERROR: u8 = 0x1d;
pub const ACCEPTED: u8 = 0x24;
pub const REJECTED: u8 = 0x25;
pub const RELEASED: u8 = 0x26;
pub const SOURCE: u8 = 0x28;
pub const TARGET: u8 = 0x29;
pub const COORDINATOR: u8 = 0x30;
pub const MECHANISMS: u8 = 0x40;
pub const INIT: u8 = 0x41;
pub const CHALLENGE: u8 = 0x42;
pub const RESPONSE: u8 = 0x43;
pub const OUTCOME: u8 = 0x44;
pub const PROPERTIES: u8 = 0x73;
pub const APPLICATION_PROPERTIES: u8 = 0x74;
pub const DATA: u8 = 0x75;
pub const VALUE: u8 = 0x77;

// Writing

/// A frame of AMQP (kind 0) or SASL (kind 1) on channel 0.
pub fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(8 + body.len()).unwrap().to_be_bytes();
    [&length[..], &[2, kind, 0, 0], body].concat()
}

pub fn amqp_frame(code: u8, fields: Vec<Value>) -> Vec<u8> {
    frame(0, &performative(code, fields))
}

pub fn sasl_frame(code: u8, fields: Vec<Value>) -> Vec<u8> {
    frame(1, &performative(code, fields))
}

/// The bytes of a described list.
pub fn performative(code: u8, fields: Vec<Value>) -> Vec<u8> {
    section(code, Value::List(fields))
}

/// The bytes of a described value.
pub fn section(code: u8, value: Value) -> Vec<u8> {
    described(code, value).encode()
}

/// A described list inside another value.
pub fn composite(code: u8, fields: Vec<Value>) -> Value {
    described(code, Value::List(fields))
}

fn described(code: u8, value: Value) -> Value {
    Value::Described(code, Box::new(value))
}

pub fn string(text: &str) -> Value {
    Value::String(text.to_owned())
}

pub fn symbol(text: &str) -> Value {
    Value::Symbol(text.to_owned())
}

pub fn symbols(texts: &[&str]) -> Value {
    Value::Array(texts.iter().map(|text| symbol(text)).collect())
}

pub fn binary(bytes: impl Into<Vec<u8>>) -> Value {
    Value::Binary(bytes.into())
}

/// An error with its condition, description and info.
pub fn failure(condition: &str, description: &str, info: &[(Value, Value)]) -> Value {
    composite(ERROR, vec![symbol(condition), string(description), Value::Map(info.to_vec())])
}

pub async fn say(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
}

// Reading

pub async fn read_header(stream: &mut (impl AsyncRead + Unpin)) -> [u8; 8] {
    let mut header = [0; 8];
    stream.read_exact(&mut header).await.unwrap();
    header
}

/// The next frame: its kind and its body. `None` at the end of the stream.
pub async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> Option<(u8, Vec<u8>)> {
    let length = stream.read_u32().await.ok()? as usize;
    let mut rest = vec![0; length - 4];
    stream.read_exact(&mut rest).await.unwrap();
    assert_eq!(rest[0], 2, "no extended header");
    Some((rest[1], rest[4..].to_vec()))
}

/// The fields of a performative, filled up with nulls, and the payload behind it.
pub fn fields_of(body: &[u8], code: u8) -> (Vec<Value>, Vec<u8>) {
    let mut payload = body;
    let (heard, Value::List(mut fields)) = take_section(&mut payload) else { panic!("{body:?}") };
    assert_eq!(heard, code, "0x{heard:x} in place of 0x{code:x}: {fields:?}");
    fields.resize(fields.len().max(15), Value::Null);
    (fields, payload.to_vec())
}

/// Takes a described value from the beginning: its descriptor and what is described.
pub fn take_section(bytes: &mut &[u8]) -> (u8, Value) {
    let Value::Described(code, value) = Value::take(bytes) else { panic!("not described") };
    (code, *value)
}

/// The descriptor and the fields of a described list inside another value.
pub fn read_composite(value: &Value) -> (u8, Vec<Value>) {
    let Value::Described(code, value) = value else { panic!("{value:?}") };
    let Value::List(fields) = &**value else { panic!("{value:?}") };
    (*code, fields.clone())
}

pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) | Value::Symbol(text) => text.clone(),
        other => panic!("{other:?}"),
    }
}

pub fn bytes(value: &Value) -> Vec<u8> {
    let Value::Binary(bytes) = value else { panic!("{value:?}") };
    bytes.clone()
}
