//! Asks a running emulator whether it is healthy, for the health check of a container.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Asks the emulator with this `--manage-host` and `--manage-port`. Returns its address.
///
/// # Errors
/// Why it is not healthy, in one line.
pub(crate) async fn check(host: IpAddr, port: u16, limit: Duration) -> Result<String, String> {
    if port == 0 {
        return Err("health needs the management port of the emulator, which is any free port by default: \
                    set --manage-port or DPS_EMULATOR_MANAGE_PORT for both"
            .to_owned());
    }
    let address = SocketAddr::from((reachable(host), port));
    let url = format!("http://{address}/health");
    match timeout(limit, ask(address)).await {
        Ok(Ok(())) => Ok(url),
        Ok(Err(why)) => Err(format!("not healthy: {url}: {why}")),
        Err(_) => Err(format!("not healthy: {url}: no answer within {} s", limit.as_secs_f64())),
    }
}

async fn ask(address: SocketAddr) -> Result<(), String> {
    let text = |error: &dyn std::error::Error| crate::explain::with_sources(error);
    let stream = TcpStream::connect(address).await.map_err(|error| text(&error))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| text(&error))?;
    let request = Request::get("/health").header(HOST, address.to_string()).body(Empty::<Bytes>::new());
    let request = request.map_err(|error| text(&error))?;
    let answered = async {
        let answer = sender.send_request(request).await.map_err(|error| text(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LONGEST_BODY).collect().await;
        match body.map(|body| body.to_bytes()) {
            Ok(body) if status == StatusCode::OK && body == HEALTHY.as_bytes() => Ok(()),
            _ => Err(format!("the answer is {status} and not that of a healthy emulator")),
        }
    };
    tokio::pin!(connection);
    tokio::select! {
        answered = answered => answered,
        Err(error) = &mut connection => Err(text(&error)),
    }
}

/// The address at which a listener on this address can be reached from the same machine.
fn reachable(host: IpAddr) -> IpAddr {
    match host {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        host => host,
    }
}

const HEALTHY: &str = r#"{"status":"ok"}"#;
const LONGEST_BODY: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use azure_dps_emulator::Emulator;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn an_emulator_on_any_address_is_healthy_with_a_token_and_without() {
        for (host, token) in
            [("127.0.0.1", None), ("127.0.0.1", Some(())), ("0.0.0.0", Some(())), ("::1", None)]
        {
            let host: IpAddr = host.parse().unwrap();
            let builder = Emulator::builder().manage_host(host).manage_port(0);
            let builder =
                token.iter().fold(builder, |builder, ()| builder.manage_token("correct-horse-battery"));
            let emulator = builder.start().await.unwrap();
            let port = emulator.manage_port().unwrap();
            let wanted = SocketAddr::from((reachable(host), port));
            assert_eq!(check(host, port, LIMIT).await, Ok(format!("http://{wanted}/health")));
        }
    }

    #[tokio::test]
    async fn anything_else_is_not_healthy_for_a_stated_reason() {
        let host = IpAddr::from(Ipv4Addr::LOCALHOST);
        let unknown = check(host, 0, LIMIT).await.unwrap_err();
        assert!(unknown.contains("set --manage-port or DPS_EMULATOR_MANAGE_PORT"), "{unknown}");
        let silent = TcpListener::bind((host, 0)).await.unwrap();
        let port = silent.local_addr().unwrap().port();
        let late = check(host, port, Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(late, format!("not healthy: http://127.0.0.1:{port}/health: no answer within 0.05 s"));
        drop(silent);
        let gone = check(host, port, LIMIT).await.unwrap_err();
        assert!(gone.to_lowercase().contains("refused"), "{gone}");
        for (answer, wanted) in [
            ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "the answer is 404 Not Found and not"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "the answer is 200 OK and not"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", "the answer is 200 OK and not"),
            ("SSH-2.0-OpenSSH_9.2\r\n", "invalid HTTP version parsed"),
            ("", "connection"),
        ] {
            let other = TcpListener::bind((host, 0)).await.unwrap();
            let port = other.local_addr().unwrap().port();
            let speaks = async {
                let (mut stream, _) = other.accept().await.unwrap();
                let _read = stream.read(&mut [0; 1024]).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            };
            let (why, ()) = tokio::join!(check(host, port, LIMIT), speaks);
            let why = why.unwrap_err();
            assert!(why.contains(wanted), "{answer}: {why}");
        }
    }
}
