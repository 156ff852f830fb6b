//! Attestation: finds the enrollment that a device proves to belong to. [`x509`] judges certificates, [`tpm`]
//! judges TPMs, and this table symmetric keys:
//!
//! | individual enrollment | group | outcome |
//! | --- | --- | --- |
//! | symmetric key, signature matches | ignored | the individual enrollment |
//! | symmetric key, signature does not match | ignored | 401002 |
//! | TPM, over a protocol with challenges | ignored | the challenge decides |
//! | not TPM, and the token answers a challenge | ignored | 401002, or 404201 without an enrollment |
//! | another attestation type | ignored | 401002 |
//! | absent | the signature matches a key derived from its keys | that group; the first by id |
//! | absent | symmetric-key groups exist, none matches | 401002: wrong key and unknown device look the same |
//! | absent | no symmetric-key group | 404201 |
//!
//! A disabled enrollment matches like an enabled one; the registration is refused later.

pub(crate) mod grounds;
pub(crate) mod recent;
pub(crate) mod tpm;
mod x509;

pub(crate) use x509::by_certificate;

use crate::attest::grounds::{Grounds, Match};
use crate::attest::tpm::Challenges;
use crate::crypto::key::{self, PreparedKey};
use crate::crypto::sas::Token;
use crate::ids;
use crate::records::attestation::Attestation;
use crate::records::enrollments::Enrollment;
use crate::records::proof::{Proof, Via};
use crate::refusal::Refusal;

/// Finds the enrollment by the registration id and the key of a token that is valid in all other respects.
///
/// `challenges` is `Some` over the protocols with which TPMs can sign in.
pub(crate) fn by_token<'a>(
    registration_id: &str,
    token: &Token,
    grounds: &Grounds<'a>,
    challenges: Option<&mut Challenges>,
) -> Result<Match<'a>, Refusal> {
    let enrollment = grounds.individuals.find(registration_id);
    if challenges.as_ref().is_some_and(|challenges| challenges.signed(registration_id, token)) {
        match enrollment.map(|enrollment| &enrollment.attestation) {
            Some(Attestation::Tpm(_)) => {}
            Some(other) => {
                let word = other.word();
                let cause = format!(
                    "the token answers a TPM challenge, but enrollment {registration_id} is for {word} now"
                );
                return Err(Refusal::wrong_key(cause));
            }
            None => {
                let cause = format!(
                    "the token answers a TPM challenge, but individual enrollment {registration_id} \
                     was deleted"
                );
                return Err(Refusal::not_found(cause));
            }
        }
    }
    if let Some(enrollment) = enrollment {
        return match (&enrollment.attestation, challenges) {
            (Attestation::Tpm(tpm), Some(challenges)) => {
                let proven = challenges.answer(&enrollment.id, &tpm.endorsement_key, token, grounds.now)?;
                let (via, proof) = (Via::Individual, Proof::Tpm(proven));
                Ok(Match { enrollment, via, proof, warning: None })
            }
            _ => by_own_key(enrollment, token),
        };
    }
    if let Some((group, derived)) = by_group_key(registration_id, token, grounds) {
        return Ok(derived_match(group, &derived));
    }
    let tried = grounds.groups.index().keys.groups();
    if tried == 0 {
        let cause =
            format!("{registration_id} has no individual enrollment, and no group has symmetric keys");
        return Err(Refusal::not_found(cause));
    }
    Err(Refusal::wrong_key(format!(
        "{registration_id} has no individual enrollment, and the signature does not match a key \
         derived from a group with symmetric keys ({tried} tried)"
    )))
}

fn by_own_key<'a>(enrollment: &'a Enrollment, token: &Token) -> Result<Match<'a>, Refusal> {
    let id = &enrollment.id;
    match &enrollment.attestation {
        Attestation::SymmetricKey { primary, secondary } => {
            if token.is_signed_by(primary) || token.is_signed_by(secondary) {
                return Ok(with_keys(enrollment, Via::Individual, [primary.clone(), secondary.clone()]));
            }
            let cause =
                format!("signature matches neither the primary nor the secondary key of enrollment {id}");
            Err(Refusal::wrong_key(cause))
        }
        other => {
            let cause =
                format!("enrollment {id} is for attestation by {}, not by symmetric key", other.word());
            Err(Refusal::wrong_key(cause))
        }
    }
}

fn with_keys(enrollment: &Enrollment, via: Via, [primary, secondary]: [Vec<u8>; 2]) -> Match<'_> {
    Match { enrollment, via, proof: Proof::SymmetricKey { primary, secondary }, warning: None }
}

/// The group from one of whose keys the token's key is derived, and the form of the registration id from
/// which it is.
///
/// Clients derive keys from the id as they send it. It is not documented whether the service converts it to
/// lower case.
fn by_group_key<'a>(
    registration_id: &str,
    token: &Token,
    grounds: &Grounds<'a>,
) -> Option<(&'a Enrollment, String)> {
    let lower = Some(ids::key(registration_id)).filter(|lower| lower != registration_id);
    let forms = [Some(registration_id), lower.as_deref()];
    let form_of = |key: &PreparedKey| {
        forms.into_iter().flatten().find(|form| key.derive(form).is_some_and(|key| token.is_signed_by(&key)))
    };
    let likely = grounds.likely().filter_map(Attestation::keys).flatten();
    let (group, key) = grounds.groups.index().keys.first_with(likely, |key| form_of(key).is_some())?;
    Some((grounds.groups.find(group)?, form_of(key)?.to_owned()))
}

fn derived_match<'a>(group: &'a Enrollment, derived_from: &str) -> Match<'a> {
    let keys = group.attestation.keys().map(|keys| keys.map(|key| key::derive(key, derived_from)));
    let warning = derived_from.contains(|c: char| c.is_ascii_uppercase()).then(|| {
        format!(
            "the key is derived from {derived_from} with its capital letters, and it is not documented that \
             the service accepts that: derive keys from the registration id in lower case"
        )
    });
    Match { warning, ..with_keys(group, Via::Group(group.id.clone()), keys.unwrap_or_default()) }
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, Engine};
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;
    use time::OffsetDateTime;

    use super::*;
    use crate::call::kind::Kind;
    use crate::crypto::sas;
    use crate::ids::Ids;
    use crate::json::json;
    use crate::records::authorities::Authorities;
    use crate::records::enrollments::{Enrolling, Enrollments};

    /// Creates, replaces or deletes the group with this number, with two of [`KEYS`].
    type Step = (usize, Option<(usize, usize)>);

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_index_of_keys_finds_the_group_that_a_search_finds(
            steps in vec((0..6_usize, option::of((0..6_usize, 0..6_usize))), 0..14),
            likely in vec(0..6_usize, 0..3),
            key in 0..6_usize,
            device in prop::sample::select(vec!["unit-7", "Unit-7"]),
            in_lower_case: bool,
        ) {
            let groups = groups(&steps);
            let form = if in_lower_case { device.to_ascii_lowercase() } else { device.to_owned() };
            let token = token(device, &key::derive(KEYS[key], &form));
            let grounds = Grounds {
                individuals: &Enrollments::new(Kind::Individual),
                groups: &groups,
                authorities: &Authorities::default(),
                require_verified_ca: false,
                likely: likely.into_iter().map(group_id).collect(),
                now: OffsetDateTime::UNIX_EPOCH,
            };
            let searched = searched(device, &token, &groups);

            let found = by_group_key(device, &token, &grounds).map(|(group, form)| (group.id.clone(), form));

            prop_assert_eq!(&found, &searched);
            let code = by_token(device, &token, &grounds, None).err().map(|refusal| refusal.code);
            let wanted = match (searched, groups.iter().count()) {
                (Some(_), _) => None,
                (None, 0) => Some(404_201),
                (None, _) => Some(401_002),
            };
            prop_assert_eq!(code, wanted);
            prop_assert_eq!(groups.index().keys.groups(), groups.iter().count());
        }
    }

    /// Tries the keys of all groups in the order of the ids.
    fn searched(device: &str, token: &Token, groups: &Enrollments) -> Option<(String, String)> {
        groups.iter().find_map(|group| {
            let keys = group.attestation.keys()?;
            let forms = [device.to_owned(), device.to_ascii_lowercase()];
            let derived = |form: &String| keys.iter().any(|key| token.is_signed_by(&key::derive(key, form)));
            Some((group.id.clone(), forms.into_iter().find(derived)?))
        })
    }

    fn groups(steps: &[Step]) -> Enrollments {
        let (mut groups, mut ids) = (Enrollments::new(Kind::Group), Ids::default());
        for (number, keys) in steps {
            let id = group_id(*number);
            let exists = groups.find(&id).is_some();
            let Some((primary, secondary)) = keys else {
                assert_eq!(groups.delete(&id, None).is_ok(), exists);
                continue;
            };
            let [primary, secondary] = [primary, secondary].map(|key| BASE64_STANDARD.encode(KEYS[*key]));
            let keys = json!({"primaryKey": primary, "secondaryKey": secondary});
            let attestation = json!({"type": "symmetricKey", "symmetricKey": keys});
            let members = json!({"enrollmentGroupId": id, "attestation": attestation});
            let (members, tag) = (members.as_object().unwrap().clone(), exists.then_some("*"));
            let now = OffsetDateTime::UNIX_EPOCH;
            groups.put(&id, members, tag, &Enrolling::default(), &mut ids, now).unwrap();
        }
        groups
    }

    fn group_id(number: usize) -> String {
        ["Plant-1", "a", "b", "line", "plant-2", "Z"][number].to_owned()
    }

    fn token(device: &str, key: &[u8]) -> Token {
        let (resource, expiry) = (format!("0ne00111111%2Fregistrations%2F{device}"), 4_000_000_000_u64);
        let signed = key::hmac(key, &[resource.as_bytes(), b"\n", expiry.to_string().as_bytes()]);
        let signature = BASE64_STANDARD.encode(signed).replace('+', "%2B");
        let text = format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}");
        sas::device_token(Some(&text), "0ne00111111", device, OffsetDateTime::UNIX_EPOCH).unwrap()
    }

    /// HMAC takes the first three for the same key, and the others for different ones.
    const KEYS: [&[u8]; 6] = [
        b"0123456789abcdef",
        b"0123456789abcdef\0",
        b"0123456789abcdef\0\0\0\0",
        b"0123456789abcdef\0\x01",
        b"fedcba9876543210fedcba9876543210",
        b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    ];
}
