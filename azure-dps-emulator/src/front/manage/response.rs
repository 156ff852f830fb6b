//! Turns the answer of a route into an HTTP response.

use http_body_util::{Either, Full};
use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use hyper::{Response, StatusCode};

use super::listing::Listing;
use super::page;
use super::reply::{Reply, Routed};
use crate::json::json;
use crate::state::journal::Found;

/// The response to a request; `challenge` is the `WWW-Authenticate` of one without the token.
pub(super) fn of(answer: Routed, challenge: &'static str) -> Response<Either<Full<Bytes>, Listing>> {
    let whole = |text: String| Either::Left(Full::from(text));
    let json = "application/json; charset=utf-8";
    let mut headers = Vec::new();
    let (status, content_type, body) = match answer {
        Ok(Reply::Page) => (StatusCode::OK, page::CONTENT_TYPE, Either::Left(Full::from(page::PAGE))),
        Ok(Reply::Json(body)) => (StatusCode::OK, json, whole(body.to_string())),
        Ok(Reply::Description) => (StatusCode::OK, json, Either::Left(Full::from(OPENAPI))),
        Ok(Reply::Listing(listing)) => (StatusCode::OK, json, Either::Right(listing)),
        Ok(Reply::Journal(Found { entries, next, dropped, .. })) => {
            headers = vec![("journal-next", next.to_string()), ("journal-dropped", dropped.to_string())];
            (StatusCode::OK, json, Either::Right(Listing::journal(entries)))
        }
        Ok(Reply::Pem(pem)) => (StatusCode::OK, "application/x-pem-file", whole(pem)),
        Ok(Reply::Nothing) => (StatusCode::NO_CONTENT, json, whole(String::new())),
        Err((status, message)) => (status, json, whole(json!({"message": message}).to_string())),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if content_type == page::CONTENT_TYPE {
        page::protect(response.headers_mut());
    }
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    response
}

const OPENAPI: &str = include_str!("../../../openapi.json");
