//! SAS tokens, signed by code that is not the SDK's and not the emulator's.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::Sha256;

/// A token that ends in the year 2100.
pub fn sign(key: &str, resource: &str, policy: &str) -> String {
    sign_as_written(key, &utf8_percent_encode(resource, NON_ALPHANUMERIC).to_string(), policy)
}

/// The same for an audience that is escaped already, or not at all.
pub fn sign_as_written(key: &str, resource: &str, policy: &str) -> String {
    signed(key, resource, policy, 4_102_444_800)
}

/// A token that ends at this second after 1970.
pub fn sign_until(key: &str, resource: &str, expiry: i64) -> String {
    signed(key, &utf8_percent_encode(resource, NON_ALPHANUMERIC).to_string(), "", expiry)
}

fn signed(key: &str, resource: &str, policy: &str, expiry: i64) -> String {
    let signature = mac(key, &format!("{resource}\n{expiry}"));
    let signature = utf8_percent_encode(&signature, NON_ALPHANUMERIC);
    format!("SharedAccessSignature sr={resource}&sig={signature}&skn={policy}&se={expiry}")
}

/// The password of a device at its hub that ends at this second.
pub fn for_hub(key: &str, hub: &str, device_id: &str, expiry: i64) -> String {
    let escaped = utf8_percent_encode(device_id, NON_ALPHANUMERIC);
    let resource = format!("{hub}%2Fdevices%2F{escaped}");
    let signature = mac(key, &format!("{resource}\n{expiry}"));
    let signature = utf8_percent_encode(&signature, NON_ALPHANUMERIC);
    format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}")
}

/// The header line of a back end with every right on an emulator whose builder names no other key.
pub fn service_authorization() -> String {
    let key = BASE64_STANDARD.encode("this-emulator-key-protects-none!");
    format!("Authorization: {}\r\n", sign(&key, "localhost", "provisioningserviceowner"))
}

/// The key of a device from the key of its group.
pub fn derive(group_key: &str, id: &str) -> String {
    mac(group_key, id)
}

fn mac(key: &str, message: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(&BASE64_STANDARD.decode(key).unwrap()).unwrap();
    mac.update(message.as_bytes());
    BASE64_STANDARD.encode(mac.finalize().into_bytes())
}
