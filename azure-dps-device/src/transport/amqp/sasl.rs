//! SASL below AMQP: `PLAIN` with a token, `TPM` with a challenge. Each frame is read to exactly its length,
//! because the bytes after the last one belong to AMQP.
//!
//! Source: AMQP 1.0, part 5.3. Only the provisioning service has the mechanism `TPM`.

use std::sync::Arc;
use std::time::Duration;

use azure_dps_core::{Error, ErrorKind, IdScope, RegistrationId, Result, SasToken};
use fe2o3_amqp::frames::sasl::Frame;
use fe2o3_amqp::types::primitives::{Binary, Symbol};
use fe2o3_amqp::types::sasl::{SaslCode, SaslInit, SaslResponse};
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::encoding::are_values;
use crate::registration_token;
use crate::stream::{lost, silent};
use crate::tpm;
use crate::tpm::contract::{Tpm, TpmKeys};
use crate::transport::contract::{Auth, Session};

/// Signs in on a fresh stream.
///
/// # Errors
/// [`ErrorKind::Unauthorized`] when the service refuses the credential, [`ErrorKind::Connect`] when the
/// service is unavailable, [`ErrorKind::Credential`] when the TPM refuses the challenge.
pub(crate) async fn sign_in<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    host: &str,
    place: &str,
    limit: Duration,
    session: &Session,
) -> Result<()> {
    let mut mechanism = Mechanism::of(session).await?;
    let mut exchange = Exchange { stream, place, limit };
    exchange.write(HEADER).await?;
    if exchange.read::<8>().await? != *HEADER {
        return Err(protocol("did not answer with the SASL header"));
    }
    let Frame::Mechanisms(offers) = exchange.receive().await? else {
        return Err(protocol("did not offer any SASL mechanisms"));
    };
    let name = mechanism.name();
    if !offers.sasl_server_mechanisms.0.iter().any(|offer| offer.as_str() == name) {
        return Err(protocol(&format!("does not offer the SASL mechanism {name}")));
    }
    let init = SaslInit {
        mechanism: Symbol::from(name),
        initial_response: Some(Binary::from(mechanism.begin(session))),
        hostname: Some(host.to_owned()),
    };
    exchange.send(&init).await?;
    loop {
        match exchange.receive().await? {
            Frame::Challenge(challenge) => {
                let response = Binary::from(mechanism.respond(&challenge.challenge).await?);
                exchange.send(&SaslResponse { response }).await?;
            }
            Frame::Outcome(outcome) => return check_outcome(&outcome.code),
            _ => return Err(protocol("sent an unexpected SASL frame")),
        }
    }
}

enum Mechanism {
    Plain(SasToken),
    Tpm(Box<Challenged>),
}

impl Mechanism {
    async fn of(session: &Session) -> Result<Self> {
        match session.auth() {
            Auth::Token(token) => Ok(Self::Plain(token.clone())),
            Auth::Tpm(tpm) => Ok(Self::Tpm(Box::new(Challenged {
                tpm: Arc::clone(tpm),
                keys: tpm::blocking(tpm, |tpm| tpm.public_keys()).await?,
                scope: session.id_scope().clone(),
                id: session.registration_id().clone(),
                sent_root: false,
                blob: Blob::default(),
            }))),
            Auth::Certificate(_) => {
                Err(Error::new(ErrorKind::Unsupported, "a certificate authenticates in TLS, not in SASL"))
            }
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Plain(_) => "PLAIN",
            Self::Tpm(_) => "TPM",
        }
    }

    fn begin(&self, session: &Session) -> Vec<u8> {
        let (scope, id) = (session.id_scope(), session.registration_id());
        match self {
            Self::Plain(token) => format!("\0{scope}/registrations/{id}\0{}", token.expose()).into_bytes(),
            Self::Tpm(device) => {
                [format!("\0{scope}\0{id}\0").as_bytes(), device.keys.endorsement_key.as_slice()].concat()
            }
        }
    }

    async fn respond(&mut self, challenge: &[u8]) -> Result<Vec<u8>> {
        match self {
            Self::Plain(_) => {
                Err(protocol("sent a challenge although the device authenticates with a token"))
            }
            Self::Tpm(device) => device.respond(challenge).await,
        }
    }
}

/// A TPM that answers the service's challenges.
struct Challenged {
    tpm: Arc<dyn Tpm>,
    keys: TpmKeys,
    scope: IdScope,
    id: RegistrationId,
    /// Whether the storage root key has been sent. The service asks for it once; a second request is a
    /// violation.
    sent_root: bool,
    blob: Blob,
}

impl Challenged {
    async fn respond(&mut self, challenge: &[u8]) -> Result<Vec<u8>> {
        if challenge == [0] && !std::mem::replace(&mut self.sent_root, true) {
            return Ok(after_nul(&self.keys.storage_root_key));
        }
        let Some(blob) = self.blob.take(challenge)? else { return Ok(vec![0]) };
        let (scope, id) = (self.scope.clone(), self.id.clone());
        let answer = move |tpm: &dyn Tpm| {
            registration_token::answer(tpm, &blob, &scope, &id, OffsetDateTime::now_utc())
        };
        let token = tpm::blocking(&self.tpm, answer).await?;
        Ok(after_nul(token.expose().as_bytes()))
    }
}

/// The activation blob of a challenge. It arrives in segments of a control byte and a part of the blob.
#[derive(Default)]
struct Blob {
    bytes: Vec<u8>,
    segments: u8,
}

impl Blob {
    /// Takes a segment, and returns the whole blob after the last one.
    fn take(&mut self, segment: &[u8]) -> Result<Option<Vec<u8>>> {
        let Some((control, part)) = segment.split_first() else {
            return Err(protocol("sent an empty challenge"));
        };
        if control & SEGMENT == 0 || control & SEQUENCE != self.segments || self.segments > SEQUENCE {
            return Err(protocol("sent the segments of its challenge out of order"));
        }
        self.segments += 1;
        self.bytes.extend_from_slice(part);
        Ok((control & LAST != 0).then(|| std::mem::take(&mut self.bytes)))
    }
}

fn after_nul(bytes: &[u8]) -> Vec<u8> {
    [&[0], bytes].concat()
}

fn check_outcome(code: &SaslCode) -> Result<()> {
    let (kind, message, number) = match code {
        SaslCode::Ok => return Ok(()),
        SaslCode::Auth => (ErrorKind::Unauthorized, "the service refused the device's credential", 1),
        SaslCode::Sys => (ErrorKind::Connect, "the service is unavailable", 2),
        SaslCode::SysPerm => (ErrorKind::Protocol, "the service cannot check the credential", 3),
        SaslCode::SysTemp => (ErrorKind::Connect, "the service is unavailable", 4),
    };
    Err(Error::new(kind, format!("{message} (SASL outcome {number})")))
}

/// Sends and receives SASL frames.
struct Exchange<'s, S> {
    stream: &'s mut S,
    place: &'s str,
    /// How long a read or a write may take. It does not cover the time that a TPM needs in between.
    limit: Duration,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Exchange<'_, S> {
    async fn send(&mut self, body: &impl serde::Serialize) -> Result<()> {
        // The library's error may show the frame, and with it the token.
        let body = serde_amqp::to_vec(body)
            .map_err(|_| Error::new(ErrorKind::Config, "the credential cannot be encoded as a SASL frame"))?;
        let length = u32::try_from(PREFIX + body.len())
            .map_err(|_| Error::new(ErrorKind::Config, "the credential is too long for a SASL frame"))?;
        self.write(&[&length.to_be_bytes()[..], &[OFFSET, SASL, 0, 0], &body].concat()).await
    }

    async fn receive(&mut self) -> Result<Frame> {
        let length = u32::from_be_bytes(self.read().await?) as usize;
        let [offset, kind, _, _] = self.read().await?;
        let body = usize::from(offset) * 4;
        if kind != SASL || body < PREFIX || !(body..=LARGEST_FRAME).contains(&length) {
            return Err(protocol("sent data that is not a SASL frame"));
        }
        let mut bytes = vec![0; length - PREFIX];
        let read = self.stream.read_exact(&mut bytes);
        within(self.limit, self.place, read).await?;
        let body = bytes.split_off(body - PREFIX);
        are_values(&body)
            .then(|| serde_amqp::from_slice(&body).ok())
            .flatten()
            .ok_or_else(|| protocol("sent a SASL frame that cannot be decoded"))
    }

    async fn read<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        let read = self.stream.read_exact(&mut bytes);
        within(self.limit, self.place, read).await?;
        Ok(bytes)
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        within(self.limit, self.place, written).await
    }
}

async fn within<T>(
    limit: Duration,
    place: &str,
    work: impl Future<Output = std::io::Result<T>>,
) -> Result<T> {
    match timeout(limit, work).await {
        Ok(outcome) => outcome.map_err(|why| lost(place, why)),
        Err(_) => Err(silent(place, limit)),
    }
}

fn protocol(what: &str) -> Error {
    Error::new(ErrorKind::Protocol, format!("the service {what}"))
}

const HEADER: &[u8; 8] = b"AMQP\x03\x01\0\0";
/// Length, data offset, type, and two unused bytes.
const PREFIX: usize = 8;
/// The data offset of a frame without an extended header, in words.
const OFFSET: u8 = 2;
const SASL: u8 = 1;
/// The standard limits frames to 512 bytes; tokens need more.
const LARGEST_FRAME: usize = 64 * 1024;
const SEGMENT: u8 = 0x80;
const LAST: u8 = 0x40;
const SEQUENCE: u8 = 0x03;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tpm::contract::Slot;

    #[test]
    fn a_blob_is_assembled_from_its_segments() {
        let mut blob = Blob::default();
        assert_eq!(blob.take(&[0x80, 1, 2]).unwrap(), None);
        assert_eq!(blob.take(&[0xC1, 3]).unwrap(), Some(vec![1, 2, 3]));
        assert_eq!(Blob::default().take(&[0xC0, 9]).unwrap(), Some(vec![9]));
    }

    #[tokio::test]
    async fn the_storage_root_key_is_sent_once() {
        let keys = TpmKeys { endorsement_key: vec![1], storage_root_key: vec![2, 3] };
        let mut device = Challenged {
            tpm: Arc::new(Unused),
            keys,
            scope: "0ne00ABCDEF".parse().unwrap(),
            id: "dev-1".parse().unwrap(),
            sent_root: false,
            blob: Blob::default(),
        };
        assert_eq!(device.respond(&[0]).await.unwrap(), [0, 2, 3]);
        assert_eq!(device.respond(&[0]).await.unwrap_err().kind(), ErrorKind::Protocol);
    }

    #[derive(Debug)]
    struct Unused;

    impl Tpm for Unused {
        fn public_keys(&self) -> Result<TpmKeys> {
            Err(protocol("used a TPM"))
        }

        fn import(&self, _: &[u8], _: Slot) -> Result<()> {
            Err(protocol("used a TPM"))
        }

        fn sign(&self, _: Slot, _: &[u8]) -> Result<Vec<u8>> {
            Err(protocol("used a TPM"))
        }
    }

    #[test]
    fn segments_that_are_empty_or_out_of_order_are_refused() {
        for segment in [&[][..], &[0x00, 1], &[0x40, 1], &[0x81, 1]] {
            assert_eq!(Blob::default().take(segment).unwrap_err().kind(), ErrorKind::Protocol, "{segment:?}");
        }
        let mut blob = Blob::default();
        for control in 0x80..0x84 {
            assert_eq!(blob.take(&[control, 1]).unwrap(), None);
        }
        assert!(blob.take(&[0x80, 1]).is_err(), "the sequence has two bits");
    }
}
