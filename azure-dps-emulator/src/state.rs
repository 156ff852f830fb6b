//! Everything that changes while the emulator runs.

pub(crate) mod billing;
pub(crate) mod fault;
pub(crate) mod journal;
pub(crate) mod quota;
pub(crate) mod saved;
pub(crate) mod settings;
pub(crate) mod telemetry;

use std::sync::Arc;

use time::OffsetDateTime;

use crate::access::Gate;
use crate::attest::recent::RecentGroups;
use crate::attest::tpm::Challenges;
use crate::call::kind::Kind;
use crate::clock::Clock;
use crate::ids::Ids;
use crate::issuance::Issuance;
use crate::issuance::authority::IssuingAuthority;
use crate::json::Map;
use crate::records::allocation::Rules;
use crate::records::authorities::Authorities;
use crate::records::enrollments::{Enrollment, Enrollments};
use crate::records::hubs::Hubs;
use crate::records::registrations::{Record, Registrations};
use crate::records::seed::{Seed, SeedEntry};
use crate::refusal::Refusal;
use crate::state::billing::BilledOperations;
use crate::state::fault::Faults;
use crate::state::quota::Meters;
use crate::state::settings::Settings;
use crate::state::telemetry::TelemetryRing;

/// All data of the instance that changes.
pub(crate) struct State {
    pub(crate) individuals: Enrollments,
    pub(crate) groups: Enrollments,
    pub(crate) registrations: Registrations,
    pub(crate) authorities: Authorities,
    pub(crate) issuance: Issuance,
    pub(crate) challenges: Challenges,
    pub(crate) recent_groups: RecentGroups,
    pub(crate) ids: Ids,
    pub(crate) meters: Meters,
    pub(crate) rules: Rules,
    pub(crate) hubs: Hubs,
    pub(crate) telemetry: TelemetryRing,
    /// Counts the resets.
    pub(crate) life: u64,
    pub(crate) billed: BilledOperations,
    pub(crate) clock: Clock,
    pub(crate) faults: Faults,
    pub(crate) requests: u64,
    /// The policies and roles that admit service clients.
    pub(crate) gate: Gate,
}

impl State {
    /// # Errors
    /// Says what is wrong with the seed.
    pub(crate) fn new(
        settings: &Settings,
        authority: Arc<IssuingAuthority>,
        seed: &Seed,
    ) -> Result<Self, String> {
        let mut state = State {
            individuals: Enrollments::new(Kind::Individual),
            groups: Enrollments::new(Kind::Group),
            registrations: Registrations::default(),
            authorities: settings.authorities.clone(),
            issuance: Issuance::new(authority, &settings.certificate_policies),
            challenges: Challenges::default(),
            recent_groups: RecentGroups::default(),
            ids: Ids::default(),
            meters: Meters::new(settings.quotas),
            rules: settings.rules.clone(),
            hubs: Hubs::default(),
            telemetry: TelemetryRing::default(),
            life: 0,
            billed: BilledOperations::default(),
            clock: Clock::default(),
            faults: Faults::default(),
            requests: 0,
            gate: settings.gate.clone(),
        };
        let now = state.clock.now();
        for entry in seed.entries()? {
            let SeedEntry { kind, id, members, path } = entry?;
            state
                .put_enrollment(kind, &id, members, None, settings, now)
                .map_err(|refusal| format!("{path}: {}", refusal.cause))?;
        }
        Ok(state)
    }

    pub(crate) fn enrollments(&self, kind: Kind) -> &Enrollments {
        match kind {
            Kind::Individual => &self.individuals,
            Kind::Group => &self.groups,
        }
    }

    pub(crate) fn put_enrollment(
        &mut self,
        kind: Kind,
        id: &str,
        members: Map,
        if_match: Option<&str>,
        settings: &Settings,
        now: OffsetDateTime,
    ) -> Result<&Enrollment, Refusal> {
        let enrollments = match kind {
            Kind::Individual => &mut self.individuals,
            Kind::Group => &mut self.groups,
        };
        enrollments.put(id, members, if_match, &settings.enrolling, &mut self.ids, now)
    }

    /// Deletes an enrollment. An individual enrollment takes the registration record of its device along; the
    /// records of a group stay.
    pub(crate) fn delete_enrollment(
        &mut self,
        kind: Kind,
        id: &str,
        if_match: Option<&str>,
    ) -> Result<(), Refusal> {
        match kind {
            Kind::Individual => {
                self.individuals.delete(id, if_match)?;
                if self.registrations.find(id).is_some_and(Record::is_individual) {
                    self.registrations.forget(id);
                }
                Ok(())
            }
            Kind::Group => self.groups.delete(id, if_match),
        }
    }
}
