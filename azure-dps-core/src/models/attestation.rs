//! The attestation mechanism of an enrollment: how its devices prove who they are.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeMap};
use serde_json::{Map, Value};

use crate::open_enum::open_enum;
use crate::sensitive::OtherMembers;

pub(crate) mod certificate_text;
pub(crate) mod symmetric_key;
pub(crate) mod tpm;
pub(crate) mod x509;

use symmetric_key::SymmetricKeyAttestation;
use tpm::TpmAttestation;
use x509::{X509Attestation, X509CaReferences, X509Certificates};

/// How the devices of an enrollment prove who they are.
///
/// Build it with one of the constructors; each sends exactly the members that belong to its type.
///
/// ```
/// use azure_dps_core::models::{AttestationMechanism, AttestationType};
///
/// let attestation = AttestationMechanism::symmetric_key_generated();
/// assert_eq!(attestation.attestation_type(), AttestationType::SymmetricKey);
/// ```
///
/// The details may be missing in an answer, because reading an enrollment hides symmetric keys. Unknown
/// types, and members that do not belong to a type, are kept and sent back. A mechanism that came as `null`
/// or without a type is sent back without a type, too.
///
/// Source: DPS service REST API 2021-10-01, AttestationMechanism.
#[derive(Clone, Debug, PartialEq, Eq)]
#[doc(alias = "Attestation")]
#[non_exhaustive]
pub enum AttestationMechanism {
    /// `none`: no attestation. Whether the service accepts such an enrollment is not documented.
    #[non_exhaustive]
    None {
        /// Further members of the JSON object.
        other: OtherMembers,
    },
    /// `symmetricKey`: a token signed with a shared key.
    #[non_exhaustive]
    SymmetricKey {
        /// The keys. Missing when the service hides them, or when it is to generate them.
        symmetric_key: Option<SymmetricKeyAttestation>,
        /// Further members of the JSON object.
        other: OtherMembers,
    },
    /// `x509`: a client certificate.
    #[non_exhaustive]
    X509 {
        /// Which certificates are accepted.
        x509: Option<Box<X509Attestation>>,
        /// Further members of the JSON object.
        other: OtherMembers,
    },
    /// `tpm`: a Trusted Platform Module. Individual enrollments only.
    #[non_exhaustive]
    Tpm {
        /// Which TPM is accepted.
        tpm: Option<TpmAttestation>,
        /// Further members of the JSON object.
        other: OtherMembers,
    },
    #[doc(hidden)]
    #[non_exhaustive]
    Untyped { other: OtherMembers },
    #[doc(hidden)]
    #[non_exhaustive]
    Unknown { attestation_type: AttestationType, other: OtherMembers },
}

impl AttestationMechanism {
    /// Symmetric keys of your choice.
    pub fn symmetric_key(keys: SymmetricKeyAttestation) -> Self {
        Self::SymmetricKey { symmetric_key: Some(keys), other: OtherMembers::new() }
    }

    /// Symmetric keys that the service generates, 32 random bytes each. The answer to the create call
    /// contains them; later only the attestation mechanism call returns them.
    pub fn symmetric_key_generated() -> Self {
        Self::SymmetricKey { symmetric_key: None, other: OtherMembers::new() }
    }

    /// The TPM with this endorsement key, given as base64 text or as [`TpmAttestation`].
    pub fn tpm(endorsement_key: impl Into<TpmAttestation>) -> Self {
        Self::Tpm { tpm: Some(endorsement_key.into()), other: OtherMembers::new() }
    }

    /// The device's own certificate, for an individual enrollment: one text or
    /// [`X509CertificateWithInfo`](x509::X509CertificateWithInfo), or [`X509Certificates`] with a second one.
    pub fn x509_client(certificates: impl Into<X509Certificates>) -> Self {
        Self::x509(X509Attestation::client(certificates))
    }

    /// The certificate of the intermediate authority that signs the devices of a group: one text or
    /// [`X509CertificateWithInfo`](x509::X509CertificateWithInfo), or [`X509Certificates`] with a second one.
    /// The root at the end of the chain has to be uploaded to the provisioning service and verified there.
    pub fn x509_signing(certificates: impl Into<X509Certificates>) -> Self {
        Self::x509(X509Attestation::signing(certificates))
    }

    /// An authority that was uploaded to the provisioning service and verified there, by the name of that
    /// upload: one name, or [`X509CaReferences`] with a second one.
    pub fn x509_ca_references(references: impl Into<X509CaReferences>) -> Self {
        Self::x509(X509Attestation::ca_references(references))
    }

    /// What a record without an attestation has.
    pub(in crate::models) fn absent() -> Self {
        Self::Untyped { other: OtherMembers::new() }
    }

    /// Whether it says nothing, so that a record is written without it.
    pub(in crate::models) fn is_absent(&self) -> bool {
        matches!(self, Self::Untyped { other } if other.is_empty())
    }

    fn x509(x509: X509Attestation) -> Self {
        Self::X509 { x509: Some(Box::new(x509)), other: OtherMembers::new() }
    }

    /// The type on the wire, also if this crate does not know it. [`AttestationType::None`] when a record
    /// came without one.
    pub fn attestation_type(&self) -> AttestationType {
        match self {
            Self::None { .. } | Self::Untyped { .. } => AttestationType::None,
            Self::SymmetricKey { .. } => AttestationType::SymmetricKey,
            Self::X509 { .. } => AttestationType::X509,
            Self::Tpm { .. } => AttestationType::Tpm,
            Self::Unknown { attestation_type, .. } => attestation_type.clone(),
        }
    }

    /// The symmetric keys, if the type is `symmetricKey` and they are present.
    pub fn as_symmetric_key(&self) -> Option<&SymmetricKeyAttestation> {
        match self {
            Self::SymmetricKey { symmetric_key, .. } => symmetric_key.as_ref(),
            _ => None,
        }
    }

    /// The X.509 details, if the type is `x509` and they are present.
    pub fn as_x509(&self) -> Option<&X509Attestation> {
        match self {
            Self::X509 { x509, .. } => x509.as_deref(),
            _ => None,
        }
    }

    /// The TPM details, if the type is `tpm` and they are present.
    pub fn as_tpm(&self) -> Option<&TpmAttestation> {
        match self {
            Self::Tpm { tpm, .. } => tpm.as_ref(),
            _ => None,
        }
    }

    /// The members of the JSON object that do not belong to the type.
    pub fn other(&self) -> &OtherMembers {
        match self {
            Self::None { other }
            | Self::Untyped { other }
            | Self::SymmetricKey { other, .. }
            | Self::X509 { other, .. }
            | Self::Tpm { other, .. }
            | Self::Unknown { other, .. } => other,
        }
    }
}

impl Serialize for AttestationMechanism {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !matches!(self, Self::Untyped { .. }) {
            map.serialize_entry(TYPE, &self.attestation_type())?;
        }
        let owned = match self {
            Self::None { .. } | Self::Untyped { .. } | Self::Unknown { .. } => TYPE,
            Self::SymmetricKey { symmetric_key, .. } => entry(&mut map, SYMMETRIC_KEY, symmetric_key)?,
            Self::X509 { x509, .. } => entry(&mut map, X509, x509)?,
            Self::Tpm { tpm, .. } => entry(&mut map, TPM, tpm)?,
        };
        for (name, value) in self.other().iter().filter(|(name, _)| *name != TYPE && *name != owned) {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

fn entry<M: SerializeMap>(
    map: &mut M,
    name: &'static str,
    detail: &Option<impl Serialize>,
) -> Result<&'static str, M::Error> {
    if let Some(detail) = detail {
        map.serialize_entry(name, detail)?;
    }
    Ok(name)
}

impl<'de> Deserialize<'de> for AttestationMechanism {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Some(mut members) = Option::<Map<String, Value>>::deserialize(deserializer)? else {
            return Ok(Self::absent());
        };
        let attestation_type = match members.remove(TYPE) {
            Some(Value::String(word)) => AttestationType::from(word),
            None | Some(Value::Null) => return Ok(Self::Untyped { other: members.into() }),
            Some(_) => return Err(de::Error::custom("`type` of an attestation mechanism is not a text")),
        };
        Ok(match attestation_type {
            AttestationType::None => Self::None { other: members.into() },
            AttestationType::SymmetricKey => {
                let symmetric_key = detail(&mut members, SYMMETRIC_KEY)?;
                Self::SymmetricKey { symmetric_key, other: members.into() }
            }
            AttestationType::X509 => {
                let x509 = detail(&mut members, X509)?;
                Self::X509 { x509, other: members.into() }
            }
            AttestationType::Tpm => {
                let tpm = detail(&mut members, TPM)?;
                Self::Tpm { tpm, other: members.into() }
            }
            AttestationType::Unknown(_) => Self::Unknown { attestation_type, other: members.into() },
        })
    }
}

/// Takes one member out and reads it; `null` counts as absent.
fn detail<T: de::DeserializeOwned, E: de::Error>(
    members: &mut Map<String, Value>,
    name: &str,
) -> Result<Option<T>, E> {
    let value = members.remove(name).unwrap_or_default();
    // A message of serde may quote a key that is in the wrong place.
    serde_json::from_value(value)
        .map_err(|_| E::custom(format_args!("`{name}` of an attestation is not readable")))
}

open_enum! {
    /// The type of an [`AttestationMechanism`].
    ///
    /// Source: DPS service REST API 2021-10-01, AttestationMechanism, `type`.
    #[doc(alias = "AttestationMechanismType")]
    pub enum AttestationType {
        /// No attestation.
        None = "none",
        /// A Trusted Platform Module.
        Tpm = "tpm",
        /// A client certificate.
        X509 = "x509",
        /// A token signed with a shared key.
        SymmetricKey = "symmetricKey",
    }
}

const TYPE: &str = "type";
const SYMMETRIC_KEY: &str = "symmetricKey";
const X509: &str = "x509";
const TPM: &str = "tpm";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn constructors_send_only_their_own_members() {
        for (attestation, body) in [
            (
                AttestationMechanism::symmetric_key(SymmetricKeyAttestation::new("a", "b")),
                json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": "a", "secondaryKey": "b"}}),
            ),
            (AttestationMechanism::symmetric_key_generated(), json!({"type": "symmetricKey"})),
            (AttestationMechanism::tpm("ek"), json!({"type": "tpm", "tpm": {"endorsementKey": "ek"}})),
            (
                AttestationMechanism::tpm(TpmAttestation::new("ek").with_storage_root_key("srk")),
                json!({"type": "tpm", "tpm": {"endorsementKey": "ek", "storageRootKey": "srk"}}),
            ),
            (
                AttestationMechanism::x509_client("pem"),
                json!({"type": "x509", "x509": {"clientCertificates": {"primary": {"certificate": "pem"}}}}),
            ),
            (
                AttestationMechanism::x509_signing(X509Certificates::new("p").with_secondary("s")),
                json!({"type": "x509", "x509": {"signingCertificates":
                    {"primary": {"certificate": "p"}, "secondary": {"certificate": "s"}}}}),
            ),
            (
                AttestationMechanism::x509_ca_references("root-1"),
                json!({"type": "x509", "x509": {"caReferences": {"primary": "root-1"}}}),
            ),
        ] {
            assert_eq!(serde_json::to_value(&attestation).unwrap(), body);
            assert_eq!(serde_json::from_value::<AttestationMechanism>(body).unwrap(), attestation);
        }
    }

    #[test]
    fn every_body_survives_a_round_trip() {
        for body in [
            json!({"type": "none"}),
            json!({"type": "none", "symmetricKey": {"primaryKey": "a"}, "tpm": {"endorsementKey": "e"}, "x509": {}}),
            json!({"type": "symmetricKey"}),
            json!({"type": "symmetricKey", "symmetricKey": {}}),
            json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": "", "secondaryKey": "", "k": [1]}}),
            json!({"type": "symmetricKey", "tpm": {"endorsementKey": 3}, "later": null}),
            json!({"type": "tpm", "tpm": {"endorsementKey": "e", "storageRootKey": "", "k": 1}}),
            json!({"type": "tpm"}),
            json!({"type": "x509", "x509": {"k": {"l": 1}}}),
            json!({"type": "x509"}),
            json!({"type": "quantum", "quantum": {"bits": 7}, "symmetricKey": {}}),
        ] {
            let attestation: AttestationMechanism = serde_json::from_value(body.clone()).unwrap();
            assert_eq!(serde_json::to_value(&attestation).unwrap(), body);
        }
    }

    #[test]
    fn missing_detail_differs_from_empty_detail() {
        let read = |body| serde_json::from_value::<AttestationMechanism>(body).unwrap();
        assert_eq!(read(json!({"type": "symmetricKey"})).as_symmetric_key(), None);
        assert_eq!(
            read(json!({"type": "symmetricKey", "symmetricKey": {}})).as_symmetric_key(),
            Some(&SymmetricKeyAttestation::default())
        );
    }

    #[test]
    fn null_details_are_absent() {
        let body = json!({"type": "symmetricKey", "symmetricKey": null});
        let attestation: AttestationMechanism = serde_json::from_value(body).unwrap();
        assert_eq!(attestation, AttestationMechanism::symmetric_key_generated());
        let body =
            json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": null, "secondaryKey": null}});
        let attestation: AttestationMechanism = serde_json::from_value(body).unwrap();
        assert_eq!(attestation.as_symmetric_key(), Some(&SymmetricKeyAttestation::default()));
    }

    #[test]
    fn unknown_type_is_readable() {
        let body = json!({"type": "quantum", "quantum": "marker"});
        let attestation: AttestationMechanism = serde_json::from_value(body).unwrap();
        assert_eq!(attestation.attestation_type().as_str(), "quantum");
        assert_eq!(attestation.other()["quantum"], "marker");
        assert!(attestation.as_symmetric_key().is_none() && attestation.as_tpm().is_none());
        assert!(!format!("{attestation:?}").contains("marker"));
    }

    #[test]
    fn without_a_type_none_is_written_back() {
        for (body, written) in [
            (json!(null), json!({})),
            (json!({}), json!({})),
            (json!({"type": null}), json!({})),
            (json!({"type": null, "tpm": {"k": 1}}), json!({"tpm": {"k": 1}})),
        ] {
            let attestation: AttestationMechanism = serde_json::from_value(body).unwrap();
            assert_eq!(attestation.attestation_type(), AttestationType::None);
            assert_eq!(serde_json::to_value(&attestation).unwrap(), written);
        }
        for body in [json!({"type": 1}), json!("none")] {
            assert!(serde_json::from_value::<AttestationMechanism>(body.clone()).is_err(), "{body}");
        }
    }

    #[test]
    fn neither_debug_nor_errors_show_a_secret() {
        let keys = SymmetricKeyAttestation::new("marker-1", "marker-2");
        let tpm = TpmAttestation::new("marker-3").with_storage_root_key("marker-4");
        let odd = json!({"type": "none", "symmetricKey": {"primaryKey": "marker-5"}});
        for attestation in [
            AttestationMechanism::symmetric_key(keys),
            AttestationMechanism::tpm(tpm),
            AttestationMechanism::x509_client("marker-6"),
            serde_json::from_value(odd).unwrap(),
        ] {
            let shown = format!("{attestation:?} {attestation:#?}");
            assert!(!shown.contains("marker"), "{shown}");
        }
        for body in [
            json!({"type": "symmetricKey", "symmetricKey": "marker"}),
            json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": ["marker"]}}),
            json!({"type": "tpm", "tpm": ["marker"]}),
        ] {
            let error = serde_json::from_value::<AttestationMechanism>(body).unwrap_err().to_string();
            assert!(!error.contains("marker"), "{error}");
        }
    }
}
