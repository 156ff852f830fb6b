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

use std::collections::BTreeSet;

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
    check_common_name(leaf, registration_id)?;
    let path = Path::of(leaf, others);
    let Some(enrollment) = grounds.individuals.find(registration_id) else {
        return by_group(&path, others, grounds).map_err(|refusal| {
            let cause = format!("{registration_id} has no individual enrollment, and {}", refusal.cause);
            refusal.because(cause)
        });
    };
    let proof = || Proof::X509 { thumbprint: leaf.sha1_thumbprint() };
    let individual = || Match { enrollment, via: Via::Individual, proof: proof(), warning: None };
    let id = &enrollment.id;
    match &enrollment.attestation {
        Attestation::X509(X509::Certificates { slots, .. }) => {
            if !slots.iter().any(|own| own.as_ref() == leaf) {
                let cause = format!(
                    "certificate {} is neither the primary nor the secondary of enrollment {id}",
                    leaf.sha256_thumbprint()
                );
                return Err(invalid(cause));
            }
            chain::in_time("leaf", leaf, grounds.now).map_err(invalid)?;
            Ok(individual())
        }
        Attestation::X509(X509::References(_)) => {
            let (anchors, troubles) = anchors([enrollment], "enrollment", grounds.authorities);
            match nearest(&path, &anchors, grounds)? {
                Some(_) => Ok(individual()),
                None => Err(unmatched(&path, others, &anchors, &troubles, grounds)),
            }
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

fn check_common_name(leaf: &Certificate, registration_id: &str) -> Result<(), Refusal> {
    let cause = match &leaf.common_name {
        Some(name) if name.eq_ignore_ascii_case(registration_id) => return Ok(()),
        Some(name) => {
            format!("the common name of the certificate is {name}, the registration id is {registration_id}")
        }
        None => format!("{} has no common name, the registration id is {registration_id}", leaf.subject),
    };
    Err(Refusal::wrong_key(cause))
}

fn by_group<'a>(
    path: &Path<'_>,
    others: &[Certificate],
    grounds: &Grounds<'a>,
) -> Result<Match<'a>, Refusal> {
    let (path, candidates) = candidates(path, grounds);
    let (candidates, _) = anchors(candidates, "group", grounds.authorities);
    let Some(anchor) = nearest(&path, &candidates, grounds)? else {
        let (anchors, troubles) = anchors(grounds.groups.iter(), "group", grounds.authorities);
        return Err(unmatched(&path, others, &anchors, &troubles, grounds));
    };
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
    let proof = Proof::X509 { thumbprint: path.leaf.sha1_thumbprint() };
    Ok(Match { enrollment, via: Via::Group(enrollment.id.clone()), proof, warning })
}

/// The groups one of which decides if any group does, in the order of their ids: for each authority at which
/// the chain can end, the first group by id that has its certificate or refers to it.
fn candidates<'a, 'p>(path: &Path<'p>, grounds: &Grounds<'a>) -> (Path<'p>, Vec<&'a Enrollment>) {
    let (mut path, index) = (path.clone(), grounds.groups.index());
    let presented = path.above().iter().filter_map(|authority| index.with_certificate(authority).next());
    let verified = grounds.authorities.iter().filter(|authority| authority.verified);
    let referring = verified.filter_map(|authority| index.referring_to(&authority.name));
    let mut ids: BTreeSet<&str> = presented.chain(referring).collect();
    if !path.is_complete() {
        let likely = grounds.likely().flat_map(Attestation::certificates).map(|own| own.public_key);
        if let Some((group, key)) = index.signers.of(path.last(), likely) {
            ids.insert(group);
            path = path.signed_with(key);
        }
    }
    (path, ids.into_iter().filter_map(|id| grounds.groups.find(id)).collect())
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

/// The anchor nearest to the leaf, if the chain ends in one. All certificates up to it must be valid.
fn nearest<'a, 'b>(
    path: &Path<'_>,
    anchors: &'b [Anchor<'a>],
    grounds: &Grounds<'_>,
) -> Result<Option<&'b Anchor<'a>>, Refusal> {
    let levels = anchors.iter().filter_map(|anchor| Some((path.level(anchor.certificate)?, anchor)));
    let Some((level, anchor)) = levels.min_by_key(|(level, _)| *level) else { return Ok(None) };
    path.with(anchor.certificate).judge(level, grounds.now).map_err(invalid)?;
    Ok(Some(anchor))
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
    use std::iter;
    use std::sync::LazyLock;

    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use time::OffsetDateTime;

    use crate::json::{Value, json};
    use crate::records::enrollments::Enrollments;

    use crate::call::kind::Kind;
    use crate::crypto::pki::{self, KeyedCertificate, Pki};
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

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_index_of_authorities_finds_the_group_that_a_search_finds(
            steps in vec(
                (0..6_usize, option::of((0..5_usize, option::of(0..5_usize), any::<bool>()))),
                0..14,
            ),
            uploaded in vec((0..5_usize, any::<bool>()), 0..4),
            likely in vec(0..6_usize, 0..3),
            device in 0..4_usize,
            presented in 0..4_usize,
        ) {
            let pool = &*POOL;
            let mut instance = Instance::new();
            for (number, verified) in uploaded {
                let (name, text) = (format!("ca-{number}"), pool.authorities[number].clone());
                instance.authorities.put(CaCertificate { name, text, verified }, instance.now).unwrap();
            }
            for (group, change) in steps {
                instance.change(GROUPS[group], change, &pool.authorities);
            }
            let presented: Vec<Certificate> = iter::once(&pool.devices[device])
                .chain(pool.authorities.iter().take(presented))
                .map(|pem| Certificate::read(pem).unwrap())
                .collect();
            let mut grounds = instance.grounds();
            grounds.likely = likely.into_iter().map(|group| GROUPS[group].to_owned()).collect();
            let (leaf, others) = presented.split_first().unwrap();
            let path = Path::of(leaf, others);

            let found = by_group(&path, others, &grounds);

            let (anchors, troubles) = anchors(instance.groups.iter(), "group", &instance.authorities);
            match (nearest(&path, &anchors, &grounds), found) {
                (Ok(Some(wanted)), Ok(found)) => {
                    prop_assert_eq!(&wanted.enrollment.id, &found.enrollment.id);
                    let whole = path.with(wanted.certificate);
                    let warns = !wanted.uploaded && !ends_in_verified(&whole, &grounds);
                    prop_assert_eq!(found.warning.is_some(), warns);
                }
                (Ok(None), Err(found)) => {
                    let wanted = unmatched(&path, others, &anchors, &troubles, &grounds);
                    prop_assert_eq!((wanted.code, wanted.cause), (found.code, found.cause));
                }
                (wanted, found) => {
                    let wanted = wanted.map(|anchor| anchor.map(|anchor| anchor.enrollment.id.clone()));
                    let found = found.map(|found| found.enrollment.id.clone());
                    prop_assert!(false, "{wanted:?} {found:?}");
                }
            }
        }
    }

    const GROUPS: [&str; 6] = ["Plant-1", "a", "b", "line", "plant-2", "Z"];

    /// Authorities of which all but the second last have the same subject; the second has the key of the
    /// first. The devices `unit-7` are signed by the first, the third, the fourth and the last one.
    static POOL: LazyLock<Pool> = LazyLock::new(|| {
        let first = KeyPair::generate().unwrap();
        let again = KeyPair::from_pem(&first.serialize_pem()).unwrap();
        let root = |key, name: &str| CertifiedIssuer::self_signed(authority(name, true), key).unwrap();
        let roots = [root(first, "root"), root(again, "root"), root(KeyPair::generate().unwrap(), "root")];
        let middle = |names_key| {
            let key = KeyPair::generate().unwrap();
            let name = if names_key { "middle" } else { "root" };
            CertifiedIssuer::signed_by(authority(name, names_key), key, &roots[0]).unwrap()
        };
        let middles = [middle(true), middle(false)];
        let leaf = |issuer: &CertifiedIssuer<'_, KeyPair>, names_key| {
            let mut params = authority("unit-7", names_key);
            params.is_ca = IsCa::NoCa;
            params.signed_by(&KeyPair::generate().unwrap(), issuer).unwrap().pem()
        };
        Pool {
            devices: vec![
                leaf(&roots[0], true),
                leaf(&roots[2], false),
                leaf(&middles[0], true),
                leaf(&middles[1], false),
            ],
            authorities: roots.iter().chain(&middles).map(|issuer| issuer.pem()).collect(),
        }
    });

    struct Pool {
        devices: Vec<String>,
        authorities: Vec<String>,
    }

    fn authority(name: &str, names_key: bool) -> CertificateParams {
        let mut params = pki::authority(name, OffsetDateTime::now_utc() + time::Duration::days(9)).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.use_authority_key_identifier_extension = names_key;
        params
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

        /// Deletes the group, or gives it new certificates or references.
        fn change(&mut self, id: &str, change: Option<(usize, Option<usize>, bool)>, authorities: &[String]) {
            let exists = self.groups.find(id).is_some();
            let Some((primary, secondary, by_name)) = change else {
                assert_eq!(self.groups.delete(id, None).is_ok(), exists);
                return;
            };
            let slot = |number: usize| match by_name {
                true => json!(format!("CA-{number}")),
                false => json!({"certificate": authorities[number]}),
            };
            let mut slots = json!({"primary": slot(primary)});
            if let Some(secondary) = secondary {
                slots.as_object_mut().unwrap().insert("secondary".into(), slot(secondary));
            }
            let member = if by_name { "caReferences" } else { "signingCertificates" };
            let attestation = typed(json!({"x509": {(member): slots}}));
            let body = json!({"enrollmentGroupId": id, "attestation": attestation});
            let members = body.as_object().unwrap().clone();
            let (enrolling, tag) = (Enrolling::default(), exists.then_some("*"));
            self.groups.put(id, members, tag, &enrolling, &mut Ids::default(), self.now).unwrap();
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

        fn grounds(&self) -> Grounds<'_> {
            Grounds {
                individuals: &self.individuals,
                groups: &self.groups,
                authorities: &self.authorities,
                require_verified_ca: self.require_verified_ca,
                likely: Vec::new(),
                now: self.now,
            }
        }

        /// How the device is enrolled, or the message of the refusal.
        fn judge(&self, registration_id: &str, chain_pem: &str) -> Result<Via, &'static str> {
            let grounds = self.grounds();
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
