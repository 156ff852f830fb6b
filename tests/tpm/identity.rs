//! What the TPM imports from a service and signs with it.

use azure_dps_device::core::ErrorKind;
use azure_dps_device::{Slot, Tpm as _};
use azure_dps_tests::swtpm::{open, swtpm};

use crate::tools::{ATTRIBUTES, MESSAGE, Tools, crossed, persist, refusal, wrapped_for, wrapped_with};

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
