//! Decides what happens to a device that has a hub and registers again.
//!
//! | `updateHubAssignment` | `migrateDeviceData` | same hub chosen | another hub chosen |
//! | --- | --- | --- | --- |
//! | true | true | stays | migrates with its twin |
//! | true | false | stays; is reset if the settings say so | is reset to the initial twin |
//! | false | any | stays | cannot happen: the device keeps its hub |
//! | no policy | | stays | migrates; with api-version 2018-04-01 or older the device keeps its hub |

use serde::{Deserialize, Serialize};

use crate::json::Value;

/// The reprovision policy of an enrollment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reprovision {
    Never,
    Migrate,
    Reset,
}

/// The change on the hubs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The device had no hub.
    Enter,
    Stay,
    Migrate,
    Reset,
}

/// The `substatus` of an assignment.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Substatus {
    InitialAssignment,
    /// The device had no assignment, and the hub already had the device.
    ReprovisionedToInitialAssignment,
    DeviceDataMigrated,
    DeviceDataReset,
}

impl Substatus {
    /// The word for clients of this api-version.
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
    /// Reads `reprovisionPolicy`; `None` if it is absent. Missing flags default to true.
    pub(crate) fn read(policy: &Value) -> Option<Self> {
        let flag = |name: &str| policy[name].as_bool().unwrap_or(true);
        policy.is_object().then(|| match (flag("updateHubAssignment"), flag("migrateDeviceData")) {
            (false, _) => Reprovision::Never,
            (true, true) => Reprovision::Migrate,
            (true, false) => Reprovision::Reset,
        })
    }

    /// The policy of an enrollment that has none. Before policies existed, devices kept their hubs.
    pub(crate) fn default_for(api_version: &str) -> Self {
        if api_version <= LAST_WITHOUT_POLICIES { Reprovision::Never } else { Reprovision::Migrate }
    }

    /// The step from the device's current hub to `hub`.
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
    fn policy_and_hubs_decide_the_step_as_the_table_says() {
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
        assert_eq!(
            Reprovision::read(&json!({})),
            Some(Reprovision::Migrate),
            "missing flags default to true"
        );
        assert_eq!(Reprovision::default_for("2018-04-01"), Reprovision::Never);
        for version in ["2018-09-01-preview", "2018-11-01", "2021-10-01"] {
            assert_eq!(Reprovision::default_for(version), Reprovision::Migrate, "{version}");
        }
    }
}
