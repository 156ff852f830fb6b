#![doc = include_str!("../README.md")]

mod base64_text;

mod connection_string;
pub use connection_string::{ConnectionString, PolicySecret};

mod error;
pub use error::{CredentialKind, Error, ErrorKind, Result, ServiceError};

mod help;

#[cfg(feature = "http")]
mod http;
#[cfg(feature = "http")]
pub use http::{HttpAnswer, HttpClient, HttpMethod, HttpRequest};

mod id;
pub use id::{IdScope, RegistrationId};

mod open_enum;
pub use open_enum::UnknownWord;

pub mod models;

mod pem;

mod percent;
pub use percent::percent_encode;

mod retry;
pub use retry::{Backoff, RetryPolicy, parse_retry_after};

mod sas;
pub use sas::{GroupKey, SasToken, SharedKey, UnsignedSas};

mod sensitive;
pub use sensitive::Sensitive;

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
pub use rustls;
