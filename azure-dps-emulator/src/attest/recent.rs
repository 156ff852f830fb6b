//! The groups that admitted devices lately. They are tried first when the same or another device of the group
//! comes back, so that a device is searched for once. They decide nothing: a key or signature does.

use std::collections::{BTreeMap, VecDeque};

use crate::ids;

/// Ids of devices are in the form of [`ids::key`].
#[derive(Default)]
pub(crate) struct RecentGroups {
    by_device: BTreeMap<String, String>,
    /// The groups that admitted the last devices, each once, the latest first.
    latest: VecDeque<String>,
}

impl RecentGroups {
    /// The group that admitted this device, and those that admitted the last devices.
    pub(crate) fn likely(&self, registration_id: &str) -> impl Iterator<Item = &str> {
        let own = self.by_device.get(&ids::key(registration_id));
        own.into_iter().chain(&self.latest).map(String::as_str)
    }

    pub(crate) fn note(&mut self, registration_id: &str, group: &str) {
        match self.latest.iter().position(|known| known == group) {
            Some(0) => {}
            Some(place) => {
                if let Some(group) = self.latest.remove(place) {
                    self.latest.push_front(group);
                }
            }
            None => {
                self.latest.truncate(MOST_GROUPS - 1);
                self.latest.push_front(group.to_owned());
            }
        }
        let device = ids::key(registration_id);
        if self.by_device.get(&device).is_some_and(|known| known == group) {
            return;
        }
        if self.by_device.len() >= MOST_DEVICES {
            self.by_device.clear();
        }
        self.by_device.insert(device, group.to_owned());
    }
}

/// A registered device has a record, which names its group. These are for devices that have only connected.
const MOST_DEVICES: usize = 10_000;
/// Few enough that trying them costs a device of another group next to nothing: a certificate may have to be
/// verified with each.
const MOST_GROUPS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_of_the_device_is_likely_and_then_the_latest_groups() {
        let mut recent = RecentGroups::default();
        for group in ["line", "plant", "line"] {
            recent.note(&format!("{group}-1"), group);
        }
        assert_eq!(recent.likely("PLANT-1").collect::<Vec<_>>(), ["plant", "line", "plant"]);
        assert_eq!(recent.likely("new").collect::<Vec<_>>(), ["line", "plant"]);

        for number in 0..MOST_GROUPS {
            recent.note("new", &number.to_string());
        }

        assert_eq!(recent.likely("other").count(), MOST_GROUPS);
        assert!(recent.likely("other").all(|group| group != "line" && group != "plant"));
    }
}
