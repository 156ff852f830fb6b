//! Chains of certificates, and the enrollment groups to which they lead.

use std::time::{Duration, SystemTime};

use azure_dps_emulator::{CaCertificate, Emulator, Pki};
use azure_dps_tests::dev1::start_with;
use azure_dps_tests::journal::cause;
use azure_dps_tests::x509_device::*;
use rcgen::{BasicConstraints, IsCa};
use serde_json::json;

#[tokio::test]
async fn a_root_need_not_be_presented_and_does_no_harm() {
    let emulator = start_with(Emulator::builder()).await;
    let pki = Pki::new(["dev1"], 2).unwrap();
    let device = &pki.devices[0];
    group(&emulator, "plant", &[&pki.root]).await;
    let complete = format!("{}{}", device.chain_pem, pki.root.certificate_pem);
    let upside_down = format!(
        "{}{}{}{}",
        device.certificate_pem,
        pki.root.certificate_pem,
        pki.intermediates[0].certificate_pem,
        pki.intermediates[1].certificate_pem
    );
    for chain in [&device.chain_pem, &complete, &upside_down] {
        let state = register_as(&emulator, "dev1", chain, &device.private_key_pem).await.unwrap();
        assert_eq!((&state["status"], &state["deviceId"]), (&json!("assigned"), &json!("dev1")));
        assert_eq!(state["x509"], json!({"enrollmentGroupId": "plant"}));
    }
}

#[tokio::test]
async fn the_group_nearest_to_the_leaf_decides() {
    let emulator = start_with(Emulator::builder()).await;
    let pki = Pki::new(["dev1"], 2).unwrap();
    let device = &pki.devices[0];
    let other = Pki::new(["dev1"], 0).unwrap().root;
    let group_of = async |emulator: &Emulator| {
        let state = register(emulator, "dev1", device).await.unwrap();
        assert_eq!(state["status"], "assigned");
        state["x509"]["enrollmentGroupId"].clone()
    };
    for (id, certificates) in [
        ("a", vec![&pki.root]),
        ("c", vec![&other, &pki.intermediates[0]]),
        ("b", vec![&pki.intermediates[0]]),
    ] {
        group(&emulator, id, &certificates).await;
    }
    assert_eq!(group_of(&emulator).await, "b", "of two that are as near the first by id");
    group(&emulator, "d", &[&pki.intermediates[1]]).await;
    assert_eq!(group_of(&emulator).await, "d");
    remove(&emulator, "/enrollmentGroups/d").await;
    let attestation = signing(&[&pki.intermediates[1]]);
    put_group(&emulator, "d", json!({"provisioningStatus": "disabled", "attestation": attestation})).await;
    let state = register(&emulator, "dev1", device).await.unwrap();
    assert_eq!(state["status"], "disabled", "a disabled match does not fall through");
    assert_eq!(cause(&emulator), "enrollment group d is disabled");
    for (gone, next) in [("d", "b"), ("b", "c"), ("c", "a")] {
        remove(&emulator, &format!("/enrollmentGroups/{gone}")).await;
        assert_eq!(group_of(&emulator).await, next);
    }
}

#[tokio::test]
async fn a_missing_intermediate_is_named() {
    let emulator = start_with(Emulator::builder()).await;
    let pki = Pki::new(["dev1"], 2).unwrap();
    let device = &pki.devices[0];
    group(&emulator, "plant", &[&pki.root]).await;
    let without_upper = format!("{}{}", device.certificate_pem, pki.intermediates[1].certificate_pem);
    let without_lower = format!("{}{}", device.certificate_pem, pki.intermediates[0].certificate_pem);
    for (chain, signed, missing) in [
        (&device.certificate_pem, "CN=dev1", "CN=Azure DPS test intermediate 2"),
        (&without_lower, "CN=dev1", "CN=Azure DPS test intermediate 2"),
        (&without_upper, "CN=Azure DPS test intermediate 2", "CN=Azure DPS test intermediate 1"),
    ] {
        let refused = register_as(&emulator, "dev1", chain, &device.private_key_pem).await.unwrap_err();
        assert_eq!((refused.status, refused.error()), (401, (401_002, "CA certificate not found.")));
        let wanted = format!(
            "dev1 has no individual enrollment, and chain lacks the intermediate that signs {signed}: {missing} is \
             neither presented nor enrolled; presented CN=dev1"
        );
        assert!(cause(&emulator).starts_with(&wanted), "{}", cause(&emulator));
    }
    assert_eq!(emulator.registrations(), json!([]), "no record is kept");
}

#[tokio::test]
async fn a_chain_that_leads_to_no_group_says_where_it_leads() {
    let emulator = start_with(Emulator::builder()).await;
    let pki = Pki::new(["dev1"], 0).unwrap();
    let device = &pki.devices[0];
    let complete = format!("{}{}", device.chain_pem, pki.root.certificate_pem);
    let refused = register_as(&emulator, "dev1", &complete, &device.private_key_pem).await.unwrap_err();
    assert_eq!(refused.error(), (401_002, "CA certificate not found."));
    assert_eq!(
        cause(&emulator),
        "dev1 has no individual enrollment, and no group has X.509 certificates; presented CN=dev1 <- CN=Azure DPS test root"
    );
    let other = Pki::new(["a"], 1).unwrap();
    group(&emulator, "plant", &[&other.intermediates[0]]).await;
    let refused = register_as(&emulator, "dev1", &complete, &device.private_key_pem).await.unwrap_err();
    assert_eq!(refused.error(), (401_002, "CA certificate not found."));
    assert_eq!(
        cause(&emulator),
        "dev1 has no individual enrollment, and signing certificate of group plant is not in the chain: \
         presented CN=dev1 <- CN=Azure DPS test root; enrolled: CN=Azure DPS test intermediate 1 of group plant"
    );
    emulator.upload_ca_certificate(CaCertificate::verified("root", &pki.root.certificate_pem)).unwrap();
    let refused = register_as(&emulator, "dev1", &complete, &device.private_key_pem).await.unwrap_err();
    assert_eq!(refused.error(), (401_002, "Signing certificate info did not match chain elements."));
}

#[tokio::test]
async fn a_device_whose_group_was_deleted_learns_no_more_than_that_it_may_not() {
    let emulator = start_with(Emulator::builder()).await;
    let pki = Pki::new(["dev1"], 1).unwrap();
    emulator.upload_ca_certificate(CaCertificate::verified("root", &pki.root.certificate_pem)).unwrap();
    group(&emulator, "plant", &[&pki.root]).await;
    assert_eq!(register(&emulator, "dev1", &pki.devices[0]).await.unwrap()["status"], "assigned");
    remove(&emulator, "/enrollmentGroups/plant").await;

    let refused = register(&emulator, "dev1", &pki.devices[0]).await.unwrap_err();

    assert_eq!((refused.status, refused.error()), (401, (401_002, "Unauthorized")));
    assert!(cause(&emulator).contains("no group has X.509 certificates"), "{}", cause(&emulator));
}

#[tokio::test]
async fn signatures_are_verified_and_a_name_is_not_enough() {
    let emulator = start_with(Emulator::builder()).await;
    let (ours, theirs) = (Pki::new(["dev1"], 1).unwrap(), Pki::new(["dev1"], 1).unwrap());
    group(&emulator, "plant", &[&ours.root]).await;
    let device = &theirs.devices[0];
    let refused = register(&emulator, "dev1", device).await.unwrap_err();
    assert_eq!(refused.error(), (401_002, "Invalid certificate."));
    assert!(
        cause(&emulator).contains(
            "CN=Azure DPS test intermediate 1 names CN=Azure DPS test root as its issuer, which did not sign it"
        ),
        "{}",
        cause(&emulator)
    );
    let mixed = format!("{}{}", device.certificate_pem, ours.intermediates[0].certificate_pem);
    let refused = register_as(&emulator, "dev1", &mixed, &device.private_key_pem).await.unwrap_err();
    assert_eq!(refused.error(), (401_002, "Invalid certificate."));
    assert!(
        cause(&emulator)
            .contains("CN=dev1 names CN=Azure DPS test intermediate 1 as its issuer, which did not")
    );
}

#[tokio::test]
async fn a_device_cannot_sign_another_one() {
    let emulator = start_with(Emulator::builder()).await;
    let (root, _) = issuer("root", IsCa::Ca(BasicConstraints::Unconstrained), None);
    let (gateway, _) = issuer("gateway", IsCa::NoCa, Some(&root));
    let (_, thing) = issuer("thing", IsCa::NoCa, Some(&gateway));
    let attestation = signing_pem(&[&root.pem()]);
    put_group(&emulator, "plant", json!({"attestation": attestation})).await;

    let refused = register_as(&emulator, "thing", &thing.0, &thing.1).await.unwrap_err();
    assert_eq!(refused.error(), (401_002, "Invalid certificate."));
    let wanted = "CN=thing names CN=gateway as its issuer, which is not the certificate of an authority";
    assert!(cause(&emulator).contains(wanted), "{}", cause(&emulator));
}

#[tokio::test]
async fn dates_are_judged_by_the_clock_of_the_emulator() {
    let emulator = start_with(Emulator::builder()).await;
    let pki = Pki::new(["dev1"], 1).unwrap();
    group(&emulator, "plant", &[&pki.root]).await;
    let day = Duration::from_secs(86_400);
    let refused = register(&emulator, "dev1", &pki.expired).await.unwrap_err();
    assert_eq!((refused.status, refused.error()), (401, (401_002, "Invalid certificate.")));
    let expired = cause(&emulator);
    assert!(expired.contains("and leaf CN=dev1 expired: it is valid from 20"), "{expired}");

    for (time, what) in
        [(SystemTime::now() + 400 * day, "expired"), (SystemTime::now() - 4 * day, "is not valid yet")]
    {
        emulator.set_clock(time);
        let refused = register(&emulator, "dev1", &pki.devices[0]).await.unwrap_err();
        assert_eq!(refused.error(), (401_002, "Invalid certificate."));
        assert!(cause(&emulator).contains(&format!("leaf CN=dev1 {what}: ")), "{}", cause(&emulator));
    }
    emulator.reset_clock();
    let state = register(&emulator, "dev1", &pki.devices[0]).await.unwrap();
    assert_eq!(state["status"], "assigned");

    // A self-signed one of an individual enrollment expires too.
    enroll(&emulator, "dev1", own(&[&pki.devices[0].certificate_pem])).await;
    emulator.set_clock(SystemTime::now() + 400 * day);
    assert_eq!(register(&emulator, "dev1", &pki.devices[0]).await.unwrap_err().status, 401);
    assert!(cause(&emulator).starts_with("leaf CN=dev1 expired: "));
}

#[tokio::test]
async fn authorities_expire_too() {
    let emulator = start_with(Emulator::builder()).await;
    let day = Duration::from_secs(86_400);
    let authority = IsCa::Ca(BasicConstraints::Unconstrained);
    let (root, _) = issuer("root", authority, None);
    let (middle, _) = issuer("soon", authority, Some(&root));
    let (_, leaf) = issuer("dev1", IsCa::NoCa, Some(&middle));
    for (id, anchor) in [("a", root.pem()), ("b", middle.pem())] {
        put_group(&emulator, id, json!({"attestation": signing_pem(&[&anchor])})).await;
        assert_eq!(register_as(&emulator, "dev1", &leaf.0, &leaf.1).await.unwrap()["status"], "assigned");
        emulator.advance_clock(2 * day);
        let refused = register_as(&emulator, "dev1", &leaf.0, &leaf.1).await.unwrap_err();
        assert_eq!(refused.error(), (401_002, "Invalid certificate."));
        assert!(cause(&emulator).contains("intermediate CN=soon expired: "), "{}", cause(&emulator));
        emulator.reset_clock();
        remove(&emulator, &format!("/enrollmentGroups/{id}")).await;
    }
}
