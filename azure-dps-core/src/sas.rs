//! Shared access signatures: keys, the derivation of a device key from a group key, and tokens. Pure: the
//! time is an argument.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::base64_text;
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::id::{IdScope, RegistrationId};
use crate::percent::percent_encode;
use crate::sensitive::Sensitive;

/// A symmetric key of an enrollment, a device or an access policy.
///
/// `Debug` does not show it, and its memory is wiped when it is dropped.
///
/// ```
/// use azure_dps_core::SharedKey;
///
/// let key: SharedKey = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".parse()?;
/// assert_eq!(format!("{key:?}"), "SharedKey([redacted])");
/// # Ok::<(), azure_dps_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct SharedKey(Zeroizing<Vec<u8>>);

impl SharedKey {
    /// Reads a key from its base64 text, as in the portal, the CLI and the service API.
    ///
    /// White space around and inside the text is ignored.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the text is empty or not standard base64.
    pub fn from_base64(text: &str) -> Result<Self> {
        let bytes = base64_text::decode(text)
            .map_err(|why| Error::new(ErrorKind::Config, format!("the key is not base64: {why}")))?;
        if bytes.is_empty() {
            return Err(Error::new(ErrorKind::Config, "the key is empty"));
        }
        Ok(Self(bytes))
    }

    /// A new key of 64 random bytes, which is the longest that the service accepts.
    ///
    /// ```
    /// # #[cfg(feature = "tls")] {
    /// use azure_dps_core::SharedKey;
    /// use azure_dps_core::models::{AttestationMechanism, SymmetricKeyAttestation};
    ///
    /// let (primary, secondary) = (SharedKey::generate()?, SharedKey::generate()?);
    /// let keys = SymmetricKeyAttestation::new(&primary, &secondary);
    /// let attestation = AttestationMechanism::symmetric_key(keys);
    /// # }
    /// # Ok::<(), azure_dps_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Credential`] when the system has no random numbers.
    #[cfg(feature = "tls")]
    pub fn generate() -> Result<Self> {
        let mut bytes = Zeroizing::new(vec![0; 64]);
        let random = rustls::crypto::ring::default_provider().secure_random;
        random.fill(&mut bytes).map_err(|_| {
            Error::new(ErrorKind::Credential, "no key could be made: the system has no random numbers")
        })?;
        Ok(Self(bytes))
    }

    /// The key's base64 text, for a wire model or a secret store. It is a secret.
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64.encode(self.0.as_slice()))
    }

    /// HMAC-SHA256 of `message` under this key.
    pub fn sign(&self, message: &[u8]) -> [u8; 32] {
        hmac_sha256(&self.0, message)
    }
}

impl FromStr for SharedKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::from_base64(text)
    }
}

impl From<&SharedKey> for Sensitive<String> {
    /// The base64 text, for the models of enrollments.
    fn from(key: &SharedKey) -> Self {
        Self::from(key.to_base64().as_str())
    }
}

impl fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedKey([redacted])")
    }
}

/// A symmetric key of an enrollment group, from which each device's own key is derived.
///
/// It is not a [`SharedKey`], because the service refuses a device that signs with the group key. Keep it in
/// the factory or the back end; a device needs only its derived key.
///
/// Source: DPS symmetric key attestation, "Group enrollments".
///
/// ```
/// use azure_dps_core::GroupKey;
///
/// let group: GroupKey = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".parse()?;
/// let device = group.derive(&"sensor-042".parse()?);
/// assert_eq!(device.to_base64().as_str(), "YWGfx6psUG2GN+2JfRsJbaVugWxYb8ZAofr1S3X3L6w=");
/// # Ok::<(), azure_dps_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct GroupKey(SharedKey);

impl GroupKey {
    /// Reads a group key from its base64 text.
    ///
    /// # Errors
    /// As [`SharedKey::from_base64`].
    pub fn from_base64(text: &str) -> Result<Self> {
        SharedKey::from_base64(text).map(Self)
    }

    /// The key of the device `id`: HMAC-SHA256 of the registration id, as written, under the group key.
    pub fn derive(&self, id: &RegistrationId) -> SharedKey {
        SharedKey(Zeroizing::new(self.0.sign(id.as_str().as_bytes()).to_vec()))
    }
}

impl FromStr for GroupKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::from_base64(text)
    }
}

impl fmt::Debug for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GroupKey([redacted])")
    }
}

/// The content of a token before it is signed: the resource, the expiry and the policy.
///
/// Sign it with a key ([`sign`](Self::sign)), or sign [`message`](Self::message) with a TPM and attach the
/// result with [`with_signature`](Self::with_signature).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsignedSas {
    resource: String,
    expiry: i64,
    policy: Option<String>,
}

impl UnsignedSas {
    /// A token for the registration of a device: `{idScope}/registrations/{registrationId}`, policy
    /// `registration`.
    pub fn for_registration(scope: &IdScope, id: &RegistrationId, expires: OffsetDateTime) -> Self {
        Self::new(&format!("{scope}/registrations/{id}"), expires, Some("registration"))
    }

    /// A token for the service API: the host, with the port if it is not 443, and the name of an access
    /// policy.
    pub fn for_service(host: &str, policy: &str, expires: OffsetDateTime) -> Self {
        Self::new(&host.to_ascii_lowercase(), expires, Some(policy))
    }

    /// A token for a device at its IoT hub: `{hub}/devices/{deviceId}`, without a policy.
    pub fn for_hub_device(hub: &str, device_id: &str, expires: OffsetDateTime) -> Self {
        Self::new(&format!("{hub}/devices/{device_id}"), expires, None)
    }

    fn new(resource: &str, expires: OffsetDateTime, policy: Option<&str>) -> Self {
        Self {
            resource: percent_encode(resource),
            expiry: expires.unix_timestamp(),
            policy: policy.map(percent_encode),
        }
    }

    /// The text whose HMAC-SHA256 is the signature: the encoded resource, a line feed, the expiry.
    pub fn message(&self) -> String {
        format!("{}\n{}", self.resource, self.expiry)
    }

    /// Signs with a key.
    pub fn sign(self, key: &SharedKey) -> SasToken {
        let signature = key.sign(self.message().as_bytes());
        self.with_signature(&signature)
    }

    /// Attaches a signature from elsewhere, for example from a TPM.
    pub fn with_signature(self, signature: &[u8]) -> SasToken {
        let signature = percent_encode(&BASE64.encode(signature));
        let mut text = format!("{SCHEME}sr={}&sig={signature}&se={}", self.resource, self.expiry);
        if let Some(policy) = &self.policy {
            text.push_str("&skn=");
            text.push_str(policy);
        }
        SasToken { text: Zeroizing::new(text), expiry: self.expiry }
    }
}

/// A shared access signature token: the value of an `Authorization` header, an MQTT password or an AMQP
/// password.
///
/// Source: DPS security, "Control access to DPS with shared access signatures".
#[derive(Clone, PartialEq, Eq)]
pub struct SasToken {
    text: Zeroizing<String>,
    expiry: i64,
}

impl SasToken {
    /// Parses a token that was made elsewhere.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the text is not such a token or a part (`sr`, `sig`, `se`) is missing.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let refuse = |why: &str| Error::new(ErrorKind::Config, format!("the shared access signature {why}"));
        let fields = text
            .get(..SCHEME.len())
            .filter(|scheme| scheme.eq_ignore_ascii_case(SCHEME))
            .and_then(|_| text.get(SCHEME.len()..))
            .ok_or_else(|| refuse("does not begin with \"SharedAccessSignature \""))?;
        if !text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
            return Err(refuse("has a character that is not allowed in a header"));
        }
        let field = |name: &str| {
            let of = |pair: &'_ str| pair.split_once('=').map(|(n, v)| (n.to_owned(), v.to_owned()));
            fields.split('&').filter_map(of).find(|(n, _)| n == name).map(|(_, value)| value)
        };
        for name in ["sr", "sig"] {
            if field(name).is_none_or(|value| value.is_empty()) {
                return Err(refuse(&format!("has no {name:?}")));
            }
        }
        let expiry = field("se")
            .and_then(|value| value.parse().ok())
            .ok_or_else(|| refuse("has no \"se\" that is a number of seconds since 1970"))?;
        Ok(Self { text: Zeroizing::new(text.to_owned()), expiry })
    }

    /// The token. It is a secret until it expires.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// When the token expires, in seconds since 1970-01-01 UTC.
    pub fn expiry(&self) -> i64 {
        self.expiry
    }
}

impl fmt::Debug for SasToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SasToken").field("expiry", &self.expiry).finish_non_exhaustive()
    }
}

// HMAC takes keys of any length: longer ones are hashed, shorter ones padded (RFC 2104).
#[allow(clippy::expect_used)]
fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

const SCHEME: &str = "SharedAccessSignature ";

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(seconds).unwrap()
    }

    #[test]
    fn the_token_of_a_registration_has_the_documented_form() {
        let key: SharedKey = "Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc=".parse().unwrap();
        let scope = IdScope::new("0ne00111111").unwrap();
        let id = RegistrationId::new("sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6").unwrap();
        let token = UnsignedSas::for_registration(&scope, &id, at(1767225600)).sign(&key);
        assert_eq!(
            token.expose(),
            "SharedAccessSignature sr=0ne00111111%2Fregistrations%2Fsn-007-888-abc-mac-a1-b2-c3-d4-e5-f6\
             &sig=YMQlBWv9k5zDUPfonvJU5px7ENbAn0OqGMxi6bK%2FeJY%3D&se=1767225600&skn=registration"
        );
        assert_eq!(token.expiry(), 1767225600);
    }

    #[test]
    fn the_token_of_the_service_api_has_the_documented_form() {
        let key: SharedKey = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".parse().unwrap();
        let host = "Contoso.azure-devices-provisioning.net";
        let token = UnsignedSas::for_service(host, "provisioningserviceowner", at(1767225600)).sign(&key);
        assert_eq!(
            token.expose(),
            "SharedAccessSignature sr=contoso.azure-devices-provisioning.net\
             &sig=7gy0cLu9iNmboNl5BSzaOjeoTAE%2FDcIEg6ezBhY7fnU%3D&se=1767225600&skn=provisioningserviceowner"
        );
    }

    #[test]
    fn a_hub_token_has_no_policy() {
        let key: SharedKey = "AA==".parse().unwrap();
        let token = UnsignedSas::for_hub_device("h.azure-devices.net", "a:b", at(1)).sign(&key);
        assert!(token.expose().contains("sr=h.azure-devices.net%2Fdevices%2Fa%3Ab&"));
        assert!(token.expose().ends_with("&se=1"));
    }

    #[test]
    fn derivation_follows_the_case_of_the_id() {
        let group: GroupKey =
            "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw=="
                .parse()
                .unwrap();
        let derive = |id: &str| group.derive(&id.parse().unwrap()).to_base64().to_string();
        let id = "sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6";
        assert_eq!(derive(id), "Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc=");
        assert_eq!(derive(&id.to_uppercase()), "9GWVnYuoOLXlHc346XjhLRb9pKgIOrKSwxDRSOgnvXo=");
    }

    #[test]
    fn keys_that_are_not_base64_are_refused_without_being_shown() {
        for (text, part) in [
            ("not base64!", "a '!' at position 11"),
            ("ab-_cd==", "URL-safe"),
            ("MDEyMzQ1Njc4OWFiY2RlZg", "'=' at its end"),
            ("", "is empty"),
        ] {
            let error = SharedKey::from_base64(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(part), "{text:?}: {error}");
            assert!(text.is_empty() || !format!("{error:?} {error:#?} {error}").contains(text));
        }
        assert!(SharedKey::from_base64(" AA\r\nAA\r\n").is_ok());
    }

    #[cfg(feature = "tls")]
    #[test]
    fn a_generated_key_has_64_bytes_and_is_new_each_time() {
        let (one, other) = (SharedKey::generate().unwrap(), SharedKey::generate().unwrap());
        assert!(one != other);
        assert_eq!(one.to_base64().len(), 88, "base64 of 64 bytes");
        assert!(one.0.iter().any(|byte| *byte != 0));
    }

    #[test]
    fn a_token_from_elsewhere_is_kept_unchanged() {
        let text = "SharedAccessSignature sr=host&sig=a%2Fb%3D&skn=p&se=1767225600";
        let token = SasToken::parse(text).unwrap();
        assert_eq!((token.expose(), token.expiry()), (text, 1767225600));
        assert_eq!(format!("{token:?}"), "SasToken { expiry: 1767225600, .. }");
        for broken in [
            "Bearer x",
            "SharedAccessSignature sr=h&se=1",
            "SharedAccessSignature sr=h&sig=x&se=soon",
            "SharedAccessSignature sr=h&sig=x\r\nHost: y&se=1",
            "é",
        ] {
            let error = SasToken::parse(broken).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{broken}");
        }
    }
}
