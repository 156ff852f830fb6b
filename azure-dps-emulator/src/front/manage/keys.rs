//! The routes that show keys: those of enrollments, and those that TPMs sign with at their hubs.

use hyper::StatusCode;
use percent_encoding::percent_decode_str;

use super::reply::{Reply, Routed};
use crate::call::kind::Kind;
use crate::instance::Instance;
use crate::json::json;

/// `GET /keys/enrollments/{id}` and `GET /keys/enrollmentGroups/{id}`.
pub(super) fn of(method: &str, collection: &str, id: &str, instance: &Instance) -> Routed {
    if method != "GET" {
        let message = format!("/keys/{collection}/{id} does not know {method}");
        return Err((StatusCode::METHOD_NOT_ALLOWED, message));
    }
    let id = percent_decode_str(id).decode_utf8_lossy();
    let kind = if collection == "enrollments" { Kind::Individual } else { Kind::Group };
    let unknown =
        || (StatusCode::NOT_FOUND, format!("{} {id} with symmetric keys does not exist", kind.noun()));
    instance.symmetric_keys(kind, &id).map(Reply::Json).ok_or_else(unknown)
}

/// `GET /hub-keys/{registrationId}`.
pub(super) fn at_hub(method: &str, id: &str, instance: &Instance) -> Routed {
    let id = percent_decode_str(id).decode_utf8_lossy();
    if method != "GET" {
        return Err((StatusCode::METHOD_NOT_ALLOWED, format!("/hub-keys/{id} does not know {method}")));
    }
    match instance.hub_key(&id) {
        Some(key) => Ok(Reply::Json(json!({"primaryKey": key}))),
        None => Err((StatusCode::NOT_FOUND, format!("{id} was not assigned to a hub by a TPM"))),
    }
}
