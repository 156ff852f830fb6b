//! Reads and judges SAS tokens, with code that no client signs with.
//!
//! The signature covers the text of `sr` exactly as it was sent, because every client encodes it differently.

use base64::prelude::{BASE64_STANDARD, Engine};
use hmac::Mac;
use percent_encoding::percent_decode_str;
use time::OffsetDateTime;

use crate::crypto::key::mac;
use crate::refusal::Refusal;

/// Reads the token of a back end and judges everything but its policy. Its audience must be the resource, a
/// host and path, or a prefix of it.
pub(crate) fn service_token(
    authorization: Option<&str>,
    resource: &str,
    now: OffsetDateTime,
) -> Result<Token, Refusal> {
    let token = Token::in_time(authorization, now)?;
    if !covers(&token.audience, resource) {
        return Err(Refusal::unauthorized(format!("SAS audience does not cover {resource}")));
    }
    Ok(token)
}

/// Reads the token of a device and judges everything but its key, which depends on the enrollment.
pub(crate) fn device_token(
    authorization: Option<&str>,
    id_scope: &str,
    registration_id: &str,
    now: OffsetDateTime,
) -> Result<Token, Refusal> {
    let token = Token::in_time(authorization, now)?;
    let segments: Vec<&str> = token.audience.split('/').collect();
    match segments.as_slice() {
        [scope, "registrations", _] if !scope.eq_ignore_ascii_case(id_scope) => {
            return Err(Refusal::unauthorized(format!("SAS audience is for another id scope: {scope}")));
        }
        [_, "registrations", id] if !id.eq_ignore_ascii_case(registration_id) => {
            return Err(Refusal::unauthorized(format!("SAS audience is for another registration id: {id}")));
        }
        [_, "registrations", _] => {}
        _ => {
            let cause = format!("SAS audience is not {id_scope}/registrations/{registration_id}");
            return Err(Refusal::unauthorized(cause));
        }
    }
    match token.policy.as_deref() {
        None | Some("" | "registration") => Ok(token),
        Some(_) => Err(Refusal::unauthorized("the token names a policy other than registration")),
    }
}

/// Reads the token with which a device connects to its hub, and judges everything but its policy and key.
/// Returns when it expires, to the second, because the hub then ends the connection.
pub(crate) fn hub_token(
    text: &str,
    resource: &str,
    now: OffsetDateTime,
) -> Result<(Token, OffsetDateTime), String> {
    let (token, expiry) = Token::read(text)?;
    if !covers(&token.audience, resource) {
        return Err(format!("SAS audience is {}, and does not cover {resource}", token.audience));
    }
    let age = now.unix_timestamp().saturating_sub(expiry);
    if age >= 0 {
        return Err(format!("the token expired {age} s ago"));
    }
    // Later than the calendar's end is never.
    let expires = OffsetDateTime::from_unix_timestamp(expiry).unwrap_or(END_OF_TIME);
    Ok((token, expires))
}

/// A token that could be read. Its signature is not checked yet.
pub(crate) struct Token {
    /// `sr` as it was sent.
    raw_resource: String,
    /// `se` as it was sent.
    raw_expiry: String,
    signature: Vec<u8>,
    /// `sr` decoded and in lower case.
    audience: String,
    /// `skn` decoded.
    pub(crate) policy: Option<String>,
}

impl Token {
    /// Returns whether the token was signed with this key, in constant time.
    pub(crate) fn is_signed_by(&self, key: &[u8]) -> bool {
        mac(key, &[self.raw_resource.as_bytes(), b"\n", self.raw_expiry.as_bytes()])
            .is_some_and(|mac| mac.verify_slice(&self.signature).is_ok())
    }

    /// Returns whether the token is for one device at its hub: `{hub}/devices/{deviceId}` or below.
    pub(crate) fn is_for_device(&self) -> bool {
        self.audience.split('/').nth(1) == Some("devices") && self.audience.split('/').nth(2).is_some()
    }

    fn in_time(authorization: Option<&str>, now: OffsetDateTime) -> Result<Self, Refusal> {
        let text = authorization.ok_or_else(|| Refusal::unauthorized("the request has no token"))?;
        let (token, expiry) = Self::read(text).map_err(Refusal::unauthorized)?;
        let age = now.unix_timestamp().saturating_sub(expiry);
        if age > CLOCK_SKEW_SECONDS {
            return Err(Refusal::unauthorized(format!("the token expired {age} s ago")));
        }
        Ok(token)
    }

    fn read(text: &str) -> Result<(Self, i64), &'static str> {
        let fields = match text.split_once(' ') {
            Some((scheme, fields)) if scheme.eq_ignore_ascii_case("SharedAccessSignature") => fields.trim(),
            _ => return Err("the credential is not a SharedAccessSignature"),
        };
        let (mut sr, mut sig, mut se, mut skn) = (None, None, None, None);
        for field in fields.split('&') {
            match field.split_once('=') {
                Some(("sr", value)) => sr = Some(value),
                Some(("sig", value)) => sig = Some(value),
                Some(("se", value)) => se = Some(value),
                Some(("skn", value)) => skn = Some(value),
                _ => {}
            }
        }
        let sr = sr.ok_or("the token has no sr")?;
        let sig = sig.ok_or("the token has no sig")?;
        let se = se.ok_or("the token has no se")?;
        let expiry = se.parse().map_err(|_| "se of the token is not a number of seconds")?;
        let signature = BASE64_STANDARD
            .decode(percent_decode_str(sig).collect::<Vec<u8>>())
            .map_err(|_| "sig of the token is not base64")?;
        let token = Token {
            raw_resource: sr.to_owned(),
            raw_expiry: se.to_owned(),
            signature,
            audience: decode(sr).to_lowercase(),
            policy: skn.map(decode),
        };
        Ok((token, expiry))
    }
}

/// Compares segment by segment. The port is ignored, because only some clients sign it.
fn covers(audience: &str, resource: &str) -> bool {
    let audience = audience.strip_prefix("https://").unwrap_or(audience).trim_end_matches('/');
    let resource = resource.to_lowercase();
    let (mut wanted, mut given) = (resource.split('/'), audience.split('/'));
    let (wanted_host, given_host) = (wanted.next().map(without_port), given.next().map(without_port));
    wanted_host == given_host && given.all(|segment| wanted.next() == Some(segment))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

const END_OF_TIME: OffsetDateTime = time::macros::datetime!(9999-12-31 23:59:59 UTC);
// The service does not document how far the clocks of clients may differ.
pub(crate) const CLOCK_SKEW_SECONDS: i64 = 300;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::key::derive;

    const SCOPE: &str = "0ne00111111";
    const DEVICE: &str = "sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6";
    const GROUP_KEY: &str =
        "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw==";
    const DERIVED_KEY: &str = "Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc=";
    const EXPIRY: i64 = 1_767_225_600;

    #[test]
    fn a_derived_key_depends_on_the_case_of_the_registration_id() {
        let group_key = base64(GROUP_KEY);

        assert_eq!(derive(&group_key, DEVICE), base64(DERIVED_KEY));
        assert_eq!(
            derive(&group_key, &DEVICE.to_uppercase()),
            base64("9GWVnYuoOLXlHc346XjhLRb9pKgIOrKSwxDRSOgnvXo=")
        );
        let group_key = base64("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
        assert_eq!(derive(&group_key, "sensor-042"), base64("YWGfx6psUG2GN+2JfRsJbaVugWxYb8ZAofr1S3X3L6w="));
    }

    #[test]
    fn a_device_may_write_its_token_in_any_style() {
        let sr = format!("{SCOPE}%2Fregistrations%2F{DEVICE}");
        let lower_sr = sr.replace("%2F", "%2f");
        let raw_sr = sr.replace("%2F", "/");
        let upper = "YMQlBWv9k5zDUPfonvJU5px7ENbAn0OqGMxi6bK%2FeJY%3D";
        let lower = "i27BR5wSKS%2f0yBDLETp3ryvyVStGHFc%2bxnURjI8YnNE%3d";
        let raw = "E5FGPBQbmy8MfozizO5ZCLXl4Ph+qry20eOJZ8YSVqM=";

        for token in [
            format!("SharedAccessSignature sr={sr}&sig={upper}&se={EXPIRY}&skn=registration"),
            format!("sharedaccesssignature sr={sr}&sig={upper}&se={EXPIRY}"),
            format!("SharedAccessSignature sr={lower_sr}&sig={lower}&se={EXPIRY}&skn="),
            format!("SharedAccessSignature sr={raw_sr}&sig={raw}&skn=registration&se={EXPIRY}"),
            format!("SharedAccessSignature se={EXPIRY}&x=y&sig={raw}&sr={raw_sr}"),
        ] {
            let token = device_token(Some(&token), SCOPE, DEVICE, at(0)).unwrap();
            assert!(token.is_signed_by(&base64(DERIVED_KEY)));
            assert!(!token.is_signed_by(&base64(GROUP_KEY)));
        }
    }

    #[test]
    fn the_ids_of_a_device_token_are_compared_without_case() {
        let token = device_sas(SCOPE, DEVICE, "");

        assert!(device_token(Some(&token), "0NE00111111", &DEVICE.to_uppercase(), at(0)).is_ok());
    }

    #[test]
    fn the_cause_says_why_a_device_token_is_refused() {
        let cause = |token: &str, now| match device_token(Some(token), SCOPE, DEVICE, at(now)) {
            Ok(_) => panic!("the token was not refused"),
            Err(refusal) => (refusal.code, refusal.cause),
        };

        let expired = cause(&device_sas(SCOPE, DEVICE, ""), 301);
        assert_eq!(expired, (401_000, "the token expired 301 s ago".into()));
        let other_device = cause(&device_sas(SCOPE, "dev2", ""), 0);
        assert_eq!(other_device.1, "SAS audience is for another registration id: dev2");
        let other_scope = cause(&device_sas("0ne00222222", DEVICE, ""), 0);
        assert_eq!(other_scope.1, "SAS audience is for another id scope: 0ne00222222");
        let other_resource = cause(&format!("SharedAccessSignature sr=localhost&sig=AAAA&se={EXPIRY}"), 0);
        assert_eq!(other_resource.1, format!("SAS audience is not {SCOPE}/registrations/{DEVICE}"));
        let other_policy = cause(&device_sas(SCOPE, DEVICE, "&skn=owner"), 0);
        assert_eq!(other_policy.1, "the token names a policy other than registration");
        assert_eq!(cause("Bearer abc", 0).1, "the credential is not a SharedAccessSignature");
        assert_eq!(cause("SharedAccessSignature sr=a&se=1", 0).1, "the token has no sig");
        assert_eq!(cause("SharedAccessSignature sr=a&sig=!&se=1", 0).1, "sig of the token is not base64");
        assert_eq!(
            cause("SharedAccessSignature sr=a&sig=AA==&se=soon", 0).1,
            "se of the token is not a number of seconds"
        );
    }

    #[test]
    fn a_clock_may_be_five_minutes_off() {
        assert!(device_token(Some(&device_sas(SCOPE, DEVICE, "")), SCOPE, DEVICE, at(300)).is_ok());
    }

    #[test]
    fn an_audience_covers_whole_segments_only() {
        for audience in
            ["h", "h:8443", "https://h", "https://h/", "h/enrollments", "h/enrollments/a", "h:1/enrollments/"]
        {
            assert!(covers(audience, "H:8443/Enrollments/A"), "{audience}");
        }
        for audience in ["", "x", "h/enroll", "h/enrollments/b", "h/enrollments/a/b", "http://h", "h2"] {
            assert!(!covers(audience, "h:8443/enrollments/a"), "{audience}");
        }
    }

    fn device_sas(scope: &str, id: &str, rest: &str) -> String {
        format!("SharedAccessSignature sr={scope}/registrations/{id}&sig=AAAA&se={EXPIRY}{rest}")
    }

    fn base64(text: &str) -> Vec<u8> {
        BASE64_STANDARD.decode(text).unwrap()
    }

    fn at(seconds_after_expiry: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(EXPIRY + seconds_after_expiry).unwrap()
    }
}
