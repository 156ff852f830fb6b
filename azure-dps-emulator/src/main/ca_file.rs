//! The file with the certificate authority for clients, and the removal of such files that killed programs
//! left behind.
//!
//! A program holds a lock on its file while it runs. The system releases the lock however the program ends.
//! So a file whose lock is free belongs to no running program, and the next start removes it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// The file with the certificate authority. It is removed with the program unless `--ca-dir` keeps it.
pub(crate) struct CaFile {
    path: PathBuf,
    /// The locked file, if it is removed with the program.
    temporary: Option<File>,
}

impl CaFile {
    /// The file in the directory that keeps the authority.
    pub(crate) fn kept(dir: &Path) -> Self {
        CaFile { path: absolute(dir.join("ca.pem")), temporary: None }
    }

    /// A new file in a directory that other users may write to, named after the process and its HTTPS port.
    ///
    /// # Errors
    /// The error of the system, with the path.
    pub(crate) fn temporary(dir: &Path, port: u16, pem: &str) -> io::Result<Self> {
        let stem = format!("{PREFIX}{}-{port}", std::process::id());
        let dir = absolute(dir.to_owned());
        // The name may exist, or another program may remove the file before it is locked.
        let mut last = None;
        for name in (0..ATTEMPTS).map(|n| if n == 0 { stem.clone() } else { format!("{stem}-{n}") }) {
            let path = dir.join(name + SUFFIX);
            match write(&path, pem) {
                Ok(Some(file)) => {
                    remove_leftovers(&dir, &path, &file);
                    return Ok(CaFile { path, temporary: Some(file) });
                }
                Ok(None) => {}
                Err(error) => {
                    let retry = error.kind() == ErrorKind::AlreadyExists;
                    let message = format!(
                        "cannot write the certificate authority to {}: {error}; --ca-dir DIR keeps it \
                         elsewhere",
                        path.display()
                    );
                    last = Some(io::Error::new(error.kind(), message));
                    if !retry {
                        break;
                    }
                }
            }
        }
        Err(last.unwrap_or_else(|| ErrorKind::AlreadyExists.into()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for CaFile {
    fn drop(&mut self) {
        if self.temporary.is_some() {
            // With the lock, so that nothing else removes it, and perhaps its successor. If this fails, a later
            // start removes the file.
            let _removed = fs::remove_file(&self.path);
        }
    }
}

/// Creates a new file and locks it; `None` if another program took it for a leftover.
fn write(path: &Path, pem: &str) -> io::Result<Option<File>> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(pem.as_bytes())?;
    Ok(is_locked_at(path, &file).then_some(file))
}

/// Locks a file; returns whether it is still the one at the path. Otherwise another program, which found it
/// without a lock, removes it, or has done so.
fn is_locked_at(path: &Path, file: &File) -> bool {
    // A shared lock, because on some systems other programs cannot read a file with an exclusive lock.
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => false,
        // Systems without locks do not remove leftovers either.
        Ok(()) | Err(TryLockError::Error(_)) => is_at(path, file),
    }
}

/// Returns whether a path is that of an open file.
#[cfg(unix)]
fn is_at(path: &Path, file: &File) -> bool {
    use std::os::unix::fs::MetadataExt;

    let place = |found: fs::Metadata| (found.dev(), found.ino());
    fs::symlink_metadata(path).ok().map(place) == file.metadata().ok().map(place)
}

/// Elsewhere the place of an open file cannot be compared.
#[cfg(not(unix))]
fn is_at(path: &Path, _: &File) -> bool {
    path.exists()
}

/// Removes the files of programs that have ended. A file that cannot be removed, or may belong to something
/// else, stays.
fn remove_leftovers(dir: &Path, own: &Path, own_file: &File) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path != own) {
        if !path.file_name().and_then(|name| name.to_str()).is_some_and(is_ours) {
            continue;
        }
        let is_file = fs::symlink_metadata(&path).is_ok_and(|found| {
            found.is_file() && own_file.metadata().is_ok_and(|own| same_owner(&found, &own))
        });
        let Some(file) = is_file.then(|| File::open(&path).ok()).flatten() else { continue };
        if file.try_lock().is_ok() && is_at(&path, &file) {
            // With the lock, so that its program does not get it in between.
            let _removed = fs::remove_file(&path);
        }
    }
}

/// Returns whether a file has a name of this program: numbers between the prefix and the suffix.
fn is_ours(name: &str) -> bool {
    let numbers = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    numbers.is_some_and(|numbers| numbers.contains('-') && numbers.split('-').all(is_number))
}

/// Returns whether two files belong to the same user, so that no other user decides which file is opened.
#[cfg(unix)]
fn same_owner(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;

    one.uid() == other.uid()
}

/// Always true here, because each user has a separate directory for temporary files.
#[cfg(not(unix))]
fn same_owner(_: &fs::Metadata, _: &fs::Metadata) -> bool {
    true
}

fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

const PREFIX: &str = "azure-dps-emulator-";
const SUFFIX: &str = ".pem";
const ATTEMPTS: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_are_removed_and_locked_or_other_files_stay() {
        let dir = Directory::new("leftovers");
        let left = [dir.file("azure-dps-emulator-1-2.pem"), dir.file("azure-dps-emulator-1-2-3.pem")];
        let others = [
            dir.file("azure-dps-emulator-1.pem"),
            dir.file("azure-dps-emulator-x-2.pem"),
            dir.file("azure-dps-emulator-1-2.pem.bak"),
            dir.file("my-azure-dps-emulator-1-2.pem"),
        ];
        let subdirectory = dir.0.join("azure-dps-emulator-4-4.pem");
        fs::create_dir(&subdirectory).unwrap();

        let first = CaFile::temporary(&dir.0, 443, "first").unwrap();
        let second = CaFile::temporary(&dir.0, 443, "second").unwrap();

        assert!(left.iter().all(|path| !path.exists()));
        assert!(others.iter().all(|path| path.exists()) && subdirectory.is_dir());
        assert_ne!(first.path(), second.path(), "the name was taken");
        for (file, wanted) in [(first, "first"), (second, "second")] {
            assert_eq!(fs::read_to_string(file.path()).unwrap(), wanted);
            let path = file.path().to_owned();
            drop(file);
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_file_that_another_program_takes_for_a_leftover_is_not_used() {
        let dir = Directory::new("taken");
        let path = dir.0.join("azure-dps-emulator-1-2.pem");
        let file = OpenOptions::new().write(true).create_new(true).open(&path).unwrap();
        let other = File::open(&path).unwrap();
        other.try_lock().unwrap();

        assert!(!is_locked_at(&path, &file), "the other one is about to remove it");
        fs::remove_file(&path).unwrap();
        drop(other);
        assert!(!is_locked_at(&path, &file), "it is removed");
    }

    #[test]
    fn programs_that_start_at_the_same_time_keep_their_files() {
        let dir = Directory::new("together");
        std::thread::scope(|scope| {
            for port in 1..9_u16 {
                let dir = &dir.0;
                scope.spawn(move || {
                    for round in 0..40 {
                        let pem = format!("{port} {round}");
                        let file = CaFile::temporary(dir, port, &pem).unwrap();
                        std::thread::yield_now();
                        assert_eq!(fs::read_to_string(file.path()).ok(), Some(pem));
                    }
                });
            }
        });
    }

    #[test]
    #[cfg(unix)]
    fn links_are_neither_followed_nor_removed() {
        use std::os::unix::fs::symlink;

        let dir = Directory::new("links");
        let victim = dir.file("victim");
        let link = dir.0.join("azure-dps-emulator-1-2.pem");
        symlink(&victim, &link).unwrap();
        let stem = format!("azure-dps-emulator-{}-443", std::process::id());
        symlink(&victim, dir.0.join(format!("{stem}.pem"))).unwrap();
        symlink(dir.0.join("nowhere"), dir.0.join(format!("{stem}-1.pem"))).unwrap();

        let file = CaFile::temporary(&dir.0, 443, "authority").unwrap();

        assert_eq!(file.path().file_name().unwrap().to_str().unwrap(), format!("{stem}-2.pem"));
        assert_eq!(fs::read_to_string(&victim).unwrap(), "");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(!dir.0.join("nowhere").exists());
    }

    #[test]
    fn a_missing_directory_is_an_error_with_the_path() {
        let dir = Directory::new("gone").0.join("nothing");

        let error = CaFile::temporary(&dir, 443, "authority").err().unwrap();

        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("azure-dps-emulator-"), "{error}");
    }

    /// A directory for one test.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ca-file-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Directory(path)
        }

        fn file(&self, name: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, "").unwrap();
            path
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _removed = fs::remove_dir_all(&self.0);
        }
    }
}
