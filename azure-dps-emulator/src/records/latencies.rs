//! The latencies between devices and regions, which the allocation policy `geoLatency` compares.

use std::collections::BTreeMap;
use std::iter;

use crate::json::{Value, json};
use crate::records::hub::Hub;

/// How long devices wait for an answer from a region, by their registration ids.
///
/// Neither addresses nor headers tell where a device is: in tests all come from one machine, and over any protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Latencies {
    /// From a registration id, or the beginning of one and `*`, to milliseconds by region; all in lower case.
    tables: BTreeMap<String, BTreeMap<String, u32>>,
}

impl Latencies {
    /// Sets the table of these devices, in place of the one that they had.
    pub(crate) fn set(&mut self, devices: &str, regions: impl IntoIterator<Item = (String, u32)>) {
        let regions = regions.into_iter().map(|(region, millis)| (region.to_ascii_lowercase(), millis));
        self.tables.insert(devices.to_ascii_lowercase(), regions.collect());
    }

    pub(super) fn to_json(&self) -> Value {
        self.tables.iter().map(|(devices, regions)| json!({"devices": devices, "regions": regions})).collect()
    }

    /// The candidates that answer soonest. Those of whose region nothing is known answer last.
    pub(super) fn nearest<'a>(&self, registration_id: &str, candidates: &[&'a Hub]) -> Vec<&'a Hub> {
        let table = self.table(&registration_id.to_ascii_lowercase());
        let latency = |hub: &Hub| {
            let region = hub.region.as_ref()?.to_ascii_lowercase();
            table?.get(&region).copied()
        };
        let known = candidates.iter().filter_map(|hub| latency(hub)).min();
        candidates.iter().copied().filter(|hub| latency(hub) == known).collect()
    }

    /// The table of the longest text that fits: as many look-ups as the id has characters, however many
    /// tables there are.
    fn table(&self, registration_id: &str) -> Option<&BTreeMap<String, u32>> {
        let beginnings = registration_id.char_indices().map(|(end, _)| end).rev();
        let mut beginnings = iter::once(registration_id.len()).chain(beginnings);
        self.tables.get(registration_id).or_else(|| {
            beginnings.find_map(|end| self.tables.get(&format!("{}*", registration_id.get(..end)?)))
        })
    }
}
