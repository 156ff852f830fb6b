//! The saved form of a store: how many records were ever created, and each record with its number.

use serde::{Deserialize, Serialize, Serializer};

use crate::ids;
use crate::records::store::{Place, Records, partition};
use crate::saved::Each;

/// A store as it is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedRecords<T> {
    #[serde(with = "crate::saved::count")]
    pub(crate) created: u64,
    pub(crate) records: Vec<Numbered<T>>,
}

/// A record with its number, which decides its place in listings.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Numbered<T> {
    #[serde(with = "crate::saved::count")]
    pub(crate) number: u64,
    pub(crate) record: T,
}

/// A store as it is written. The function makes the saved form of a record.
pub(crate) struct Written<'a, T, F>(pub(crate) &'a Records<T>, pub(crate) F);

impl<'a, T, F: Fn(&'a T) -> R, R: Serialize> Serialize for Written<'a, T, F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Store<E> {
            #[serde(with = "crate::saved::count")]
            created: u64,
            records: E,
        }

        let Written(store, form) = self;
        let records = Each(|| {
            let numbered = store.by_id.values();
            numbered.map(|(place, record)| Numbered { number: place.number, record: form(record) })
        });
        Store { created: store.made, records }.serialize(serializer)
    }
}

impl<T> Records<T> {
    /// An empty store in which so many records were created.
    pub(crate) fn after(created: u64) -> Self {
        Records { made: created, ..Records::default() }
    }

    /// Adds a record with the number that it had.
    ///
    /// # Errors
    /// The store has a record with this id or at this place, or has created fewer records.
    pub(crate) fn restore(&mut self, id: &str, number: u64, record: T) -> Result<(), String> {
        if !(1..=self.made).contains(&number) {
            return Err(format!("number is {number}, and {} were created", self.made));
        }
        let key = ids::key(id);
        let place = Place { partition: partition(&key), number };
        if self.by_id.contains_key(&key) || self.by_place.contains_key(&place) {
            return Err("another record has the same id or number".to_owned());
        }
        self.by_place.insert(place, key.clone());
        self.by_id.insert(key, (place, Box::new(record)));
        Ok(())
    }
}
