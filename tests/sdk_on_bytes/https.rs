//! The HTTPS transport against a peer that knows no semantics: the literal bytes.
//!
//! Expected values: requests that the official Node.js client (azure-iot-provisioning-device 1.9.1) was seen
//! to send, apart from the api-version, the field order of the token and the body that it sends with a GET.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use azure_dps_core::{ErrorKind, SharedKey};
use azure_dps_device::{Credential, Https, HubAccess, Slot, Tpm, TpmKeys};
use azure_dps_tests::registration::{ID, KEY, credential};
use azure_dps_tests::{Act, Peer, body, device, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::percent_decode_str;
use serde_json::json;
use sha2::Sha256;

pub(crate) const OPERATION: &str = "5.d0a671905ea5b2c8.42d78160-4c78-479e-8be7-61d5e55dac0d";

pub(crate) fn assigning() -> Act {
    let body = format!(r#"{{"operationId":"{OPERATION}","status":"assigning"}}"#);
    Act::json("202 Accepted", "Retry-After: 0\r\nLocation: https://localhost/elsewhere\r\n", &body)
}

pub(crate) fn assigned() -> Act {
    Act::json("200 OK", "", &assigned_body(json!({})))
}

pub(crate) fn assigned_body(more: serde_json::Value) -> String {
    let mut body = json!({ "operationId": OPERATION, "status": "assigned", "registrationState": {
        "registrationId": ID, "createdDateTimeUtc": "2026-01-01T00:00:00.0000000Z", "status": "assigned",
        "lastUpdatedDateTimeUtc": "2026-01-01T00:00:00.0000000Z",
        "etag": "IjAxMDAwMDAwLTAwMDAtMDAwMC0wMDAwLTAwMDAwMDAwMDAwMCI=",
        "assignedHub": "interop-hub.azure-devices.localhost", "deviceId": ID, "substatus": "initialAssignment"
    } });
    let state = body["registrationState"].as_object_mut().unwrap();
    state.extend(more.as_object().unwrap().clone());
    body.to_string()
}

#[tokio::test]
async fn a_registration_is_a_put_and_a_poll_is_a_get_on_one_connection() {
    let peer = Peer::start([assigning(), assigning(), assigned()]).await;
    let assignment = peer.device(credential()).register().await.unwrap();

    assert_eq!(assignment.hub(), "interop-hub.azure-devices.localhost");
    assert_eq!(assignment.device_id(), ID);
    let summary = assignment.summary().unwrap();
    assert_eq!((summary.transport, summary.connects, summary.requests), ("HTTPS", 1, 3));

    let requests = peer.requests();
    let line = |n: usize| requests[n].lines().next().unwrap().to_owned();
    assert_eq!(
        line(0),
        "PUT /0ne00ABCDEF/registrations/interop-sym-01/register?api-version=2021-10-01 HTTP/1.1"
    );
    let poll = format!(
        "GET /0ne00ABCDEF/registrations/interop-sym-01/operations/{OPERATION}?api-version=2021-10-01 HTTP/1.1"
    );
    assert_eq!((line(1), line(2)), (poll.clone(), poll));
    assert_eq!(body(&requests[0]), r#"{"registrationId":"interop-sym-01"}"#);
    assert_eq!(header(&requests[0], "content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(header(&requests[0], "content-length"), Some("35"));
    for request in &requests {
        assert_eq!(header(request, "accept"), Some("application/json"));
        assert_eq!(header(request, "host"), Some(format!("localhost:{}", peer.port).as_str()));
        assert!(header(request, "user-agent").unwrap().starts_with("azure-dps-device/"));
    }
    assert_eq!((header(&requests[1], "content-length"), body(&requests[1])), (None, ""));
    assert_eq!(peer.connections(), 1);
}

#[tokio::test]
async fn the_token_is_for_this_registration_and_signed_over_its_resource_as_sent() {
    let peer = Peer::start([assigned()]).await;
    peer.device(credential()).register().await.unwrap();

    let request = &peer.requests()[0];
    let token = header(request, "authorization").unwrap().strip_prefix("SharedAccessSignature ").unwrap();
    let order: Vec<_> = token.split('&').map(|field| field.split_once('=').unwrap().0).collect();
    assert_eq!(order, ["sr", "sig", "se", "skn"]);
    let fields: HashMap<_, _> = token.split('&').map(|field| field.split_once('=').unwrap()).collect();
    assert_eq!(fields["sr"], "0ne00ABCDEF%2Fregistrations%2Finterop-sym-01");
    assert_eq!(fields["skn"], "registration");
    let left = fields["se"].parse::<i64>().unwrap() - time::OffsetDateTime::now_utc().unix_timestamp();
    assert!((3590..=3600).contains(&left), "{left} s left");

    let mut mac = Hmac::<Sha256>::new_from_slice(&BASE64.decode(KEY).unwrap()).unwrap();
    mac.update(format!("{}\n{}", fields["sr"], fields["se"]).as_bytes());
    let expected = BASE64.encode(mac.finalize().into_bytes());
    assert_eq!(percent_decode_str(fields["sig"]).decode_utf8().unwrap(), expected);
}

#[tokio::test]
async fn a_payload_goes_out_and_comes_back() {
    let payload =
        json!({ "modelId": "dtmi:interop:Thermostat;1", "nested": { "list": [true, null, "ü"], "n": 1 } });
    let back = json!({ "echo": payload });
    let answer = Act::json("200 OK", "", &assigned_body(json!({ "payload": back })));
    let peer = Peer::start([assigning(), answer]).await;
    let assignment = peer.device(credential()).register().payload(payload).await.unwrap();

    assert_eq!(
        body(&peer.requests()[0]),
        "{\"registrationId\":\"interop-sym-01\",\"payload\":{\"modelId\":\"dtmi:interop:Thermostat;1\",\
         \"nested\":{\"list\":[true,null,\"ü\"],\"n\":1}}}"
    );
    assert_eq!(assignment.payload(), Some(&back));
}

#[tokio::test]
async fn a_lookup_is_one_post() {
    let state = json!({ "registrationId": ID, "status": "assigned", "assignedHub": "h" }).to_string();
    let peer = Peer::start([Act::json("200 OK", "", &state)]).await;
    let found = peer.device(credential()).lookup().await.unwrap();

    assert_eq!(found.assigned_hub.as_deref(), Some("h"));
    let request = &peer.requests()[0];
    assert!(
        request.starts_with(
            "POST /0ne00ABCDEF/registrations/interop-sym-01?api-version=2021-10-01 HTTP/1.1\r\n"
        )
    );
    assert_eq!(body(request), r#"{"registrationId":"interop-sym-01"}"#);
    assert!(header(request, "authorization").is_some());
}

#[tokio::test]
async fn connections_are_kept_across_registrations() {
    let peer = Peer::start([assigned(), assigned(), assigned()]).await;
    let https = Https::new(peer.endpoint());
    for _ in 0..3 {
        device("0ne00ABCDEF", credential(), https.clone()).register().await.unwrap();
    }
    assert_eq!(peer.connections(), 1);
}

#[tokio::test]
async fn the_name_of_a_product_goes_into_the_user_agent() {
    let peer = Peer::start([assigned()]).await;
    let client = peer.device(credential()).with_product("thermostat/1.2").unwrap();
    let client = client.with_product("east").unwrap();
    client.register().await.unwrap();
    assert!(header(&peer.requests()[0], "user-agent").unwrap().ends_with(" (Rust) thermostat/1.2 east"));
    let error = peer.device(credential()).with_product("thermostat\r\nx: y").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

/// A TPM that keeps the blobs themselves as keys: enough to see what the client does with one.
#[derive(Debug, Default)]
pub(crate) struct PaperTpm(Mutex<HashMap<Slot, Vec<u8>>>);

impl Tpm for PaperTpm {
    fn public_keys(&self) -> azure_dps_core::Result<TpmKeys> {
        Ok(TpmKeys { endorsement_key: vec![1, 2, 3], storage_root_key: vec![4, 5, 6] })
    }

    fn import(&self, blob: &[u8], slot: Slot) -> azure_dps_core::Result<()> {
        self.0.lock().unwrap().insert(slot, blob.to_vec());
        Ok(())
    }

    fn sign(&self, slot: Slot, message: &[u8]) -> azure_dps_core::Result<Vec<u8>> {
        let key = SharedKey::from_base64(&BASE64.encode(&self.0.lock().unwrap()[&slot])).unwrap();
        Ok(key.sign(message).to_vec())
    }
}

#[tokio::test]
async fn a_tpm_answers_the_challenge_and_keeps_the_identity_key() {
    let challenge = json!({
        "message": "Authorization required, resend request using supplied key",
        "authenticationKey": BASE64.encode(b"challenge"), "unencryptedAuthenticationKey": null, "keyName": "registration"
    });
    let last = assigned_body(json!({ "tpm": { "authenticationKey": BASE64.encode(b"identity") } }));
    let peer = Peer::start([
        Act::json("401 Unauthorized", "", &challenge.to_string()),
        assigning(),
        Act::json("200 OK", "", &last),
    ])
    .await;
    let tpm = Arc::new(PaperTpm::default());
    let client = peer.device(Credential::tpm(ID.parse().unwrap(), tpm.clone()));
    let assignment = client.register().await.unwrap();

    let requests = peer.requests();
    let keys =
        r#"{"registrationId":"interop-sym-01","tpm":{"endorsementKey":"AQID","storageRootKey":"BAUG"}}"#;
    assert_eq!((body(&requests[0]), body(&requests[1])), (keys, keys));
    assert_eq!(header(&requests[0], "authorization"), None);
    let token = header(&requests[1], "authorization").unwrap();
    assert!(token.starts_with("SharedAccessSignature sr=0ne00ABCDEF%2Fregistrations%2Finterop-sym-01&sig="));
    assert_eq!(header(&requests[2], "authorization"), Some(token));
    assert_eq!(tpm.0.lock().unwrap()[&Slot::Identity], b"identity");

    let now = time::OffsetDateTime::UNIX_EPOCH;
    let sign_in = |credential| {
        let access = HubAccess::new(credential, &assignment).unwrap();
        access.sign_in(Duration::from_secs(60), now).unwrap().password().unwrap().to_owned()
    };
    let key = SharedKey::from_base64(&BASE64.encode(b"identity")).unwrap();
    let by_key = Credential::symmetric_key(ID.parse().unwrap(), key);
    assert_eq!(sign_in(client.credential().clone()), sign_in(by_key));
}
