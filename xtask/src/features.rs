//! The named feature sets: how cargo selects each, and which packages it must not depend on.

use crate::tools;
use crate::workspace::Workspace;

/// A selection of packages and features that must compile alone.
pub(crate) struct FeatureSet {
    pub(crate) name: &'static str,
    /// The arguments that select it.
    pub(crate) select: &'static [&'static str],
    /// Packages that must not be among its normal dependencies, on any platform.
    pub(crate) without: &'static [&'static str],
}

impl FeatureSet {
    /// Whether it compiles only where libtss2 is installed.
    pub(crate) fn has_tpm(&self) -> bool {
        ["tpm", "--workspace"].iter().any(|word| self.select.contains(word))
    }
}

pub(crate) const FEATURE_SETS: [FeatureSet; 19] = [
    FeatureSet {
        name: "core",
        select: &["--package", "azure-dps-core", "--no-default-features"],
        without: &["tokio", "hyper", "reqwest", "rustls"],
    },
    FeatureSet {
        name: "core-http",
        select: &["--package", "azure-dps-core", "--no-default-features", "--features", "http"],
        without: FOREIGN_TLS,
    },
    FeatureSet {
        name: "device-bare",
        select: &["--package", "azure-dps-device", "--no-default-features"],
        without: &["hyper", "reqwest", "rustls"],
    },
    FeatureSet {
        name: "device-https",
        select: &["--package", "azure-dps-device", "--no-default-features", "--features", "https"],
        without: &["azure-dps-service", "azure-dps-emulator", "rcgen"],
    },
    FeatureSet {
        name: "device-mqtt",
        select: &["--package", "azure-dps-device", "--no-default-features", "--features", "mqtt"],
        without: &["hyper", "reqwest", "tokio-websockets"],
    },
    FeatureSet {
        name: "device-manager",
        select: &["--package", "azure-dps-device", "--no-default-features", "--features", "manager"],
        without: &["hyper", "reqwest", "rumqttc", "tokio-websockets"],
    },
    FeatureSet {
        name: "device-ws",
        select: &["--package", "azure-dps-device", "--no-default-features", "--features", "ws"],
        without: &["hyper", "reqwest"],
    },
    FeatureSet {
        name: "device-amqp",
        select: &["--package", "azure-dps-device", "--no-default-features", "--features", "amqp"],
        without: &["hyper", "reqwest", "rumqttc", "tokio-websockets"],
    },
    FeatureSet {
        name: "device-amqp-ws",
        select: &["--package", "azure-dps-device", "--no-default-features", "--features", "amqp,ws"],
        without: &["hyper", "reqwest", "rumqttc"],
    },
    FeatureSet {
        name: "device-csr",
        select: &["--package", "azure-dps-device", "--no-default-features", "--features", "csr"],
        without: &["aws-lc-rs", "openssl", "pem", "hyper", "reqwest"],
    },
    FeatureSet {
        name: "device-hub",
        select: &["--package", "azure-dps-device", "--no-default-features", "--features", "hub"],
        without: &["hyper", "reqwest", "rumqttc", "tokio-websockets"],
    },
    FeatureSet {
        name: "device-hub-ws",
        select: &["--package", "azure-dps-device", "--no-default-features", "--features", "hub,ws"],
        without: &["hyper", "reqwest", "rumqttc"],
    },
    FeatureSet {
        name: "service-webhook",
        select: &["--package", "azure-dps-service", "--no-default-features"],
        without: &["azure-dps-device", "azure-dps-emulator", "tokio", "hyper", "reqwest", "rustls"],
    },
    FeatureSet {
        name: "service",
        select: &["--package", "azure-dps-service", "--no-default-features", "--features", "client"],
        without: &["azure-dps-device", "azure-dps-emulator", "azure_core"],
    },
    FeatureSet {
        name: "service-entra",
        select: &["--package", "azure-dps-service", "--no-default-features", "--features", "entra"],
        without: FOREIGN_TLS,
    },
    FeatureSet {
        name: "emulator",
        select: &["--package", "azure-dps-emulator", "--all-features"],
        without: &["azure-dps-core", "azure-dps-service", "azure-dps-device"],
    },
    FeatureSet {
        name: "emulator-library",
        select: &["--package", "azure-dps-emulator", "--no-default-features"],
        without: &["clap", "clap_complete", "tracing-subscriber", "signal-hook-registry"],
    },
    FeatureSet {
        name: "device-tpm",
        select: &["--package", "azure-dps-device", "--no-default-features", "--features", "tpm"],
        without: &["hyper", "reqwest", "rustls"],
    },
    FeatureSet { name: "everything", select: &["--workspace", "--all-features"], without: FOREIGN_TLS },
];

/// The arguments that select everything this machine can build: without libtss2, everything except the TPM.
pub(crate) fn all(workspace: &Workspace) -> &'static [&'static str] {
    if tools::tpm(workspace) { &["--all-features"] } else { &[] }
}

/// Every connection is rustls on ring. deny.toml bans these among build and test dependencies too.
const FOREIGN_TLS: &[&str] = &["aws-lc-rs", "aws-lc-sys", "native-tls", "openssl", "openssl-sys"];
