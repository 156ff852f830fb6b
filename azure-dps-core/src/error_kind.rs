//! The kinds that failures and credentials are sorted into.

/// What kind of failure an [`Error`] is, by what may be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A value given by the caller cannot be used. Nothing was sent. Never retried.
    Config,
    /// The credential cannot be used on this side: signing, key file, TPM or certificate. Never retried.
    Credential,
    /// No connection: name look-up, TCP, proxy, or a TLS handshake that broke off. Nothing was sent. Retried within
    /// the budget.
    Connect,
    /// The proxy answered and refused to open a tunnel (its status is 4xx): its login, or the host. Nothing was sent.
    /// Never retried, because repeated logins lock accounts.
    Proxy,
    /// The server's certificate was refused, or client and server have no TLS in common. Never retried.
    Tls,
    /// The service refused the credential. Never retried.
    Unauthorized,
    /// The connection was lost or the answer did not come; the request may have been carried out.
    /// Retried where repeating it does no harm.
    Io,
    /// The service answered with an error; see [`Error::service`]. Retried for 408, 429 and 5xx only.
    Service,
    /// The service decided against the device: `failed` or `disabled`; see [`Error::state`]. Never retried.
    Registration,
    /// The answer could not be understood. Never retried.
    Protocol,
    /// The caller's deadline passed, or a call of the service client waited at its gate as long as it may.
    /// Never retried.
    Timeout,
    /// This combination does not exist, for example a status look-up over MQTT. Nothing was sent. Never retried.
    Unsupported,
}

/// Which kind of credential a failed call used: the same error code has other causes with a key than with X.509.
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
