//! The warnings of a start on an address that other machines can reach: what they can do there. Pure.

use std::net::IpAddr;

use crate::builder::reach::is_loopback;

/// The settings that decide what other machines can do.
pub(crate) struct Exposure<'a> {
    pub(crate) host: IpAddr,
    /// The policies of the service API whose keys are public.
    pub(crate) public_policies: Vec<&'a str>,
    /// Whether any principal of Microsoft Entra ID has a role.
    pub(crate) has_roles: bool,
    /// The address of the management port, if it is open.
    pub(crate) manage_host: Option<IpAddr>,
}

impl Exposure<'_> {
    /// One line for each warning; empty for addresses that only this machine can reach.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let open = self.manage_host.filter(|host| !is_loopback(*host)).map(of_management);
        if is_loopback(self.host) {
            return open.into_iter().collect();
        }
        let host = self.host;
        let mut lines = vec![format!(
            "other machines can reach the emulator at {host}, and it is for tests only: anyone who can \
             reach it can do what the next lines say"
        )];
        if !self.public_policies.is_empty() {
            let names = self.public_policies.join(", ");
            lines.push(format!(
                "anyone can use the service API with the rights of policy {names}: the keys of policy \
                 {names} are public (set others with --policy or EmulatorBuilder::access_policy)"
            ));
        }
        lines.push(match self.has_roles {
            false => {
                "anyone can do everything on the service API: signatures of Microsoft Entra ID tokens are \
                 not checked, and no principal has a role (assign one with --entra-role or \
                 EmulatorBuilder::entra_role)"
            }
            true => {
                "anyone who knows the object ID of a principal with a role can do what the role permits: \
                 signatures of Microsoft Entra ID tokens are not checked"
            }
        }
        .to_owned());
        lines.push(
            "anyone can read and delete the devices of the hubs, with their keys: the keys of policy \
             iothubowner are public"
                .to_owned(),
        );
        lines.push(
            "anyone with the right to write enrollments can make the emulator post to any URL, including \
             URLs that only this machine can reach: custom allocation calls the webhook that an enrollment names"
                .to_owned(),
        );
        lines.extend(self.manage_host.map(|_| {
            open.unwrap_or_else(|| {
                "only this machine can reach the management port: it is on a loopback address".to_owned()
            })
        }));
        lines
    }
}

fn of_management(host: IpAddr) -> String {
    format!(
        "other machines can reach the management port at {host}: anyone who knows its token can do \
         everything there, and anyone who can read the network traffic can read the token, because the port \
         is plain HTTP"
    )
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_loopback_address_gives_no_warning() {
        for host in ["127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(exposure(host).warnings(), Vec::<String>::new(), "{host}");
        }
    }

    #[test]
    fn an_address_that_others_can_reach_gives_warnings_about_what_they_can_do() {
        for host in
            ["0.0.0.0", "::", "192.168.0.7", "10.0.0.1", "169.254.0.1", "2001:db8::1", "::ffff:192.0.2.1"]
        {
            let warnings = exposure(host).warnings();
            assert_eq!(warnings.len(), 6, "{warnings:?}");
            for (warning, wanted) in warnings.iter().zip([
                host,
                "the keys of policy provisioningserviceowner are public",
                "and no principal has a role",
                "iothubowner",
                "post to any URL",
                "the management port",
            ]) {
                assert!(warning.contains(wanted), "{warning}");
            }
        }
    }

    #[test]
    fn keys_roles_and_the_management_port_decide_the_warnings() {
        let guarded = Exposure {
            public_policies: Vec::new(),
            has_roles: true,
            manage_host: None,
            ..exposure("0.0.0.0")
        };

        let warnings = guarded.warnings().join("\n");

        assert!(
            !warnings.contains("provisioningserviceowner") && !warnings.contains("no principal has a role")
        );
        assert!(
            warnings.contains("anyone who knows the object ID of a principal with a role can do"),
            "{warnings}"
        );
        assert!(!warnings.contains("management"), "{warnings}");
    }

    #[test]
    fn a_management_port_that_others_can_reach_gives_a_warning() {
        for (host, lines) in [("127.0.0.1", 1), ("0.0.0.0", 6)] {
            let open = Exposure { manage_host: Some(Ipv4Addr::UNSPECIFIED.into()), ..exposure(host) };
            let warnings = open.warnings();
            assert_eq!(warnings.len(), lines, "{warnings:?}");
            let wanted =
                "other machines can reach the management port at 0.0.0.0: anyone who knows its token";
            assert!(warnings.last().unwrap().starts_with(wanted), "{warnings:?}");
        }
    }

    fn exposure(host: &str) -> Exposure<'static> {
        Exposure {
            host: host.parse().unwrap(),
            public_policies: vec!["provisioningserviceowner"],
            has_roles: false,
            manage_host: Some(Ipv4Addr::LOCALHOST.into()),
        }
    }
}
