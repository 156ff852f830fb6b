//! What becomes of a device that has a hub and registers again.
//!
//! | `updateHubAssignment` | `migrateDeviceData` | the same hub again | another hub |
//! | --- | --- | --- | --- |
//! | true | true | stays | migrates: its twin comes along |
//! | true | false | stays, or is reset if the emulator is told to | is reset: its twin is the initial one |
//! | false | any | stays | does not come up: no other hub is chosen |
//! | no policy | | stays | migrates; with api-version 2018-04-01 or older it stays where it is |

use crate::json::Value;

/// The reprovision policy of an enrollment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reprovision {
    Never,
    Migrate,
    Reset,
}

/// What happens on the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The device had no hub.
    Enter,
    Stay,
    Migrate,
    Reset,
}

/// How a device came to its hub, as the service reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Substatus {
    InitialAssignment,
    /// The device had no assignment and the hub had the device already.
    ReprovisionedToInitialAssignment,
    DeviceDataMigrated,
    DeviceDataReset,
}

impl Substatus {
    /// The word that clients of this api-version know.
    pub(crate) fn word(self, api_version: &str) -> &'static str {
        match self {
            Substatus::ReprovisionedToInitialAssignment if api_version >= FIRST_WITH_REPROVISIONED => {
                "reprovisionedToInitialAssignment"
            }
            Substatus::InitialAssignment | Substatus::ReprovisionedToInitialAssignment => "initialAssignment",
            Substatus::DeviceDataMigrated => "deviceDataMigrated",
            Substatus::DeviceDataReset => "deviceDataReset",
        }
    }
}

impl Reprovision {
    /// Reads the member of an enrollment; nothing, if there is none. What it leaves out is true.
    pub(crate) fn read(policy: &Value) -> Option<Self> {
        let flag = |name: &str| policy[name].as_bool().unwrap_or(true);
        policy.is_object().then(|| match (flag("updateHubAssignment"), flag("migrateDeviceData")) {
            (false, _) => Reprovision::Never,
            (true, true) => Reprovision::Migrate,
            (true, false) => Reprovision::Reset,
        })
    }

    /// What holds where the enrollment says nothing: before there were policies, devices kept their hubs.
    pub(crate) fn unsaid(api_version: &str) -> Self {
        if api_version <= LAST_WITHOUT_POLICIES { Reprovision::Never } else { Reprovision::Migrate }
    }

    /// The step from the hub that the device has to the one that it gets.
    pub(crate) fn step(self, current: Option<&str>, hub: &str, reset_in_place: bool) -> Step {
        let Some(current) = current else { return Step::Enter };
        match (self, current == hub) {
            (Reprovision::Reset, same) if !same || reset_in_place => Step::Reset,
            (_, true) => Step::Stay,
            (_, false) => Step::Migrate,
        }
    }
}

const LAST_WITHOUT_POLICIES: &str = "2018-04-01";
const FIRST_WITH_REPROVISIONED: &str = "2019-04-15";

#[cfg(test)]
mod tests {
    use crate::json::json;

    use super::*;

    #[test]
    fn the_rows_of_the_table() {
        let given = |update: bool, migrate: bool| {
            let policy = json!({"updateHubAssignment": update, "migrateDeviceData": migrate});
            Reprovision::read(&policy).unwrap()
        };
        let steps = |policy: Reprovision| {
            ["a", "b"].map(|hub| [false, true].map(|reset| policy.step(Some("a"), hub, reset)))
        };

        assert_eq!(steps(given(true, true)), [[Step::Stay; 2], [Step::Migrate; 2]]);
        assert_eq!(steps(given(true, false)), [[Step::Stay, Step::Reset], [Step::Reset; 2]]);
        assert_eq!((given(false, true), given(false, false)), (Reprovision::Never, Reprovision::Never));
        assert_eq!(steps(Reprovision::Never)[0], [Step::Stay; 2]);
        for policy in [Reprovision::Never, Reprovision::Migrate, Reprovision::Reset] {
            assert_eq!(policy.step(None, "a", true), Step::Enter);
        }
    }

    #[test]
    fn without_a_policy_old_devices_keep_their_hub() {
        assert_eq!(Reprovision::read(&Value::Null), None);
        assert_eq!(Reprovision::read(&json!({})), Some(Reprovision::Migrate), "what is left out is true");
        assert_eq!(Reprovision::unsaid("2018-04-01"), Reprovision::Never);
        for version in ["2018-09-01-preview", "2018-11-01", "2021-10-01"] {
            assert_eq!(Reprovision::unsaid(version), Reprovision::Migrate, "{version}");
        }
    }
}
