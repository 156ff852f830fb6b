//! Checks whether a text can be the one certificate of an enrollment. It checks only the form; the service
//! checks the rest.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::der::{self, SEQUENCE};
use crate::{base64_text, pem};

/// Accepts PEM, base64 of DER and base64 of PEM, as the service does. The message never quotes the text.
pub(crate) fn check(text: &str) -> Result<(), String> {
    read(text).map(drop)
}

/// The one certificate in a text, in DER.
pub(crate) fn read(text: &str) -> Result<Vec<u8>, String> {
    if text.trim().is_empty() {
        return Err(refuse("is empty: give PEM text, or base64 of DER"));
    }
    match base64_text::decode(text) {
        Ok(bytes) => match std::str::from_utf8(&bytes) {
            Ok(pem) if pem.contains(BEGIN) && !der::is_der(&bytes) => read_pem(pem),
            _ => check_der(&bytes).map(|()| bytes.to_vec()),
        },
        Err(_) if text.to_ascii_uppercase().contains(BEGIN) => read_pem(text),
        Err(why) => Err(refuse(&format!(
            "is neither PEM text nor base64 ({why}): pass the content of the file, not its name"
        ))),
    }
}

/// The one certificate in a PEM text, without the text around it.
pub(crate) fn pem(text: &str) -> Result<String, String> {
    Ok(pem::encode("CERTIFICATE", &read_pem(text)?))
}

fn read_pem(text: &str) -> Result<Vec<u8>, String> {
    // A key is refused even if its block is damaged.
    if text.contains("PRIVATE KEY-----") {
        return Err(is_key());
    }
    let unreadable = |fault: pem::Fault| refuse(&format!("cannot be read: {fault}"));
    let blocks = pem::blocks(text.as_bytes()).map_err(unreadable)?;
    match pem::certificates(&blocks).as_slice() {
        [] => Err(refuse("has no \"-----BEGIN CERTIFICATE-----\": give a certificate as PEM text")),
        [der] => check_der(der).map(|()| der.to_vec()),
        several => Err(refuse(&format!(
            "text has {} certificates, and an enrollment takes one: for a device give the leaf alone, for a \
             group the CA alone",
            several.len()
        ))),
    }
}

/// Base64 of one certificate in DER.
pub(crate) fn der(der: &[u8]) -> Result<String, String> {
    check_der(der).map(|()| BASE64.encode(der))
}

/// A certificate is a sequence of a sequence (what is signed), a sequence (the algorithm) and a bit string
/// (the signature). A private key begins with an integer, or with a sequence and an octet string when it is
/// encrypted.
fn check_der(der: &[u8]) -> Result<(), String> {
    let members = der::element(der).filter(|outer| outer.tag == SEQUENCE && outer.rest.is_empty());
    let tags: Vec<_> = members.map(|outer| tags(outer.content)).unwrap_or_default();
    match tags.as_slice() {
        [SEQUENCE, SEQUENCE, BIT_STRING] => Ok(()),
        [INTEGER, ..] | [SEQUENCE, OCTET_STRING] => Err(is_key()),
        _ => Err(refuse("is not X.509: its content is not a certificate in DER")),
    }
}

/// The tags of consecutive elements; empty when they are damaged.
fn tags(mut bytes: &[u8]) -> Vec<u8> {
    let mut tags = Vec::new();
    while !bytes.is_empty() {
        let Some(next) = der::element(bytes) else { return Vec::new() };
        tags.push(next.tag);
        bytes = next.rest;
    }
    tags
}

fn is_key() -> String {
    refuse("text has a private key, which must never be sent: give the certificate alone")
}

fn refuse(why: &str) -> String {
    format!("the certificate {why}")
}

const BEGIN: &str = "BEGIN";
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = include_str!("../../../../tests/vectors/x509/rsa.pem");
    const V1: &str = include_str!("../../../../tests/vectors/x509/v1.pem");
    const KEYS: [&str; 6] = [
        include_str!("../../../../tests/vectors/x509/rsa-pkcs8.key"),
        include_str!("../../../../tests/vectors/x509/rsa-pkcs1.key"),
        include_str!("../../../../tests/vectors/x509/rsa-encrypted.key"),
        include_str!("../../../../tests/vectors/x509/rsa-proc-type.key"),
        include_str!("../../../../tests/vectors/x509/p384-sec1.key"),
        include_str!("../../../../tests/vectors/x509/p384-pkcs8.key"),
    ];

    /// The text between the BEGIN and the END line of the last block.
    fn inside(pem: &str) -> String {
        let lines: Vec<_> = pem.lines().collect();
        let begin = lines.iter().rposition(|line| line.starts_with("-----BEGIN")).unwrap();
        lines[begin + 1..lines.len() - 1].iter().filter(|line| !line.contains(':')).copied().collect()
    }

    fn refusal(text: &str) -> String {
        check(text).unwrap_err()
    }

    #[test]
    fn every_form_that_the_service_accepts_passes() {
        let bag = format!("0 s:CN = device\n{PEM}");
        for text in [
            PEM,
            V1,
            &bag,
            &PEM.replace('\n', "\r\n"),
            &inside(PEM),
            &BASE64.encode(PEM),
            &BASE64.encode(&bag),
        ] {
            check(text).unwrap();
        }
    }

    #[test]
    fn a_private_key_is_refused_in_every_form() {
        for key in KEYS {
            for text in [key.to_owned(), format!("{PEM}{key}"), BASE64.encode(key)] {
                assert!(refusal(&text).contains("must never be sent"), "{key}");
            }
        }
        for key in KEYS.iter().filter(|key| !key.contains("Proc-Type")) {
            assert!(refusal(&inside(key)).contains("must never be sent"), "{key}");
        }
    }

    #[test]
    fn a_text_that_is_not_a_certificate_is_refused_and_not_quoted() {
        for (text, part) in [
            ("", "is empty"),
            (" \n", "is empty"),
            ("./marker.pem", "not its name"),
            ("----BEGIN CERTIFICATE----\nAAAA", "five hyphens"),
            ("MAAA-", "there is a '-' at position 5"),
            ("bWFya2Vy", "not a certificate in DER"),
            ("MAA=", "not a certificate in DER"),
            (
                "-----BEGIN PUBLIC KEY-----\nMAAA\n-----END PUBLIC KEY-----\n",
                "has no \"-----BEGIN CERTIFICATE-----\"",
            ),
            ("-----BEGIN CERTIFICATE-----\nmarker", "has no END line"),
            ("-----BEGIN CERTIFICATE-----\nmarker!\n-----END CERTIFICATE-----\n", "is damaged"),
            ("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", "nothing between"),
            (&format!("{PEM}{V1}{V1}"), "has 3 certificates"),
        ] {
            let message = refusal(text);
            assert!(message.contains(part) && !message.contains("marker"), "{text:?}: {message}");
        }
    }

    #[test]
    fn text_around_the_certificate_is_removed() {
        let bag = format!("Bag Attributes\n    friendlyName: device\n{PEM}\n# end\n");
        assert_eq!(pem(&bag).unwrap(), PEM);
    }

    #[test]
    fn der_becomes_base64() {
        let bytes = BASE64.decode(inside(PEM)).unwrap();
        assert_eq!(der(&bytes).unwrap(), inside(PEM));
        assert!(der(&bytes[..bytes.len() - 1]).is_err());
        assert!(der(&[bytes, vec![0]].concat()).is_err());
    }
}
