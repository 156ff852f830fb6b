//! One registration or look-up of a manager, and the key of a certificate that it asks for.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use azure_dps_core::models::{DeviceRegistrationState, EnrollmentStatus};
use azure_dps_core::{CertificateRequest, Error, ErrorKind, Result, Sensitive};
use futures_util::FutureExt as _;
use tracing::Instrument as _;

use super::driver::event::{Assigned, Failure, Found, Issued};
use super::memory::{Certificate, Place};
use super::options::ManagerOptions;
use super::store::{KeyStore, within};
use super::store_error;
use crate::assignment::{Assignment, Summary};
use crate::client::DeviceClient;
use crate::hub::check_profile;

/// A registration that succeeded, and why its certificate is not usable, if it is not.
pub(crate) struct Registered {
    pub(crate) assigned: Assigned,
    pub(crate) unusable: Option<Unusable>,
}

/// A registration that failed, and what that means for the next one.
pub(crate) struct Failed {
    pub(crate) error: Error,
    pub(crate) failure: Failure,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { failure: failure(&error), error }
    }
}

/// Why an issued certificate is not usable.
pub(crate) enum Unusable {
    Certificate(Error),
    KeyStore(Error),
}

/// What came of a registration or a look-up.
pub(crate) enum Outcome {
    Registered(Result<Registered, Failed>),
    LookedUp(Found, Option<Error>),
}

/// Registers with one of the credentials. The key of an issued certificate gets this name.
pub(crate) async fn register(options: Arc<ManagerOptions>, credential: usize, key_name: String) -> Outcome {
    let span = tracing::info_span!("provisioning", attempt = "register", credential);
    let work = try_to_register(&options, credential, key_name).instrument(span);
    Outcome::Registered(without_panic(work).await)
}

/// Asks the service whether the device is still assigned to `place`.
pub(crate) async fn look_up(
    options: Arc<ManagerOptions>,
    credential: usize,
    place: Option<Place>,
) -> Outcome {
    let span = tracing::info_span!("provisioning", attempt = "look up", credential);
    let work = try_to_look_up(&options, credential, place.as_ref()).instrument(span);
    match without_panic(work).await {
        Ok(found) => Outcome::LookedUp(found, None),
        Err(error) => {
            let retry_after = error.service().and_then(|answer| answer.retry_after);
            Outcome::LookedUp(Found::Nothing { retry_after }, Some(error))
        }
    }
}

/// A transport or a TPM that panics must not stop the manager.
async fn without_panic<T, E: From<Error>>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| {
        let message = "the transport or the credential panicked; standard error has the message";
        let help = "report the message to the authors of the part that it names";
        Err(Error::new(ErrorKind::Config, message).with_help(help).into())
    })
}

async fn try_to_look_up(options: &ManagerOptions, credential: usize, place: Option<&Place>) -> Result<Found> {
    let client = client(options, credential)?;
    match client.lookup().timeout(options.policy.registration_timeout).await {
        Ok(state) => found(state, place),
        Err(error) if error.is_not_found() => Ok(NOWHERE),
        Err(error) => Err(error),
    }
}

/// # Errors
/// When the device is assigned to a place that cannot be used, as for a registration.
fn found(state: DeviceRegistrationState, place: Option<&Place>) -> Result<Found> {
    if state.status != Some(EnrollmentStatus::Assigned) {
        return Ok(NOWHERE);
    }
    let assignment = Assignment::registered(state, Summary::default())?;
    check_profile(&assignment)?;
    let (hub, device_id) = (assignment.hub(), assignment.device_id());
    let is_same = |place: &Place| hub.eq_ignore_ascii_case(&place.hub) && device_id == place.device_id;
    Ok(match place.is_some_and(is_same) {
        true => Found::SamePlace,
        false => Found::Elsewhere(Place { hub: hub.to_owned(), device_id: device_id.to_owned() }),
    })
}

/// The service knows the device, and it is not assigned to a hub.
const NOWHERE: Found = Found::Nothing { retry_after: None };

fn client(options: &ManagerOptions, credential: usize) -> Result<DeviceClient> {
    let credential = options.credential(credential)?.clone();
    let client = DeviceClient::new(options.id_scope.clone(), credential, Arc::clone(&options.transport));
    // A pause that the service asks for belongs into the record, so that a reboot does not end it.
    Ok(client.with_policy(options.registration_policy.returning_when_throttled()))
}

async fn try_to_register(
    options: &ManagerOptions,
    credential: usize,
    key_name: String,
) -> Result<Registered, Failed> {
    let client = client(options, credential)?;
    let mut registration = client.register().timeout(options.policy.registration_timeout);
    if let Some(payload) = &options.payload {
        registration = registration.payload((**payload).clone());
    }
    let request = match &options.keys {
        Some(_) => Some(CertificateRequest::generate(client.credential().registration_id())?),
        None => None,
    };
    if let Some(request) = &request {
        registration = registration.csr(request);
    }
    let assignment = registration.await?;
    // A device that cannot speak to its hub is stuck until it is assigned to another one.
    check_profile(&assignment).map_err(|error| Failed { error, failure: Failure::Refused })?;
    let issued = match (&request, &options.keys) {
        (Some(request), Some(keys)) => certificate(&assignment, request, &**keys, key_name).await,
        _ => Ok(None),
    };
    let (issued, unusable) = match issued {
        Ok(Some(certificate)) => (Issued::Certificate(certificate), None),
        Ok(None) => (Issued::Nothing, None),
        Err(unusable) => (Issued::Unusable, Some(unusable)),
    };
    let place = Place { hub: assignment.hub().to_owned(), device_id: assignment.device_id().to_owned() };
    let transport = assignment.summary().map(|summary| summary.transport.to_owned());
    Ok(Registered { assigned: Assigned { place, issued, transport }, unusable })
}

/// The certificate of an assignment, whose key is stored before anything depends on it. An enrollment without
/// a policy issues none, which is not an error.
async fn certificate(
    assignment: &Assignment,
    request: &CertificateRequest,
    keys: &dyn KeyStore,
    key: String,
) -> Result<Option<Certificate>, Unusable> {
    let issued = assignment.issued_certificate();
    // The clock of the device is behind: the certificate is kept until it is valid.
    let not_before = issued.as_ref().err().and_then(Error::not_before);
    let issued = not_before.map_or(issued, |not_before| assignment.issued_certificate_at(not_before));
    let issued = match issued {
        Ok(issued) => issued,
        Err(error) if error.kind() == ErrorKind::CertificateNotIssued => return Ok(None),
        Err(error) => return Err(Unusable::Certificate(error)),
    };
    // With another key the certificate would never sign in.
    issued.identity(request).map_err(Unusable::Certificate)?;
    let pem = request.key_pem().ok_or_else(|| {
        Unusable::Certificate(Error::new(ErrorKind::Credential, "the key of the request cannot be exported"))
    })?;
    within(|| keys.save(&key, Sensitive::from(pem.as_bytes().to_vec())))
        .await
        .map_err(|why| Unusable::KeyStore(store_error::key_unsaved(&key, why)))?;
    let (not_before, not_after) = (issued.leaf().not_before_utc, issued.leaf().not_after_utc);
    Ok(Some(Certificate { chain: issued.to_pem(), key, not_before, not_after }))
}

/// What the error of a registration means for the next one.
///
/// | error | failure |
/// |---|---|
/// | a certificate of the device is not valid yet: its clock is behind | `Early` |
/// | `Config`, `Credential`, `Unsupported`: nothing was sent | `Credential` |
/// | `Unauthorized`; `Service` with the status 404: not enrolled with this credential | `Credential` |
/// | `Registration` if the enrollment is disabled; with another credential it may be another one | `Credential` |
/// | `Registration` otherwise: the allocation failed | `Refused` |
/// | `Service` with another status that is neither 408, 429 nor 5xx | `Refused` |
/// | `Protocol`: an answer that is not valid, such as an assignment to a hub without a name | `Refused` |
/// | any other | `Passing`, with `retry-after` |
fn failure(error: &Error) -> Failure {
    let answer = error.service();
    let status = error.state().and_then(|state| state.status.as_ref());
    match error.kind() {
        _ if error.not_before().is_some() => Failure::Early,
        ErrorKind::Config | ErrorKind::Credential | ErrorKind::Unsupported | ErrorKind::Unauthorized => {
            Failure::Credential
        }
        ErrorKind::Service if error.is_not_found() => Failure::Credential,
        ErrorKind::Registration if status == Some(&EnrollmentStatus::Disabled) => Failure::Credential,
        ErrorKind::Registration | ErrorKind::Protocol => Failure::Refused,
        ErrorKind::Service if answer.is_some_and(|answer| !answer.is_transient()) => Failure::Refused,
        _ => Failure::Passing { retry_after: answer.and_then(|answer| answer.retry_after) },
    }
}

#[cfg(test)]
mod tests {
    use azure_dps_core::ServiceError;
    use time::OffsetDateTime;

    use super::*;

    #[test]
    fn errors_of_registrations_are_sorted_by_what_helps() {
        let passing = Failure::Passing { retry_after: None };
        let of = |kind| Error::new(kind, "why");
        let status =
            |status| of(ErrorKind::Service).with_service(ServiceError::from_answer(status, None, b""));
        let ended = |status| {
            let mut state = DeviceRegistrationState::default();
            state.status = Some(status);
            of(ErrorKind::Registration).with_state(state)
        };
        let early = of(ErrorKind::Credential).with_not_before(OffsetDateTime::UNIX_EPOCH);
        let cases = [
            (early, Failure::Early),
            (of(ErrorKind::Config), Failure::Credential),
            (of(ErrorKind::Credential), Failure::Credential),
            (of(ErrorKind::Unsupported), Failure::Credential),
            (of(ErrorKind::Unauthorized), Failure::Credential),
            (status(404), Failure::Credential),
            (ended(EnrollmentStatus::Disabled), Failure::Credential),
            (ended(EnrollmentStatus::Failed), Failure::Refused),
            (status(400), Failure::Refused),
            (status(412), Failure::Refused),
            (of(ErrorKind::Protocol), Failure::Refused),
            (status(408), passing),
            (status(429), passing),
            (status(500), passing),
            (of(ErrorKind::Connect), passing),
            (of(ErrorKind::Io), passing),
            (of(ErrorKind::Tls), passing),
            (of(ErrorKind::Proxy), passing),
            (of(ErrorKind::Timeout), passing),
        ];
        for (error, expected) in cases {
            assert_eq!(failure(&error), expected, "{error:#?}");
        }
    }
}
