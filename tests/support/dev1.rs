//! An emulator that knows the device `dev1`, and tokens for `dev1` that another program signed; they end in
//! the year 2100.

use azure_dps_device::Credential;
use azure_dps_emulator::{Emulator, EmulatorBuilder, Pki};
use serde_json::{Value, json};

use crate::Shown;
use crate::emulated::PRIMARY;

/// Each has the form in which that client writes its tokens.
pub const NODE: &str = "SharedAccessSignature sr=0ne00EMU1A7/registrations/dev1&sig=Eha5Nv0%2BAsNWUBJWm8pu8XmoeaRF%2FOwq0N1%2BJ%2BEhB6k%3D&skn=registration&se=4102444800";
pub const CSHARP: &str = "SharedAccessSignature sr=0ne00EMU1A7%2Fregistrations%2Fdev1&sig=P1wMru%2FbYLuUEm38goUGiCB1G0FvU29FyUvULNCa0Us%3D&se=4102444800&skn=registration";
pub const PYTHON: &str = "SharedAccessSignature sr=0ne00EMU1A7%2Fregistrations%2Fdev1&sig=P1wMru%2FbYLuUEm38goUGiCB1G0FvU29FyUvULNCa0Us%3D&se=4102444800";
pub const C: &str = "SharedAccessSignature sr=0ne00EMU1A7%2fregistrations%2fdev1&sig=CvYQofVDffk3a26Mlzdacx4Qs9sBXcpHDOBwIM6IZf8%3d&se=4102444800&skn=registration";
pub const JAVA: &str = "SharedAccessSignature sr=0ne00EMU1A7/registrations/dev1&sig=Eha5Nv0%2BAsNWUBJWm8pu8XmoeaRF%2FOwq0N1%2BJ%2BEhB6k%3D&se=4102444800&skn=";
pub const AZ_C: &str = "SharedAccessSignature sr=0ne00EMU1A7%2fregistrations%2fdev1&sig=CvYQofVDffk3a26Mlzdacx4Qs9sBXcpHDOBwIM6IZf8%3D&se=4102444800";
/// It is signed with another key.
pub const WRONG_KEY: &str = "SharedAccessSignature sr=0ne00EMU1A7/registrations/dev1&sig=G%2BJlCBHjtC7cBIlLt1wxeGXf2C5YvzW54toF99D1BGo%3D&se=4102444800";

/// The path of the device below the service's address.
pub const DEV1: &str = "0ne00EMU1A7/registrations/dev1";
/// Its user name over MQTT.
pub const MQTT_USER: &str = "0ne00EMU1A7/registrations/dev1/api-version=2019-03-31";

/// A builder of an emulator in which `dev1` is enrolled.
pub fn seeded() -> EmulatorBuilder {
    Emulator::builder().seed_json(json!({"enrollments": [enrollment()]}).to_string())
}

pub fn enrollment() -> Value {
    json!({"registrationId": "dev1", "attestation": keys()})
}

pub fn keys() -> Value {
    json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": PRIMARY}})
}

pub async fn start() -> Shown {
    start_with(seeded()).await
}

/// An emulator that assigns `dev1` at its first poll.
pub async fn enrolled() -> Shown {
    Shown(seeded().start().await.unwrap())
}

/// The credential with which the SDK registers `dev1`.
pub fn credential() -> Credential {
    Credential::symmetric_key("dev1".parse().unwrap(), PRIMARY.parse().unwrap())
}

/// Starts an emulator that lets its devices wait three seconds and poll twice.
pub async fn start_with(builder: EmulatorBuilder) -> Shown {
    Shown(builder.retry_after(3).polls(1).start().await.unwrap())
}

/// A builder of an emulator with a group whose devices have leaves of this PKI.
pub fn certified(pki: &Pki) -> EmulatorBuilder {
    let issuer = pki.intermediates.last().unwrap_or(&pki.root);
    let certificates = json!({"primary": {"certificate": issuer.certificate_pem}});
    let attestation = json!({"type": "x509", "x509": {"signingCertificates": certificates}});
    let group = json!({"enrollmentGroupId": "plant", "attestation": attestation});
    Emulator::builder().seed_json(json!({"enrollmentGroups": [group]}).to_string())
}
