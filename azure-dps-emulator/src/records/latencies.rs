//! The latencies between devices and regions, which the allocation policy `geoLatency` compares.

use std::collections::BTreeMap;
use std::iter;

use serde::{Deserialize, Serialize};

use crate::json::{Value, json};
use crate::records::hub::Hub;

/// The latencies from devices, by their registration ids, to regions.
///
/// Tables set them, because in tests all devices run on one machine and their addresses do not say where they
/// are.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Latencies {
    /// Keys are a registration id, or a prefix of one and `*`; values are milliseconds by region. All in
    /// lower case.
    tables: BTreeMap<String, BTreeMap<String, u32>>,
}

impl Latencies {
    /// Sets or replaces the table of these devices.
    pub(crate) fn set(&mut self, devices: &str, regions: impl IntoIterator<Item = (String, u32)>) {
        let regions = regions.into_iter().map(|(region, millis)| (region.to_ascii_lowercase(), millis));
        self.tables.insert(devices.to_ascii_lowercase(), regions.collect());
    }

    pub(super) fn to_json(&self) -> Value {
        self.tables.iter().map(|(devices, regions)| json!({"devices": devices, "regions": regions})).collect()
    }

    /// The candidates with the lowest latency. A candidate of unknown latency is farther than all others.
    pub(super) fn nearest<'a>(&self, registration_id: &str, candidates: &[&'a Hub]) -> Vec<&'a Hub> {
        let table = self.table(&registration_id.to_ascii_lowercase());
        let latency = |hub: &Hub| {
            let region = hub.region.as_ref()?.to_ascii_lowercase();
            table?.get(&region).copied()
        };
        let known = candidates.iter().filter_map(|hub| latency(hub)).min();
        candidates.iter().copied().filter(|hub| latency(hub) == known).collect()
    }

    /// The table with the longest matching key. It takes one look-up for each character of the id, however
    /// many tables are set.
    fn table(&self, registration_id: &str) -> Option<&BTreeMap<String, u32>> {
        let beginnings = registration_id.char_indices().map(|(end, _)| end).rev();
        let mut beginnings = iter::once(registration_id.len()).chain(beginnings);
        self.tables.get(registration_id).or_else(|| {
            beginnings.find_map(|end| self.tables.get(&format!("{}*", registration_id.get(..end)?)))
        })
    }
}
