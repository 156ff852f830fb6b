//! No secret in any log line at any level, in any `Debug`, `Display` or error.
//!
//! One test, because the log is the process's: everything is done under a subscriber that keeps each line at each
//! level, of the SDK, the emulator and the libraries below them.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)] // Test code.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_dps_core::models::{
    ApiVersion, AttestationMechanism, BulkMode, BulkOperation, DeviceRegistrationState, EnrollmentGroup,
    IndividualEnrollment, SymmetricKeyAttestation,
};
use azure_dps_core::{
    CertificateRequest, ConnectionString, Endpoint, Error, GroupKey, IdScope, Proxy, RegistrationId,
    SharedKey,
};
use azure_dps_device::manager::Happening;
use azure_dps_device::transport::Transport;
use azure_dps_device::{Amqp, Assignment, Credential, DeviceClient, Https, HubAccess, Mqtt};
use azure_dps_emulator::{CertificatePolicy, Emulator};
use azure_dps_service::ServiceClient;
use azure_dps_tests::emulated::sign;
use azure_dps_tests::http_client::HttpClient;
use azure_dps_tests::log::Lines;
use azure_dps_tests::managed::{self, AtHub, Folder, Running};
use azure_dps_tests::sas::service_authorization;
use azure_dps_tests::soft_tpm::ENDORSEMENT_KEY;
use azure_dps_tests::{Act, Peer, device, endpoint_of, service_of, trusting};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::json;

const PRIMARY: &str = "cHJpbWFyeS1rZXktbXVzdC1ub3QtYmUtc2VlbiE=";
const SECONDARY: &str = "c2Vjb25kYXJ5LWtleS1tdXN0LW5vdC1iZS1zZWVu";
const GROUP: &str = "Z3JvdXAta2V5LW11c3Qtbm90LWJlLXNlZW4hISE=";
const PAYLOAD: &str = "payload-must-not-be-seen";
const PASSWORD: &str = "proxy-password-must-not-be-seen";
const BEARER: &str = "YmVhcmVyLW11c3Qtbm90LWJlLXNlZW4h";

/// Everything that was printed, by where it was printed.
#[derive(Default)]
struct Printed(Vec<(String, String)>);

impl Printed {
    fn add(&mut self, place: &str, text: String) {
        self.0.push((place.to_owned(), text));
    }

    fn error(&mut self, place: &str, error: &Error) {
        self.add(place, format!("{error} {error:?} {error:#?} {} {:?}", error.help(), error.service()));
        let mut cause = error.source();
        while let Some(error) = cause {
            self.add(place, format!("{error} {error:?} {error:#?}"));
            cause = error.source();
        }
    }
}

#[tokio::test]
async fn no_secret_is_ever_printed() {
    let lines = Lines::capture();
    let mut printed = Printed::default();
    let mut secrets =
        [PRIMARY, SECONDARY, GROUP, PAYLOAD, PASSWORD, ENDORSEMENT_KEY, BEARER].map(str::to_owned).to_vec();

    let directory = std::env::temp_dir().join(format!("secrets-{}", std::process::id()));
    let policy = CertificatePolicy::new("plant-north", "plant-ca", "sensors").unwrap();
    let builder = Emulator::builder().certificate_policy(policy).ca_dir(&directory);
    let emulator = builder.on_payload(|payload| Some(payload.clone())).start().await.unwrap();
    for key in ["ca-key.pem", "issuing-ca-key.pem"] {
        let pem = std::fs::read_to_string(directory.join(key)).unwrap();
        secrets.push(private_part(&pem));
    }
    std::fs::remove_dir_all(&directory).unwrap();
    let connection_string = emulator.service_connection_string();
    secrets.push(connection_string.split("SharedAccessKey=").nth(1).unwrap().to_owned());
    service_calls(&emulator, &mut printed).await;
    many_at_once(&emulator, &mut printed).await;
    entra(&emulator, &mut printed).await;
    registrations(&emulator, &mut printed, &mut secrets).await;
    issued_certificates(&emulator, &mut printed).await;
    certificate_requests(&emulator, &mut printed, &mut secrets).await;
    managers(&emulator, &mut printed, &mut secrets).await;
    hostile_peers(&mut printed).await;
    bad_input(&connection_string, &mut printed);
    misplaced_secrets(&emulator, &connection_string, &mut printed).await;
    printed.add("the emulator", format!("{emulator:?} {:?}", emulator.journal()));
    emulator.journal().iter().for_each(|entry| printed.add("the journal", entry.to_string()));

    let log = lines.text();
    for expected in ["dps_device", "dps_service", "azure_dps_emulator", "reqwest", "TRACE"] {
        assert!(log.contains(expected), "the log does not hold what it should: {expected}\n{log}");
    }
    // The text for people has several lines, the log one for each event.
    let broken = log.lines().find(|line| line.starts_with("help: ") || line.starts_with("  because "));
    assert_eq!(broken, None, "the log shows an error on several lines");
    printed.add("the log", log);
    for (place, text) in &printed.0 {
        for secret in &secrets {
            // A secret also counts without its padding, and percent-encoded.
            let bare = secret.trim_end_matches('=');
            let encoded = bare.replace('+', "%2B").replace('/', "%2F");
            let line = text.lines().find(|line| line.contains(bare) || line.contains(&encoded));
            assert_eq!(line, None, "{place} shows a secret");
        }
        assert_eq!(text.lines().find(|line| line.contains("sig=")), None, "{place} shows a signature");
    }
}

fn keys() -> AttestationMechanism {
    AttestationMechanism::symmetric_key(SymmetricKeyAttestation::new(PRIMARY, SECONDARY))
}

async fn service_calls(emulator: &Emulator, printed: &mut Printed) {
    let service = service_of(emulator);
    printed.add("the service client", format!("{service:?} {:?}", service.enrollments()));
    let record = IndividualEnrollment::new("dev1", keys());
    printed.add("an enrollment", format!("{record:?}"));
    let created = service.enrollments().create_or_update(&record).await.unwrap();
    printed.add("a created enrollment", format!("{created:#?}"));
    let mechanism = service.enrollments().attestation_mechanism("dev1").await.unwrap();
    printed.add("a mechanism", format!("{mechanism:?}"));
    let tpm = IndividualEnrollment::new("tpm1", AttestationMechanism::tpm(ENDORSEMENT_KEY));
    printed.add(
        "a TPM enrollment",
        format!("{:?}", service.enrollments().create_or_update(&tpm).await.unwrap()),
    );
    let group = AttestationMechanism::symmetric_key(SymmetricKeyAttestation::new(GROUP, SECONDARY));
    let group = EnrollmentGroup::new("group", group);
    printed
        .add("a group", format!("{:?}", service.enrollment_groups().create_or_update(&group).await.unwrap()));
    printed.error("a conflict", &service.enrollments().create_or_update(&record).await.unwrap_err());
    printed.error("a missing record", &service.enrollments().get("nobody").await.unwrap_err());
    let credential =
        azure_dps_service::Credential::policy("provisioningserviceowner", PRIMARY.parse().unwrap());
    printed.add("a credential", format!("{credential:?}"));
    let service = ServiceClient::builder(endpoint_of(emulator), credential).build().unwrap();
    printed.error("a refused policy", &service.enrollments().get("dev1").await.unwrap_err());
}

async fn many_at_once(emulator: &Emulator, printed: &mut Printed) {
    let enrollments = service_of(emulator).enrollments();
    let items = [IndividualEnrollment::new("bulk1", keys()), IndividualEnrollment::new("dev1", keys())];
    let operation = BulkOperation::new(BulkMode::Create, &items);
    let result = enrollments.run_bulk_operation(BulkMode::Create, &items).await.unwrap();
    printed.add("a bulk operation", format!("{operation:?} {result:?} {}", result.errors[0]));
    let twice = [items[0].clone(), items[0].clone()];
    let refused = enrollments.run_bulk_operation(BulkMode::Create, &twice).await.unwrap_err();
    printed.error("a bulk operation that is not sent", &refused);
    let mut pages = enrollments.list().page_size(1);
    printed.add("a listing", format!("{:?} {pages:?}", pages.next_page().await.unwrap()));
}

/// A certificate is issued, refused and judged in the emulator.
async fn issued_certificates(emulator: &Emulator, printed: &mut Printed) {
    let client = HttpClient::new("localhost", emulator.https_port(), trusting(emulator.ca_pem()));
    let names = json!({
        "namespaceName": "plant-north", "certificateAuthorityName": "plant-ca", "certificatePolicyName": "sensors",
    });
    let mut enrollment = json!({"registrationId": "csr1", "attestation": {
        "type": "symmetricKey", "symmetricKey": {"primaryKey": PRIMARY, "secondaryKey": SECONDARY},
    }});
    enrollment.as_object_mut().unwrap().extend(names.as_object().unwrap().clone());
    let json = "Content-Type: application/json\r\n";
    let version = "?api-version=2026-11-01";
    let head = format!("{json}{}", service_authorization());
    let put = client.ask("PUT", &format!("/enrollments/csr1{version}"), &head, &enrollment.to_string()).await;
    assert_eq!(put.status, 200, "{}", put.body);
    let device = format!("{}/registrations/csr1", emulator.id_scope());
    let head = format!("{json}Authorization: {}\r\n", sign(PRIMARY, &device, "registration"));
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "csr1");
    let request = params.serialize_request(&KeyPair::generate().unwrap()).unwrap();
    for csr in [BASE64_STANDARD.encode(request.der()), "MIIB".to_owned()] {
        let body = json!({"csr": csr}).to_string();
        client.ask("PUT", &format!("/{device}/register{version}"), &head, &body).await;
    }
    assert!(emulator.revoke("csr1"));
    printed.add("the issuing authority", emulator.issuing_ca_pem());
    printed.add("a certificate policy", format!("{:?}", emulator.certificate_policies()));
}

/// The line of an EC key with its private part. The line before it names the algorithm, and those behind it have
/// the public key, which certificates show too.
fn private_part(pem: &str) -> String {
    pem.lines().nth(2).unwrap().to_owned()
}

/// A device asks for certificates with its own keys, over each protocol.
async fn certificate_requests(emulator: &Emulator, printed: &mut Printed, secrets: &mut Vec<String>) {
    let id: RegistrationId = "csr1".parse().unwrap();
    let credential = Credential::symmetric_key(id.clone(), PRIMARY.parse().unwrap());
    let (mqtt, amqp) = (emulator.mqtt_port(), emulator.amqp_port());
    let transports: [Arc<dyn Transport>; 3] = [
        Arc::new(Https::new(endpoint_of(emulator))),
        Arc::new(Mqtt::new(endpoint_of(emulator).with_port(mqtt))),
        Arc::new(Amqp::new(endpoint_of(emulator).with_port(amqp))),
    ];
    for transport in transports {
        let request = CertificateRequest::generate(&id).unwrap();
        let pem = request.key_pem().unwrap();
        secrets.push(private_part(&pem));
        let device = device(emulator.id_scope(), credential.clone(), transport);
        let register = device.register().csr(&request);
        printed.add("a registration with a request", format!("{register:?} {request:?} {request:#?}"));
        let assignment = register.await.unwrap();
        let issued = assignment.issued_certificate().unwrap();
        let identity = issued.identity(&request).unwrap();
        printed.add("an issued certificate", format!("{assignment:?} {issued:?} {issued:#?} {identity:?}"));
        printed.add("a stored assignment", serde_json::to_string(&assignment).unwrap());

        let foreign = CertificateRequest::from_key_pem(&"csr2".parse().unwrap(), pem.as_bytes()).unwrap();
        printed.error("a foreign request", &device.register().csr(&foreign).await.unwrap_err());
        let other = CertificateRequest::generate(&id).unwrap();
        printed.error("another key", &issued.identity(&other).unwrap_err());
        printed.error("a missing key", &issued.identity(&request.without_key()).unwrap_err());
        printed.error("an unwritable key", &request.write_key("/nonexistent/device.key").unwrap_err());
        for damaged in [pem.replace("-----END", "----END"), pem[..120].to_owned(), pem.replace('M', "\"")] {
            printed.error("a damaged key", &CertificateRequest::from_key_pem(&id, damaged).unwrap_err());
        }
        printed.error("a key as a request", &CertificateRequest::from_pem(pem.as_bytes()).unwrap_err());
        printed.error("a key as a request", &CertificateRequest::from_base64(&pem).unwrap_err());
    }
}

#[derive(Debug)]
struct Identity;

#[async_trait::async_trait]
impl TokenCredential for Identity {
    async fn get_token(
        &self,
        _: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        Ok(AccessToken::new(
            format!("e30.{BEARER}."),
            time::OffsetDateTime::now_utc() + Duration::from_secs(3600),
        ))
    }
}

async fn entra(emulator: &Emulator, printed: &mut Printed) {
    let credential = azure_dps_service::Credential::entra(Arc::new(Identity));
    let service = ServiceClient::builder(endpoint_of(emulator), credential.clone()).build().unwrap();
    printed.error("a refused token of Entra ID", &service.enrollments().get("dev1").await.unwrap_err());
    printed.add("a client with Entra ID", format!("{service:?} {credential:?}"));
}

async fn registrations(emulator: &Emulator, printed: &mut Printed, secrets: &mut Vec<String>) {
    let https = Https::new(endpoint_of(emulator));
    let client = |credential| device(emulator.id_scope(), credential, https.clone());
    let credential = Credential::symmetric_key("dev1".parse().unwrap(), PRIMARY.parse().unwrap());
    let device = client(credential.clone());
    printed.add("a device client", format!("{device:?} {credential:?} {https:?}"));
    let register = device.register().payload(json!({ "secret": PAYLOAD }));
    printed.add("a registration", format!("{register:?}"));
    let assignment = register.await.unwrap();
    assert_eq!(assignment.payload().unwrap()["secret"], PAYLOAD);
    printed.add("an assignment", format!("{assignment:?} {:?}", assignment.state()));
    printed.add("a state", format!("{:?}", device.lookup().await.unwrap()));
    let now = time::OffsetDateTime::now_utc();
    let access = HubAccess::new(credential.clone(), &assignment).unwrap();
    let sign_in = access.sign_in(Duration::from_secs(60), now).unwrap();
    printed.add("a way to a hub", format!("{access:?} {access:#?} {sign_in:?}"));
    let password = sign_in.password().unwrap();
    secrets.push(password.split("sig=").nth(1).unwrap().split('&').next().unwrap().to_owned());
    printed.add("a stored assignment", serde_json::to_string(&assignment).unwrap());
    hub_connections(emulator, access, printed).await;

    let group: GroupKey = GROUP.parse().unwrap();
    let member: RegistrationId = "member".parse().unwrap();
    let derived = group.derive(&member);
    printed.add("keys", format!("{group:?} {derived:?}"));
    secrets.push(derived.to_base64().to_string());
    client(Credential::from_group(&group, member)).register().await.unwrap();

    let wrong = Credential::symmetric_key("dev1".parse().unwrap(), SECONDARY_AS_WRONG.parse().unwrap());
    printed.error("a refused key", &client(wrong.clone()).register().await.unwrap_err());
    let mqtt = Mqtt::new(endpoint_of(emulator).with_port(emulator.mqtt_port()));
    let amqp = Amqp::new(endpoint_of(emulator).with_port(emulator.amqp_port()));
    let others: [(&str, Arc<dyn Transport>); 3] = [
        ("MQTT", Arc::new(mqtt)),
        ("AMQP", Arc::new(amqp)),
        ("AMQP-WS", Arc::new(Amqp::new(endpoint_of(emulator)).with_websocket())),
    ];
    for (name, transport) in others {
        let client =
            |credential| azure_dps_tests::device(emulator.id_scope(), credential, Arc::clone(&transport));
        let device = client(credential.clone());
        printed.add(name, format!("{device:?} {transport:?}"));
        let assignment = device.register().payload(json!({ "secret": PAYLOAD })).await.unwrap();
        printed.add(name, format!("{assignment:?}"));
        printed.error(name, &client(wrong.clone()).register().await.unwrap_err());
    }
}

/// A manager that gets a certificate, and one that is refused.
async fn managers(emulator: &Emulator, printed: &mut Printed, secrets: &mut Vec<String>) {
    for (key, ends) in
        [(PRIMARY, Happening::CertificateProven), (SECONDARY_AS_WRONG, Happening::RegistrationFailed)]
    {
        let folder = Folder::new();
        let credential = Credential::symmetric_key("csr1".parse().unwrap(), key.parse().unwrap());
        let transport = Arc::new(Https::new(endpoint_of(emulator)));
        let hub = AtHub::of(emulator);
        let options = managed::options(emulator, credential, transport, folder.store(), &hub)
            .with_certificates(folder.store())
            .with_payload(json!({ "secret": PAYLOAD }));
        printed.add("the options of a manager", format!("{options:?} {options:#?}"));
        let mut running = Running::start(options);
        for event in running.until(ends).await {
            printed.add("an event", format!("{event:?} {event:#?}"));
            event.error.iter().for_each(|error| printed.error("an event", error));
        }
        printed.add("a manager", format!("{:?} {:#?}", running.manager, running.manager.snapshot()));
        running.stop().await;
        printed.add("a record", std::fs::read_to_string(folder.record()).unwrap());
        for key in folder.files(".key") {
            secrets.push(private_part(&std::fs::read_to_string(key).unwrap()));
        }
    }
}

/// A connection to a hub, one that is refused, and assignments that are not valid.
async fn hub_connections(emulator: &Emulator, access: HubAccess, printed: &mut Printed) {
    let endpoint = endpoint_of(emulator).with_port(emulator.mqtt_port());
    let reached = access.clone().with_endpoint(endpoint);
    printed.add("a stream to a hub", format!("{:?}", reached.connect().await.unwrap()));
    let untrusted = Endpoint::new(emulator.host()).unwrap().with_port(emulator.mqtt_port());
    printed.error("a hub that is not trusted", &access.with_endpoint(untrusted).connect().await.unwrap_err());
    let body = json!({ "assignedHub": "no host", "deviceId": "dev1", "payload": PAYLOAD,
        "tpm": { "authenticationKey": PRIMARY } });
    let state: DeviceRegistrationState = serde_json::from_value(body.clone()).unwrap();
    printed.error("an assignment that is not valid", &Assignment::try_from(state).unwrap_err());
    let unread = serde_json::from_value::<Assignment>(body).unwrap_err();
    printed.add("an assignment that is not valid", format!("{unread} {unread:?}"));
}

/// Peers that echo what they were sent, and answers that do not fit.
async fn hostile_peers(printed: &mut Printed) {
    let credential = || Credential::symmetric_key("dev1".parse().unwrap(), PRIMARY.parse().unwrap());
    let echoes = [
        Act::json("400 Bad Request", "", &format!("you sent SharedAccessSignature sr=x&sig={PRIMARY}&se=1")),
        Act::json(
            "400 Bad Request",
            "",
            &json!({ "errorCode": 400000, "message": format!("sig={PRIMARY}") }).to_string(),
        ),
        Act::json("200 OK", "", &json!({ "operationId": [PRIMARY], "status": "assigning" }).to_string()),
        Act::json(
            "200 OK",
            "",
            &json!({ "operationId": "o", "status": "assigned", "registrationState": PAYLOAD }).to_string(),
        ),
        Act::AnswerAndClose(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{{\"payload\":\"{PAYLOAD}\""
        )),
    ];
    for act in echoes {
        let peer = Peer::start(std::iter::repeat_n(act.clone(), 3)).await;
        printed.error(
            "a hostile peer",
            &peer.device(credential()).register().payload(PAYLOAD).await.unwrap_err(),
        );
    }
    let proxy =
        Proxy::new(&format!("http://user:{PASSWORD}@127.0.0.1:{}", azure_dps_tests::CLOSED_PORT)).unwrap();
    let endpoint = Endpoint::global().with_proxy(proxy.clone());
    printed.add("a proxy", format!("{proxy:?} {endpoint:?}"));
    let device: DeviceClient = device("0ne00ABCDEF", credential(), Https::new(endpoint));
    printed.error("a proxy that is not there", &device.register().await.unwrap_err());
}

fn bad_input(connection_string: &str, printed: &mut Printed) {
    let parsed: ConnectionString = connection_string.parse().unwrap();
    printed.add("a connection string", format!("{parsed:?} {:?}", parsed.secret()));
    let broken = [
        connection_string.replace("HostName=", "Host="),
        connection_string.replace("localhost:", "h.azure-devices.net:"),
        connection_string.replace("SharedAccessKeyName=", "X="),
        format!("{connection_string};SharedAccessKey={PRIMARY}"),
        format!("HostName=h;SharedAccessKeyName=p;SharedAccessKey=%{PRIMARY}"),
    ];
    for text in broken {
        printed.error("a broken connection string", &text.parse::<ConnectionString>().unwrap_err());
    }
    printed.error("a broken key", &format!("%{PRIMARY}").parse::<SharedKey>().unwrap_err());
    printed.error("a broken proxy", &Proxy::new(&format!("socks5://u:{PASSWORD}@p")).unwrap_err());
    printed.error("a broken token", &azure_dps_core::SasToken::parse(&format!("sig={PRIMARY}")).unwrap_err());
}

/// A secret where a host, an id or a version belongs, as in a variable with the wrong name.
async fn misplaced_secrets(emulator: &Emulator, connection_string: &str, printed: &mut Printed) {
    let with_line_end = format!("{PRIMARY}\n");
    for secret in [PRIMARY, &with_line_end, connection_string] {
        printed.error("a secret as a host", &Endpoint::new(secret).unwrap_err());
        printed.error("a secret as an endpoint", &secret.parse::<Endpoint>().unwrap_err());
        printed.error("a secret as an ID scope", &secret.parse::<IdScope>().unwrap_err());
        printed.error("a secret as a registration id", &secret.parse::<RegistrationId>().unwrap_err());
        printed.error("a secret as a hub", &Assignment::new(secret, "dev1").unwrap_err());
        let service = service_of(emulator);
        printed.error("a secret as an enrollment", &service.enrollments().get(secret).await.unwrap_err());
        printed.error("a secret as a group", &service.enrollment_groups().get(secret).await.unwrap_err());
        let version = ServiceClient::builder_from_connection_string(connection_string)
            .and_then(|builder| builder.api_version(ApiVersion::from(secret.to_owned())).build());
        printed.error("a secret as an api-version", &version.unwrap_err());
    }
    // Hubs allow all characters of a key.
    printed.error("a secret as a device id", &Assignment::new("hub.example", with_line_end).unwrap_err());
}

/// Well-formed, but enrolled nowhere.
const SECONDARY_AS_WRONG: &str = "V0lDH1/Jm7hYubiS80zLxdQySYckB+xnN+pdrWkbNVk=";
