//! Records by their ids, and the order in which they are listed, which is that of a partitioned store.
//!
//! A digest of the id decides its partition. Within a partition, records are in the order of their creation.
//! So a record keeps its place while it exists, and no later record gets that place.

pub(crate) mod saved;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

use sha2::{Digest, Sha256};

use crate::ids;

/// Records by id; ids are compared without regard to case.
pub(crate) struct Records<T> {
    /// Boxed, because the nodes of the map have room for about twice the records in them.
    by_id: BTreeMap<String, (Place, Box<T>)>,
    by_place: BTreeMap<Place, String>,
    made: u64,
}

/// The place of a record in its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) partition: u8,
    /// Counts the records of the store in the order of their creation.
    pub(crate) number: u64,
}

/// The order in which records are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Order {
    #[default]
    Store,
    Ids,
}

/// The end of a page, after which the next page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    Store(Place),
    /// An id in the form of [`ids::key`].
    Id(String),
}

impl<T> Default for Records<T> {
    fn default() -> Self {
        Records { by_id: BTreeMap::new(), by_place: BTreeMap::new(), made: 0 }
    }
}

impl<T> Records<T> {
    /// Adds a record, or replaces the one with this id.
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
            Entry::Vacant(vacant) => vacant.insert((place, Box::new(record))),
            Entry::Occupied(mut occupied) => {
                occupied.insert((place, Box::new(record)));
                occupied.into_mut()
            }
        };
        kept
    }

    pub(crate) fn find(&self, id: &str) -> Option<&T> {
        self.by_id.get(&ids::key(id)).map(|(_, record)| record.as_ref())
    }

    pub(crate) fn find_mut(&mut self, id: &str) -> Option<&mut T> {
        self.by_id.get_mut(&ids::key(id)).map(|(_, record)| record.as_mut())
    }

    pub(crate) fn remove(&mut self, id: &str) {
        if let Some((place, _)) = self.by_id.remove(&ids::key(id)) {
            self.by_place.remove(&place);
        }
    }

    /// All records in the order of their ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.by_id.values().map(|(_, record)| record.as_ref())
    }

    /// The records after a position, or all of them, in this order, each with its own position.
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
                    self.by_id.get(key).map(|(_, record)| (Position::Store(*place), record.as_ref()))
                }))
            }
            Order::Ids => {
                let start = match position {
                    Some(Position::Id(key)) => Bound::Excluded(key.clone()),
                    _ => Bound::Unbounded,
                };
                let records = self.by_id.range((start, Bound::Unbounded));
                Box::new(records.map(|(key, (_, record))| (Position::Id(key.clone()), record.as_ref())))
            }
        }
    }
}

fn partition(key: &str) -> u8 {
    Sha256::digest(key).first().map_or(0, |byte| byte % PARTITIONS)
}

/// The number of partitions in a recorded listing of 150 enrollments.
pub(crate) const PARTITIONS: u8 = 5;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn records_are_listed_by_partition_and_within_one_in_the_order_of_creation() {
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
    fn pages_stay_complete_while_records_are_removed_and_replaced() {
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
    fn a_replaced_record_keeps_its_place_and_a_recreated_one_gets_another() {
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
