//! A registration, or a look-up, over a transport whose replies are the input's, in virtual time.
//!
//! The first line has words: `tpm`, `survives` (operations outlive connections), `lookup`. Then come replies,
//! with empty lines between: a line with the status and maybe the seconds to wait, and the body. What has no
//! status is a connection that was lost. After the last reply comes the first again.
#![no_main]

use std::fmt;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use azure_dps_core::models::EnrollmentStatus;
use azure_dps_core::{Error, ErrorKind, Result};
use azure_dps_device::transport::{BoxFuture, Channel, Facts, Reply, Request, Session, Transport};
use azure_dps_device::{Credential, DeviceClient};
use azure_dps_fuzz::{FakeTpm, knows_a_secret, typed};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

fuzz_target!(|input: &[u8]| {
    if knows_a_secret(input) {
        return;
    }
    let (words, replies) = first_line(input);
    let says = |word: &[u8]| words.windows(word.len()).any(|window| window == word);
    let replies: Vec<_> = split(replies, b"\n\n").into_iter().map(read).collect();
    let id = "dev-1".parse().expect("an id");
    let credential = match says(b"tpm") {
        true => Credential::tpm(id, Arc::new(FakeTpm)),
        false => Credential::symmetric_key(id, "AAAA".parse().expect("a key")),
    };
    let script = Script { replies, next: Arc::default(), survives: says(b"survives") };
    let scope = "0ne00ABCDEF".parse().expect("a scope");
    let client = DeviceClient::new(scope, credential, script.clone());
    let shown = RUNTIME.block_on(async {
        let started = Instant::now();
        let shown = match says(b"lookup") {
            false => match client.register().timeout(LIMIT).await {
                Ok(assignment) => {
                    assert!(!assignment.hub().is_empty() && !assignment.device_id().is_empty());
                    format!("{assignment:?}")
                }
                Err(error) => refused(error),
            },
            true => match client.lookup().timeout(LIMIT).await {
                Ok(state) => format!("{state:?} {:?}", state.status == Some(EnrollmentStatus::Assigned)),
                Err(error) => refused(error),
            },
        };
        assert!(started.elapsed() <= LIMIT, "{:?}", started.elapsed());
        shown
    });
    // One request a second, at most six more where the service states a wait of 0, and a challenge is answered at
    // once.
    let requests = *script.next.lock().expect("no panic");
    assert!(requests <= LIMIT.as_secs() as usize + 10, "{requests} requests");
    for key in script.replies.iter().flatten().filter_map(key) {
        let text = String::from_utf8_lossy(input);
        if key.len() >= 8 && text.matches(&key).count() == 1 {
            assert!(!shown.contains(&key), "{shown}");
        }
    }
});

fn refused(error: Error) -> String {
    let shown = format!("{error:?} {error} {:?}", error.service());
    typed(error, &KINDS);
    shown
}

/// The key in a challenge or an assignment, if there is one.
fn key(reply: &Reply) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(&reply.body).ok()?;
    let key =
        body.get("authenticationKey").or_else(|| body.pointer("/registrationState/tpm/authenticationKey"));
    key?.as_str().map(str::to_owned)
}

fn read(text: &[u8]) -> Option<Reply> {
    let (head, body) = first_line(text);
    let mut numbers = str::from_utf8(head).ok()?.split(' ');
    let status = numbers.next()?.parse().ok()?;
    let retry_after = numbers.next().and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
    Some(Reply { status, retry_after, body: body.to_vec() })
}

fn first_line(text: &[u8]) -> (&[u8], &[u8]) {
    match text.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &[]),
    }
}

fn split<'i>(mut input: &'i [u8], by: &[u8]) -> Vec<&'i [u8]> {
    let mut parts = Vec::new();
    while let Some(at) = input.windows(by.len()).position(|window| window == by) {
        parts.push(&input[..at]);
        input = &input[at + by.len()..];
    }
    parts.push(input);
    parts
}

#[derive(Clone)]
struct Script {
    replies: Vec<Option<Reply>>,
    next: Arc<Mutex<usize>>,
    survives: bool,
}

impl Transport for Script {
    fn connect(&self, _: Session) -> BoxFuture<'_, Result<Box<dyn Channel>>> {
        let channel: Box<dyn Channel> = Box::new(self.clone());
        Box::pin(std::future::ready(Ok(channel)))
    }
}

impl Channel for Script {
    fn exchange<'a>(&'a mut self, _: &'a Request) -> BoxFuture<'a, Result<Reply>> {
        let mut next = self.next.lock().expect("no panic");
        let reply = self.replies.get(*next % self.replies.len()).cloned().flatten();
        *next += 1;
        let outcome = reply.ok_or_else(|| Error::new(ErrorKind::Io, "the connection was lost"));
        Box::pin(std::future::ready(outcome))
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn facts(&self) -> Facts {
        Facts { name: "script", operations_survive: self.survives }
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = Builder::new_current_thread();
    builder.enable_time().start_paused(true).max_blocking_threads(1).build().expect("a runtime")
});
const LIMIT: Duration = Duration::from_secs(60);
const KINDS: [ErrorKind; 7] = [
    ErrorKind::Unauthorized,
    ErrorKind::Service,
    ErrorKind::Registration,
    ErrorKind::Protocol,
    ErrorKind::Io,
    ErrorKind::Timeout,
    ErrorKind::Credential,
];
