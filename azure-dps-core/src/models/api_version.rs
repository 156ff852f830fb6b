//! The versions of the service API and the device API, as in the `api-version` parameter.

use crate::open_enum::open_enum;

open_enum! {
    /// A version of the service or device API.
    ///
    /// Both clients of this crate family send [`ApiVersion::DEFAULT`] unless you set another one. Write other
    /// versions as text: `ApiVersion::from("2027-05-01")`.
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
        /// `2021-10-01`: the default.
        V2021_10_01 = "2021-10-01",
        /// `2025-07-01-preview`: certificate signing requests, `credentialPolicyName` on enrollments.
        V2025_07_01Preview = "2025-07-01-preview",
        /// `2026-11-01`: certificate signing requests; certificate policies on enrollments in place of
        /// `credentialPolicyName`.
        V2026_11_01 = "2026-11-01",
        /// `2026-11-02-preview`: as 2026-11-01, and `connectionProfile` in registration states.
        V2026_11_02Preview = "2026-11-02-preview",
    }
}

impl ApiVersion {
    /// The default version, `2021-10-01`.
    pub const DEFAULT: Self = Self::V2021_10_01;

    /// Whether registrations of this version may have a certificate signing request: from
    /// `2025-07-01-preview` on. True for a text that does not begin with a date.
    pub fn has_certificate_requests(&self) -> bool {
        self.date().is_none_or(|date| date >= "2025-07-01")
    }

    /// Whether enrollments of this version may name a certificate policy: from `2026-11-01` on. True for a
    /// text that does not begin with a date.
    pub fn has_certificate_policies(&self) -> bool {
        self.date().is_none_or(|date| date >= "2026-11-01")
    }

    /// Whether enrollments of this version may name a credential policy: from `2025-07-01-preview` until
    /// `2026-07-01-preview`, which has another member. True for a text that does not begin with a date.
    pub fn has_credential_policies(&self) -> bool {
        self.date().is_none_or(|date| ("2025-07-01".."2026-07-01").contains(&date))
    }

    /// The `YYYY-MM-DD` at the beginning. Dates in this form have the order of their texts.
    fn date(&self) -> Option<&str> {
        let date = self.as_str().get(..10)?;
        let fits = |(at, byte): (usize, u8)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        };
        date.bytes().enumerate().all(fits).then_some(date)
    }
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
    fn the_date_of_a_version_decides_which_policies_its_enrollments_may_name() {
        for (version, certificate, credential) in [
            ("2018-04-01", false, false),
            ("2021-10-01", false, false),
            ("2025-07-01-preview", false, true),
            ("2026-04-01", false, true),
            ("2026-07-01-preview", false, false),
            ("2026-11-01", true, false),
            ("2026-11-02-preview", true, false),
            ("2027-05-01", true, false),
            ("latest", true, true),
            ("2026/11/01", true, true),
            ("", true, true),
        ] {
            let version = ApiVersion::from(version);
            assert_eq!(version.has_certificate_policies(), certificate, "{version}");
            assert_eq!(version.has_credential_policies(), credential, "{version}");
        }
    }

    #[test]
    fn certificate_requests_exist_since_2025_07_01_preview() {
        for (version, has) in [
            ("2018-04-01", false),
            ("2021-10-01", false),
            ("2025-06-30-preview", false),
            ("2025-07-01-preview", true),
            ("2026-11-01", true),
            ("2026-11-02-preview", true),
            ("latest", true),
            ("", true),
            ("2021/10/01", true),
        ] {
            assert_eq!(ApiVersion::from(version).has_certificate_requests(), has, "{version}");
        }
    }

    #[test]
    fn unknown_version_is_sent_as_written() {
        assert_eq!(ApiVersion::from("2027-05-01").to_string(), "2027-05-01");
    }
}
