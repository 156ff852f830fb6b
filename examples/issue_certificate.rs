//! Certificates that the service issues: enroll devices with a certificate policy, register them with a
//! certificate signing request by each attestation, print the chains, keep one in a file, and renew.
//!
//! `cargo run --example issue_certificate` runs it on an embedded emulator; with `--features tpm` also a
//! device with a TPM, in software (`swtpm` has to be installed) or the one that `DPS_TPM` names. With
//! `DPS_CONNECTION_STRING` and `DPS_ID_SCOPE` set it runs against that instance and deletes what it created,
//! also after an error; `DPS_CERTIFICATE_POLICY` names the policy there, as namespace/authority/policy.
#![allow(clippy::print_stdout)] // A sample prints for a person.

use std::process::ExitCode;

use azure_dps_device::core::{CertificateRequest, Identity, IssuedCertificate, RenewalPolicy};
use azure_dps_device::{Credential, DeviceClient, HubAccess};
use azure_dps_emulator::Pki;
use azure_dps_examples::{Made, Playground, group_key, mark, play};
use azure_dps_service::ServiceClient;
use azure_dps_service::core::models::{
    ApiVersion, AttestationMechanism, EnrollmentGroup, IndividualEnrollment, X509CertificateWithInfo,
};
use azure_dps_service::core::{Error, ErrorKind, Result};

#[tokio::main]
async fn main() -> ExitCode {
    play(include_str!("issue_certificate.rs"), run).await
}

async fn run(playground: &Playground) -> Result<()> {
    let policy = playground.certificate_policy()?;
    // Enrollments have certificate policies since this version.
    let service = playground.service_of(ApiVersion::V2026_11_01)?;
    let back_end = BackEnd { playground, service, policy, mark: mark() };

    let key = back_end.by_key().await?;
    let (request, issued) = issue(playground, "key, individual", &key).await?;
    keep(&key, &request, &issued)?;
    for (attestation, credential) in
        [("key, group", back_end.by_group().await?), ("X.509, individual", back_end.by_certificate().await?)]
    {
        issue(playground, attestation, &credential).await?;
    }
    #[cfg(feature = "tpm")]
    {
        let (tpm, _simulator) = azure_dps_examples::chip()?;
        issue(playground, "TPM", &back_end.by_tpm(tpm).await?).await?;
    }

    // A renewal is a registration with a new key. The credential of the registration stays as it is.
    let (_, renewed) = issue(playground, "renewal", &key).await?;
    println!("replaced   {} with {}", issued.leaf().serial_number, renewed.leaf().serial_number);
    without_policy(playground, &back_end.without_policy().await?).await
}

/// Registers a device with a new key and prints the certificate that the service issued for it.
async fn issue(
    playground: &Playground,
    attestation: &str,
    credential: &Credential,
) -> Result<(CertificateRequest, IssuedCertificate)> {
    let id = credential.registration_id();
    let request = CertificateRequest::generate(id)?;
    let device = DeviceClient::new(playground.id_scope(), credential.clone(), playground.https());
    playground.registers(id.as_str());
    let assignment = device.with_policy(playground.policy()).register().csr(&request).await?;
    let issued = assignment.issued_certificate()?;
    println!("issued     {attestation}: {} at {}", assignment.device_id(), assignment.hub());
    for certificate in issued.chain() {
        let (subject, issuer) = (&certificate.subject_name, &certificate.issuer_name);
        println!("           {subject}, issued by {issuer}, until {}", certificate.not_after_utc.date());
    }
    println!("           renew on {}", RenewalPolicy::new().moment_of(issued.leaf()).date());

    // The device signs in at its hub with this certificate, without a password.
    let hub = HubAccess::new(Credential::x509(issued.identity(&request)?)?, &assignment)?;
    println!("           sign in at {} as {}", hub.hub(), hub.client_id());
    Ok((request, issued))
}

/// Keeps key and chain in one file, as a device does for its next start.
fn keep(credential: &Credential, request: &CertificateRequest, issued: &IssuedCertificate) -> Result<()> {
    let file = std::env::temp_dir().join(format!("{}.pem", credential.registration_id()));
    issued.write_pem(request, &file)?;
    let read = Identity::from_pem_files(&file, &file);
    let removed = std::fs::remove_file(&file);
    println!("kept       key and chain of {} in a file, and read them back", read?.info().subject_name);
    removed.map_err(|why| Error::new(ErrorKind::Credential, "the file cannot be deleted").with_source(why))
}

/// Without a policy on the enrollment the service assigns the device and issues nothing.
async fn without_policy(playground: &Playground, credential: &Credential) -> Result<()> {
    match issue(playground, "no policy", credential).await {
        Err(error) if error.kind() == ErrorKind::CertificateNotIssued => {
            println!("not issued {error}\n           {}", error.help());
            Ok(())
        }
        Err(error) => Err(error),
        Ok(_) => Err(Error::new(ErrorKind::Protocol, "a certificate was issued without a policy")),
    }
}

/// The back end: it enrolls the devices of this run.
struct BackEnd<'p> {
    playground: &'p Playground,
    service: ServiceClient,
    policy: [String; 3],
    mark: String,
}

impl BackEnd<'_> {
    async fn by_key(&self) -> Result<Credential> {
        self.keyed("key", |enrollment| self.with_policy(enrollment)).await
    }

    async fn without_policy(&self) -> Result<Credential> {
        self.keyed("plain", |enrollment| enrollment).await
    }

    async fn keyed(
        &self,
        kind: &str,
        adapt: impl FnOnce(IndividualEnrollment) -> IndividualEnrollment,
    ) -> Result<Credential> {
        let id = self.id(kind);
        let attestation = AttestationMechanism::symmetric_key_generated();
        let created = self.enroll(adapt(IndividualEnrollment::new(&id, attestation))).await?;
        let key = created.attestation.as_symmetric_key().and_then(|keys| keys.primary_key.as_deref());
        let key =
            key.ok_or_else(|| Error::new(ErrorKind::Protocol, "the service returned no primary key"))?;
        Ok(Credential::symmetric_key(id.parse()?, key.parse()?))
    }

    async fn by_group(&self) -> Result<Credential> {
        let id = self.id("group");
        let [namespace, authority, policy] = &self.policy;
        let group = EnrollmentGroup::new(&id, AttestationMechanism::symmetric_key_generated())
            .with_certificate_policy(namespace, authority, policy);
        let created = self.service.enrollment_groups().create_or_update(&group).await;
        let created = self.playground.made([Made::Group(id)], created)?;
        let key = group_key(&created.attestation)?;
        Ok(Credential::from_group(&key, self.id("member").parse()?))
    }

    async fn by_certificate(&self) -> Result<Credential> {
        let id = self.id("x509");
        let pki = Pki::new([&id], 1).map_err(|why| {
            Error::new(ErrorKind::Credential, "no certificate could be made").with_source(why)
        })?;
        let device = pki.devices.first();
        let device = device.ok_or_else(|| Error::new(ErrorKind::Credential, "no certificate was made"))?;
        let certificate = X509CertificateWithInfo::from_pem(&device.certificate_pem)?;
        let attestation = AttestationMechanism::x509_client(certificate);
        self.enroll(self.with_policy(IndividualEnrollment::new(&id, attestation))).await?;
        Credential::x509(Identity::from_pem(&device.chain_pem, &device.private_key_pem)?)
    }

    #[cfg(feature = "tpm")]
    async fn by_tpm(&self, tpm: azure_dps_device::TssTpm) -> Result<Credential> {
        use azure_dps_device::Tpm as _;

        let id = self.id("tpm");
        let attestation = AttestationMechanism::tpm(tpm.public_keys()?.endorsement_key_base64());
        self.enroll(self.with_policy(IndividualEnrollment::new(&id, attestation))).await?;
        Ok(Credential::tpm(id.parse()?, std::sync::Arc::new(tpm)))
    }

    fn id(&self, kind: &str) -> String {
        format!("sample-{}-{kind}", self.mark)
    }

    fn with_policy(&self, enrollment: IndividualEnrollment) -> IndividualEnrollment {
        let [namespace, authority, policy] = &self.policy;
        enrollment.with_certificate_policy(namespace, authority, policy)
    }

    async fn enroll(&self, enrollment: IndividualEnrollment) -> Result<IndividualEnrollment> {
        let made = Made::Enrollment(enrollment.registration_id.clone());
        let created = self.service.enrollments().create_or_update(&enrollment).await;
        self.playground.made([made], created)
    }
}
