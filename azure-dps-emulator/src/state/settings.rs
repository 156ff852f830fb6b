//! What an emulator is told before it starts and keeps until it ends.

use std::time::Duration;

use crate::access::Gate;
use crate::call::schema::Strictness;
use crate::json::Value;
use crate::records::allocation::Rules;
use crate::records::authorities::Authorities;
use crate::records::enrollments::Enrolling;
use crate::records::hub::Hub;
use crate::records::store::Order;
use crate::state::quota::Quotas;

/// What stands in for a webhook where a rule chooses the hub: from the payload of a device to the payload for it.
pub(crate) type PayloadHook = Box<dyn Fn(&Value) -> Option<Value> + Send + Sync>;

/// Where a device with a wrong credential is told so over MQTT and AMQP. The service has been seen to do both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefuseAt {
    /// The connection is refused: over MQTT with CONNACK 5, over AMQP with SASL outcome 1, neither of which carries a
    /// reason; over AMQP with a certificate instead of SASL the connection is closed when the first link is attached.
    Connect,
    /// The connection is accepted and the registration is answered 401 or 404, or over AMQP rejected, with error code
    /// and tracking id.
    #[default]
    Register,
}

pub(crate) struct Settings {
    pub(crate) id_scope: String,
    pub(crate) gate: Gate,
    pub(crate) enrolling: Enrolling,
    /// What the instance says about allocation at the start.
    pub(crate) rules: Rules,
    pub(crate) reset_in_place: bool,
    pub(crate) listing_order: Order,
    pub(crate) webhook_timeout: Duration,
    pub(crate) quotas: Option<Quotas>,
    /// For how many polls a registration is assigning, if it is not until the time at which devices are told to poll.
    pub(crate) polls: Option<u32>,
    pub(crate) retry_after: u32,
    /// How long every answer is held back.
    pub(crate) latency: Duration,
    pub(crate) strictness: Strictness,
    pub(crate) refuse_at: RefuseAt,
    /// Those that are uploaded from the start.
    pub(crate) authorities: Authorities,
    /// Whether groups with their own signing certificates need a verified authority at the end of the chain.
    pub(crate) require_verified_ca: bool,
    pub(crate) on_payload: Option<PayloadHook>,
}

impl Settings {
    /// The linked hub with this host name; a port does not count.
    pub(crate) fn linked(&self, host: &str) -> Option<&Hub> {
        let name = host.split_once(':').map_or(host, |(name, _)| name);
        self.enrolling.hubs.iter().find(|hub| hub.host_name.eq_ignore_ascii_case(name))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            id_scope: DEFAULT_ID_SCOPE.into(),
            gate: Gate::default(),
            enrolling: Enrolling::default(),
            rules: Rules::default(),
            reset_in_place: false,
            listing_order: Order::default(),
            webhook_timeout: WEBHOOK_TIMEOUT,
            quotas: None,
            polls: None,
            retry_after: 0,
            latency: Duration::ZERO,
            strictness: Strictness::Strict,
            refuse_at: RefuseAt::default(),
            authorities: Authorities::default(),
            require_verified_ca: false,
            on_payload: None,
        }
    }
}

const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_ID_SCOPE: &str = "0ne00EMU1A7";
