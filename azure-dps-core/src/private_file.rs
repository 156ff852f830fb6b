//! Files with a private key: written so that only the current user can read them, complete or not at all.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::file_name;

/// Reads a file.
///
/// # Errors
/// [`ErrorKind::Credential`]; the message names the file, if its name cannot be a secret.
pub(crate) fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>> {
    refuse_content(file)?;
    fs::read(file).map(Zeroizing::new).map_err(|why| {
        let file = file_name::shown(file);
        let message = format!("the file {file} cannot be read: check the path and its permissions");
        Error::new(ErrorKind::Credential, message).with_source(why)
    })
}

/// Writes a file as [`replace`] does.
///
/// # Errors
/// [`ErrorKind::Credential`]; the message names the file, if its name cannot be a secret.
pub(crate) fn write(file: &Path, content: &[u8]) -> Result<()> {
    refuse_content(file)?;
    replace(file, content).map_err(|why| {
        let message = format!(
            "the file {} cannot be written: check that its folder exists, is writable and has room",
            file_name::shown(file)
        );
        Error::new(ErrorKind::Credential, message).with_source(why)
    })
}

fn refuse_content(file: &Path) -> Result<()> {
    let refuse = |why| Error::new(ErrorKind::Credential, format!("the given name of a file {why}"));
    file_name::fault(file).map_or(Ok(()), |why| Err(refuse(why)))
}

/// Writes a file of mode 0600. The content is written to a new file beside it, which then takes its name, so
/// that a reader, a crash or a full disk never leaves half a key. The mode is that of the new file from its
/// beginning.
pub(crate) fn replace(file: &Path, content: &[u8]) -> io::Result<()> {
    let (beside, mut new) = create_beside(file)?;
    let written = new.write_all(content).and_then(|()| new.sync_all());
    drop(new);
    if let Err(why) = written.and_then(|()| fs::rename(&beside, file)) {
        let _ = fs::remove_file(&beside);
        return Err(why);
    }
    sync_folder(file)
}

/// A new file in the same folder, because a rename does not cross file systems. Its name is not that of
/// another writer, or of one that crashed.
fn create_beside(file: &Path) -> io::Result<(PathBuf, File)> {
    static WRITES: AtomicU32 = AtomicU32::new(0);
    let name = file.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    loop {
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}-{}.new", std::process::id(), WRITES.fetch_add(1, Ordering::Relaxed)));
        let beside = file.with_file_name(hidden);
        match create(&beside) {
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {}
            created => return created.map(|new| (beside, new)),
        }
    }
}

fn create(file: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file)
}

/// Makes the new name survive a power failure.
#[cfg(unix)]
fn sync_folder(file: &Path) -> io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}
