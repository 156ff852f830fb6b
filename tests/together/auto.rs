//! `Auto`: which transport is tried when, and which one is remembered.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use azure_dps_core::models::{AttestationMechanism, IndividualEnrollment, SymmetricKeyAttestation};
use azure_dps_core::{Error, ErrorKind, Result};
use azure_dps_device::transport::{
    BoxFuture, Channel, Facts, Operation, Purpose, Reply, Request, Session, Transport,
};
use azure_dps_device::{Assignment, Auto, Credential, Https, Mqtt};
use azure_dps_emulator::Emulator;
use azure_dps_tests::{CLOSED_PORT, Shown, device, endpoint_of, service_of};

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// A transport that fails as scripted, and otherwise assigns every device.
#[derive(Debug)]
struct Scripted {
    name: &'static str,
    fails: Mutex<Option<ErrorKind>>,
    looks_up: bool,
    tried: AtomicU32,
}

impl Scripted {
    fn new(name: &'static str, fails: Option<ErrorKind>) -> Arc<Self> {
        Arc::new(Self { name, fails: Mutex::new(fails), looks_up: true, tried: AtomicU32::new(0) })
    }

    fn without_lookup(name: &'static str) -> Arc<Self> {
        Arc::new(Self { name, fails: Mutex::new(None), looks_up: false, tried: AtomicU32::new(0) })
    }

    fn tried(&self) -> u32 {
        self.tried.swap(0, Ordering::SeqCst)
    }
}

impl Transport for Scripted {
    fn check(&self, session: &Session) -> Result<()> {
        match session.purpose() {
            Purpose::Lookup if !self.looks_up => Err(Error::new(ErrorKind::Unsupported, "no look-up")),
            _ => Ok(()),
        }
    }

    fn connect(&self, _: Session) -> BoxFuture<'_, Result<Box<dyn Channel>>> {
        Box::pin(async move {
            self.tried.fetch_add(1, Ordering::SeqCst);
            match *self.fails.lock().unwrap() {
                Some(kind) => Err(Error::new(kind, format!("{} failed", self.name))),
                None => Ok(Box::new(Assigning(self.name)) as Box<dyn Channel>),
            }
        })
    }
}

struct Assigning(&'static str);

impl Channel for Assigning {
    fn exchange<'a>(&'a mut self, request: &'a Request) -> BoxFuture<'a, Result<Reply>> {
        let state = r#"{"registrationId":"dev-1","assignedHub":"h","deviceId":"d","status":"assigned"}"#;
        let body = match request.operation {
            Operation::Lookup { .. } => state.to_owned(),
            _ => format!(r#"{{"operationId":"o","status":"assigned","registrationState":{state}}}"#),
        };
        Box::pin(async move { Ok(Reply { status: 200, retry_after: None, body: body.into_bytes() }) })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn facts(&self) -> Facts {
        Facts { name: self.0, operations_survive: false }
    }
}

fn auto(members: &[&Arc<Scripted>]) -> Auto {
    Auto::of(members.iter().map(|member| Arc::clone(member) as Arc<dyn Transport>)).unwrap()
}

fn credential() -> Credential {
    Credential::symmetric_key("dev-1".parse().unwrap(), KEY.parse().unwrap())
}

async fn register(auto: &Auto) -> Result<Assignment> {
    device("0ne00ABCDEF", credential(), auto.clone()).register().await
}

/// HTTPS connects only when it asks.
#[tokio::test]
async fn https_in_front_is_passed_over_when_it_cannot_be_reached() {
    let closed = azure_dps_core::Endpoint::new("localhost").unwrap().with_port(CLOSED_PORT);
    let open = Scripted::new("open", None);
    let auto =
        Auto::of([Arc::new(Https::new(closed)) as Arc<dyn Transport>, Arc::clone(&open) as _]).unwrap();
    let credential = Credential::symmetric_key("dev-1".parse().unwrap(), KEY.parse().unwrap());
    let assignment = device("0ne00ABCDEF", credential, auto).register().await.unwrap();
    assert_eq!((assignment.summary().unwrap().transport, open.tried()), ("open", 1));
}

#[tokio::test]
async fn the_first_that_connects_wins_and_is_remembered_by_clones() {
    let (closed, open, spare) =
        (Scripted::new("A", Some(ErrorKind::Connect)), Scripted::new("B", None), Scripted::new("C", None));
    let auto = auto(&[&closed, &open, &spare]);
    assert_eq!(register(&auto).await.unwrap().summary().unwrap().transport, "B");
    assert_eq!((closed.tried(), open.tried(), spare.tried()), (1, 1, 0));

    assert_eq!(register(&auto.clone()).await.unwrap().summary().unwrap().transport, "B");
    assert_eq!((closed.tried(), open.tried(), spare.tried()), (0, 1, 0));
}

#[tokio::test]
async fn the_remembered_one_is_forgotten_when_it_cannot_connect() {
    let (first, second) = (Scripted::new("A", Some(ErrorKind::Connect)), Scripted::new("B", None));
    let auto = auto(&[&first, &second]);
    register(&auto).await.unwrap();
    *second.fails.lock().unwrap() = Some(ErrorKind::Connect);
    *first.fails.lock().unwrap() = None;
    assert_eq!(register(&auto).await.unwrap().summary().unwrap().transport, "A");
    assert_eq!((first.tried(), second.tried()), (2, 2));
    register(&auto).await.unwrap();
    assert_eq!((first.tried(), second.tried()), (1, 0));
}

#[tokio::test]
async fn what_was_judged_stands() {
    for kind in [ErrorKind::Tls, ErrorKind::Unauthorized, ErrorKind::Credential, ErrorKind::Protocol] {
        let (first, second) = (Scripted::new("A", Some(kind)), Scripted::new("B", None));
        let error = register(&auto(&[&first, &second])).await.unwrap_err();
        assert_eq!((error.kind(), second.tried()), (kind, 0));
    }
}

#[tokio::test]
async fn when_nothing_connects_every_reason_is_told() {
    let closed = ["A", "B"].map(|name| Scripted::new(name, Some(ErrorKind::Connect)));
    let error = register(&auto(&[&closed[0], &closed[1]])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.to_string().contains("A failed; B failed"), "{error}");
}

#[tokio::test]
async fn members_that_cannot_do_what_is_asked_are_passed_over() {
    let (first, second) = (Scripted::without_lookup("A"), Scripted::new("B", None));
    let both = auto(&[&first, &second]);
    device("0ne00ABCDEF", credential(), both.clone()).lookup().await.unwrap();
    assert_eq!((first.tried(), second.tried()), (0, 1));

    let alone = auto(&[&first]);
    let error = device("0ne00ABCDEF", credential(), alone).lookup().await.unwrap_err();
    assert_eq!((error.kind(), first.tried()), (ErrorKind::Unsupported, 0));
    assert_eq!(Auto::of([]).unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test]
async fn a_device_behind_a_firewall_registers_through_port_443() {
    let emulator = Shown(Emulator::start().await.unwrap());
    let keys = AttestationMechanism::symmetric_key(SymmetricKeyAttestation::new(KEY, KEY));
    service_of(&emulator)
        .enrollments()
        .create_or_update(&IndividualEnrollment::new("dev-1", keys))
        .await
        .unwrap();
    let endpoint = endpoint_of(&emulator);
    let blocked: Arc<dyn Transport> = Arc::new(Mqtt::new(endpoint.clone().with_port(CLOSED_PORT)));
    let websocket: Arc<dyn Transport> = Arc::new(Mqtt::new(endpoint.clone()).with_websocket());
    let auto = Auto::of([blocked, websocket, Arc::new(Https::new(endpoint.clone()))]).unwrap();
    let behind = device(emulator.id_scope(), credential(), auto);
    assert_eq!(behind.register().await.unwrap().summary().unwrap().transport, "MQTT-WS");
    let record = behind.lookup().await.unwrap();
    assert_eq!(record.registration_id.as_deref(), Some("dev-1"), "HTTPS is the one that can");
}
