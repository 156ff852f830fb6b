//! A TPM 2.0 in software: one `swtpm` process for one test, on the loopback interface and without keys.

use std::io::{self, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};

#[cfg(feature = "tpm")]
use azure_dps_device::{TssTpm, TssTpmBuilder};

/// A running `swtpm`; dropping it kills the process and removes the state of the TPM.
#[derive(Debug)]
pub struct Swtpm {
    port: u16,
    state: PathBuf,
    process: Child,
}

impl Swtpm {
    /// Starts a blank TPM, or says once that `swtpm` is not installed. Blocks for some 40 ms.
    pub fn start() -> Option<Self> {
        static SKIPPED: Once = Once::new();
        static COUNT: AtomicU32 = AtomicU32::new(0);

        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let state = env::temp_dir().join(format!("swtpm-{}-{number}", std::process::id()));
        // What an earlier process with the same id may have left.
        let _ = fs::remove_dir_all(&state);
        fs::create_dir_all(&state).unwrap();
        match launch(&state, free_pair) {
            Ok((port, process)) => Some(Self { port, state, process }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let _ = fs::remove_dir_all(&state);
                // Written past the capture of the test harness, which hides what a passing test prints.
                SKIPPED.call_once(|| {
                    let _ = writeln!(
                        io::stderr(),
                        "tpm: skipped, swtpm is not installed (apt-get install swtpm)"
                    );
                });
                None
            }
            Err(error) => panic!("swtpm cannot be started: {error}"),
        }
    }

    /// The port that takes TPM commands: raw, without a header, one connection for each. The next port has the control
    /// channel, where libtss2 looks for it.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address as libtss2 writes it.
    pub fn tcti(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port)
    }

    /// Switches the TPM off and on: what is persistent stays, and so do the ports.
    pub fn power_cycle(&mut self) {
        self.stop();
        let port = self.port;
        (_, self.process) = launch(&self.state, || port).unwrap();
    }

    fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        self.stop();
        let _ = fs::remove_dir_all(&self.state);
    }
}

/// A TPM for a test that is there only with one.
#[cfg(feature = "tpm")]
pub fn swtpm() -> Swtpm {
    Swtpm::start().expect("swtpm is installed; the feature `tpm` asks for it")
}

/// The device's way to it.
#[cfg(feature = "tpm")]
pub fn builder(tpm: &Swtpm) -> TssTpmBuilder {
    TssTpm::builder().tcti(tpm.tcti())
}

#[cfg(feature = "tpm")]
pub fn open(tpm: &Swtpm) -> TssTpm {
    builder(tpm).open().unwrap()
}

/// Starts the process on two ports and waits until it listens on both.
fn launch(state: &Path, port: impl Fn() -> u16) -> io::Result<(u16, Child)> {
    let deadline = Instant::now() + DEADLINE;
    let pid_file = state.join("pid");
    loop {
        let _ = fs::remove_file(&pid_file);
        let port = port();
        let mut process = Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .args(["--tpmstate", &format!("dir={}", state.display())])
            .args(["--server", &format!("type=tcp,port={port},bindaddr=127.0.0.1,disconnect")])
            .args(["--ctrl", &format!("type=tcp,port={},bindaddr=127.0.0.1", port + 1)])
            .args(["--pid", &format!("file={}", pid_file.display())])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        // It opens its ports first and writes the file then. If another process was faster at a port, it ends.
        while process.try_wait()?.is_none() {
            if fs::metadata(&pid_file).is_ok_and(|file| file.len() > 0) {
                return Ok((port, process));
            }
            thread::sleep(Duration::from_millis(2));
        }
        if Instant::now() > deadline {
            return Err(io::Error::other("it ends at once; see what `swtpm socket --tpm2` says"));
        }
    }
}

/// The first of two neighbouring ports that are free at this moment.
fn free_pair() -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
}

const DEADLINE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn each_tpm_answers_after_its_start_and_after_a_power_cycle() {
        let (Some(mut one), Some(other)) = (Swtpm::start(), Swtpm::start()) else { return };

        assert_ne!(one.port(), other.port());
        assert_eq!((self_test(&one), self_test(&other)), (SUCCESS, SUCCESS));

        one.power_cycle();

        assert_eq!(self_test(&one), SUCCESS);
        assert_eq!(one.tcti(), format!("swtpm:host=127.0.0.1,port={}", one.port()));
    }

    #[test]
    fn nothing_is_left_of_a_tpm_that_was_dropped() {
        let is_gone = || {
            let Some(tpm) = Swtpm::start() else { return true };
            let (port, state) = (tpm.port(), tpm.state.clone());

            drop(tpm);

            assert!(!state.exists());
            TcpStream::connect(("127.0.0.1", port)).is_err()
        };
        // Another process may take a port at once, but not three times.
        assert!((0..3).any(|_| is_gone()));
    }

    /// The answer to TPM2_SelfTest.
    fn self_test(tpm: &Swtpm) -> [u8; 10] {
        let mut stream = TcpStream::connect(("127.0.0.1", tpm.port())).unwrap();
        stream.write_all(b"\x80\x01\0\0\0\x0b\0\0\x01\x43\x01").unwrap();
        let mut answer = [0; 10];
        stream.read_exact(&mut answer).unwrap();
        answer
    }

    const SUCCESS: [u8; 10] = *b"\x80\x01\0\0\0\x0a\0\0\0\0";
}
