//! Reads a file that the user names, within a limit, because the name may be that of a device without an end.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// The text of a file.
///
/// # Errors
/// The file cannot be read, has more MiB, or is not text in UTF-8 ([`ErrorKind::InvalidData`]).
pub fn text(path: &Path, mebibytes: usize) -> io::Result<String> {
    String::from_utf8(bytes(path, mebibytes)?).map_err(|why| io::Error::new(ErrorKind::InvalidData, why))
}

/// The bytes of a file.
///
/// # Errors
/// The file cannot be read, or has more MiB.
pub(crate) fn bytes(path: &Path, mebibytes: usize) -> io::Result<Vec<u8>> {
    let largest = mebibytes * 1024 * 1024;
    let mut bytes = Vec::new();
    let limit = u64::try_from(largest).unwrap_or(u64::MAX);
    File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() > largest {
        true => Err(io::Error::new(ErrorKind::FileTooLarge, format!("it is larger than {mebibytes} MiB"))),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_at_the_limit_is_read_and_a_larger_one_is_refused() {
        let path = std::env::temp_dir().join(format!("dps-limited-file-{}", std::process::id()));
        let read = |size: usize| {
            std::fs::write(&path, vec![b'x'; size]).unwrap();
            text(&path, 1).map(|text| text.len()).map_err(|error| error.to_string())
        };

        let (largest, larger) = (read(1024 * 1024), read(1024 * 1024 + 1));

        std::fs::remove_file(&path).unwrap();
        assert_eq!((largest, larger), (Ok(1024 * 1024), Err("it is larger than 1 MiB".to_owned())));
    }
}
