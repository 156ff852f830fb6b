//! Attestation by TPM: the keys that a device presents, its challenge, and its answer.
//!
//! | the device | outcome |
//! | --- | --- |
//! | presents the endorsement key of its enrollment, and a storage root key | a challenge sealed to both |
//! | presents another endorsement key, over HTTPS | 401002, or 404201 without an enrollment |
//! | presents another endorsement key, over AMQP | a challenge with a dropped key; refused at the token |
//! | presents keys that cannot be used for a challenge | 400000 |
//! | sends a token signed with the key of its latest challenge | admitted; later tokens with this key too |
//! | sends the first such token after [`LIFETIME`] | 401002 |
//! | sends a token signed with anything else | 401002 |
//!
//! A device has one challenge, which a new one replaces. The behaviour of the service in these cases is not
//! documented, nor is the lifetime of its challenges.

pub(crate) mod saved;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::crypto::key::generate_key;
use crate::crypto::sas::Token;
use crate::crypto::tpm_key::StorageKey;
use crate::ids;
use crate::records::attestation::Attestation;
use crate::records::enrollments::Enrollments;
use crate::records::tpm::{Keys, Proven};
use crate::refusal::Refusal;

/// Compares the keys of a TPM with the enrollment of the device.
pub(crate) fn check_keys(
    presented: &Keys,
    registration_id: &str,
    individuals: &Enrollments,
) -> Result<(), Refusal> {
    let enrollment = individuals.find(registration_id).ok_or_else(|| {
        Refusal::not_found(format!(
            "{registration_id} has no individual enrollment, and groups cannot attest TPMs"
        ))
    })?;
    let id = &enrollment.id;
    let enrolled = match &enrollment.attestation {
        Attestation::Tpm(tpm) => tpm,
        other => {
            let word = other.word();
            let cause = format!("enrollment {id} is for attestation by {word}, not by tpm");
            return Err(Refusal::wrong_key(cause));
        }
    };
    match presented.is_endorsed_by(&enrolled.endorsement_key) {
        true => Ok(()),
        false => {
            let cause = format!("the endorsement key differs from that of enrollment {id}");
            Err(Refusal::wrong_key(cause))
        }
    }
}

/// The latest challenge of each device.
#[derive(Default)]
pub(crate) struct Challenges(BTreeMap<String, Challenge>);

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Challenge {
    #[serde(with = "crate::saved::shared")]
    keys: Arc<Keys>,
    #[serde(with = "crate::saved::bytes")]
    key: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
enum State {
    Open {
        #[serde(with = "crate::saved::at")]
        until: OffsetDateTime,
    },
    Answered,
}

impl Challenges {
    /// Makes a challenge, which replaces the previous one, and returns the sealed key in base64.
    pub(crate) fn issue(
        &mut self,
        registration_id: &str,
        keys: Keys,
        now: OffsetDateTime,
    ) -> Result<String, Refusal> {
        let key = generate_key()?;
        let sealed = keys.seal(&key, registration_id)?;
        let state = State::Open { until: now.saturating_add(LIFETIME) };
        self.0.insert(ids::key(registration_id), Challenge { keys: Arc::new(keys), key, state });
        Ok(sealed)
    }

    /// Returns whether a token is signed with the key of the device's latest challenge.
    pub(super) fn signed(&self, registration_id: &str, token: &Token) -> bool {
        self.0.get(&ids::key(registration_id)).is_some_and(|challenge| token.is_signed_by(&challenge.key))
    }

    /// Judges a token, which is valid in all respects but its key, as the answer to a challenge.
    pub(super) fn answer(
        &mut self,
        id: &str,
        enrolled: &StorageKey,
        token: &Token,
        now: OffsetDateTime,
    ) -> Result<Proven, Refusal> {
        let challenge = self.0.get_mut(&ids::key(id)).ok_or_else(|| {
            Refusal::wrong_key(format!("{id} has no challenge that the token could answer"))
        })?;
        if !challenge.keys.is_endorsed_by(enrolled) {
            let cause =
                format!("the endorsement key of enrollment {id} has changed since the challenge was made");
            return Err(Refusal::wrong_key(cause));
        }
        if !token.is_signed_by(&challenge.key) {
            let cause = format!("signature does not match the key of the latest challenge for {id}");
            return Err(Refusal::wrong_key(cause));
        }
        if let State::Open { until } = challenge.state
            && now > until
        {
            let seconds = (now - until).whole_seconds();
            return Err(Refusal::wrong_key(format!("the challenge for {id} expired {seconds} s ago")));
        }
        challenge.state = State::Answered;
        Ok(Proven::new(Arc::clone(&challenge.keys)))
    }
}

/// The time that a device has to answer its challenge.
const LIFETIME: Duration = Duration::minutes(5);
