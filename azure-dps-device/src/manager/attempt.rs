//! One registration or look-up of a manager, and the key of a certificate that it asks for.

use std::sync::Arc;

use azure_dps_core::models::{DeviceRegistrationState, EnrollmentStatus};
use azure_dps_core::{CertificateRequest, Error, ErrorKind, Result, Sensitive};
use tracing::Instrument as _;

use super::driver::event::{Assigned, Failure, Found, Issued};
use super::memory::{Certificate, Place};
use super::options::ManagerOptions;
use super::store::{KeyStore, within};
use crate::assignment::Assignment;
use crate::client::DeviceClient;
use crate::hub::check_profile;

/// A registration that succeeded, and why its certificate is not usable, if it is not.
pub(crate) struct Registered {
    pub(crate) assigned: Assigned,
    pub(crate) unusable: Option<Unusable>,
}

/// Why an issued certificate is not usable.
pub(crate) enum Unusable {
    Certificate(Error),
    KeyStore(Error),
}

/// What came of a registration or a look-up.
pub(crate) enum Outcome {
    Registered(Result<Registered>),
    LookedUp(Result<Found>),
}

/// Registers with one of the credentials. The key of an issued certificate gets this name.
pub(crate) async fn register(options: Arc<ManagerOptions>, credential: usize, key_name: String) -> Outcome {
    let span = tracing::info_span!("provisioning", attempt = "register", credential);
    Outcome::Registered(try_to_register(&options, credential, key_name).instrument(span).await)
}

/// Asks the service whether the device is still assigned to `place`.
pub(crate) async fn look_up(
    options: Arc<ManagerOptions>,
    credential: usize,
    place: Option<Place>,
) -> Outcome {
    let span = tracing::info_span!("provisioning", attempt = "look up", credential);
    Outcome::LookedUp(try_to_look_up(&options, credential, place.as_ref()).instrument(span).await)
}

async fn try_to_look_up(options: &ManagerOptions, credential: usize, place: Option<&Place>) -> Result<Found> {
    let client = client(options, credential)?;
    match client.lookup().timeout(options.policy.registration_timeout).await {
        Ok(state) => Ok(found(&state, place)),
        Err(error) if error.is_not_found() => Ok(Found::Unassigned),
        Err(error) => Err(error),
    }
}

fn found(state: &DeviceRegistrationState, place: Option<&Place>) -> Found {
    match (&state.status, &state.assigned_hub, &state.device_id) {
        (Some(EnrollmentStatus::Assigned), Some(hub), Some(device_id)) => {
            let is_same =
                |place: &&Place| hub.eq_ignore_ascii_case(&place.hub) && *device_id == place.device_id;
            match place.filter(is_same) {
                Some(_) => Found::SamePlace,
                None => Found::Elsewhere(Place { hub: hub.clone(), device_id: device_id.clone() }),
            }
        }
        _ => Found::Unassigned,
    }
}

fn client(options: &ManagerOptions, credential: usize) -> Result<DeviceClient> {
    let credential = options.credentials.get(credential).ok_or_else(|| {
        Error::new(ErrorKind::Config, format!("the manager has no credential number {credential}"))
    })?;
    let transport = Arc::clone(&options.transport);
    let client = DeviceClient::new(options.id_scope.clone(), credential.clone(), transport);
    Ok(client.with_policy(options.registration_policy))
}

async fn try_to_register(
    options: &ManagerOptions,
    credential: usize,
    key_name: String,
) -> Result<Registered> {
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
    check_profile(&assignment)?;
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
    let issued = match assignment.issued_certificate() {
        Ok(issued) => issued,
        Err(error) if error.kind() == ErrorKind::CertificateNotIssued => return Ok(None),
        Err(error) => return Err(Unusable::Certificate(error)),
    };
    // With another key the certificate would never sign in.
    issued.identity(request).map_err(Unusable::Certificate)?;
    let pem = request.key_pem().ok_or_else(|| {
        Unusable::Certificate(Error::new(ErrorKind::Credential, "the key of the request cannot be exported"))
    })?;
    within(keys.save(&key, Sensitive::from(pem.as_bytes().to_vec()))).await.map_err(|why| {
        let message = format!("the private key of the issued certificate cannot be stored as {key:?}");
        Unusable::KeyStore(Error::new(ErrorKind::Io, message).with_source(why))
    })?;
    let (not_before, not_after) = (issued.leaf().not_before_utc, issued.leaf().not_after_utc);
    Ok(Some(Certificate { chain: issued.to_pem(), key, not_before, not_after }))
}

/// What the error of a registration means for the next one.
///
/// | error | failure |
/// |---|---|
/// | `Unauthorized`, `Registration`, `Credential`, `Config`, `Unsupported` | `Refused` |
/// | `Service` with a status that is neither 408, 429 nor 5xx | `Refused` |
/// | any other | `Passing`, with `retry-after` |
pub(crate) fn failure(error: &Error) -> Failure {
    let answer = error.service();
    match error.kind() {
        ErrorKind::Unauthorized
        | ErrorKind::Registration
        | ErrorKind::Credential
        | ErrorKind::Config
        | ErrorKind::Unsupported => Failure::Refused,
        ErrorKind::Service if answer.is_some_and(|answer| !answer.is_transient()) => Failure::Refused,
        _ => Failure::Passing { retry_after: answer.and_then(|answer| answer.retry_after) },
    }
}
