//! The versions of the service and device API, as they stand in the `api-version` parameter.

use crate::open_enum::open_enum;

open_enum! {
    /// A version of the service or device API.
    ///
    /// Both clients of this crate family send [`ApiVersion::DEFAULT`] unless told otherwise. Any other
    /// version is written as text: `ApiVersion::from("2026-11-02-preview")`.
    ///
    /// Source: Azure REST API specifications, deviceprovisioningservices data plane; the older versions are
    /// those that Microsoft's clients send.
    pub enum ApiVersion {
        /// `2018-04-01`: the first generally available version. Devices are never assigned anew without a
        /// policy.
        V2018_04_01 = "2018-04-01",
        /// `2018-09-01-preview`: symmetric keys, custom allocation, re-provisioning.
        V2018_09_01Preview = "2018-09-01-preview",
        /// `2018-11-01`: symmetric keys generally available.
        V2018_11_01 = "2018-11-01",
        /// `2019-03-31`: payloads. The version that most device clients send.
        V2019_03_31 = "2019-03-31",
        /// `2021-06-01`: no difference that a device sees.
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
    /// The version that is sent unless another one is chosen: `2021-10-01`.
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
