use std::collections::BTreeMap;
use std::ffi::OsString;

use azure_dps_core::CredentialKind;

use super::*;

type Set<'s> = [(&'s str, &'s str)];

const KEY: &str = "YWGfx6psUG2GN+2JfRsJbaVugWxYb8ZAofr1S3X3L6w=";
const DEVICE: [(&str, &str); 3] =
    [("DPS_ID_SCOPE", "0ne00111111"), ("DPS_REGISTRATION_ID", "sensor-042"), ("DPS_KEY", KEY)];

fn with_variables<T>(set: &Set<'_>, read: impl FnOnce(Variables<'_>) -> Result<T>) -> Result<T> {
    let set: BTreeMap<&str, &str> = set.iter().copied().collect();
    read(Variables::new(&|name| set.get(name).map(OsString::from)))
}

fn settings(set: &Set<'_>) -> Result<Settings> {
    with_variables(set, Settings::read)
}

/// The device of [`DEVICE`] with other variables; an empty value stands for a variable that is not set.
fn changed<'s>(changes: &Set<'s>) -> Vec<(&'s str, &'s str)> {
    let mut set: BTreeMap<_, _> = DEVICE.into_iter().collect();
    for (name, value) in changes {
        match value.is_empty() {
            true => set.remove(name),
            false => set.insert(name, value),
        };
    }
    set.into_iter().collect()
}

#[test]
fn a_key_a_group_key_or_a_certificate_is_the_credential() {
    let Settings { id_scope, endpoint, ca_file, way, source } = settings(&DEVICE).unwrap();
    assert_eq!((id_scope.as_str(), ca_file, way), ("0ne00111111", None, Way::Auto));
    assert_eq!((endpoint.host(), endpoint.port()), ("global.azure-devices-provisioning.net", None));
    let Source::Key(id, key) = source else { panic!("{source:?}") };
    assert_eq!((id.as_str(), key), ("sensor-042", KEY.parse().unwrap()));

    let group = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let source = settings(&changed(&[("DPS_KEY", ""), ("DPS_GROUP_KEY", group)])).unwrap().source;
    let Source::GroupKey(id, of) = &source else { panic!("{source:?}") };
    assert_eq!(of.derive(id), KEY.parse().unwrap());
    let credential = credential(source).unwrap();
    assert_eq!(
        (credential.registration_id().as_str(), credential.kind()),
        ("sensor-042", CredentialKind::SymmetricKey)
    );

    let files = [("DPS_KEY", ""), ("DPS_CERT_FILE", "/c.pem"), ("DPS_KEY_FILE", "/k.pem")];
    for id in ["", "sensor-042"] {
        let set = changed(&[&files[..], &[("DPS_REGISTRATION_ID", id)]].concat());
        let source = settings(&set).unwrap().source;
        let Source::Certificate { id: given, chain, key } = source else { panic!("{source:?}") };
        assert_eq!(given.map(|id| id.to_string()).unwrap_or_default(), id);
        assert_eq!((chain.to_str(), key.to_str()), (Some("/c.pem"), Some("/k.pem")));
    }
}

#[test]
fn everything_that_is_missing_is_named_at_once() {
    let credential = "one of DPS_KEY, DPS_GROUP_KEY, or DPS_CERT_FILE with DPS_KEY_FILE";
    for (unset, named) in [
        (&["DPS_ID_SCOPE"][..], "DPS_ID_SCOPE".to_owned()),
        (&["DPS_REGISTRATION_ID"], "DPS_REGISTRATION_ID".to_owned()),
        (&["DPS_KEY"], credential.to_owned()),
        (
            &["DPS_ID_SCOPE", "DPS_REGISTRATION_ID", "DPS_KEY"],
            format!("DPS_ID_SCOPE, and DPS_REGISTRATION_ID, and {credential}"),
        ),
    ] {
        let unset: Vec<_> = unset.iter().map(|name| (*name, "")).collect();
        let error = settings(&changed(&unset)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert_eq!(error.to_string(), format!("the environment does not describe a device: set {named}"));
    }
    let files = [("DPS_ID_SCOPE", ""), ("DPS_REGISTRATION_ID", ""), ("DPS_KEY", "")];
    let files = [&files[..], &[("DPS_CERT_FILE", "/c"), ("DPS_KEY_FILE", "/k")]].concat();
    let error = settings(&changed(&files)).unwrap_err();
    assert!(error.to_string().ends_with("a device: set DPS_ID_SCOPE"), "{error}");
}

#[test]
fn two_credentials_and_half_of_one_are_refused_by_their_names() {
    for (changes, part) in [
        (&[("DPS_GROUP_KEY", KEY)][..], "more than one credential, in DPS_KEY, DPS_GROUP_KEY:"),
        (&[("DPS_CERT_FILE", "/c")], "in DPS_KEY, DPS_CERT_FILE:"),
        (&[("DPS_KEY_FILE", "/k")], "in DPS_KEY, DPS_KEY_FILE:"),
        (
            &[("DPS_CERT_FILE", "/c"), ("DPS_KEY_FILE", "/k"), ("DPS_GROUP_KEY", KEY)],
            "in DPS_KEY, DPS_GROUP_KEY, DPS_CERT_FILE, DPS_KEY_FILE:",
        ),
        (&[("DPS_KEY", ""), ("DPS_CERT_FILE", "/c")], "DPS_CERT_FILE is set without DPS_KEY_FILE"),
        (&[("DPS_KEY", ""), ("DPS_KEY_FILE", "/k")], "DPS_KEY_FILE is set without DPS_CERT_FILE"),
    ] {
        let error = settings(&changed(changes)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn a_value_that_cannot_be_used_is_named_and_not_shown() {
    for (name, value, part) in [
        ("DPS_ID_SCOPE", "marker scope", "cannot be used: the ID scope has the character ' '"),
        ("DPS_REGISTRATION_ID", "marker/1", "cannot be used: the registration id has the character '/'"),
        ("DPS_KEY", "marker!", "cannot be used: the key is not base64"),
        ("DPS_ENDPOINT", "https://marker", "cannot be used: the endpoint is not a host name"),
        (
            "DPS_TRANSPORT",
            "marker",
            "cannot be used: the transports are auto, https, mqtt, mqtt-ws, amqp, amqp-ws",
        ),
        ("DPS_CA_FILE", "", "is empty"),
        ("DPS_TRANSPORT", " ", "is empty"),
        ("DPS_KEY", "", "is empty"),
    ] {
        let mut set: BTreeMap<_, _> = DEVICE.into_iter().collect();
        set.insert(name, value);
        let error = settings(&Vec::from_iter(set)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        let shown = error.to_string();
        assert!(shown.starts_with(&format!("the environment variable {name} {part}")), "{shown}");
        assert!(!format!("{error:?} {error:#?}").contains("marker"), "{error:?}");
    }
}

#[test]
fn the_settings_show_no_secret() {
    let shown = format!("{:?} {:?}", settings(&DEVICE), with_variables(&DEVICE, device));
    assert!(shown.contains("sensor-042") && !shown.contains(KEY), "{shown}");
}

#[test]
fn files_that_cannot_be_used_are_named_with_their_variables() {
    let files = [("DPS_KEY", ""), ("DPS_CERT_FILE", "/nowhere/c.pem"), ("DPS_KEY_FILE", "/nowhere/k.pem")];
    let error = with_variables(&changed(&files), device).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credential);
    let shown = error.to_string();
    assert!(shown.starts_with("the environment variables DPS_CERT_FILE and DPS_KEY_FILE cannot be used: "));
    assert!(shown.contains("/nowhere/c.pem cannot be read"), "{shown}");

    let error = with_variables(&changed(&[("DPS_CA_FILE", "/nowhere/ca.pem")]), device).unwrap_err();
    assert!(error.to_string().contains("/nowhere/ca.pem of the environment variable DPS_CA_FILE"), "{error}");
}

#[cfg(all(feature = "amqp", feature = "https", feature = "mqtt", feature = "ws"))]
#[test]
fn the_port_of_the_endpoint_is_the_port_of_the_transport() {
    for (name, default) in
        [("https", 443), ("mqtt", 8883), ("MQTT-WS", 443), ("amqp", 5671), ("amqp-ws", 443)]
    {
        for (endpoint, port) in [("dps.example", default), ("dps.example:9", 9)] {
            let set = changed(&[("DPS_TRANSPORT", name), ("DPS_ENDPOINT", endpoint)]);
            let (_, _, transport) = with_variables(&set, device).unwrap();
            assert_eq!((transport.host(), transport.port()), (Some("dps.example"), Some(port)), "{name}");
            assert!(transport.name().is_some_and(|is| is.eq_ignore_ascii_case(name)), "{transport:?}");
        }
    }
}

#[cfg(all(feature = "https", feature = "mqtt", feature = "ws"))]
#[test]
fn auto_leaves_mqtt_out_when_the_endpoint_has_a_port() {
    for (endpoint, members) in [("dps.example", 3), ("dps.example:9", 2)] {
        let (_, _, transport) = with_variables(&changed(&[("DPS_ENDPOINT", endpoint)]), device).unwrap();
        let shown = format!("{transport:?}");
        assert!(shown.starts_with("Auto"), "{shown}");
        assert_eq!(shown.matches("dps.example").count(), members, "{shown}");
    }
}

#[cfg(not(feature = "amqp"))]
#[test]
fn a_transport_that_was_left_out_names_the_feature() {
    let error = with_variables(&changed(&[("DPS_TRANSPORT", "amqp-ws")]), device).unwrap_err();
    assert!(error.to_string().contains("enable the features `amqp` and `ws` of azure-dps-device"), "{error}");
}
