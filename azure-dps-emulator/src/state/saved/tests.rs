//! Random states are saved and restored exactly.

use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use time::OffsetDateTime;

use super::*;
use crate::access::policy::default_policy;
use crate::call::operation::Protocol;
use crate::crypto::tpm_key::PUBLISHED_KEY;
use crate::issuance::Due;
use crate::issuance::authority::IssuedChain;
use crate::json::{Map, json};
use crate::records::hubs::message::CloudMessage;
use crate::records::hubs::twin::TwinWrite;
use crate::records::hubs::{Authentication, HubDevice, IdentityWrite};
use crate::records::operation::Wait;
use crate::records::outcome::Outcome;
use crate::records::proof::{Proof, Via};
use crate::records::reprovision::Substatus;
use crate::records::seed::Seed;
use crate::saved::HIGHEST_COUNT;
use crate::state::fault::Fault;
use crate::state::telemetry::Telemetry;

/// One change of a state.
#[derive(Clone, Debug)]
enum Act {
    Enroll { group: bool, id: u8, tpm: bool, disabled: Option<bool>, twin: serde_json::Value },
    Delete { group: bool, id: u8 },
    Register { id: u8, group: bool, x509: bool, outcome: u8, polls: Option<u32>, payload: serde_json::Value },
    Device { id: u8, by_thumbprint: bool, disabled: bool, reason: Option<String> },
    Remove { id: u8 },
    Twin { id: u8, tags: bool, patch: serde_json::Value },
    Report { id: u8, patch: serde_json::Value },
    Message { id: u8, body: Vec<u8>, property: (String, String) },
    Settle { id: u8, number: u64 },
    Telemetry { id: u8, body: Vec<u8>, property: (String, String) },
    Fault { status: u16, delay: Duration, over: Option<bool>, nth: u32 },
    Clock { stop: Option<u32>, ahead: Duration },
    Revoke { id: u8 },
    Latency { devices: String, region: String, millis: u32 },
}

fn act() -> impl Strategy<Value = Act> {
    let id = 0..5_u8;
    let polls = prop_oneof![Just(None), Just(Some(0)), any::<u32>().prop_map(Some)];
    let property = || ("\\PC{0,8}", "\\PC{0,8}");
    let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        (any::<bool>(), id.clone(), any::<bool>(), any::<Option<bool>>(), object())
            .prop_map(|(group, id, tpm, disabled, twin)| Act::Enroll { group, id, tpm, disabled, twin }),
        (any::<bool>(), id.clone()).prop_map(|(group, id)| Act::Delete { group, id }),
        (id.clone(), any::<bool>(), any::<bool>(), 0..5_u8, polls, value()).prop_map(
            |(id, group, x509, outcome, polls, payload)| Act::Register {
                id,
                group,
                x509,
                outcome,
                polls,
                payload
            }
        ),
        (id.clone(), any::<bool>(), any::<bool>(), any::<Option<String>>()).prop_map(
            |(id, by_thumbprint, disabled, reason)| Act::Device { id, by_thumbprint, disabled, reason }
        ),
        id.clone().prop_map(|id| Act::Remove { id }),
        (id.clone(), any::<bool>(), object()).prop_map(|(id, tags, patch)| Act::Twin { id, tags, patch }),
        (id.clone(), object()).prop_map(|(id, patch)| Act::Report { id, patch }),
        (id.clone(), bytes(), property()).prop_map(|(id, body, property)| Act::Message {
            id,
            body,
            property
        }),
        (id.clone(), 0..4_u64).prop_map(|(id, number)| Act::Settle { id, number }),
        (id.clone(), bytes(), property()).prop_map(|(id, body, property)| Act::Telemetry {
            id,
            body,
            property
        }),
        (400..600_u16, any::<Duration>(), any::<Option<bool>>(), 1..9_u32)
            .prop_map(|(status, delay, over, nth)| Act::Fault { status, delay, over, nth }),
        (any::<Option<u32>>(), (any::<u32>(), 0..1_000_000_000_u32)).prop_map(|(stop, (seconds, nanos))| {
            Act::Clock { stop, ahead: Duration::new(seconds.into(), nanos) }
        }),
        id.prop_map(|id| Act::Revoke { id }),
        ("[a-z]{1,3}\\*?", "[a-z]{1,3}", any::<u32>()).prop_map(|(devices, region, millis)| Act::Latency {
            devices,
            region,
            millis
        }),
    ]
}

fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            proptest::collection::btree_map("[a-z$]{1,4}", inner, 0..4)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

fn object() -> impl Strategy<Value = serde_json::Value> {
    proptest::collection::btree_map("[a-z]{1,4}", value(), 0..4)
        .prop_map(|members| serde_json::Value::Object(members.into_iter().collect()))
}

impl Act {
    /// Acts on a state. What the rules refuse changes nothing.
    fn on(self, state: &mut State, settings: &Settings) {
        match self {
            Act::Enroll { .. } | Act::Delete { .. } => self.on_enrollments(state, settings),
            Act::Register { .. } => self.on_registrations(state),
            Act::Fault { .. } | Act::Clock { .. } | Act::Revoke { .. } | Act::Latency { .. } => {
                self.on_the_rest(state);
            }
            _ => self.on_hubs(state),
        }
    }

    fn on_enrollments(self, state: &mut State, settings: &Settings) {
        let now = state.clock.now();
        let kind = |group| if group { Kind::Group } else { Kind::Individual };
        match self {
            Act::Enroll { group, id, tpm, disabled, twin } => {
                let attestation = match tpm {
                    true => json!({"type": "tpm", "tpm": {"endorsementKey": PUBLISHED_KEY}}),
                    false => json!({"type": "symmetricKey"}),
                };
                let status = disabled.map(|disabled| if disabled { "disabled" } else { "enabled" });
                let (kind, id) = (kind(group), name(id));
                let members = json!({
                    (kind.id_member()): id, "attestation": attestation, "provisioningStatus": status,
                    "initialTwin": {"tags": (Value::from(twin))}, "reprovisionPolicy": {"migrateDeviceData": false},
                });
                let tag = state.enrollments(kind).find(&id).map(|_| "*");
                let members = members.as_object().unwrap().clone();
                let _refused = state.put_enrollment(kind, &id, members, tag, settings, now).is_err();
            }
            Act::Delete { group, id } => {
                let _absent = state.delete_enrollment(kind(group), &name(id), None).is_err();
            }
            _ => {}
        }
    }

    fn on_registrations(self, state: &mut State) {
        let Act::Register { id, group, x509, outcome, polls, payload } = self else { return };
        let (id, key, now) = (name(id), vec![id; 32], state.clock.now());
        let via = if group { Via::Group(id.clone()) } else { Via::Individual };
        let proof = match x509 {
            true => Proof::X509 { thumbprint: "AB".repeat(20) },
            false => Proof::SymmetricKey { primary: key, secondary: vec![0, 255] },
        };
        let wait = polls.map_or_else(|| Wait::Until(state.clock.moment()), Wait::Polls);
        let operation = state.registrations.begin(&id, (via, proof), wait, &mut state.ids, now);
        let assigned = |certificate| Outcome::Assigned {
            hub: HUB.to_owned(),
            device_id: id.clone(),
            substatus: Substatus::DeviceDataMigrated,
            payload: Some(payload.clone().into()),
            certificate,
            connection_profile: Some("classic".into()),
            warning: Some("warned".to_owned()),
        };
        let outcome = match outcome {
            0 => Outcome::Disabled,
            1 => Outcome::Failed { code: 400_208, message: "m".to_owned(), cause: "c".to_owned() },
            2 => assigned(Due::Issued(IssuedChain::from(vec!["leaf".to_owned(), "root".to_owned()]))),
            3 => assigned(Due::Nothing),
            _ => return,
        };
        state.registrations.decide(&id, outcome);
        let moment = state.clock.moment();
        let none = |_: &_| Err(rcgen::Error::KeyGenerationUnavailable);
        assert!(state.registrations.poll(&id, &operation, &mut state.ids, moment, none).is_ok());
    }

    fn on_hubs(self, state: &mut State) {
        let (tag, now) = (state.hubs.next_tag(), state.clock.now());
        match self {
            Act::Device { id, by_thumbprint, disabled, reason } => {
                let authentication = match by_thumbprint {
                    true => Authentication::SelfSigned { primary: Some("AB".repeat(20)), secondary: None },
                    false => Authentication::Sas { primary: vec![id; 32], secondary: vec![1; 16] },
                };
                let capabilities = json!({"iotEdge": disabled});
                let write = IdentityWrite { authentication, disabled, reason, capabilities };
                state.hubs.write(HUB, &name(id), write, now);
            }
            Act::Remove { id } => drop(state.hubs.remove(HUB, &name(id))),
            Act::Telemetry { id, body, property } => state.telemetry.keep(Telemetry {
                sequence: 0,
                time: SystemTime::from(now),
                hub: HUB.to_owned(),
                device_id: name(id),
                body,
                properties: vec![property.clone(), property],
                system_properties: Vec::new(),
            }),
            Act::Twin { id, .. }
            | Act::Report { id, .. }
            | Act::Message { id, .. }
            | Act::Settle { id, .. } => {
                if let Some(device) = state.hubs.find_mut(HUB, &name(id)) {
                    self.on_device(device, tag, now);
                }
            }
            _ => {}
        }
    }

    fn on_device(self, device: &mut HubDevice, tag: u64, now: OffsetDateTime) {
        let _refused = match self {
            Act::Twin { tags: true, patch, .. } => {
                let write = TwinWrite { tags: Some(members(patch)), ..TwinWrite::default() };
                device.write_twin(write, tag, now).is_err()
            }
            Act::Twin { patch, .. } => {
                let write = TwinWrite { desired: Some(members(patch)), ..TwinWrite::default() };
                device.write_twin(write, tag, now).is_err()
            }
            Act::Report { patch, .. } => device.twin.report(&members(patch), now).is_err(),
            Act::Message { body, property: (name, value), .. } => {
                device.send(CloudMessage::new(body).with_property(name, value)).is_err()
            }
            Act::Settle { number, .. } => {
                device.inbox.settle(number);
                false
            }
            _ => false,
        };
    }

    fn on_the_rest(self, state: &mut State) {
        match self {
            Act::Fault { status, delay, over, nth } => {
                let fault = match over {
                    None => Fault::status(status),
                    Some(true) => Fault::delay(delay).over(Protocol::MqttWs),
                    Some(false) => Fault::throttle(7).of("Dev-1").times(nth),
                };
                let _too_many = state.faults.inject(vec![fault.nth(nth)]).is_err();
            }
            Act::Clock { stop, ahead } => {
                if let Some(seconds) = stop {
                    state.clock.set(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.into()));
                }
                state.clock.advance(ahead);
            }
            Act::Revoke { id } => state.issuance.revoke(&name(id)),
            Act::Latency { devices, region, millis } => {
                state.rules.latencies.set(&devices, [(region, millis)]);
            }
            _ => {}
        }
    }
}

fn name(id: u8) -> String {
    format!("Dev-{id}")
}

fn members(value: serde_json::Value) -> Map {
    Value::from(value).as_object().unwrap().clone()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_random_state_comes_back_the_same(acts in proptest::collection::vec(act(), 0..40), cut in any::<prop::sample::Index>()) {
        let settings = settings();
        let authority = AUTHORITY.with(Arc::clone);
        let mut state = State::new(&settings, Arc::clone(&authority), &Seed::default()).unwrap();
        for act in acts {
            act.on(&mut state, &settings);
        }

        let text = text(&state, &settings);
        let saved = SavedState::read(&text).unwrap();
        prop_assert!(saved.check_same_service(&settings).is_ok());
        let restored = State::restored(saved, &settings, authority).unwrap();

        let again = self::text(&restored, &settings);
        prop_assert_eq!(String::from_utf8_lossy(&again), String::from_utf8_lossy(&text));
        let torn = &text[..cut.index(text.len())];
        let error = SavedState::read(torn).err();
        prop_assert!(matches!(error, Some(StateError::Invalid(_))), "{error:?} from {} bytes", torn.len());
    }
}

#[test]
fn a_counter_from_which_counting_on_could_overflow_is_refused() {
    let settings = settings();
    let authority = AUTHORITY.with(Arc::clone);
    let mut state = State::new(&settings, Arc::clone(&authority), &Seed::default()).unwrap();
    let (twin, property) = (serde_json::json!({}), || ("p".to_owned(), "v".to_owned()));
    for act in [
        Act::Enroll { group: false, id: 1, tpm: false, disabled: None, twin: twin.clone() },
        Act::Enroll { group: true, id: 1, tpm: false, disabled: None, twin: twin.clone() },
        Act::Register { id: 1, group: false, x509: false, outcome: 3, polls: None, payload: twin },
        Act::Device { id: 1, by_thumbprint: false, disabled: false, reason: None },
        Act::Message { id: 1, body: Vec::new(), property: property() },
        Act::Telemetry { id: 1, body: Vec::new(), property: property() },
    ] {
        act.on(&mut state, &settings);
    }
    let whole: serde_json::Value = serde_json::from_slice(&text(&state, &settings)).unwrap();

    for counter in COUNTERS {
        let with = |count: u64| {
            let mut changed = whole.clone();
            *changed.pointer_mut(counter).unwrap_or_else(|| panic!("{counter} in {whole}")) = count.into();
            SavedState::read(&serde_json::to_vec(&changed).unwrap())
        };
        assert!(with(HIGHEST_COUNT).is_ok(), "{counter}");
        for count in [HIGHEST_COUNT + 1, u64::MAX] {
            let error = with(count).err().unwrap().to_string();
            let wanted =
                format!("the state cannot be restored: a counter is above {HIGHEST_COUNT} at line 1");
            assert!(error.starts_with(&wanted), "{counter}: {error}");
        }
    }
}

#[test]
fn a_counter_that_no_start_could_read_is_not_written() {
    let settings = settings();
    let authority = AUTHORITY.with(Arc::clone);
    let state = State::new(&settings, Arc::clone(&authority), &Seed::default()).unwrap();
    let whole: serde_json::Value = serde_json::from_slice(&text(&state, &settings)).unwrap();
    for counter in ["/counts/requests", "/enrollments/created", "/telemetry/received", "/hubs/tags"] {
        let mut changed = whole.clone();
        *changed.pointer_mut(counter).unwrap() = HIGHEST_COUNT.into();
        let saved = SavedState::read(&serde_json::to_vec(&changed).unwrap()).unwrap();
        let mut state = State::restored(saved, &settings, Arc::clone(&authority)).unwrap();
        assert!(state.saved(&settings, None).is_ok(), "{counter}");

        state.requests += 1;
        let twin = serde_json::json!({});
        Act::Enroll { group: false, id: 1, tpm: false, disabled: None, twin }.on(&mut state, &settings);
        let telemetry = Act::Telemetry { id: 1, body: Vec::new(), property: (String::new(), String::new()) };
        telemetry.on(&mut state, &settings);
        state.hubs.next_tag();

        let error = state.saved(&settings, None).err().unwrap().to_string();
        assert!(error.contains("a counter is above 140737488355328"), "{counter}: {error}");
    }
}

const COUNTERS: [&str; 22] = [
    "/counts/ids",
    "/counts/requests",
    "/counts/billedServiceOperations",
    "/counts/billedRegistrations",
    "/issuance/issued",
    "/telemetry/received",
    "/telemetry/messages/0/sequence",
    "/enrollments/created",
    "/enrollments/records/0/number",
    "/enrollmentGroups/created",
    "/enrollmentGroups/records/0/number",
    "/registrations/created",
    "/registrations/records/0/number",
    "/hubs/tags",
    "/hubs/devices/0/generation",
    "/hubs/devices/0/tag",
    "/hubs/devices/0/twin/tag",
    "/hubs/devices/0/twin/version",
    "/hubs/devices/0/twin/desired/version",
    "/hubs/devices/0/twin/reported/version",
    "/hubs/devices/0/messages/sent",
    "/hubs/devices/0/messages/waiting/0/number",
];

thread_local! {
    /// Making it takes longer than the rest of a case.
    static AUTHORITY: Arc<IssuingAuthority> = Arc::new(IssuingAuthority::new().unwrap());
}

fn settings() -> Settings {
    let mut settings = Settings { id_scope: "0ne00ABCDEF".to_owned(), ..Settings::default() };
    settings.gate.policies = vec![default_policy().resolve_keys().unwrap()];
    settings.enrolling.hubs = vec![Hub::new(HUB).with_region("west")];
    settings
}

fn text(state: &State, settings: &Settings) -> Vec<u8> {
    state.saved(settings, None).unwrap_or_else(|error| panic!("{error}")).into_pieces().flatten().collect()
}

const HUB: &str = "a.example";
