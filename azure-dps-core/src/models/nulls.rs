//! `null` where a member needs a value: it becomes the value of a missing member. For
//! `#[serde(deserialize_with = …)]` only.

use serde::{Deserialize, Deserializer};

/// The default of the type.
pub(super) fn as_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A list without its nulls. A list that contains only nulls counts as absent, because an empty list means
/// something else.
pub(super) fn left_out<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    let Some(list) = Option::<Vec<Option<T>>>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let is_empty = list.is_empty();
    let values: Vec<T> = list.into_iter().flatten().collect();
    Ok((is_empty || !values.is_empty()).then_some(values))
}

#[cfg(test)]
mod tests {
    use serde::{Serialize, de::DeserializeOwned};
    use serde_json::{Value, json};

    use crate::models::{DeviceRegistrationState, EnrollmentGroup, IndividualEnrollment};

    /// The places of all members and elements in a value, as JSON pointers.
    fn places(of: &Value, at: &str, found: &mut Vec<String>) {
        let members: Vec<(String, &Value)> = match of {
            Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), value)).collect(),
            Value::Array(items) => {
                items.iter().enumerate().map(|(n, value)| (n.to_string(), value)).collect()
            }
            _ => Vec::new(),
        };
        for (name, value) in members {
            let place = format!("{at}/{name}");
            places(value, &place, found);
            found.push(place);
        }
    }

    /// Whether `written` says nothing that `read` does not say.
    fn invents_nothing(read: &Value, written: &Value) -> bool {
        if read == written {
            return true;
        }
        match (read, written) {
            (Value::Object(read), Value::Object(written)) => written
                .iter()
                .all(|(name, value)| read.get(name).is_some_and(|read| invents_nothing(read, value))),
            (Value::Array(read), Value::Array(written)) => {
                let read: Vec<_> = read.iter().filter(|value| !value.is_null()).collect();
                read.len() == written.len() && read.iter().zip(written).all(|(a, b)| invents_nothing(a, b))
            }
            _ => false,
        }
    }

    /// Reads a body and writes it back, with each of its members set to null and each left out.
    fn check<T: Serialize + DeserializeOwned>(body: &Value, required: &str) {
        let mut found = Vec::new();
        places(body, "", &mut found);
        for place in found.iter().filter(|place| **place != format!("/{required}")) {
            let mut nulled = body.clone();
            *nulled.pointer_mut(place).unwrap() = Value::Null;
            let (parent, name) = place.rsplit_once('/').unwrap();
            let mut without = body.clone();
            if let Some(members) = without.pointer_mut(parent).unwrap().as_object_mut() {
                members.remove(name);
            }
            for odd in [nulled, without] {
                let read: T =
                    serde_json::from_value(odd.clone()).unwrap_or_else(|why| panic!("{place}: {why}"));
                let written = serde_json::to_value(&read).unwrap();
                assert!(invents_nothing(&odd, &written), "{place}: {odd} became {written}");
            }
        }
    }

    fn info() -> Value {
        json!({
            "subjectName": "CN=a", "sha1Thumbprint": "AB", "sha256Thumbprint": "CD", "issuerName": "CN=b",
            "notBeforeUtc": "2026-01-01T00:00:00Z", "notAfterUtc": "2049-12-31T23:59:59Z", "serialNumber": "01",
            "version": 3
        })
    }

    fn state() -> Value {
        json!({
            "registrationId": "a", "createdDateTimeUtc": "2026-01-01T00:00:00Z", "assignedHub": "h.example",
            "lastUpdatedDateTimeUtc": "2026-01-01T00:00:00Z", "deviceId": "a", "status": "failed",
            "substatus": "initialAssignment", "errorCode": 400_209, "errorMessage": "no", "etag": "t",
            "payload": {"a": 1}, "connectionProfile": "classic", "tpm": {"authenticationKey": "AA=="}, "symmetricKey": {"enrollmentGroupId": "g"},
            "x509": {"certificateInfo": info(), "enrollmentGroupId": "g", "signingCertificateInfo": info()}
        })
    }

    fn record(id: &str, attestation: &Value) -> Value {
        json!({
            id: "a", "attestation": attestation, "capabilities": {"iotEdge": true},
            "iotHubHostName": "h.example", "etag": "t", "provisioningStatus": "enabled",
            "initialTwin": {"tags": {"a": [1]}, "properties": {"desired": {"b": {"c": 1}}}},
            "reprovisionPolicy": {"updateHubAssignment": false, "migrateDeviceData": false},
            "createdDateTimeUtc": "2026-01-01T00:00:00Z", "lastUpdatedDateTimeUtc": "2026-01-01T00:00:00Z",
            "allocationPolicy": "custom", "iotHubs": ["h.example"], "namespaceName": "n",
            "certificateAuthorityName": "a", "certificatePolicyName": "p", "credentialPolicyName": "c",
            "customAllocationDefinition": {"webhookUrl": "https://f.example", "apiVersion": "2019-03-31"}
        })
    }

    #[test]
    fn no_record_gets_a_value_by_being_read_and_written_back() {
        let certificates = || json!({"primary": {"info": info()}, "secondary": {"certificate": "c"}});
        for attestation in [
            json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": "a", "secondaryKey": "b"}}),
            json!({"type": "tpm", "tpm": {"endorsementKey": "a", "storageRootKey": "b"}}),
            json!({"type": "x509", "x509": {"clientCertificates": certificates()}}),
            json!({"type": "x509", "x509": {"signingCertificates": certificates()}}),
            json!({"type": "x509", "x509": {"caReferences": {"primary": "a", "secondary": "b"}}}),
            json!({"type": "later", "later": {"k": 1}}),
        ] {
            check::<EnrollmentGroup>(&record("enrollmentGroupId", &attestation), "enrollmentGroupId");
            let mut enrollment = record("registrationId", &attestation);
            enrollment["registrationState"] = state();
            enrollment["deviceId"] = json!("a");
            enrollment["optionalDeviceInformation"] = json!({"a": 1});
            check::<IndividualEnrollment>(&enrollment, "registrationId");
        }
        check::<DeviceRegistrationState>(&state(), "");
    }
}
