//! The names of a device's private keys: which one the next certificate gets, and which keys are deleted. Pure.

use std::collections::BTreeSet;

use super::load::{Before, Loaded};
use super::memory::Memory;
use super::record::{self, Content, Owner};

/// Decides which names are free, and which keys are deleted.
///
/// | key | free for the next one | deleted |
/// |---|---|---|
/// | the memory names it | no | no |
/// | the record in the store names it, or may | no | no |
/// | a record that cannot be used, or its copy, names it | no | no |
/// | it was superseded, or never used | yes | yes |
/// | it may exist since before the start, and all records are known | yes | yes |
/// | the same, and a record or its copy is not known, or damaged | if no key has the name | no |
#[derive(Debug)]
pub(crate) struct KeyNames {
    owner: Owner,
    names: [String; 10],
    /// The keys of this memory, and new ones.
    own: BTreeSet<String>,
    /// Keys that a power cut may have left.
    left: BTreeSet<String>,
    saved: Saved,
    /// Of a record that cannot be used. `None` as long as it has not been read.
    record: Option<Named>,
    /// Of the copy of such a record.
    copy: Option<Named>,
}

/// The keys that the record in the store names.
#[derive(Debug, Default)]
struct Saved {
    certain: BTreeSet<String>,
    /// What each save with an unknown outcome would have written, the oldest first.
    possible: Vec<BTreeSet<String>>,
}

impl Saved {
    fn has(&self, name: &str) -> bool {
        self.certain.contains(name) || self.possible.iter().any(|names| names.contains(name))
    }
}

/// The keys that a record names which cannot be used.
#[derive(Debug, Default)]
struct Named {
    names: BTreeSet<String>,
    /// Whether it may name others too.
    is_partial: bool,
}

impl KeyNames {
    /// The names of a device that starts with what it found in the store.
    pub(crate) fn new(owner: &Owner, loaded: &Loaded) -> Self {
        let names = owner.key_names();
        let own = loaded.memory.key_names();
        let saved = Saved { certain: own.clone(), possible: Vec::new() };
        let left = names.iter().cloned().collect();
        let mut names = Self { owner: owner.clone(), names, own, left, saved, record: None, copy: None };
        names.copy = loaded.copy.as_deref().map(|copy| names.named_in(copy));
        names.found(&loaded.before);
        names
    }

    /// A record that was in the store before the first save was read, or put aside.
    pub(crate) fn found(&mut self, before: &Before) {
        match before {
            Before::Unread => {}
            Before::Nothing => self.record = Some(Named::default()),
            Before::Unusable(record) => self.record = Some(self.named_in(record)),
            Before::PutAside(record) => {
                self.record = Some(self.named_in(record));
                self.copy = Some(self.named_in(record));
            }
        }
    }

    /// The store has this copy of a record that cannot be used, or none.
    pub(crate) fn found_copy(&mut self, copy: Option<&[u8]>) {
        // Another one may have been put aside since the store was asked.
        if self.copy.is_none() {
            self.copy = Some(copy.map(|copy| self.named_in(copy)).unwrap_or_default());
        }
    }

    /// Whether the copy of a record that cannot be used has to be looked for.
    pub(crate) fn lacks_copy(&self) -> bool {
        self.copy.is_none()
    }

    /// Whether all records are known that may name keys.
    pub(crate) fn is_complete(&self) -> bool {
        [&self.record, &self.copy]
            .into_iter()
            .all(|named| named.as_ref().is_some_and(|named| !named.is_partial))
    }

    /// What a record names which cannot be used. Where one is damaged, or of a form that hides the names, keys
    /// may belong to it that it does not seem to name.
    fn named_in(&self, record: &[u8]) -> Named {
        let has = |name: &&String| record.windows(name.len()).any(|part| part == name.as_bytes());
        let names: BTreeSet<_> = self.names.iter().filter(has).cloned().collect();
        let is_partial = match record::read(record, &self.owner) {
            Content::Damaged(_) => true,
            Content::Newer(_) => names.is_empty(),
            Content::Foreign | Content::Memory(_) => false,
        };
        Named { names, is_partial }
    }

    /// The names that the key of the next certificate can have, at least one. Neither the memory nor a record
    /// has them: a power cut before the next save must leave the keys that the record names. Unless
    /// [`is_complete`](Self::is_complete), one is better that no key has.
    pub(crate) fn free(&self, memory: &Memory) -> Vec<String> {
        let used = memory.key_names();
        let others = self.others();
        // If saves fail for long, the oldest is given up that may have been written.
        for oldest in 0..=self.saved.possible.len() {
            let possible = self.saved.possible.get(oldest..).unwrap_or_default();
            let taken = [&used, &others, &self.saved.certain].into_iter().chain(possible);
            let is_free = |name: &&String| !taken.clone().any(|names| names.contains(*name));
            let free: Vec<_> = self.names.iter().filter(is_free).cloned().collect();
            if !free.is_empty() {
                return free;
            }
        }
        self.names.iter().filter(|name| !used.contains(*name)).cloned().collect()
    }

    /// The next key gets this name.
    pub(crate) fn take(&mut self, name: &str) {
        self.own.insert(name.to_owned());
    }

    /// A record with this memory was written, or may have been.
    pub(crate) fn written(&mut self, memory: &Memory, is_certain: bool) {
        let names = memory.key_names();
        self.saved.possible.retain(|possible| !is_certain && *possible != names);
        match is_certain {
            true => {
                self.saved.certain = names;
                self.record = Some(Named::default());
            }
            false if names != self.saved.certain || !self.saved.possible.is_empty() => {
                self.saved.possible.push(names);
            }
            false => {}
        }
    }

    /// The keys that neither the memory nor a record names.
    pub(crate) fn superseded(&self, memory: &Memory) -> Vec<String> {
        let (used, others) = (memory.key_names(), self.others());
        let left = self.left.iter().filter(|_| self.is_complete());
        let all: BTreeSet<_> = self.own.iter().chain(left).collect();
        let is_superseded =
            |name: &&&String| !used.contains(**name) && !others.contains(**name) && !self.saved.has(name);
        all.iter().filter(is_superseded).map(|name| (*name).clone()).collect()
    }

    fn others(&self) -> BTreeSet<String> {
        let named = [&self.record, &self.copy].into_iter().flatten();
        named.flat_map(|named| named.names.iter().cloned()).collect()
    }

    pub(crate) fn deleted(&mut self, names: &[String]) {
        for name in names {
            self.own.remove(name);
            self.left.remove(name);
        }
    }
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

    /// A device that found no unusable record in its store.
    fn names() -> KeyNames {
        let loaded = Loaded {
            memory: Memory::default(),
            error: None,
            record: None,
            before: Before::Nothing,
            copy: None,
        };
        let mut names = KeyNames::new(&owner(), &loaded);
        names.found_copy(None);
        names
    }

    /// Gives the next key a name.
    fn take(names: &mut KeyNames, memory: &Memory) -> String {
        let name = names.free(memory).remove(0);
        names.take(&name);
        name
    }

    #[test]
    fn a_key_that_the_saved_record_names_is_neither_replaced_nor_deleted_while_saves_fail() {
        for fails_after_writing in [false, true] {
            let mut names = names();
            let (proven, candidate) =
                (take(&mut names, &Memory::default()), take(&mut names, &Memory::default()));
            let mut saved = memory(Some(&proven), Some("dps-other"));
            names.written(&saved, true);
            let mut proven = candidate;
            for _ in 0..20 {
                // The hub accepts each new certificate, and no save works.
                let new = take(&mut names, &memory(Some(&proven), None));
                assert!(!saved.key_names().contains(&new), "{names:?}");
                assert_ne!(new, proven);
                let now = memory(Some(&proven), Some(&new));
                names.written(&now, false);
                if fails_after_writing {
                    saved = now.clone();
                }
                let superseded = names.superseded(&now);
                assert!(superseded.iter().all(|name| !saved.key_names().contains(name)), "{names:?}");
                proven = new;
            }
            let now = memory(Some(&proven), None);
            names.written(&now, true);
            let superseded = names.superseded(&now);
            assert_eq!(superseded.len(), 9, "{names:?}");
        }
    }

    #[test]
    fn two_certificates_in_each_record_and_two_in_the_memory_leave_a_free_name() {
        let mut names = names();
        let all = owner().key_names();
        let pair = |at: usize| memory(all.get(at).map(String::as_str), all.get(at + 1).map(String::as_str));
        let unusable = |at| record::write(&Owner { id_scope: "other".to_owned(), ..owner() }, &pair(at));
        names.found(&Before::PutAside(unusable(0)));
        names.written(&pair(4), true);
        names.found(&Before::Unusable(unusable(2)));
        assert_eq!(names.free(&pair(6)), all[8..]);
        assert!(names.superseded(&pair(6)).iter().all(|name| all[8..].contains(name)), "{names:?}");
    }

    #[test]
    fn a_record_that_may_have_been_written_keeps_its_keys() {
        let mut names = names();
        let name = take(&mut names, &Memory::default());
        names.written(&memory(Some(&name), None), false);
        assert!(!names.superseded(&Memory::default()).contains(&name));
        assert_ne!(take(&mut names, &Memory::default()), name);
    }

    #[test]
    fn only_new_keys_are_deleted_as_long_as_a_record_or_its_copy_is_not_known() {
        let damaged = || Before::PutAside(b"damaged".to_vec());
        for before in [Before::Unread, damaged()] {
            let mut names = names();
            (names.record, names.copy) = (None, None);
            names.found(&before);
            assert!(!names.is_complete() && names.superseded(&Memory::default()).is_empty(), "{before:?}");
            let name = take(&mut names, &Memory::default());
            assert_eq!(names.superseded(&Memory::default()), [name], "{before:?}");
        }
    }
}
