#![doc = include_str!("../README.md")]
// docs.rs labels each item with the features that it needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod base64_text;

#[cfg(feature = "tls")]
mod certificate;

mod certificate_check;

#[cfg(feature = "tls")]
mod certificate_request;
#[cfg(feature = "tls")]
pub use certificate_request::CertificateRequest;
#[cfg(feature = "csr")]
pub use certificate_request::EcCurve;

mod cloud;

mod connection_string;
pub use connection_string::{ConnectionString, PolicySecret};

mod der;

mod error;
pub use error::{Error, Result};

mod error_kind;
pub use error_kind::{CredentialKind, ErrorKind};

#[cfg(feature = "tls")]
mod file_name;

mod help;

#[cfg(feature = "http")]
pub mod http;

mod id;
pub use id::{IdScope, RegistrationId};

#[cfg(feature = "tls")]
mod issued_certificate;
#[cfg(feature = "tls")]
pub use issued_certificate::IssuedCertificate;

mod json;

mod json_cost;

pub mod models;

mod open_enum;
pub use open_enum::UnknownWord;

mod pem;

mod percent;

#[doc(hidden)]
pub mod plumbing;

#[cfg(feature = "tls")]
mod private_file;

mod redact;

mod renewal;
pub use renewal::RenewalPolicy;

mod report;

mod retry;
pub use retry::RetryPolicy;

mod sas;
pub use sas::{GroupKey, SasToken, SharedKey, UnsignedSas};

mod sensitive;
pub use sensitive::Sensitive;

mod service_error;
pub use service_error::ServiceError;

#[cfg(feature = "tls")]
mod endpoint;
#[cfg(feature = "tls")]
pub use endpoint::Endpoint;

#[cfg(feature = "tls")]
mod identity;
#[cfg(feature = "tls")]
pub use identity::Identity;

#[cfg(feature = "tls")]
mod proxy;
#[cfg(feature = "tls")]
pub use proxy::Proxy;

#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "tls")]
mod tls_failure;
#[cfg(feature = "tls")]
mod variables;
#[cfg(feature = "tls")]
pub use rustls;
