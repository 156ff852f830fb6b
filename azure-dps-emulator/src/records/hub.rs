//! A linked hub, and the allocation policy of the instance.

use std::collections::HashSet;

/// A linked hub.
///
/// Host names convert into a `Hub` with weight 1 and without a region.
///
/// # Examples
///
/// ```
/// use azure_dps_emulator::{Emulator, Hub};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), azure_dps_emulator::StartError> {
/// let emulator = Emulator::builder()
///     .hub("small.azure-devices.net")
///     .hub(Hub::new("large.azure-devices.net").with_weight(9).with_region("westeurope"))
///     .start()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hub {
    pub(crate) host_name: String,
    pub(crate) weight: u32,
    pub(crate) region: Option<String>,
    pub(crate) named_only: bool,
}

impl Hub {
    /// A hub with weight 1 and no region.
    pub fn new(host_name: impl Into<String>) -> Self {
        Hub { host_name: host_name.into(), weight: 1, region: None, named_only: false }
    }

    /// Sets the hub's share of the devices under `hashed`, relative to the weights of the other candidates.
    ///
    /// A hub with weight 0 gets devices only when no candidate has another weight.
    #[must_use]
    pub fn with_weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// Sets the hub's Azure region, by which `geoLatency` chooses; see
    /// [`EmulatorBuilder::latencies`](crate::EmulatorBuilder::latencies).
    #[must_use]
    pub fn with_region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Excludes the hub from allocation policies, as `applyAllocationPolicy: false` does on the instance.
    ///
    /// It then gets devices only from enrollments that name it and from webhooks that choose it.
    #[must_use]
    pub fn named_only(mut self) -> Self {
        self.named_only = true;
        self
    }
}

impl From<&str> for Hub {
    fn from(host_name: &str) -> Self {
        Hub::new(host_name)
    }
}

impl From<&String> for Hub {
    fn from(host_name: &String) -> Self {
        Hub::new(host_name)
    }
}

impl From<String> for Hub {
    fn from(host_name: String) -> Self {
        Hub::new(host_name)
    }
}

/// Returns whether a text is a host name: labels of 1 to 63 ASCII letters, digits and `-`, which begin and
/// end with a letter or a digit, with dots between them, and at most 253 characters in total.
pub(crate) fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

/// Why a list of linked hubs cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HubFault {
    /// The name is not a host name.
    Name(String),
    /// Two hubs have this name.
    Twice(String),
}

/// Judges the names of linked hubs.
pub(crate) fn check_names(hubs: &[Hub]) -> Result<(), HubFault> {
    let mut names = HashSet::new();
    for Hub { host_name, .. } in hubs {
        if !is_host_name(host_name) {
            return Err(HubFault::Name(host_name.clone()));
        }
        if !names.insert(host_name.to_ascii_lowercase()) {
            return Err(HubFault::Twice(host_name.clone()));
        }
    }
    Ok(())
}

/// The allocation policy for enrollments that have none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DefaultAllocation {
    /// Spreads devices over the hubs by their weights.
    #[default]
    Hashed,
    /// Chooses the hub in the nearest region.
    GeoLatency,
    /// Chooses the hub that the enrollment names. If it names none, registrations fail unless exactly one hub
    /// is linked.
    Static,
}

impl DefaultAllocation {
    pub(crate) fn read(word: &str) -> Option<Self> {
        [Self::Hashed, Self::GeoLatency, Self::Static].into_iter().find(|policy| policy.word() == word)
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            DefaultAllocation::Hashed => "hashed",
            DefaultAllocation::GeoLatency => "geoLatency",
            DefaultAllocation::Static => "static",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_has_labels_of_letters_digits_and_hyphens() {
        let label = "a".repeat(63);
        let longest = [label.as_str(), &label, &label, &"a".repeat(61)].join(".");
        for good in ["a", "localhost", "HUB-1.azure-devices.net", "1.2.3.4", &label, &longest] {
            assert!(is_host_name(good), "{good}");
        }
        let (label, long) = (format!("{label}a"), format!("{longest}a"));
        for bad in [
            "", ".", "a.", ".a", "a..b", "-a", "a-", "a.-b", "a_b", "a b", "a#b", "hüb", "a:443", "a/b",
            "*.a", &label, &long,
        ] {
            assert!(!is_host_name(bad), "{bad}");
        }
    }
}
