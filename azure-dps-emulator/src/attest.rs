//! Which enrollment a device proves to belong to. By certificate: [`x509`]. By TPM: [`tpm`]. By symmetric key:
//!
//! | individual enrollment | group | outcome |
//! | --- | --- | --- |
//! | symmetric key, key fits | not looked at | the individual enrollment |
//! | symmetric key, key does not fit | not looked at | 401002 |
//! | TPM, where TPMs have a way in | not looked at | the challenge decides |
//! | not TPM, and the token answers a challenge | not looked at | 401002, or 404201 without an enrollment |
//! | another attestation type | not looked at | 401002 |
//! | none | the key derived from one of its keys fits | that group; the first by id |
//! | none | symmetric-key groups exist, none fits | 401002: a wrong key and an unknown device look the same |
//! | none | no symmetric-key group | 404201 |
//!
//! A disabled enrollment matches like an enabled one and refuses later.

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

/// Finds the enrollment by the id and the key of a token that is right in everything else.
///
/// `challenges` are there where TPMs have a way in.
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
                let cause =
                    format!("the TPM of {registration_id} has a token, and its enrollment is for {word} now");
                return Err(Refusal::wrong_key(cause));
            }
            None => {
                let cause = format!(
                    "the TPM of {registration_id} has a token, and its individual enrollment is gone"
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
                    "the key is derived from {id} with its capitals; that the service takes it is not documented: derive \
                     keys from the registration id in lower case"
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
        "{registration_id} has no individual enrollment, and the signature fits no key derived from the groups \
         with symmetric keys ({tried} tried)"
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

/// The form of the id from which, with one of the keys of a group, the key of a token is derived.
///
/// Clients derive from the id as they send it; whether the service lower-cases it first is not documented.
fn derived_from(registration_id: &str, token: &Token, group_keys: [&Vec<u8>; 2]) -> Option<String> {
    let forms = [registration_id.to_owned(), registration_id.to_ascii_lowercase()];
    forms.into_iter().find(|id| group_keys.iter().any(|key| token.is_signed_by(&key::derive(key, id))))
}
