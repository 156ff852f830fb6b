//! A door for the fuzz targets under `fuzz/`: the MQTT front on a stream of the caller's. Compiled with `--cfg fuzzing`
//! only, and no part of the API.
#![allow(missing_docs)] // The targets say what they ask for.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Peer, mqtt};
use crate::EmulatorBuilder;
use crate::fault::Front;
use crate::schema::Strictness;
use crate::seed::Seed;
use crate::service::Service;

/// Serves one MQTT connection of an emulator that holds the enrollments of `seed`.
///
/// # Errors
/// What is wrong with the seed.
pub async fn mqtt(stream: impl AsyncRead + AsyncWrite + Unpin, seed: &str) -> Result<(), String> {
    let settings = EmulatorBuilder::default().settings().map_err(|error| error.to_string())?;
    // Nobody carries errands out.
    let (service, _errands) = Service::new(settings, Seed::read(seed, Strictness::Strict)?)?;
    let peer = Peer { front: Front::Mqtt, connection: 1, certificates: Arc::default() };
    mqtt::serve(stream, peer, Arc::new(service), mqtt::Sessions::default()).await;
    Ok(())
}
