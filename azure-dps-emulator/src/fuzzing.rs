//! Entry points for the fuzz targets under `fuzz/`: they run the fronts on streams that the caller provides.
//! Compiled with `--cfg fuzzing` only, and not part of the API.
#![allow(missing_docs)] // Each fuzz target documents its input.

use std::sync::{Arc, LazyLock};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::call::request::Protocol;
use crate::call::schema::Strictness;
use crate::crypto::certificate::Certificate;
use crate::crypto::csr::SigningRequest;
use crate::front::peer::Peer;
use crate::front::{amqp, https, mqtt};
use crate::instance::Instance;
use crate::issuance::authority::IssuingAuthority;
use crate::records::seed::Seed;
use crate::state::State;
use crate::state::saved::{SavedSettings, SavedState, StateError};
use crate::state::settings::Settings;
use crate::{EmulatorBuilder, Pki};

/// Serves one MQTT connection of an emulator that holds the enrollments of `seed`.
///
/// # Errors
/// Says what is wrong with the seed.
pub async fn mqtt(stream: impl AsyncRead + AsyncWrite + Unpin, seed: &str) -> Result<(), String> {
    mqtt::serve(stream, peer(Protocol::Mqtt, false), instance(seed)?, mqtt::Sessions::default()).await;
    Ok(())
}

/// Serves one AMQP connection of a client with or without a certificate.
///
/// # Errors
/// Says what is wrong with the seed.
pub async fn amqp(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    certificate: bool,
    seed: &str,
) -> Result<(), String> {
    amqp::serve(stream, peer(Protocol::Amqp, certificate), instance(seed)?).await;
    Ok(())
}

/// Serves one connection of the HTTPS port, including an upgrade to a WebSocket.
///
/// # Errors
/// Says what is wrong with the seed.
pub async fn https(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    seed: &str,
) -> Result<(), String> {
    https::serve(stream, peer(Protocol::Https, false), instance(seed)?, mqtt::Sessions::default()).await;
    Ok(())
}

/// Reads the text of a certificate signing request.
pub fn csr(text: &str) {
    assert_readable(SigningRequest::read(text));
}

/// Reads a certificate signing request in DER, also one that is longer than the text may be.
pub fn csr_der(bytes: &[u8]) {
    assert_readable(SigningRequest::from_der(bytes));
}

/// Reads a saved state. What is accepted can be saved, and read again.
///
/// # Panics
/// A later start could not read what would be saved.
pub fn state(text: &[u8]) {
    let Ok((settings, state)) = restored(text) else { return };
    let saved = state.saved(&settings, settings.server_authority.as_ref());
    let again = saved.and_then(|text| text.check().and_then(|()| text.into_string()));
    let again = again.and_then(|again| restored(again.as_bytes()));
    assert!(again.is_ok(), "a state that is accepted cannot be saved and read again: {:?}", again.err());
}

fn restored(text: &[u8]) -> Result<(Settings, State), StateError> {
    let mut saved = SavedState::read(text)?;
    let SavedSettings { id_scope, hubs, gate, server_authority } = saved.take_settings()?;
    let mut settings = Settings { id_scope, gate, server_authority, ..Settings::default() };
    settings.enrolling.hubs = hubs;
    let authority = Arc::new(saved.issuing_authority()?);
    let state = State::restored(saved, &settings, authority)?;
    Ok((settings, state))
}

/// A request that is read has a name and a key, and one that is not read has a reason.
fn assert_readable(read: Result<SigningRequest, String>) {
    match read {
        Ok(request) => assert!(request.key.size() > 0, "a key of no bytes"),
        Err(why) => assert!(!why.is_empty() && why.len() < 1_000, "{why}"),
    }
}

fn instance(seed: &str) -> Result<Arc<Instance>, String> {
    let settings = EmulatorBuilder::default().settings().map_err(|error| error.to_string())?;
    // Webhook calls are dropped.
    let authority = IssuingAuthority::new().map_err(|error| error.to_string())?;
    let (instance, _errands) =
        Instance::new(settings, authority, Seed::new(seed.to_owned(), Strictness::Strict))?;
    Ok(Arc::new(instance))
}

fn peer(protocol: Protocol, certificate: bool) -> Peer {
    static CERTIFICATE: LazyLock<Option<Certificate>> = LazyLock::new(|| {
        Certificate::read(&Pki::new(["dev-1"], 0).ok()?.devices.first()?.certificate_pem).ok()
    });
    let certificates = CERTIFICATE.iter().filter(|_| certificate).cloned().collect();
    Peer { protocol, connection: 1, certificates }
}
