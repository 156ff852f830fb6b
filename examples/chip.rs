//! The TPM of a sample: the one that `DPS_TPM` names, or a software TPM that is started for it.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use azure_dps_device::TssTpm;
use azure_dps_service::core::{Error, ErrorKind, Result};

use crate::variable;

/// Opens the TPM of a sample. Keep the second value: dropping it stops the software TPM.
pub fn chip() -> Result<(TssTpm, Option<Simulator>)> {
    match variable("DPS_TPM") {
        Some(tcti) => Ok((open(&tcti)?, None)),
        None => {
            let simulator = Simulator::start()?;
            Ok((simulator.open()?, Some(simulator)))
        }
    }
}

fn open(tcti: &str) -> Result<TssTpm> {
    TssTpm::builder().tcti(tcti).identity_key(IDENTITY_KEY).open()
}

/// A software TPM, which ends and is deleted on drop. A real device has a TPM in hardware.
#[derive(Debug)]
pub struct Simulator {
    process: Child,
    state: PathBuf,
    port: u16,
}

impl Simulator {
    fn start() -> Result<Self> {
        let failed = |why| Error::new(ErrorKind::Credential, "swtpm does not start").with_source(why);
        let state = std::env::temp_dir().join(format!("azure-dps-sample-tpm-{}", std::process::id()));
        std::fs::create_dir_all(&state).map_err(failed)?;
        let port = free_ports().map_err(failed)?;
        let started = Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .args(["--tpmstate", &format!("dir={}", state.display())])
            .args(["--server", &format!("type=tcp,port={port},bindaddr=127.0.0.1,disconnect")])
            .args(["--ctrl", &format!("type=tcp,port={},bindaddr=127.0.0.1", port + 1)])
            .stdin(Stdio::null())
            .spawn();
        let process = started.map_err(|why| {
            let _ = std::fs::remove_dir(&state);
            let what = "there is no TPM: set DPS_TPM, or install swtpm (`apt-get install swtpm`)";
            Error::new(ErrorKind::Credential, what).with_source(why)
        })?;
        println!("simulator  swtpm, for this sample only");
        Ok(Self { process, state, port })
    }

    /// Opens the TPM as soon as it answers.
    fn open(&self) -> Result<TssTpm> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect(("127.0.0.1", self.port + 1)).is_err() && Instant::now() < deadline
        {
            thread::sleep(Duration::from_millis(10));
        }
        open(&format!("swtpm:host=127.0.0.1,port={}", self.port))
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.state);
    }
}

/// The first of two neighbouring unused ports: libtss2 uses the second one too.
fn free_ports() -> std::io::Result<u16> {
    loop {
        let first = TcpListener::bind("127.0.0.1:0")?;
        let port = first.local_addr()?.port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return Ok(port);
        }
    }
}

/// Not the usual handle, so that the device keeps its identity.
const IDENTITY_KEY: u32 = 0x8100_0101;
