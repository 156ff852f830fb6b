//! The versions of the service API and the device API, as in the `api-version` parameter.

use crate::open_enum::open_enum;

open_enum! {
    /// A version of the service or device API.
    ///
    /// Both clients of this crate family send [`ApiVersion::DEFAULT`] unless you set another one. Write other
    /// versions as text: `ApiVersion::from("2026-11-02-preview")`.
    ///
    /// Source: Azure REST API specifications, deviceprovisioningservices data plane; Microsoft's clients send
    /// the older versions.
    pub enum ApiVersion {
        /// `2018-04-01`: the first generally available version. Without a policy, the service never moves a
        /// device to another hub.
        V2018_04_01 = "2018-04-01",
        /// `2018-09-01-preview`: symmetric keys, custom allocation, re-provisioning.
        V2018_09_01Preview = "2018-09-01-preview",
        /// `2018-11-01`: symmetric keys generally available.
        V2018_11_01 = "2018-11-01",
        /// `2019-03-31`: payloads. The version that most device clients send.
        V2019_03_31 = "2019-03-31",
        /// `2021-06-01`: no difference for devices.
        V2021_06_01 = "2021-06-01",
        /// `2021-10-01`: the version that the models of this crate describe, and the default.
        V2021_10_01 = "2021-10-01",
        /// `2025-07-01-preview`: certificate signing requests.
        V2025_07_01Preview = "2025-07-01-preview",
        /// `2026-11-01`: certificate signing requests, certificate policies.
        V2026_11_01 = "2026-11-01",
    }
}

impl ApiVersion {
    /// The default version, `2021-10-01`.
    pub const DEFAULT: Self = Self::V2021_10_01;
}

impl Default for ApiVersion {
    /// [`ApiVersion::DEFAULT`].
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_is_2021_10_01() {
        assert_eq!(ApiVersion::default().as_str(), "2021-10-01");
    }

    #[test]
    fn unknown_version_is_sent_as_written() {
        assert_eq!(ApiVersion::from("2026-11-02-preview").to_string(), "2026-11-02-preview");
    }
}
