//! The settings of an emulator, which do not change after its start.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::access::Gate;
use crate::call::schema::Strictness;
use crate::data_file::DataFile;
use crate::issuance::policy::CertificatePolicy;
use crate::json::Value;
use crate::records::allocation::Rules;
use crate::records::authorities::Authorities;
use crate::records::enrollments::Enrolling;
use crate::records::hub::Hub;
use crate::records::store::Order;
use crate::state::quota::Quotas;

/// Returns the payload for a device from the payload of its register request, where no webhook is called.
pub(crate) type PayloadHook = Box<dyn Fn(&Value) -> Option<Value> + Send + Sync>;

/// Where the emulator refuses a device with a wrong credential over MQTT and AMQP. The service has been seen
/// to do both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefuseAt {
    /// The emulator refuses the connection: over MQTT with CONNACK 5, over AMQP with SASL outcome 1. Neither
    /// carries a reason. Over AMQP with a certificate, which needs no SASL, it closes the connection when the
    /// first link attaches.
    Connect,
    /// The emulator accepts the connection and refuses the registration with an error code and a tracking id:
    /// with status 401 or 404 over MQTT, with the outcome `rejected` over AMQP.
    #[default]
    Register,
}

/// The authority of the server certificate and its key, as PEM. Only the file of a program has it.
#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ServerAuthority {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

pub(crate) struct Settings {
    pub(crate) id_scope: String,
    /// The access policies and roles at the start.
    pub(crate) gate: Gate,
    pub(crate) enrolling: Enrolling,
    /// The allocation rules at the start.
    pub(crate) rules: Rules,
    pub(crate) reset_in_place: bool,
    pub(crate) listing_order: Order,
    pub(crate) webhook_timeout: Duration,
    pub(crate) quotas: Option<Quotas>,
    /// How many polls are answered `assigning`; `None` goes by the time that `retry_after` asks for.
    pub(crate) polls: Option<u32>,
    pub(crate) retry_after: u32,
    /// The delay of every answer.
    pub(crate) latency: Duration,
    pub(crate) strictness: Strictness,
    pub(crate) refuse_at: RefuseAt,
    /// The CA certificates that are uploaded from the start.
    pub(crate) authorities: Authorities,
    /// Whether groups with their own signing certificates need a verified CA certificate at the end of the
    /// chain.
    pub(crate) require_verified_ca: bool,
    pub(crate) on_payload: Option<PayloadHook>,
    /// The certificate policies at the start.
    pub(crate) certificate_policies: Vec<CertificatePolicy>,
    /// The generation of the hubs.
    pub(crate) connection_profile: Option<Arc<str>>,
    /// The file that keeps the state.
    pub(crate) data_file: Option<DataFile>,
    /// What a saved state needs so that clients trust the next start too.
    pub(crate) server_authority: Option<ServerAuthority>,
}

impl Settings {
    /// The linked hub with this host name; a port is ignored.
    pub(crate) fn linked(&self, host: &str) -> Option<&Hub> {
        let name = host.split_once(':').map_or(host, |(name, _)| name);
        self.enrolling.hubs.iter().find(|hub| hub.host_name.eq_ignore_ascii_case(name))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            id_scope: String::new(),
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
            certificate_policies: Vec::new(),
            connection_profile: None,
            data_file: None,
            server_authority: None,
        }
    }
}

/// Returns whether a text can be an ID scope.
pub(crate) fn is_id_scope(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(10);
pub(crate) const DEFAULT_ID_SCOPE: &str = "0ne00EMU1A7";
