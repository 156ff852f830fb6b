//! Attestation by certificate: finds the enrollment of a presented chain. The common name of the leaf must be
//! the registration id; then:
//!
//! | individual enrollment | chain | outcome |
//! | --- | --- | --- |
//! | the device's own certificates | the leaf is one of them | the individual enrollment |
//! | references to CA certificates | ends in one of them | the individual enrollment |
//! | either | anything else | 401002 |
//! | another attestation type, enabled | ignored | 401002 |
//! | another attestation type, disabled | ends in a group | the individual enrollment, which refuses later |
//! | absent | ends in groups | the group nearest to the leaf; the first by id if several are equally near |
//! | absent, or disabled of another type | ends in no group | 401002 |
//!
//! A chain ends in an authority that the device presents, or that signed the last presented certificate, if
//! all certificates up to there are signed and valid. Trust is judged here only: TLS proves only that the
//! device has the key of the leaf.

use crate::attest::grounds::{Grounds, Match};
use crate::crypto::certificate::Certificate;
use crate::crypto::chain::{self, Path};
use crate::records::attestation::{Attestation, X509};
use crate::records::authorities::Authorities;
use crate::records::enrollments::Enrollment;
use crate::records::proof::{Proof, Via};
use crate::refusal::Refusal;

/// Finds the enrollment by the registration id and the chain, whose first certificate is the device's own.
pub(crate) fn by_certificate<'a>(
    registration_id: &str,
    presented: &[Certificate],
    grounds: &Grounds<'a>,
) -> Result<Match<'a>, Refusal> {
    let Some((leaf, others)) = presented.split_first() else {
        return Err(Refusal::unauthorized("the connection has no client certificate"));
    };
    match &leaf.common_name {
        Some(name) if name.eq_ignore_ascii_case(registration_id) => {}
        Some(name) => {
            let cause = format!(
                "the common name of the certificate is {name}, the registration id is {registration_id}"
            );
            return Err(Refusal::wrong_key(cause));
        }
        None => {
            let cause =
                format!("{} has no common name, the registration id is {registration_id}", leaf.subject);
            return Err(Refusal::wrong_key(cause));
        }
    }
    let path = Path::of(leaf, others);
    let Some(enrollment) = grounds.individuals.find(registration_id) else {
        return by_group(&path, others, grounds).map_err(|refusal| {
            let cause = format!("{registration_id} has no individual enrollment, and {}", refusal.cause);
            refusal.because(cause)
        });
    };
    let proof = || Proof::X509 { leaf: leaf.info().clone() };
    let individual = || Match { enrollment, via: Via::Individual, proof: proof(), warning: None };
    let id = &enrollment.id;
    match &enrollment.attestation {
        Attestation::X509(X509::Certificates { slots, .. }) => {
            if !slots.iter().any(|own| own == leaf) {
                let cause = format!(
                    "certificate {} is neither the primary nor the secondary of enrollment {id}",
                    leaf.sha256_thumbprint().unwrap_or_default()
                );
                return Err(invalid(cause));
            }
            chain::in_time("leaf", leaf, grounds.now).map_err(invalid)?;
            Ok(individual())
        }
        Attestation::X509(X509::References(_)) => {
            let (anchors, troubles) = anchors([enrollment], "enrollment", grounds.authorities);
            nearest(&path, others, &anchors, &troubles, grounds)?;
            Ok(individual())
        }
        other if enrollment.enabled => {
            let cause = format!("enrollment {id} is for attestation by {}, not by x509", other.word());
            Err(Refusal::wrong_key(cause))
        }
        other => {
            let found = by_group(&path, others, grounds).map_err(|refusal| {
                let cause = format!(
                    "disabled enrollment {id} is for attestation by {}, and {}",
                    other.word(),
                    refusal.cause
                );
                refusal.because(cause)
            })?;
            Ok(Match { enrollment, via: Via::Individual, ..found })
        }
    }
}

fn by_group<'a>(
    path: &Path<'_>,
    others: &[Certificate],
    grounds: &Grounds<'a>,
) -> Result<Match<'a>, Refusal> {
    let (anchors, troubles) = anchors(grounds.groups.iter(), "group", grounds.authorities);
    let anchor = nearest(path, others, &anchors, &troubles, grounds)?;
    let enrollment = anchor.enrollment;
    let whole = path.with(anchor.certificate);
    let mut warning = None;
    if !anchor.uploaded && !ends_in_verified(&whole, grounds) {
        let cause = format!(
            "group {} fits, but no verified CA certificate of the instance is at the end of the chain: \
             {whole}",
            enrollment.id
        );
        if grounds.require_verified_ca {
            return Err(ca_not_found(cause));
        }
        warning = Some(format!("{cause}; the service itself requires one"));
    }
    let proof = Proof::X509 { leaf: path.leaf.info().clone() };
    Ok(Match { enrollment, via: Via::Group(enrollment.id.clone()), proof, warning })
}

/// A certificate that admits the devices of an enrollment.
struct Anchor<'a> {
    enrollment: &'a Enrollment,
    /// The noun for the kind of enrollment, in messages.
    noun: &'static str,
    certificate: &'a Certificate,
    /// Whether the enrollment refers to a verified CA certificate of the instance instead of containing its
    /// own.
    uploaded: bool,
}

impl Anchor<'_> {
    fn holder(&self) -> String {
        format!("{} {}", self.noun, self.enrollment.id)
    }
}

/// The anchors of enrollments, and messages about references that cannot be resolved. `noun` names the kind
/// of enrollment in them.
fn anchors<'a>(
    enrollments: impl IntoIterator<Item = &'a Enrollment>,
    noun: &'static str,
    authorities: &'a Authorities,
) -> (Vec<Anchor<'a>>, Vec<String>) {
    let (mut anchors, mut troubles) = (Vec::new(), Vec::new());
    for enrollment in enrollments {
        match &enrollment.attestation {
            Attestation::X509(X509::Certificates { slots, .. }) => {
                let own =
                    slots.iter().map(|certificate| Anchor { enrollment, noun, certificate, uploaded: false });
                anchors.extend(own);
            }
            Attestation::X509(X509::References(names)) => {
                for name in names.iter() {
                    let is_not = match authorities.find(name) {
                        Some(found) if found.verified => {
                            let certificate = &found.certificate;
                            anchors.push(Anchor { enrollment, noun, certificate, uploaded: true });
                            continue;
                        }
                        Some(_) => "verified",
                        None => "uploaded",
                    };
                    let id = &enrollment.id;
                    troubles
                        .push(format!("certificate {name}, to which {noun} {id} refers, is not {is_not}"));
                }
            }
            Attestation::SymmetricKey { .. } | Attestation::Tpm(_) => {}
        }
    }
    (anchors, troubles)
}

/// The anchor nearest to the leaf. All certificates up to it must be valid.
fn nearest<'a, 'b>(
    path: &Path<'_>,
    others: &[Certificate],
    anchors: &'b [Anchor<'a>],
    troubles: &[String],
    grounds: &Grounds<'_>,
) -> Result<&'b Anchor<'a>, Refusal> {
    let levels = anchors.iter().filter_map(|anchor| Some((path.level(anchor.certificate)?, anchor)));
    let Some((level, anchor)) = levels.min_by_key(|(level, _)| *level) else {
        return Err(unmatched(path, others, anchors, troubles, grounds));
    };
    path.with(anchor.certificate).judge(level, grounds.now).map_err(invalid)?;
    Ok(anchor)
}

/// Why a chain ends in no anchor.
fn unmatched(
    path: &Path<'_>,
    others: &[Certificate],
    anchors: &[Anchor<'_>],
    troubles: &[String],
    grounds: &Grounds<'_>,
) -> Refusal {
    let last = path.last();
    let known = others.iter().chain(anchors.iter().map(|anchor| anchor.certificate));
    let impostor = known.into_iter().find(|other| !path.is_complete() && last.is_issued_by(other));
    let enrolled: Vec<String> = anchors
        .iter()
        .map(|anchor| format!("{} of {}", anchor.certificate.subject, anchor.holder()))
        .chain(troubles.iter().cloned())
        .collect();
    let enrolled = match enrolled.as_slice() {
        [] => "no group has X.509 certificates".to_owned(),
        some => format!("enrolled: {}", some.join(", ")),
    };
    let presented = format!("presented {path}");
    if let Some(impostor) = impostor {
        let why =
            if impostor.may_sign { "did not sign it" } else { "is not the certificate of an authority" };
        let cause =
            format!("{} names {} as its issuer, which {why}; {presented}", last.subject, impostor.subject);
        return invalid(cause);
    }
    // The service answers a device of a deleted group in this way.
    if anchors.is_empty() && troubles.is_empty() && ends_in_verified(path, grounds) {
        return Refusal::wrong_key(format!("{enrolled}; {presented}"));
    }
    if !path.is_complete() {
        let cause = format!(
            "chain lacks the intermediate that signs {}: {} is neither presented nor enrolled; {presented}; \
             {enrolled}",
            last.subject, last.issuer
        );
        return ca_not_found(cause);
    }
    let holders: Vec<String> = anchors.iter().map(Anchor::holder).collect();
    let cause = match holders.as_slice() {
        [] => format!("{enrolled}; {presented}"),
        holders => format!(
            "signing certificate of {} is not in the chain: {presented}; {enrolled}",
            holders.join(", ")
        ),
    };
    if !anchors.is_empty() && ends_in_verified(path, grounds) {
        return invalid(cause).with_message("Signing certificate info did not match chain elements.");
    }
    ca_not_found(cause)
}

/// Returns whether the chain contains a verified CA certificate of the instance that is valid.
fn ends_in_verified(path: &Path<'_>, grounds: &Grounds<'_>) -> bool {
    grounds.authorities.iter().any(|authority| {
        authority.verified
            && path.level(&authority.certificate).is_some()
            && chain::in_time("root", &authority.certificate, grounds.now).is_ok()
    })
}

fn invalid(cause: String) -> Refusal {
    Refusal::wrong_key(cause).with_message("Invalid certificate.")
}

fn ca_not_found(cause: String) -> Refusal {
    Refusal::wrong_key(cause).with_message("CA certificate not found.")
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use crate::json::{Value, json};
    use crate::records::enrollments::Enrollments;

    use crate::call::kind::Kind;
    use crate::crypto::pki::{KeyedCertificate, Pki};
    use crate::crypto::tpm_key::PUBLISHED_KEY;
    use crate::ids::Ids;
    use crate::records::authorities::CaCertificate;
    use crate::records::enrollments::Enrolling;

    use super::*;

    #[test]
    fn an_individual_enrollment_comes_before_groups() {
        let pki = Pki::new(["a"], 1).unwrap();
        let [leaf, other] =
            [&pki.devices[0], &pki.foreign].map(|of| json!({"certificate": of.certificate_pem}));
        for (enabled, attestation, wanted) in [
            (true, json!({"x509": {"clientCertificates": {"secondary": leaf}}}), Ok(Via::Individual)),
            (false, json!({"x509": {"clientCertificates": {"primary": leaf}}}), Ok(Via::Individual)),
            (true, json!({"x509": {"clientCertificates": {"primary": other}}}), Err("Invalid certificate.")),
            (false, json!({"x509": {"clientCertificates": {"primary": other}}}), Err("Invalid certificate.")),
            (true, json!({"x509": {"caReferences": {"primary": "root"}}}), Ok(Via::Individual)),
            (true, json!({"x509": {"caReferences": {"primary": "none"}}}), Err("CA certificate not found.")),
            (true, json!({"symmetricKey": {}}), Err("Unauthorized")),
            (false, json!({"symmetricKey": {}}), Ok(Via::Individual)),
            (true, json!({"tpm": {"endorsementKey": PUBLISHED_KEY}}), Err("Unauthorized")),
            (false, json!({"tpm": {"endorsementKey": PUBLISHED_KEY}}), Ok(Via::Individual)),
        ] {
            let mut instance = Instance::new();
            instance
                .authorities
                .put(CaCertificate::verified("root", &pki.root.certificate_pem), instance.now)
                .unwrap();
            instance.group("plant", &pki.root);
            instance.individual("a", enabled, attestation.clone());
            assert_eq!(instance.judge("A", &pki.devices[0].chain_pem), wanted, "{enabled} {attestation}");
        }
    }

    #[test]
    fn a_disabled_enrollment_of_another_type_lets_no_foreign_device_leave_a_record() {
        let pki = Pki::new(["a"], 1).unwrap();
        let mut instance = Instance::new();
        instance.group("plant", &pki.root);
        instance.individual("a", false, json!({"symmetricKey": {}}));

        assert_eq!(instance.judge("a", &pki.foreign.chain_pem), Err("CA certificate not found."));
        assert_eq!(instance.judge("a", &pki.expired.chain_pem), Err("Invalid certificate."));
    }

    #[test]
    fn the_nearest_group_decides_and_certificates_up_to_it_must_be_in_time() {
        let pki = Pki::new(["a"], 2).unwrap();
        let device = &pki.devices[0];
        let mut instance = Instance::new();
        assert_eq!(instance.judge("a", &device.chain_pem), Err("CA certificate not found."));
        for (id, anchor) in [("a", &pki.root), ("b", &pki.intermediates[0]), ("c", &pki.intermediates[1])] {
            instance.group(id, anchor);
            assert_eq!(instance.judge("a", &device.chain_pem), Ok(Via::Group(id.into())));
        }
        assert_eq!(instance.judge("a", &device.certificate_pem), Ok(Via::Group("c".into())));
        assert_eq!(instance.judge("b", &device.chain_pem), Err("Unauthorized"));
        assert_eq!(instance.judge("a", &pki.expired.chain_pem), Err("Invalid certificate."));
        assert_eq!(instance.judge("a", ""), Err("Unauthorized"));
    }

    #[test]
    fn a_verified_authority_may_be_required_at_the_end_of_the_chain() {
        let pki = Pki::new(["a"], 1).unwrap();
        let mut instance = Instance::new();
        instance.require_verified_ca = true;
        instance.group("plant", &pki.intermediates[0]);
        let leaf = &pki.devices[0].certificate_pem;
        assert_eq!(instance.judge("a", leaf), Err("CA certificate not found."));
        let root = &pki.root.certificate_pem;
        instance.authorities.put(CaCertificate::unverified("root", root), instance.now).unwrap();
        assert_eq!(instance.judge("a", leaf), Err("CA certificate not found."));
        instance.authorities.mark("root", true);
        assert_eq!(instance.judge("a", leaf), Ok(Via::Group("plant".into())));
    }

    struct Instance {
        individuals: Enrollments,
        groups: Enrollments,
        authorities: Authorities,
        require_verified_ca: bool,
        now: OffsetDateTime,
    }

    impl Instance {
        fn new() -> Self {
            Instance {
                individuals: Enrollments::new(Kind::Individual),
                groups: Enrollments::new(Kind::Group),
                authorities: Authorities::default(),
                require_verified_ca: false,
                now: OffsetDateTime::now_utc(),
            }
        }

        fn individual(&mut self, id: &str, enabled: bool, attestation: Value) {
            let status = if enabled { "enabled" } else { "disabled" };
            let body = json!({"registrationId": id, "provisioningStatus": status, "attestation": typed(attestation)});
            put(&mut self.individuals, id, &body);
        }

        fn group(&mut self, id: &str, anchor: &KeyedCertificate) {
            let slots = json!({"primary": {"certificate": anchor.certificate_pem}});
            let attestation = typed(json!({"x509": {"signingCertificates": slots}}));
            put(&mut self.groups, id, &json!({"enrollmentGroupId": id, "attestation": attestation}));
        }

        /// How the device is enrolled, or the message of the refusal.
        fn judge(&self, registration_id: &str, chain_pem: &str) -> Result<Via, &'static str> {
            let grounds = Grounds {
                individuals: &self.individuals,
                groups: &self.groups,
                authorities: &self.authorities,
                require_verified_ca: self.require_verified_ca,
                now: self.now,
            };
            let pems =
                chain_pem.split_inclusive("-----END CERTIFICATE-----").filter(|pem| !pem.trim().is_empty());
            let presented: Vec<_> = pems.map(|pem| Certificate::read(pem).unwrap()).collect();
            let via = by_certificate(registration_id, &presented, &grounds).map(|found| found.via);
            via.map_err(|refusal| {
                let messages = ["Unauthorized", "Invalid certificate.", "CA certificate not found."];
                messages.into_iter().find(|message| *message == refusal.message).unwrap()
            })
        }
    }

    /// An attestation whose type is that of its only member.
    fn typed(attestation: Value) -> Value {
        let mut members = attestation.as_object().unwrap().clone();
        let name = members.keys().next().unwrap().clone();
        members.insert("type".into(), name.into());
        members.into()
    }

    fn put(enrollments: &mut Enrollments, id: &str, body: &Value) {
        let members = body.as_object().unwrap().clone();
        let now = OffsetDateTime::UNIX_EPOCH;
        enrollments.put(id, members, None, &Enrolling::default(), &mut Ids::default(), now).unwrap();
    }
}
