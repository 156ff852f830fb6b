//! How clients reach an emulator: its addresses, ports and names, and the token of its management port. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::front::manage::caller::literal;
use crate::front::manage::token::Token;
use crate::records::hub::{Hub, is_host_name};
use crate::start_error::StartError;

/// Where an emulator listens, under which names, and who may manage it.
pub(crate) struct Reach {
    pub(crate) host: IpAddr,
    pub(crate) port: u16,
    pub(crate) mqtt_port: u16,
    pub(crate) amqp_port: u16,
    pub(crate) dns_names: Vec<String>,
    pub(crate) manage_host: IpAddr,
    pub(crate) manage_port: Option<u16>,
    pub(crate) manage_token: Option<String>,
}

impl Reach {
    /// Checks the names, and returns the token of the management port.
    pub(crate) fn check(&self, hubs: &[Hub]) -> Result<Option<Token>, StartError> {
        for name in &self.dns_names {
            if let Some(why) = why_not_dns_name(name, hubs) {
                return Err(StartError::DnsName { name: name.clone(), why });
            }
        }
        let token =
            self.manage_token.as_deref().map(Token::new).transpose().map_err(StartError::ManageToken)?;
        let is_open = self.manage_port.is_some() && !is_loopback(self.manage_host);
        if is_open && token.is_none() {
            return Err(StartError::ManageTokenMissing(self.manage_host));
        }
        Ok(token)
    }

    /// The host name for clients: the first DNS name, or else a name on this machine.
    pub(crate) fn client_host(&self) -> String {
        self.dns_names.first().cloned().unwrap_or_else(|| match self.host {
            // `localhost` resolves to these two loopback addresses only.
            host if host == Ipv4Addr::LOCALHOST || host == Ipv6Addr::LOCALHOST || host.is_unspecified() => {
                "localhost".to_owned()
            }
            host => literal(host),
        })
    }

    /// The URL of the management port: by the first DNS name if the port is on all addresses, because then
    /// clients elsewhere use it, or else by its address.
    pub(crate) fn manage_url(&self, port: u16) -> String {
        let name = self.dns_names.first().filter(|_| self.manage_host.is_unspecified()).cloned();
        let host = name.unwrap_or_else(|| {
            literal(match self.manage_host {
                IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
                address => address,
            })
        });
        format!("http://{host}:{port}")
    }
}

/// Returns whether only this machine can reach an address.
pub(crate) fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Why a text cannot be a DNS name of the emulator.
fn why_not_dns_name(name: &str, hubs: &[Hub]) -> Option<&'static str> {
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    if name.is_empty() {
        return Some("it is empty");
    }
    if bare.parse::<IpAddr>().is_ok() {
        return Some("it is an IP address, and an address needs no name: the certificate has that of --host");
    }
    if name.contains("://") || name.contains('/') {
        return Some("it is a URL; give its host name alone");
    }
    if name.contains(':') {
        return Some("it has a port; give the host name alone, because the ports have flags");
    }
    if name.contains('*') {
        return Some("it is a wildcard; give each name");
    }
    if name.len() > 253 {
        return Some("it has more than 253 characters");
    }
    if !is_host_name(name) || name.rsplit('.').next().is_some_and(is_number) {
        return Some(
            "it needs labels of 1 to 63 ASCII letters, digits and `-`, which begin and end with a letter or \
             a digit, with dots between them, and the last one is not a number",
        );
    }
    if hubs.iter().any(|hub| hub.host_name.eq_ignore_ascii_case(name)) {
        return Some("it is the name of a linked hub, which answers under it");
    }
    None
}

impl Default for Reach {
    fn default() -> Self {
        Reach {
            host: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            mqtt_port: 0,
            amqp_port: 0,
            dns_names: Vec::new(),
            manage_host: Ipv4Addr::LOCALHOST.into(),
            manage_port: None,
            manage_token: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    #[test]
    fn an_address_that_others_can_reach_needs_a_token_and_no_error_shows_it() {
        for host in ["0.0.0.0", "::", "192.168.0.7", "2001:db8::1", "::ffff:192.0.2.1"] {
            let open = || Reach { manage_port: Some(0), manage_host: address(host), ..Reach::default() };
            let refused = open().check(&[]).unwrap_err().to_string();
            let wanted = format!("the management port on {host} needs a token, because other machines can");
            assert!(refused.starts_with(&wanted), "{refused}");
            assert!(Reach { manage_token: Some(TOKEN.to_owned()), ..open() }.check(&[]).unwrap().is_some());
            let short = Reach { manage_token: Some("SECRET".to_owned()), ..open() };
            let refused = short.check(&[]).unwrap_err();
            let text = format!("{refused} {refused:?} {refused:#?}");
            assert!(text.contains("has 6 characters") && !text.contains("SECRET"), "{text}");
            assert!(Reach { manage_port: None, ..open() }.check(&[]).unwrap().is_none(), "nothing listens");
        }
        for host in ["127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1"] {
            let alone = Reach { manage_port: Some(0), manage_host: address(host), ..Reach::default() };
            assert!(alone.check(&[]).unwrap().is_none(), "{host}");
        }
    }

    #[test]
    fn a_text_that_is_not_a_host_name_cannot_be_a_dns_name() {
        let longest = [&"a.".repeat(126), "a"].concat();
        for good in [
            "dps.example",
            "emulator",
            "DPS.Example",
            "a-1.b",
            "localhost",
            longest.as_str(),
            "global.azure-devices-provisioning.net",
        ] {
            assert!(named(&[good]).check(&[]).is_ok(), "{good}");
        }
        let (label, long) = ("a".repeat(64), [&"a.".repeat(126), "aa"].concat());
        for (bad, wanted) in [
            ("", "it is empty"),
            ("10.0.0.7", "it is an IP address"),
            ("::1", "it is an IP address"),
            ("[::1]", "it is an IP address"),
            ("https://dps.example", "it is a URL"),
            ("dps.example/", "it is a URL"),
            ("dps.example:443", "it has a port"),
            ("*.example", "it is a wildcard"),
            (long.as_str(), "it has more than 253 characters"),
            (label.as_str(), "it needs labels of 1 to 63"),
            ("dps_emulator", "it needs labels"),
            ("dps.example.", "it needs labels"),
            (".example", "it needs labels"),
            ("dps example", "it needs labels"),
            (" dps.example", "it needs labels"),
            ("dps,example", "it needs labels"),
            ("-dps.example", "it needs labels"),
            ("münchen.example", "it needs labels"),
            ("1.2.3", "the last one is not a number"),
            ("Hub.Example", "it is the name of a linked hub"),
        ] {
            let refused = named(&[bad]).check(&["hub.example".into()]);
            let refused = refused.unwrap_err().to_string();
            assert!(refused.contains(wanted), "{bad}: {refused}");
        }
    }

    #[test]
    fn clients_use_the_first_name_or_an_address() {
        for (host, manage_host, names, wanted, wanted_url) in [
            ("127.0.0.1", "127.0.0.1", &[][..], "localhost", "http://127.0.0.1:8"),
            ("::", "::1", &[], "localhost", "http://[::1]:8"),
            ("127.0.0.2", "127.0.0.2", &[], "127.0.0.2", "http://127.0.0.2:8"),
            ("2001:db8::7", "0.0.0.0", &[], "[2001:db8::7]", "http://127.0.0.1:8"),
            ("0.0.0.0", "::", &[], "localhost", "http://[::1]:8"),
            ("0.0.0.0", "0.0.0.0", &["dps.example", "b.example"], "dps.example", "http://dps.example:8"),
            ("0.0.0.0", "127.0.0.1", &["dps.example"], "dps.example", "http://127.0.0.1:8"),
            ("0.0.0.0", "192.168.0.7", &["dps.example"], "dps.example", "http://192.168.0.7:8"),
        ] {
            let (host, manage_host) = (address(host), address(manage_host));
            let reach = Reach { host, manage_host, ..named(names) };
            assert_eq!((reach.client_host().as_str(), reach.manage_url(8).as_str()), (wanted, wanted_url));
        }
    }

    fn named(names: &[&str]) -> Reach {
        let dns_names = names.iter().map(|name| (*name).to_owned()).collect();
        Reach { dns_names, ..Reach::default() }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }
}
