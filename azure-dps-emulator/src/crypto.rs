//! Tokens, keys, certificates and TPM blobs, without any rule of the service.

pub(crate) mod base64_text;
pub(crate) mod certificate;
pub(crate) mod chain;
pub(crate) mod csr;
pub(crate) mod der;
pub(crate) mod key;
pub(crate) mod key_files;
pub(crate) mod pem;
pub(crate) mod pki;
pub(crate) mod sas;
pub(crate) mod tpm_key;
pub(crate) mod tpm_seal;
