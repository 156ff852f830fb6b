//! Records by their ids, and the order in which they are listed: that of a store with partitions.
//!
//! An id belongs to one of a few partitions, by a digest. Within a partition records stand in the order in
//! which they were made. So a place never changes while a record lives, and belongs to no other record
//! afterwards.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

use sha2::{Digest, Sha256};

use crate::ids;

/// Records by id; ids are compared without case.
pub(crate) struct Records<T> {
    by_id: BTreeMap<String, (Place, T)>,
    by_place: BTreeMap<Place, String>,
    made: u64,
}

/// Where a record stands in its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) partition: u8,
    /// How many records had been made when this one was.
    pub(crate) number: u64,
}

/// The order in which records are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Order {
    #[default]
    Store,
    Ids,
}

/// Where a page ends, and the next one goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    Store(Place),
    /// An id in the form in which ids are compared.
    Id(String),
}

impl<T> Default for Records<T> {
    fn default() -> Self {
        Records { by_id: BTreeMap::new(), by_place: BTreeMap::new(), made: 0 }
    }
}

impl<T> Records<T> {
    /// Keeps a record, in the place of the one that had this id.
    pub(crate) fn put(&mut self, id: &str, record: T) -> &T {
        let key = ids::key(id);
        let place = match self.by_id.get(&key) {
            Some((place, _)) => *place,
            None => {
                self.made += 1;
                Place { partition: partition(&key), number: self.made }
            }
        };
        self.by_place.insert(place, key.clone());
        let (_, kept) = match self.by_id.entry(key) {
            Entry::Vacant(vacant) => vacant.insert((place, record)),
            Entry::Occupied(mut occupied) => {
                occupied.insert((place, record));
                occupied.into_mut()
            }
        };
        kept
    }

    pub(crate) fn find(&self, id: &str) -> Option<&T> {
        self.by_id.get(&ids::key(id)).map(|(_, record)| record)
    }

    pub(crate) fn find_mut(&mut self, id: &str) -> Option<&mut T> {
        self.by_id.get_mut(&ids::key(id)).map(|(_, record)| record)
    }

    pub(crate) fn remove(&mut self, id: &str) {
        if let Some((place, _)) = self.by_id.remove(&ids::key(id)) {
            self.by_place.remove(&place);
        }
    }

    /// All of them in the order of their ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.by_id.values().map(|(_, record)| record)
    }

    /// Those behind a position, or all, in an order, each with the position behind it.
    pub(crate) fn behind(
        &self,
        order: Order,
        position: Option<&Position>,
    ) -> Box<dyn Iterator<Item = (Position, &T)> + '_> {
        match order {
            Order::Store => {
                let start = match position {
                    Some(Position::Store(place)) => Bound::Excluded(*place),
                    _ => Bound::Unbounded,
                };
                let places = self.by_place.range((start, Bound::Unbounded));
                Box::new(places.filter_map(|(place, key)| {
                    self.by_id.get(key).map(|(_, record)| (Position::Store(*place), record))
                }))
            }
            Order::Ids => {
                let start = match position {
                    Some(Position::Id(key)) => Bound::Excluded(key.clone()),
                    _ => Bound::Unbounded,
                };
                let records = self.by_id.range((start, Bound::Unbounded));
                Box::new(records.map(|(key, (_, record))| (Position::Id(key.clone()), record)))
            }
        }
    }
}

fn partition(key: &str) -> u8 {
    Sha256::digest(key).first().map_or(0, |byte| byte % PARTITIONS)
}

/// A store of 150 recorded enrollments had as many.
pub(crate) const PARTITIONS: u8 = 5;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn records_are_listed_by_partition_and_there_as_they_were_made() {
        let mut records = Records::default();
        for n in (0..100).rev() {
            records.put(&format!("Device-{n}"), n);
        }

        let listed: Vec<(Position, i32)> =
            records.behind(Order::Store, None).map(|(position, n)| (position, *n)).collect();

        let places: Vec<Place> = listed
            .iter()
            .map(|(position, _)| match position {
                Position::Store(place) => *place,
                Position::Id(id) => panic!("{id}"),
            })
            .collect();
        assert!(places.is_sorted());
        assert_eq!(places.iter().map(|place| place.partition).collect::<BTreeSet<_>>().len(), 5);
        for partition in 0..PARTITIONS {
            let there = |place: &Place| place.partition == partition;
            let ns: Vec<i32> =
                places.iter().zip(&listed).filter(|(place, _)| there(place)).map(|(_, (_, n))| *n).collect();
            assert!(ns.is_sorted_by(|a, b| a > b), "{ns:?}");
        }
        let by_id: Vec<i32> = records.behind(Order::Ids, None).map(|(_, n)| *n).collect();
        assert_eq!(by_id[..3], [0, 1, 10]);
    }

    #[test]
    fn pages_stay_right_when_records_come_and_go() {
        for order in [Order::Store, Order::Ids] {
            let mut records = Records::default();
            for n in 0..40 {
                records.put(&format!("d{n:02}"), n);
            }
            let mut seen = Vec::new();
            let mut position = None;

            loop {
                let page: Vec<_> =
                    records.behind(order, position.as_ref()).take(7).map(|(at, n)| (at, *n)).collect();
                let Some((last, n)) = page.last().cloned() else { break };
                seen.extend(page.iter().map(|(_, n)| *n));
                position = Some(last);
                // The last one of the page goes, and the first one is replaced.
                records.remove(&format!("D{n:02}"));
                records.put(&format!("D{:02}", page[0].1), page[0].1);
            }

            assert_eq!(seen.len(), 40, "{order:?}");
            assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 40, "{order:?}");
        }
    }

    #[test]
    fn a_record_that_is_replaced_keeps_its_place_and_one_that_is_made_again_does_not() {
        let mut records = Records::default();
        let place =
            |records: &Records<u8>| records.behind(Order::Store, None).next().map(|(at, _)| at).unwrap();
        records.put("a", 1);
        let first = place(&records);

        records.put("A", 2);
        assert_eq!((place(&records), records.find("a")), (first.clone(), Some(&2)));
        records.remove("a");
        records.put("a", 3);
        assert_ne!(place(&records), first);
    }
}
