//! The api-version of a client: its text, and the members of enrollments that it does not know. Pure.
//!
//! [`ApiVersion`] says which versions know the members for certificates. The service's answer to a member
//! that the version of the request does not know is not documented. If the service ignored the member,
//! devices would register and get no certificates. So the client does not send it.

use azure_dps_core::models::ApiVersion;
use azure_dps_core::{Error, ErrorKind, Result};

use crate::resource::Enrollment;

/// Refuses an enrollment with a member that the version does not know.
pub(crate) fn check_members<R: Enrollment>(version: &ApiVersion, enrollment: &R) -> Result<()> {
    match enrollment.certificate_members().into_iter().find(|member| !is_known(version, member)) {
        Some(member) => Err(unknown(version, enrollment.id(), member)),
        None => Ok(()),
    }
}

/// Refuses a text that would change the query of a request or end its line.
pub(crate) fn check_text(version: &ApiVersion) -> Result<()> {
    let text = version.as_str();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) {
        return Ok(());
    }
    // The text may be a key by mistake.
    let message = "the text cannot be an api-version: it is a date, such as 2026-11-01 or 2026-11-02-preview";
    Err(Error::new(ErrorKind::Config, message))
}

fn is_known(version: &ApiVersion, member: &str) -> bool {
    match member {
        CREDENTIAL_POLICY => version.has_credential_policies(),
        _ => version.has_certificate_policies(),
    }
}

fn unknown(version: &ApiVersion, id: &str, member: &str) -> Error {
    let needed = if member == CREDENTIAL_POLICY { "V2025_07_01Preview" } else { "V2026_11_01" };
    let message = format!(
        "the enrollment {id:?} has `{member}`, which api-version {version} of this client does not know: \
         create the client with `ServiceClientBuilder::api_version(ApiVersion::{needed})`, or remove the \
         member"
    );
    Error::new(ErrorKind::Config, message)
}

/// The member of the preview; all others belong to 2026-11-01.
const CREDENTIAL_POLICY: &str = "credentialPolicyName";

#[cfg(test)]
mod tests {
    use azure_dps_core::models::{AttestationMechanism, EnrollmentGroup, IndividualEnrollment};

    use super::*;

    fn plain() -> IndividualEnrollment {
        IndividualEnrollment::new("sensor-042", AttestationMechanism::symmetric_key_generated())
    }

    fn refusal(version: &str, enrollment: &IndividualEnrollment) -> Option<String> {
        check_members(&version.into(), enrollment).err().map(|error| {
            assert_eq!(error.kind(), ErrorKind::Config);
            error.to_string()
        })
    }

    #[test]
    fn a_certificate_policy_needs_2026_11_01_or_later() {
        let enrollment = plain().with_certificate_policy("plants", "berlin", "thirty-days");
        for version in ["2026-11-01", "2026-11-02-preview", "2027-05-01", "later"] {
            assert_eq!(refusal(version, &enrollment), None, "{version}");
        }
        for version in ["2018-04-01", "2021-10-01", "2025-07-01-preview", "2026-07-01-preview"] {
            let why = refusal(version, &enrollment).unwrap();
            for part in ["\"sensor-042\"", "`namespaceName`", version, "ApiVersion::V2026_11_01"] {
                assert!(why.contains(part), "{why}");
            }
        }
    }

    #[test]
    fn each_member_of_a_certificate_policy_counts() {
        let mut one = plain();
        one.certificate_policy_name = Some("p".to_owned());
        assert!(refusal("2021-10-01", &one).unwrap().contains("`certificatePolicyName`"));
        let mut group = EnrollmentGroup::new("g", AttestationMechanism::symmetric_key_generated());
        group.certificate_authority_name = Some("a".to_owned());
        assert!(check_members(&ApiVersion::V2021_10_01, &group).is_err());
        assert!(check_members(&ApiVersion::V2026_11_01, &group).is_ok());
    }

    #[test]
    fn a_credential_policy_needs_the_preview() {
        let enrollment = plain().with_credential_policy("preview");
        for version in ["2025-07-01-preview", "2026-04-01", "later"] {
            assert_eq!(refusal(version, &enrollment), None, "{version}");
        }
        for version in ["2021-10-01", "2026-07-01-preview", "2026-11-01", "2026-11-02-preview"] {
            let why = refusal(version, &enrollment).unwrap();
            assert!(why.contains("`credentialPolicyName`") && why.contains("V2025_07_01Preview"), "{why}");
        }
    }

    #[test]
    fn every_version_knows_an_enrollment_without_a_policy() {
        for version in ["2018-04-01", "2021-10-01", "2026-11-01", "x"] {
            assert_eq!(refusal(version, &plain()), None);
        }
    }

    #[test]
    fn a_version_that_would_change_the_request_is_refused() {
        for text in ["2021-10-01", "2026-11-02-preview", "v1.2_x"] {
            assert!(check_text(&text.into()).is_ok(), "{text}");
        }
        for text in ["", "2021-10-01&x=1", "2021-10-01 ", "2021\r\n", "a#b", "\u{fc}"] {
            assert_eq!(check_text(&text.into()).unwrap_err().kind(), ErrorKind::Config, "{text:?}");
        }
    }
}
