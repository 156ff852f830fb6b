//! The usual cause of a failure and the next step: a pure function of what is known about the failure.

use crate::error_kind::{CredentialKind, ErrorKind};
use crate::models::registration::EnrollmentStatus;

pub(crate) fn text(
    kind: ErrorKind,
    http: Option<u16>,
    code: Option<i32>,
    state: Option<&EnrollmentStatus>,
    credential: Option<CredentialKind>,
) -> &'static str {
    match kind {
        ErrorKind::Config => "correct the value that the message names; nothing was sent",
        ErrorKind::Credential if credential == Some(CredentialKind::EntraId) => {
            "the identity returned no token; the cause below this error says why: sign in again, or check \
             the configuration of the identity"
        }
        ErrorKind::Credential => {
            "the credential cannot be used on this machine: check the file, the key or the TPM that the \
             message names"
        }
        ErrorKind::Connect => {
            "nothing was sent: check the host name, the proxy settings, and that the firewall allows \
             outbound connections to this port"
        }
        ErrorKind::Tls => {
            "the server's certificate is not trusted for this host: with an emulator or an inspecting proxy, \
             add its CA to the endpoint's roots; otherwise check the host name and the clock"
        }
        ErrorKind::Unauthorized => unauthorized(code, credential),
        ErrorKind::Proxy => {
            "the proxy answered, and a retry gets the same answer: correct the proxy's credentials or \
             address, ask its administrator to allow the host and port, or exempt the host (`NO_PROXY`)"
        }
        ErrorKind::Io if is_of_device(credential) => {
            "the network or the service closed the connection: register again, which is harmless even if the \
             service completed this registration; if it always happens, check that the port belongs to this \
             protocol (443 HTTPS and WebSockets, 8883 MQTT, 5671 AMQP)"
        }
        ErrorKind::Io => "the service may have executed the request: read the state before you send it again",
        ErrorKind::Service => service(http, code, credential),
        ErrorKind::Registration => registration(code, state, credential),
        ErrorKind::Protocol => {
            "the answer is not one of the provisioning service: check that host and port belong to it, and \
             that no proxy changes answers"
        }
        ErrorKind::CertificateNotRequested => {
            "make a `CertificateRequest` and register with `register().csr(&request)`"
        }
        ErrorKind::CertificateNotIssued => {
            "the enrollment has no certificate policy: set one on the enrollment (namespace, certificate \
             authority and policy), then register again with a new certificate signing request"
        }
        ErrorKind::CertificateChain => {
            "keep the credential and the certificate in use, and register again with a new certificate \
             signing request; if the message names a time, correct the clock first"
        }
        ErrorKind::Timeout => {
            "the deadline passed: look at the last state in the message; allow more time for the call, or \
             find out why the service is slow"
        }
        ErrorKind::Unsupported => {
            "nothing was sent: follow the message, or use another transport or credential"
        }
    }
}

fn unauthorized(code: Option<i32>, credential: Option<CredentialKind>) -> &'static str {
    if code == Some(401001) {
        return NO_HUB;
    }
    match credential {
        Some(CredentialKind::SymmetricKey) => {
            "the key does not belong to this registration id in this ID scope: check the ID scope, that the \
             enrollment is one with a symmetric key, that the key is the key of this enrollment, that a \
             group's key was derived for exactly this registration id (case matters), and that the clock is \
             right"
        }
        Some(CredentialKind::X509) if code == Some(401002) => UNTRUSTED_CHAIN,
        Some(CredentialKind::X509) => {
            "no enrollment accepts this certificate: check the ID scope, that an individual enrollment holds \
             exactly this leaf or a group one of its issuers, that the leaf and all intermediates are sent, \
             that the common name is the registration id, and that no certificate has expired"
        }
        Some(CredentialKind::Tpm) => {
            "the enrollment has another endorsement key, or the registration id belongs to another device: \
             compare the EK of this TPM with the enrollment's"
        }
        Some(CredentialKind::AccessPolicy) => {
            "the policy's key is wrong or was regenerated, the policy lacks the right for this call, the \
             host is another instance's, or the clock is wrong: copy the connection string again"
        }
        Some(CredentialKind::EntraId) => {
            "the identity has no role on this instance that allows the call (reading: `Device Provisioning \
             Service Data Reader`, everything: `Data Contributor`; a new assignment takes minutes), or the \
             token is for another audience"
        }
        None => {
            "the service refused the credential: check that it belongs to this instance and has not expired, \
             and that the clock is right"
        }
    }
}

/// The peer does not speak TLS.
#[cfg(feature = "tls")]
pub(crate) const NO_TLS: &str =
    "another service, a plain HTTP port or a proxy is listening there: check host and port";

/// Client and server have no TLS parameters in common.
#[cfg(feature = "tls")]
pub(crate) const NO_COMMON_TLS: &str = "client and server have no TLS version, cipher or name in common: \
     check host and port, and whether a proxy blocks TLS 1.2 and 1.3";

/// The usual cause of a TLS alert about the client's certificate.
#[cfg(feature = "tls")]
pub(crate) fn refused_certificate(alert: rustls::AlertDescription) -> &'static str {
    use rustls::AlertDescription as Alert;
    match alert {
        Alert::CertificateExpired => {
            "the server considers the client certificate expired: renew it; if it is still valid, check both \
             clocks"
        }
        Alert::UnknownCA => {
            "the server does not know the authority that signed the client certificate: send the leaf and \
             all intermediates, and make the CA known to the server"
        }
        Alert::DecryptError => {
            "the client's signature does not match its certificate: the private key belongs to another one"
        }
        Alert::CertificateRequired => {
            "the server accepts only clients with a certificate: use an X.509 identity whose key is RSA or \
             EC P-256 or P-384, or check that the host is the provisioning service's"
        }
        _ => {
            "the server does not accept the client certificate: check that it is a client certificate, that \
             it is not revoked, and that it meets the rules of the server's authority"
        }
    }
}

fn service(http: Option<u16>, code: Option<i32>, credential: Option<CredentialKind>) -> &'static str {
    match (code, http) {
        (Some(401001), _) => NO_HUB,
        (Some(404201), _) if is_of_device(credential) => no_enrollment(credential),
        (_, Some(400)) => "the service does not accept the request: the message names the member or the rule",
        (Some(404001), _) => {
            "no instance has this ID scope: copy it again from the instance (`az iot dps show --query \
             properties.idScope`), and check that the endpoint belongs to its cloud: `Endpoint::global()`, in \
             Azure China (ID scopes `0cn…`) `Endpoint::china()` or \
             `DPS_ENDPOINT=global.azure-devices-provisioning.cn`, in Azure US Government \
             `Endpoint::us_government()` or `DPS_ENDPOINT=global.azure-devices-provisioning.us`"
        }
        (_, Some(404)) if is_of_device(credential) => {
            "no such record: check the registration id and the ID scope, and that the device registered \
             before"
        }
        (_, Some(404)) => "no such record: check the id, and that it is in this instance",
        (_, Some(405)) => "the service does not offer this call: check the host and the api-version",
        (Some(409201 | 409202), _) => {
            "the record exists already: get and change it with `update`, or overwrite it with `replace`"
        }
        (_, Some(409)) => "another operation on the same record is running: try again after a moment",
        (_, Some(412)) => {
            "another client changed the record since it was read: get it again and repeat the change"
        }
        (_, Some(415)) => "the service accepts JSON only: a proxy may have changed the content type",
        (_, Some(429)) => {
            "the service's limit of operations per minute is reached: wait as long as it asks, and spread \
             the calls"
        }
        (_, Some(408 | 500..=599)) => {
            "the service has a fault: try again later; if it persists, quote the tracking id to support"
        }
        _ => "look up the code in the service's documentation; quote the tracking id to support",
    }
}

fn registration(
    code: Option<i32>,
    state: Option<&EnrollmentStatus>,
    credential: Option<CredentialKind>,
) -> &'static str {
    if state == Some(&EnrollmentStatus::Disabled) {
        return "the enrollment of this device, or of its group, is disabled: enable it to allow the device";
    }
    match code {
        Some(401001) => NO_HUB,
        Some(401002) if credential == Some(CredentialKind::X509) => UNTRUSTED_CHAIN,
        Some(401002) => {
            "the linked IoT hub or the certificate chain refused the device: check the credentials of the \
             link on the instance, and for X.509 that the chain ends with a verified CA"
        }
        Some(400207) => "the custom allocation webhook failed: look at its log for this registration id",
        Some(400208 | 400209) => {
            "the allocation returned no hub that this instance can use: check the enrollment's hubs and the \
             links"
        }
        Some(404201) => no_enrollment(credential),
        Some(409203) => "another registration of the same device was running: register again after a moment",
        _ => "the service could not assign a hub: the message says why; remove the cause and register again",
    }
}

fn is_of_device(credential: Option<CredentialKind>) -> bool {
    use CredentialKind::{SymmetricKey, Tpm, X509};
    matches!(credential, Some(SymmetricKey | X509 | Tpm))
}

fn no_enrollment(credential: Option<CredentialKind>) -> &'static str {
    match credential {
        Some(CredentialKind::SymmetricKey) => {
            "no enrollment in the instance of this ID scope has this registration id, and no group's key \
             fits: create one, or check the ID scope, the id, and that a group's key was derived for exactly \
             this registration id"
        }
        Some(CredentialKind::X509) => {
            "no enrollment in the instance of this ID scope holds this certificate or one of its issuers: \
             create one with the leaf (individual) or with its CA (group), or check the ID scope"
        }
        _ => "no enrollment fits this device: create one, or check the registration id and the ID scope",
    }
}

const UNTRUSTED_CHAIN: &str = "no enrollment has the certificate, or its chain does not end with a CA that \
     the instance trusts: an individual enrollment holds exactly this leaf; for a group send the leaf and \
     all intermediates, upload the CA that ends the chain and verify it, and check that the group names a \
     certificate of this chain (a certificate that was made again under the same name is another one); the \
     common name is the registration id";

const NO_HUB: &str =
    "no IoT hub is linked to the instance, or the link that this enrollment names was removed: link a hub";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_code_has_other_causes_with_a_key_than_with_a_certificate() {
        let of = |credential| text(ErrorKind::Unauthorized, Some(401), Some(401002), None, Some(credential));
        assert!(of(CredentialKind::SymmetricKey).contains("derived for exactly this registration id"));
        assert!(of(CredentialKind::X509).contains("intermediates"));
        assert!(of(CredentialKind::Tpm).contains("endorsement key"));
        assert!(of(CredentialKind::AccessPolicy).contains("connection string"));
        assert!(of(CredentialKind::EntraId).contains("role"));
    }

    #[test]
    fn a_missing_hub_has_the_same_help_in_every_kind() {
        for kind in [ErrorKind::Unauthorized, ErrorKind::Service, ErrorKind::Registration] {
            assert_eq!(text(kind, Some(401), Some(401001), None, None), NO_HUB);
        }
    }

    #[test]
    fn a_refused_chain_differs_from_a_certificate_that_no_enrollment_holds() {
        let of = |kind, code| text(kind, None, Some(code), None, Some(CredentialKind::X509));
        for (code, part) in
            [(401000, "holds exactly this leaf"), (401002, "upload the CA that ends the chain")]
        {
            assert!(of(ErrorKind::Unauthorized, code).contains(part), "{code}");
            assert!(
                of(ErrorKind::Unauthorized, code).contains("common name is the registration id"),
                "{code}"
            );
        }
        // The service reports a refused chain as a failed registration too.
        assert_eq!(of(ErrorKind::Registration, 401002), UNTRUSTED_CHAIN);
    }

    #[test]
    fn an_enrollment_of_another_type_and_a_group_key_are_causes_of_a_refused_key() {
        for code in [401000, 401002] {
            let key = Some(CredentialKind::SymmetricKey);
            let help = text(ErrorKind::Unauthorized, Some(401), Some(code), None, key);
            for part in ["ID scope", "with a symmetric key", "derived for exactly", "clock"] {
                assert!(help.contains(part), "{code}: {help}");
            }
        }
    }

    #[test]
    fn a_missing_enrollment_is_explained_for_each_kind_of_credential() {
        let of = |kind, credential| text(kind, Some(404), Some(404201), None, credential);
        for kind in [ErrorKind::Service, ErrorKind::Registration] {
            assert!(of(kind, Some(CredentialKind::SymmetricKey)).contains("no group's key fits"));
            assert!(of(kind, Some(CredentialKind::X509)).contains("one of its issuers"));
            assert!(of(kind, Some(CredentialKind::Tpm)).contains("no enrollment fits"));
        }
        let policy = Some(CredentialKind::AccessPolicy);
        assert!(of(ErrorKind::Service, policy).contains("no such record"), "a service client");
    }

    #[test]
    #[cfg(feature = "tls")]
    fn each_alert_about_our_certificate_has_its_own_cause() {
        use rustls::AlertDescription as Alert;
        for (alert, part) in [
            (Alert::CertificateExpired, "renew it"),
            (Alert::UnknownCA, "all intermediates"),
            (Alert::DecryptError, "belongs to another one"),
            (Alert::CertificateRequired, "use an X.509 identity"),
            (Alert::AccessDenied, "does not accept the client certificate"),
        ] {
            let error =
                crate::error::Error::from_tls_handshake(&rustls::Error::AlertReceived(alert), "h:1").unwrap();
            assert_eq!(error.kind(), ErrorKind::Unauthorized);
            assert_eq!(error.credential().is_some(), alert != Alert::CertificateRequired);
            assert!(error.help().contains(part), "{alert:?}: {}", error.help());
        }
    }

    #[test]
    fn a_record_that_exists_differs_from_an_operation_that_is_running() {
        let of = |code| text(ErrorKind::Service, Some(409), Some(code), None, None);
        assert!(of(409201).contains("exists already") && of(409202).contains("exists already"));
        assert!(of(409203).contains("another operation"));
    }

    #[test]
    fn after_a_lost_connection_a_device_registers_again_and_a_service_client_reads_the_state() {
        for device in [CredentialKind::SymmetricKey, CredentialKind::X509, CredentialKind::Tpm] {
            let help = text(ErrorKind::Io, None, None, None, Some(device));
            assert!(help.contains("register again") && help.contains("8883 MQTT"), "{help}");
        }
        let help = text(ErrorKind::Io, None, None, None, Some(CredentialKind::AccessPolicy));
        assert!(help.contains("read the state"), "{help}");
    }

    #[test]
    fn unknown_codes_are_sorted_by_status() {
        assert!(text(ErrorKind::Service, Some(404), Some(404999), None, None).contains("no such record"));
        let scope =
            text(ErrorKind::Service, Some(404), Some(404001), None, Some(CredentialKind::SymmetricKey));
        assert!(scope.contains("no instance has this ID scope"));
        assert!(text(ErrorKind::Service, Some(599), None, None, None).contains("fault"));
        let disabled = EnrollmentStatus::Disabled;
        assert!(text(ErrorKind::Registration, None, None, Some(&disabled), None).contains("disabled"));
    }
}
