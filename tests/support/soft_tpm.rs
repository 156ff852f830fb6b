//! The two commands of a TPM that open what a service sealed, ActivateCredential and Import, written from the TPM 2.0
//! Library, part 1, and sharing no code with the emulator. What a real TPM checks is checked here too.

use aes::Aes128;
use aes::cipher::KeyIvInit as _;
use cfb_mode::Decryptor;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rsa::rand_core::OsRng;
use rsa::traits::PublicKeyParts as _;
use rsa::{Oaep, RsaPrivateKey};
use sha2::{Digest as _, Sha256};

/// A TPM with new keys.
#[derive(Debug)]
pub struct SoftTpm {
    endorsement: RsaPrivateKey,
    root: RsaPrivateKey,
}

impl SoftTpm {
    pub fn new() -> Self {
        let key = || RsaPrivateKey::new(&mut OsRng, 2048).unwrap();
        Self { endorsement: key(), root: key() }
    }

    /// `TPM2B_PUBLIC` by template L-1 of the TCG.
    pub fn endorsement_key(&self) -> Vec<u8> {
        public(0x0003_00b2, &POLICY, &self.endorsement)
    }

    /// `TPM2B_PUBLIC` by the TCG's template for storage root keys.
    pub fn storage_root_key(&self) -> Vec<u8> {
        public(0x0003_0472, &[], &self.root)
    }

    /// The key in a blob, or the check at which a TPM would refuse it.
    pub fn open(&self, blob: &[u8]) -> Result<Vec<u8>, &'static str> {
        let mut fields = Fields(blob);
        let [id_object, credential_seed, private, duplicate_seed, public] = [(); 5].map(|()| fields.sized());
        fields.sized();
        assert!(fields.0.is_empty(), "a field too many");

        let seed = decrypt(&self.endorsement, "IDENTITY\0", credential_seed).ok_or("credential seed")?;
        let root_name = name(&self.storage_root_key()[2..]);
        let inner_key = unprotect(&seed, &root_name, id_object).ok_or("credential")?;
        let inner_key = Fields(&inner_key).sized();

        let seed = decrypt(&self.root, "DUPLICATE\0", duplicate_seed).ok_or("duplicate seed")?;
        let name = name(public);
        let inner = unprotect(&seed, &name, private).ok_or("duplicate")?;
        let inner = decipher(inner_key, &inner);
        let mut inner = Fields(&inner);
        let (integrity, sensitive) = (inner.sized(), inner.0);
        if *integrity != *Sha256::digest([sensitive, &name].concat()) {
            return Err("inner integrity");
        }
        let mut sensitive = Fields(Fields(sensitive).sized());
        assert_eq!((sensitive.take(2), sensitive.sized()), (&[0, 8][..], &[][..]), "type and password");
        let (obfuscation, key) = (sensitive.sized(), sensitive.sized());
        assert!(sensitive.0.is_empty(), "a field too many");

        let mut public = Fields(public);
        // KEYEDHASH, SHA-256, userWithAuth, noDA and sign, no policy, HMAC with SHA-256.
        assert_eq!(public.take(14), b"\0\x08\0\x0b\0\x04\x04\x40\0\0\0\x05\0\x0b");
        if *public.sized() != *Sha256::digest([obfuscation, key].concat()) {
            return Err("public area");
        }
        Ok(key.to_vec())
    }
}

impl Default for SoftTpm {
    fn default() -> Self {
        Self::new()
    }
}

fn public(attributes: u32, policy: &[u8], key: &RsaPrivateKey) -> Vec<u8> {
    let modulus = key.n().to_bytes_be();
    let area = [
        &[0, 0x01, 0, 0x0b][..],
        &attributes.to_be_bytes(),
        &u16::try_from(policy.len()).unwrap().to_be_bytes(),
        policy,
        b"\0\x06\0\x80\0\x43\0\x10\x08\0\0\0\0\0\x01\0",
        &modulus,
    ]
    .concat();
    [&u16::try_from(area.len()).unwrap().to_be_bytes()[..], &area].concat()
}

fn name(public: &[u8]) -> Vec<u8> {
    [&[0, 0x0b][..], &Sha256::digest(public)].concat()
}

fn decrypt(key: &RsaPrivateKey, label: &str, secret: &[u8]) -> Option<Vec<u8>> {
    key.decrypt(Oaep::new_with_label::<rsa::sha2::Sha256, _>(label), secret).ok()
}

/// Checks and removes the outer layer of a credential or a duplicate.
fn unprotect(seed: &[u8], name: &[u8], object: &[u8]) -> Option<Vec<u8>> {
    let mut fields = Fields(object);
    let (integrity, content) = (fields.sized(), fields.0);
    let mut mac = hmac(&kdfa(seed, b"INTEGRITY\0", &[], 256));
    mac.update(content);
    mac.update(name);
    mac.verify_slice(integrity).ok()?;
    Some(decipher(&kdfa(seed, b"STORAGE\0", name, 128)[..16], content))
}

fn kdfa(seed: &[u8], label: &[u8], context: &[u8], bits: u32) -> Vec<u8> {
    let mut mac = hmac(seed);
    [&[0, 0, 0, 1][..], label, context, &bits.to_be_bytes()].iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}

fn hmac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).unwrap()
}

fn decipher(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    Decryptor::<Aes128>::new_from_slices(key, &[0; 16]).unwrap().decrypt(&mut bytes);
    bytes
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        bytes
    }

    fn sized(&mut self) -> &'a [u8] {
        let length = u16::from_be_bytes(self.take(2).try_into().unwrap());
        self.take(length.into())
    }
}

/// A published endorsement key in base64: that of one device in a trace of its registration, see vectors/sas.json.
pub const ENDORSEMENT_KEY: &str = "AToAAQALAAMAsgAgg3GXZ0SEs/gakMyNRqXXJP1S124GUgtk8qHaGzMUaaoABgCAAEMAEAgAAAAAAAEAopqgkUBwtpr1sCgVJcEZxsJtpmtOAt9K7SjGFe4hsp6DJ/dd2E5UFzBC+Jp8Fzqf5ukRBkqrAgIuAvHRsruIedk1uarJSLhbDpFLHxFd7iDNcYfrvdgVNT2T9zrvkh2y04WuRQg2D5qf0tZF82jeTjR/YJK7uWhaRwWOwZ3b1XD9l6wFOrwK/Ic0PEsjneFXQzL0n9uKyuHmHNz+wHppmOiMAabvnXXEin9ou7/iowY/+YhFm3j7atsVvxMI5HEM3Mq+W4imUuzPxVX7fZH+oWPKP5ofpWBTf+MdttGby1AjGnv8JE69JriOYoZG2/4qbsfv9M7a7NFrBlaW7Rt36w==";
/// PolicySecret of the endorsement hierarchy.
const POLICY: [u8; 32] = *b"\x83\x71\x97\x67\x44\x84\xb3\xf8\x1a\x90\xcc\x8d\x46\xa5\xd7\x24\xfd\x52\xd7\x6e\x06\x52\x0b\x64\xf2\xa1\xda\x1b\x33\x14\x69\xaa";
