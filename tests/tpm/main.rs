//! `TssTpm` on software TPMs. tpm2-tools on a second TPM makes the blobs that a service would send, and looks into the
//! TPM from outside; what happens between device and service is in `tpm/registration.rs`.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)] // Test code.

use std::thread;

use azure_dps_device::core::{ErrorKind, Result};
use azure_dps_device::{ActivationBlob, Slot, Tpm as _, TssTpm};
use azure_dps_tests::log::Lines;
use azure_dps_tests::swtpm::{builder, open, swtpm};

mod registration;
mod simulator;
mod tools;
use simulator::Simulator;
use tools::Tools;

#[test]
fn a_blank_tpm_gets_the_keys_that_everybody_makes() {
    let chip = swtpm();
    let keys = open(&chip).public_keys().unwrap();

    let tools = Tools::on(&chip);
    assert_eq!(tools.held(), [0, 0, 2]);
    tools.run("tpm2_createek -G rsa -c 0x81010005 -f tss -u ek");
    assert_eq!(keys.endorsement_key, tools.read("ek"), "the one that a manufacturer certifies");
    tools.run("tpm2_readpublic -c 0x81000001 -f tss -o srk");
    assert_eq!(keys.storage_root_key, tools.read("srk"));
    assert_eq!((keys.endorsement_key.len(), keys.storage_root_key.len()), (316, 284));
    assert_eq!(open(&chip).public_keys().unwrap(), keys, "they are kept");
}

#[test]
fn keys_that_another_client_made_are_used_as_they_are() {
    let chip = swtpm();
    let tools = Tools::on(&chip);
    // Clients that leave `unique` empty make other keys than those of the standard from the same seed.
    tools.write("policy", &POLICY_A);
    persist(
        &tools,
        "-C e -G rsa2048:aes128cfb -L policy -a fixedtpm|fixedparent|sensitivedataorigin|adminwithpolicy|restricted|decrypt",
        0x8101_0001,
    );
    persist(&tools, "-C o -G rsa2048:aes128cfb", 0x8100_0001);
    tools.run("tpm2_readpublic -c 0x81010001 -f tss -o ek");
    tools.run("tpm2_createek -G rsa -c 0x81010005 -f tss -u standard");
    assert_ne!(tools.read("ek"), tools.read("standard"));

    let tpm = open(&chip);
    assert_eq!(tpm.public_keys().unwrap().endorsement_key, tools.read("ek"));
    let (blob, hmac) = wrapped_for(&tpm);
    tpm.import(&blob, Slot::Identity).unwrap();
    assert_eq!(tpm.sign(Slot::Identity, MESSAGE).unwrap(), hmac);
}

#[test]
fn the_challenge_is_signed_with_its_key_and_the_identity_with_the_other() {
    let chip = swtpm();
    let tpm = open(&chip);
    let ((challenge, challenge_hmac), (identity, identity_hmac)) = (wrapped_for(&tpm), wrapped_for(&tpm));
    assert_ne!(challenge_hmac, identity_hmac);

    assert!(refusal(tpm.sign(Slot::Challenge, MESSAGE)).contains("has not challenged"));
    assert!(
        refusal(tpm.sign(Slot::Identity, MESSAGE)).contains("does not hold an identity key at 0x81000100")
    );
    tpm.import(&challenge, Slot::Challenge).unwrap();
    assert_eq!(tpm.sign(Slot::Challenge, MESSAGE).unwrap(), challenge_hmac);
    assert!(refusal(tpm.sign(Slot::Identity, MESSAGE)).contains("register the device first"));
    tpm.import(&identity, Slot::Identity).unwrap();
    assert_eq!(tpm.sign(Slot::Identity, MESSAGE).unwrap(), identity_hmac);
    assert!(refusal(tpm.sign(Slot::Challenge, MESSAGE)).contains("has not challenged"));

    let tools = Tools::on(&chip);
    assert_eq!(tools.hmac_with("0x81000100", MESSAGE), identity_hmac, "as the tools see it");
    assert_eq!(tools.held(), [0, 0, 3]);
}

#[test]
fn the_identity_outlives_the_program_and_the_power() {
    let mut chip = swtpm();
    let tpm = open(&chip);
    let (blob, hmac) = wrapped_for(&tpm);
    tpm.import(&blob, Slot::Identity).unwrap();
    drop(tpm);

    assert_eq!(open(&chip).sign(Slot::Identity, MESSAGE).unwrap(), hmac);
    chip.power_cycle();
    assert_eq!(open(&chip).sign(Slot::Identity, MESSAGE).unwrap(), hmac);
}

#[test]
fn a_refused_blob_leaves_the_old_identity() {
    let (chip, other) = (swtpm(), swtpm());
    let tpm = open(&chip);
    let (blob, hmac) = wrapped_for(&tpm);
    tpm.import(&blob, Slot::Identity).unwrap();
    let (foreign, _) = wrapped_for(&open(&other));
    // Both were made for keys of this TPM, but not for each other: the second half is refused.
    let mixed = crossed(&foreign, &blob);
    let maker = swtpm();
    let unusable = Tools::on(&maker).wrap_for(&tpm.public_keys().unwrap(), "rsa", ATTRIBUTES);

    for (what, blob) in [
        ("for another TPM", &foreign),
        ("half for another TPM", &mixed),
        ("cut off", &blob[..300].to_vec()),
        ("empty", &vec![]),
    ] {
        for slot in [Slot::Identity, Slot::Challenge] {
            let why = refusal(tpm.import(blob, slot));
            assert!(why.contains("blob"), "{what}: {why}");
            assert_eq!(tpm.sign(Slot::Identity, MESSAGE).unwrap(), hmac, "{what}");
        }
    }
    let why = refusal(tpm.import(&unusable, Slot::Identity));
    assert!(why.contains("to TPM2_HMAC)"), "a key that makes other signatures: {why}");
    assert_eq!(tpm.sign(Slot::Identity, MESSAGE).unwrap(), hmac);
    assert_eq!(Tools::on(&chip).held(), [0, 0, 3]);
}

#[test]
fn a_key_that_no_tpm_can_keep_leaves_the_old_identity() {
    let chip = swtpm();
    let tpm = open(&chip);
    let (good, hmac) = wrapped_for(&tpm);
    tpm.import(&good, Slot::Identity).unwrap();
    let (fleeting, _) = wrapped_with(&tpm, &format!("{ATTRIBUTES}|stclear"));
    tpm.import(&fleeting, Slot::Challenge).unwrap();
    let why = refusal(tpm.import(&fleeting, Slot::Identity));
    assert!(why.contains("that a TPM cannot persist"), "{why}");
    assert_eq!(tpm.sign(Slot::Identity, MESSAGE).unwrap(), hmac);
}

#[test]
fn what_is_refused_names_the_command_and_the_response() {
    let (chip, other) = (swtpm(), swtpm());
    let (tpm, (foreign, _)) = (open(&chip), wrapped_for(&open(&other)));
    let (own, _) = wrapped_for(&tpm);

    let why = refusal(tpm.import(&foreign, Slot::Challenge));
    assert!(why.contains("is not for this TPM") && why.contains("to TPM2_ActivateCredential)"), "{why}");
    assert!(why.contains("(response 0x"), "{why}");
    let why = refusal(tpm.import(&crossed(&own, &foreign), Slot::Challenge));
    assert!(why.contains("is not for this TPM") && why.contains("to TPM2_Import)"), "{why}");
}

#[test]
fn a_changed_blob_is_refused_wherever_the_change_is() {
    let chip = swtpm();
    let tpm = open(&chip);
    let (blob, hmac) = wrapped_for(&tpm);
    tpm.import(&blob, Slot::Identity).unwrap();
    let protected = blob.len() - 2;

    // All bytes would take ten seconds. The step has no factor in common with the fields' lengths.
    for byte in (0..protected).step_by(7) {
        let mut changed = blob.clone();
        changed[byte] ^= 1;
        let why = refusal(tpm.import(&changed, Slot::Identity));
        assert!(why.contains("blob") || why.contains("that a TPM cannot persist"), "byte {byte}: {why}");
    }

    assert_eq!(tpm.sign(Slot::Identity, MESSAGE).unwrap(), hmac);
    assert_eq!(Tools::on(&chip).held(), [0, 0, 3]);
    // The last field is protected by nothing, and nothing of it is used.
    for rest in [&[][..], &[0, 0], &[0, 3, 1, 2, 3]] {
        tpm.import(&[&blob[..protected], rest].concat(), Slot::Identity).unwrap();
    }
}

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
        // The TPM refuses both, which is no fault of the connection.
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
fn a_key_that_another_program_replaced_is_noticed() {
    let chip = swtpm();
    let (tpm, other) = (open(&chip), open(&chip));
    let ((blob, hmac), (next, next_hmac)) = (wrapped_for(&tpm), wrapped_for(&tpm));
    tpm.import(&blob, Slot::Identity).unwrap();
    assert_eq!(tpm.sign(Slot::Identity, MESSAGE).unwrap(), hmac);

    other.import(&next, Slot::Identity).unwrap();
    assert_eq!(tpm.sign(Slot::Identity, MESSAGE).unwrap(), next_hmac);
    let tools = Tools::on(&chip);
    tools.run("tpm2_evictcontrol -C o -c 0x81000100");
    assert!(refusal(tpm.sign(Slot::Identity, MESSAGE)).contains("does not hold an identity key"));
    persist(&tools, "-C o -G rsa", 0x8100_0100);
    assert!(refusal(tpm.sign(Slot::Identity, MESSAGE)).contains("is not an identity key"));
    tools.run("tpm2_evictcontrol -C o -c 0x81000100");
    tpm.import(&blob, Slot::Identity).unwrap();
    assert_eq!(other.sign(Slot::Identity, MESSAGE).unwrap(), hmac);

    // Another storage root key: what was wrapped for the one before is of no use.
    let keys = tpm.public_keys().unwrap();
    tools.run("tpm2_evictcontrol -C o -c 0x81000001");
    persist(&tools, "-C o -G rsa2048:aes128cfb", 0x8100_0001);
    assert_ne!(tpm.public_keys().unwrap().storage_root_key, keys.storage_root_key);
    assert!(refusal(tpm.import(&blob, Slot::Identity)).contains("is not for this TPM"));
    let (blob, hmac) = wrapped_for(&tpm);
    tpm.import(&blob, Slot::Identity).unwrap();
    assert_eq!(tpm.sign(Slot::Identity, MESSAGE).unwrap(), hmac);
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
fn hierarchies_with_passwords_need_them() {
    let chip = swtpm();
    let (blob, hmac) = wrapped_for(&open(&chip));
    let tools = Tools::on(&chip);
    tools.run("tpm2_changeauth -c owner owner-pass");
    tools.run("tpm2_changeauth -c endorsement endorser-pass");
    let builder = || builder(&chip);

    let tpm = builder().owner_password("owner-pass").open().unwrap();
    assert!(tpm.public_keys().is_ok(), "reading needs none");
    let why = refusal(tpm.import(&blob, Slot::Identity));
    assert!(why.contains("endorsement hierarchy is wrong: give it with `endorsement_password`"), "{why}");
    assert!(why.contains("0x9a2"), "{why}");

    let tpm = builder().owner_password("wrong").endorsement_password("endorser-pass").open().unwrap();
    tpm.import(&blob, Slot::Challenge).unwrap();
    let why = refusal(tpm.import(&blob, Slot::Identity));
    assert!(why.contains("owner hierarchy is wrong: give it with `owner_password`"), "{why}");

    let tpm = builder().owner_password("owner-pass").endorsement_password("endorser-pass").open().unwrap();
    tpm.import(&blob, Slot::Identity).unwrap();
    assert_eq!(tpm.sign(Slot::Identity, MESSAGE).unwrap(), hmac);
    assert_eq!(open(&chip).sign(Slot::Identity, MESSAGE).unwrap(), hmac, "signing needs none");
    assert_eq!(tools.held(), [0, 0, 3]);

    let shown = format!("{:?} {tpm:?}", builder().owner_password("owner-pass"));
    assert!(shown.contains("swtpm:host") && !shown.contains("pass\"") && !shown.contains("111"), "{shown}");
}

#[test]
fn hierarchies_with_passwords_need_them_to_make_keys_too() {
    let chip = swtpm();
    let tools = Tools::on(&chip);
    tools.run("tpm2_changeauth -c endorsement pass");
    let why = refusal(open(&chip).public_keys());
    assert!(why.contains("`endorsement_password`"), "{why}");
    tools.run("tpm2_changeauth -c owner pass");
    let tpm = builder(&chip).endorsement_password("pass").open().unwrap();
    let why = refusal(tpm.public_keys());
    assert!(why.contains("`owner_password`"), "{why}");
    assert_eq!(tools.held(), [0, 0, 0]);
}

#[test]
fn a_foreign_key_at_a_handle_is_named_and_left_alone() {
    let chip = swtpm();
    let tools = Tools::on(&chip);
    persist(&tools, "-C o -G ecc", 0x8100_0001);
    persist(&tools, "-C o -G rsa", 0x8100_0100);
    tools.run("tpm2_createek -G ecc -c 0x81010001 -f tss -u ek");

    let why = refusal(open(&chip).public_keys());
    assert!(why.contains("at 0x81010001 the TPM holds an ECC key"), "{why}");
    assert!(why.contains("give another handle with `endorsement_key`"), "{why}");
    let tpm = builder(&chip).endorsement_key(0x8101_0005).open().unwrap();
    let why = refusal(tpm.public_keys());
    assert!(why.contains("at 0x81000001 the TPM holds an ECC key"), "{why}");
    assert!(why.contains("`storage_root_key`"), "{why}");

    let builder = builder(&chip);
    let builder = builder.endorsement_key(0x8101_0005).storage_root_key(0x8100_0005);
    let tpm = builder.clone().open().unwrap();
    let (blob, hmac) = wrapped_for(&tpm);
    let why = refusal(tpm.import(&blob, Slot::Identity));
    assert!(why.contains("at 0x81000100 the TPM holds a key that is not an identity key"), "{why}");
    assert_eq!(refusal(tpm.sign(Slot::Identity, MESSAGE)), why);
    let tpm = builder.identity_key(0x8100_0101).open().unwrap();
    tpm.import(&blob, Slot::Identity).unwrap();
    assert_eq!(tpm.sign(Slot::Identity, MESSAGE).unwrap(), hmac);
    assert_eq!(tools.held(), [0, 0, 6]);
}

#[test]
fn an_endorsement_key_with_another_policy_is_named() {
    let chip = swtpm();
    let tools = Tools::on(&chip);
    persist(&tools, "-C e -G rsa2048:aes128cfb", 0x8101_0001);
    let why = refusal(open(&chip).public_keys());
    assert!(why.contains("an RSA key with other attributes"), "{why}");
    tools.run("tpm2_evictcontrol -C o -c 0x81010001");
    tools.write("policy", &[7; 32]);
    persist(
        &tools,
        "-C e -G rsa2048:aes128cfb -L policy -a fixedtpm|fixedparent|sensitivedataorigin|adminwithpolicy|restricted|decrypt",
        0x8101_0001,
    );
    let why = refusal(open(&chip).public_keys());
    assert!(why.contains("an RSA key with another policy"), "{why}");
}

#[test]
fn a_cleared_tpm_keeps_its_endorsement_key_and_refuses_what_was_wrapped_before() {
    let chip = swtpm();
    let tpm = open(&chip);
    let before = tpm.public_keys().unwrap();
    let (old, _) = wrapped_for(&tpm);
    tpm.import(&old, Slot::Identity).unwrap();
    let tools = Tools::on(&chip);
    tools.run("tpm2_clear -c lockout");
    assert_eq!(tools.held(), [0, 0, 0]);

    assert!(refusal(tpm.sign(Slot::Identity, MESSAGE)).contains("register the device first"));
    assert!(refusal(tpm.import(&old, Slot::Identity)).contains("is not for this TPM"));
    let after = tpm.public_keys().unwrap();
    assert_eq!(after.endorsement_key, before.endorsement_key);
    assert_ne!(after.storage_root_key, before.storage_root_key);
    let (new, hmac) = wrapped_for(&tpm);
    tpm.import(&new, Slot::Identity).unwrap();
    assert_eq!(tpm.sign(Slot::Identity, MESSAGE).unwrap(), hmac);
}

#[test]
fn a_locked_tpm_says_how_to_unlock_it() {
    let chip = swtpm();
    let tpm = open(&chip);
    let (blob, hmac) = wrapped_with(&tpm, "sensitivedataorigin|userwithauth|sign");
    tpm.import(&blob, Slot::Identity).unwrap();
    let tools = Tools::on(&chip);
    tools.run("tpm2_dictionarylockout --setup-parameters --max-tries=1 --recovery-time=1000 --lockout-recovery-time=1000");
    tools.write("message", MESSAGE);
    assert!(tools.attempt("tpm2_hmac -c 0x81000100 -p wrong -o hmac message").is_err());

    let why = refusal(tpm.sign(Slot::Identity, MESSAGE));
    assert!(why.contains("is locked after wrong passwords") && why.contains("0x921"), "{why}");
    tools.run("tpm2_dictionarylockout --clear-lockout");
    assert_eq!(tpm.sign(Slot::Identity, MESSAGE).unwrap(), hmac);
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
fn long_messages_are_refused_and_long_enough_ones_signed() {
    let chip = swtpm();
    let tpm = open(&chip);
    let maker = swtpm();
    let maker = Tools::on(&maker);
    tpm.import(&maker.wrap_for(&tpm.public_keys().unwrap(), "hmac", ATTRIBUTES), Slot::Identity).unwrap();

    assert_eq!(tpm.sign(Slot::Identity, &[7; 1024]).unwrap(), maker.hmac(&[7; 1024]));
    let error = tpm.sign(Slot::Identity, &[7; 1025]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(error.to_string(), "the TPM signs at most 1024 bytes, but the message has 1025");
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
fn a_tpm_that_went_away_is_named() {
    let chip = swtpm();
    let tpm = open(&chip);
    tpm.public_keys().unwrap();
    let tcti = chip.tcti();
    drop(chip);
    let why = refusal(tpm.public_keys());
    assert!(why.contains(&format!("no TPM answers at `{tcti}`")), "{why}");
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

/// A blob for this TPM, and what the key in it makes of [`MESSAGE`].
fn wrapped_for(tpm: &TssTpm) -> (Vec<u8>, Vec<u8>) {
    wrapped_with(tpm, ATTRIBUTES)
}

fn wrapped_with(tpm: &TssTpm, attributes: &str) -> (Vec<u8>, Vec<u8>) {
    let maker = swtpm();
    let maker = Tools::on(&maker);
    let blob = maker.wrap_for(&tpm.public_keys().unwrap(), "hmac", attributes);
    (blob, maker.hmac(MESSAGE))
}

/// The credential of one blob with the key of another.
fn crossed(credential: &[u8], key: &[u8]) -> Vec<u8> {
    let (one, other) = (ActivationBlob::parse(credential).unwrap(), ActivationBlob::parse(key).unwrap());
    [one.credential, one.credential_secret, other.duplicate, other.duplicate_secret, other.public]
        .into_iter()
        .flat_map(|field| [&(field.len() as u16).to_be_bytes()[..], field].concat())
        .collect()
}

fn persist(tools: &Tools, primary: &str, handle: u32) {
    tools.leave(&format!("tpm2_createprimary {primary} -c primary")).unwrap();
    tools.run(&format!("tpm2_evictcontrol -C o -c primary {handle:#x}"));
}

fn refusal<T: std::fmt::Debug>(result: Result<T>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credential, "{error}");
    error.to_string()
}

const MISSING: &str = "/dev/no-such-tpm";
const MESSAGE: &[u8] = b"0ne00ABCDEF%2Fregistrations%2Fgateway\n1767225600";
const ATTRIBUTES: &str = "sensitivedataorigin|userwithauth|noda|sign";
const GET_CAPABILITY: u32 = 0x17a;
const READ_PUBLIC: u32 = 0x173;
const HMAC: u32 = 0x155;
const FLUSH_CONTEXT: u32 = 0x165;
/// PolicySecret of the endorsement hierarchy.
const POLICY_A: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24, //
    0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];
