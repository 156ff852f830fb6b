//! SASL: its frames as bytes, and its mechanisms as small state machines, without I/O.

use std::{fmt, mem};

use crate::json::{Value, json};
use base64::prelude::{BASE64_STANDARD, Engine};
use fe2o3_amqp::frames::sasl::Frame;
use fe2o3_amqp::types::primitives::{Array, Binary, Symbol};
use fe2o3_amqp::types::sasl::{SaslChallenge, SaslCode, SaslMechanisms, SaslOutcome};

use super::address::Address;
use super::values::are_values;

/// The device that the connection is for, and its credential.
#[derive(Debug, PartialEq)]
pub(super) enum Claim {
    /// A device with a token.
    Token { device: Address, token: String },
    /// A device with a TPM; the token answers its challenge.
    Tpm { device: Address, token: String },
    /// The device of the client certificate; the addresses of the links name it.
    Certificate,
}

/// The next step of a mechanism, after a response of the client.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Challenge(Vec<u8>),
    /// The service has to seal a key to these keys; [`Mechanism::sealed`] continues with it.
    Seal(Keys),
    Done(Claim),
    /// The client wants to sign in to its hub.
    AtHub,
    /// The reason to refuse the client.
    Refuse(&'static str),
}

/// The keys of a TPM, as `TPM2B_PUBLIC`.
#[derive(PartialEq)]
pub(super) struct Keys {
    pub(super) device: Address,
    endorsement: Vec<u8>,
    root: Vec<u8>,
}

impl Keys {
    /// The keys as the body of a registration.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "registrationId": self.device.registration_id,
            "tpm": {
                "endorsementKey": BASE64_STANDARD.encode(&self.endorsement),
                "storageRootKey": BASE64_STANDARD.encode(&self.root),
            },
        })
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("device", &self.device).finish_non_exhaustive()
    }
}

/// The sealed key in the answer to a TPM, if it is a challenge.
pub(super) fn sealed(answer: &Value) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(answer.get("authenticationKey")?.as_str()?).ok()
}

/// A mechanism and the state of its exchange.
#[derive(PartialEq)]
pub(super) enum Mechanism {
    Tpm(Exchange),
    Plain,
    External,
}

/// The states of the mechanism TPM:
///
/// | from the client, after a zero byte | then |
/// | --- | --- |
/// | id scope, zero byte, registration id, zero byte, endorsement key | challenge: a zero byte |
/// | storage root key | the service seals a key; challenge: `80` and its first part |
/// | nothing | challenge: `C1` and the rest |
/// | token | done |
#[derive(Default, PartialEq)]
pub(super) enum Exchange {
    #[default]
    Begun,
    Named {
        device: Address,
        endorsement: Vec<u8>,
    },
    Sealed {
        device: Address,
        blob: Vec<u8>,
    },
    Halfway {
        device: Address,
        rest: Vec<u8>,
    },
    Challenged {
        device: Address,
    },
}

impl fmt::Debug for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Mechanism {
    /// The mechanisms in the order in which they are offered: some clients insist on the first one, and some
    /// take the first one they know.
    fn offered(has_certificate: bool) -> Vec<Self> {
        let external = has_certificate.then_some(Mechanism::External);
        [Mechanism::Tpm(Exchange::Begun), Mechanism::Plain].into_iter().chain(external).collect()
    }

    pub(super) fn find(name: &str, has_certificate: bool) -> Option<Self> {
        Self::offered(has_certificate).into_iter().find(|mechanism| mechanism.name() == name)
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Mechanism::Tpm(_) => "TPM",
            Mechanism::Plain => "PLAIN",
            Mechanism::External => "EXTERNAL",
        }
    }

    /// Continues with a sealed key.
    pub(super) fn sealed(device: Address, blob: Vec<u8>) -> Self {
        Mechanism::Tpm(Exchange::Sealed { device, blob })
    }

    /// Takes the optional initial response, and then the response to each challenge.
    pub(super) fn step(&mut self, response: Option<&[u8]>) -> Step {
        match (self, response) {
            (Mechanism::Tpm(exchange), response) => tpm(exchange, response),
            (Mechanism::Plain, Some(response)) => plain(response),
            // Without an initial response, the client waits for a challenge.
            (Mechanism::Plain, None) => Step::Challenge(Vec::new()),
            (Mechanism::External, _) => Step::Done(Claim::Certificate),
        }
    }
}

/// Reads `[authorization] NUL user name NUL password`.
fn plain(response: &[u8]) -> Step {
    let Ok(text) = str::from_utf8(response) else {
        return Step::Refuse("the response of PLAIN is not UTF-8");
    };
    let mut parts = text.splitn(3, '\0');
    let (Some(_), Some(user_name), Some(password)) = (parts.next(), parts.next(), parts.next()) else {
        return Step::Refuse("the response of PLAIN has no user name and password");
    };
    match Address::parse(user_name) {
        Some(device) => Step::Done(Claim::Token { device, token: password.to_owned() }),
        None if user_name.contains("@sas.") => Step::AtHub,
        None => Step::Refuse("the user name is not {idScope}/registrations/{registrationId}"),
    }
}

fn tpm(exchange: &mut Exchange, response: Option<&[u8]>) -> Step {
    let (now, response) = match (mem::take(exchange), response) {
        (Exchange::Sealed { device, mut blob }, None) => {
            let rest = blob.split_off(blob.len().min(LARGEST_PART));
            *exchange = Exchange::Halfway { device, rest };
            return Step::Challenge([&[FIRST_PART][..], &blob].concat());
        }
        (now, Some([0, response @ ..])) => (now, response),
        _ => return Step::Refuse("a response of TPM does not begin with a zero byte"),
    };
    match now {
        Exchange::Begun => {
            let mut parts = response.splitn(3, |byte| *byte == 0);
            let mut text = || parts.next().and_then(|part| str::from_utf8(part).ok());
            let (Some(id_scope), Some(id)) = (text(), text()) else {
                return Step::Refuse("the first response of TPM has no id scope and registration id");
            };
            let Some(endorsement) = parts.next() else {
                return Step::Refuse("the first response of TPM has no endorsement key");
            };
            let device = Address { id_scope: id_scope.to_owned(), registration_id: id.to_owned() };
            *exchange = Exchange::Named { device, endorsement: endorsement.to_owned() };
            Step::Challenge(vec![0])
        }
        Exchange::Named { device, endorsement } => {
            Step::Seal(Keys { device, endorsement, root: response.to_owned() })
        }
        Exchange::Halfway { device, rest } if response.is_empty() => {
            *exchange = Exchange::Challenged { device };
            Step::Challenge([&[LAST_PART][..], &rest].concat())
        }
        Exchange::Challenged { device } => match str::from_utf8(response) {
            Ok(token) => Step::Done(Claim::Tpm { device, token: token.to_owned() }),
            Err(_) => Step::Refuse("the token of TPM is not UTF-8"),
        },
        Exchange::Sealed { .. } | Exchange::Halfway { .. } => {
            Step::Refuse("the response of TPM to the first part of the challenge is not one zero byte")
        }
    }
}

/// Returns whether a mechanism is for claims-based security, with which clients sign in to a hub.
pub(super) fn is_of_hub(mechanism: &str) -> bool {
    matches!(mechanism, "ANONYMOUS" | "MSSBCBS")
}

pub(super) fn mechanisms(has_certificate: bool) -> Frame {
    let names = Mechanism::offered(has_certificate).iter().map(|offer| Symbol::from(offer.name())).collect();
    Frame::Mechanisms(SaslMechanisms { sasl_server_mechanisms: Array(names) })
}

pub(super) fn challenge(bytes: Vec<u8>) -> Frame {
    Frame::Challenge(SaslChallenge { challenge: Binary::from(bytes) })
}

pub(super) fn outcome(code: SaslCode) -> Frame {
    Frame::Outcome(SaslOutcome { code, additional_data: None })
}

/// The outcome for the status of an answer; clients treat these codes differently.
pub(super) fn code(status: u16) -> SaslCode {
    match status {
        ..300 => SaslCode::Ok,
        429 | 503 => SaslCode::SysTemp,
        500.. => SaslCode::Sys,
        _ => SaslCode::Auth,
    }
}

/// A frame with its length, which includes the length field.
pub(super) fn encode(frame: &Frame) -> Result<Vec<u8>, serde_amqp::Error> {
    let body = serde_amqp::to_vec(frame)?;
    let length = u32::try_from(PREFIX + body.len()).unwrap_or(u32::MAX);
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend([SMALLEST_OFFSET, SASL_TYPE, 0, 0]);
    bytes.extend(body);
    Ok(bytes)
}

/// The number of bytes after a length field; `None` if they cannot be a frame.
pub(super) fn rest(length: [u8; 4]) -> Option<usize> {
    let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
    (PREFIX..=LARGEST_FRAME).contains(&length).then(|| length - 4)
}

/// Decodes the frame after a length field.
pub(super) fn decode(rest: &[u8]) -> Option<Frame> {
    let (&[offset, SASL_TYPE, _, _], _) = rest.split_first_chunk()? else { return None };
    let body = rest.get((usize::from(offset) * 4).checked_sub(4)?..)?;
    let readable = offset >= SMALLEST_OFFSET && !body.is_empty() && are_values(body);
    readable.then(|| serde_amqp::from_slice(body).ok()).flatten()
}

const SASL_TYPE: u8 = 1;
/// In units of four bytes.
const SMALLEST_OFFSET: u8 = 2;
const PREFIX: usize = 8;
/// Some clients insist on two parts: number 0, then number 1, which is the last.
const FIRST_PART: u8 = 0x80;
const LAST_PART: u8 = 0xc1;
/// Leaves room for the rest of a frame of 512 bytes.
const LARGEST_PART: usize = 470;
/// The protocol allows 512 bytes, but tokens can be longer.
const LARGEST_FRAME: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_taken_as_it_is() {
        let device = Address::parse("0ne1/registrations/dev1").unwrap();
        for response in
            ["\0/0ne1/registrations/dev1\0SharedAccessSignature a=b\0c", "x\x000ne1/registrations/dev1\0"]
        {
            let token = response.splitn(3, '\0').last().unwrap().to_owned();
            let wanted = Step::Done(Claim::Token { device: device.clone(), token });
            assert_eq!(Mechanism::Plain.step(Some(response.as_bytes())), wanted);
        }
    }

    #[test]
    fn a_response_without_its_parts_is_refused() {
        for response in [&b""[..], b"\0", b"\0dev1", b"\0dev1\0key", b"\0\xff\0key"] {
            assert!(matches!(Mechanism::Plain.step(Some(response)), Step::Refuse(_)), "{response:?}");
        }
        assert_eq!(Mechanism::Plain.step(None), Step::Challenge(Vec::new()));
        for user_name in ["dev1@sas.hub-1", "iothubowner@sas.root.hub-1"] {
            let response = format!("\0{user_name}\0SharedAccessSignature a=b");
            assert_eq!(Mechanism::Plain.step(Some(response.as_bytes())), Step::AtHub);
        }
    }

    #[test]
    fn the_endorsement_key_of_a_tpm_may_have_zero_bytes_and_none_is_lost() {
        let device = Address::parse("0ne1/registrations/dev1").unwrap();
        let mut mechanism = Mechanism::find("TPM", false).unwrap();
        assert_eq!(mechanism.step(Some(b"\x000ne1\0dev1\0\0e\0k\0")), Step::Challenge(vec![0]));

        let Step::Seal(keys) = mechanism.step(Some(b"\0srk\0")) else { panic!("no keys") };

        assert_eq!(
            keys.to_json(),
            json!({"registrationId": "dev1", "tpm": {"endorsementKey": "AGUAawA=", "storageRootKey": "c3JrAA=="}})
        );
        assert!(!format!("{mechanism:?} {keys:?}").contains("srk"));
        let blob: Vec<u8> = (0..972).map(|at| at as u8).collect();
        let mut mechanism = Mechanism::sealed(device.clone(), blob.clone());
        let Step::Challenge(first) = mechanism.step(None) else { panic!("no first part") };
        let Step::Challenge(last) = mechanism.step(Some(b"\0")) else { panic!("no last part") };
        assert_eq!((first[0], last[0], [&first[1..], &last[1..]].concat()), (0x80, 0xc1, blob));
        let token = "token".to_owned();
        assert_eq!(mechanism.step(Some(b"\0token")), Step::Done(Claim::Tpm { device, token }));
    }

    #[test]
    fn a_short_key_is_sent_in_two_parts_too() {
        let mut mechanism = Mechanism::sealed(Address::parse("0ne1/registrations/dev1").unwrap(), vec![7]);
        assert_eq!(mechanism.step(None), Step::Challenge(vec![0x80, 7]));
        assert_eq!(mechanism.step(Some(b"\0")), Step::Challenge(vec![0xc1]));
    }

    #[test]
    fn external_is_offered_to_clients_with_a_certificate() {
        assert_eq!(Mechanism::find("EXTERNAL", false), None);
        assert_eq!(Mechanism::find("EXTERNAL", true), Some(Mechanism::External));
        assert_eq!(Mechanism::find("plain", true), None);
        let bytes = encode(&mechanisms(false)).unwrap();
        let names = b"\xe0\x12\x02\xb3\0\0\0\x03TPM\0\0\0\x05PLAIN";
        assert_eq!(bytes, [b"\0\0\0\x22\x02\x01\0\0\0\x53\x40\xc0\x15\x01", &names[..]].concat());
    }

    #[test]
    fn statuses_have_different_outcomes() {
        let codes = [204, 401, 400, 404, 429, 503, 500].map(|status| code(status) as u8);
        assert_eq!(codes, [0, 1, 1, 1, 4, 4, 2]);
    }

    #[test]
    fn a_length_is_judged_before_anything_is_read() {
        assert_eq!(rest([0, 0, 0, 8]), Some(4));
        assert_eq!(rest([0, 1, 0, 0]), Some(65_532));
        for wrong in [[0, 0, 0, 0], [0, 0, 0, 7], [0, 1, 0, 1], [0xff; 4]] {
            assert_eq!(rest(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn frames_are_read_after_an_extended_header_too() {
        let init = b"\0\x53\x41\xc0\x0a\x03\xa3\x05PLAIN\x40\x40";
        let frame = |head: &[u8]| matches!(decode(&[head, init].concat()), Some(Frame::Init(_)));
        assert!(frame(&[2, 1, 0, 0]));
        assert!(frame(&[3, 1, 0, 0, 9, 9, 9, 9]));
        for wrong in [&[][..], &[2], &[2, 0, 0, 0], &[0, 1, 0, 0], &[1, 1, 0, 0], &[200, 1, 0, 0]] {
            assert!(!frame(wrong), "{wrong:?}");
        }
        assert!(decode(&[2, 1, 0, 0]).is_none());
    }

    #[test]
    fn arbitrary_bytes_do_not_make_the_decoder_panic() {
        // A linear congruential generator: the same bytes in every run.
        let mut seed = 1_u64;
        let mut next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 56) as u8
        };
        for _ in 0..50_000 {
            let length = next() % 40;
            let mut bytes = vec![2, 1, 0, 0, 0, 0x53, 0x40 + next() % 5, 0xc0];
            bytes.extend((0..length).map(|_| next()));
            if let Some(Frame::Init(init)) = decode(&bytes) {
                let response = init.initial_response.as_ref().map(|bytes| &bytes[..]);
                Mechanism::Plain.step(response);
                Mechanism::Tpm(Exchange::Begun).step(response);
            }
        }
    }
}
