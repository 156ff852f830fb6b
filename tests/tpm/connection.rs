//! The connection to the TPM: kept or made anew, shared by threads and programs, and what stays loaded.

use std::thread;

use azure_dps_device::core::ErrorKind;
use azure_dps_device::{Slot, Tpm as _, TssTpm};
use azure_dps_tests::log::Lines;
use azure_dps_tests::swtpm::{builder, open, swtpm};

use crate::simulator::Simulator;
use crate::tools::{MESSAGE, Tools, crossed, refusal, wrapped_for, wrapped_with};

#[test]
fn nothing_stays_loaded_however_often_the_tpm_is_used() {
    let (chip, other) = (swtpm(), swtpm());
    let tpm = open(&chip);
    let ((good, hmac), (bad, _)) = (wrapped_for(&tpm), wrapped_for(&open(&other)));
    let other_keys = wrapped_with(&tpm, "sensitivedataorigin|userwithauth|sign").0;

    for _ in 0..25 {
        tpm.import(&good, Slot::Challenge).unwrap();
        tpm.sign(Slot::Challenge, MESSAGE).unwrap();
        assert!(tpm.sign(Slot::Challenge, &[7; 1025]).is_err());
        assert!(tpm.import(&bad, Slot::Identity).is_err());
        tpm.import(&other_keys, Slot::Identity).unwrap();
        tpm.import(&good, Slot::Identity).unwrap();
        assert_eq!(tpm.sign(Slot::Identity, MESSAGE).unwrap(), hmac);
    }

    assert_eq!(Tools::on(&chip).held(), [0, 0, 3], "while it is open");
    drop(tpm);
    assert_eq!(Tools::on(&chip).held(), [0, 0, 3]);
}

#[test]
fn one_connection_serves_all_calls_and_does_not_grow() {
    let (chip, other) = (swtpm(), swtpm());
    let simulator = Simulator::before(&chip);
    let tpm = TssTpm::builder().tcti(simulator.tcti()).open().unwrap();
    let ((good, hmac), (bad, _)) = (wrapped_for(&tpm), wrapped_for(&open(&other)));

    tpm.import(&good, Slot::Identity).unwrap();
    for _ in 0..100 {
        assert_eq!(tpm.sign(Slot::Identity, MESSAGE).unwrap(), hmac);
    }
    for _ in 0..10 {
        tpm.import(&good, Slot::Challenge).unwrap();
        assert_eq!(tpm.sign(Slot::Challenge, MESSAGE).unwrap(), hmac);
        // The TPM refuses both, which is not a fault of the connection.
        assert!(tpm.import(&bad, Slot::Challenge).is_err());
        assert!(tpm.import(&crossed(&good, &bad), Slot::Challenge).is_err());
    }

    assert_eq!(simulator.opened(), 1);
    assert_eq!(Tools::on(&chip).held(), [0, 0, 3]);
    let log = Lines::of(|| drop(tpm));
    assert_eq!(log.matches("Context closed").count(), 1, "{log}");
    assert_eq!(log.matches("Closing handle").count(), 0, "all were closed before: {log}");
    assert_eq!(log.matches("Flushing handle").count(), 0, "{log}");
}

#[test]
fn a_tpm_that_is_not_kept_open_is_free_between_calls() {
    let chip = swtpm();
    let simulator = Simulator::before(&chip);
    let tpm = TssTpm::builder().tcti(simulator.tcti()).keep_open(false).open().unwrap();
    let (blob, hmac) = wrapped_for(&tpm);
    tpm.import(&blob, Slot::Identity).unwrap();
    tpm.import(&blob, Slot::Challenge).unwrap();
    for (slot, opened) in [(Slot::Challenge, 5), (Slot::Identity, 6)] {
        assert_eq!(tpm.sign(slot, MESSAGE).unwrap(), hmac);
        assert_eq!(simulator.opened(), opened);
    }
    assert_eq!(Lines::of(|| drop(tpm)), "", "nothing is open that would be closed");
}

#[test]
fn a_connection_that_broke_is_made_anew_and_the_challenge_is_still_known() {
    let mut chip = swtpm();
    let simulator = Simulator::before(&chip);
    let tpm = TssTpm::builder().tcti(simulator.tcti()).open().unwrap();
    let (blob, hmac) = wrapped_for(&tpm);
    tpm.import(&blob, Slot::Identity).unwrap();
    tpm.import(&blob, Slot::Challenge).unwrap();

    // Noticed before the call has done anything.
    simulator.cut_at(GET_CAPABILITY);
    assert_eq!(tpm.sign(Slot::Identity, MESSAGE).unwrap(), hmac);
    assert_eq!(simulator.opened(), 2);
    for (opened, command) in [(3, READ_PUBLIC), (4, HMAC)] {
        simulator.cut_at(command);
        let why = refusal(tpm.sign(Slot::Identity, MESSAGE));
        assert!(why.contains("connection to the TPM broke: try again"), "{why}");
        assert_eq!(tpm.sign(Slot::Challenge, MESSAGE).unwrap(), hmac);
        assert_eq!(simulator.opened(), opened);
    }
    // The call has what it wanted. What stays loaded goes with the connection, where there is a resource manager.
    simulator.cut_at(FLUSH_CONTEXT);
    for opened in [4, 5] {
        assert_eq!(tpm.sign(Slot::Challenge, MESSAGE).unwrap(), hmac);
        assert_eq!(simulator.opened(), opened);
    }
    chip.power_cycle();
    for slot in [Slot::Challenge, Slot::Identity] {
        assert_eq!(tpm.sign(slot, MESSAGE).unwrap(), hmac);
    }
    assert_eq!(simulator.opened(), 5);
}

#[test]
fn threads_and_programs_take_turns() {
    let chip = swtpm();
    let (tpm, second) = (open(&chip), open(&chip));
    let (blob, hmac) = wrapped_for(&tpm);
    tpm.import(&blob, Slot::Identity).unwrap();

    thread::scope(|threads| {
        for tpm in [&tpm, &tpm, &second, &second] {
            threads.spawn(|| {
                for _ in 0..5 {
                    tpm.import(&blob, Slot::Challenge).unwrap();
                    assert_eq!(tpm.sign(Slot::Identity, MESSAGE).unwrap(), hmac);
                    assert_eq!(tpm.sign(Slot::Challenge, MESSAGE).unwrap(), hmac);
                }
            });
        }
    });

    assert_eq!(Tools::on(&chip).held(), [0, 0, 3]);
}

#[test]
fn the_answers_of_two_registrations_do_not_mix() {
    let chip = swtpm();
    let tpm = open(&chip);
    let challenges = [wrapped_for(&tpm), wrapped_for(&tpm)];

    thread::scope(|threads| {
        for (blob, hmac) in &challenges {
            let tpm = &tpm;
            threads.spawn(move || {
                for _ in 0..20 {
                    assert_eq!(tpm.answer(blob, MESSAGE).unwrap(), *hmac);
                }
            });
        }
    });

    assert_eq!(Tools::on(&chip).held(), [0, 0, 2]);
}

#[test]
fn a_tpm_full_of_what_others_left_says_so() {
    let chip = swtpm();
    let tpm = open(&chip);
    let (blob, _) = wrapped_for(&tpm);
    let tools = Tools::on(&chip);
    for _ in 0..3 {
        tools.leave("tpm2_createprimary -C o -c primary").unwrap();
    }
    let why = refusal(tpm.import(&blob, Slot::Challenge));
    assert!(why.contains("no room") && why.contains("`tpm2_flushcontext"), "{why}");
    tools.run("tpm2_flushcontext --transient-object");
    tpm.import(&blob, Slot::Challenge).unwrap();
}

#[test]
fn a_tpm_that_cannot_be_opened_says_why() {
    let why = refusal(TssTpm::builder().device(MISSING).open());
    assert!(why.contains("/dev/no-such-tpm cannot be opened: the machine has no TPM 2.0"), "{why}");
    // Not even root may write it.
    let why = refusal(TssTpm::builder().device("/proc/sys/kernel/ostype").open());
    assert!(why.contains("group `tss`"), "{why}");
    let why = refusal(TssTpm::builder().tcti("swtpm:host=127.0.0.1,port=1").open());
    assert!(why.contains("no TPM answers at `swtpm:host=127.0.0.1,port=1`"), "{why}");
}

#[test]
fn a_tpm_that_is_gone_is_named() {
    let is_named = || {
        let chip = swtpm();
        let tpm = open(&chip);
        tpm.public_keys().unwrap();
        let tcti = chip.tcti();
        drop(chip);
        let named = format!("no TPM answers at `{tcti}`");
        tpm.public_keys().is_err_and(|error| error.to_string().contains(&named))
    };
    // Another TPM may take the port at once, but not three times.
    assert!((0..3).any(|_| is_named()));
}

#[test]
fn options_that_cannot_be_used_are_refused_before_anything_is_opened() {
    for (builder, part) in [
        (TssTpm::builder().tcti("usb:1"), "`usb:1` is not a valid TCTI"),
        (TssTpm::builder().tcti("swtpm:path=/run/tpm"), "`swtpm:path=/run/tpm` is not a valid TCTI"),
        (TssTpm::builder().device(MISSING).identity_key(0x8180_0000), "0x81800000 cannot be used"),
        (TssTpm::builder().device(MISSING).identity_key(0x100), "0x100 cannot be used"),
        (TssTpm::builder().device(MISSING).storage_root_key(0x8100_0100), "different handles"),
    ] {
        let error = builder.open().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(part), "{error}");
    }
    let chip = swtpm();
    let error = builder(&chip).owner_password([0; 65]).open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

const MISSING: &str = "/dev/no-such-tpm";
const GET_CAPABILITY: u32 = 0x17a;
const READ_PUBLIC: u32 = 0x173;
const HMAC: u32 = 0x155;
const FLUSH_CONTEXT: u32 = 0x165;
