//! The instance and the access policy that the environment names.
//!
//! | `DPS_CONNECTION_STRING` | `DPS_CA_FILE` | result |
//! |---|---|---|
//! | a connection string | | its instance and policy; the platform's trust store |
//! | a connection string | a PEM file | its instance and policy; only the certificates in the file |
//! | not set | | an error that names the variable |
//!
//! A variable that is empty, cannot be read or has no usable value is an error that names it.

use std::path::PathBuf;

use azure_dps_core::plumbing::{CA_FILE, Variables, trust_file};
use azure_dps_core::{ConnectionString, Endpoint, Error, ErrorKind, Result};

use crate::credential::Credential;

/// The values of the variables.
#[derive(Debug)]
pub(crate) struct Settings {
    connection: ConnectionString,
    ca_file: Option<PathBuf>,
}

impl Settings {
    pub(crate) fn read(variables: Variables<'_>) -> Result<Self> {
        let connection = variables.value(CONNECTION_STRING, str::parse)?.ok_or_else(|| {
            let message = format!("the environment variable {CONNECTION_STRING} is not set");
            Error::new(ErrorKind::Config, message).with_help(HELP)
        })?;
        Ok(Self { connection, ca_file: variables.file(CA_FILE)? })
    }

    /// Reads the file that the settings name.
    pub(crate) fn load(self) -> Result<(Endpoint, Credential)> {
        let endpoint = Endpoint::try_from(&self.connection)?;
        let endpoint = match self.ca_file {
            Some(file) => trust_file(endpoint, &file)?,
            None => endpoint,
        };
        Ok((endpoint, Credential::from(&self.connection)))
    }
}

const CONNECTION_STRING: &str = "DPS_CONNECTION_STRING";
const HELP: &str = "set it to the connection string of an access policy of the instance (`az iot dps \
     connection-string show`), or of an emulator: its ready line has one";

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    const GOOD: &str = "HostName=dps.example:8443;SharedAccessKeyName=owner;SharedAccessKey=bWFya2Vy";

    fn read(set: &[(&str, &str)]) -> Result<Settings> {
        let lookup =
            |name: &str| set.iter().find(|(given, _)| *given == name).map(|(_, value)| OsString::from(value));
        Settings::read(Variables::new(&lookup))
    }

    #[test]
    fn the_connection_string_names_the_instance() {
        let settings = read(&[(CONNECTION_STRING, GOOD)]).unwrap();
        assert_eq!((settings.connection.policy(), &settings.ca_file), ("owner", &None));
        let (endpoint, _) = settings.load().unwrap();
        assert_eq!((endpoint.host(), endpoint.port()), ("dps.example", Some(8443)));
    }

    #[test]
    fn the_file_of_authorities_is_read() {
        let settings = read(&[(CONNECTION_STRING, GOOD), (CA_FILE, "/nowhere/ca.pem")]).unwrap();
        let error = settings.load().unwrap_err();
        assert!(
            error.to_string().contains("/nowhere/ca.pem of the environment variable DPS_CA_FILE"),
            "{error}"
        );
    }

    #[test]
    fn a_variable_without_a_usable_value_is_named() {
        for (set, part) in [
            (vec![], "DPS_CONNECTION_STRING is not set"),
            (vec![(CONNECTION_STRING, "")], "DPS_CONNECTION_STRING is empty"),
            (
                vec![(CONNECTION_STRING, "HostName=h;SharedAccessKey=bWFya2Vy")],
                "DPS_CONNECTION_STRING cannot be used: the connection string has no SharedAccessKeyName",
            ),
            (vec![(CONNECTION_STRING, GOOD), (CA_FILE, "")], "DPS_CA_FILE is empty"),
        ] {
            let error = read(&set).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            let shown = format!("{error} {error:?} {error:#?}");
            assert!(error.to_string().contains(part) && !shown.contains("bWFya2Vy"), "{shown}");
        }
    }
}
