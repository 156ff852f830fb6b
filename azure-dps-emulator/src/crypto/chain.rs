//! The chain that a device presents: follows the signatures, and judges the dates and path lengths.
//!
//! An anchor is a certificate that is trusted because it is enrolled or uploaded. Enrollments are not known
//! here.

use std::fmt;

use time::OffsetDateTime;

use crate::crypto::certificate::{Certificate, Fingerprint, date_time};

/// A leaf and the authorities that signed it, from the leaf up. The signatures have been verified.
///
/// `Display` names them as `CN=leaf <- CN=intermediate <- CN=root`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Path<'a> {
    pub(crate) leaf: &'a Certificate,
    above: Vec<&'a Certificate>,
    /// The public key of the authority that signed the last element, once it is known.
    signer: Option<Fingerprint>,
}

impl<'a> Path<'a> {
    /// Follows the signatures from the leaf as far as possible. The other certificates can be in any order.
    pub(crate) fn of(leaf: &'a Certificate, others: &'a [Certificate]) -> Self {
        let mut path = Path { leaf, above: Vec::new(), signer: None };
        let mut rest: Vec<&Certificate> = others.iter().collect();
        while !path.is_complete()
            && let Some(at) = rest.iter().position(|issuer| path.last().is_signed_by(issuer))
        {
            path.above.push(rest.swap_remove(at));
        }
        path
    }

    /// The last element, which no presented certificate signed.
    pub(crate) fn last(&self) -> &'a Certificate {
        self.above.last().copied().unwrap_or(self.leaf)
    }

    /// Returns whether the last element is self-issued.
    pub(crate) fn is_complete(&self) -> bool {
        self.last().is_self_issued()
    }

    /// The level of an anchor above the leaf: it is an element, or it signed the last element and was not
    /// presented.
    pub(crate) fn level(&self, anchor: &Certificate) -> Option<usize> {
        let inside = self.above.iter().position(|element| *element == anchor);
        inside.or_else(|| (!self.is_complete() && self.is_continued_by(anchor)).then_some(self.above.len()))
    }

    fn is_continued_by(&self, anchor: &Certificate) -> bool {
        match self.signer {
            Some(key) if key == anchor.public_key => anchor.may_sign && self.last().is_issued_by(anchor),
            _ => self.last().is_signed_by(anchor),
        }
    }

    /// All presented elements above the leaf.
    pub(crate) fn above(&self) -> &[&'a Certificate] {
        &self.above
    }

    /// The path, with the public key of the authority whose signature on the last element has been verified.
    pub(crate) fn signed_with(mut self, key: Fingerprint) -> Self {
        self.signer = Some(key);
        self
    }

    /// The path with an anchor at its end, unless the anchor is already in it.
    pub(crate) fn with(&self, anchor: &'a Certificate) -> Self {
        let mut path = self.clone();
        if !path.above.contains(&anchor) {
            path.above.push(anchor);
            path.signer = None;
        }
        path
    }

    /// Judges the dates of all certificates up to this level, and how many authorities each of them allows
    /// below itself.
    ///
    /// # Errors
    /// Says which certificate is not valid, and why.
    pub(crate) fn judge(&self, level: usize, now: OffsetDateTime) -> Result<(), String> {
        in_time("leaf", self.leaf, now)?;
        for (below, authority) in self.above.iter().enumerate().take(level + 1) {
            in_time(if authority.is_self_issued() { "root" } else { "intermediate" }, authority, now)?;
            let limit = authority.path_limit.and_then(|limit| usize::try_from(limit).ok());
            if let Some(limit) = limit.filter(|limit| below > *limit) {
                let subject = &authority.subject;
                return Err(format!(
                    "{subject} allows {limit} authorities below itself, and there are {below}"
                ));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.leaf.subject)?;
        self.above.iter().try_for_each(|authority| write!(f, " <- {}", authority.subject))
    }
}

/// Judges the dates of a certificate; `role` names it in the message.
///
/// # Errors
/// The certificate has expired or is not valid yet; the message has its dates.
pub(crate) fn in_time(role: &str, certificate: &Certificate, now: OffsetDateTime) -> Result<(), String> {
    let Certificate { subject, not_before, not_after, .. } = certificate;
    let what = match now {
        _ if now > *not_after => "expired",
        _ if now < *not_before => "is not valid yet",
        _ => return Ok(()),
    };
    let [from, to, now] = [*not_before, *not_after, now].map(|time| {
        let whole = time.replace_nanosecond(0).unwrap_or(time);
        date_time(whole).unwrap_or_default()
    });
    Err(format!("{role} {subject} {what}: it is valid from {from} to {to}, and it is {now}"))
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
    use time::Duration;

    use crate::crypto::pki::Pki;

    use super::*;

    #[test]
    fn signatures_are_followed_in_any_order_of_the_certificates() {
        let pki = Pki::new(["a"], 2).unwrap();
        let leaf = read(&pki.devices[0].certificate_pem);
        let [upper, lower] = [0, 1].map(|at| read(&pki.intermediates[at].certificate_pem));
        let (root, foreign) =
            (read(&pki.root.certificate_pem), read(&Pki::new(["b"], 0).unwrap().root.certificate_pem));

        let others = [root.clone(), foreign.clone(), upper.clone(), lower.clone()];
        let path = Path::of(&leaf, &others);

        assert_eq!(path.above, [&lower, &upper, &root]);
        assert!(path.is_complete());
        assert_eq!(
            [&lower, &upper, &root, &foreign].map(|anchor| path.level(anchor)),
            [Some(0), Some(1), Some(2), None]
        );
        assert_eq!(
            path.to_string(),
            "CN=a <- CN=Azure DPS test intermediate 2 <- CN=Azure DPS test intermediate 1 <- CN=Azure DPS test root"
        );
        let others = [lower.clone()];
        let path = Path::of(&leaf, &others);
        assert_eq!((path.level(&upper), path.level(&root)), (Some(1), None));
        assert_eq!(path.with(&upper).level(&root), Some(2));
        let others = [upper.clone()];
        assert_eq!(Path::of(&leaf, &others).above, Vec::<&Certificate>::new(), "the lower one is missing");
    }

    #[test]
    fn a_matching_name_is_not_a_signature_and_a_leaf_is_not_an_authority() {
        let (ours, theirs) = (Pki::new(["a"], 0).unwrap(), Pki::new(["a"], 0).unwrap());
        let leaf = read(&ours.devices[0].certificate_pem);
        let impostor = read(&theirs.root.certificate_pem);
        assert!(leaf.is_issued_by(&impostor) && !leaf.is_signed_by(&impostor));

        let key = KeyPair::generate().unwrap();
        let device = CertifiedIssuer::self_signed(named("gateway", IsCa::NoCa), key).unwrap();
        let below = named("thing", IsCa::NoCa).signed_by(&KeyPair::generate().unwrap(), &device).unwrap();
        let (device, below) = (read(&device.pem()), read(&below.pem()));
        assert!(below.is_issued_by(&device) && !below.is_signed_by(&device));
    }

    #[test]
    fn an_anchor_cannot_be_the_leaf() {
        let root = read(&Pki::new(["a"], 0).unwrap().root.certificate_pem);

        assert_eq!(Path::of(&root, &[]).level(&root), None);
    }

    #[test]
    fn every_certificate_up_to_the_anchor_must_be_valid() {
        let pki = Pki::new(["a"], 1).unwrap();
        let leaf = read(&pki.devices[0].certificate_pem);
        let others = [read(&pki.intermediates[0].certificate_pem), read(&pki.root.certificate_pem)];
        let path = Path::of(&leaf, &others);
        let now = OffsetDateTime::now_utc();

        assert_eq!(path.judge(1, now), Ok(()));
        let early = path.judge(1, now - Duration::days(4)).unwrap_err();
        assert!(early.starts_with("leaf CN=a is not valid yet: it is valid from 20"), "{early}");
        let expired = read(&pki.expired.certificate_pem);
        let late = Path::of(&expired, &others).judge(0, now).unwrap_err();
        assert!(
            late.starts_with("leaf CN=a expired: it is valid from 20") && late.contains(", and it is 20"),
            "{late}"
        );

        let root = IsCa::Ca(BasicConstraints::Unconstrained);
        let mut params = named("old", root);
        params.not_after = now + Duration::days(1);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let leaf = named("a", IsCa::NoCa).signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
        let (leaf, anchor) = (read(&leaf.pem()), read(&issuer.pem()));
        let path = Path::of(&leaf, &[]).with(&anchor);
        assert_eq!(path.judge(0, now), Ok(()));
        let late = path.judge(0, now + Duration::days(2)).unwrap_err();
        assert!(late.starts_with("root CN=old expired: "), "{late}");
    }

    #[test]
    fn an_authority_may_limit_the_length_of_the_path() {
        let root = IsCa::Ca(BasicConstraints::Constrained(0));
        let root = CertifiedIssuer::self_signed(named("root", root), KeyPair::generate().unwrap()).unwrap();
        let middle = IsCa::Ca(BasicConstraints::Unconstrained);
        let middle =
            CertifiedIssuer::signed_by(named("middle", middle), KeyPair::generate().unwrap(), &root).unwrap();
        let leaf = named("a", IsCa::NoCa).signed_by(&KeyPair::generate().unwrap(), &middle).unwrap();
        let (leaf, others) = (read(&leaf.pem()), [read(&middle.pem()), read(&root.pem())]);
        let path = Path::of(&leaf, &others);
        let now = OffsetDateTime::now_utc();

        assert_eq!(path.judge(0, now), Ok(()));
        assert_eq!(
            path.judge(1, now).unwrap_err(),
            "CN=root allows 0 authorities below itself, and there are 1"
        );
    }

    fn named(name: &str, is_ca: IsCa) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = is_ca;
        params
    }

    fn read(pem: &str) -> Certificate {
        Certificate::read(pem).unwrap()
    }
}
