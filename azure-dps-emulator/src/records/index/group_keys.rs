//! Groups by their symmetric keys. A device's key is derived from a group key, and a token does not name the
//! group, so the keys are tried: those of likely groups first, then primary keys, then secondary ones.

use std::collections::{BTreeMap, BTreeSet};

use crate::crypto::key::PreparedKey;

/// Ids are in the form of [`crate::ids::key`].
#[derive(Default)]
pub(crate) struct GroupKeys(BTreeMap<Padded, Holders>);

/// A key with zeros at its end. HMAC pads keys to this length, so keys that differ only in zeros at the end
/// sign alike.
type Padded = [u8; 64];

/// The groups that have the same key.
struct Holders {
    key: PreparedKey,
    primary_of: BTreeSet<String>,
    secondary_of: BTreeSet<String>,
}

impl GroupKeys {
    pub(crate) fn add(&mut self, primary: &[u8], secondary: &[u8], group: &str) {
        self.holders(primary).primary_of.insert(group.to_owned());
        self.holders(secondary).secondary_of.insert(group.to_owned());
    }

    pub(crate) fn remove(&mut self, primary: &[u8], secondary: &[u8], group: &str) {
        for (key, is_primary) in [(padded(primary), true), (padded(secondary), false)] {
            let Some(holders) = self.0.get_mut(&key) else { continue };
            let groups = if is_primary { &mut holders.primary_of } else { &mut holders.secondary_of };
            groups.remove(group);
            if holders.primary_of.is_empty() && holders.secondary_of.is_empty() {
                self.0.remove(&key);
            }
        }
    }

    /// The number of groups with symmetric keys.
    pub(crate) fn groups(&self) -> usize {
        self.0.values().map(|holders| holders.primary_of.len()).sum()
    }

    /// The first group by id with the key that fits, and this key. `likely` has the keys to try first.
    pub(crate) fn first_with<'k>(
        &self,
        likely: impl Iterator<Item = &'k Vec<u8>>,
        fits: impl Fn(&PreparedKey) -> bool,
    ) -> Option<(&str, &PreparedKey)> {
        let likely = likely.filter_map(|key| self.0.get(&padded(key)));
        let primary = self.0.values().filter(|holders| !holders.primary_of.is_empty());
        let secondary = self.0.values().filter(|holders| holders.primary_of.is_empty());
        let holders = likely.chain(primary).chain(secondary).find(|holders| fits(&holders.key))?;
        let first = holders.primary_of.first().into_iter().chain(holders.secondary_of.first()).min()?;
        Some((first, &holders.key))
    }

    fn holders(&mut self, key: &[u8]) -> &mut Holders {
        self.0.entry(padded(key)).or_insert_with(|| Holders {
            key: PreparedKey::new(key),
            primary_of: BTreeSet::new(),
            secondary_of: BTreeSet::new(),
        })
    }
}

/// Keys of enrollments have at most 64 bytes.
fn padded(key: &[u8]) -> Padded {
    let mut padded = [0; 64];
    padded.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    padded
}
