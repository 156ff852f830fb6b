//! The connection string of a provisioning service access policy.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::sas::{SasToken, SharedKey};

/// The connection string of a DPS shared access policy:
/// `HostName={host};SharedAccessKeyName={policy};SharedAccessKey={key}`.
///
/// `az iot dps connection-string show` prints it. The case and the order of the names do not matter; other
/// names are ignored. The host may include a port, as an emulator's does. The string may have a token,
/// `SharedAccessSignature=…`, instead of the key.
///
/// ```
/// use azure_dps_core::ConnectionString;
///
/// let parsed: ConnectionString = "HostName=contoso.azure-devices-provisioning.net;\
///     SharedAccessKeyName=provisioningserviceowner;\
///     SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".parse()?;
/// assert_eq!(parsed.host(), "contoso.azure-devices-provisioning.net");
/// assert_eq!(parsed.port(), None);
/// # Ok::<(), azure_dps_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectionString {
    host: String,
    port: Option<u16>,
    policy: String,
    secret: PolicySecret,
}

/// The secret of an access policy: a key or a token. `Debug` does not show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicySecret {
    /// The primary or secondary key of the policy.
    Key(SharedKey),
    /// A token that was signed elsewhere with such a key.
    Token(SasToken),
}

impl ConnectionString {
    /// The service host, without scheme and port.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, if the string names one. Without it the service listens on 443.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The name of the access policy; empty when the string has a token and no name.
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// The policy's key or token.
    pub fn secret(&self) -> &PolicySecret {
        &self.secret
    }
}

impl FromStr for ConnectionString {
    type Err = Error;

    /// # Errors
    /// [`ErrorKind::Config`]. The message names the part that is missing, repeated or malformed, or reports
    /// that this is the connection string of another service.
    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.starts_with(QUOTES) || text.ends_with(QUOTES) {
            return Err(refuse("begins or ends with a quotation mark: remove the quotation marks"));
        }
        let mut parts = Parts::default();
        for pair in text.split(';').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or_else(|| refuse("has a part without '='"))?;
            parts.take(name.trim(), value.trim())?;
        }
        let host = parts.host.ok_or_else(|| refuse("has no HostName"))?;
        let (host, port) = split_port(host)?;
        if parts.device || is_hub(host) {
            return Err(refuse(
                "belongs to an IoT hub: use the one of the provisioning service, whose HostName contains \
                 azure-devices-provisioning (`az iot dps connection-string show`)",
            ));
        }
        let secret = match (parts.key, parts.token) {
            (Some(key), None) if key.contains("***") => {
                return Err(refuse(
                    "has a SharedAccessKey that is masked with asterisks: show the key first, then copy it",
                ));
            }
            (Some(key), None) => PolicySecret::Key(SharedKey::from_base64(key)?),
            (None, Some(token)) => PolicySecret::Token(SasToken::parse(token)?),
            (Some(_), Some(_)) => {
                return Err(refuse(
                    "has both a SharedAccessKey and a SharedAccessSignature: remove one of them",
                ));
            }
            (None, None) => {
                return Err(refuse(
                    "has no SharedAccessKey: in a shell, put the whole string in quotation marks, because an \
                     unquoted ';' ends it",
                ));
            }
        };
        let policy = match (parts.policy, &secret) {
            (Some(policy), _) => policy,
            (None, PolicySecret::Token(_)) => "",
            (None, PolicySecret::Key(_)) => return Err(refuse("has no SharedAccessKeyName")),
        };
        Ok(Self { host: host.to_owned(), port, policy: policy.to_owned(), secret })
    }
}

impl fmt::Debug for ConnectionString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionString")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Parts<'a> {
    host: Option<&'a str>,
    policy: Option<&'a str>,
    key: Option<&'a str>,
    token: Option<&'a str>,
    device: bool,
}

impl<'a> Parts<'a> {
    fn take(&mut self, name: &str, value: &'a str) -> Result<()> {
        let (slot, name) = match name.to_ascii_lowercase().as_str() {
            "hostname" => (&mut self.host, "HostName"),
            "sharedaccesskeyname" => (&mut self.policy, "SharedAccessKeyName"),
            "sharedaccesskey" => (&mut self.key, "SharedAccessKey"),
            "sharedaccesssignature" => (&mut self.token, "SharedAccessSignature"),
            "deviceid" => {
                self.device = true;
                return Ok(());
            }
            _ => return Ok(()),
        };
        if value.is_empty() {
            return Err(refuse(&format!("has an empty {name}")));
        }
        if slot.replace(value).is_some() {
            return Err(refuse(&format!("has {name} twice")));
        }
        Ok(())
    }
}

fn is_hub(host: &str) -> bool {
    // In every cloud: .net, .cn, .us.
    host.split('.').any(|label| label.eq_ignore_ascii_case("azure-devices"))
}

fn split_port(host: &str) -> Result<(&str, Option<u16>)> {
    let no_host = || refuse("has a HostName that is not a host name: leave out \"https://\" and the path");
    if host.contains('/') {
        return Err(no_host());
    }
    let (name, port) = match host.rsplit_once(':') {
        None => (host, None),
        Some((name, port)) => {
            let port = port_number(port)
                .ok_or_else(|| refuse("has a HostName whose port is not a number from 1 to 65535"))?;
            (name, Some(port))
        }
    };
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')) {
        return Err(no_host());
    }
    Ok((name, port))
}

/// A port to connect to: digits, without a sign.
pub(crate) fn port_number(text: &str) -> Option<u16> {
    let digits = Some(text).filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    digits.and_then(|text| text.parse().ok()).filter(|&port| port != 0)
}

fn refuse(why: &str) -> Error {
    Error::new(ErrorKind::Config, format!("the connection string {why}"))
}

const QUOTES: [char; 7] = ['"', '\'', '`', '\u{201c}', '\u{201d}', '\u{2018}', '\u{2019}'];

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

    #[test]
    fn order_case_and_foreign_names_do_not_matter() {
        let text =
            format!(" sharedaccesskey={KEY}; X=1 ;HOSTNAME=localhost:8443;SharedAccessKeyName=owner;; ");
        let parsed: ConnectionString = text.parse().unwrap();
        assert_eq!((parsed.host(), parsed.port(), parsed.policy()), ("localhost", Some(8443), "owner"));
        assert_eq!(parsed.secret(), &PolicySecret::Key(KEY.parse().unwrap()));
    }

    #[test]
    fn a_token_can_replace_the_key() {
        let text = "HostName=h.example;SharedAccessSignature=SharedAccessSignature sr=h&sig=x%3D&se=9&skn=p";
        let parsed: ConnectionString = text.parse().unwrap();
        assert!(matches!(parsed.secret(), PolicySecret::Token(token) if token.expiry() == 9));
    }

    #[test]
    fn the_error_names_the_wrong_part() {
        let cases = [
            (String::new(), "has no HostName"),
            ("HostName".into(), "a part without '='"),
            (format!("HostName=h;SharedAccessKey={KEY}"), "has no SharedAccessKeyName"),
            ("HostName=h;SharedAccessKeyName=p".into(), "has no SharedAccessKey"),
            (format!("HostName=h;HostName=h;SharedAccessKeyName=p;SharedAccessKey={KEY}"), "HostName twice"),
            (
                format!("HostName=https://h;SharedAccessKeyName=p;SharedAccessKey={KEY}"),
                "leave out \"https://\"",
            ),
            (format!("HostName=h/x;SharedAccessKeyName=p;SharedAccessKey={KEY}"), "not a host name"),
            (format!("HostName=h:99999;SharedAccessKeyName=p;SharedAccessKey={KEY}"), "port is not a number"),
            (format!("HostName=h:0;SharedAccessKeyName=p;SharedAccessKey={KEY}"), "port is not a number"),
            (format!("HostName=h:+443;SharedAccessKeyName=p;SharedAccessKey={KEY}"), "port is not a number"),
            ("HostName=h;SharedAccessKeyName=p;SharedAccessKey=%%".into(), "not base64"),
            (
                format!("\"HostName=h;SharedAccessKeyName=p;SharedAccessKey={KEY}\""),
                "remove the quotation marks",
            ),
            (format!("HostName=h;SharedAccessKeyName=p;SharedAccessKey={KEY}'"), "quotation mark"),
            ("HostName=h".into(), "in a shell, put the whole string in quotation marks"),
            ("HostName=h;SharedAccessKeyName=p;SharedAccessKey=****".into(), "asterisks"),
            (format!("HostName=h;SharedAccessKeyName=;SharedAccessKey={KEY}"), "empty SharedAccessKeyName"),
        ];
        for (text, part) in cases {
            let error = text.parse::<ConnectionString>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(part), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_byte_order_mark_and_line_ends_around_it_do_not_matter() {
        let text = format!("\u{feff}HostName=h;SharedAccessKeyName=p;SharedAccessKey={KEY}\r\n");
        assert_eq!(text.parse::<ConnectionString>().unwrap().host(), "h");
    }

    #[test]
    fn an_iot_hub_string_is_recognised() {
        for text in [
            format!("HostName=plant.azure-devices.cn;SharedAccessKeyName=p;SharedAccessKey={KEY}"),
            format!("HostName=plant.Azure-Devices.us:443;SharedAccessKeyName=p;SharedAccessKey={KEY}"),
            format!(
                "HostName=contoso.azure-devices.net;SharedAccessKeyName=iothubowner;SharedAccessKey={KEY}"
            ),
            format!("HostName=contoso.azure-devices.net:443;SharedAccessKeyName=p;SharedAccessKey={KEY}"),
            format!("HostName=contoso.example;DeviceId=d;SharedAccessKey={KEY}"),
        ] {
            let error = text.parse::<ConnectionString>().unwrap_err();
            assert!(error.to_string().contains("IoT hub"), "{error}");
            assert!(!error.to_string().contains(KEY));
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let text = format!("HostName=h;SharedAccessKeyName=p;SharedAccessKey={KEY}");
        let shown = format!("{:?}", text.parse::<ConnectionString>().unwrap());
        assert_eq!(shown, "ConnectionString { host: \"h\", port: None, policy: \"p\", .. }");
    }
}
