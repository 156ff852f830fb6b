//! Reads the record of a device at the start, and keeps one that cannot be used.

use std::io;
use std::time::Duration;

use azure_dps_core::Error;
use tokio::time::sleep;

use super::memory::Memory;
use super::record::{self, Content, Owner};
use super::store::{Store, within};
use super::store_error;

/// What a start found in the store.
pub(crate) struct Loaded {
    pub(crate) memory: Memory,
    /// Why the record could not be used.
    pub(crate) error: Option<Error>,
    /// The record in the store. `None` when there is none, or when it could not be read.
    pub(crate) record: Option<Vec<u8>>,
    pub(crate) before: Before,
    /// The copy of a record that could not be used, if the start had to look for it: the one from before, while
    /// `before` has not been put aside.
    pub(crate) copy: Option<Vec<u8>>,
}

/// What has to be copied before the record is replaced.
#[derive(Debug, Default)]
pub(crate) enum Before {
    #[default]
    Nothing,
    /// A record that may exist, but could not be read at the start.
    Unread,
    /// A record that cannot be used.
    Unusable(Vec<u8>),
    /// A record that cannot be used, and has been copied.
    PutAside(Vec<u8>),
}

impl Loaded {
    /// Without the record, which may exist.
    pub(crate) fn unread(error: Error) -> Self {
        let memory = Memory::default();
        Self { memory, error: Some(error), record: None, before: Before::Unread, copy: None }
    }

    fn usable(memory: Memory, record: Option<Vec<u8>>) -> Self {
        Self { memory, error: None, record, before: Before::Nothing, copy: None }
    }
}

/// Reads the memory of the device. A record that cannot be used is reported, put aside under another key, and
/// counts as no memory.
pub(crate) async fn load(store: &dyn Store, owner: &Owner) -> Loaded {
    let key = owner.key();
    let copy_key = copy_key(&key);
    // All tries together take no longer than a store may take to answer.
    let bytes = match within(|| read(store, &key)).await {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Loaded::usable(Memory::default(), None),
        Err(why) => return Loaded::unread(store_error::unread(&copy_key, why)),
    };
    let why = match record::read(&bytes, owner) {
        Content::Memory(memory) => return Loaded::usable(*memory, Some(bytes)),
        Content::Foreign => "belongs to another device".to_owned(),
        Content::Damaged(why) => format!("is damaged: {why}"),
        Content::Newer(version) => format!("has version {version}, of a later release of this library"),
    };
    let earlier = within(|| store.load(&copy_key)).await;
    let is_copied = earlier.as_ref().is_ok_and(|earlier| earlier.as_ref() == Some(&bytes));
    let mut before =
        if is_copied { Before::PutAside(bytes.clone()) } else { Before::Unusable(bytes.clone()) };
    let place = match put_aside(store, &key, &mut before).await {
        Ok(()) if !is_copied && matches!(earlier, Ok(Some(_))) => {
            format!("a copy has the key {copy_key}, and replaces an earlier one")
        }
        Ok(()) => format!("a copy has the key {copy_key}"),
        Err(why) => format!("it cannot be put aside, and is not replaced before it is: {why}"),
    };
    let message = format!("the stored record {why}; {place}");
    Loaded {
        memory: Memory::default(),
        error: Some(store_error::unusable(message)),
        record: Some(bytes),
        before,
        copy: earlier.ok().flatten(),
    }
}

/// Reads the record. A failure may pass: a device that forgets its assignment and its certificates for it has
/// to be provisioned anew.
async fn read(store: &dyn Store, key: &str) -> io::Result<Option<Vec<u8>>> {
    for pause in PAUSES {
        match store.load(key).await {
            Ok(bytes) => return Ok(bytes),
            Err(_) => sleep(pause).await,
        }
    }
    store.load(key).await
}

/// Looks for the copy of a record that could not be used. `record` is the record in the store, which a store
/// that ignores keys returns for the copy too.
pub(crate) async fn look_for_copy(
    store: &dyn Store,
    key: &str,
    record: Option<&[u8]>,
) -> io::Result<Option<Vec<u8>>> {
    let copy_key = copy_key(key);
    let copy = within(|| store.load(&copy_key)).await?;
    Ok(copy.filter(|copy| Some(&**copy) != record))
}

/// Copies what was in the store before the record is replaced. A record that still cannot be read is given up,
/// so that the device remembers anything at all.
///
/// # Errors
/// When there is no copy yet.
pub(crate) async fn put_aside(store: &dyn Store, key: &str, before: &mut Before) -> io::Result<()> {
    if matches!(before, Before::Unread)
        && let Ok(found) = within(|| store.load(key)).await
    {
        *before = found.map_or(Before::Nothing, Before::Unusable);
    }
    if let Before::Unusable(bytes) = before {
        let copy_key = copy_key(key);
        within(|| store.save(&copy_key, bytes.clone())).await?;
        *before = Before::PutAside(std::mem::take(bytes));
    }
    Ok(())
}

/// The key of the copy of a record that cannot be used.
fn copy_key(key: &str) -> String {
    format!("{key}-unusable")
}

/// Between the attempts to read the record.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];
