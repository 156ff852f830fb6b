//! The enrollments that contain a certificate, in the order of their ids. Nearly always there is one, which
//! then takes no set.

use std::collections::BTreeSet;
use std::{iter, mem};

/// At least one id, in the form of [`crate::ids::key`].
pub(super) struct Holders {
    first: String,
    others: BTreeSet<String>,
}

impl Holders {
    pub(super) fn new(id: String) -> Self {
        Holders { first: id, others: BTreeSet::new() }
    }

    pub(super) fn add(&mut self, id: String) {
        if id < self.first {
            self.others.insert(mem::replace(&mut self.first, id));
        } else if id != self.first {
            self.others.insert(id);
        }
    }

    /// Returns `None` when this was the last id.
    pub(super) fn without(mut self, id: &str) -> Option<Self> {
        if id == self.first {
            self.first = self.others.pop_first()?;
        } else {
            self.others.remove(id);
        }
        Some(self)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        iter::once(&self.first).chain(&self.others).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_in_order_whatever_was_added_and_removed() {
        let mut holders = Holders::new("b".to_owned());
        for id in ["c", "a", "a", "b"] {
            holders.add(id.to_owned());
        }
        assert_eq!(holders.iter().collect::<Vec<_>>(), ["a", "b", "c"]);

        let holders = holders.without("a").and_then(|holders| holders.without("c")).unwrap();

        assert_eq!(holders.iter().collect::<Vec<_>>(), ["b"]);
        assert!(holders.without("b").is_none());
    }
}
