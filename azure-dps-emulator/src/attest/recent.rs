//! The groups that admitted devices lately. They are tried first when the same or another device of the group
//! comes back, so that a device is searched for once. They decide nothing: a key or signature does.

use std::collections::BTreeMap;

use crate::ids;

/// Ids of devices are in the form of [`ids::key`].
#[derive(Default)]
pub(crate) struct RecentGroups {
    by_device: BTreeMap<String, String>,
    last: Option<String>,
}

impl RecentGroups {
    /// The group that admitted this device, and the one that admitted the last device.
    pub(crate) fn likely(&self, registration_id: &str) -> impl Iterator<Item = &str> {
        let own = self.by_device.get(&ids::key(registration_id));
        own.into_iter().chain(&self.last).map(String::as_str)
    }

    pub(crate) fn note(&mut self, registration_id: &str, group: &str) {
        if self.last.as_deref() != Some(group) {
            self.last = Some(group.to_owned());
        }
        let device = ids::key(registration_id);
        if self.by_device.get(&device).is_some_and(|known| known == group) {
            return;
        }
        if self.by_device.len() >= MOST {
            self.by_device.clear();
        }
        self.by_device.insert(device, group.to_owned());
    }
}

/// A registered device has a record, which names its group. These are for devices that have only connected.
const MOST: usize = 10_000;
