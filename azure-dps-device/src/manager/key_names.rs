//! The names of a device's private keys: which one the next certificate gets, and which keys are deleted.

use std::collections::BTreeSet;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use azure_dps_core::{Error, ErrorKind};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::memory::Memory;
use super::record::Owner;
use super::store::{KeyStore, within};
use crate::transport::contract::BoxFuture;

#[derive(Debug)]
pub(crate) struct KeyNames {
    names: [String; 5],
    /// Keys that may exist.
    known: BTreeSet<String>,
    /// The keys that the record in the store names, or may name.
    saved: BTreeSet<String>,
}

impl KeyNames {
    /// The names of a device that starts with this memory. `has_other` is whether the store has another record,
    /// whose keys must stay.
    pub(crate) fn new(owner: &Owner, memory: &Memory, has_other: bool) -> Self {
        let [first, second] = owner.key_names();
        let saved = memory.key_names();
        let mut known = saved.clone();
        // A power cut may have left a key of any name.
        known.extend(second.iter().cloned());
        if !has_other {
            known.extend(first.iter().cloned());
        }
        Self { names: if has_other { second } else { first }, known, saved }
    }

    /// The names of a device whose record could not be read: no key may be deleted, except new ones.
    pub(crate) fn of_unread(owner: &Owner) -> Self {
        let [_, names] = owner.key_names();
        Self { names, known: BTreeSet::new(), saved: BTreeSet::new() }
    }

    /// The name for the key of the next certificate. Neither the memory nor the record in the store has it: a
    /// power cut before the next save must leave the keys that the record names.
    pub(crate) fn take_free(&mut self, memory: &Memory) -> String {
        let used = memory.key_names();
        let mut free = self.names.iter().filter(|name| !used.contains(*name));
        let first = free.clone().next();
        // The record in the store can name more only after several saves whose outcome is not known.
        let name = free.find(|name| !self.saved.contains(*name)).or(first).cloned().unwrap_or_default();
        self.known.insert(name.clone());
        name
    }

    /// A record with this memory was written, or may have been.
    pub(crate) fn written(&mut self, memory: &Memory, is_certain: bool) {
        if is_certain {
            self.saved.clear();
        }
        self.saved.extend(memory.key_names());
    }

    /// The keys that neither the memory nor the record in the store names.
    pub(crate) fn superseded(&self, memory: &Memory) -> Vec<String> {
        let used = memory.key_names();
        self.known
            .iter()
            .filter(|name| !used.contains(*name) && !self.saved.contains(*name))
            .cloned()
            .collect()
    }

    pub(crate) fn deleted(&mut self, names: &[String]) {
        for name in names {
            self.known.remove(name);
        }
    }
}

/// The names of the keys that were deleted, and the first failure.
pub(crate) struct Deleted {
    pub(crate) names: Vec<String>,
    pub(crate) failed: Option<(String, io::Error)>,
}

/// The deletion of keys, and when it is tried again after a failure.
pub(crate) struct Deletion {
    work: Option<BoxFuture<'static, Deleted>>,
    /// How many have failed in a row.
    failures: u32,
    at: Instant,
}

impl Deletion {
    pub(crate) fn new() -> Self {
        Self { work: None, failures: 0, at: Instant::now() }
    }

    /// Begins to delete these keys, unless a deletion is under way. Returns when to try again, if the last one
    /// failed.
    pub(crate) fn begin(&mut self, store: &Arc<dyn KeyStore>, names: Vec<String>) -> Option<Instant> {
        if self.is_under_way() || names.is_empty() {
            return None;
        }
        if self.at > Instant::now() {
            return Some(self.at);
        }
        self.work = Some(Box::pin(delete(Arc::clone(store), names).in_current_span()));
        None
    }

    pub(crate) fn is_under_way(&self) -> bool {
        self.work.is_some()
    }

    pub(crate) fn cancel(&mut self) {
        self.work = None;
    }

    /// Waits for the end of a deletion that is under way.
    pub(crate) async fn next(&mut self) -> Deleted {
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
    pub(crate) fn ended(&mut self, deleted: Deleted, pause: impl Fn(u32) -> Duration) -> Result<bool, Error> {
        let Some((name, why)) = deleted.failed else {
            return Ok(std::mem::take(&mut self.failures) > 0);
        };
        self.failures = self.failures.saturating_add(1);
        self.at = Instant::now() + pause(self.failures);
        let message = format!("the private key {name:?} of an old certificate cannot be deleted");
        Err(Error::new(ErrorKind::Io, message).with_source(why))
    }
}

async fn delete(store: Arc<dyn KeyStore>, names: Vec<String>) -> Deleted {
    let mut deleted = Deleted { names: Vec::new(), failed: None };
    for name in names {
        match within(store.delete(&name)).await {
            Ok(()) => deleted.names.push(name),
            Err(why) => {
                deleted.failed.get_or_insert((name, why));
            }
        }
    }
    deleted
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::manager::memory::Certificate;

    fn owner() -> Owner {
        Owner { endpoint: "e".to_owned(), id_scope: "s".to_owned(), registration_id: "r".to_owned() }
    }

    fn memory(proven: Option<&str>, candidate: Option<&str>) -> Memory {
        let certificate = |key: &str| Certificate {
            chain: String::new(),
            key: key.to_owned(),
            not_before: datetime!(2026-11-26 08:00 UTC),
            not_after: datetime!(2026-12-26 08:00 UTC),
        };
        Memory { proven: proven.map(certificate), candidate: candidate.map(certificate), ..Memory::default() }
    }

    #[test]
    fn a_key_that_the_saved_record_names_is_neither_replaced_nor_deleted_while_saves_fail() {
        let mut names = KeyNames::new(&owner(), &Memory::default(), false);
        let (proven, candidate) = (names.take_free(&Memory::default()), names.take_free(&Memory::default()));
        let saved = memory(Some(&proven), Some("dps-other"));
        names.written(&saved, true);
        let mut proven = candidate;
        for _ in 0..20 {
            // The hub accepts each new certificate, and no save works.
            let new = names.take_free(&memory(Some(&proven), None));
            let now = memory(Some(&proven), Some(&new));
            assert!(saved.key_names().is_disjoint(&BTreeSet::from([new.clone()])), "{names:?}");
            assert_ne!(new, proven);
            let superseded = names.superseded(&now);
            assert!(superseded.iter().all(|name| !saved.key_names().contains(name)), "{names:?}");
            proven = new;
        }
        names.written(&memory(Some(&proven), None), true);
        let superseded = names.superseded(&memory(Some(&proven), None));
        assert!(saved.proven.is_some_and(|old| superseded.contains(&old.key)), "{names:?}");
    }

    #[test]
    fn two_certificates_in_the_record_and_two_in_the_memory_leave_a_free_name() {
        let mut names = KeyNames::new(&owner(), &Memory::default(), false);
        let mut all = names.names.to_vec();
        let last = all.pop();
        names.written(&memory(all.first().map(String::as_str), all.get(1).map(String::as_str)), true);
        let now = memory(all.get(2).map(String::as_str), all.get(3).map(String::as_str));
        assert_eq!(Some(names.take_free(&now)), last);
    }

    #[test]
    fn a_record_that_may_have_been_written_keeps_its_keys() {
        let mut names = KeyNames::new(&owner(), &Memory::default(), false);
        let name = names.take_free(&Memory::default());
        names.written(&memory(Some(&name), None), false);
        assert!(!names.superseded(&Memory::default()).contains(&name));
        assert_ne!(names.take_free(&Memory::default()), name);
    }
}
