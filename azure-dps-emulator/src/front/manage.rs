//! The management port: plain HTTP, with one route for each call of the library. [`caller`] decides which
//! clients are admitted.
//!
//! | route | answer |
//! | --- | --- |
//! | `GET /` | 200, HTML: the page in a browser; see [`page`] |
//! | `GET /openapi.json` | 200, JSON: a description of all routes |
//! | `GET /health` | 200 `{"status": "ok"}` |
//! | `GET /info` | 200, JSON: how clients connect; see [`crate::front::info`] |
//! | `GET /ca.pem` | 200, the certificate authority |
//! | `GET /issuing-ca.pem` | 200, the authority that issues certificates: intermediate and root |
//! | `GET /journal`; see [`journal`] | 200, JSON |
//! | `GET /enrollments`, `/registrations`, `/hubs`, `/billing` | 200, JSON |
//! | `GET /counts` | 200, JSON: how many records there are of each kind |
//! | `GET /keys/enrollments/{id}`, `/keys/enrollmentGroups/{id}` | 200, JSON: the symmetric keys |
//! | `GET /hubs/{hub}/devices`, `/hubs/{hub}/devices/{id}` | 200, JSON: identities and twins |
//! | `DELETE /hubs/{hub}/devices/{id}` | 204 |
//! | anything below `/hubs/{hub}/devices/{id}/` | see [`hub`] |
//! | `GET /hub-keys/{registrationId}` | 200 `{"primaryKey": "…"}`: the key that a TPM signs with at its hub |
//! | `GET`, `PUT /state`, `POST /state/save`; see [`state`] | 200, JSON; 204; 204 |
//! | `POST /reset` | 204 |
//! | `GET /faults` | 200, JSON: the faults that wait |
//! | `POST /faults` with a fault or an array of them | 204 |
//! | `DELETE /faults` | 204: none waits |
//! | `POST /pki` with `{"devices": ["…"], "intermediates": n}` | 200, a test PKI, which is not kept |
//! | `GET /certificates`, `/certificates/{name}` | 200, JSON: all uploaded CA certificates, or one |
//! | `PUT /certificates/{name}` with `{"certificate": "…", "isVerified": bool}` | 204; members are optional |
//! | `DELETE /certificates/{name}` | 204 |
//! | `GET /certificate-policies` | 200, JSON |
//! | `PUT`, `DELETE /certificate-policies/{namespace}/{authority}/{policy}`; see [`issuing`] | 204 |
//! | `POST /revoke` with `{"registrationId": "…"}` | 204 |
//! | `GET /allocation` | 200 `{"allocationPolicy": "…", "latencies": […]}` |
//! | `PUT /allocation` with the same | 200, the new rules; members are optional |
//! | `GET /clock` | 200 `{"now": "…", "isStopped": bool}` |
//! | `PUT /clock` with `{"now": "…"}`, `{"now": null}` or `{"advanceSeconds": n}` | 200 `{"now": "…"}` |

pub(crate) mod caller;
mod clock;
mod fault;
mod hub;
mod issuing;
mod journal;
mod keys;
mod listing;
mod members;
mod page;
mod query;
mod reply;
mod response;
mod state;
pub(crate) mod token;

use std::convert::Infallible;
use std::sync::Arc;

use crate::json::{Value, json};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;

use self::caller::Callers;
use self::listing::Listing;
use self::members::{number, word};
use self::query::Query;
use self::reply::{Reply, Routed, bad, read};
use super::paced::Paced;
use crate::crypto::pki::Pki;
use crate::front::addresses::Addresses;
use crate::front::body::{BODY_LIMIT, LARGEST_HEAD};
use crate::front::info;
use crate::instance::Instance;
use crate::records::authorities::CaCertificate;
use crate::records::hub::DefaultAllocation;
use crate::records::latencies::Latencies;

/// What is the same for all requests.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) callers: Arc<Callers>,
    pub(crate) ca_pem: Arc<str>,
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) instance: Arc<Instance>,
}

/// Serves one connection until either side ends it.
pub(super) async fn serve(stream: Paced, context: Context) {
    let Ok(address) = stream.local_addr() else { return };
    let respond = service_fn(|request: Request<Incoming>| {
        let challenge = token::challenge(request.headers());
        let admitted = context.callers.admit(request.uri(), request.headers(), address.port());
        let context = context.clone();
        async move {
            let answered = match admitted {
                Ok(()) => answer(request, context).await,
                Err(refused) => Err(refused),
            };
            Ok::<_, Infallible>(response::of(answered, challenge))
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .max_buf_size(LARGEST_HEAD)
        .serve_connection(TokioIo::new(stream), respond)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "management connection ended");
    }
}

async fn answer(request: Request<Incoming>, context: Context) -> Routed {
    let (head, mut body) = request.into_parts();
    let (method, path) = (head.method, head.uri.path().to_owned());
    let members = query_members(method.as_str(), &path);
    let query = Query::read(&path, head.uri.query().unwrap_or_default(), members).map_err(bad)?;
    if (method.as_str(), path.as_str()) == ("PUT", "/state") {
        return state::put(&mut body, context.instance).await;
    }
    let body = reply::body(&mut body, BODY_LIMIT).await?;
    match (method.as_str(), path.as_str()) {
        ("GET", "/journal") => return journal::find(&query, &context.instance).await.map(Reply::Journal),
        ("GET", "/state") => return state::get(context.instance).await,
        _ => {}
    }
    if let ["", "hubs", name, "devices", id, verb] = path.split('/').collect::<Vec<_>>().as_slice() {
        let id = percent_decode_str(id).decode_utf8_lossy();
        let answered = hub::route(method.as_str(), name, &id, (verb, &query), &body, &context.instance).await;
        return answered.map(|body| body.map_or(Reply::Nothing, Reply::Json));
    }
    reply::blocking(move || route(method.as_str(), &path, &body, &context)).await
}

/// The members that the query of a request may have.
fn query_members(method: &str, path: &str) -> &'static [&'static str] {
    match (method, path) {
        ("GET", "/journal") => &journal::MEMBERS,
        ("GET", path) => match path.split('/').collect::<Vec<_>>().as_slice() {
            ["", "hubs", _, "devices", _, "telemetry"] => &[hub::LAST],
            _ => &[],
        },
        _ => &[],
    }
}

fn route(method: &str, path: &str, body: &[u8], context: &Context) -> Routed {
    let instance = &context.instance;
    match (method, path) {
        ("GET", "/") => Ok(Reply::Page),
        ("GET", "/openapi.json") => Ok(Reply::Description),
        ("GET", "/health") => Ok(Reply::Json(json!({"status": "ok"}))),
        ("GET", "/info") => {
            let needs_token = context.callers.need_token();
            Ok(Reply::Json(info::of_management(&context.addresses, needs_token, instance)))
        }
        ("GET", "/ca.pem") => Ok(Reply::Pem(context.ca_pem.as_ref().to_owned())),
        ("GET", "/enrollments") => Ok(Reply::Listing(Listing::enrollments(instance))),
        ("GET", "/registrations") => Ok(Reply::Listing(Listing::registrations(instance))),
        ("GET", "/hubs") => Ok(Reply::Json(instance.hubs())),
        ("GET", "/counts") => Ok(Reply::Json(instance.counts())),
        ("GET", "/billing") => Ok(Reply::Json(instance.billed().to_json())),
        ("POST", "/reset") => {
            instance.reset();
            Ok(Reply::Nothing)
        }
        ("POST", "/state/save") => state::save(instance),
        ("POST", "/pki") => read(body).and_then(pki).map(Reply::Json).map_err(bad),
        ("GET", "/faults") => Ok(Reply::Json(instance.faults().iter().map(fault::to_json).collect())),
        ("DELETE", "/faults") => {
            instance.clear_faults();
            Ok(Reply::Nothing)
        }
        ("POST", "/faults") => fault::inject(body, instance),
        ("GET", "/clock") => Ok(Reply::Json(clock::to_json(instance))),
        ("PUT", "/clock") => {
            read(body).and_then(|body| clock::set(body, instance)).map_err(bad)?;
            Ok(Reply::Json(json!({"now": clock::now(instance)})))
        }
        ("GET", "/allocation") => Ok(Reply::Json(instance.change_rules(|_| ()).to_json())),
        ("PUT", "/allocation") => set_allocation(body, instance),
        ("GET", "/issuing-ca.pem") => Ok(Reply::Pem(instance.issuing_ca_pem())),
        ("GET", "/certificate-policies") => Ok(Reply::Json(instance.certificate_policies())),
        ("POST", "/revoke") => issuing::revoke(body, instance),
        ("GET", "/certificates") => Ok(Reply::Json(instance.certificates())),
        (_, known) if ROUTES.contains(&known) => {
            Err((StatusCode::METHOD_NOT_ALLOWED, format!("{known} does not know {method}")))
        }
        (_, path) => match path.split('/').collect::<Vec<_>>().as_slice() {
            ["", "certificates", name @ ..] => certificate(method, &name.join("/"), body, instance),
            ["", "certificate-policies", namespace, authority, policy] => {
                issuing::policy(method, [namespace, authority, policy], body, instance)
            }
            ["", "hubs", hub, "devices", id @ ..] => devices(method, hub, id, instance),
            ["", "keys", kind @ ("enrollments" | "enrollmentGroups"), id] => {
                keys::of(method, kind, id, instance)
            }
            ["", "hub-keys", id] => keys::at_hub(method, id, instance),
            _ => Err((StatusCode::NOT_FOUND, format!("there are only {}", ROUTES.join(", ")))),
        },
    }
}

fn set_allocation(body: &[u8], instance: &Instance) -> Routed {
    let (policy, latencies) = read(body).and_then(allocation).map_err(bad)?;
    let rules = instance.change_rules(|rules| {
        rules.policy = policy.unwrap_or(rules.policy);
        rules.latencies = latencies.unwrap_or_else(|| rules.latencies.clone());
    });
    Ok(Reply::Json(rules.to_json()))
}

/// The allocation policy and the latencies; both are optional.
fn allocation(body: Value) -> Result<(Option<DefaultAllocation>, Option<Latencies>), String> {
    let Value::Object(body) = body else { return Err("the body is a JSON object".to_owned()) };
    if let Some(name) = body.keys().find(|name| !["allocationPolicy", "latencies"].contains(&name.as_str())) {
        return Err(format!("an allocation has no {name}; there are allocationPolicy and latencies"));
    }
    let policy = word(&body, "allocationPolicy")?.map(|word| {
        DefaultAllocation::read(word)
            .ok_or_else(|| format!("allocationPolicy {word} is none of hashed, geoLatency, static"))
    });
    let latencies = body.get("latencies").map(|tables| latencies(tables).ok_or(BAD_LATENCIES));
    Ok((policy.transpose()?, latencies.transpose()?))
}

fn latencies(tables: &Value) -> Option<Latencies> {
    let mut latencies = Latencies::default();
    for table in tables.as_array()? {
        let regions = table["regions"].as_object()?.iter().map(|(region, millis)| {
            millis
                .as_u64()
                .and_then(|millis| u32::try_from(millis).ok())
                .map(|millis| (region.clone(), millis))
        });
        latencies.set(table["devices"].as_str()?, regions.collect::<Option<Vec<_>>>()?);
    }
    Some(latencies)
}

fn pki(body: Value) -> Result<Value, String> {
    let Value::Object(body) = body else { return Err("the body is a JSON object".to_owned()) };
    if let Some(name) = body.keys().find(|name| !["devices", "intermediates"].contains(&name.as_str())) {
        return Err(format!("a test PKI has no {name}; there are devices and intermediates"));
    }
    let devices = match body.get("devices") {
        None => Vec::new(),
        Some(Value::Array(ids)) => {
            let ids = ids.iter().map(|id| id.as_str().ok_or("devices is an array of strings"));
            ids.collect::<Result<Vec<_>, _>>()?
        }
        Some(_) => return Err("devices is an array of strings".to_owned()),
    };
    if devices.len() > MOST_DEVICES {
        return Err(format!(
            "a test PKI for {} devices is too large: {MOST_DEVICES} are the most",
            devices.len()
        ));
    }
    let intermediates = number(&body, "intermediates")?.unwrap_or(1);
    let pki = Pki::new(devices, usize::try_from(intermediates).unwrap_or(usize::MAX));
    pki.map(|pki| pki.to_json()).map_err(|error| error.to_string())
}

fn certificate(method: &str, name: &str, body: &[u8], instance: &Instance) -> Routed {
    let unknown = || (StatusCode::NOT_FOUND, format!("there is no certificate {name}"));
    match method {
        "GET" => instance.certificate(name).map(Reply::Json).ok_or_else(unknown),
        "DELETE" => instance.delete_certificate(name).then_some(Reply::Nothing).ok_or_else(unknown),
        "PUT" => match read(body).and_then(upload).map_err(bad)? {
            (Some(text), verified) => {
                let given =
                    CaCertificate { name: name.to_owned(), text, verified: verified.unwrap_or(false) };
                instance.upload(given).map_err(|error| bad(error.to_string()))?;
                Ok(Reply::Nothing)
            }
            (None, Some(verified)) if instance.mark_certificate(name, verified) => Ok(Reply::Nothing),
            (None, Some(_)) => Err(unknown()),
            (None, None) => Err(bad("the body must have certificate, isVerified, or both".to_owned())),
        },
        _ => Err((StatusCode::METHOD_NOT_ALLOWED, format!("/certificates/{name} does not know {method}"))),
    }
}

fn devices(method: &str, hub: &str, id: &[&str], instance: &Arc<Instance>) -> Routed {
    let unknown = |what: String| (StatusCode::NOT_FOUND, format!("there is no {what}"));
    let id = match id {
        [] if method == "GET" => {
            let devices = Listing::hub_devices(instance, hub);
            return devices.map(Reply::Listing).ok_or_else(|| unknown(format!("hub {hub}")));
        }
        [id] => percent_decode_str(id).decode_utf8_lossy(),
        _ => return Err((StatusCode::METHOD_NOT_ALLOWED, format!("devices do not know {method}"))),
    };
    let unknown = || unknown(format!("device {id} on hub {hub}"));
    match method {
        "GET" => instance.hub_device(hub, &id).map(Reply::Json).ok_or_else(unknown),
        "DELETE" => instance.delete_hub_device(hub, &id).then_some(Reply::Nothing).ok_or_else(unknown),
        _ => Err((StatusCode::METHOD_NOT_ALLOWED, format!("a device does not know {method}"))),
    }
}

/// The certificate of an upload, and whether it is verified; both are optional.
fn upload(body: Value) -> Result<(Option<String>, Option<bool>), String> {
    let Value::Object(body) = body else { return Err("the body is a JSON object".to_owned()) };
    if let Some(name) = body.keys().find(|name| !["certificate", "isVerified"].contains(&name.as_str())) {
        return Err(format!("a certificate has no {name}; there are certificate and isVerified"));
    }
    let verified = match body.get("isVerified") {
        None | Some(Value::Null) => None,
        Some(value) => Some(value.as_bool().ok_or("isVerified must be true or false")?),
    };
    Ok((word(&body, "certificate")?.map(str::to_owned), verified))
}

const BAD_LATENCIES: &str =
    r#"latencies is not an array of {"devices": "berlin-*", "regions": {"westeurope": 12}}"#;
const MOST_DEVICES: usize = 1_000;
const ROUTES: [&str; 34] = [
    "/",
    "/health",
    "/info",
    "/ca.pem",
    "/issuing-ca.pem",
    "/journal",
    "/enrollments",
    "/registrations",
    "/hubs",
    "/billing",
    "/counts",
    "/keys/enrollments/{id}",
    "/keys/enrollmentGroups/{id}",
    "/openapi.json",
    "/state",
    "/state/save",
    "/reset",
    "/faults",
    "/pki",
    "/clock",
    "/certificates",
    "/certificates/{name}",
    "/certificate-policies",
    "/certificate-policies/{namespace}/{authority}/{policy}",
    "/revoke",
    "/allocation",
    "/hub-keys/{registrationId}",
    "/hubs/{hostName}/devices",
    "/hubs/{hostName}/devices/{id}",
    "/hubs/{hostName}/devices/{id}/telemetry",
    "/hubs/{hostName}/devices/{id}/desired",
    "/hubs/{hostName}/devices/{id}/methods",
    "/hubs/{hostName}/devices/{id}/messages",
    "/hubs/{hostName}/devices/{id}/disconnect",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_answer_to_an_unknown_path_lists_the_routes_of_the_router() {
        let (_, router) = include_str!("manage.rs").split_once("\nasync fn answer(").unwrap();
        let (router, _) = router.split_once("\n/// The allocation policy and").unwrap();
        let whole: BTreeSet<&str> = router.split('"').filter(|text| text.starts_with('/')).collect();
        let first = |line: &'static str| line.trim().strip_prefix("[\"\", \"")?.split('"').next();
        let with_variables: BTreeSet<&str> = router.lines().filter_map(first).collect();

        let (listed_with_variables, listed): (Vec<&str>, Vec<&str>) =
            ROUTES.into_iter().partition(|route| route.contains('{'));
        assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), whole);
        let firsts = listed_with_variables.into_iter().filter_map(|route| route.split('/').nth(1));
        assert_eq!(firsts.collect::<BTreeSet<_>>(), with_variables);
    }

    #[test]
    fn the_routes_of_the_documentation_are_those_of_the_list() {
        let (_, table) =
            include_str!("../../docs/emulator.md").split_once("| route | answer | library |\n").unwrap();
        let rows = table.lines().take_while(|line| line.starts_with('|'));
        let rows = rows.filter_map(|line| line.strip_prefix("| `"));
        let methods = ["GET ", "PUT ", "PATCH ", "POST ", "DELETE "];
        let path = |row: &'static str| methods.iter().find_map(|method| row.strip_prefix(method));
        let documented: BTreeSet<String> =
            rows.filter_map(path).filter_map(|row| row.split(['`', ' ']).next()).map(shape).collect();

        assert_eq!(documented, ROUTES.into_iter().map(shape).collect());
    }

    /// The route without the names of its variables.
    fn shape(route: &str) -> String {
        let segments = route.split('/').map(|part| if part.starts_with('{') { "{}" } else { part });
        segments.collect::<Vec<_>>().join("/")
    }
}
