//! What really ran, for `docs/compatibility.md`: one line of JSON for each fact, in the file that
//! `DPS_EVIDENCE` names.

use std::fs::File;
use std::io::Write as _;

use azure_dps_emulator::Emulator;
use serde_json::{Value, json};

/// A client of this version registered a device.
pub fn registered(client: &str, transport: &str, attestation: &str) {
    note(&json!({ "client": client, "transport": transport, "attestation": attestation }));
}

/// What a service client did at an emulator, by the emulator's journal. Refused requests do not count.
pub fn service_calls(client: &str, emulator: &Emulator) {
    for entry in emulator.journal().iter().filter(|entry| entry.status < 400) {
        let Some((path, version)) = entry.target.split_once("?api-version=") else { continue };
        if let Some(operation) = operation(&entry.method, path) {
            note(&json!({ "client": client, "operation": operation, "apiVersion": version }));
        }
    }
}

/// A device worked at its hub with every operation that the page names.
pub fn at_hub(client: &str, transport: &str, credential: &str) {
    note(&json!({ "client": client, "transport": transport, "hubCredential": credential }));
}

/// What a service client did at the hubs of an emulator, by its journal. Refused requests do not count.
pub fn hub_calls(client: &str, emulator: &Emulator) {
    for entry in emulator.journal().iter().filter(|entry| entry.status < 400 && entry.protocol == "https") {
        let Some((path, version)) = entry.target.split_once("?api-version=") else { continue };
        if let Some(operation) = hub_operation(&entry.method, path) {
            note(&json!({ "client": client, "hubOperation": operation, "apiVersion": version }));
        }
    }
}

/// The operation of the REST API of hubs that a request is.
fn hub_operation(method: &str, path: &str) -> Option<String> {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let path = match *segments {
        [collection @ "devices"] => format!("/{collection}"),
        ["devices", "query"] if method == "POST" => "/devices/query".to_owned(),
        [collection @ ("devices" | "twins"), _] => format!("/{collection}/{{id}}"),
        [collection @ ("devices" | "twins"), _, last] => format!("/{collection}/{{id}}/{last}"),
        _ => return None,
    };
    Some(format!("{method} {path}"))
}

/// The operation of the service API that a request is.
fn operation(method: &str, path: &str) -> Option<String> {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (collection, rest) = segments.split_first()?;
    let spelled = |name: &&&str| name.eq_ignore_ascii_case(collection);
    let collection = ["enrollments", "enrollmentGroups", "registrations"].iter().find(spelled)?;
    // Official clients do not agree on case.
    let path = match rest {
        [] => format!("/{collection}"),
        ["query"] => format!("/{collection}/query"),
        [_] => format!("/{collection}/{{id}}"),
        [_, last] => format!("/{collection}/{{id}}/{last}"),
        _ => return None,
    };
    Some(format!("{method} {path}"))
}

fn note(fact: &Value) {
    let Some(file) = std::env::var_os("DPS_EVIDENCE") else { return };
    let mut file = File::options().create(true).append(true).open(file).unwrap();
    // One write, because other tests append meanwhile.
    file.write_all(format!("{fact}\n").as_bytes()).unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_to_hubs_are_operations_by_their_path() {
        for (method, path, expected) in [
            ("GET", "/devices", Some("GET /devices")),
            ("GET", "/devices/query", Some("GET /devices/{id}")),
            ("POST", "/devices/query", Some("POST /devices/query")),
            ("PATCH", "/twins/dev-1", Some("PATCH /twins/{id}")),
            ("POST", "/twins/dev-1/methods", Some("POST /twins/{id}/methods")),
            ("PUT", "/enrollments/dev-1", None),
        ] {
            assert_eq!(hub_operation(method, path).as_deref(), expected);
        }
    }

    #[test]
    fn requests_are_operations_by_their_path() {
        for (method, path, expected) in [
            ("PUT", "/enrollments/dev-1", Some("PUT /enrollments/{id}")),
            ("POST", "/enrollments", Some("POST /enrollments")),
            ("POST", "/enrollments/query", Some("POST /enrollments/query")),
            (
                "POST",
                "/enrollmentGroups/query/attestationmechanism",
                Some("POST /enrollmentGroups/{id}/attestationmechanism"),
            ),
            ("GET", "/enrollmentgroups/g", Some("GET /enrollmentGroups/{id}")),
            ("POST", "/registrations/g/query", Some("POST /registrations/{id}/query")),
            ("PUT", "/0ne00EMU1A7/registrations/dev-1/register", None),
        ] {
            assert_eq!(operation(method, path).as_deref(), expected);
        }
    }
}
