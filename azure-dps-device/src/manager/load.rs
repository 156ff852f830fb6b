//! Reads the record of a device at the start, and keeps one that cannot be used.

use std::time::Duration;

use azure_dps_core::{Error, ErrorKind};
use tokio::time::sleep;

use super::memory::Memory;
use super::record::{self, Content, Owner};
use super::store::{Store, within};

/// What a start found in the store.
pub(crate) struct Loaded {
    pub(crate) memory: Memory,
    /// Why the record could not be used.
    pub(crate) error: Option<Error>,
    pub(crate) before: Before,
    /// Whether a record that could not be used exists, here or as a copy, so that its keys must stay.
    pub(crate) has_other: bool,
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
}

impl Loaded {
    /// Without the record, which may exist.
    pub(crate) fn unread(error: Error) -> Self {
        Self { memory: Memory::default(), error: Some(error), before: Before::Unread, has_other: true }
    }
}

/// Reads the memory of the device. A record that cannot be used is reported, put aside under another key, and
/// counts as no memory.
pub(crate) async fn load(store: &dyn Store, owner: &Owner) -> Loaded {
    let key = owner.key();
    let bytes = match read(store, &key).await {
        Ok(bytes) => bytes,
        Err(why) => {
            let message = "the stored record cannot be read";
            return Loaded::unread(Error::new(ErrorKind::Io, message).with_source(why));
        }
    };
    let why = match record::read(&bytes, owner) {
        Content::Empty => return usable(Memory::default(), &bytes, store, &key).await,
        Content::Memory(memory) => return usable(*memory, &bytes, store, &key).await,
        Content::Foreign => "belongs to another device".to_owned(),
        Content::Damaged(why) => format!("is damaged: {why}"),
        Content::Newer(version) => format!("has version {version}, of a later release of this library"),
    };
    let mut before = Before::Unusable(bytes);
    let place = match put_aside(store, &key, &mut before).await {
        Ok(()) => format!("a copy has the key {}", copy(&key)),
        Err(why) => format!("it cannot be put aside, and is not replaced before it is: {why}"),
    };
    let error = Error::new(ErrorKind::Config, format!("the stored record {why}; {place}"));
    Loaded { memory: Memory::default(), error: Some(error), before, has_other: true }
}

/// Reads the record. A failure may pass: a device that forgets its assignment and its certificates for it has
/// to be provisioned anew.
async fn read(store: &dyn Store, key: &str) -> std::io::Result<Vec<u8>> {
    for pause in PAUSES {
        match within(store.load(key)).await {
            Ok(bytes) => return Ok(bytes.unwrap_or_default()),
            Err(_) => sleep(pause).await,
        }
    }
    within(store.load(key)).await.map(Option::unwrap_or_default)
}

async fn usable(memory: Memory, bytes: &[u8], store: &dyn Store, key: &str) -> Loaded {
    // A store that ignores keys returns the record itself.
    let has_other = match within(store.load(&copy(key))).await {
        Ok(copy) => copy.is_some_and(|copy| copy != bytes),
        Err(_) => true,
    };
    Loaded { memory, error: None, before: Before::Nothing, has_other }
}

/// Copies what was in the store before the record is replaced. A record that still cannot be read is given up,
/// so that the device remembers anything at all.
///
/// # Errors
/// When there is no copy yet.
pub(crate) async fn put_aside(store: &dyn Store, key: &str, before: &mut Before) -> std::io::Result<()> {
    if matches!(before, Before::Unread) {
        *before = match within(store.load(key)).await {
            Ok(Some(bytes)) => Before::Unusable(bytes),
            _ => Before::Nothing,
        };
    }
    if let Before::Unusable(bytes) = before {
        within(store.save(&copy(key), bytes.clone())).await?;
        *before = Before::Nothing;
    }
    Ok(())
}

/// The key of the copy of a record that cannot be used.
fn copy(key: &str) -> String {
    format!("{key}-unusable")
}

/// Between the attempts to read the record.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];
