//! The saved state: everything that changes while the emulator runs, as one JSON object.
//!
//! | not saved | because |
//! | --- | --- |
//! | the journal | it reports on one run |
//! | connections, and calls of methods that wait | they end with the emulator |
//! | the counts of quotas | they concern the last minute |
//! | settings that do not change while the emulator runs | they are flags; the ID scope and the hubs are saved |

mod error;
#[cfg(test)]
mod tests;
mod text;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::access::Gate;
use crate::access::saved::SavedGate;
use crate::attest::recent::RecentGroups;
use crate::attest::tpm::Challenges;
use crate::attest::tpm::saved::SavedChallenge;
use crate::call::kind::Kind;
use crate::clock::Clock;
use crate::clock::saved::SavedClock;
use crate::ids::Ids;
use crate::issuance::Issuance;
use crate::issuance::authority::IssuingAuthority;
use crate::issuance::saved::SavedIssuance;
use crate::json::Value;
use crate::records::allocation::Rules;
use crate::records::authorities::Authorities;
use crate::records::authorities::saved::SavedAuthority;
use crate::records::enrollments::Enrollments;
use crate::records::hub::{self, DefaultAllocation, Hub, HubFault};
use crate::records::hubs::Hubs;
use crate::records::hubs::saved::SavedHubs;
use crate::records::latencies::Latencies;
use crate::records::registrations::{Record, Registrations};
use crate::records::store::saved::SavedRecords;
use crate::shown_name::shown;
use crate::state::State;
use crate::state::billing::BilledOperations;
use crate::state::fault::Faults;
use crate::state::fault::saved::SavedFault;
use crate::state::quota::Meters;
use crate::state::settings::{ServerAuthority, Settings, is_id_scope};
use crate::state::telemetry::TelemetryRing;
use crate::state::telemetry::saved::SavedTelemetry;

pub use error::StateError;
use error::VERSION;
pub(crate) use text::{LARGEST, LARGEST_MEBIBYTES, SavedText};

/// A saved state that was read, and whose contents are not checked yet.
pub(crate) type SavedState =
    Whole<Vec<SavedChallenge>, SavedTelemetry, SavedRecords<Value>, SavedRecords<Record>, SavedHubs>;

/// A whole state. The parameters are the parts that are written one record after the other.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Whole<Challenges, Telemetry, Enrollments, Registrations, Hubs> {
    /// Checked before the rest.
    version: u64,
    id_scope: String,
    linked_hubs: Vec<SavedHub>,
    access: SavedGate,
    clock: SavedClock,
    counts: SavedCounts,
    allocation: SavedRules,
    faults: Vec<SavedFault>,
    ca_certificates: Vec<SavedAuthority>,
    issuance: SavedIssuance,
    challenges: Challenges,
    telemetry: Telemetry,
    enrollments: Enrollments,
    enrollment_groups: Enrollments,
    registrations: Registrations,
    hubs: Hubs,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_authority: Option<ServerAuthority>,
}

#[derive(Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SavedHub {
    host_name: String,
    weight: u32,
    region: Option<String>,
    apply_allocation_policy: bool,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SavedRules {
    allocation_policy: String,
    latencies: Latencies,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SavedCounts {
    ids: Ids,
    #[serde(with = "crate::saved::count")]
    requests: u64,
    #[serde(with = "crate::saved::count")]
    billed_service_operations: u64,
    #[serde(with = "crate::saved::count")]
    billed_registrations: u64,
}

/// The settings that a saved state brings along.
pub(crate) struct SavedSettings {
    pub(crate) id_scope: String,
    pub(crate) hubs: Vec<Hub>,
    pub(crate) gate: Gate,
    pub(crate) server_authority: Option<ServerAuthority>,
}

impl SavedState {
    /// Reads a text.
    ///
    /// # Errors
    /// [`StateError`] if it is not a state, or one of a later version.
    pub(crate) fn read(text: &[u8]) -> Result<Self, StateError> {
        text::read(text)
    }

    /// The settings for an emulator that begins with this state.
    ///
    /// # Errors
    /// Says which of them breaks which rule.
    pub(crate) fn take_settings(&mut self) -> Result<SavedSettings, StateError> {
        if !is_id_scope(&self.id_scope) {
            return Err(StateError::invalid(
                "idScope",
                "it has not only ASCII letters and digits".to_owned(),
            ));
        }
        let hubs: Vec<Hub> = self.linked_hubs.iter().map(SavedHub::restored).collect();
        hub::check_names(&hubs).map_err(|fault| {
            StateError::invalid(
                "linkedHubs",
                match fault {
                    HubFault::Name(name) => format!("{} is not a host name", shown(&name)),
                    HubFault::Twice(name) => format!("{} is there twice", shown(&name)),
                },
            )
        })?;
        Ok(SavedSettings {
            id_scope: self.id_scope.clone(),
            hubs,
            gate: self.gate()?,
            server_authority: self.server_authority.take(),
        })
    }

    fn gate(&self) -> Result<Gate, StateError> {
        Gate::restored(&self.access).map_err(|why| StateError::invalid("access", why))
    }

    /// The authority that issued the certificates of this state's devices.
    ///
    /// # Errors
    /// Says what is wrong with its certificates or its key.
    pub(crate) fn issuing_authority(&self) -> Result<IssuingAuthority, StateError> {
        IssuingAuthority::restored(&self.issuance.authority)
            .map_err(|why| StateError::invalid("issuance.authority", why.to_string()))
    }

    /// Refuses the state of another provisioning service.
    pub(crate) fn check_same_service(&self, settings: &Settings) -> Result<(), StateError> {
        if self.id_scope != settings.id_scope {
            return Err(StateError::OtherService(format!(
                "it is of ID scope {}, and this emulator serves {}: start one with --id-scope {}",
                self.id_scope, settings.id_scope, self.id_scope
            )));
        }
        let linked: Vec<SavedHub> = settings.enrolling.hubs.iter().map(SavedHub::of).collect();
        if self.linked_hubs == linked {
            return Ok(());
        }
        let names =
            |hubs: &[SavedHub]| hubs.iter().map(|hub| hub.host_name.as_str()).collect::<Vec<_>>().join(", ");
        Err(StateError::OtherService(format!(
            "its linked hubs are {}, and those of this emulator are {}: start one with the same --hub flags, \
             weights and regions, or begin with the state by --data FILE",
            names(&self.linked_hubs),
            names(&linked)
        )))
    }
}

impl State {
    /// Writes the state, with the authority of the server if it is given.
    ///
    /// # Errors
    /// A value has no form in JSON.
    pub(crate) fn saved(
        &self,
        settings: &Settings,
        server: Option<&ServerAuthority>,
    ) -> Result<SavedText, StateError> {
        SavedText::write(&Whole {
            version: VERSION,
            id_scope: settings.id_scope.clone(),
            linked_hubs: settings.enrolling.hubs.iter().map(SavedHub::of).collect(),
            access: self.gate.saved(),
            clock: self.clock.saved(),
            counts: SavedCounts {
                ids: self.ids,
                requests: self.requests,
                billed_service_operations: self.billed.service,
                billed_registrations: self.billed.registrations,
            },
            allocation: SavedRules {
                allocation_policy: self.rules.policy.word().to_owned(),
                latencies: self.rules.latencies.clone(),
            },
            faults: self.faults.saved(),
            ca_certificates: self.authorities.saved(),
            issuance: self.issuance.saved(),
            challenges: self.challenges.saved(),
            telemetry: self.telemetry.saved(),
            enrollments: self.individuals.saved(),
            enrollment_groups: self.groups.saved(),
            registrations: self.registrations.saved(),
            hubs: self.hubs.saved(),
            server_authority: server.cloned(),
        })
    }

    /// Makes the state that was saved.
    ///
    /// # Errors
    /// Says which member breaks which rule.
    pub(crate) fn restored(
        saved: SavedState,
        settings: &Settings,
        authority: Arc<IssuingAuthority>,
    ) -> Result<Self, StateError> {
        let gate = saved.gate()?;
        let within = StateError::within;
        let clock = Clock::restored(saved.clock).map_err(within("clock"))?;
        let policy = DefaultAllocation::read(&saved.allocation.allocation_policy)
            .ok_or_else(|| StateError::invalid("allocation", "allocationPolicy is not known".to_owned()))?;
        let mut individuals = Enrollments::new(Kind::Individual);
        individuals.restore(saved.enrollments, &settings.enrolling).map_err(within("enrollments"))?;
        let mut groups = Enrollments::new(Kind::Group);
        groups.restore(saved.enrollment_groups, &settings.enrolling).map_err(within("enrollmentGroups"))?;
        let registrations = Registrations::restored(saved.registrations, &authority, clock.moment());
        let SavedCounts { ids, requests, billed_service_operations, billed_registrations } = saved.counts;
        Ok(State {
            individuals,
            groups,
            registrations: registrations.map_err(within("registrations"))?,
            authorities: Authorities::restored(saved.ca_certificates).map_err(within("caCertificates"))?,
            issuance: Issuance::restored(saved.issuance, authority).map_err(within("issuance"))?,
            challenges: Challenges::restored(saved.challenges).map_err(within("challenges"))?,
            recent_groups: RecentGroups::default(),
            ids,
            meters: Meters::new(settings.quotas),
            rules: Rules { policy, latencies: saved.allocation.latencies },
            hubs: Hubs::restored(saved.hubs).map_err(within("hubs"))?,
            telemetry: TelemetryRing::restored(saved.telemetry).map_err(within("telemetry"))?,
            life: 0,
            billed: BilledOperations {
                service: billed_service_operations,
                registrations: billed_registrations,
            },
            clock,
            faults: Faults::restored(saved.faults).map_err(within("faults"))?,
            requests,
            gate,
        })
    }

    /// Adds what the settings of a start demand.
    pub(crate) fn overlay(&mut self, settings: &Settings) {
        self.gate = settings.gate.clone();
        self.authorities.overlay(&settings.authorities);
        for policy in &settings.certificate_policies {
            self.issuance.put_policy(policy.clone());
        }
    }
}

impl SavedHub {
    fn of(hub: &Hub) -> Self {
        SavedHub {
            host_name: hub.host_name.clone(),
            weight: hub.weight,
            region: hub.region.clone(),
            apply_allocation_policy: !hub.named_only,
        }
    }

    fn restored(&self) -> Hub {
        Hub {
            host_name: self.host_name.clone(),
            weight: self.weight,
            region: self.region.clone(),
            named_only: !self.apply_allocation_policy,
        }
    }
}
