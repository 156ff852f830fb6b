//! The names and addresses of the server certificate, and whether an authority may sign for them. Pure.
//!
//! | | the server certificate has | the authority may sign for |
//! | --- | --- | --- |
//! | always | `localhost`, `127.0.0.1`, `::1` | `localhost`, `127.0.0.0/8`, `::1` |
//! | always | `*.azure-devices-provisioning.net`, `*.azure-devices.net` | both domains |
//! | a hub with another name | the name | the name and names below it |
//! | a DNS name of the emulator | the name | the name and names below it |
//! | the address of the listeners | the address | the address |

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rcgen::{CidrSubnet, GeneralSubtree};
use x509_parser::extensions::{GeneralName, NameConstraints};

use crate::records::hub::Hub;

/// The names and addresses of a server certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    dns: Vec<String>,
    addresses: Vec<IpAddr>,
}

impl Names {
    pub(crate) fn new(host: IpAddr, dns_names: &[String], hubs: &[Hub]) -> Self {
        let mut names = Names {
            dns: DNS.map(String::from).to_vec(),
            addresses: vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        };
        let is_azure = |name: &str| {
            name.split_once('.').is_some_and(|(_, domain)| domain.eq_ignore_ascii_case("azure-devices.net"))
        };
        for name in hubs.iter().map(|hub| &hub.host_name).filter(|name| !is_azure(name)) {
            match name.parse() {
                Ok(address) => names.add(address),
                Err(_) => names.dns.push(name.to_ascii_lowercase()),
            }
        }
        for name in dns_names {
            if !names.dns.contains(name) {
                names.dns.push(name.clone());
            }
        }
        if !host.is_unspecified() {
            names.add(host);
        }
        names
    }

    fn add(&mut self, address: IpAddr) {
        if !self.addresses.contains(&address) {
            self.addresses.push(address);
        }
    }

    /// All names and addresses as text.
    pub(crate) fn to_texts(&self) -> Vec<String> {
        self.dns.iter().cloned().chain(self.addresses.iter().map(IpAddr::to_string)).collect()
    }

    /// The name constraints of the authority that signs for them.
    pub(crate) fn permitted(&self) -> Vec<GeneralSubtree> {
        let dns = self.dns.iter().map(|name| GeneralSubtree::DnsName(domain(name).to_owned()));
        let is_other = |address: &&IpAddr| !(address.is_ipv4() && address.is_loopback());
        let others = self.addresses.iter().filter(is_other).map(|address| match address {
            IpAddr::V4(address) => CidrSubnet::from_v4_prefix(address.octets(), 32),
            IpAddr::V6(address) => CidrSubnet::from_v6_prefix(address.octets(), 128),
        });
        let addresses = std::iter::once(CidrSubnet::from_v4_prefix([127, 0, 0, 0], 8)).chain(others);
        dns.chain(addresses.map(GeneralSubtree::IpAddress)).collect()
    }

    /// The names and addresses that an authority with these constraints may not sign for.
    pub(crate) fn missing(&self, constraints: &NameConstraints<'_>) -> Vec<String> {
        let permitted = constraints.permitted_subtrees.as_deref().unwrap_or_default();
        let bases = || permitted.iter().map(|subtree| &subtree.base);
        let limits_dns = bases().any(|base| matches!(base, GeneralName::DNSName(_)));
        let limits_addresses = bases().any(|base| matches!(base, GeneralName::IPAddress(_)));
        let has_name = |name: &str| {
            bases()
                .any(|base| matches!(base, GeneralName::DNSName(within) if is_within(domain(name), within)))
        };
        let has_address = |address: IpAddr| {
            bases().any(|base| matches!(base, GeneralName::IPAddress(network) if is_in(address, network)))
        };
        let dns = self.dns.iter().filter(|name| limits_dns && !has_name(name)).cloned();
        let addresses = self.addresses.iter().filter(|address| limits_addresses && !has_address(**address));
        dns.chain(addresses.map(IpAddr::to_string)).collect()
    }
}

/// The domain of a wildcard name.
fn domain(name: &str) -> &str {
    name.strip_prefix("*.").unwrap_or(name)
}

fn is_within(name: &str, domain: &str) -> bool {
    let (name, domain) = (name.to_ascii_lowercase(), domain.to_ascii_lowercase());
    name.strip_suffix(&domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Returns whether an address is in a network, given as the bytes of its address followed by those of its
/// mask.
fn is_in(address: IpAddr, network: &[u8]) -> bool {
    let address = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    network.len() == 2 * address.len() && {
        let (base, mask) = network.split_at(address.len());
        address.iter().zip(base).zip(mask).all(|((byte, base), mask)| byte & mask == base & mask)
    }
}

const DNS: [&str; 3] = ["localhost", "*.azure-devices-provisioning.net", "*.azure-devices.net"];

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use x509_parser::parse_x509_certificate;

    use super::*;

    #[test]
    fn a_certificate_names_where_the_emulator_listens_and_hubs_of_other_domains() {
        let hubs = ["Hub.Example", "10.0.0.7", "a.azure-devices.net", "a.b.azure-devices.net"].map(Hub::from);
        let usual =
            ["localhost", "*.azure-devices-provisioning.net", "*.azure-devices.net", "127.0.0.1", "::1"];
        for (host, wanted) in [
            ("127.0.0.1", None),
            ("::1", None),
            ("0.0.0.0", None),
            ("::", None),
            ("127.0.0.2", Some("127.0.0.2")),
            ("192.0.2.7", Some("192.0.2.7")),
            ("2001:db8::7", Some("2001:db8::7")),
        ] {
            let mut texts = usual.map(String::from).to_vec();
            texts.extend(wanted.map(String::from));
            assert_eq!(names(host, &[]).to_texts(), texts, "{host}");
        }
        assert_eq!(
            names("127.0.0.1", &hubs).to_texts(),
            [
                "localhost",
                "*.azure-devices-provisioning.net",
                "*.azure-devices.net",
                "hub.example",
                "a.b.azure-devices.net",
                "127.0.0.1",
                "::1",
                "10.0.0.7",
            ]
        );
    }

    #[test]
    fn an_authority_may_sign_for_the_names_that_it_was_made_for_and_lacks_others() {
        let hub = [Hub::from("hub.example")];
        let made = |host: &str, hubs: &[Hub]| {
            let mut params = CertificateParams::default();
            let permitted_subtrees = names(host, hubs).permitted();
            params.name_constraints =
                Some(rcgen::NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
            params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
        };
        for (made, requested, missing) in [
            (made("127.0.0.1", &[]), names("127.0.0.1", &[]), vec![]),
            (made("127.0.0.1", &[]), names("127.0.0.9", &["x.azure-devices.net".into()]), vec![]),
            (made("127.0.0.1", &[]), names("0.0.0.0", &[]), vec![]),
            (made("127.0.0.1", &[]), names("192.0.2.7", &hub), vec!["hub.example", "192.0.2.7"]),
            (made("127.0.0.1", &[]), names("2001:db8::7", &[]), vec!["2001:db8::7"]),
            (
                made("127.0.0.1", &[]),
                names("::1", &["ahub.example".into(), "10.0.0.1".into()]),
                vec!["ahub.example", "10.0.0.1"],
            ),
            (
                made("192.0.2.7", &hub),
                names("192.0.2.7", &["HUB.example".into(), "a.hub.example".into()]),
                vec![],
            ),
            (
                made("192.0.2.7", &hub),
                names("192.0.2.8", &["ahub.example".into()]),
                vec!["ahub.example", "192.0.2.8"],
            ),
            (made("2001:db8::7", &[]), names("2001:db8::7", &[]), vec![]),
        ] {
            let (_, certificate) = parse_x509_certificate(&made).unwrap();
            let constraints = certificate.name_constraints().unwrap().unwrap().value;
            assert_eq!(requested.missing(constraints), missing, "{requested:?}");
        }
    }

    #[test]
    fn a_certificate_has_the_dns_names_of_the_emulator_once() {
        let given = ["dps.example", "localhost", "dps.example"].map(String::from);
        let names = Names::new(Ipv4Addr::UNSPECIFIED.into(), &given, &[]);
        assert_eq!(
            names.to_texts(),
            [
                "localhost",
                "*.azure-devices-provisioning.net",
                "*.azure-devices.net",
                "dps.example",
                "127.0.0.1",
                "::1"
            ]
        );
    }

    fn names(host: &str, hubs: &[Hub]) -> Names {
        Names::new(host.parse().unwrap(), &[], hubs)
    }
}
