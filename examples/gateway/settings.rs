//! The device and its manager, from the environment.

use std::time::Duration;

use azure_dps_device::core::{Endpoint, Error, ErrorKind, Result};
use azure_dps_device::manager::{FileStore, Ladder, ManagerOptions, ManagerPolicy};
use azure_dps_device::{Credential, RegistrationPolicy};
use azure_dps_examples::{trusting, variable};

use crate::connector::Gateway;

/// The manager of the device that the environment describes.
pub(crate) fn options(folder: &str) -> Result<ManagerOptions> {
    // One folder keeps both, the record and the keys of issued certificates.
    let store = FileStore::new(folder);
    let longest = longest_pause()?;
    let mut gateway = Gateway::new(hub()?);
    if let Some(longest) = longest {
        gateway = gateway.with_patience(longest.saturating_mul(15));
    }
    let mut options = ManagerOptions::from_env(store.clone(), gateway)?.with_certificates(store);
    if let Some(key) = variable("GATEWAY_SECONDARY_KEY") {
        let id = variable("DPS_REGISTRATION_ID").unwrap_or_default();
        let id = id.trim().parse().map_err(|why| unusable("DPS_REGISTRATION_ID", why))?;
        let key = key.trim().parse().map_err(|why| unusable("GATEWAY_SECONDARY_KEY", why))?;
        options = options.with_fallback(Credential::symmetric_key(id, key));
    }
    if let Some(longest) = longest {
        options = hasty(options, longest);
    }
    Ok(options)
}

fn longest_pause() -> Result<Option<Duration>> {
    let Some(seconds) = variable("GATEWAY_LONGEST_PAUSE") else { return Ok(None) };
    let unusable = || unusable("GATEWAY_LONGEST_PAUSE", "it is not a number of seconds");
    let seconds = seconds.trim().parse().map_err(|_| unusable())?;
    Duration::try_from_secs_f64(seconds).map(Some).map_err(|_| unusable())
}

/// Where hubs are dialled, if not by their names.
fn hub() -> Result<Option<Endpoint>> {
    let Some(hub) = variable("GATEWAY_HUB") else { return Ok(None) };
    let endpoint = hub.trim().parse().map_err(|why| unusable("GATEWAY_HUB", why))?;
    trusting(endpoint).map(Some)
}

/// Shortens all pauses: the defaults protect the service, and an emulator needs no protection.
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

/// The value is not repeated: it may be a key.
fn unusable(name: &str, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Config, format!("{name} has no usable value")).with_source(why)
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
