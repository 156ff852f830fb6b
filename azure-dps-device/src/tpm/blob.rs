//! What the service sends a TPM, taken apart. Pure: nothing here is decrypted or trusted.

use std::fmt;

use azure_dps_core::{Error, ErrorKind, Result};

/// The parts of an activation blob, which is what [`Tpm::import`](crate::Tpm::import) gets: the inputs of the
/// commands that bring the service's key into the TPM. `Debug` shows none of them.
///
/// The blob is a row of fields, each a 16-bit length, big-endian, and as many bytes. A sixth field that the
/// service appends is not read, because nothing protects it.
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
    /// The credential, a `TPMS_ID_OBJECT`. Activated, it gives the inner key.
    pub credential: &'b [u8],
    /// The credential's seed, encrypted for the endorsement key.
    pub credential_secret: &'b [u8],
    /// The key to import: its sensitive area, wrapped with the inner key and with the seed below.
    pub duplicate: &'b [u8],
    /// The wrapping's seed, encrypted for the storage root key.
    pub duplicate_secret: &'b [u8],
    /// The public area, a `TPMT_PUBLIC`, of the key to import.
    pub public: &'b [u8],
}

impl<'b> ActivationBlob<'b> {
    /// Takes a blob apart.
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
            Error::new(ErrorKind::Credential, "what the service sent is no activation blob of a TPM")
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
    fn a_blob_is_five_fields_and_a_rest_that_is_not_read() {
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
    fn a_blob_shows_nothing_of_itself() {
        let blob = ActivationBlob::parse(&[0, 1, 1, 0, 1, 2, 0, 1, 3, 0, 1, 4, 0, 1, 5]).unwrap();
        assert_eq!(format!("{blob:?}"), "ActivationBlob([redacted])");
    }
}
