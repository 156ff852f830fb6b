//! Whom the connections of a client and its clones trust and as whom they authenticate.

use std::sync::Arc;

use rustls::ClientConfig;
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;

use super::connections::Connections;
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;

pub(super) struct Trust {
    /// Empty until the platform's trust store is read.
    tls: OnceCell<Arc<ClientConfig>>,
    connections: Arc<Connections>,
}

impl Trust {
    /// Without `tls`, the first connection makes the configuration without an identity.
    pub(super) fn new(tls: Option<Arc<ClientConfig>>, connections: &Arc<Connections>) -> Self {
        Trust { tls: OnceCell::new_with(tls), connections: Arc::clone(connections) }
    }

    /// The same trust, for other connections.
    pub(super) fn with(&self, connections: &Arc<Connections>) -> Self {
        Trust::new(self.tls.get().cloned(), connections)
    }

    /// The TLS configuration. The first call may read the platform's trust store, on a thread that may block.
    ///
    /// # Errors
    /// [`ErrorKind::Tls`] when the platform has no usable trust store.
    pub(super) async fn tls(&self) -> Result<&Arc<ClientConfig>> {
        let make = || async {
            let endpoint = self.connections.endpoint().clone();
            let made = spawn_blocking(move || endpoint.client_config()).await;
            made.unwrap_or_else(|why| {
                Err(Error::new(ErrorKind::Tls, "the platform's trust store could not be read")
                    .with_source(why))
            })
        };
        self.tls.get_or_try_init(make).await
    }
}

impl Drop for Trust {
    fn drop(&mut self) {
        if let Some(tls) = self.tls.get() {
            self.connections.close(tls);
        }
    }
}

#[cfg(all(test, unix, not(target_os = "android"), not(target_vendor = "apple")))]
mod tests {
    use std::env;
    use std::net::TcpListener;
    use std::process::Command;

    use tokio::runtime;

    use crate::endpoint::Endpoint;
    use crate::http::{HttpClient, HttpMethod, HttpRequest};

    const CHILD: &str = "CHILD_OF_THE_TEST";

    fn request() -> HttpRequest {
        HttpRequest { method: HttpMethod::Get, target: "/".to_owned(), headers: Vec::new(), body: None }
    }

    /// Runs in a process of its own, because a process reads the trust store once.
    #[test]
    fn child() {
        if env::var_os(CHILD).is_none() {
            return;
        }
        // A port that refuses connections, because its listener is gone.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let endpoint = Endpoint::new("127.0.0.1").unwrap().with_port(port);
        let client = HttpClient::new(&endpoint).unwrap();
        println!("after new, to be read: {}", endpoint.reads_trust_store());
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for _ in 0..2 {
            let error = runtime.block_on(client.send(request())).err().unwrap();
            println!("{:?}, to be read: {}", error.kind(), endpoint.reads_trust_store());
        }
    }

    #[test]
    fn the_trust_store_is_read_when_the_first_request_is_sent() {
        let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/x509");
        for (file, wanted) in [
            (format!("{vectors}/root.pem"), ["Connect, to be read: false"; 2]),
            // What is missing is looked for again.
            ("/nowhere.pem".to_owned(), ["Tls, to be read: true"; 2]),
        ] {
            let mut command = Command::new(env::current_exe().unwrap());
            command.args(["--exact", "http::trust::tests::child", "--nocapture"]).env(CHILD, "1");
            command.env("SSL_CERT_FILE", &file).env_remove("SSL_CERT_DIR").env("NO_PROXY", "*");
            let output = String::from_utf8(command.output().unwrap().stdout).unwrap();
            let [first, second] = wanted;
            let said = format!("after new, to be read: true\n{first}\n{second}\n");
            assert!(output.contains(&said), "{file}: {output}");
        }
    }
}
