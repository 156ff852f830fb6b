//! A device as the environment describes it: `settings.rs` reads the variables; this file reads the files that
//! they name, and makes the credential and the transport.

mod settings;

use std::sync::Arc;

use azure_dps_core::plumbing::{Variables, trust_file, unusable};
use azure_dps_core::{Endpoint, Error, ErrorKind, IdScope, Identity, Result};

use self::settings::{CERT_FILE, KEY_FILE, Settings, Source, TRANSPORT, Way};
use crate::credential::Credential;
use crate::transport::auto::Auto;
use crate::transport::contract::Transport;

/// What the environment says about a device.
pub(crate) fn device(variables: Variables<'_>) -> Result<(IdScope, Credential, Arc<dyn Transport>)> {
    let Settings { id_scope, endpoint, ca_file, way, source } = Settings::read(variables)?;
    let endpoint = match ca_file {
        Some(file) => trust_file(endpoint, &file)?,
        None => endpoint,
    };
    Ok((id_scope, credential(source)?, transport(way, endpoint)?))
}

fn credential(source: Source) -> Result<Credential> {
    match source {
        Source::Key(id, key) => Ok(Credential::symmetric_key(id, key)),
        Source::GroupKey(id, key) => Ok(Credential::from_group(&key, id)),
        Source::Certificate { id, chain, key } => {
            let made = Identity::from_pem_files(chain, key).and_then(|identity| match id {
                Some(id) => Ok(Credential::x509_as(id, identity)),
                None => Credential::x509(identity),
            });
            let names = format!("the environment variables {CERT_FILE} and {KEY_FILE}");
            made.map_err(|why| unusable(&names, &why))
        }
    }
}

fn transport(way: Way, endpoint: Endpoint) -> Result<Arc<dyn Transport>> {
    let members = match way {
        // A port of the endpoint takes the place of 443.
        Way::Auto if endpoint.port().is_some() => &[Way::MqttWs, Way::Https][..],
        Way::Auto => &[Way::Mqtt, Way::MqttWs, Way::Https],
        _ => return only(way, &endpoint).ok_or_else(|| left_out(way)),
    };
    let members: Vec<_> = members.iter().filter_map(|way| only(*way, &endpoint)).collect();
    match members.is_empty() {
        true => Err(left_out(way)),
        false => Ok(Arc::new(Auto::of(members)?)),
    }
}

/// One transport; `None` if the crate was built without it.
fn only(way: Way, endpoint: &Endpoint) -> Option<Arc<dyn Transport>> {
    let transport: Arc<dyn Transport> = match way {
        #[cfg(feature = "https")]
        Way::Https => Arc::new(crate::transport::https::Https::new(endpoint.clone())),
        #[cfg(feature = "mqtt")]
        Way::Mqtt => Arc::new(crate::transport::mqtt::Mqtt::new(endpoint.clone())),
        #[cfg(all(feature = "mqtt", feature = "ws"))]
        Way::MqttWs => Arc::new(crate::transport::mqtt::Mqtt::new(endpoint.clone()).with_websocket()),
        #[cfg(feature = "amqp")]
        Way::Amqp => Arc::new(crate::transport::amqp::Amqp::new(endpoint.clone())),
        #[cfg(all(feature = "amqp", feature = "ws"))]
        Way::AmqpWs => Arc::new(crate::transport::amqp::Amqp::new(endpoint.clone()).with_websocket()),
        _ => return None,
    };
    Some(transport)
}

fn left_out(way: Way) -> Error {
    let (name, features) = (way.name(), way.features());
    let message = format!(
        "the transport `{name}` of the environment variable {TRANSPORT} is not in this program: enable the \
         {features} of azure-dps-device, or name another transport"
    );
    Error::new(ErrorKind::Config, message)
}

#[cfg(test)]
mod tests;
