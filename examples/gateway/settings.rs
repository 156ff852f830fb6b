//! The device and its manager, from the environment.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use azure_dps_device::core::{Endpoint, Error, ErrorKind, RegistrationId, Result, SharedKey};
use azure_dps_device::manager::{FileStore, Ladder, ManagerOptions, ManagerPolicy};
use azure_dps_device::transport::Transport;
use azure_dps_device::{Auto, Credential, Https, RegistrationPolicy};
use azure_dps_examples::variable;

use crate::connector::Gateway;

/// The manager of the device that the environment describes.
pub(crate) fn options() -> Result<ManagerOptions> {
    let id: RegistrationId = required("DPS_REGISTRATION_ID")?;
    let credential = |key: SharedKey| Credential::symmetric_key(id.clone(), key);
    // One folder keeps both, the record and the keys of issued certificates.
    let store = FileStore::new(required::<String>("GATEWAY_FOLDER")?);
    let hub = optional::<String>("GATEWAY_HUB")?.map(|hub| endpoint(&hub)).transpose()?;
    let mut options = ManagerOptions::new(
        required("DPS_ID_SCOPE")?,
        credential(required("DPS_KEY")?),
        transport()?,
        store.clone(),
        Gateway::new(hub),
    )
    .with_certificates(store);
    if let Some(key) = optional("GATEWAY_SECONDARY_KEY")? {
        options = options.with_fallback(credential(key));
    }
    if let Some(seconds) = optional("GATEWAY_LONGEST_PAUSE")? {
        let longest = Duration::try_from_secs_f64(seconds);
        options = hasty(options, longest.map_err(|why| unusable("GATEWAY_LONGEST_PAUSE", why))?);
    }
    Ok(options)
}

/// Shortens all pauses. The defaults spare the service; an emulator, and the person before it, need no pauses.
pub(crate) fn hasty(options: ManagerOptions, longest: Duration) -> ManagerOptions {
    let ladder = |first, last: Duration, spread| Ladder::new(longest.min(first), longest.min(last), spread);
    let policy = ManagerPolicy::new()
        .with_first_boot_window(longest.min(MINUTE))
        .with_register_ladder(ladder(SECOND, MINUTE, 20))
        .with_stuck_ladder(ladder(MINUTE, HOUR, 25))
        .with_refused_ladder(ladder(5 * MINUTE, HOUR, 25))
        .with_hub_ladder(ladder(SECOND, MINUTE, 20));
    let polls = RegistrationPolicy::new().with_min_poll_interval(longest.min(SECOND));
    options.with_policy(policy).with_registration_policy(polls)
}

/// MQTT, MQTT in a WebSocket or HTTPS at the global endpoint; HTTPS at another one, which has no port for MQTT.
fn transport() -> Result<Arc<dyn Transport>> {
    Ok(match optional::<String>("DPS_ENDPOINT")? {
        Some(named) => Arc::new(Https::new(endpoint(&named)?)),
        None => Arc::new(Auto::default()),
    })
}

/// `host` or `host:port`.
fn endpoint(text: &str) -> Result<Endpoint> {
    match text.rsplit_once(':') {
        Some((host, port)) => {
            let port = port.parse().map_err(|why| unusable("the port of an endpoint", why))?;
            Ok(Endpoint::new(host)?.with_port(port))
        }
        None => Endpoint::new(text),
    }
}

fn required<T: FromStr<Err: Into<Cause>>>(name: &str) -> Result<T> {
    let missing =
        || Error::new(ErrorKind::Config, format!("{name} is not set; `--help` lists the variables"));
    optional(name)?.ok_or_else(missing)
}

fn optional<T: FromStr<Err: Into<Cause>>>(name: &str) -> Result<Option<T>> {
    variable(name).map(|value| value.trim().parse()).transpose().map_err(|why| unusable(name, why))
}

/// The value is not repeated: it may be a key.
fn unusable(name: &str, why: impl Into<Cause>) -> Error {
    Error::new(ErrorKind::Config, format!("{name} has no usable value")).with_source(why)
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
