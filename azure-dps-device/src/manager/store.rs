//! Where a manager keeps its record and its private keys: two traits, and files.

use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, pending};
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use azure_dps_core::Sensitive;
use azure_dps_core::plumbing::write_private_file;
use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::transport::contract::BoxFuture;

/// Keeps the record of a device over reboots: where it is provisioned, and how its last attempts went. The
/// record has no key and no token.
///
/// [`FileStore`] keeps it in a file. Implement this trait for other places, such as flash without a file
/// system.
///
/// The manager drops a call that takes longer than 30 s, and every call when it is dropped itself. It may call
/// again for the same key then. A write that was dropped must not take effect after a later one for the same
/// key, so that an old record cannot replace a newer one: let each wait for the one before, or do nothing
/// after a drop. A manager that is started later in the same program may use the store too.
///
/// Calls for different keys, and reads beside writes, may overlap. They share a task with the connection to the
/// hub, so they must not block; `tokio::task::spawn_blocking` is for work that does. A call
/// that panics counts as one that failed.
pub trait Store: fmt::Debug + Send + Sync {
    /// Reads the record with this key: 32 hexadecimal digits, different for each endpoint, id scope and
    /// registration id. The copy of a record that cannot be used has the same key with `-unusable`. A store
    /// for one device may ignore the key; it then has no such copies. `None` when there is none.
    ///
    /// # Errors
    /// When the record may exist but cannot be read. The manager tries three times within seconds. Then it
    /// reports it, and provisions the device as a new one.
    fn load<'a>(&'a self, key: &'a str) -> BoxFuture<'a, io::Result<Option<Vec<u8>>>>;

    /// Replaces the record. A power failure must leave either the old or the new one; the manager notices one
    /// that is torn, and provisions the device as a new one.
    ///
    /// # Errors
    /// When the record cannot be written, or perhaps not kept. The manager reports it and tries again later.
    /// Until then it keeps the private keys of both records.
    fn save<'a>(&'a self, key: &'a str, record: Vec<u8>) -> BoxFuture<'a, io::Result<()>>;
}

/// Keeps the private keys of issued certificates over reboots.
///
/// [`FileStore`] keeps each in a file of mode 0600. Implement this trait for a keyring or a secure element.
///
/// Calls are dropped, may overlap, and must not block, as those of a [`Store`]. A write or a deletion that was
/// dropped must not take effect after a later call for the same name: the manager may give the name to another
/// key.
pub trait KeyStore: fmt::Debug + Send + Sync {
    /// Reads the key of this name: letters, digits and `-`. `None` when there is none.
    ///
    /// # Errors
    /// When the key may exist but cannot be read. The manager tries again later.
    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Option<Sensitive<Vec<u8>>>>>;

    /// Saves a key, as PKCS#8 PEM, or replaces the one of this name. A device uses ten names. A power
    /// failure must leave the old key, the new one or none.
    ///
    /// # Errors
    /// When the key cannot be written. The manager then asks for another certificate later.
    fn save<'a>(&'a self, name: &'a str, key: Sensitive<Vec<u8>>) -> BoxFuture<'a, io::Result<()>>;

    /// Deletes a key. No error when there is none.
    ///
    /// # Errors
    /// When the key cannot be deleted. The manager reports it and tries again later.
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
    /// Keeps the files in this folder, which is created when it is first written to. Errors name the file.
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
                let message = format!("the name {name:?} is not letters, digits and -");
                Err(io::Error::new(io::ErrorKind::InvalidInput, message))
            }
        }
    }
}

impl Store for FileStore {
    fn load<'a>(&'a self, key: &'a str) -> BoxFuture<'a, io::Result<Option<Vec<u8>>>> {
        let file = self.file(&format!("dps-{key}"), RECORD);
        Box::pin(async move {
            let file = file?;
            in_turn(file, |file| {
                remove_unfinished(file);
                read(file)
            })
            .await
        })
    }

    fn save<'a>(&'a self, key: &'a str, record: Vec<u8>) -> BoxFuture<'a, io::Result<()>> {
        let file = self.file(&format!("dps-{key}"), RECORD);
        Box::pin(async move {
            let file = file?;
            in_turn(file, move |file| write(file, &record)).await
        })
    }
}

impl KeyStore for FileStore {
    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Option<Sensitive<Vec<u8>>>>> {
        let file = self.file(name, KEY);
        Box::pin(async move {
            let file = file?;
            in_turn(file, |file| Ok(read(file)?.map(Sensitive::from))).await
        })
    }

    fn save<'a>(&'a self, name: &'a str, key: Sensitive<Vec<u8>>) -> BoxFuture<'a, io::Result<()>> {
        let file = self.file(name, KEY);
        Box::pin(async move {
            let file = file?;
            in_turn(file, move |file| {
                remove_unfinished(file);
                write(file, &key)
            })
            .await
        })
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<()>> {
        let file = self.file(name, KEY);
        Box::pin(async move {
            let file = file?;
            in_turn(file, |file| {
                remove_unfinished(file);
                match std::fs::remove_file(file) {
                    Err(why) if why.kind() != io::ErrorKind::NotFound => Err(why),
                    _ => Ok(()),
                }
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
        create(folder)?;
    }
    write_private_file(file, content)
}

/// Creates a folder and those above it. New folders survive a power failure once those that have them are
/// synchronized.
fn create(folder: &Path) -> io::Result<()> {
    let missing: Vec<_> = missing(folder).collect();
    std::fs::create_dir_all(folder)?;
    missing.into_iter().try_for_each(sync_parent)
}

/// The folders of this path that do not exist, the innermost first.
fn missing(folder: &Path) -> impl Iterator<Item = &Path> {
    folder.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists())
}

#[cfg(unix)]
fn sync_parent(folder: &Path) -> io::Result<()> {
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
    std::fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(not(unix))]
fn sync_parent(_: &Path) -> io::Result<()> {
    Ok(())
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

/// Works on a file after all earlier work on it, on a thread where a slow disk keeps no task of the runtime from
/// its work. A caller that leaves while others work never begins; a write that has begun ends before the next one
/// begins, so that an old record cannot replace a newer one.
async fn in_turn<T: Send + 'static>(
    file: PathBuf,
    work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let turn = turn(&file).lock_owned().await;
    let work = move || {
        let _turn = turn;
        work(&file).map_err(|why| io::Error::new(why.kind(), format!("{}: {why}", file.display())))
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(why) => Err(io::Error::other(why)),
    }
}

/// The turn of a file: one for the whole process, because a manager that was dropped leaves its last write behind.
fn turn(file: &Path) -> Arc<tokio::sync::Mutex<()>> {
    static TURNS: Mutex<BTreeMap<PathBuf, Arc<tokio::sync::Mutex<()>>>> = Mutex::new(BTreeMap::new());
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let mut turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
    turns.retain(|_, turn| Arc::strong_count(turn) > 1);
    Arc::clone(turns.entry(file).or_default())
}

/// Calls a store. One that does not answer or panics must not stop the manager.
pub(crate) async fn within<T, W>(call: impl FnOnce() -> W) -> io::Result<T>
where
    W: Future<Output = io::Result<T>>,
{
    let work = AssertUnwindSafe(async { call().await }).catch_unwind();
    match tokio::time::timeout(LIMIT, work).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(io::Error::other("the store panicked; standard error has the message")),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {LIMIT:?}"))),
    }
}

/// Completes when the end was asked for and this time has passed.
pub(crate) async fn overdue(mut stop: watch::Receiver<Option<Instant>>, limit: Duration) {
    let asked = stop.wait_for(Option::is_some).await.ok().and_then(|asked| *asked);
    match asked {
        Some(asked) => sleep(limit.saturating_sub(asked.elapsed())).await,
        None => pending().await,
    }
}

pub(crate) const LIMIT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A folder that goes with the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let name = format!("dps-store-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
            Self(std::env::temp_dir().join(name))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _removed = std::fs::remove_dir_all(&self.0);
        }
    }

    #[tokio::test]
    async fn a_record_is_replaced_and_its_folder_is_created() {
        let folder = Folder::new();
        let store = FileStore::new(folder.0.join("deep"));
        assert_eq!(Store::load(&store, "k").await.unwrap(), None);
        for record in ["first", "second"] {
            Store::save(&store, "k", record.into()).await.unwrap();
            assert_eq!(Store::load(&store, "k").await.unwrap().unwrap(), record.as_bytes());
        }
        assert_eq!(Store::load(&store, "other").await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_key_is_kept_until_it_is_deleted() {
        let folder = Folder::new();
        let store = FileStore::new(&folder.0);
        KeyStore::save(&store, "dps-1", Sensitive::from(b"pem".to_vec())).await.unwrap();
        assert_eq!(KeyStore::load(&store, "dps-1").await.unwrap().as_deref(), Some(&b"pem".to_vec()));
        for _ in 0..2 {
            store.delete("dps-1").await.unwrap();
        }
        assert!(KeyStore::load(&store, "dps-1").await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_write_that_was_left_ends_before_the_next_one_of_its_file_begins() {
        let folder = Folder::new();
        let (file, other) = (folder.0.join("dps-k.record"), folder.0.join("dps-other.record"));
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let slow = in_turn(file.clone(), move |file| {
            let _begun = begun.send(());
            let _woken = wait.recv();
            write(file, b"old")
        });
        // The manager leaves it.
        tokio::select! {
            biased;
            _ = slow => panic!("it waits"),
            begun = has_begun => begun.unwrap(),
        }
        let store = FileStore::new(&folder.0);
        // One that is left before its turn is never written.
        tokio::select! {
            biased;
            _ = Store::save(&store, "k", b"left".to_vec()) => panic!("the slow write is under way"),
            saved = Store::save(&store, "other", b"other".to_vec()) => saved.unwrap(),
        }
        let mut newest = std::pin::pin!(Store::save(&store, "k", b"new".to_vec()));
        let early = tokio::time::timeout(Duration::from_millis(50), newest.as_mut()).await;
        let is_early = early.is_ok();
        go.send(()).unwrap();
        match early {
            Ok(saved) => saved.unwrap(),
            Err(_) => newest.await.unwrap(),
        }
        // The old write has ended too.
        in_turn(file.clone(), |_| Ok(())).await.unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
        assert!(!is_early && other.exists(), "the newer write did not wait");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn only_the_user_can_read_the_files() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = Folder::new();
        let store = FileStore::new(&folder.0);
        Store::save(&store, "k", b"record".to_vec()).await.unwrap();
        KeyStore::save(&store, "n", Sensitive::from(b"key".to_vec())).await.unwrap();
        for file in ["dps-k.record", "n.key"] {
            let mode = std::fs::metadata(folder.0.join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_out_of_the_folder_is_refused() {
        let folder = Folder::new();
        let store = FileStore::new(&folder.0);
        for name in ["", "..", "../x", "a/b", "a\0b"] {
            assert!(KeyStore::load(&store, name).await.is_err(), "{name:?}");
            assert!(KeyStore::save(&store, name, Sensitive::from(vec![])).await.is_err(), "{name:?}");
            assert!(store.delete(name).await.is_err(), "{name:?}");
        }
    }

    #[tokio::test]
    async fn a_file_that_is_too_large_for_a_record_is_not_read() {
        let folder = Folder::new();
        let store = FileStore::new(&folder.0);
        Store::save(&store, "k", vec![b' '; LARGEST as usize + 1]).await.unwrap();
        let error = Store::load(&store, "k").await.unwrap_err();
        assert!(error.to_string().contains("1048577 bytes"), "{error}");
    }

    #[tokio::test]
    async fn a_file_that_a_power_failure_left_unfinished_is_removed() {
        let folder = Folder::new();
        let store = FileStore::new(&folder.0);
        Store::save(&store, "k", b"record".to_vec()).await.unwrap();
        let unfinished = folder.0.join(".dps-k.record.1-2.new");
        let of_another = folder.0.join(".dps-other.record.1-2.new");
        for file in [&unfinished, &of_another] {
            std::fs::write(file, "rec").unwrap();
        }
        assert_eq!(Store::load(&store, "k").await.unwrap().unwrap(), b"record");
        assert_eq!((unfinished.exists(), of_another.exists()), (false, true));
    }

    #[tokio::test]
    async fn a_key_that_a_power_failure_left_unfinished_goes_with_the_next_one_of_its_name() {
        let folder = Folder::new();
        let store = FileStore::new(&folder.0);
        let unfinished = folder.0.join(".dps-k-1.key.1-2.new");
        let of_another = folder.0.join(".dps-k-2.key.1-2.new");
        std::fs::create_dir_all(&folder.0).unwrap();
        for deletes in [false, true] {
            for file in [&unfinished, &of_another] {
                std::fs::write(file, "-----BEGIN").unwrap();
            }
            match deletes {
                true => store.delete("dps-k-1").await.unwrap(),
                false => KeyStore::save(&store, "dps-k-1", Sensitive::from(b"pem".to_vec())).await.unwrap(),
            }
            assert_eq!((unfinished.exists(), of_another.exists()), (false, true), "deletes: {deletes}");
        }
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_written_is_an_error() {
        let folder = Folder::new();
        std::fs::create_dir_all(&folder.0).unwrap();
        std::fs::write(folder.0.join("file"), "").unwrap();
        let store = FileStore::new(folder.0.join("file"));
        let file = folder.0.join("file");
        for (error, name) in [
            (Store::save(&store, "k", vec![]).await.unwrap_err(), "dps-k.record"),
            (Store::load(&store, "k").await.unwrap_err(), "dps-k.record"),
            (KeyStore::save(&store, "n", Sensitive::from(vec![])).await.unwrap_err(), "n.key"),
            (KeyStore::load(&store, "n").await.unwrap_err(), "n.key"),
            (store.delete("n").await.unwrap_err(), "n.key"),
        ] {
            assert_ne!(error.kind(), io::ErrorKind::Other);
            let start = format!("{}: ", file.join(name).display());
            assert!(error.to_string().starts_with(&start), "{error}");
        }
    }

    #[test]
    fn the_new_folders_of_a_path_are_those_that_do_not_exist() {
        let folder = Folder::new();
        std::fs::create_dir_all(&folder.0).unwrap();
        let deep = folder.0.join("a/b");
        assert_eq!(missing(&deep).collect::<Vec<_>>(), [deep.as_path(), &folder.0.join("a")]);
        create(&deep).unwrap();
        assert_eq!(missing(&deep).count(), 0);
        assert_eq!(missing(Path::new("not-there/deep")).count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_does_not_answer_is_left() {
        let error = within(pending::<io::Result<()>>).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
