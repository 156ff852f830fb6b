//! Which kind of error a TLS failure is.
//!
//! | failure | during the handshake | after it |
//! |---|---|---|
//! | the server's certificate is not accepted, or there is none | `Tls` | `Tls` |
//! | an alert about the client's certificate: `bad_certificate`, `unsupported_certificate`, `certificate_revoked`, `certificate_expired`, `certificate_unknown`, `unknown_ca`, `access_denied`, `decrypt_error`, `certificate_required`, `no_certificate`, `certificate_unobtainable`, `bad_certificate_status_response`, `bad_certificate_hash_value` | `Unauthorized` | `Unauthorized` |
//! | no common ground: `handshake_failure`, `protocol_version`, `insufficient_security`, `no_application_protocol`, `unrecognized_name`, `inappropriate_fallback`, `missing_extension`, `unsupported_extension`, `unknown_psk_identity`, `export_restriction`, `ech_required`, or the server offers nothing that the client speaks | `Tls` | `Io` |
//! | a fault of this side: no clock, no random numbers | `Tls` | `Io` |
//! | every other alert (`internal_error`, `close_notify` …), bytes that are not TLS, damaged or unexpected messages | `Connect` | `Io` |
//!
//! In TLS 1.3 the server judges the client's certificate after the client has finished its handshake, so alerts
//! about it count at any time. `Connect` and `Io` are repeated, the others are final. The tests below are the rows.

use std::error::Error as StdError;

use rustls::{AlertDescription, CertificateError, InvalidMessage};

use crate::error_kind::{CredentialKind, ErrorKind};
use crate::help;

/// When a TLS failure happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Handshake,
    Established,
}

/// What a TLS failure means.
pub(crate) struct TlsFailure {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
    /// The credential that the server refused, if it refused one.
    pub(crate) credential: Option<CredentialKind>,
    pub(crate) cause: rustls::Error,
}

/// Reads a failure, if TLS is somewhere in its chain of causes. `place` is the server, `host:port`.
pub(crate) fn read(failure: &(dyn StdError + 'static), phase: Phase, place: &str) -> Option<TlsFailure> {
    let found = rustls_error_in(failure)?;
    let (kind, message) = explain(found, phase, place);
    let credential = match found {
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => None,
        _ if kind == ErrorKind::Unauthorized => Some(CredentialKind::X509),
        _ => None,
    };
    Some(TlsFailure { kind, message, credential, cause: found.clone() })
}

/// What to do about an error of `kind`, where the TLS failure below it says more than the kind.
pub(crate) fn help(failure: &(dyn StdError + 'static), kind: ErrorKind) -> Option<&'static str> {
    match (rustls_error_in(failure)?, kind) {
        (rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType), ErrorKind::Connect) => {
            Some(help::NO_TLS)
        }
        (rustls::Error::AlertReceived(alert), ErrorKind::Unauthorized) => {
            Some(help::refused_certificate(*alert))
        }
        (rustls::Error::InvalidCertificate(_), _) => None,
        (_, ErrorKind::Tls) => Some(help::NO_COMMON_TLS),
        _ => None,
    }
}

fn rustls_error_in<'a>(failure: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(failure);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // An `io::Error` passes over the error that it wraps when asked for its source.
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => error.source(),
        };
    }
    None
}

fn explain(error: &rustls::Error, phase: Phase, place: &str) -> (ErrorKind, String) {
    use rustls::Error as Tls;
    match error {
        Tls::InvalidCertificate(why) => (ErrorKind::Tls, format!("the server's certificate {}", reason(why))),
        Tls::AlertReceived(AlertDescription::CertificateRequired) => (
            ErrorKind::Unauthorized,
            "the server wants a client certificate and got none (TLS alert CertificateRequired)".to_owned(),
        ),
        Tls::AlertReceived(alert) if is_about_our_certificate(*alert) => (
            ErrorKind::Unauthorized,
            format!("the server refused our certificate with the TLS alert {alert:?}"),
        ),
        Tls::NoCertificatesPresented => (ErrorKind::Tls, format!("{place} presented no certificate")),
        Tls::AlertReceived(alert) if phase == Phase::Established => {
            (ErrorKind::Io, format!("{place} ended the connection with the TLS alert {alert:?}"))
        }
        _ if phase == Phase::Established => (
            ErrorKind::Io,
            format!("the connection to {place} was lost: a TLS message was damaged or unexpected"),
        ),
        Tls::InvalidMessage(InvalidMessage::InvalidContentType) => {
            (ErrorKind::Connect, format!("what answers at {place} does not speak TLS"))
        }
        Tls::AlertReceived(alert) if is_no_common_ground(*alert) => {
            (ErrorKind::Tls, format!("{place} refused the TLS handshake with the alert {alert:?}"))
        }
        Tls::AlertReceived(alert) => {
            (ErrorKind::Connect, format!("{place} ended the TLS handshake with the alert {alert:?}"))
        }
        Tls::InvalidMessage(_)
        | Tls::InappropriateMessage { .. }
        | Tls::InappropriateHandshakeMessage { .. }
        | Tls::PeerMisbehaved(_)
        | Tls::PeerSentOversizedRecord
        | Tls::DecryptError
        | Tls::EncryptError => (
            ErrorKind::Connect,
            format!("the TLS handshake with {place} broke off: a message was damaged or unexpected"),
        ),
        _ => (ErrorKind::Tls, format!("the TLS handshake with {place} failed")),
    }
}

fn reason(why: &CertificateError) -> &'static str {
    match why {
        // A root of the same name with another key gives `BadSignature`: an emulator that was started again.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "is signed by no root that is trusted here"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "is not valid yet",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "is for another host name"
        }
        CertificateError::Revoked => "is revoked",
        _ => "is not acceptable",
    }
}

fn is_about_our_certificate(alert: AlertDescription) -> bool {
    use AlertDescription as Alert;
    matches!(
        alert,
        Alert::NoCertificate
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::CertificateUnobtainable
            | Alert::BadCertificateStatusResponse
            | Alert::BadCertificateHashValue
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError // Our signature in the handshake does not fit our certificate.
            | Alert::CertificateRequired
    )
}

fn is_no_common_ground(alert: AlertDescription) -> bool {
    use AlertDescription as Alert;
    matches!(
        alert,
        Alert::HandshakeFailure
            | Alert::ProtocolVersion
            | Alert::InsufficientSecurity
            | Alert::NoApplicationProtocol
            | Alert::UnrecognisedName
            | Alert::InappropriateFallback
            | Alert::MissingExtension
            | Alert::UnsupportedExtension
            | Alert::UnknownPSKIdentity
            | Alert::ExportRestriction
            | Alert::EncryptedClientHelloRequired
    )
}

#[cfg(test)]
mod tests {
    use rustls::{PeerIncompatible, PeerMisbehaved};

    use super::*;
    use crate::error::Error;

    /// The kinds of a failure during the handshake and after it.
    fn kinds(failure: &rustls::Error) -> (ErrorKind, ErrorKind) {
        let (early, late) =
            (Error::from_tls_handshake(failure, "h:1").unwrap(), Error::from_tls(failure, "h:1").unwrap());
        (early.kind(), late.kind())
    }

    #[test]
    fn a_certificate_of_the_server_that_is_not_accepted_is_final_at_any_time() {
        for why in [CertificateError::UnknownIssuer, CertificateError::Expired, CertificateError::Revoked] {
            assert_eq!(kinds(&rustls::Error::InvalidCertificate(why)), (ErrorKind::Tls, ErrorKind::Tls));
        }
        assert_eq!(kinds(&rustls::Error::NoCertificatesPresented), (ErrorKind::Tls, ErrorKind::Tls));
    }

    #[test]
    fn an_alert_about_the_certificate_of_the_client_is_a_refused_credential_at_any_time() {
        use AlertDescription as Alert;
        for alert in [
            Alert::BadCertificate,
            Alert::UnsupportedCertificate,
            Alert::CertificateRevoked,
            Alert::CertificateExpired,
            Alert::CertificateUnknown,
            Alert::UnknownCA,
            Alert::AccessDenied,
            Alert::DecryptError,
            Alert::NoCertificate,
            Alert::CertificateUnobtainable,
            Alert::BadCertificateStatusResponse,
            Alert::BadCertificateHashValue,
            Alert::CertificateRequired,
        ] {
            let refused = kinds(&rustls::Error::AlertReceived(alert));
            assert_eq!(refused, (ErrorKind::Unauthorized, ErrorKind::Unauthorized), "{alert:?}");
        }
    }

    #[test]
    fn no_common_ground_ends_a_handshake_and_breaks_a_connection() {
        use AlertDescription as Alert;
        for alert in [
            Alert::HandshakeFailure,
            Alert::ProtocolVersion,
            Alert::InsufficientSecurity,
            Alert::NoApplicationProtocol,
            Alert::UnrecognisedName,
            Alert::InappropriateFallback,
            Alert::MissingExtension,
            Alert::UnsupportedExtension,
            Alert::UnknownPSKIdentity,
            Alert::ExportRestriction,
            Alert::EncryptedClientHelloRequired,
        ] {
            let refused = kinds(&rustls::Error::AlertReceived(alert));
            assert_eq!(refused, (ErrorKind::Tls, ErrorKind::Io), "{alert:?}");
        }
        let versions = PeerIncompatible::ServerDoesNotSupportTls12Or13;
        let failure = rustls::Error::PeerIncompatible(versions);
        assert_eq!(kinds(&failure), (ErrorKind::Tls, ErrorKind::Io));
        let error = Error::from_tls_handshake(&failure, "h:1").unwrap();
        assert!(!error.help().contains("not trusted"), "{}", error.help());
    }

    #[test]
    fn faults_of_this_side_end_a_handshake() {
        for failure in [rustls::Error::FailedToGetCurrentTime, rustls::Error::FailedToGetRandomBytes] {
            assert_eq!(kinds(&failure), (ErrorKind::Tls, ErrorKind::Io));
        }
    }

    #[test]
    fn other_alerts_and_damaged_messages_are_repeated() {
        use AlertDescription as Alert;
        let alerts = [
            Alert::InternalError,
            Alert::CloseNotify,
            Alert::UserCanceled,
            Alert::UnexpectedMessage,
            Alert::BadRecordMac,
            Alert::RecordOverflow,
            Alert::DecodeError,
            Alert::IllegalParameter,
            Alert::Unknown(255),
        ];
        let damage = [
            rustls::Error::DecryptError,
            rustls::Error::PeerSentOversizedRecord,
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType),
            rustls::Error::InvalidMessage(InvalidMessage::InvalidEmptyPayload),
            rustls::Error::PeerMisbehaved(PeerMisbehaved::IllegalMiddleboxChangeCipherSpec),
        ];
        for failure in alerts.map(rustls::Error::AlertReceived).into_iter().chain(damage) {
            assert_eq!(kinds(&failure), (ErrorKind::Connect, ErrorKind::Io), "{failure}");
        }
    }

    #[test]
    fn a_tls_failure_is_found_under_io_errors() {
        let inner = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let outer = std::io::Error::other(std::io::Error::new(std::io::ErrorKind::InvalidData, inner));
        let error = Error::from_tls_handshake(&outer, "h:1").unwrap();
        assert!(error.to_string().contains("no root that is trusted here"));
        assert!(Error::from_tls_handshake(&std::io::Error::other("reset"), "h:1").is_none());
    }

    #[test]
    fn a_port_that_speaks_no_tls_is_named() {
        let inner = rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType);
        let error = Error::from_tls_handshake(&inner, "h:1").unwrap();
        assert_eq!(error.to_string(), "what answers at h:1 does not speak TLS");
        assert!(error.help().contains("check host and port"), "{}", error.help());
    }
}
