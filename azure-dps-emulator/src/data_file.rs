//! The file that keeps the state of an emulator over its runs. One emulator at a time uses it, and it is
//! replaced as a whole: whatever happens, it has either the earlier state or the new one.

use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::limited_file;
use crate::report;
use crate::shown_name::shown;

/// A file that this emulator alone uses until it has saved its last state, or is dropped.
pub(crate) struct DataFile {
    path: PathBuf,
    /// Held for its lock; none after the last state. It is another file, because the file itself is replaced.
    lock: Mutex<Option<File>>,
    /// The file for states that cannot take the place of the data file. It was free when it was chosen.
    beside: OnceLock<PathBuf>,
}

impl DataFile {
    /// Locks a file, and reads it if it exists.
    ///
    /// # Errors
    /// The file cannot be read, is not a regular file, is larger than this many MiB, or another emulator uses it.
    pub(crate) fn open(path: &Path, largest_mebibytes: usize) -> io::Result<(Self, Option<Vec<u8>>)> {
        let path = resolved(path)?;
        let lock =
            OpenOptions::new().write(true).create(true).truncate(false).open(beside(&path, ".lock"))?;
        lock.try_lock().map_err(|why| match why {
            TryLockError::WouldBlock => io::Error::new(ErrorKind::WouldBlock, IN_USE),
            TryLockError::Error(error) => error,
        })?;
        let text = match limited_file::bytes(&path, largest_mebibytes) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok((DataFile { path, lock: Mutex::new(Some(lock)), beside: OnceLock::new() }, text))
    }

    /// The file that an earlier run may have left beside the data file, with a state that is newer.
    pub(crate) fn left_beside(&self) -> Option<PathBuf> {
        Some(beside(&self.path, ".kept")).filter(|kept| kept.exists())
    }

    /// Replaces the file by what was read from it, so that a file that cannot be replaced is noticed at the start
    /// and not at the end. A disk that is full may have room then.
    ///
    /// # Errors
    /// The error of the system, and what helps.
    pub(crate) fn check_replaceable(&self, text: Vec<u8>) -> io::Result<()> {
        let new = beside(&self.path, ".new");
        if write(&new, [text].into_iter()).is_err() {
            let _removed = fs::remove_file(&new);
            return Ok(());
        }
        fs::rename(&new, &self.path).map_err(|error| {
            let _removed = fs::remove_file(&new);
            let why = format!("it cannot be replaced: {error}; {REPLACED}");
            io::Error::new(error.kind(), why)
        })
    }

    /// Replaces the contents of the file by the state that `state` returns. It is asked when its turn has come, so
    /// that an older state never replaces a newer one.
    ///
    /// # Errors
    /// The file has its earlier contents then, except with [`SaveError::Unsynced`].
    pub(crate) fn replace<P: Iterator<Item = Vec<u8>>>(
        &self,
        state: impl FnOnce() -> Result<P, SaveError>,
    ) -> Result<(), SaveError> {
        self.in_turn(|_| self.replace_and(state, sync_folder))
    }

    /// The same, for the last time: another emulator can use the file then, whether or not it was replaced.
    ///
    /// # Errors
    /// The file has its earlier contents then, except with [`SaveError::Unsynced`].
    pub(crate) fn replace_at_the_end<P: Iterator<Item = Vec<u8>>>(
        &self,
        state: impl FnOnce() -> Result<P, SaveError>,
    ) -> Result<(), SaveError> {
        self.in_turn(|lock| {
            let replaced = self.replace_and(state, sync_folder);
            *lock = None;
            replaced
        })
    }

    fn in_turn(&self, act: impl FnOnce(&mut Option<File>) -> Result<(), SaveError>) -> Result<(), SaveError> {
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        match *lock {
            Some(_) => act(&mut lock),
            None => Err(SaveError::Stopped("the last state is saved already".into())),
        }
    }

    fn replace_and<P: Iterator<Item = Vec<u8>>>(
        &self,
        state: impl FnOnce() -> Result<P, SaveError>,
        sync: impl Fn(&Path) -> io::Result<()>,
    ) -> Result<(), SaveError> {
        let pieces = state()?;
        let (path, new) = (self.path.clone(), beside(&self.path, ".new"));
        if let Err(source) = write(&new, pieces) {
            // It may not have been made, and the next attempt replaces it.
            let _removed = fs::remove_file(&new);
            return Err(SaveError::File { path, source });
        }
        if let Err(source) = fs::rename(&new, &self.path) {
            // Under another name, because the next attempt begins a new file.
            let kept = self.beside.get_or_init(|| free_beside(&self.path));
            let kept = fs::rename(&new, kept).map_or(new, |()| kept.clone());
            return Err(SaveError::NotReplaced { path, kept, source });
        }
        sync(self.path.parent().unwrap_or(Path::new("/")))
            .map_err(|source| SaveError::Unsynced { path, source })
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
        // A pipe or a device could not be replaced, and a pipe may have no writer.
        Ok(path) if !path.is_file() => {
            Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file"))
        }
        resolved => resolved,
    }
}

/// A file that does not exist: what an earlier run left may be the only copy of its state.
fn free_beside(path: &Path) -> PathBuf {
    let names = (1_u64..).map(|n| if n == 1 { ".kept".to_owned() } else { format!(".kept-{n}") });
    let is_free = |path: &PathBuf| fs::symlink_metadata(path).is_err();
    names.map(|name| beside(path, &name)).find(is_free).unwrap_or_else(|| beside(path, ".kept"))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

const REPLACED: &str = "each save replaces it by a new file, so mount its folder, and not the file alone";
const IN_USE: &str = "another emulator uses it: end that one, or give this one another file";

/// The reason why the state was not saved. `{:?}` prints the same text as `{}`.
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
    #[error("the state is saved to {}, but it may be lost if the machine fails now", shown(path))]
    Unsynced {
        /// The file.
        path: PathBuf,
        /// The error of the system about the folder of the file.
        source: io::Error,
    },
    /// The state was written to a file beside, but that could not take the place of the data file, for example
    /// because the data file is mounted on its own. The data file has the state that was saved before.
    #[error(
        "cannot replace {}, which has the state that was saved before; the new state is in {}",
        shown(path),
        shown(kept)
    )]
    NotReplaced {
        /// The data file.
        path: PathBuf,
        /// The file with the new state, which a later start can read.
        kept: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The file could not be written. It has the state that was saved before.
    #[error("cannot save the state to {}, which keeps what was saved before", shown(path))]
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
                f.debug_struct("Unsynced").field("path", &shown(path)).field("source", source).finish()
            }
            Self::NotReplaced { path, kept, source } => f
                .debug_struct("NotReplaced")
                .field("path", &shown(path))
                .field("kept", &shown(kept))
                .field("source", source)
                .finish(),
            Self::File { path, source } => {
                f.debug_struct("File").field("path", &shown(path)).field("source", source).finish()
            }
        })
    }
}

#[cfg(all(test, unix))]
mod tests;
