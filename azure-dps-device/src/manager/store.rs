//! Where a manager keeps its record and its private keys: two traits, and files.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use azure_dps_core::Sensitive;
use azure_dps_core::plumbing::write_private_file;

use crate::transport::contract::BoxFuture;

/// Keeps the record of a device over reboots: where it is provisioned, and how its last attempts went. The
/// record has no key and no token.
///
/// [`FileStore`] keeps it in a file. Implement this trait for other places, such as flash without a file
/// system.
pub trait Store: fmt::Debug + Send + Sync {
    /// Reads the record with this key: 32 hexadecimal digits, different for each endpoint, id scope and
    /// registration id. A store for one device may ignore the key. `None` when there is none.
    ///
    /// # Errors
    /// When the record may exist but cannot be read. The manager then reports it, and provisions the device
    /// as a new one.
    fn load<'a>(&'a self, key: &'a str) -> BoxFuture<'a, io::Result<Option<Vec<u8>>>>;

    /// Replaces the record. A power failure must leave either the old or the new one; the manager notices one
    /// that is torn, and provisions the device as a new one.
    ///
    /// # Errors
    /// When the record cannot be written. The manager reports it and tries again later.
    fn save<'a>(&'a self, key: &'a str, record: Vec<u8>) -> BoxFuture<'a, io::Result<()>>;
}

/// Keeps the private keys of issued certificates over reboots.
///
/// [`FileStore`] keeps each in a file of mode 0600. Implement this trait for a keyring or a secure element.
pub trait KeyStore: fmt::Debug + Send + Sync {
    /// Reads a key that was saved under this name: letters, digits and `-`. `None` when there is none.
    ///
    /// # Errors
    /// When the key may exist but cannot be read.
    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Option<Sensitive<Vec<u8>>>>>;

    /// Saves a key, as PKCS#8 PEM. Names are never used twice for different keys.
    ///
    /// # Errors
    /// When the key cannot be written. The manager then does not use the certificate.
    fn save<'a>(&'a self, name: &'a str, key: Sensitive<Vec<u8>>) -> BoxFuture<'a, io::Result<()>>;

    /// Deletes a key. No error when there is none.
    ///
    /// # Errors
    /// When the key cannot be deleted. The manager reports it.
    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<()>>;
}

/// Keeps records and keys as files in one folder: `dps-{key}.record` and `{name}.key`, both of mode 0600.
///
/// A file is replaced by writing another one beside it, which then takes its name, so that a power failure
/// leaves the old or the new one. Devices can share a folder. Two programs for one device cannot.
#[derive(Clone, Debug)]
pub struct FileStore {
    folder: PathBuf,
}

impl FileStore {
    /// Keeps the files in this folder, which is created when it is first written to.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    fn file(&self, name: &str, extension: &str) -> io::Result<PathBuf> {
        let is_plain = |name: &str| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        match is_plain(name) {
            true => Ok(self.folder.join(format!("{name}.{extension}"))),
            false => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "the name is not letters, digits and -"))
            }
        }
    }
}

impl Store for FileStore {
    fn load<'a>(&'a self, key: &'a str) -> BoxFuture<'a, io::Result<Option<Vec<u8>>>> {
        let file = self.file(&format!("dps-{key}"), RECORD);
        Box::pin(async move {
            let file = file?;
            blocking(move || {
                remove_unfinished(&file);
                read(&file)
            })
            .await
        })
    }

    fn save<'a>(&'a self, key: &'a str, record: Vec<u8>) -> BoxFuture<'a, io::Result<()>> {
        let file = self.file(&format!("dps-{key}"), RECORD);
        Box::pin(async move {
            let file = file?;
            blocking(move || write(&file, &record)).await
        })
    }
}

impl KeyStore for FileStore {
    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Option<Sensitive<Vec<u8>>>>> {
        let file = self.file(name, KEY);
        Box::pin(async move {
            let file = file?;
            blocking(move || Ok(read(&file)?.map(Sensitive::from))).await
        })
    }

    fn save<'a>(&'a self, name: &'a str, key: Sensitive<Vec<u8>>) -> BoxFuture<'a, io::Result<()>> {
        let file = self.file(name, KEY);
        Box::pin(async move {
            let file = file?;
            blocking(move || write(&file, &key)).await
        })
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<()>> {
        let file = self.file(name, KEY);
        Box::pin(async move {
            let file = file?;
            blocking(move || match std::fs::remove_file(&file) {
                Err(why) if why.kind() != io::ErrorKind::NotFound => Err(why),
                _ => Ok(()),
            })
            .await
        })
    }
}

/// A file of this size is not a record or a key; reading it would only fill the memory.
const LARGEST: u64 = 1024 * 1024;
const RECORD: &str = "record";
const KEY: &str = "key";

fn read(file: &Path) -> io::Result<Option<Vec<u8>>> {
    let size = match std::fs::metadata(file) {
        Ok(facts) => facts.len(),
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(why) => return Err(why),
    };
    match size {
        0..=LARGEST => std::fs::read(file).map(Some),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("the file has {size} bytes"))),
    }
}

fn write(file: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    write_private_file(file, content)
}

/// Removes files that a power failure left beside this one.
fn remove_unfinished(file: &Path) {
    let (Some(folder), Some(name)) = (file.parent(), file.file_name().and_then(|name| name.to_str())) else {
        return;
    };
    let start = format!(".{name}.");
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in
        entries.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(&start)))
    {
        let _removed = std::fs::remove_file(entry.path());
    }
}

/// The disk can be slow, so it is not waited for on a thread of the runtime.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(why) => Err(io::Error::other(why)),
    }
}

/// A store that does not answer must not stop the manager.
pub(crate) async fn within<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(LIMIT, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {LIMIT:?}"))),
    }
}

const LIMIT: Duration = Duration::from_secs(30);
