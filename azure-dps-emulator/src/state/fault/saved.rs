//! The saved form of faults that wait.

use serde::{Deserialize, Serialize};

use crate::call::request::{Operation, Protocol};
use crate::state::fault::{Effect, Fault, Faults};

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SavedFault {
    effect: Effect,
    front: Option<String>,
    operation: Option<String>,
    id: Option<String>,
    nth: u32,
    times: u32,
}

impl Faults {
    pub(crate) fn saved(&self) -> Vec<SavedFault> {
        let saved = self.waiting.iter().map(|fault| SavedFault {
            effect: fault.effect,
            front: fault.protocol.map(|protocol| protocol.word().to_owned()),
            operation: fault.operation.map(|operation| operation.word().to_owned()),
            id: fault.id.clone(),
            nth: fault.nth,
            times: fault.times,
        });
        saved.collect()
    }

    /// # Errors
    /// Says which fault can never act, or that there are too many.
    pub(crate) fn restored(saved: Vec<SavedFault>) -> Result<Self, String> {
        let mut restored = Faults::default();
        let faults: Option<Vec<Fault>> = saved.into_iter().map(SavedFault::restored).collect();
        let faults = faults.ok_or("a fault has a front or an operation that is not known")?;
        restored.inject(faults).map_err(|error| error.to_string())?;
        Ok(restored)
    }
}

impl SavedFault {
    /// `None` if a word is not known.
    fn restored(self) -> Option<Fault> {
        let protocol = self.front.map(|word| Protocol::ALL.into_iter().find(|known| known.word() == word));
        let operation =
            self.operation.map(|word| Operation::ALL.into_iter().find(|known| known.word() == word));
        Some(Fault {
            effect: self.effect,
            protocol: protocol.map_or(Some(None), |known| known.map(Some))?,
            operation: operation.map_or(Some(None), |known| known.map(Some))?,
            id: self.id,
            nth: self.nth,
            times: self.times,
        })
    }
}
