//! `TssTpm` on software TPMs. tpm2-tools on a second TPM stands in for the service where the emulator is too polite.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)] // Test code.

use azure_dps_device::core::ErrorKind;
use azure_dps_device::{Slot, Tpm as _, TssTpm};
use azure_dps_tests::swtpm::Swtpm;

#[path = "tpm/tools.rs"]
mod tools;
use tools::Tools;

fn swtpm() -> Swtpm {
    Swtpm::start().expect("swtpm is installed; the feature `tpm` asks for it")
}

fn open(tpm: &Swtpm) -> TssTpm {
    TssTpm::builder().tcti(tpm.tcti()).open().unwrap()
}

#[test]
fn a_blank_tpm_gets_its_keys_and_takes_an_identity() {
    let (chip, maker) = (swtpm(), swtpm());
    let tpm = open(&chip);
    let keys = tpm.public_keys().unwrap();
    assert_eq!((keys.endorsement_key.len(), keys.storage_root_key.len()), (316, 284));
    assert_eq!(tpm.public_keys().unwrap(), keys);

    let maker = Tools::on(&maker);
    let wrapped = maker.wrap_for(&keys, ATTRIBUTES);
    tpm.import(&wrapped, Slot::Identity).unwrap();

    assert_eq!(tpm.sign(Slot::Identity, b"text").unwrap(), maker.hmac(b"text"));
    assert_eq!(Tools::on(&chip).held(), [0, 0, 3]);
    assert_eq!(tpm.sign(Slot::Challenge, b"x").unwrap_err().kind(), ErrorKind::Credential);
}

const ATTRIBUTES: &str = "sensitivedataorigin|userwithauth|noda|sign";
