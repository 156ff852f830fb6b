//! Our own back end is the custom allocation function: the service calls it, and it chooses the hub.
//!
//! `cargo run --example custom_allocation` runs it on an embedded emulator, which calls the webhook on this
//! machine. An instance cannot: `DPS_CONNECTION_STRING` and `DPS_ID_SCOPE` must not be set. With an instance,
//! the same handler needs a public HTTPS address.
#![allow(clippy::print_stdout)] // A sample prints for a person.

use std::convert::Infallible;
use std::process::ExitCode;

use azure_dps_device::{Credential, DeviceClient};
use azure_dps_examples::{Playground, group_key, play};
use azure_dps_service::core::models::{
    AttestationMechanism, CustomAllocationDefinition, EnrollmentGroup, InitialTwin,
};
use azure_dps_service::core::{Error, ErrorKind, GroupKey, Result};
use azure_dps_service::webhook::{self, AllocationRequest, AllocationResponse, Rejected};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> ExitCode {
    play(include_str!("custom_allocation.rs"), run).await
}

async fn run(playground: &Playground) -> Result<()> {
    if !playground.is_emulator() {
        return Err(Error::new(
            ErrorKind::Config,
            "this sample is its own webhook, which an instance cannot reach; run it without DPS_CONNECTION_STRING and DPS_ID_SCOPE",
        ));
    }
    let unbound = |why| Error::new(ErrorKind::Io, "no port for the webhook").with_source(why);
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(unbound)?;
    let port = listener.local_addr().map_err(unbound)?.port();
    tokio::spawn(serve(listener));

    // The key in the query proves that the service calls. It is masked in the body that the webhook gets.
    let definition = CustomAllocationDefinition::new(format!("http://127.0.0.1:{port}/allocate?code={CODE}"));
    let record = EnrollmentGroup::new("sample-fleet", AttestationMechanism::symmetric_key_generated())
        .with_custom_allocation(definition);
    let created = playground.service().enrollment_groups().create_or_update(&record).await?;
    let key = group_key(&created.attestation)?;

    for (id, model) in [("camera-1", "camera"), ("meter-1", "meter"), ("meter-2", "meter")] {
        let assignment = register(playground, &key, id, model).await?;
        let reported = assignment.payload().map(|payload| payload.to_string()).unwrap_or_default();
        println!("device     {id}: at {}, received {reported}", assignment.hub());
    }
    match register(playground, &key, "toaster-1", "toaster").await {
        Err(error) if error.kind() == ErrorKind::Registration => println!("device     toaster-1: {error}"),
        Ok(_) => return Err(Error::new(ErrorKind::Registration, "a toaster was let in")),
        Err(error) => return Err(error),
    }
    Ok(())
}

async fn register(
    playground: &Playground,
    key: &GroupKey,
    id: &str,
    model: &str,
) -> Result<azure_dps_device::Assignment> {
    let credential = Credential::from_group(key, id.parse()?);
    let device = DeviceClient::new(playground.id_scope(), credential, playground.https());
    let device = device.with_policy(playground.policy());
    device.register().payload(serde_json::json!({ "model": model })).await
}

/// Assigns cameras to the last hub and meters to the first, and refuses all other devices.
async fn choose(request: AllocationRequest) -> std::result::Result<AllocationResponse, Rejected> {
    let model = request.payload().and_then(|payload| payload.get("model")?.as_str()).unwrap_or_default();
    let (hub, interval) = match model {
        "camera" => (request.linked_hubs.last(), 1),
        "meter" => (request.linked_hubs.first(), 60),
        other => return Err(Rejected::new(format!("there is no place for a device of the model {other:?}"))),
    };
    let hub = hub.ok_or_else(|| Rejected::new("no hub is linked"))?;
    println!("webhook    {} is a {model}: {hub}", request.registration_id());
    Ok(AllocationResponse::new(hub)
        .with_initial_twin(InitialTwin::new().with_tags([("model", model)]))
        .with_payload(serde_json::json!({ "interval": interval })))
}

async fn serve(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), hyper::service::service_fn(answer));
        tokio::spawn(connection);
    }
}

async fn answer(request: Request<Incoming>) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    let response = |status: StatusCode, body: Vec<u8>| {
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = status;
        Ok(response)
    };
    if request.uri().query() != Some(&format!("code={CODE}")) {
        return response(StatusCode::UNAUTHORIZED, Vec::new());
    }
    let Ok(body) = Limited::new(request.into_body(), LARGEST_REQUEST).collect().await else {
        return response(StatusCode::BAD_REQUEST, Vec::new());
    };
    let answer = webhook::answer(&body.to_bytes(), choose).await;
    response(StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), answer.body)
}

/// A real key is random and secret.
const CODE: &str = "sample";
const LARGEST_REQUEST: usize = 1024 * 1024;
