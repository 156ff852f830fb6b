//! Endorsement and storage root keys: made, found, or named when they do not fit; and the passwords that they need.

use azure_dps_device::{Slot, Tpm as _};
use azure_dps_tests::swtpm::{builder, open, swtpm};

use crate::tools::{MESSAGE, Tools, persist, refusal, wrapped_for};

#[test]
fn a_blank_tpm_gets_the_standard_keys() {
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
fn a_foreign_key_at_a_handle_is_named_and_kept() {
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

/// PolicySecret of the endorsement hierarchy.
const POLICY_A: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24, //
    0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];
