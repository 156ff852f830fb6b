//! Which api-versions know a member that is not in all of them.
//!
//! Api-versions begin with their date, so they are compared as texts.

use crate::call::schema::Strictness;
use crate::json::Map;

/// Returns whether an api-version knows a member of a body.
pub(crate) fn knows(api_version: &str, member: &str) -> bool {
    match span(member) {
        Some((from, until)) => api_version >= from && until.is_none_or(|until| api_version < until),
        None => true,
    }
}

/// Refuses the members that the api-version does not know; a loose emulator removes them instead and returns
/// their names.
pub(crate) fn check(
    members: &mut Map,
    api_version: &str,
    strictness: Strictness,
) -> Result<Vec<&'static str>, String> {
    let mut removed = Vec::new();
    for (member, from, until) in MEMBERS {
        let is_given = members.get(member).is_some_and(|value| !value.is_null());
        if !is_given || knows(api_version, member) {
            continue;
        }
        if strictness == Strictness::Strict {
            let until = until.map_or_else(|| " on".to_owned(), |until| format!(" to before {until}"));
            return Err(format!(
                "api-version {api_version} does not know {member}: it is known from {from}{until}"
            ));
        }
        members.remove(member);
        removed.push(*member);
    }
    Ok(removed)
}

/// The warning about removed members, if there are any.
pub(crate) fn ignored(removed: &[&str], api_version: &str) -> Option<String> {
    let names = removed.join(", ");
    (!removed.is_empty())
        .then(|| format!("ignored, because api-version {api_version} does not know it: {names}"))
}

fn span(member: &str) -> Option<(&'static str, Option<&'static str>)> {
    MEMBERS.iter().find(|(known, ..)| *known == member).map(|(_, from, until)| (*from, *until))
}

/// The member, the first date of the api-versions that know it, and the date from which they do not.
const MEMBERS: &[(&str, &str, Option<&str>)] = &[
    ("csr", "2025-07-01", None),
    ("issuedCertificateChain", "2025-07-01", None),
    ("credentialPolicyName", "2025-07-01", Some("2026-07-01")),
    ("certificatePolicyResourceId", "2026-07-01", Some("2026-11-01")),
    ("namespaceName", "2026-11-01", None),
    ("certificateAuthorityName", "2026-11-01", None),
    ("certificatePolicyName", "2026-11-01", None),
    ("connectionProfile", "2026-11-02", None),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;

    #[test]
    fn members_come_and_go_with_api_versions() {
        for (member, known, unknown) in [
            (
                "csr",
                &["2025-07-01-preview", "2026-04-01", "2026-11-01"][..],
                &["2021-10-01", "2021-11-01-preview"][..],
            ),
            ("credentialPolicyName", &["2025-07-01-preview", "2026-04-01"], &["2021-10-01", "2026-11-01"]),
            (
                "namespaceName",
                &["2026-11-01", "2026-11-02-preview"],
                &["2025-07-01-preview", "2026-07-01-preview"],
            ),
            ("connectionProfile", &["2026-11-02-preview"], &["2026-11-01", "2021-10-01"]),
            ("payload", &["2018-04-01", "2026-11-01"], &[]),
        ] {
            assert!(known.iter().all(|version| knows(version, member)), "{member}");
            assert!(!unknown.iter().any(|version| knows(version, member)), "{member}");
        }
    }

    #[test]
    fn a_member_of_another_version_is_refused_or_removed() {
        let given = json!({"csr": "a", "namespaceName": null, "payload": 1});
        let mut members = given.as_object().unwrap().clone();

        let refused = check(&mut members, "2021-10-01", Strictness::Strict).unwrap_err();
        assert_eq!(refused, "api-version 2021-10-01 does not know csr: it is known from 2025-07-01 on");
        assert_eq!(check(&mut members, "2021-10-01", Strictness::Loose), Ok(vec!["csr"]));
        assert!(!members.contains_key("csr") && members.contains_key("payload"));
        let mut members = json!({"credentialPolicyName": "a"}).as_object().unwrap().clone();
        let refused = check(&mut members, "2026-11-01", Strictness::Strict).unwrap_err();
        assert!(refused.ends_with("known from 2025-07-01 to before 2026-07-01"), "{refused}");
        assert_eq!(check(&mut members, "2025-07-01-preview", Strictness::Strict), Ok(vec![]));
    }
}
