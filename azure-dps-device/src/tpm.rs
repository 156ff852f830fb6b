//! The TPM: the trait that implementations fulfil, the implementation with libtss2, and how the client calls
//! them.

use std::sync::Arc;

use azure_dps_core::{Error, ErrorKind, Result};

use self::contract::Tpm;

pub(crate) mod blob;
pub(crate) mod contract;
#[cfg(feature = "tpm")]
pub(crate) mod tss;

/// Runs a TPM call on the blocking pool. Dropping the future does not stop the call, because a TPM cannot be
/// interrupted in the middle of a command.
pub(crate) async fn blocking<T: Send + 'static>(
    tpm: &Arc<dyn Tpm>,
    call: impl FnOnce(&dyn Tpm) -> Result<T> + Send + 'static,
) -> Result<T> {
    let tpm = Arc::clone(tpm);
    match tokio::task::spawn_blocking(move || call(&*tpm)).await {
        Ok(result) => result,
        Err(failure) => Err(Error::new(ErrorKind::Credential, "the TPM call panicked").with_source(failure)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};
    use std::thread::{self, ThreadId};
    use std::time::Duration;

    use super::contract::{Slot, TpmKeys};
    use super::*;

    /// A TPM whose import blocks until the test lets it continue.
    #[derive(Debug)]
    struct Slow {
        go: Mutex<mpsc::Receiver<()>>,
        done: mpsc::Sender<ThreadId>,
    }

    impl Tpm for Slow {
        fn public_keys(&self) -> Result<TpmKeys> {
            Ok(TpmKeys { endorsement_key: vec![], storage_root_key: vec![] })
        }

        fn import(&self, _: &[u8], _: Slot) -> Result<()> {
            self.go.lock().unwrap().recv().unwrap();
            self.done.send(thread::current().id()).unwrap();
            Ok(())
        }

        fn sign(&self, _: Slot, _: &[u8]) -> Result<Vec<u8>> {
            Ok(vec![])
        }
    }

    #[tokio::test]
    async fn an_import_runs_to_its_end_on_another_thread_after_its_future_is_dropped() {
        let ((go, waits), (done, finished)) = (mpsc::channel(), mpsc::channel());
        let tpm: Arc<dyn Tpm> = Arc::new(Slow { go: Mutex::new(waits), done });
        let import = blocking(&tpm, |tpm| tpm.import(&[], Slot::Identity));
        assert!(
            tokio::time::timeout(Duration::from_millis(20), import).await.is_err(),
            "dropped while it runs"
        );
        go.send(()).unwrap();
        let there = finished.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_ne!(there, thread::current().id());
    }
}
