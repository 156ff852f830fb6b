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
pub(crate) mod tpm;
mod x509;

pub(crate) use x509::by_certificate;

use crate::attest::grounds::{Grounds, Match};
use crate::attest::tpm::Challenges;
use crate::crypto::key;
use crate::crypto::sas::Token;
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
    let mut tried = 0;
    for group in grounds.groups.iter() {
        let Attestation::SymmetricKey { primary, secondary } = &group.attestation else { continue };
        tried += 1;
        if let Some(id) = derived_from(registration_id, token, [primary, secondary]) {
            let keys = [primary, secondary].map(|key| key::derive(key, &id));
            let warning = id.contains(|c: char| c.is_ascii_uppercase()).then(|| {
                format!(
                    "the key is derived from {id} with its capital letters, and it is not documented that \
                     the service accepts that: derive keys from the registration id in lower case"
                )
            });
            let found = with_keys(group, Via::Group(group.id.clone()), keys);
            return Ok(Match { warning, ..found });
        }
    }
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

/// The form of the registration id from which the token's key is derived with one of the group's keys.
///
/// Clients derive keys from the id as they send it. It is not documented whether the service converts it to
/// lower case.
fn derived_from(registration_id: &str, token: &Token, group_keys: [&Vec<u8>; 2]) -> Option<String> {
    let forms = [registration_id.to_owned(), registration_id.to_ascii_lowercase()];
    forms.into_iter().find(|id| group_keys.iter().any(|key| token.is_signed_by(&key::derive(key, id))))
}
