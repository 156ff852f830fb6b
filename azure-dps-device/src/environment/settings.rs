//! From the variables of the environment to the settings of a device. Pure.
//!
//! | variable | value | default |
//! |---|---|---|
//! | `DPS_ID_SCOPE` | the ID scope | must be set |
//! | `DPS_REGISTRATION_ID` | the registration id | the common name of the certificate; with a key it must be set |
//! | `DPS_KEY` | the device's key, base64 | |
//! | `DPS_GROUP_KEY` | the key of its enrollment group, base64: the device's key is derived from it | |
//! | `DPS_CERT_FILE` and `DPS_KEY_FILE` | PEM files: the certificate chain and its private key | |
//! | `DPS_ENDPOINT` | `host` or `host:port` | the global endpoint |
//! | `DPS_TRANSPORT` | `auto`, `https`, `mqtt`, `mqtt-ws`, `amqp`, `amqp-ws` | `auto` |
//! | `DPS_CA_FILE` | a PEM file; only the certificates in it are trusted | the platform's trust store |
//!
//! A device has one credential: a key, a group key, or a certificate with its key. Two are an error that names
//! both. A variable that is empty or has no usable value is an error that names it.

use std::path::PathBuf;

use azure_dps_core::plumbing::{CA_FILE, Variables};
use azure_dps_core::{Endpoint, Error, ErrorKind, GroupKey, IdScope, RegistrationId, Result, SharedKey};

/// The values of the variables.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) id_scope: IdScope,
    pub(super) endpoint: Endpoint,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) way: Way,
    pub(super) source: Source,
}

/// Where the credential comes from.
#[derive(Debug)]
pub(super) enum Source {
    Key(RegistrationId, SharedKey),
    GroupKey(RegistrationId, GroupKey),
    Certificate { id: Option<RegistrationId>, chain: PathBuf, key: PathBuf },
}

/// How the device reaches the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Auto,
    Https,
    Mqtt,
    MqttWs,
    Amqp,
    AmqpWs,
}

impl Settings {
    pub(super) fn read(variables: Variables<'_>) -> Result<Self> {
        one_credential(variables)?;
        let id_scope = variables.value(ID_SCOPE, str::parse)?;
        let id = variables.value(REGISTRATION_ID, str::parse)?;
        let (key, group) = (variables.value(KEY, str::parse)?, variables.value(GROUP_KEY, str::parse)?);
        let files = variables.file(CERT_FILE)?.zip(variables.file(KEY_FILE)?);
        let source = match (id, key, group, files) {
            (Some(id), Some(key), _, _) => Some(Source::Key(id, key)),
            (Some(id), _, Some(key), _) => Some(Source::GroupKey(id, key)),
            (id, _, _, Some((chain, key))) => Some(Source::Certificate { id, chain, key }),
            _ => None,
        };
        let (Some(id_scope), Some(source)) = (id_scope, source) else { return Err(missing(variables)) };
        let endpoint = variables.value(ENDPOINT, str::parse)?.unwrap_or_default();
        let way = variables.value(TRANSPORT, Way::named)?.unwrap_or(Way::Auto);
        Ok(Self { id_scope, endpoint, ca_file: variables.file(CA_FILE)?, way, source })
    }
}

impl Way {
    fn named(text: &str) -> Result<Self> {
        let is_named = |way: &Self| way.name().eq_ignore_ascii_case(text);
        WAYS.into_iter().find(is_named).ok_or_else(|| {
            let names = WAYS.map(Self::name).join(", ");
            Error::new(ErrorKind::Config, format!("the transports are {names}"))
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Https => "https",
            Self::Mqtt => "mqtt",
            Self::MqttWs => "mqtt-ws",
            Self::Amqp => "amqp",
            Self::AmqpWs => "amqp-ws",
        }
    }

    /// The cargo features that it needs.
    pub(super) fn features(self) -> &'static str {
        match self {
            Self::Auto => "feature `https`, or the features `mqtt` and `ws`,",
            Self::Https => "feature `https`",
            Self::Mqtt => "feature `mqtt`",
            Self::MqttWs => "features `mqtt` and `ws`",
            Self::Amqp => "feature `amqp`",
            Self::AmqpWs => "features `amqp` and `ws`",
        }
    }
}

/// Refuses two credentials, and half of one.
fn one_credential(variables: Variables<'_>) -> Result<()> {
    let set: Vec<_> =
        [KEY, GROUP_KEY, CERT_FILE, KEY_FILE].into_iter().filter(|name| variables.is_set(name)).collect();
    let refuse = |message: String| Err(Error::new(ErrorKind::Config, message));
    match set.as_slice() {
        [CERT_FILE] => refuse(format!(
            "the environment variable {CERT_FILE} is set without {KEY_FILE}: name the PEM file of the private \
             key too; it may be the same file"
        )),
        [KEY_FILE] => refuse(format!(
            "the environment variable {KEY_FILE} is set without {CERT_FILE}: name the PEM file of the \
             certificate too; for a symmetric key, use {KEY}"
        )),
        [] | [_] | [CERT_FILE, KEY_FILE] => Ok(()),
        several => refuse(format!(
            "the environment has more than one credential, in {}: a device has one; unset the others",
            several.join(", ")
        )),
    }
}

/// Names everything at once that has to be set and is not.
fn missing(variables: Variables<'_>) -> Error {
    let has_certificate = variables.is_set(CERT_FILE);
    let has_credential = has_certificate || variables.is_set(KEY) || variables.is_set(GROUP_KEY);
    let mut unset = Vec::new();
    if !variables.is_set(ID_SCOPE) {
        unset.push(ID_SCOPE);
    }
    if !has_certificate && !variables.is_set(REGISTRATION_ID) {
        unset.push(REGISTRATION_ID);
    }
    if !has_credential {
        unset.push("one of DPS_KEY, DPS_GROUP_KEY, or DPS_CERT_FILE with DPS_KEY_FILE");
    }
    let message = format!("the environment does not describe a device: set {}", unset.join(", and "));
    Error::new(ErrorKind::Config, message).with_help(HELP)
}

const WAYS: [Way; 6] = [Way::Auto, Way::Https, Way::Mqtt, Way::MqttWs, Way::Amqp, Way::AmqpWs];

pub(super) const ID_SCOPE: &str = "DPS_ID_SCOPE";
pub(super) const REGISTRATION_ID: &str = "DPS_REGISTRATION_ID";
pub(super) const KEY: &str = "DPS_KEY";
pub(super) const GROUP_KEY: &str = "DPS_GROUP_KEY";
pub(super) const CERT_FILE: &str = "DPS_CERT_FILE";
pub(super) const KEY_FILE: &str = "DPS_KEY_FILE";
pub(super) const ENDPOINT: &str = "DPS_ENDPOINT";
pub(super) const TRANSPORT: &str = "DPS_TRANSPORT";
const HELP: &str = "the portal shows the ID scope on the page of the instance, and the keys on the page of the \
     enrollment; the guide \"Environment variables\" of azure-dps-device lists all variables";
