//! The private keys of certificates during a run: the name of the next one, and the deletion of old ones.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use azure_dps_core::Error;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::key_names::KeyNames;
use super::load::{Before, Loaded, look_for_copy};
use super::memory::Memory;
use super::options::ManagerOptions;
use super::record::Owner;
use super::store::{KeyStore, within};
use super::store_error;
use crate::transport::contract::BoxFuture;

/// What an unusable record's copy was found to be.
type Look = io::Result<Option<Vec<u8>>>;

pub(crate) struct Keys {
    store: Option<Arc<dyn KeyStore>>,
    names: KeyNames,
    /// The look for a copy whose keys must stay.
    look: Option<BoxFuture<'static, Look>>,
    deletion: Deletion,
}

/// What happened to keys.
pub(crate) enum KeyNews {
    Looked(Look),
    Deleted(Deleted),
}

impl Keys {
    /// The keys of a device that starts with what it found in the store.
    pub(crate) fn new(options: &ManagerOptions, owner: &Owner, loaded: &Loaded) -> Self {
        let names = KeyNames::new(owner, loaded);
        let (store, key, record) = (Arc::clone(&options.store), owner.key(), loaded.record.clone());
        let look = async move { look_for_copy(&*store, &key, record.as_deref()).await };
        // Only the names of keys depend on it.
        let is_needed = options.keys.is_some() && names.lacks_copy();
        let look = is_needed.then(|| Box::pin(look.in_current_span()) as BoxFuture<'static, _>);
        Self { store: options.keys.clone(), names, look, deletion: Deletion::new() }
    }

    /// Waits for the end of what is under way.
    pub(crate) async fn next(&mut self) -> KeyNews {
        let Self { look, deletion, .. } = self;
        tokio::select! {
            looked = async { match look { Some(look) => look.await, None => pending().await } } => {
                *look = None;
                KeyNews::Looked(looked)
            }
            deleted = deletion.next() => KeyNews::Deleted(deleted),
        }
    }

    /// A record that was in the store before the first save was read, or put aside.
    pub(crate) fn found(&mut self, before: &Before) {
        self.names.found(before);
    }

    /// A record with this memory was written, or may have been.
    pub(crate) fn written(&mut self, memory: &Memory, is_certain: bool) {
        self.names.written(memory, is_certain);
    }

    pub(crate) fn looked(&mut self, looked: Look) {
        // Without an answer the keys stay that a copy may name, until the next start.
        if let Ok(copy) = looked {
            self.names.found_copy(copy.as_deref());
        }
    }

    /// Ends what may use the name of the next key. Returns the look for a copy, which comes first.
    pub(crate) fn prepare(&mut self) -> Option<BoxFuture<'static, Look>> {
        self.deletion.work = None;
        self.look.take()
    }

    /// Searches the name for the key of the next certificate.
    pub(crate) fn search(&self, memory: &Memory) -> BoxFuture<'static, io::Result<String>> {
        let store = self.store.clone().filter(|_| !self.names.is_complete());
        let free = self.names.free(memory);
        Box::pin(async move {
            let first = free.first().cloned().unwrap_or_default();
            Ok(match store {
                Some(store) => without_key(&*store, free).await.unwrap_or(first),
                None => first,
            })
        })
    }

    /// The next key gets this name, or any free one.
    pub(crate) fn take(&mut self, found: Option<String>, memory: &Memory) -> String {
        let name = found.or_else(|| self.names.free(memory).into_iter().next()).unwrap_or_default();
        self.names.take(&name);
        name
    }

    /// Begins to delete the keys that are not in use. Returns when to try again, if that failed.
    pub(crate) fn delete(&mut self, memory: &Memory) -> Option<Instant> {
        let store = self.store.as_ref()?;
        self.deletion.begin(store, self.names.superseded(memory))
    }

    /// Deletes at the end what is not in use, whenever a deletion has failed. `None` if there is nothing.
    pub(crate) fn delete_last(&mut self, memory: &Memory) -> Option<BoxFuture<'static, Deleted>> {
        self.deletion.work = None;
        let (store, names) = (self.store.clone()?, self.names.superseded(memory));
        (!names.is_empty()).then(|| Box::pin(delete(store, names).in_current_span()) as BoxFuture<'static, _>)
    }

    /// Returns whether the deletion before this one had failed.
    ///
    /// # Errors
    /// When a key could not be deleted.
    pub(crate) fn deleted(
        &mut self,
        deleted: Deleted,
        pause: impl Fn(u32) -> Duration,
    ) -> Result<bool, Error> {
        self.names.deleted(&deleted.names);
        self.deletion.ended(deleted, pause)
    }
}

/// The first of these names that no key has. An error ends the search.
async fn without_key(store: &dyn KeyStore, names: Vec<String>) -> Option<String> {
    for name in names {
        if within(|| store.load(&name)).await.ok()?.is_none() {
            return Some(name);
        }
    }
    None
}

/// The names of the keys that were deleted, and the first failure.
pub(crate) struct Deleted {
    names: Vec<String>,
    failed: Option<(String, io::Error)>,
}

/// The deletion of keys, and when it is tried again after a failure.
struct Deletion {
    work: Option<BoxFuture<'static, Deleted>>,
    /// How many have failed in a row.
    failures: u32,
    at: Instant,
}

impl Deletion {
    fn new() -> Self {
        Self { work: None, failures: 0, at: Instant::now() }
    }

    /// Begins to delete these keys, unless a deletion is under way. Returns when to try again, if the last one
    /// failed.
    fn begin(&mut self, store: &Arc<dyn KeyStore>, names: Vec<String>) -> Option<Instant> {
        if self.work.is_some() || names.is_empty() {
            return None;
        }
        if self.at > Instant::now() {
            return Some(self.at);
        }
        self.work = Some(Box::pin(delete(Arc::clone(store), names).in_current_span()));
        None
    }

    /// Waits for the end of a deletion that is under way.
    async fn next(&mut self) -> Deleted {
        let deleted = match &mut self.work {
            Some(work) => work.await,
            None => pending().await,
        };
        self.work = None;
        deleted
    }

    /// Returns whether the deletion before this one had failed.
    ///
    /// # Errors
    /// When a key could not be deleted.
    fn ended(&mut self, deleted: Deleted, pause: impl Fn(u32) -> Duration) -> Result<bool, Error> {
        let Some((name, why)) = deleted.failed else {
            return Ok(std::mem::take(&mut self.failures) > 0);
        };
        self.failures = self.failures.saturating_add(1);
        self.at = Instant::now() + pause(self.failures);
        Err(store_error::key_undeleted(&name, why))
    }
}

async fn delete(store: Arc<dyn KeyStore>, names: Vec<String>) -> Deleted {
    let mut deleted = Deleted { names: Vec::new(), failed: None };
    for name in names {
        match within(|| store.delete(&name)).await {
            Ok(()) => deleted.names.push(name),
            Err(why) => {
                deleted.failed.get_or_insert((name, why));
            }
        }
    }
    deleted
}
