//! What the targets share: a peer that says what the input says, cut into pieces as the input wants, and the device
//! that listens to it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread;

use azure_dps_core::models::ApiVersion;
use azure_dps_core::{Error, ErrorKind, Result, UnsignedSas};
use azure_dps_device::transport::{Auth, Session};
use azure_dps_device::{Slot, Tpm, TpmKeys};
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Builder, Runtime};

/// An input: a byte with flags and the number of cuts, the cuts, and what the peer says.
///
/// `@` in front means neither a flag nor a cut; `A` and a byte of 1 cut everything into single bytes; `P` is
/// the first flag.
#[derive(Clone, Copy)]
pub struct Script<'i> {
    flags: u8,
    cuts: &'i [u8],
    /// What the peer says.
    pub says: &'i [u8],
}

impl<'i> Script<'i> {
    /// Reads an input, unless it is too short or holds a secret.
    pub fn read(input: &'i [u8]) -> Option<Self> {
        let (head, rest) = input.split_first().filter(|_| !knows_a_secret(input))?;
        let (cuts, says) = rest.split_at_checked(usize::from(head & 0x0f))?;
        Some(Self { flags: head >> 4, cuts, says })
    }

    /// One of three flags.
    pub fn flag(&self, number: u8) -> bool {
        self.flags & (1 << number) != 0
    }

    /// The peer that says everything at once.
    pub fn whole(&self) -> Peer {
        Peer::new(self.says.to_vec(), Vec::new())
    }

    /// The peer that speaks, and listens, in the pieces of the script.
    pub fn pieces(&self) -> Peer {
        Peer::new(self.says.to_vec(), self.cuts.to_vec())
    }

    /// The same with an opening that is always said first.
    pub fn pieces_behind(&self, opening: &[u8]) -> Peer {
        Peer::new([opening, self.says].concat(), self.cuts.to_vec())
    }

    /// The same with one frame of AMQP (0) or SASL (1) behind the opening, which is full of the script's
    /// words again and again: whatever can be nested is nested deeply.
    pub fn full_frame_behind(&self, opening: &[u8], kind: u8) -> Peer {
        let body: Vec<u8> = self.says.iter().copied().cycle().take(FULL).collect();
        let length = u32::try_from(8 + body.len()).expect("a short frame").to_be_bytes();
        Peer::new([opening, &length, &[2, kind, 0, 0], &body].concat(), self.cuts.to_vec())
    }
}

/// The other end of a connection, as a stream.
pub struct Peer {
    says: Vec<u8>,
    said: usize,
    uncut: usize,
    cuts: Vec<u8>,
    turn: usize,
    waited: bool,
    reads_behind_the_end: u32,
    heard: Vec<u8>,
    opening: Option<Opening>,
}

/// Makes what the peer says out of what it has heard before its first word, and how much of that comes uncut.
type Opening = Box<dyn FnOnce(&[u8], Vec<u8>) -> (Vec<u8>, usize) + Send>;

impl Peer {
    fn new(says: Vec<u8>, cuts: Vec<u8>) -> Self {
        let (said, uncut, turn, waited, reads_behind_the_end) = (0, 0, 0, false, 0);
        Self { says, said, uncut, cuts, turn, waited, reads_behind_the_end, heard: Vec::new(), opening: None }
    }

    /// Lets the peer change its words once it has heard the first ones.
    pub fn opening<F>(mut self, opening: F) -> Self
    where
        F: FnOnce(&[u8], Vec<u8>) -> (Vec<u8>, usize) + Send + 'static,
    {
        self.opening = Some(Box::new(opening));
        self
    }

    /// Everything it received.
    pub fn heard(&self) -> &[u8] {
        &self.heard
    }

    /// How many bytes were taken from it.
    pub fn said(&self) -> usize {
        self.said
    }

    /// How long the next piece may be; a cut of 0 is a pause before one byte.
    fn piece(&mut self, context: &Context<'_>) -> Poll<usize> {
        let Some(cut) = self.cuts.get(self.turn) else { return Poll::Ready(usize::MAX) };
        if *cut == 0 && !self.waited {
            self.waited = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.waited = false;
        self.turn = (self.turn + 1) % self.cuts.len();
        Poll::Ready(usize::from(*cut).max(1))
    }
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Poll::Ready(piece) = self.piece(context) else { return Poll::Pending };
        if let Some(opening) = self.opening.take() {
            let says = std::mem::take(&mut self.says);
            (self.says, self.uncut) = opening(&self.heard, says);
        }
        let piece = piece.max(self.uncut.saturating_sub(self.said));
        let left = &self.says[self.said..];
        if left.is_empty() {
            self.reads_behind_the_end += 1;
            assert!(self.reads_behind_the_end < 10, "a reader that does not notice the end");
            return Poll::Ready(Ok(()));
        }
        let piece = piece.min(left.len()).min(bytes.remaining());
        bytes.put_slice(&left[..piece]);
        self.said += piece;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Peer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Poll::Ready(piece) = self.piece(context) else { return Poll::Pending };
        let piece = piece.min(bytes.len());
        self.heard.extend_from_slice(&bytes[..piece]);
        Poll::Ready(Ok(piece))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A peer on a stream that is given away.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Peer>>);

impl Shared {
    /// The same peer, to be given away and asked later.
    pub fn new(peer: Peer) -> Self {
        Self(Arc::new(Mutex::new(peer)))
    }

    /// Everything it received.
    pub fn heard(&self) -> Vec<u8> {
        self.with(|peer| peer.heard.clone())
    }

    fn with<T>(&self, work: impl FnOnce(&mut Peer) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl AsyncRead for Shared {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.with(|peer| Pin::new(peer).poll_read(context, bytes))
    }
}

impl AsyncWrite for Shared {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.with(|peer| Pin::new(peer).poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|peer| Pin::new(peer).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|peer| Pin::new(peer).poll_shutdown(context))
    }
}

/// A device that has a token, or a TPM.
pub fn session(tpm: bool) -> Session {
    let scope = "0ne00ABCDEF".parse().expect("a scope");
    let id = "dev-1".parse().expect("an id");
    let auth = match tpm {
        true => Auth::Tpm(Arc::new(FakeTpm)),
        false => {
            let unsigned = UnsignedSas::for_registration(&scope, &id, OffsetDateTime::UNIX_EPOCH);
            Auth::Token(unsigned.with_signature(SECRET.as_bytes()))
        }
    };
    Session::new(scope, id, ApiVersion::default(), "fuzz", auth)
}

/// A TPM that takes every blob but the empty one.
#[derive(Debug)]
pub struct FakeTpm;

impl Tpm for FakeTpm {
    fn public_keys(&self) -> Result<TpmKeys> {
        Ok(TpmKeys { endorsement_key: SECRET.into(), storage_root_key: SECRET.into() })
    }

    fn import(&self, blob: &[u8], _: Slot) -> Result<()> {
        match blob {
            [] => Err(Error::new(ErrorKind::Credential, "the blob is empty")),
            _ => Ok(()),
        }
    }

    fn sign(&self, _: Slot, _: &[u8]) -> Result<Vec<u8>> {
        Ok(SECRET.into())
    }
}

/// The kind and the words of an error, which must be one of `kinds` and show no secret.
pub fn typed(error: Error, kinds: &[ErrorKind]) -> (ErrorKind, String) {
    let kind = error.kind();
    assert!(kinds.contains(&kind), "{kind:?} is no kind that a peer can cause: {error:?}");
    let words = error.to_string();
    assert!(!words.is_empty() && !error.help().is_empty());
    shows_no_secret(&words);
    shows_no_secret(&error);
    (kind, words)
}

/// Takes apart what an AMQP peer was sent: headers, and frames of the lengths that they say. A last one may be cut.
pub fn shape(mut heard: &[u8]) {
    while let Some((first, rest)) = heard.split_first_chunk::<8>() {
        let length = match first {
            [b'A', b'M', b'Q', b'P', ..] => first.len(),
            [l0, l1, l2, l3, offset, ..] => {
                assert!(*offset >= 2, "a frame with a data offset of {offset}");
                u32::from_be_bytes([*l0, *l1, *l2, *l3]) as usize
            }
        };
        assert!(length >= first.len(), "a frame of {length} bytes");
        heard = rest.get(length - first.len()..).unwrap_or_default();
    }
}

/// Whether an input holds what must not be shown: it would be its own.
pub fn knows_a_secret(input: &[u8]) -> bool {
    SECRETS.iter().any(|secret| input.windows(secret.len()).any(|window| window == secret.as_bytes()))
}

fn shows_no_secret(value: &impl fmt::Debug) {
    let shown = format!("{value:?}");
    assert!(SECRETS.iter().all(|secret| !shown.contains(secret)), "{shown}");
}

/// Runs what `make` makes to its end in virtual time, which passes while everything waits, on a thread with
/// the stack that the threads of the emulator have.
pub fn run_as_emulator<F: Future<Output: Send>>(make: impl FnOnce() -> F + Send) -> F::Output {
    let run = || {
        let mut builder = Builder::new_current_thread();
        builder.enable_time().start_paused(true).max_blocking_threads(1);
        builder.build().expect("a runtime").block_on(make())
    };
    thread::scope(|scope| {
        let worker = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, run).expect("a thread");
        worker.join().expect("no panic")
    })
}

/// Runs a future to its end; nothing in it ever waits for a timer.
pub fn block_on<F: Future>(future: F) -> F::Output {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
        Builder::new_current_thread().enable_time().max_blocking_threads(1).build().expect("a runtime")
    });
    RUNTIME.block_on(future)
}

/// What the emulator knows in the targets for its fronts: one device with a key.
pub const ENROLLED: &str = r#"{ "enrollments": [{ "registrationId": "dev-1", "attestation": { "type": "symmetricKey",
    "symmetricKey": { "primaryKey": "YWGfx6psUG2GN+2JfRsJbaVugWxYb8ZAofr1S3X3L6w=",
    "secondaryKey": "YWGfx6psUG2GN+2JfRsJbaVugWxYb8ZAofr1S3X3L6w=" } } }] }"#;

/// Bytes in a full frame.
const FULL: usize = 20_000;
/// As tokio's workers have it.
const STACK: usize = 2 * 1024 * 1024;
/// Key material of the fake TPM, and the signature of every token.
const SECRET: &str = "much-too-secret";
/// The same in the form of frames, and of tokens.
const SECRETS: [&str; 2] = [SECRET, "bXVjaC10b28tc2VjcmV0"];
