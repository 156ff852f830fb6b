//! The clouds that have the service: their hosts, and which ID scopes belong to which. Pure.
//!
//! | cloud | global host | host of an instance | ID scopes |
//! |---|---|---|---|
//! | public | `global.azure-devices-provisioning.net` | `{name}.azure-devices-provisioning.net` | `0ne…` |
//! | Azure China | the same with `.cn` | the same with `.cn` | `0cn…` |
//! | Azure US Government | the same with `.us` | the same with `.us` | not documented |
//!
//! Source: "Azure Private Endpoint private DNS zone values"; the prefixes are those of published ID scopes.

/// The global device endpoint of the public cloud.
#[cfg(feature = "tls")]
pub(crate) const PUBLIC: &str = "global.azure-devices-provisioning.net";
/// The global device endpoint of Azure China.
#[cfg(feature = "tls")]
pub(crate) const CHINA: &str = "global.azure-devices-provisioning.cn";
/// The global device endpoint of Azure US Government.
#[cfg(feature = "tls")]
pub(crate) const US_GOVERNMENT: &str = "global.azure-devices-provisioning.us";

/// The help for an ID scope of another cloud than the host. `None` if they fit, or if the cloud of one of
/// them is not known, as for an emulator or a host name of the caller's network.
pub fn misfit(id_scope: &str, host: &str) -> Option<&'static str> {
    let begins = |prefix: &str| id_scope.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    match top_level(host)?.as_str() {
        "net" | "us" if begins("0cn") => Some(IS_CHINA),
        "cn" if begins("0ne") => Some(IS_PUBLIC),
        _ => None,
    }
}

/// The last label of a host of the service, in lower case.
fn top_level(host: &str) -> Option<String> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let (rest, last) = host.rsplit_once('.')?;
    (rest.rsplit('.').next() == Some("azure-devices-provisioning")).then(|| last.to_owned())
}

const IS_CHINA: &str = "the ID scope begins with `0cn`, so its instance is in Azure China, and the endpoint \
     belongs to another cloud: use `Endpoint::china()`, \
     `DPS_ENDPOINT=global.azure-devices-provisioning.cn`, or the host of the instance, which ends with `.cn`";
const IS_PUBLIC: &str = "the ID scope begins with `0ne`, so its instance is in the public cloud, and the \
     endpoint belongs to Azure China: use `Endpoint::global()`, \
     `DPS_ENDPOINT=global.azure-devices-provisioning.net`, or the host of the instance, which ends with `.net`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_scope_of_another_cloud_than_the_host_is_explained() {
        for (scope, host, part) in [
            (
                "0cn0000990D",
                "global.azure-devices-provisioning.net",
                "`DPS_ENDPOINT=global.azure-devices-provisioning.cn`",
            ),
            (
                "0ne00111111",
                "global.azure-devices-provisioning.cn",
                "`DPS_ENDPOINT=global.azure-devices-provisioning.net`",
            ),
            ("0cn0000990D", "global.azure-devices-provisioning.net", "Endpoint::china()"),
            ("0CN0000990D", "contoso.azure-devices-provisioning.us", "Endpoint::china()"),
            ("0ne00111111", "global.azure-devices-provisioning.cn", "Endpoint::global()"),
            ("0ne00111111", "Contoso.Azure-Devices-Provisioning.CN.", "Endpoint::global()"),
        ] {
            assert!(misfit(scope, host).is_some_and(|help| help.contains(part)), "{scope} {host}");
        }
    }

    #[test]
    fn what_fits_or_is_unknown_is_not_explained() {
        for (scope, host) in [
            ("0ne00111111", "global.azure-devices-provisioning.net"),
            ("0cn00111111", "contoso.azure-devices-provisioning.cn"),
            // No published source says how the ID scopes of this cloud begin.
            ("0ne00111111", "global.azure-devices-provisioning.us"),
            ("0ab00111111", "global.azure-devices-provisioning.cn"),
            ("0cn00111111", "localhost"),
            ("0cn00111111", "10.0.0.4"),
            ("0cn00111111", "azure-devices-provisioning.example.net"),
            ("0c", "global.azure-devices-provisioning.net"),
            ("\u{e9}\u{e9}", "global.azure-devices-provisioning.net"),
            ("", ""),
        ] {
            assert_eq!(misfit(scope, host), None, "{scope} {host}");
        }
    }
}
