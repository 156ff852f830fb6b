//! The routes of issued certificates: policies and revocation.

use hyper::StatusCode;

use super::members::{number, word};
use super::reply::{Reply, Routed, bad, read};
use crate::crypto::csr::KeyType;
use crate::instance::Instance;
use crate::issuance::policy::CertificatePolicy;
use crate::json::Value;

/// `/certificate-policies/{namespace}/{authority}/{policy}`.
pub(super) fn policy(
    method: &str,
    [namespace, authority, name]: [&str; 3],
    body: &[u8],
    instance: &Instance,
) -> Routed {
    match method {
        "PUT" => {
            let policy = CertificatePolicy::new(namespace, authority, name);
            let policy =
                policy.map_err(|error| error.to_string()).and_then(|policy| settings(policy, read(body)?));
            instance.put_certificate_policy(policy.map_err(bad)?);
            Ok(Reply::Nothing)
        }
        "DELETE" if instance.delete_certificate_policy(namespace, authority, name) => Ok(Reply::Nothing),
        "DELETE" => {
            let message = format!("there is no certificate policy {namespace}/{authority}/{name}");
            Err((StatusCode::NOT_FOUND, message))
        }
        _ => Err((StatusCode::METHOD_NOT_ALLOWED, format!("a certificate policy does not know {method}"))),
    }
}

/// Applies `{"days": n, "keys": ["…"], "root": bool}`; all members are optional.
fn settings(mut policy: CertificatePolicy, body: Value) -> Result<CertificatePolicy, String> {
    let Value::Object(body) = body else { return Err("the body is a JSON object".to_owned()) };
    if let Some(name) = body.keys().find(|name| !["days", "keys", "root"].contains(&name.as_str())) {
        return Err(format!("a certificate policy has no {name}; there are days, keys and root"));
    }
    if let Some(days) = number(&body, "days")? {
        policy = policy.with_days(days).map_err(|error| error.to_string())?;
    }
    if let Some(keys) = body.get("keys").filter(|keys| !keys.is_null()) {
        let read = |key: &Value| key.as_str().and_then(KeyType::from_word);
        let keys = keys.as_array().and_then(|keys| keys.iter().map(read).collect::<Option<Vec<_>>>());
        let keys = keys.ok_or(r#"keys must be an array of "p384", "p256" and "rsa""#)?;
        policy = policy.with_key_types(keys).map_err(|error| error.to_string())?;
    }
    match body.get("root") {
        None | Some(Value::Null) => Ok(policy),
        Some(root) => match root.as_bool().ok_or("root must be true or false")? {
            true => Ok(policy.with_root()),
            false => Ok(policy),
        },
    }
}

/// `POST /revoke` with `{"registrationId": "…"}`.
pub(super) fn revoke(body: &[u8], instance: &Instance) -> Routed {
    let Value::Object(body) = read(body).map_err(bad)? else {
        return Err(bad("the body is a JSON object".to_owned()));
    };
    let id = word(&body, "registrationId").map_err(bad)?;
    let id = id.filter(|_| body.keys().count() == 1);
    let id = id.ok_or_else(|| bad("the body must have registrationId, and nothing else".to_owned()))?;
    match instance.revoke(id) {
        true => Ok(Reply::Nothing),
        false => Err((StatusCode::NOT_FOUND, format!("no device {id} has registered or got a certificate"))),
    }
}
