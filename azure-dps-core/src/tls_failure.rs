//! Classifies TLS failures.
//!
//! | failure | during the handshake | after it |
//! |---|---|---|
//! | the server's certificate is not accepted, or the server sent none | `Tls` | `Tls` |
//! | an alert about the client's certificate | `Unauthorized` | `Unauthorized` |
//! | an alert that the two have nothing in common, or the server offers no version or cipher of the client | `Tls` | `Io` |
//! | a local fault: no clock, no random numbers | `Tls` | `Io` |
//! | any other alert; bytes that are not TLS; damaged or unexpected messages | `Connect` | `Io` |
//!
//! `is_about_client_certificate` and `is_incompatibility` list the alerts of the second and the third row.
//!
//! `decrypt_error` reports that a signature or the end of the handshake does not match. Once records are encrypted, a
//! record that was damaged in transit gives `bad_record_mac`. TLS 1.2 sends the client's certificate and its signature
//! before that, so there `decrypt_error` can also be damage.
//!
//! In TLS 1.3 the server checks the client's certificate after the client has finished its handshake, so an alert
//! about it can arrive at any time. `Connect` and `Io` are retried, the others are final. The tests below are the rows.

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

/// The meaning of a TLS failure.
pub(crate) struct TlsFailure {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
    /// The credential that the server refused, if it refused one.
    pub(crate) credential: Option<CredentialKind>,
    pub(crate) cause: rustls::Error,
}

/// Classifies a failure, if a TLS error is in its chain of causes. `place` is the server, `host:port`.
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

/// The help for an error of `kind`, if the TLS failure below it is more specific than the kind.
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
        // The source of an `io::Error` is that of the error it wraps, so the wrapped one is read here.
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
            "the server requires a client certificate and received none (TLS alert CertificateRequired)"
                .to_owned(),
        ),
        Tls::AlertReceived(alert) if is_about_client_certificate(*alert) => (
            ErrorKind::Unauthorized,
            format!("the server refused the client certificate with the TLS alert {alert:?}"),
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
            (ErrorKind::Connect, format!("the server at {place} does not speak TLS"))
        }
        Tls::AlertReceived(alert) if is_incompatibility(*alert) => {
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
            format!("the TLS handshake with {place} failed: a message was damaged or unexpected"),
        ),
        _ => (ErrorKind::Tls, format!("the TLS handshake with {place} failed")),
    }
}

fn reason(why: &CertificateError) -> &'static str {
    match why {
        // A root of the same name with another key gives `BadSignature`, for example after an emulator was
        // restarted.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "is signed by an unknown authority: no trusted root matches"
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

fn is_about_client_certificate(alert: AlertDescription) -> bool {
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
            | Alert::DecryptError // The client's signature in the handshake does not match its certificate.
            | Alert::CertificateRequired
    )
}

fn is_incompatibility(alert: AlertDescription) -> bool {
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
    fn an_incompatible_peer_ends_a_handshake_for_good_and_breaks_a_connection() {
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
    fn local_faults_end_a_handshake_for_good() {
        for failure in [rustls::Error::FailedToGetCurrentTime, rustls::Error::FailedToGetRandomBytes] {
            assert_eq!(kinds(&failure), (ErrorKind::Tls, ErrorKind::Io));
        }
    }

    #[test]
    fn other_alerts_and_damaged_messages_are_retried() {
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
        assert!(error.to_string().contains("signed by an unknown authority"));
        assert!(Error::from_tls_handshake(&std::io::Error::other("reset"), "h:1").is_none());
    }

    #[test]
    fn a_port_that_does_not_speak_tls_is_reported() {
        let inner = rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType);
        let error = Error::from_tls_handshake(&inner, "h:1").unwrap();
        assert_eq!(error.to_string(), "the server at h:1 does not speak TLS");
        assert!(error.help().contains("check host and port"), "{}", error.help());
    }
}
