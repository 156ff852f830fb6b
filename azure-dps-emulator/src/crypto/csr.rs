//! Certificate signing requests: reads PKCS#10 in base64 of DER, as devices send it, and verifies its
//! signature.
//!
//! Only the common name and the public key are kept. Other attributes of the subject and requested
//! extensions have no effect.

use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, PublicKeyData};
use serde::{Deserialize, Serialize};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION,
    OID_PKCS1_SHA1WITHRSA, OID_SHA1_WITH_RSA,
};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo, X509Version};
use x509_parser::public_key::PublicKey;

use crate::crypto::{base64_text, certificate, der};

/// A request whose signature has been verified: the device has the private key.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SigningRequest {
    pub(crate) common_name: String,
    pub(crate) key: RequestedKey,
}

/// The public key for which a certificate is requested.
#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RequestedKey {
    #[serde(with = "key_type")]
    pub(crate) key_type: KeyType,
    /// The contents of the bit string in `SubjectPublicKeyInfo`.
    #[serde(with = "crate::saved::bytes")]
    bits: Vec<u8>,
}

/// A type of key for which the emulator issues certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyType {
    /// ECDSA on the curve P-384.
    P384,
    /// ECDSA on the curve P-256.
    P256,
    /// RSA with 2048 to 8192 bits.
    Rsa,
}

impl KeyType {
    pub(crate) const ALL: [KeyType; 3] = [KeyType::P384, KeyType::P256, KeyType::Rsa];

    /// The word of this type in settings: `p384`, `p256` or `rsa`.
    pub fn word(self) -> &'static str {
        match self {
            KeyType::P384 => "p384",
            KeyType::P256 => "p256",
            KeyType::Rsa => "rsa",
        }
    }

    /// The type with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key_type| key_type.word() == word)
    }
}

mod key_type {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::KeyType;

    pub(super) fn serialize<S: Serializer>(key_type: &KeyType, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(key_type.word())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<KeyType, D::Error> {
        let word = String::deserialize(deserializer)?;
        KeyType::from_word(&word).ok_or_else(|| D::Error::custom("a type of key is not known"))
    }
}

impl SigningRequest {
    /// Reads the text of a request.
    ///
    /// # Errors
    /// Says what is wrong with the text or the request; the message follows the name of the member.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        Self::from_der(&decode(text)?)
    }

    /// # Errors
    /// Says what is wrong with the request.
    pub(crate) fn from_der(bytes: &[u8]) -> Result<Self, String> {
        if !der::is_der(bytes) {
            return Err(NOT_PKCS10.to_owned());
        }
        let Ok(([], request)) = X509CertificationRequest::from_der(bytes) else {
            return Err(NOT_PKCS10.to_owned());
        };
        let info = &request.certification_request_info;
        if info.version != X509Version::V1 {
            return Err("has another version than 1, which is the only one of PKCS#10".to_owned());
        }
        let mut names = info.subject.iter_common_name();
        let name = names.next().ok_or("has no common name (CN)")?;
        if names.next().is_some() {
            return Err("has more than one common name (CN)".to_owned());
        }
        let common_name = certificate::text(name.attr_value());
        let common_name = common_name.ok_or("has a common name (CN) that is not a text")?;
        let key = RequestedKey::read(&info.subject_pki)?;
        let algorithm = &request.signature_algorithm.algorithm;
        if [OID_PKCS1_SHA1WITHRSA, OID_SHA1_WITH_RSA].contains(algorithm) {
            return Err("is signed with SHA-1: sign it with SHA-256 or SHA-384".to_owned());
        }
        match request.verify_signature() {
            Ok(()) => Ok(SigningRequest { common_name, key }),
            Err(_) => Err(format!(
                "has a signature of algorithm {algorithm} that its public key does not verify: sign the \
                 request with the private key of the same pair, with SHA-256 or SHA-384"
            )),
        }
    }
}

impl RequestedKey {
    fn read(given: &SubjectPublicKeyInfo<'_>) -> Result<Self, String> {
        let algorithm = &given.algorithm.algorithm;
        let key_type = if *algorithm == OID_PKCS1_RSAENCRYPTION {
            match given.parsed() {
                Ok(PublicKey::RSA(key)) if RSA_BITS.contains(&key.key_size()) => KeyType::Rsa,
                Ok(PublicKey::RSA(key)) => {
                    return Err(format!(
                        "has an RSA key of {} bits: 2048 to 8192 can be used",
                        key.key_size()
                    ));
                }
                _ => return Err("has an RSA key that cannot be read".to_owned()),
            }
        } else if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
            let curve = given.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
            match curve {
                Some(curve) if curve == OID_NIST_EC_P384 => KeyType::P384,
                Some(curve) if curve == OID_EC_P256 => KeyType::P256,
                _ => return Err("has an EC key on a curve other than P-384 and P-256".to_owned()),
            }
        } else {
            return Err(format!("has a key of algorithm {algorithm}: use P-384, P-256 or RSA"));
        };
        Ok(RequestedKey { key_type, bits: given.subject_public_key.data.to_vec() })
    }

    /// The memory in bytes that the key takes.
    pub(crate) fn size(&self) -> usize {
        self.bits.len()
    }
}

impl PublicKeyData for RequestedKey {
    fn der_bytes(&self) -> &[u8] {
        &self.bits
    }

    /// The digest does not matter: only the identifier of the key is written.
    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        match self.key_type {
            KeyType::P384 => &PKCS_ECDSA_P384_SHA384,
            KeyType::P256 => &PKCS_ECDSA_P256_SHA256,
            KeyType::Rsa => &PKCS_RSA_SHA256,
        }
    }
}

fn decode(text: &str) -> Result<Vec<u8>, String> {
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    if text.len() > LONGEST {
        return Err(format!("has {} characters: {LONGEST} (8 KB) are the most", text.len()));
    }
    if text.contains(PEM_MARK) {
        return Err(format!("is PEM: {FORM}"));
    }
    if let Some(at) = text.chars().position(char::is_whitespace) {
        return Err(format!("has a space or a line break at position {}: {FORM}", at + 1));
    }
    let bytes = base64_text::decode(text).map_err(|why| format!("is not base64 ({why}): {FORM}"))?;
    let is_pem = bytes.windows(PEM_MARK.len()).any(|window| window == PEM_MARK.as_bytes());
    if is_pem && !der::is_der(&bytes) {
        return Err(format!("is base64 of PEM: {FORM}"));
    }
    Ok(bytes)
}

const FORM: &str = "it must be base64 of the request in DER, without BEGIN and END lines and line breaks";
const NOT_PKCS10: &str = "is not base64 of a PKCS#10 certificate signing request in DER";
const PEM_MARK: &str = "-----BEGIN";
const LONGEST: usize = 8 * 1024;
/// The lengths whose signatures ring verifies.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, Engine};
    use rcgen::{
        CertificateParams, CustomExtension, DistinguishedName, DnType, KeyPair, PKCS_ED25519,
        SignatureAlgorithm,
    };

    use super::*;

    #[test]
    fn a_request_gives_its_name_and_key() {
        for (algorithm, key_type) in
            [(&PKCS_ECDSA_P384_SHA384, KeyType::P384), (&PKCS_ECDSA_P256_SHA256, KeyType::P256)]
        {
            let (der, key) = made("Sensor-1", algorithm);

            let request = SigningRequest::read(&BASE64_STANDARD.encode(der)).unwrap();

            assert_eq!((request.common_name.as_str(), request.key.key_type), ("Sensor-1", key_type));
            assert_eq!(request.key.subject_public_key_info(), key.subject_public_key_info());
        }
    }

    #[test]
    fn a_text_that_is_not_base64_of_der_is_refused_with_the_reason() {
        let (der, _) = made("a", &PKCS_ECDSA_P256_SHA256);
        let good = BASE64_STANDARD.encode(&der);
        let pem = format!("-----BEGIN CERTIFICATE REQUEST-----\n{good}\n-----END CERTIFICATE REQUEST-----\n");
        let (start, end) = good.split_at(64);
        for (text, wanted) in [
            (String::new(), "is empty"),
            ("A".repeat(8_193), "has 8193 characters: 8192 (8 KB) are the most"),
            (pem.clone(), "is PEM: it must be base64 of the request in DER"),
            (BASE64_STANDARD.encode(pem), "is base64 of PEM: "),
            (format!("{start}\n{end}"), "has a space or a line break at position 65: "),
            (format!("{good}\r\n"), "has a space or a line break at position "),
            (format!(" {good}"), "has a space or a line break at position 1: "),
            (good.replace('A', "*"), "is not base64 (there is '*' at position "),
            (good[1..].to_owned(), "is not base64 (it is cut off, "),
            ("AAAA".repeat(2_048), NOT_PKCS10),
            (BASE64_STANDARD.encode(&good), NOT_PKCS10),
            (BASE64_STANDARD.encode([der.as_slice(), &[0]].concat()), NOT_PKCS10),
            (BASE64_STANDARD.encode(&der[..der.len() - 1]), NOT_PKCS10),
        ] {
            let why = SigningRequest::read(&text).err().unwrap();
            assert!(why.starts_with(wanted), "{wanted}: {why}");
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed() {
        let (der, key) = made("a", &PKCS_ECDSA_P256_SHA256);
        for at in 0..der.len() {
            let mut bent = der.clone();
            bent[at] ^= 1;
            if let Ok(request) = SigningRequest::from_der(&bent) {
                // The attributes that are not signed are only the encoding of the signature.
                assert_eq!(request.common_name, "a", "{at}");
                assert_eq!(request.key.subject_public_key_info(), key.subject_public_key_info(), "{at}");
            }
        }
        let mut bent = der;
        let last = bent.len() - 1;
        bent[last] ^= 1;
        let why = SigningRequest::from_der(&bent).err().unwrap();
        assert!(why.starts_with("has a signature of algorithm 1.2.840.10045.4.3.2 that its public"), "{why}");
    }

    #[test]
    fn a_request_has_exactly_one_common_name() {
        let key = KeyPair::generate().unwrap();
        let read = |names: &[(DnType, &str)]| {
            let mut params = CertificateParams::default();
            params.distinguished_name = DistinguishedName::new();
            names.iter().for_each(|(kind, name)| params.distinguished_name.push(kind.clone(), *name));
            SigningRequest::from_der(params.serialize_request(&key).unwrap().der())
                .map(|request| request.common_name)
        };
        let other_cn = DnType::CustomDnType(vec![2, 5, 4, 3]);

        assert_eq!(read(&[(DnType::OrganizationName, "Contoso"), (DnType::CommonName, "a")]).unwrap(), "a");
        assert_eq!(read(&[(DnType::OrganizationName, "a")]), Err("has no common name (CN)".to_owned()));
        let twice = read(&[(DnType::CommonName, "a"), (other_cn, "a")]);
        assert_eq!(twice, Err("has more than one common name (CN)".to_owned()));
    }

    #[test]
    fn other_keys_are_refused() {
        let (der, _) = made("a", &PKCS_ED25519);

        let why = SigningRequest::from_der(&der).err().unwrap();

        assert_eq!(why, "has a key of algorithm 1.3.101.112: use P-384, P-256 or RSA");
    }

    #[test]
    fn nested_der_ends_in_a_refusal() {
        // Sequences, sets, context tags and octet strings within each other, as deep as 8 KB allow.
        for tag in [0x30, 0x31, 0xa0, 0x24] {
            let mut nested = vec![5, 0];
            while nested.len() < 6_000 {
                nested = element(tag, &nested);
            }
            let (der, key) = made("a", &PKCS_ECDSA_P256_SHA256);
            assert!(SigningRequest::from_der(&element(0x30, &nested)).is_err());
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, "a");
            // An alternative name: 2.5.29.17.
            let extension = CustomExtension::from_oid_content(&[2, 5, 29, 17], element(0x30, &nested));
            params.custom_extensions.push(extension);
            let request = params.serialize_request(&key).unwrap();
            assert!(request.der().len() > 6_000 && der.len() < 300);
            // What was asked for does not matter, only that the reader comes back.
            let _read = SigningRequest::from_der(request.der()).is_ok();
        }
    }

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        let header: &[u8] = match content.len() {
            0..=0x7f => &[tag, length[1]],
            0x80..=0xff => &[tag, 0x81, length[1]],
            _ => &[tag, 0x82, length[0], length[1]],
        };
        [header, content].concat()
    }

    fn made(name: &str, algorithm: &'static SignatureAlgorithm) -> (Vec<u8>, KeyPair) {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        (params.serialize_request(&key).unwrap().der().to_vec(), key)
    }
}
