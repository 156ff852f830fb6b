//! The seed of a device: its part of the first-boot window, and the random parts of its pauses.

use sha2::{Digest as _, Sha256};

/// A number that is different for each device, and the same after each boot.
pub(crate) fn seed(registration_id: &str) -> u64 {
    let hash = Sha256::digest(registration_id.as_bytes());
    hash.iter().take(8).fold(0, |seed, byte| (seed << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_of_a_hundred_devices_spread_over_the_window() {
        let serial = |number: usize| format!("SN-2026-{number:06}");
        let address = |number: usize| format!("00-1b-c5-0e-{:02x}-{:02x}", number / 256, number % 256);
        let name = |number: usize| format!("sensor-{number}.plant-north");
        for id in [&serial as &dyn Fn(usize) -> String, &address, &name] {
            let mut tenths = [0; 10];
            for number in 1000..1100 {
                let part = seed(&id(number)) as f64 / u64::MAX as f64;
                tenths[((part * 10.0) as usize).min(9)] += 1;
            }
            assert!(tenths.iter().all(|devices| (2..=20).contains(devices)), "{}: {tenths:?}", id(1000));
        }
        assert_eq!(seed("sensor-042"), seed("sensor-042"));
    }
}
