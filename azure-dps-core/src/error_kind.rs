//! The kinds of failures and of credentials.

/// What kind of failure an [`Error`](crate::Error) is: the kinds differ in what the caller can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A value given by the caller cannot be used. Nothing was sent. Never retried.
    Config,
    /// The credential cannot be used on this machine: signing, key file, TPM or certificate. Never retried.
    Credential,
    /// No connection: name look-up, TCP, proxy, or an interrupted TLS handshake. Nothing was sent. Retried
    /// within the budget.
    Connect,
    /// The proxy refused to open a tunnel (status 4xx), because of the credentials or the host. Nothing was
    /// sent. Never retried, because repeated failed logins lock accounts.
    Proxy,
    /// The server's certificate is not trusted, or client and server share no TLS version or cipher. Never
    /// retried.
    Tls,
    /// The service refused the credential. Never retried.
    Unauthorized,
    /// The connection was lost or no answer arrived; the service may have executed the request. Retried where
    /// repeating it does no harm.
    Io,
    /// The service answered with an error; see [`Error::service`](crate::Error::service). Retried for 408,
    /// 429 and 5xx only.
    Service,
    /// The registration ended as `failed` or `disabled`; see [`Error::state`](crate::Error::state). Never
    /// retried.
    Registration,
    /// The answer is not valid. Never retried.
    Protocol,
    /// The registration did not ask for a certificate: it was made without a certificate signing request. The
    /// assignment is valid.
    CertificateNotRequested,
    /// The service assigned the device and issued no certificate. The assignment is valid.
    CertificateNotIssued,
    /// The issued certificate chain does not fit the request or the time, and must not be used. The assignment
    /// is valid.
    CertificateChain,
    /// The caller's deadline passed, or a call of the service client reached its limit at the gate. Its source
    /// is the failure that was being retried, if there was one. Never retried.
    Timeout,
    /// The service does not offer this combination, for example a status look-up over MQTT. Nothing was sent.
    /// Never retried.
    Unsupported,
}

/// The kind of credential that a failed call used. With X.509 the same error code has other causes than with
/// a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CredentialKind {
    /// A device's symmetric key, its own or derived from a group key.
    SymmetricKey,
    /// A certificate and its private key.
    X509,
    /// A trusted platform module.
    Tpm,
    /// A shared access policy of the service.
    AccessPolicy,
    /// A token of Microsoft Entra ID.
    EntraId,
}
