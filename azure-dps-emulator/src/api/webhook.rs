//! Custom allocation: builds the request to a webhook, and reads its answer. `front/webhook.rs` sends it.

use base64::prelude::{BASE64_STANDARD, Engine};

use crate::api::placement::{Decision, Placement};
use crate::attest::grounds::Match;
use crate::call::schema::{self, ALLOCATION_RESPONSE};
use crate::crypto::certificate::Certificate;
use crate::json::{self, Map, Value, json};
use crate::records::enrollments::View;
use crate::records::outcome::Outcome;
use crate::records::proof::{Proof, Via};
use crate::refusal::WEBHOOK_FAILED;
use crate::state::journal;

/// A request to a webhook, and the registration that waits for its answer.
pub(crate) struct WebhookCall {
    pub(crate) url: String,
    /// The body of the request.
    pub(crate) question: String,
    pub(crate) pending: PendingRegistration,
}

impl WebhookCall {
    /// The memory in bytes that the call takes until it is answered: its text, the initial twin as a tree,
    /// and the key of a `csr`.
    pub(crate) fn cost(&self) -> u32 {
        let certificate = self.pending.placement.certificate.as_ref();
        let key = certificate.map_or(0, |wanted| wanted.request.key.size());
        u32::try_from(self.question.len().saturating_add(key))
            .map_or(u32::MAX, |size| size.saturating_mul(8).saturating_add(4_096))
    }
}

/// The memory in bytes that all waiting calls may take together, which is enough for 1,500 with small
/// enrollments.
pub(crate) const ROOM: usize = 32 * 1024 * 1024;

/// A registration that waits for the answer of its webhook.
pub(crate) struct PendingRegistration {
    pub(crate) registration_id: String,
    pub(crate) operation_id: String,
    /// The number of resets at the time of the request; after another reset the answer is dropped.
    pub(crate) life: u64,
    pub(crate) offered: Vec<String>,
    pub(crate) placement: Placement,
}

/// Why a webhook made no decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoDecision {
    /// For the device.
    pub(crate) message: String,
    /// For the journal.
    pub(crate) cause: String,
}

impl NoDecision {
    pub(crate) fn new(why: &str, cause: impl Into<String>) -> Self {
        NoDecision { message: format!("Custom allocation failed: {why}"), cause: cause.into() }
    }
}

impl From<NoDecision> for Outcome {
    fn from(NoDecision { message, cause }: NoDecision) -> Self {
        Outcome::Failed { code: WEBHOOK_FAILED, message, cause }
    }
}

/// The body of the request: the enrollment without its secrets, the device, and the hubs to choose from.
pub(crate) fn question(
    registration_id: &str,
    found: &Match<'_>,
    leaf: Option<&Certificate>,
    current: Option<(&str, &str)>,
    payload: Option<&Value>,
    offered: &[String],
) -> Value {
    let member = match found.via {
        Via::Individual => "individualEnrollment",
        Via::Group(_) => "enrollmentGroup",
    };
    let mut context = Map::new();
    context.insert("registrationId".into(), registration_id.into());
    if let Some((hub, device_id)) = current {
        context.insert("currentIotHubHostName".into(), hub.into());
        context.insert("currentDeviceId".into(), device_id.into());
    }
    let (name, attested) = attested(&found.proof, leaf);
    context.insert(name.into(), attested);
    if let Some(payload) = payload {
        context.insert("payload".into(), payload.clone());
    }
    json!({
        (member): without_secrets(found.enrollment.public(View::Whole)),
        "deviceRuntimeContext": context,
        "linkedHubs": offered,
    })
}

fn attested(proof: &Proof, leaf: Option<&Certificate>) -> (&'static str, Value) {
    match proof {
        Proof::SymmetricKey { .. } => ("symmetricKey", json!({})),
        Proof::Tpm(proven) => ("tpm", proven.public_keys()),
        Proof::X509 { .. } => {
            ("x509", json!({"clientCertificate": leaf.map(|leaf| BASE64_STANDARD.encode(leaf.der()))}))
        }
    }
}

/// Removes secrets that [`Enrollment::public`](crate::records::enrollments::Enrollment::public) still shows:
/// the keys of the TPM, and the query of the webhook's URL, which usually contains a key.
fn without_secrets(mut enrollment: Map) -> Value {
    if let Some(attestation) = enrollment.get_mut("attestation").and_then(Value::as_object_mut) {
        attestation.remove("tpm");
    }
    let url = enrollment.get_mut("customAllocationDefinition").and_then(|given| given.get_mut("webhookUrl"));
    if let Some(url) = url {
        *url = masked(url.as_str().unwrap_or_default()).into();
    }
    enrollment.into()
}

/// A URL without the parts that may be secret: the user name and password, the query and the fragment.
pub(crate) fn masked(url: &str) -> String {
    let path = url.find(['?', '#']).and_then(|end| url.get(..end)).unwrap_or(url);
    let host = path.find("://").map_or(0, |at| at + 3);
    let end = path.get(host..).and_then(|rest| rest.find('/')).map_or(path.len(), |at| host + at);
    let login =
        path.get(host..end).and_then(|authority| authority.rfind('@')).map_or(host, |at| host + at + 1);
    let shown = [path.get(..host), path.get(login..)].into_iter().flatten().collect::<String>();
    if url.contains('?') { format!("{shown}?****") } else { shown }
}

/// Reads the answer of a webhook. Its status must be 200, and it must choose one of the offered hubs.
pub(crate) fn read(status: u16, body: &[u8], offered: &[String]) -> Result<Decision, NoDecision> {
    if status != 200 {
        let message = format!("Custom allocation failed with status code: {status}");
        return Err(NoDecision {
            message,
            cause: format!("the webhook answered {status}{}", refusal_message(body)),
        });
    }
    let mut ignored = Vec::new();
    let members = match json::read(body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body)) {
        Ok(Value::Object(members)) => {
            schema::unknown(ALLOCATION_RESPONSE, &members, "", &mut ignored);
            schema::clean(ALLOCATION_RESPONSE, members, &"")
        }
        Ok(_) => Err("it is not a JSON object".to_owned()),
        Err(error) => Err(format!("it is not JSON: {error}")),
    };
    let mut members = members.map_err(|why| {
        NoDecision::new("the response cannot be used.", format!("the answer of the webhook: {why}"))
    })?;
    let named = members.get("iotHubHostName").and_then(Value::as_str).unwrap_or_default();
    let hub = offered.iter().find(|hub| hub.eq_ignore_ascii_case(named)).ok_or_else(|| {
        let named: String = named.chars().take(LONGEST_NAME).collect();
        let mut cause = format!("the webhook chose `{named}`, which is not one of {}", offered.join(", "));
        if !ignored.is_empty() {
            cause += &format!("; ignored in its answer: {}", ignored.join(", "));
        }
        NoDecision::new("the response names no linked hub.", cause)
    })?;
    let hub = hub.clone();
    let (initial_twin, payload) = (members.remove("initialTwin"), members.remove("payload"));
    Ok(Decision { hub, initial_twin, payload, ignored })
}

/// The member `message` of a webhook's refusal, on one line and cut, to append to the status. Webhooks often
/// repeat the URL that they were called with, so a message that looks like a credential is left out.
fn refusal_message(body: &[u8]) -> String {
    let body: Value = json::read(body).unwrap_or_default();
    let message = body.get("message").and_then(Value::as_str).unwrap_or_default();
    let message = journal::one_line(message);
    let message = message.trim();
    if message.is_empty() {
        return String::new();
    }
    if may_hold_a_credential(message) {
        return ", and its message is left out: it may contain a credential".to_owned();
    }
    match message.char_indices().nth(LONGEST_MESSAGE) {
        Some((end, _)) => format!(": {}…", message.get(..end).unwrap_or_default()),
        None => format!(": {message}"),
    }
}

/// Returns whether a text has a word that usually precedes a secret, or a word that could be a key in base64.
fn may_hold_a_credential(text: &str) -> bool {
    let lower = text.to_lowercase();
    let is_key = |word: &str| word.len() >= SHORTEST_KEY;
    TELLTALES.iter().any(|word| lower.contains(word))
        || (lower.contains("://") && lower.contains('@'))
        || text.split(|c: char| !c.is_ascii_alphanumeric() && !"+/=_-".contains(c)).any(is_key)
}

const TELLTALES: [&str; 10] =
    ["sig=", "code=", "key", "token", "secret", "password", "pwd", "bearer", "authorization", "sharedaccess"];
const LONGEST_MESSAGE: usize = 200;
/// Longer than a GUID, shorter than 32 bytes in base64.
const SHORTEST_KEY: usize = 40;

/// Accepted, because .NET skips it too.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Longer than any host name.
const LONGEST_NAME: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_url_has_no_credentials_and_no_query() {
        for (url, shown) in [
            ("https://h.example/a/b", "https://h.example/a/b"),
            ("https://h.example/a?code=s", "https://h.example/a?****"),
            ("https://h.example?code=s#t", "https://h.example?****"),
            ("https://user:s@h.example:8080/a#s", "https://h.example:8080/a"),
            ("https://h.example/a@b", "https://h.example/a@b"),
            ("no url", "no url"),
        ] {
            assert_eq!(masked(url), shown);
        }
    }

    #[test]
    fn an_answer_has_a_hub_and_optionally_a_twin_and_a_payload() {
        let offered = offered();
        let body = json!({
            "iotHubHostName": "HUB-B.example", "initialTwin": {"tags": {"line": "3"}}, "payload": [1], "more": true,
        });

        let decision = read(200, body.to_string().as_bytes(), &offered).unwrap();

        assert_eq!(decision.hub, "hub-b.example");
        assert_eq!(decision.initial_twin, Some(json!({"tags": {"line": "3"}})));
        assert_eq!(decision.payload, Some(json!([1])));
        let ordered = br#"{"payload":{"z":1,"a":2},"iotHubHostName":"hub-a.example"}"#;
        let payload = read(200, ordered, &offered).unwrap().payload.unwrap();
        assert_eq!(payload.to_string(), r#"{"z":1,"a":2}"#);
        let sparse =
            read(200, br#"{"iotHubHostName":"hub-a.example","initialTwin":null}"#, &offered).unwrap();
        let nothing_more =
            Decision { hub: "hub-a.example".into(), initial_twin: None, payload: None, ignored: vec![] };
        assert_eq!(sparse, nothing_more);
        assert_eq!(decision.ignored, ["more"]);
    }

    #[test]
    fn misspelt_members_are_reported() {
        let body = "\u{feff}{\"iotHubHostName\":\"hub-a.example\",\"initialTwin\":{\"Tags\":{},\"properties\":{\"Desired\":{}}},\"Payload\":1}";
        let decision = read(200, body.as_bytes(), &offered()).unwrap();
        assert_eq!(decision.ignored, ["initialTwin.Tags", "initialTwin.properties.Desired", "Payload"]);

        let no = read(200, br#"{"IotHubHostName":"hub-a.example"}"#, &offered()).unwrap_err();
        assert!(no.cause.ends_with("; ignored in its answer: IotHubHostName"), "{}", no.cause);
    }

    #[test]
    fn an_unusable_answer_is_reported_to_the_device_and_in_the_journal() {
        let bad = "Custom allocation failed: the response cannot be used.";
        let no_hub = "Custom allocation failed: the response names no linked hub.";
        for (status, body, message, cause) in [
            (400, "{}", "Custom allocation failed with status code: 400", "the webhook answered 400"),
            (
                400,
                r#"{"message":"model X1 is unknown\n  here"}"#,
                "Custom allocation failed with status code: 400",
                "the webhook answered 400: model X1 is unknown   here",
            ),
            (202, "{}", "Custom allocation failed with status code: 202", "the webhook answered 202"),
            (
                200,
                "hub-a.example",
                bad,
                "the answer of the webhook: it is not JSON: expected value at line 1 column 1",
            ),
            (
                200,
                r#"{"iotHubHostName":"hub-a.example","initialTwin":{"tags":1}}"#,
                bad,
                "the answer of the webhook: initialTwin.tags must be an object",
            ),
            (200, "{}", no_hub, "the webhook chose ``, which is not one of hub-a.example, hub-b.example"),
            (
                200,
                r#"{"iotHubHostName":"hub-c.example"}"#,
                no_hub,
                "the webhook chose `hub-c.example`, which is not one of hub-a.example, hub-b.example",
            ),
        ] {
            let wanted = NoDecision { message: message.into(), cause: cause.into() };
            assert_eq!(read(status, body.as_bytes(), &offered()), Err(wanted));
        }
    }

    #[test]
    fn the_message_of_a_refusal_is_cut_and_shows_no_credential() {
        let shown = |message: &str| refusal_message(json!({ "message": message }).to_string().as_bytes());
        let left_out = ", and its message is left out: it may contain a credential";

        assert_eq!(shown(&"ä".repeat(200)), format!(": {}", "ä".repeat(200)));
        assert_eq!(shown(&"ä".repeat(201)), format!(": {}…", "ä".repeat(200)));
        assert_eq!(
            shown("7ac81d00-0000-4000-8000-000000000001 failed\u{1b}[2J"),
            ": 7ac81d00-0000-4000-8000-000000000001 failed [2J"
        );
        for silent in [&b"{}"[..], b"", b"no JSON", b"[]", br#"{"message":" \n"}"#, br#"{"message":1}"#] {
            assert_eq!(refusal_message(silent), "");
        }
        for credential in [
            "called by https://a.example/?Code=s3cret".to_owned(),
            "SharedAccessSignature sr=a&sig=c2VjcmV0".to_owned(),
            "the Key is s3cret".to_owned(),
            "Bearer s3cret".to_owned(),
            "got MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".to_owned(),
            format!("{} sig=c2VjcmV0", "x ".repeat(500)),
        ] {
            assert_eq!(shown(&credential), left_out, "{credential}");
        }
    }

    #[test]
    fn a_webhook_gets_neither_the_keys_of_the_tpm_nor_its_own_key() {
        let enrollment = json!({
            "registrationId": "dev1",
            "attestation": {"type": "tpm", "tpm": {"endorsementKey": "AAAA"}},
            "customAllocationDefinition": {"webhookUrl": "https://a.example/?code=secret", "apiVersion": "v"},
        });

        let shown = without_secrets(enrollment.as_object().unwrap().clone());

        let definition = json!({"webhookUrl": "https://a.example/?****", "apiVersion": "v"});
        let wanted = json!({
            "registrationId": "dev1", "attestation": {"type": "tpm"}, "customAllocationDefinition": definition,
        });
        assert_eq!(shown, wanted);
    }

    #[test]
    fn a_masked_url_ends_with_its_path() {
        assert_eq!(
            masked("https://alloc.example/api/pick?code=secret"),
            "https://alloc.example/api/pick?****"
        );
        assert_eq!(masked("http://127.0.0.1:1/x"), "http://127.0.0.1:1/x");
    }

    fn offered() -> Vec<String> {
        ["hub-a.example", "hub-b.example"].map(String::from).into()
    }
}
