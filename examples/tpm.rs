//! A device with a TPM: enroll it by its endorsement key, register it, and have its TPM sign the token for
//! its hub.
//!
//! `cargo run --features tpm --example tpm` runs it on an embedded emulator, with a TPM in software that it
//! starts (`swtpm` has to be installed). `DPS_TPM` names another one as libtss2 does, for example
//! `device:/dev/tpmrm0`; this sample keeps its identity key apart from that of the device. With
//! `DPS_CONNECTION_STRING` and `DPS_ID_SCOPE` set it runs against that instance and deletes there what it
//! made, also after an error.
#![allow(clippy::print_stdout)] // A sample prints for a person.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use azure_dps_device::{Credential, DeviceClient, HubAccess, Tpm as _, TssTpm};
use azure_dps_examples::{Made, Playground, mark, play, variable};
use azure_dps_service::core::models::{AttestationMechanism, IndividualEnrollment};
use azure_dps_service::core::{Error, ErrorKind, Result};

#[tokio::main]
async fn main() -> ExitCode {
    play(include_str!("tpm.rs"), run).await
}

async fn run(playground: &Playground) -> Result<()> {
    // Held because dropping it stops it.
    let (tpm, _simulator) = match variable("DPS_TPM") {
        Some(tcti) => (open(&tcti)?, None),
        None => {
            let simulator = Simulator::start()?;
            (simulator.open()?, Some(simulator))
        }
    };
    enroll_and_register(playground, &format!("sample-{}", mark()), tpm).await
}

async fn enroll_and_register(playground: &Playground, id: &str, tpm: TssTpm) -> Result<()> {
    // The manufacturer of the chip, or the owner of the device, reads this key and gives it to the back end.
    let attestation = AttestationMechanism::tpm(tpm.public_keys()?.endorsement_key_base64());
    let enrollment = IndividualEnrollment::new(id, attestation);
    let created = playground.service().enrollments().create_or_update(&enrollment).await;
    playground.made([Made::Enrollment(id.to_owned())], created)?;
    println!("enrolled   {id} by its endorsement key");

    let credential = Credential::tpm(id.parse()?, Arc::new(tpm));
    let device = DeviceClient::new(playground.id_scope(), credential, playground.https());
    let device = device.with_policy(playground.policy());
    playground.registers(id);
    let assignment = device.register().await?;
    println!("registered {} at {}", assignment.device_id(), assignment.hub());

    // From here on, also after a restart of the program, the TPM holds the key that the hub knows.
    let access = HubAccess::new(device.credential().clone(), &assignment)?;
    let sign_in = access.sign_in(HOUR, SystemTime::now().into())?;
    if let Some(expires) = sign_in.expires() {
        println!("signed     a password for the hub in the TPM, good until {expires}");
    }
    Ok(())
}

fn open(tcti: &str) -> Result<TssTpm> {
    TssTpm::builder().tcti(tcti).identity_key(IDENTITY_KEY).open()
}

/// A software TPM, which ends and is deleted on drop. A real device has a TPM in hardware.
struct Simulator {
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
        let deadline = Instant::now() + Duration::from_secs(5);
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

const HOUR: Duration = Duration::from_secs(3600);
/// Not the usual handle, so that the device keeps its identity.
const IDENTITY_KEY: u32 = 0x8100_0101;
