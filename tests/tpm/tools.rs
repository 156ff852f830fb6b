//! tpm2-tools as the other side: it makes blobs as the service does and looks into a TPM.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use azure_dps_device::core::{ErrorKind, Result};
use azure_dps_device::{ActivationBlob, Tpm as _, TpmKeys, TssTpm};
use azure_dps_tests::swtpm::{Swtpm, swtpm};
use sha2::{Digest as _, Sha256};

/// The tools on one TPM, in a folder of their own.
#[derive(Debug)]
pub(crate) struct Tools {
    tcti: String,
    folder: PathBuf,
}

impl Tools {
    pub(crate) fn on(tpm: &Swtpm) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("tpm2-tools-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self { tcti: tpm.tcti(), folder }
    }

    /// Runs a tool and gives what it prints.
    pub(crate) fn run(&self, line: &str) -> String {
        self.attempt(line).unwrap_or_else(|errors| panic!("`{line}` failed: {errors}"))
    }

    pub(crate) fn attempt(&self, line: &str) -> Result<String, String> {
        let printed = self.leave(line);
        // No resource manager is in between, and tools leave behind what they load.
        self.leave("tpm2_flushcontext --transient-object").and(printed)
    }

    /// Runs a tool without tidying up behind it.
    pub(crate) fn leave(&self, line: &str) -> Result<String, String> {
        let mut words = line.split_whitespace();
        let output = Command::new(words.next().unwrap())
            .args(words)
            .current_dir(&self.folder)
            .env("TPM2TOOLS_TCTI", &self.tcti)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout).unwrap()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    pub(crate) fn read(&self, file: &str) -> Vec<u8> {
        fs::read(self.folder.join(file)).unwrap()
    }

    pub(crate) fn write(&self, file: &str, bytes: &[u8]) {
        fs::write(self.folder.join(file), bytes).unwrap();
    }

    /// How many transient objects, loaded sessions and persistent keys the TPM holds.
    pub(crate) fn held(&self) -> [usize; 3] {
        ["transient", "loaded-session", "persistent"]
            .map(|what| self.run(&format!("tpm2_getcap handles-{what}")).lines().count())
    }

    /// Makes a key in this TPM and wraps it for another one, as the service wraps the keys that it makes.
    pub(crate) fn wrap_for(&self, keys: &TpmKeys, algorithm: &str, attributes: &str) -> Vec<u8> {
        const INNER_KEY: &[u8] = b"sixteen byte key";
        const DUPLICATE: &str = "TPM2_CC_Duplicate";
        self.write("ek", &keys.endorsement_key);
        self.write("srk", &keys.storage_root_key);
        self.write("inner", INNER_KEY);
        self.run("tpm2_createprimary -C o -c primary");
        self.run("tpm2_startauthsession -S session");
        self.run(&format!("tpm2_policycommandcode -S session -L policy {DUPLICATE}"));
        self.run("tpm2_flushcontext session");
        self.run(&format!(
            "tpm2_create -C primary -G {algorithm} -L policy -a {attributes} -u public -r private -c key"
        ));
        self.run("tpm2_loadexternal -C o -u srk -c parent");
        self.run("tpm2_startauthsession --policy-session -S session");
        self.run(&format!("tpm2_policycommandcode -S session {DUPLICATE}"));
        self.run("tpm2_duplicate -C parent -c key -G aes -i inner -p session:session -r duplicate -s seed");
        self.run("tpm2_flushcontext session");
        let name = Sha256::digest(&keys.storage_root_key[2..]);
        let name: String = [0, 0x0b].iter().chain(name.iter()).map(|byte| format!("{byte:02x}")).collect();
        self.run(&format!("tpm2_makecredential -T none -u ek -s inner -n {name} -o credential"));
        let credential = self.read("credential");
        let credential = credential.strip_prefix(b"\xba\xdc\xc0\xde\0\0\0\x01").unwrap();
        let fields = [credential, &self.read("duplicate"), &self.read("seed"), &self.read("public"), &[0, 0]];
        fields.concat()
    }

    /// What the key that was wrapped last makes of a message.
    pub(crate) fn hmac(&self, message: &[u8]) -> Vec<u8> {
        self.hmac_with("key", message)
    }

    pub(crate) fn hmac_with(&self, key: &str, message: &[u8]) -> Vec<u8> {
        self.write("message", message);
        self.run(&format!("tpm2_hmac -c {key} -o hmac message"));
        self.read("hmac")
    }
}

impl Drop for Tools {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A blob for this TPM, and what the key in it makes of [`MESSAGE`].
pub(crate) fn wrapped_for(tpm: &TssTpm) -> (Vec<u8>, Vec<u8>) {
    wrapped_with(tpm, ATTRIBUTES)
}

pub(crate) fn wrapped_with(tpm: &TssTpm, attributes: &str) -> (Vec<u8>, Vec<u8>) {
    let maker = swtpm();
    let maker = Tools::on(&maker);
    let blob = maker.wrap_for(&tpm.public_keys().unwrap(), "hmac", attributes);
    (blob, maker.hmac(MESSAGE))
}

/// The credential of one blob with the key of another.
pub(crate) fn crossed(credential: &[u8], key: &[u8]) -> Vec<u8> {
    let (one, other) = (ActivationBlob::parse(credential).unwrap(), ActivationBlob::parse(key).unwrap());
    [one.credential, one.credential_secret, other.duplicate, other.duplicate_secret, other.public]
        .into_iter()
        .flat_map(|field| [&(field.len() as u16).to_be_bytes()[..], field].concat())
        .collect()
}

pub(crate) fn persist(tools: &Tools, primary: &str, handle: u32) {
    tools.leave(&format!("tpm2_createprimary {primary} -c primary")).unwrap();
    tools.run(&format!("tpm2_evictcontrol -C o -c primary {handle:#x}"));
}

pub(crate) fn refusal<T: std::fmt::Debug>(result: Result<T>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credential, "{error}");
    error.to_string()
}

pub(crate) const MESSAGE: &[u8] = b"0ne00ABCDEF%2Fregistrations%2Fgateway\n1767225600";
pub(crate) const ATTRIBUTES: &str = "sensitivedataorigin|userwithauth|noda|sign";
