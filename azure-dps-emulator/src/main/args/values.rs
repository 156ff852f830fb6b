//! Parses the values of flags: hubs, certificate policies, latencies, roles, named files, times, words.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use azure_dps_emulator::{CertificatePolicy, EntraRole, Hub, KeyType};
use clap::builder::{PossibleValuesParser, TypedValueParser};

/// The latencies from devices to regions, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Latencies {
    pub(super) devices: String,
    pub(super) regions: Vec<(String, u32)>,
}

/// The file of a CA certificate, and the name for the upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CaCertificateFile {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

/// A value that `Debug` does not show.
#[derive(Clone)]
pub(super) struct Secret(pub(super) String);

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Secret(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Reads one of the words of a table as the value beside it.
pub(super) fn one_of<T: Clone + Send + Sync + 'static>(
    table: &'static [(&'static str, T)],
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(table.iter().map(|(word, _)| *word)).try_map(move |word| {
        let found = table.iter().find(|(known, _)| *known == word);
        found.map(|(_, value)| value.clone()).ok_or("unknown word")
    })
}

/// Reads an IP address, or `localhost`.
pub(super) fn host(text: &str) -> Result<IpAddr, String> {
    if text == "localhost" {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    text.parse().map_err(|_| "expected an IP address, such as 127.0.0.1, or localhost".to_owned())
}

/// Reads seconds, with or without a fraction, more than 0.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let time = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.filter(|time| !time.is_zero())
        .ok_or_else(|| "expected seconds, more than 0, such as 10 or 0.5".to_owned())
}

/// Reads `NAME[,weight=N][,region=R][,named-only]`.
pub(super) fn hub(text: &str) -> Result<Hub, String> {
    let mut parts = text.split(',');
    let mut hub = Hub::new(parts.next().unwrap_or_default());
    for part in parts {
        hub = match part.split_once('=') {
            None if part == "named-only" => hub.named_only(),
            Some(("weight", weight)) => {
                let number = weight.parse();
                hub.with_weight(
                    number
                        .map_err(|_| format!("weight {weight} is not a whole number from 0 to 4294967295"))?,
                )
            }
            Some(("region", region)) if !region.is_empty() => hub.with_region(region),
            _ => return Err(format!("`{part}` is not weight=N, region=NAME or named-only")),
        };
    }
    Ok(hub)
}

/// Reads `NAMESPACE/CA/POLICY[,days=N][,keys=p384+p256+rsa][,root]`.
pub(super) fn certificate_policy(text: &str) -> Result<CertificatePolicy, String> {
    let mut parts = text.split(',');
    let names: Vec<_> = parts.next().unwrap_or_default().split('/').collect();
    let [namespace, authority, name] = names.as_slice() else {
        return Err("expected NAMESPACE/CA/POLICY[,days=N][,keys=p384+p256+rsa][,root]".to_owned());
    };
    let policy = CertificatePolicy::new(*namespace, *authority, *name);
    parts.try_fold(policy.map_err(|error| error.to_string())?, |policy, part| {
        let changed = match part.split_once('=') {
            None if part == "root" => return Ok(policy.with_root()),
            Some(("days", days)) => {
                let number = days.parse();
                policy.with_days(number.map_err(|_| format!("days {days} is not a number from 7 to 90"))?)
            }
            Some(("keys", keys)) => {
                let key = |word| KeyType::from_word(word).ok_or(word);
                let keys = keys.split('+').map(key).collect::<Result<Vec<_>, _>>();
                policy.with_key_types(keys.map_err(|word| format!("`{word}` is not p384, p256 or rsa"))?)
            }
            _ => return Err(format!("`{part}` is not days=N, keys=p384+p256+rsa or root")),
        };
        changed.map_err(|error| error.to_string())
    })
}

/// Reads `DEVICES,REGION=MS[,REGION=MS...]`.
pub(super) fn latencies(text: &str) -> Result<Latencies, String> {
    let wrong = || "expected DEVICES,REGION=MILLISECONDS[,REGION=MILLISECONDS...]".to_owned();
    let (devices, regions) = text.split_once(',').ok_or_else(wrong)?;
    let regions = regions.split(',').map(|region| {
        let (region, millis) = region.split_once('=')?;
        Some((region.to_owned(), millis.parse().ok()?))
    });
    let regions = regions.collect::<Option<_>>().ok_or_else(wrong)?;
    Ok(Latencies { devices: devices.to_owned(), regions })
}

/// Reads `NAME=FILE`.
pub(super) fn ca_certificate(text: &str) -> Result<CaCertificateFile, String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok(CaCertificateFile { name: name.to_owned(), path: path.into() })
        }
        _ => Err("expected NAME=FILE".to_owned()),
    }
}

/// Reads `OBJECT_ID=ROLE`.
pub(super) fn entra_role(text: &str) -> Result<(String, EntraRole), String> {
    match text.split_once('=') {
        Some((object_id, "reader")) if !object_id.is_empty() => {
            Ok((object_id.to_owned(), EntraRole::DataReader))
        }
        Some((object_id, "contributor")) if !object_id.is_empty() => {
            Ok((object_id.to_owned(), EntraRole::DataContributor))
        }
        _ => Err("expected OBJECT_ID=reader or OBJECT_ID=contributor".to_owned()),
    }
}
