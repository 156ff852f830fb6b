//! Splits the activation blob that the service sends to a TPM. Pure: nothing here is decrypted or trusted.

use std::fmt;

use azure_dps_core::{Error, ErrorKind, Result};

/// The parts of an activation blob, the argument of [`Tpm::import`](crate::Tpm::import): the inputs of the
/// commands that import the service's key into the TPM. `Debug` does not show them.
///
/// The blob is a sequence of fields, each a big-endian 16-bit length and that many bytes. A sixth field,
/// which the service appends, is ignored because it is not authenticated.
///
/// ```
/// use azure_dps_device::ActivationBlob;
///
/// let bytes = [0, 1, 10, 0, 1, 20, 0, 1, 30, 0, 1, 40, 0, 1, 50, 0, 0];
/// let blob = ActivationBlob::parse(&bytes)?;
/// assert_eq!((blob.credential, blob.public), (&[10][..], &[50][..]));
/// # Ok::<(), azure_dps_device::core::Error>(())
/// ```
///
/// Source: DPS TPM attestation; TPM 2.0 library part 3, `TPM2_ActivateCredential` and `TPM2_Import`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ActivationBlob<'b> {
    /// The credential, a `TPMS_ID_OBJECT`. Activating it returns the inner key.
    pub credential: &'b [u8],
    /// The credential's seed, encrypted for the endorsement key.
    pub credential_secret: &'b [u8],
    /// The sensitive area of the key to import, encrypted with the inner key and with `duplicate_secret`.
    pub duplicate: &'b [u8],
    /// The seed of the outer encryption, itself encrypted for the storage root key.
    pub duplicate_secret: &'b [u8],
    /// The public area of the key to import, a `TPMT_PUBLIC`.
    pub public: &'b [u8],
}

impl<'b> ActivationBlob<'b> {
    /// Splits a blob.
    ///
    /// # Errors
    /// [`ErrorKind::Credential`] when the blob ends within its first five fields or one of them is empty.
    pub fn parse(blob: &'b [u8]) -> Result<Self> {
        let mut rest = blob;
        let mut field = || {
            let (length, after) = rest.split_first_chunk()?;
            let (field, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
            rest = after;
            (!field.is_empty()).then_some(field)
        };
        let mut parts = || {
            Some(Self {
                credential: field()?,
                credential_secret: field()?,
                duplicate: field()?,
                duplicate_secret: field()?,
                public: field()?,
            })
        };
        parts().ok_or_else(|| {
            Error::new(ErrorKind::Credential, "the service sent a malformed TPM activation blob")
        })
    }
}

impl fmt::Debug for ActivationBlob<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ActivationBlob([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_five_fields_and_an_ignored_rest() {
        let fields = [&[0, 2, 1, 2][..], &[0, 1, 3], &[0, 1, 4], &[0, 1, 5], &[0, 2, 6, 7]].concat();
        for rest in [&[][..], &[0, 0], &[0, 1, 9], &[0xff, 0xff, 9]] {
            let bytes = [&fields, rest].concat();
            let blob = ActivationBlob::parse(&bytes).unwrap();
            assert_eq!((blob.credential, blob.credential_secret), (&[1, 2][..], &[3][..]));
            assert_eq!((blob.duplicate, blob.duplicate_secret), (&[4][..], &[5][..]));
            assert_eq!(blob.public, [6, 7]);
        }
    }

    #[test]
    fn a_blob_that_ends_too_early_or_has_an_empty_field_is_refused() {
        let whole = [0, 1, 1, 0, 1, 2, 0, 1, 3, 0, 1, 4, 0, 1, 5];
        assert!(ActivationBlob::parse(&whole).is_ok());
        for length in 0..whole.len() {
            let error = ActivationBlob::parse(&whole[..length]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Credential, "{length}");
        }
        assert!(ActivationBlob::parse(&[0, 1, 1, 0, 1, 2, 0, 0, 0, 1, 4, 0, 1, 5]).is_err());
    }

    #[test]
    fn debug_does_not_show_a_blob() {
        let blob = ActivationBlob::parse(&[0, 1, 1, 0, 1, 2, 0, 1, 3, 0, 1, 4, 0, 1, 5]).unwrap();
        assert_eq!(format!("{blob:?}"), "ActivationBlob([redacted])");
    }
}
