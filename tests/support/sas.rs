//! SAS tokens, signed by code that is not the SDK's and not the emulator's.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::Sha256;

/// A token that ends in the year 2100.
pub fn sign(key: &str, resource: &str, policy: &str) -> String {
    let resource = utf8_percent_encode(resource, NON_ALPHANUMERIC).to_string();
    let signature = mac(key, &format!("{resource}\n4102444800"));
    let signature = utf8_percent_encode(&signature, NON_ALPHANUMERIC);
    format!("SharedAccessSignature sr={resource}&sig={signature}&skn={policy}&se=4102444800")
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
