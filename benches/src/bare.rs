//! The exchanges of a registration written by hand on TLS: the least that the protocol costs.
#![allow(clippy::indexing_slicing)] // A JSON value returns null for a member that it does not have.

use std::fs;
use std::sync::Arc;

use azure_dps_core::rustls::{ClientConfig, RootCertStore};
use azure_dps_core::{GroupKey, RegistrationId, UnsignedSas};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use time::{Duration, OffsetDateTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::Outcome;
use crate::job::Job;

/// Registers on one connection that is kept.
pub(crate) async fn https(job: &Job) -> Outcome<usize> {
    let mut stream = connect(&connector(job)?, job.ports.https).await?;
    for number in 0..job.count {
        let (id, token) = device(job, number)?;
        let base = format!("/{}/registrations/{id}", job.id_scope);
        let ask = |method: &str, path: String, body: &str| {
            format!(
                "{method} {path}?api-version=2021-10-01 HTTP/1.1\r\nhost: localhost\r\nauthorization: {token}\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        let register = ask("PUT", format!("{base}/register"), &format!("{{\"registrationId\":\"{id}\"}}"));
        let answer = exchange(&mut stream, &register).await?;
        let operation = answer["operationId"].as_str().ok_or("no operation")?.to_owned();
        let poll = ask("GET", format!("{base}/operations/{operation}"), "");
        if exchange(&mut stream, &poll).await?["status"] != "assigned" {
            return Err("not assigned".into());
        }
    }
    Ok(usize::try_from(job.count)?)
}

async fn exchange(stream: &mut TlsStream<TcpStream>, request: &str) -> Outcome<Value> {
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::with_capacity(2048);
    loop {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err("the connection ended".into());
        }
        // The emulator sends chunks; the last one is empty.
        if answer.ends_with(b"\r\n0\r\n\r\n") {
            break;
        }
    }
    let text = String::from_utf8(answer)?;
    let begin = text.find('{').ok_or("no JSON")?;
    let end = text.rfind('}').ok_or("no JSON")?;
    Ok(serde_json::from_str(text.get(begin..=end).ok_or("no JSON")?)?)
}

/// Registers on a connection for each device, as MQTT needs it.
pub(crate) async fn mqtt(job: &Job) -> Outcome<usize> {
    let connector = connector(job)?;
    for number in 0..job.count {
        let (id, token) = device(job, number)?;
        let mut stream = connect(&connector, job.ports.mqtt).await?;
        let user = format!("{}/registrations/{id}/api-version=2021-10-01", job.id_scope);
        let mut connect = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 0xc2, 0, 60];
        for field in [id.as_str(), &user, &token] {
            text(&mut connect, field)?;
        }
        send(&mut stream, 0x10, &connect).await?;
        receive(&mut stream).await?;
        let mut subscribe = vec![0, 1];
        text(&mut subscribe, "$dps/registrations/res/#")?;
        subscribe.push(1);
        send(&mut stream, 0x82, &subscribe).await?;
        receive(&mut stream).await?;
        let topic = "$dps/registrations/PUT/iotdps-register/?$rid=1";
        let answer = publish(&mut stream, topic, &format!("{{\"registrationId\":\"{id}\"}}")).await?;
        let operation = answer["operationId"].as_str().ok_or("no operation")?.to_owned();
        let topic =
            format!("$dps/registrations/GET/iotdps-get-operationstatus/?$rid=2&operationId={operation}");
        if publish(&mut stream, &topic, "").await?["status"] != "assigned" {
            return Err("not assigned".into());
        }
        send(&mut stream, 0xe0, &[]).await?;
    }
    Ok(usize::try_from(job.count)?)
}

/// Publishes with QoS 0 and returns the reply.
async fn publish(stream: &mut TlsStream<TcpStream>, topic: &str, payload: &str) -> Outcome<Value> {
    let mut packet = Vec::new();
    text(&mut packet, topic)?;
    packet.extend(payload.as_bytes());
    send(stream, 0x30, &packet).await?;
    let reply = receive(stream).await?;
    let begin = reply.iter().position(|byte| *byte == b'{').ok_or("no JSON")?;
    let length = reply.first_chunk::<2>().ok_or("no topic")?;
    let behind = 2 + usize::from(u16::from_be_bytes(*length));
    let packet_id = reply.get(behind..behind + 2).ok_or("no packet id")?.to_owned();
    send(stream, 0x40, &packet_id).await?;
    Ok(serde_json::from_slice(reply.get(begin..).ok_or("no JSON")?)?)
}

fn text(packet: &mut Vec<u8>, text: &str) -> Outcome<()> {
    packet.extend(u16::try_from(text.len())?.to_be_bytes());
    packet.extend(text.as_bytes());
    Ok(())
}

async fn send(stream: &mut TlsStream<TcpStream>, kind: u8, body: &[u8]) -> Outcome<()> {
    let mut packet = vec![kind];
    let mut length = body.len();
    loop {
        let byte = u8::try_from(length % 128)?;
        length /= 128;
        packet.push(if length > 0 { byte | 0x80 } else { byte });
        if length == 0 {
            break;
        }
    }
    packet.extend(body);
    stream.write_all(&packet).await?;
    Ok(())
}

/// The next packet without its fixed header.
async fn receive(stream: &mut TlsStream<TcpStream>) -> Outcome<Vec<u8>> {
    stream.read_u8().await?;
    let (mut length, mut shift) = (0, 0);
    loop {
        let byte = stream.read_u8().await?;
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

fn device(job: &Job, number: u32) -> Outcome<(String, String)> {
    let group: GroupKey = job.group_key.parse()?;
    let id: RegistrationId = format!("{}-{number}", job.registration_prefix).parse()?;
    let expires = OffsetDateTime::now_utc() + Duration::hours(1);
    let token = UnsignedSas::for_registration(&job.id_scope.parse()?, &id, expires).sign(&group.derive(&id));
    Ok((id.to_string(), token.expose().to_owned()))
}

fn connector(job: &Job) -> Outcome<TlsConnector> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(&fs::read(&job.ca)?) {
        roots.add(root?)?;
    }
    let provider = Arc::new(azure_dps_core::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn connect(connector: &TlsConnector, port: u16) -> Outcome<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    Ok(connector.connect(ServerName::try_from("localhost")?, stream).await?)
}
