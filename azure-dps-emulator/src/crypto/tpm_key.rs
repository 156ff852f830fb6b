//! The public area of a TPM's endorsement key or storage root key.

use base64::prelude::{BASE64_STANDARD, Engine};
use rsa::rand_core::CryptoRngCore;
use rsa::sha2::Sha256 as OaepHash;
use rsa::{BigUint, Oaep, RsaPublicKey};
use sha2::{Digest, Sha256};

use crate::saved::saved_as_text;

/// A `TPM2B_PUBLIC` of an RSA key with 2048 bits whose private part cannot leave its TPM.
///
/// Keys are equal if their public areas are, byte for byte.
#[derive(Clone, PartialEq)]
pub(crate) struct StorageKey {
    /// `TPMT_PUBLIC`, without its length.
    area: Vec<u8>,
    key: RsaPublicKey,
}

impl StorageKey {
    /// Reads a key of the TCG's templates: RSA with SHA-256 and AES-128-CFB. Its authorization policy is not
    /// judged.
    ///
    /// # Errors
    /// Says what is wrong; the caller puts the name of the key before it.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
        let area = match Fields(bytes).sized() {
            Some((area, Fields([]))) => area,
            _ => return Err("is no TPM2B_PUBLIC: its first two bytes are not the length of the rest".into()),
        };
        let broken = || "is no TPM2B_PUBLIC of an RSA key: its fields do not fill it".to_owned();
        let (kind, fields) = Fields(area).word().ok_or_else(broken)?;
        expect("type", kind, RSA)?;
        let (hash, fields) = fields.word().ok_or_else(broken)?;
        expect("nameAlg", hash, SHA_256)?;
        let (attributes, fields) = fields.number().ok_or_else(broken)?;
        let (_policy, mut fields) = fields.sized().ok_or_else(broken)?;
        for (name, wanted) in PARAMETERS {
            let (value, rest) = fields.word().ok_or_else(broken)?;
            expect(name, value, wanted)?;
            fields = rest;
        }
        let (exponent, fields) = fields.number().ok_or_else(broken)?;
        // Zero means the default exponent.
        if ![0, USUAL_EXPONENT].contains(&exponent) {
            return Err(format!("has the exponent {exponent}, not {USUAL_EXPONENT}"));
        }
        let Some((modulus, Fields([]))) = fields.sized() else { return Err(broken()) };
        if modulus.len() != MODULUS || modulus.first().is_none_or(|byte| *byte < 0x80) {
            return Err(format!("has a modulus that is not of {MODULUS} bytes"));
        }
        if let Some((_, name)) = ATTRIBUTES.into_iter().find(|(bit, _)| attributes & bit == 0) {
            return Err(format!("lacks the attribute {name}"));
        }
        let key = RsaPublicKey::new(BigUint::from_bytes_be(modulus), BigUint::from(USUAL_EXPONENT))
            .map_err(|error| format!("is no RSA key: {error}"))?;
        Ok(StorageKey { area: area.to_owned(), key })
    }

    /// The key as it was read, in base64.
    pub(crate) fn to_base64(&self) -> String {
        BASE64_STANDARD.encode(sized(&self.area))
    }

    /// The TPM name of the key.
    pub(super) fn name(&self) -> Vec<u8> {
        name(&self.area)
    }

    /// Encrypts a seed to the key with RSA-OAEP. The label has to end with a zero byte, as the TPM expects.
    ///
    /// # Errors
    /// RSA encryption fails, which does not happen with a valid key.
    pub(super) fn encrypt(
        &self,
        label: &str,
        seed: &[u8],
        rng: &mut impl CryptoRngCore,
    ) -> Result<Vec<u8>, rsa::Error> {
        self.key.encrypt(rng, Oaep::new_with_label::<OaepHash, _>(label), seed)
    }
}

saved_as_text!(
    StorageKey,
    StorageKey::to_base64,
    |text| BASE64_STANDARD.decode(text).ok().and_then(|bytes| StorageKey::read(&bytes).ok()),
    "a key of a TPM is not base64 of a TPM2B_PUBLIC"
);

/// The TPM name of an object with this public area: the hash algorithm and the hash.
pub(super) fn name(area: &[u8]) -> Vec<u8> {
    [&SHA_256.to_be_bytes()[..], &Sha256::digest(area)].concat()
}

fn expect(field: &str, value: u16, wanted: u16) -> Result<(), String> {
    if value == wanted { Ok(()) } else { Err(format!("has {field} {value:#06x}, not {wanted:#06x}")) }
}

/// The bytes that are left to read; numbers are big-endian.
#[derive(Clone, Copy)]
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn word(self) -> Option<(u16, Self)> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        Some((u16::from_be_bytes(*bytes), Fields(rest)))
    }

    fn number(self) -> Option<(u32, Self)> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        Some((u32::from_be_bytes(*bytes), Fields(rest)))
    }

    fn sized(self) -> Option<(&'a [u8], Self)> {
        let (length, Fields(rest)) = self.word()?;
        let (bytes, rest) = rest.split_at_checked(length.into())?;
        Some((bytes, Fields(rest)))
    }
}

const RSA: u16 = 0x0001;
pub(super) const SHA_256: u16 = 0x000b;
const PARAMETERS: [(&str, u16); 5] = [
    ("symmetric", 0x0006),
    ("symmetric keyBits", 128),
    ("symmetric mode", 0x0043),
    ("scheme", 0x0010),
    ("keyBits", 2048),
];
const USUAL_EXPONENT: u32 = 65_537;
const MODULUS: usize = 256;
const ATTRIBUTES: [(u32, &str); 4] = [
    // Without it, the caller may have the private part in software and could extract the keys that are sealed
    // to it.
    (1 << 1, "fixedTPM"),
    (1 << 4, "fixedParent"),
    (1 << 16, "restricted"),
    (1 << 17, "decrypt"),
];

/// The bytes after their length of two bytes; callers never pass more than 65,535.
pub(super) fn sized(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes()[..], bytes].concat()
}

/// The endorsement key of one device, published with a trace of its registration.
#[cfg(test)]
pub(crate) const PUBLISHED_KEY: &str = "AToAAQALAAMAsgAgg3GXZ0SEs/gakMyNRqXXJP1S124GUgtk8qHaGzMUaaoABgCAAEMAEAgAAAAAAAEAopqgkUBwtpr1sCgVJcEZxsJtpmtOAt9K7SjGFe4hsp6DJ/dd2E5UFzBC+Jp8Fzqf5ukRBkqrAgIuAvHRsruIedk1uarJSLhbDpFLHxFd7iDNcYfrvdgVNT2T9zrvkh2y04WuRQg2D5qf0tZF82jeTjR/YJK7uWhaRwWOwZ3b1XD9l6wFOrwK/Ic0PEsjneFXQzL0n9uKyuHmHNz+wHppmOiMAabvnXXEin9ou7/iowY/+YhFm3j7atsVvxMI5HEM3Mq+W4imUuzPxVX7fZH+oWPKP5ofpWBTf+MdttGby1AjGnv8JE69JriOYoZG2/4qbsfv9M7a7NFrBlaW7Rt36w==";

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, Engine};

    use super::*;

    #[test]
    fn keys_of_the_tcg_templates_are_accepted() {
        let endorsement = BASE64_STANDARD.decode(PUBLISHED_KEY).unwrap();
        assert_eq!(endorsement.len(), 316);
        assert!(StorageKey::read(&endorsement).is_ok());
        let root = root();
        assert_eq!(root.len(), 284);
        let root = StorageKey::read(&root).ok().unwrap();
        assert_eq!((root.name().len(), &root.name()[..2]), (34, &[0, 0x0b][..]));
        assert!(root == StorageKey::read(&self::root()).ok().unwrap());
        assert!(root != StorageKey::read(&endorsement).ok().unwrap());
    }

    #[test]
    fn a_refusal_names_the_field_that_is_wrong() {
        // Each row changes one byte of a valid storage root key.
        for (at, byte, wanted) in [
            (0, 2, "is no TPM2B_PUBLIC: its first two bytes are not the length of the rest"),
            (1, 0x19, "is no TPM2B_PUBLIC: its first two bytes are not the length of the rest"),
            (3, 0x23, "has type 0x0023, not 0x0001"),
            (5, 0x0c, "has nameAlg 0x000c, not 0x000b"),
            (9, 0x70, "lacks the attribute fixedTPM"),
            (9, 0x62, "lacks the attribute fixedParent"),
            (7, 0x02, "lacks the attribute restricted"),
            (7, 0x01, "lacks the attribute decrypt"),
            (13, 0x0a, "has symmetric 0x000a, not 0x0006"),
            (15, 0x81, "has symmetric keyBits 0x0081, not 0x0080"),
            (17, 0x42, "has symmetric mode 0x0042, not 0x0043"),
            (19, 0x14, "has scheme 0x0014, not 0x0010"),
            (20, 0x0c, "has keyBits 0x0c00, not 0x0800"),
            (25, 3, "has the exponent 3, not 65537"),
            (27, 1, "is no TPM2B_PUBLIC of an RSA key: its fields do not fill it"),
            (28, 0x7f, "has a modulus that is not of 256 bytes"),
        ] {
            let mut bytes = root();
            bytes[at] = byte;
            assert_eq!(StorageKey::read(&bytes).err().as_deref(), Some(wanted), "byte {at}");
        }
        let mut even = root();
        even[283] = 2;
        assert!(StorageKey::read(&even).err().unwrap().starts_with("is no RSA key"));
        let mut short = root();
        (short[1], short[27]) = (0x19, 0xff);
        short.pop();
        assert!(StorageKey::read(&short).is_err());
    }

    #[test]
    fn arbitrary_bytes_do_not_make_the_reader_panic() {
        let root = root();
        for length in 0..root.len() {
            let mut bytes = root[..length].to_vec();
            assert!(StorageKey::read(&bytes).is_err());
            if let [high, low, rest @ ..] = bytes.as_mut_slice() {
                [*high, *low] = u16::try_from(rest.len()).unwrap().to_be_bytes();
            }
            assert!(StorageKey::read(&bytes).is_err());
        }
    }

    /// A storage root key with an arbitrary modulus, whose factors are unknown.
    fn root() -> Vec<u8> {
        let head = b"\x01\x1a\0\x01\0\x0b\0\x03\x04\x72\0\0\0\x06\0\x80\0\x43\0\x10\x08\0\0\0\0\0\x01\0";
        [&head[..], &[0xa5; 256]].concat()
    }
}
