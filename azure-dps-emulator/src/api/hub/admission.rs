//! Who may connect to a hub as a device, and who may call its REST API. Pure: a device record, a credential
//! and the time decide.
//!
//! | CONNECT | outcome |
//! | --- | --- |
//! | the api-version is absent, malformed or too old | refused, 400 |
//! | the hub has no such device, or the device is disabled | refused, 401 |
//! | a token: its audience is not the device, or it has expired | refused, 401 |
//! | a token of the policy `iothubowner` | admitted if the policy's key signed it |
//! | a token without a policy | admitted if the device has keys and one of them signed it |
//! | no token, a certificate that the emulator issued | admitted if it is good and for this device |
//! | no token, a certificate; the device has thumbprints | admitted if the certificate has one of them |
//! | no token, a certificate; the device is signed by an authority | admitted if the chain is valid |
//! | no token, no certificate | refused, 401 |
//!
//! A chain is valid if the common name of its leaf is the device id and it ends in a verified CA certificate of
//! the instance, with all dates valid. What makes an issued certificate good is in [`crate::issuance`]; it serves
//! a device with any kind of credential.

use time::OffsetDateTime;

use crate::api::hub::refusal::HubRefusal;
use crate::call::Presented;
use crate::call::hub::{HubOperation, HubRequest};
use crate::call::schema;
use crate::crypto::certificate::Certificate;
use crate::crypto::chain::Path;
use crate::crypto::sas::{self, Token};
use crate::records::authorities::Authorities;
use crate::records::hubs::{self, Authentication, HubDevice, OWNER};
use crate::records::registrations::Record;
use crate::state::State;

/// The hub and the device that a client names.
#[derive(Clone, Copy)]
pub(super) struct Claim<'a> {
    pub(super) hub: &'a str,
    pub(super) device_id: &'a str,
}

impl Claim<'_> {
    /// Judges a CONNECT, and returns when its token expires.
    pub(super) fn judge(
        self,
        state: &State,
        presented: &Presented,
        now: OffsetDateTime,
    ) -> Result<Option<OffsetDateTime>, HubRefusal> {
        check_api_version(presented)?;
        let Claim { hub, device_id } = self;
        let about = |why: String| HubRefusal::unauthorized(format!("device {device_id} at hub {hub}: {why}"));
        let device = state.hubs.find(hub, device_id).ok_or_else(|| {
            HubRefusal::unauthorized(format!(
                "hub {hub} has no device {device_id}: it was never assigned to this hub, or was deleted; let \
                 it register"
            ))
        })?;
        if device.status().disabled {
            return Err(about("it is disabled at the hub".to_owned()));
        }
        let token = presented.authorization.as_deref().filter(|token| !token.trim().is_empty());
        match (token, &*presented.certificates) {
            (Some(token), _) => self.by_token(device, token, now).map(Some).map_err(about),
            (None, [leaf, others @ ..]) => {
                self.by_certificate(state, device, leaf, others, now).map_err(about)?;
                Ok(None)
            }
            (None, []) => {
                Err(about("the CONNECT has neither a password nor a client certificate".to_owned()))
            }
        }
    }

    fn by_token(
        self,
        device: &HubDevice,
        token: &str,
        now: OffsetDateTime,
    ) -> Result<OffsetDateTime, String> {
        let resource = format!("{}/devices/{}", self.hub, self.device_id);
        let (token, expires) = sas::hub_token(token, &resource, now)?;
        match token.policy.as_deref() {
            Some(OWNER) if token.is_signed_by(&hubs::owner_key(self.hub)) => Ok(expires),
            Some(OWNER) => Err(format!("signature does not match the key of policy {OWNER} of this hub")),
            None | Some("") => check_signature(device, &token).map(|()| expires),
            Some(_) => Err(format!("the token names another policy than {OWNER}")),
        }
    }

    fn by_certificate(
        self,
        state: &State,
        device: &HubDevice,
        leaf: &Certificate,
        others: &[Certificate],
        now: OffsetDateTime,
    ) -> Result<(), String> {
        if state.issuance.authority().signed(leaf) {
            return self.by_issued_certificate(state, leaf, now);
        }
        match device.authentication() {
            Authentication::Sas { .. } => {
                Err("it authenticates with a key, and the client presents a certificate that the emulator \
                     has not issued"
                    .to_owned())
            }
            Authentication::SelfSigned { .. } => match device.has_certificate(leaf) {
                true => Ok(()),
                false => Err(format!(
                    "certificate {} has neither thumbprint of the device",
                    leaf.sha1_thumbprint()
                )),
            },
            Authentication::CertificateAuthority => {
                if leaf.common_name.as_deref() != Some(self.device_id) {
                    let name = leaf.common_name.as_deref().unwrap_or_default();
                    return Err(format!("the common name of the certificate is {name:?}, not the device id"));
                }
                check_chain(leaf, others, &state.authorities, now)
            }
        }
    }

    /// The certificate must be good, and the registration that it was issued to must be assigned to the device.
    fn by_issued_certificate(
        self,
        state: &State,
        leaf: &Certificate,
        now: OffsetDateTime,
    ) -> Result<(), String> {
        let registration_id = state.issuance.device_of(leaf, now).map_err(|error| error.to_string())?;
        let assigned = state.registrations.find(&registration_id).and_then(Record::current);
        match assigned {
            Some((hub, device_id)) if hub.eq_ignore_ascii_case(self.hub) && device_id == self.device_id => {
                Ok(())
            }
            Some((hub, device_id)) => Err(format!(
                "the issued certificate is for {registration_id}, which is assigned to device {device_id} at \
                 hub {hub}"
            )),
            None => Err(format!("the issued certificate is for {registration_id}, which is not assigned")),
        }
    }
}

fn check_signature(device: &HubDevice, token: &Token) -> Result<(), String> {
    match device.authentication() {
        Authentication::Sas { .. } if device.signed(token) => Ok(()),
        Authentication::Sas { .. } => {
            Err("signature does not match the device's keys at this hub".to_owned())
        }
        Authentication::SelfSigned { .. } | Authentication::CertificateAuthority => {
            Err("it authenticates with a certificate, and the client presents a token".to_owned())
        }
    }
}

/// The chain must end in a verified CA certificate.
fn check_chain(
    leaf: &Certificate,
    others: &[Certificate],
    authorities: &Authorities,
    now: OffsetDateTime,
) -> Result<(), String> {
    let path = Path::of(leaf, others);
    let verified = authorities.iter().filter(|authority| authority.verified);
    let levels = verified.filter_map(|authority| Some((path.level(&authority.certificate)?, authority)));
    match levels.min_by_key(|(level, _)| *level) {
        Some((level, authority)) => path.with(&authority.certificate).judge(level, now),
        None => Err(format!("no verified CA certificate of the instance is at the end of the chain: {path}")),
    }
}

/// Judges the credential of a request to the REST API before anything else, so that the answer reveals nothing
/// about the hub without one.
pub(super) fn admit(
    state: &State,
    request: &HubRequest,
    presented: &Presented,
    now: OffsetDateTime,
) -> Result<(), HubRefusal> {
    authenticate(state, request, presented, now).map_err(HubRefusal::unauthorized)?;
    check_api_version(presented)
}

fn authenticate(
    state: &State,
    request: &HubRequest,
    presented: &Presented,
    now: OffsetDateTime,
) -> Result<(), String> {
    let device = match &request.operation {
        HubOperation::ListModules(id) | HubOperation::OtherOfDevice(id) => Some(id),
        _ => None,
    };
    let device = device.and_then(|id| state.hubs.find(&request.hub, id));
    let authorization = presented.authorization.as_deref();
    if let (Some(device), None, [leaf, others @ ..]) = (device, authorization, &*presented.certificates) {
        let claim = Claim { hub: &request.hub, device_id: device.id() };
        return claim.by_certificate(state, device, leaf, others, now);
    }
    let token = sas::service_token(authorization, &request.resource, now).map_err(|refusal| refusal.cause)?;
    match (token.policy.as_deref(), device) {
        (Some(OWNER), _) if token.is_signed_by(&hubs::owner_key(&request.hub)) => Ok(()),
        (Some(OWNER), _) => Err(format!("signature does not match the key of policy {OWNER} of this hub")),
        (None | Some(""), Some(device)) if token.is_for_device() => check_signature(device, &token),
        _ => Err(format!("the token does not name the policy {OWNER}")),
    }
}

fn check_api_version(presented: &Presented) -> Result<(), HubRefusal> {
    let version = presented.api_version();
    if !schema::is_version(version) || version < OLDEST_API_VERSION {
        let message = match version {
            "" => "api-version is missing".to_owned(),
            _ => format!("api-version {version} is not supported; the oldest is {OLDEST_API_VERSION}"),
        };
        return Err(HubRefusal::new(400, "InvalidProtocolVersion", message));
    }
    Ok(())
}

const OLDEST_API_VERSION: &str = "2018-06-30";
