//! The keys that a TPM must have: the templates to create them, and the checks of existing keys. Pure.
//!
//! Source: TCG EK credential profile, template L-1; TCG TPM 2.0 provisioning guidance, storage root key.

/// The standard template of a TPM key.
pub(super) struct Template {
    pub(super) name: &'static str,
    /// The handle where tools keep it by convention.
    pub(super) handle: u32,
    /// The `TPMT_PUBLIC` up to the key itself.
    head: &'static [u8],
    /// The required attributes; the others are optional.
    must: u32,
}

impl Template {
    /// The `TPMT_PUBLIC` to create the key from. The 256 zero bytes matter: without them the same seed
    /// creates another key.
    pub(super) fn area(&self) -> Vec<u8> {
        [self.head, &[0; KEY_BYTES]].concat()
    }

    /// Describes how a `TPMT_PUBLIC` differs from this template; `None` if it matches.
    pub(super) fn differs(&self, area: &[u8]) -> Option<&'static str> {
        if area.get(..TYPE.end) != self.head.get(..TYPE.end) {
            return Some(match area.get(TYPE) {
                Some([0x00, 0x01]) => "an RSA key",
                Some([0x00, 0x08]) => "a keyed hash",
                Some([0x00, 0x23]) => "an ECC key",
                Some([0x00, 0x25]) => "a symmetric key",
                _ => "a key of an unknown type",
            });
        }
        if attributes(area).is_none_or(|have| have & self.must != self.must) {
            return Some("an RSA key with other attributes");
        }
        let rest = ATTRIBUTES.end..self.head.len();
        let same = area.len() == self.head.len() + KEY_BYTES
            && area.get(NAME_ALGORITHM) == self.head.get(NAME_ALGORITHM)
            && area.get(rest.clone()) == self.head.get(rest);
        (!same).then_some("an RSA key with another policy, hash, cipher or size")
    }
}

/// Whether a `TPMT_PUBLIC` belongs to a key that can sign with HMAC.
pub(super) fn signs(area: &[u8]) -> bool {
    area.get(TYPE) == Some(&KEYED_HASH) && attributes(area).is_some_and(|have| have & SIGN != 0)
}

/// Whether the key of a `TPMT_PUBLIC` can be persisted.
pub(super) fn can_persist(area: &[u8]) -> bool {
    attributes(area).is_some_and(|have| have & ST_CLEAR == 0)
}

fn attributes(area: &[u8]) -> Option<u32> {
    area.get(ATTRIBUTES)?.try_into().ok().map(u32::from_be_bytes)
}

pub(super) const ENDORSEMENT_KEY: Template = Template {
    name: "endorsement key",
    handle: 0x8101_0001,
    head: &[
        0x00, 0x01, // RSA
        0x00, 0x0b, // named with SHA-256
        0x00, 0x03, 0x00, 0xb2, // see `must`
        0x00, 0x20, // PolicySecret of the endorsement hierarchy
        0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7,
        0x24, //
        0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69,
        0xaa, //
        0x00, 0x06, 0x00, 0x80, 0x00, 0x43, // AES-128 in CFB
        0x00, 0x10, // no scheme
        0x08, 0x00, 0x00, 0x00, 0x00, 0x00, // 2048 bits, the usual exponent
        0x01, 0x00, // the length of the key
    ],
    // fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy, restricted, decrypt
    must: 0x0003_00b2,
};
pub(super) const STORAGE_ROOT_KEY: Template = Template {
    name: "storage root key",
    handle: 0x8100_0001,
    head: &[
        0x00, 0x01, // RSA
        0x00, 0x0b, // named with SHA-256
        0x00, 0x03, 0x04, 0x72, // see `must`, and noDA
        0x00, 0x00, // no policy
        0x00, 0x06, 0x00, 0x80, 0x00, 0x43, // AES-128 in CFB
        0x00, 0x10, // no scheme
        0x08, 0x00, 0x00, 0x00, 0x00, 0x00, // 2048 bits, the usual exponent
        0x01, 0x00, // the length of the key
    ],
    // fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, decrypt
    must: 0x0003_0072,
};
const KEY_BYTES: usize = 256;
const TYPE: std::ops::Range<usize> = 0..2;
const NAME_ALGORITHM: std::ops::Range<usize> = 2..4;
const ATTRIBUTES: std::ops::Range<usize> = 4..8;
const KEYED_HASH: [u8; 2] = [0x00, 0x08];
const SIGN: u32 = 0x0004_0000;
const ST_CLEAR: u32 = 0x4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_sizes_that_the_service_expects() {
        assert_eq!((ENDORSEMENT_KEY.area().len(), STORAGE_ROOT_KEY.area().len()), (314, 282));
    }

    #[test]
    fn a_key_made_from_a_template_matches_with_any_key_bytes() {
        for template in [ENDORSEMENT_KEY, STORAGE_ROOT_KEY] {
            let mut area = template.area();
            area[template.head.len()..].fill(0xa5);
            assert_eq!(template.differs(&area), None, "{}", template.name);
        }
    }

    #[test]
    fn a_storage_root_key_may_be_subject_to_lockout() {
        let mut area = STORAGE_ROOT_KEY.area();
        area[6] &= !0x04;
        assert_eq!(STORAGE_ROOT_KEY.differs(&area), None);
    }

    #[test]
    fn any_other_change_makes_it_another_key() {
        for template in [ENDORSEMENT_KEY, STORAGE_ROOT_KEY] {
            for byte in (0..template.head.len()).filter(|byte| !ATTRIBUTES.contains(byte)) {
                let mut area = template.area();
                area[byte] ^= 1;
                assert!(template.differs(&area).is_some(), "{} at {byte}", template.name);
            }
            for bit in (0..32).filter(|bit| template.must & 1 << bit != 0) {
                let mut area = template.area();
                area[ATTRIBUTES.start + 3 - bit / 8] ^= 1 << (bit % 8);
                let why = template.differs(&area).unwrap();
                assert_eq!(why, "an RSA key with other attributes", "{} without bit {bit}", template.name);
            }
            for length in [0, 1, 8, template.head.len(), template.area().len() - 1] {
                assert!(template.differs(&template.area()[..length]).is_some(), "{length}");
            }
        }
    }

    #[test]
    fn another_type_is_named() {
        let mut area = STORAGE_ROOT_KEY.area();
        area[1] = 0x23;
        assert_eq!(STORAGE_ROOT_KEY.differs(&area).unwrap(), "an ECC key");
    }

    #[test]
    fn only_a_keyed_hash_that_signs_is_an_identity_key() {
        assert!(signs(&[0x00, 0x08, 0x00, 0x0b, 0x00, 0x04, 0x04, 0x40]));
        assert!(!signs(&[0x00, 0x08, 0x00, 0x0b, 0x00, 0x00, 0x04, 0x40]), "sealed data");
        assert!(!signs(&STORAGE_ROOT_KEY.area()));
        assert!(!signs(&[0x00, 0x08]));
    }
}
