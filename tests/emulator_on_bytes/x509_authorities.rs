//! Certificates of authorities that are uploaded to the instance.

use azure_dps_emulator::{CaCertificate, Emulator, Pki};
use azure_dps_tests::dev1::start_with;
use azure_dps_tests::http_client::ask_in_clear;
use azure_dps_tests::journal::cause;
use azure_dps_tests::x509_device::*;
use serde_json::{Value, json};

#[tokio::test]
async fn references_lead_to_verified_certificates_only() {
    let emulator = start_with(Emulator::builder()).await;
    let pki = Pki::new(["dev1"], 1).unwrap();
    let device = &pki.devices[0];
    let attestation = references(&["old-root", "root-2026"]);
    put_group(&emulator, "plant", json!({"attestation": attestation})).await;
    let refuse = async |emulator: &Emulator, why: &str| {
        let refused = register(emulator, "dev1", device).await.unwrap_err();
        assert_eq!((refused.status, refused.error()), (401, (401_002, "CA certificate not found.")));
        assert!(cause(emulator).contains(why), "{}", cause(emulator));
    };

    refuse(&emulator, "certificate root-2026, to which group plant refers, is not uploaded").await;
    emulator
        .upload_ca_certificate(CaCertificate::unverified("root-2026", &pki.root.certificate_pem))
        .unwrap();
    refuse(&emulator, "certificate root-2026, to which group plant refers, is not verified").await;
    assert!(emulator.verify_ca_certificate("root-2026") && !emulator.verify_ca_certificate("old-root"));
    let state = register(&emulator, "dev1", device).await.unwrap();
    assert_eq!(
        (&state["status"], &state["x509"]["enrollmentGroupId"]),
        (&json!("assigned"), &json!("plant"))
    );
    assert!(emulator.journal().iter().all(|entry| entry.warning.is_none()));
    assert!(emulator.delete_ca_certificate("root-2026") && !emulator.delete_ca_certificate("root-2026"));
    refuse(&emulator, "is not uploaded").await;

    // An intermediate may be uploaded as well.
    let intermediate = &pki.intermediates[0].certificate_pem;
    emulator.upload_ca_certificate(CaCertificate::verified("old-root", intermediate)).unwrap();
    assert_eq!(register(&emulator, "dev1", device).await.unwrap()["status"], "assigned");
}

#[tokio::test]
async fn what_the_service_would_want_besides_is_a_warning_or_a_refusal() {
    let pki = Pki::new(["dev1"], 1).unwrap();
    let device = &pki.devices[0];
    let uploaded = CaCertificate::verified("root", &pki.root.certificate_pem);

    let lenient = start_with(Emulator::builder()).await;
    group(&lenient, "plant", &[&pki.intermediates[0]]).await;
    assert_eq!(register(&lenient, "dev1", device).await.unwrap()["status"], "assigned");
    let journal = lenient.journal();
    let warned: Vec<_> = journal.iter().filter(|entry| entry.warning.is_some()).collect();
    let [entry] = warned.as_slice() else { panic!("{warned:?}") };
    assert_eq!((entry.status, entry.cause.as_ref()), (202, None));
    let wanted = "group plant fits, but no verified CA certificate of the instance is at the end of the chain: \
                  CN=dev1 <- CN=Azure DPS test intermediate 1; the service itself requires one";
    assert_eq!(entry.warning.as_deref(), Some(wanted));
    assert!(entry.to_string().ends_with(&format!(" -> 202 (warning: {wanted})")));

    let strict = start_with(Emulator::builder().require_verified_ca()).await;
    group(&strict, "plant", &[&pki.intermediates[0]]).await;
    let refused = register(&strict, "dev1", device).await.unwrap_err();
    assert_eq!((refused.status, refused.error()), (401, (401_002, "CA certificate not found.")));
    assert!(cause(&strict).contains("group plant fits, but no verified CA certificate"));
    strict.upload_ca_certificate(CaCertificate::unverified("root", &pki.root.certificate_pem)).unwrap();
    assert_eq!(register(&strict, "dev1", device).await.unwrap_err().status, 401, "not verified yet");

    for emulator in [lenient, strict] {
        emulator.upload_ca_certificate(uploaded.clone()).unwrap();
        assert_eq!(register(&emulator, "dev1", device).await.unwrap()["status"], "assigned");
        assert_eq!(emulator.journal().last().unwrap().warning, None);
    }
}

#[tokio::test]
async fn certificates_of_the_builder_come_back_with_a_reset() {
    let pki = Pki::new(["dev1"], 0).unwrap();
    let uploaded = CaCertificate::verified("root", &pki.root.certificate_pem);
    let emulator = start_with(Emulator::builder().ca_certificate(uploaded)).await;
    emulator.delete_ca_certificate("root");
    emulator.upload_ca_certificate(CaCertificate::unverified("other", &pki.root.certificate_pem)).unwrap();

    emulator.reset();

    let names: Vec<_> =
        emulator.ca_certificates().as_array().unwrap().iter().map(|of| of["name"].clone()).collect();
    assert_eq!(names, ["root"]);
    let wrong = CaCertificate::verified("leaf", &pki.devices[0].certificate_pem);
    let error = Emulator::builder().ca_certificate(wrong).start().await.unwrap_err();
    assert_eq!(error.to_string(), "certificate `leaf` is not the certificate of an authority");
}

#[tokio::test]
async fn the_management_port_keeps_certificates() {
    let emulator = start_with(Emulator::builder().manage_port(0)).await;
    let port = emulator.manage_port().unwrap();
    let ask = async |method: &str, path: &str, body: Value| {
        let target = format!("/certificates{path}");
        let reply = ask_in_clear(port, method, &target, "Host: localhost\r\n", &body.to_string()).await;
        (reply.status, reply.body)
    };
    let pem = Pki::new(["dev1"], 0).unwrap().root.certificate_pem;

    assert_eq!(ask("GET", "", Value::Null).await, (200, json!([])));
    assert_eq!(ask("PUT", "/root", json!({"certificate": pem})).await.0, 204);
    let (status, root) = ask("GET", "/ROOT", Value::Null).await;
    assert_eq!((status, &root["name"], &root["isVerified"]), (200, &json!("root"), &json!(false)));
    assert_eq!(root["info"]["subjectName"], "CN=Azure DPS test root");
    assert_eq!(ask("PUT", "/root", json!({"isVerified": true})).await.0, 204);
    assert_eq!(ask("GET", "", Value::Null).await.1, emulator.ca_certificates());
    assert_eq!(emulator.ca_certificates()[0]["isVerified"], true);
    assert_eq!(ask("PUT", "/other", json!({"certificate": pem, "isVerified": true})).await.0, 204);
    assert_eq!(ask("DELETE", "/root", Value::Null).await.0, 204);
    for (method, path, body, status, wanted) in [
        ("GET", "/root", Value::Null, 404, "there is no certificate root"),
        ("DELETE", "/root", Value::Null, 404, "there is no certificate root"),
        ("PUT", "/root", json!({"isVerified": true}), 404, "there is no certificate root"),
        ("PUT", "/root", json!({}), 400, "the body must have certificate, isVerified, or both"),
        (
            "PUT",
            "/root",
            json!({"pem": pem}),
            400,
            "a certificate has no pem; there are certificate and isVerified",
        ),
        (
            "PUT",
            "/root",
            json!({"certificate": pem, "isVerified": 1}),
            400,
            "isVerified must be true or false",
        ),
        (
            "PUT",
            "/root",
            json!({"certificate": "%"}),
            400,
            "certificate `root` is neither PEM nor base64: there is '%' at position 1",
        ),
        ("POST", "/root", Value::Null, 405, "/certificates/root does not know POST"),
        ("POST", "", Value::Null, 405, "/certificates does not know POST"),
    ] {
        assert_eq!(ask(method, path, body).await, (status, json!({"message": wanted})), "{method} {path}");
    }
}
