//! The file that keeps the state of an emulator over its runs. One emulator at a time uses it, and it is
//! replaced as a whole: whatever happens, it has either the earlier state or the new one.

use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::report;

/// A file that this emulator alone uses until it is dropped.
pub(crate) struct DataFile {
    path: PathBuf,
    /// Held for its lock. It is another file, because the file itself is replaced.
    lock: Mutex<File>,
}

impl DataFile {
    /// Locks a file, and reads it if it exists.
    ///
    /// # Errors
    /// The file cannot be read, or another emulator uses it.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, Option<Vec<u8>>)> {
        let path = resolved(path)?;
        let lock =
            OpenOptions::new().write(true).create(true).truncate(false).open(beside(&path, ".lock"))?;
        lock.try_lock().map_err(|why| match why {
            TryLockError::WouldBlock => io::Error::new(ErrorKind::WouldBlock, IN_USE),
            TryLockError::Error(error) => error,
        })?;
        let text = match fs::read(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok((DataFile { path, lock: Mutex::new(lock) }, text))
    }

    /// Replaces the contents of the file.
    ///
    /// # Errors
    /// The file has its earlier contents then, except with [`SaveError::Unsynced`].
    pub(crate) fn replace(&self, pieces: impl Iterator<Item = Vec<u8>>) -> Result<(), SaveError> {
        self.replace_and(pieces, sync_folder)
    }

    fn replace_and(
        &self,
        pieces: impl Iterator<Item = Vec<u8>>,
        sync: impl Fn(&Path) -> io::Result<()>,
    ) -> Result<(), SaveError> {
        let _one_at_a_time = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let new = beside(&self.path, ".new");
        write(&new, pieces).and_then(|()| fs::rename(&new, &self.path)).map_err(|source| {
            // It may not have been made, and the next attempt replaces it.
            let _removed = fs::remove_file(&new);
            SaveError::File { path: self.path.clone(), source }
        })?;
        sync(self.path.parent().unwrap_or(Path::new("/")))
            .map_err(|source| SaveError::Unsynced { path: self.path.clone(), source })
    }
}

/// Writes a new file that only its owner can read, until it is on the disk.
fn write(path: &Path, pieces: impl Iterator<Item = Vec<u8>>) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    for piece in pieces {
        file.write_all(&piece)?;
    }
    file.sync_all()
}

/// Waits until the names in a folder are on the disk.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Other systems do not open folders as files.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

/// The path without links, so that the file that a link names is replaced, and not the link.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if let Ok(target) = fs::read_link(path) {
                // A link to a file that does not exist yet. A link in a circle is another error.
                return resolved(&path.parent().unwrap_or(Path::new("")).join(target));
            }
            let name = path.file_name().ok_or(error)?;
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            Ok(fs::canonicalize(folder.unwrap_or(Path::new(".")))?.join(name))
        }
        Ok(path) if path.is_dir() => Err(io::Error::new(ErrorKind::IsADirectory, "it is a directory")),
        resolved => resolved,
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

const IN_USE: &str = "another emulator uses it: end that one, or give this one another file";

/// Why the state was not saved. `{:?}` is the message.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// The emulator has no data file.
    #[error("the emulator has no data file: start it with --data FILE, or EmulatorBuilder::data_file")]
    NoFile,
    /// The runtime was shut down meanwhile.
    #[error("the state was not saved")]
    Stopped(#[source] Box<dyn Error + Send + Sync>),
    /// A start could not read the state, mostly because it is too large. The file has the state that was saved
    /// before.
    #[error("the state was not saved, because no start could read it; the data file keeps the earlier state")]
    Unreadable(#[source] Box<dyn Error + Send + Sync>),
    /// The file has the state, but the system could not confirm that it is on the disk.
    #[error("the state is saved to {}, but it may be lost if the machine fails now", path.display())]
    Unsynced {
        /// The file.
        path: PathBuf,
        /// The error of the system about the folder of the file.
        source: io::Error,
    },
    /// The file could not be replaced. It has the state that was saved before.
    #[error("cannot save the state to {}, which keeps what was saved before", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

impl fmt::Debug for SaveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        report::debug(f, self, |f| match self {
            Self::NoFile => f.write_str("NoFile"),
            Self::Stopped(source) => f.debug_tuple("Stopped").field(source).finish(),
            Self::Unreadable(source) => f.debug_tuple("Unreadable").field(source).finish(),
            Self::Unsynced { path, source } => {
                f.debug_struct("Unsynced").field("path", path).field("source", source).finish()
            }
            Self::File { path, source } => {
                f.debug_struct("File").field("path", path).field("source", source).finish()
            }
        })
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_folder_that_cannot_be_synced_is_reported_with_the_new_contents_in_the_file() {
        let dir = Directory::new("unsynced").unwrap();
        let (file, _) = DataFile::open(&dir.0.join("state.json")).unwrap();
        file.replace([b"old".to_vec()].into_iter()).unwrap();

        let failing = |_: &Path| Err(io::Error::from(ErrorKind::PermissionDenied));
        let error = file.replace_and([b"new".to_vec()].into_iter(), failing).unwrap_err();

        assert!(matches!(error, SaveError::Unsynced { .. }), "{error}");
        assert!(!error.to_string().contains("before"), "{error}");
        assert_eq!(fs::read_to_string(dir.0.join("state.json")).unwrap(), "new");
    }

    #[test]
    fn links_to_a_file_that_does_not_exist_stay_links() {
        let dir = Directory::new("links").unwrap();
        let (first, second) = (dir.0.join("first"), dir.0.join("second"));
        symlink("second", &first).unwrap();
        symlink(dir.0.join("state.json"), &second).unwrap();

        let (file, text) = DataFile::open(&first).unwrap();
        file.replace([b"new".to_vec()].into_iter()).unwrap();

        assert_eq!(text, None);
        assert!(fs::read_link(&first).is_ok() && fs::read_link(&second).is_ok());
        assert_eq!(fs::read_to_string(dir.0.join("state.json")).unwrap(), "new");
    }

    #[test]
    fn links_in_a_circle_are_an_error() {
        let dir = Directory::new("circle").unwrap();
        symlink("b", dir.0.join("a")).unwrap();
        symlink("a", dir.0.join("b")).unwrap();

        assert!(DataFile::open(&dir.0.join("a")).is_err());
    }

    /// A folder that is removed at the end.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> io::Result<Self> {
            let path = std::env::temp_dir().join(format!("dps-data-file-{name}-{}", std::process::id()));
            fs::create_dir_all(&path)?;
            Ok(Directory(path))
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _removed = fs::remove_dir_all(&self.0);
        }
    }
}
