//! One measured process: reads a job from its argument, does it, and prints how much of it succeeded.
#![allow(clippy::print_stdout)] // It reports to the benchmarks.

mod bare;
mod job;

use std::error::Error;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use azure_dps_core::models::{AttestationMechanism, BulkMode, IndividualEnrollment};
use azure_dps_core::{ConnectionString, Endpoint, GroupKey, Identity, RegistrationId};
use azure_dps_device::transport::Transport as Way;
use azure_dps_device::{Amqp, Credential, DeviceClient, Https, Mqtt, RegistrationPolicy};
use azure_dps_service::ServiceClient;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::job::{Job, Transport, Work};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Outcome<()> {
    let job: Job = serde_json::from_str(&std::env::args().nth(1).ok_or("the argument is a job in JSON")?)?;
    let mut builder = match job.current_thread {
        true => tokio::runtime::Builder::new_current_thread(),
        false => tokio::runtime::Builder::new_multi_thread(),
    };
    let done = builder.enable_all().build()?.block_on(run(&job))?;
    println!("{done}");
    Ok(())
}

async fn run(job: &Job) -> Outcome<usize> {
    match job.work {
        Work::Nothing => Ok(0),
        Work::Register(transport) => register(job, transport).await,
        Work::BareHttps => bare::https(job).await,
        Work::BareMqtt => bare::mqtt(job).await,
        Work::Create => create(job).await,
        Work::Bulk => bulk(job).await,
        Work::List => list(job).await,
    }
}

fn endpoint(job: &Job, port: u16) -> Outcome<Endpoint> {
    let pem = fs::read(&job.ca)?;
    let endpoint = Endpoint::new("localhost")?.with_port(port).without_proxy();
    Ok(if job.platform_roots { endpoint.trust_also(pem)? } else { endpoint.trust_only(pem)? })
}

async fn register(job: &Job, transport: Transport) -> Outcome<usize> {
    let way: Arc<dyn Way> = match transport {
        Transport::Https => Arc::new(Https::new(endpoint(job, job.ports.https)?)),
        Transport::Mqtt => Arc::new(Mqtt::new(endpoint(job, job.ports.mqtt)?)),
        Transport::MqttWs => Arc::new(Mqtt::new(endpoint(job, job.ports.https)?).with_websocket()),
        Transport::Amqp => Arc::new(Amqp::new(endpoint(job, job.ports.amqp)?)),
        Transport::AmqpWs => Arc::new(Amqp::new(endpoint(job, job.ports.https)?).with_websocket()),
    };
    let policy = RegistrationPolicy::default()
        .with_poll_interval(Duration::ZERO)
        .with_min_poll_interval(Duration::ZERO);
    let credentials = credentials(job)?;
    let devices = credentials.map(|credential| {
        let way = Arc::clone(&way);
        async move {
            let device = DeviceClient::new(job.id_scope.parse()?, credential?, way).with_policy(policy);
            match job.spawned {
                true => tokio::spawn(async move { device.register().await }).await??,
                false => device.register().await?,
            };
            Outcome::Ok(())
        }
    });
    let registered: Vec<()> =
        stream::iter(devices).buffer_unordered(usize::try_from(job.width)?).try_collect().await?;
    Ok(registered.len())
}

/// A new device of the group each time, or the same certificate each time.
fn credentials(job: &Job) -> Outcome<impl Iterator<Item = Outcome<Credential>>> {
    let group: GroupKey = job.group_key.parse()?;
    let identity = match &job.identity {
        Some((chain, key)) => Some(Identity::from_pem_files(chain, key)?),
        None => None,
    };
    let prefix = job.registration_prefix.clone();
    Ok((0..job.count).map(move |number| {
        if let Some(identity) = &identity {
            return Ok(Credential::x509(identity.clone())?);
        }
        let id: RegistrationId = format!("{prefix}-{number}").parse()?;
        Ok(Credential::from_group(&group, id))
    }))
}

fn service(job: &Job) -> Outcome<ServiceClient> {
    let connection: ConnectionString = job.connection_string.parse()?;
    Ok(ServiceClient::builder(endpoint(job, job.ports.https)?, (&connection).into()).build()?)
}

fn enrollments(job: &Job) -> impl Iterator<Item = IndividualEnrollment> {
    let prefix = job.registration_prefix.clone();
    let attestation = AttestationMechanism::symmetric_key_generated;
    (0..job.count).map(move |number| IndividualEnrollment::new(format!("{prefix}-{number}"), attestation()))
}

async fn create(job: &Job) -> Outcome<usize> {
    let collection = service(job)?.enrollments();
    let created = stream::iter(enrollments(job))
        .map(|enrollment| {
            let collection = collection.clone();
            async move { collection.create_or_update(&enrollment).await }
        })
        .buffer_unordered(usize::try_from(job.width)?);
    Ok(created.try_collect::<Vec<_>>().await?.len())
}

async fn bulk(job: &Job) -> Outcome<usize> {
    let collection = service(job)?.enrollments();
    let all: Vec<IndividualEnrollment> = enrollments(job).collect();
    for ten in all.chunks(10) {
        if !collection.run_bulk_operation(BulkMode::Create, ten).await?.is_successful {
            return Err("an item failed".into());
        }
    }
    Ok(all.len())
}

async fn list(job: &Job) -> Outcome<usize> {
    let listed: Vec<IndividualEnrollment> = service(job)?.enrollments().list().try_collect().await?;
    Ok(listed.len())
}
