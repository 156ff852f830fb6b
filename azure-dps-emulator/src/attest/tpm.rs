//! Attestation by TPM: what a device presents, what it is challenged with, and its answer.
//!
//! | the device | outcome |
//! | --- | --- |
//! | presents the endorsement key of its enrollment and a storage root key | a challenge: a key sealed to both |
//! | presents anything else that is a key, over HTTPS | 401002, or 404201 without an enrollment |
//! | the same over AMQP | a challenge all the same, with a key that nobody keeps, and refused at the token |
//! | presents keys that no challenge can be made for | 400000 |
//! | sends a token signed with the key of its latest challenge | let in; tokens of the same key stay good |
//! | sends the first such token after [`LIFETIME`] | 401002 |
//! | sends a token signed with anything else | 401002 |
//!
//! There is one challenge for each device, and a new one replaces it. What the service does in these points, and for how
//! long a challenge of its own is good, is not documented.

mod blob;
mod storage_key;

#[cfg(test)]
pub(crate) use storage_key::PUBLISHED_KEY;
pub(crate) use storage_key::StorageKey;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::json::{Value, json};
use base64::prelude::{BASE64_STANDARD, Engine};
use rsa::rand_core::OsRng;
use time::{Duration, OffsetDateTime};

use super::{Match, Proof, Via};
use crate::answer::{INTERNAL, Refusal};
use crate::attestation::{Attestation, generate_key};
use crate::auth::Token;
use crate::base64_text;
use crate::enrollments::{Enrollment, Enrollments};
use crate::ids;

/// The public keys of a TPM.
pub(crate) struct Keys {
    endorsement: StorageKey,
    root: StorageKey,
}

impl Keys {
    /// Reads the member `tpm` of a registration.
    pub(crate) fn read(given: &Value) -> Result<Self, Refusal> {
        let [endorsement, root] =
            ["endorsementKey", "storageRootKey"].map(|name| read_key("tpm", given, name));
        Ok(Keys { endorsement: endorsement?, root: root? })
    }

    /// Compares the keys with the enrollment of the device.
    pub(crate) fn check(&self, registration_id: &str, individuals: &Enrollments) -> Result<(), Refusal> {
        let enrollment = individuals.find(registration_id).ok_or_else(|| {
            Refusal::not_found(format!(
                "{registration_id} has no individual enrollment, and no group is for TPMs"
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
        match self.endorsement == enrolled.endorsement_key {
            true => Ok(()),
            false => {
                let cause = format!("the endorsement key is another one than that of enrollment {id}");
                Err(Refusal::wrong_key(cause))
            }
        }
    }

    /// Seals a key that nobody keeps, for a device that is to be refused at its token.
    pub(crate) fn seal_for_nobody(&self, registration_id: &str) -> Result<String, Refusal> {
        self.seal(&generate_key()?, registration_id)
    }

    /// Seals a key so that this TPM alone can use it.
    fn seal(&self, key: &[u8], registration_id: &str) -> Result<String, Refusal> {
        let note = registration_id.as_bytes();
        let blob = blob::seal(&self.endorsement, &self.root, key, note, &mut OsRng)
            .map_err(|error| Refusal::new(INTERNAL, format!("no key can be sealed: {error}")))?;
        Ok(BASE64_STANDARD.encode(blob))
    }
}

/// What a TPM proved, and the key that it gets for its hub.
#[derive(Clone)]
pub(crate) struct Proven {
    keys: Arc<Keys>,
    hub_key: Option<HubKey>,
}

#[derive(Clone)]
struct HubKey {
    key: Vec<u8>,
    /// The same for the TPM, in base64.
    sealed: String,
}

impl Proven {
    /// Seals the key that signs for the device at its hub: the given one, or a new one.
    pub(crate) fn deliver(&mut self, known: Option<&[u8]>, registration_id: &str) -> Result<(), Refusal> {
        let key = known.map_or_else(generate_key, |key| Ok(key.to_vec()))?;
        let sealed = self.keys.seal(&key, registration_id)?;
        self.hub_key = Some(HubKey { key, sealed });
        Ok(())
    }

    pub(crate) fn hub_key(&self) -> Option<&[u8]> {
        self.hub_key.as_ref().map(|delivered| delivered.key.as_slice())
    }

    /// The key for the TPM, in base64.
    pub(crate) fn sealed(&self) -> Option<&str> {
        self.hub_key.as_ref().map(|delivered| delivered.sealed.as_str())
    }

    /// The keys as the device presents them.
    pub(crate) fn public_keys(&self) -> Value {
        json!({"endorsementKey": self.keys.endorsement.to_base64(), "storageRootKey": self.keys.root.to_base64()})
    }

    pub(crate) fn is_same_tpm(&self, other: &Self) -> bool {
        self.keys.endorsement == other.keys.endorsement
    }
}

/// The latest challenge of every device that asked for one.
#[derive(Default)]
pub(crate) struct Challenges(BTreeMap<String, Challenge>);

struct Challenge {
    keys: Arc<Keys>,
    key: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    Open { until: OffsetDateTime },
    Answered,
}

impl Challenges {
    /// Makes a challenge in place of the one before and gives the sealed key, in base64.
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

    /// Tells whether a token is signed with the key of the latest challenge of a device.
    pub(super) fn signed(&self, registration_id: &str, token: &Token) -> bool {
        self.0.get(&ids::key(registration_id)).is_some_and(|challenge| token.is_signed_by(&challenge.key))
    }

    /// Takes a token, which is right in everything but its key, as the answer to a challenge.
    pub(super) fn answer<'a>(
        &mut self,
        enrollment: &'a Enrollment,
        enrolled: &StorageKey,
        token: &Token,
        now: OffsetDateTime,
    ) -> Result<Match<'a>, Refusal> {
        let id = &enrollment.id;
        let challenge = self.0.get_mut(&ids::key(id)).ok_or_else(|| {
            Refusal::wrong_key(format!("there is no challenge for {id} that the token could answer"))
        })?;
        if challenge.keys.endorsement != *enrolled {
            let cause =
                format!("enrollment {id} has another endorsement key than when the challenge was made");
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
        let proof = Proof::Tpm(Proven { keys: Arc::clone(&challenge.keys), hub_key: None });
        Ok(Match { enrollment, via: Via::Individual, proof, warning: None })
    }
}

/// Reads a key out of the member `tpm` of a registration or of an attestation.
///
/// `path` is what the member is called in a refusal.
pub(crate) fn read_key(path: &str, given: &Value, name: &str) -> Result<StorageKey, Refusal> {
    let invalid = |what: String| Refusal::invalid(format!("{path}.{name} {what}"));
    let text = given[name].as_str().filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| invalid("is missing".into()))?;
    let bytes = base64_text::decode(text).map_err(invalid)?;
    StorageKey::read(&bytes).map_err(invalid)
}

/// How long a device has for its answer.
const LIFETIME: Duration = Duration::minutes(5);
