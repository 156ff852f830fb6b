//! Seals a key so that only one TPM can use it: as a duplicate below its storage root key, whose inner key is
//! in a credential for its endorsement key. So the TPM has to prove both keys before it can sign with the
//! sealed key.
//!
//! | field, each after its length | bytes | decrypted with |
//! | --- | --- | --- |
//! | `TPM2B_ID_OBJECT`: the inner key, bound to the storage root key's name | 52 | the credential's seed |
//! | `TPM2B_ENCRYPTED_SECRET`: the credential's seed | 256 | the endorsement key |
//! | `TPM2B_PRIVATE`: the sealed key | 142 | the duplicate's seed and the inner key |
//! | `TPM2B_ENCRYPTED_SECRET`: the duplicate's seed | 256 | the storage root key |
//! | `TPM2B_PUBLIC`: the public area of the sealed key | 48 | not encrypted |
//! | a note, which clients ignore | up to 206 | the inner key |
//!
//! TPM 2.0 Library, part 1, sections 23 (duplication), 24 (credentials) and 11.4.10 (KDFa). The layout is
//! that of published answers of the service.

use aes::Aes128;
use aes::cipher::KeyIvInit;
use cfb_mode::Encryptor;
use rsa::rand_core::CryptoRngCore;
use sha2::{Digest, Sha256};

use crate::crypto::key::hmac;
use crate::crypto::tpm_key::{self, StorageKey, sized};

/// Seals a key of at most 64 bytes. The same random bytes give the same result.
///
/// # Errors
/// RSA encryption fails, which does not happen with a valid key.
pub(crate) fn seal(
    endorsement: &StorageKey,
    root: &StorageKey,
    key: &[u8],
    note: &[u8],
    rng: &mut impl CryptoRngCore,
) -> Result<Vec<u8>, rsa::Error> {
    let mut inner_key = AesKey::default();
    rng.fill_bytes(&mut inner_key);
    let credential = credential(endorsement, root, &inner_key, rng)?;
    let (public, duplicate) = duplicate(root, &inner_key, key, rng)?;
    let note = encrypted(&inner_key, note.to_vec());
    let fields = [credential.object, credential.seed, duplicate.object, duplicate.seed, public, note];
    Ok(fields.iter().flat_map(|field| sized(field)).collect())
}

/// An encrypted object, and the seed of its encryption, encrypted to a key of the TPM.
struct Protected {
    object: Vec<u8>,
    seed: Vec<u8>,
}

/// TPM2_MakeCredential for the inner key. Only a TPM that has both the endorsement key and an object with
/// this name can decrypt it.
fn credential(
    endorsement: &StorageKey,
    root: &StorageKey,
    inner_key: &AesKey,
    rng: &mut impl CryptoRngCore,
) -> Result<Protected, rsa::Error> {
    let mut seed = Seed::default();
    rng.fill_bytes(&mut seed);
    let object = protected(&seed, &root.name(), sized(inner_key));
    Ok(Protected { object, seed: endorsement.encrypt("IDENTITY\0", &seed, rng)? })
}

/// TPM2_Duplicate for an HMAC key: its public area, and its sensitive area, which the inner key encrypts a
/// second time.
fn duplicate(
    root: &StorageKey,
    inner_key: &AesKey,
    key: &[u8],
    rng: &mut impl CryptoRngCore,
) -> Result<(Vec<u8>, Protected), rsa::Error> {
    let (mut obfuscation, mut seed) = (Seed::default(), Seed::default());
    rng.fill_bytes(&mut obfuscation);
    rng.fill_bytes(&mut seed);
    let unique = Sha256::new().chain_update(obfuscation).chain_update(key).finalize();
    let public = [&PUBLIC_HEAD[..], &sized(&unique)].concat();
    let name = tpm_key::name(&public);
    let sensitive = sized(&[&SENSITIVE_HEAD[..], &sized(&obfuscation), &sized(key)].concat());
    let integrity = Sha256::new().chain_update(&sensitive).chain_update(&name).finalize();
    let inner = encrypted(inner_key, [sized(&integrity), sensitive].concat());
    let object = protected(&seed, &name, inner);
    Ok((public, Protected { object, seed: root.encrypt("DUPLICATE\0", &seed, rng)? }))
}

/// The outer wrapper of both: encrypted, and preceded by an HMAC that binds it to the name of an object.
fn protected(seed: &Seed, name: &[u8], content: Vec<u8>) -> Vec<u8> {
    let mut key = AesKey::default();
    // The key takes the first bytes of one block of the derivation.
    key.iter_mut().zip(kdfa(seed, "STORAGE", name, 128)).for_each(|(to, from)| *to = from);
    let content = encrypted(&key, content);
    let integrity_key = kdfa(seed, "INTEGRITY", &[], 256);
    [sized(&hmac(&integrity_key, &[&content, name])), content].concat()
}

/// KDFa with SHA-256 for at most 256 bits, which is one block.
fn kdfa(seed: &Seed, label: &str, context: &[u8], bits: u32) -> Vec<u8> {
    hmac(seed, &[&1_u32.to_be_bytes(), label.as_bytes(), &[0], context, &bits.to_be_bytes()])
}

fn encrypted(key: &AesKey, mut bytes: Vec<u8>) -> Vec<u8> {
    Encryptor::<Aes128>::new(key.into(), &[0; 16].into()).encrypt(&mut bytes);
    bytes
}

type AesKey = [u8; 16];
type Seed = [u8; 32];

/// KEYEDHASH with SHA-256; userWithAuth, noDA and sign; no policy; HMAC with SHA-256.
const PUBLIC_HEAD: [u8; 14] = [0, 0x08, 0, 0x0b, 0, 0x04, 0x04, 0x40, 0, 0, 0, 0x05, 0, 0x0b];
/// KEYEDHASH; no password.
const SENSITIVE_HEAD: [u8; 4] = [0, 0x08, 0, 0];

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, Engine};
    use rsa::rand_core::{CryptoRng, RngCore, impls};

    use super::*;

    /// Sizes and the public area are those of three published answers of the service, which differ only in
    /// the note.
    #[test]
    fn a_blob_has_the_layout_of_published_ones() {
        for note in [108, 154, 190] {
            let blob = sealed(&[7; 32], &vec![b'n'; note], 1);

            assert_eq!(blob.len(), 766 + note);
            assert!(BASE64_STANDARD.encode(&blob).starts_with("ADQAI"));
            for (at, length) in [(0, 52), (2, 32), (54, 256), (312, 142), (314, 32), (456, 256), (714, 48)] {
                assert_eq!(u16::from_be_bytes([blob[at], blob[at + 1]]), length, "at {at}");
            }
            assert_eq!(blob[716..732], *b"\0\x08\0\x0b\0\x04\x04\x40\0\0\0\x05\0\x0b\0\x20");
            assert_eq!(usize::from(u16::from_be_bytes([blob[764], blob[765]])), note);
        }
    }

    #[test]
    fn the_same_random_bytes_and_arguments_give_the_same_blob() {
        assert!(sealed(&[7; 32], b"dev1", 1) == sealed(&[7; 32], b"dev1", 1));

        let (one, other) = (sealed(&[7; 32], b"dev1", 1), sealed(&[7; 32], b"dev1", 2));

        // Each field with another content.
        for range in [4..36, 36..54, 56..312, 316..348, 348..456, 458..714, 732..764, 766..770] {
            assert!(one[range.clone()] != other[range.clone()], "{range:?}");
        }
    }

    #[test]
    fn the_blob_does_not_contain_the_key_in_clear() {
        let key = [[0x5a; 16], [0xc3; 16]].concat();

        let blob = sealed(&key, &key, 1);

        assert!(blob.windows(4).all(|bytes| !key.windows(4).any(|part| part == bytes)));
    }

    fn sealed(key: &[u8], note: &[u8], seed: u64) -> Vec<u8> {
        let template = |head: &[u8], byte| {
            let area = [head, b"\0\x06\0\x80\0\x43\0\x10\x08\0\0\0\0\0\x01\0", &[byte; 256]].concat();
            StorageKey::read(&sized(&area)).ok().unwrap()
        };
        let policy = [&b"\0\x01\0\x0b\0\x03\0\xb2\0\x20"[..], &[0x83; 32]].concat();
        let (endorsement, root) =
            (template(&policy, 0xa5), template(b"\0\x01\0\x0b\0\x03\x04\x72\0\0", 0xb7));
        seal(&endorsement, &root, key, note, &mut Counting(seed)).unwrap()
    }

    /// A linear congruential generator: the same bytes in every run.
    struct Counting(u64);

    impl RngCore for Counting {
        fn next_u32(&mut self) -> u32 {
            impls::next_u32_via_fill(self)
        }

        fn next_u64(&mut self) -> u64 {
            impls::next_u64_via_fill(self)
        }

        fn fill_bytes(&mut self, bytes: &mut [u8]) {
            for byte in bytes {
                self.0 =
                    self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *byte = (self.0 >> 56) as u8;
            }
        }

        fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rsa::rand_core::Error> {
            self.fill_bytes(bytes);
            Ok(())
        }
    }

    impl CryptoRng for Counting {}
}
