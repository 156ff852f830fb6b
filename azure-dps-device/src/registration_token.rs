//! The token with which a device registers: what it is valid for, and until when.

use std::time::Duration;

use azure_dps_core::{Error, ErrorKind, IdScope, RegistrationId, Result, SasToken, UnsignedSas};
use time::OffsetDateTime;

use crate::tpm::contract::Tpm;

/// The token for the registration of `id`, without its signature.
pub(crate) fn unsigned(scope: &IdScope, id: &RegistrationId, now: OffsetDateTime) -> Result<UnsignedSas> {
    Ok(UnsignedSas::for_registration(scope, id, expiry(now, TTL)?))
}

/// The token by which a TPM answers the service's challenge.
pub(crate) fn answer(
    tpm: &dyn Tpm,
    challenge: &[u8],
    scope: &IdScope,
    id: &RegistrationId,
    now: OffsetDateTime,
) -> Result<SasToken> {
    let unsigned = unsigned(scope, id, now)?;
    let signature = tpm.answer(challenge, unsigned.message().as_bytes())?;
    Ok(unsigned.with_signature(&signature))
}

/// The end of a token's life.
///
/// # Errors
/// [`ErrorKind::Config`] when it lies beyond the year 9999, which a token cannot express.
pub(crate) fn expiry(now: OffsetDateTime, ttl: Duration) -> Result<OffsetDateTime> {
    time::Duration::try_from(ttl)
        .ok()
        .and_then(|ttl| now.checked_add(ttl))
        .ok_or_else(|| Error::new(ErrorKind::Config, "the token would expire after the year 9999"))
}

/// As long as the official clients' tokens.
const TTL: Duration = Duration::from_secs(3600);
