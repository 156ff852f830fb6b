//! The HTTPS transport through a proxy.

use std::sync::{Arc, Mutex};

use azure_dps_core::{Endpoint, ErrorKind, Proxy};
use azure_dps_device::Https;
use azure_dps_tests::registration::credential;
use azure_dps_tests::{CLOSED_PORT, HUNG, Peer, RawPeer, device, header};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::https::assigned;

#[tokio::test]
async fn a_proxy_is_asked_to_connect_with_the_login() {
    let (seen, peer) = (Arc::new(Mutex::new(String::new())), Peer::start([assigned()]).await);
    let (port, asked) = (peer.port, Arc::clone(&seen));
    let proxy = RawPeer::start(move |mut stream| {
        let asked = Arc::clone(&asked);
        async move {
            let mut bytes = vec![0; 4096];
            let length = stream.read(&mut bytes).await.unwrap();
            *asked.lock().unwrap() = String::from_utf8_lossy(&bytes[..length]).into_owned();
            stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
            let mut target = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut target).await;
        }
    })
    .await;
    let url = format!("http://us%40er:pass@127.0.0.1:{}", proxy.port);
    let endpoint = peer.endpoint().with_proxy(Proxy::new(&url).unwrap());
    device("0ne00ABCDEF", credential(), Https::new(endpoint)).register().await.unwrap();

    let asked = seen.lock().unwrap().clone();
    assert!(asked.starts_with(&format!("CONNECT localhost:{port} HTTP/1.1\r\n")), "{asked}");
    assert_eq!(header(&asked, "proxy-authorization"), Some("Basic dXNAZXI6cGFzcw=="));
}

#[tokio::test]
async fn a_proxy_that_refuses_the_login_is_named_and_its_password_is_not_shown() {
    let proxy = RawPeer::start(|mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream
            .write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            .await;
    })
    .await;
    let url = format!("http://user:hunter2@127.0.0.1:{}", proxy.port);
    let endpoint = Endpoint::new("localhost").unwrap().with_proxy(Proxy::new(&url).unwrap());
    let error = device("0ne00ABCDEF", credential(), Https::new(endpoint)).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Proxy, "{error:?}");
    assert!(!format!("{error:?} {error:#?}").contains("hunter2"));
}

/// The environment of a process cannot be changed safely while its threads run, so this test runs another one
/// again.
#[tokio::test]
async fn loopback_never_goes_through_a_proxy_of_the_environment() {
    let port = CLOSED_PORT;
    let run = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "https::a_registration_is_a_put_and_a_poll_is_a_get_on_one_connection"])
        .env("HTTPS_PROXY", format!("http://127.0.0.1:{port}"))
        .env("ALL_PROXY", format!("http://127.0.0.1:{port}"))
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(HUNG, run).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
