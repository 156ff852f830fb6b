//! Values that may be sent but never shown: `Debug` does not print them.
//!
//! Nothing here encrypts or wipes memory: code can read such a value as before, and only printing it is
//! harmless.

use std::{fmt, ops::Deref};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A value that `Debug` prints as `[redacted]`.
///
/// It dereferences to the value, is written to JSON like the value, and has no `Display`.
///
/// ```
/// use azure_dps_core::Sensitive;
///
/// let key = Sensitive::<String>::from("c2VjcmV0");
/// assert_eq!(key.as_str(), "c2VjcmV0");
/// assert_eq!(format!("{key:?}"), "[redacted]");
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Sensitive<T>(T);

impl<T> Sensitive<T> {
    /// Returns the value.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Sensitive<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> From<T> for Sensitive<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl From<&str> for Sensitive<String> {
    fn from(value: &str) -> Self {
        Self(value.to_owned())
    }
}

impl<T: Serialize> Serialize for Sensitive<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Sensitive<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The messages of serde quote the value that did not fit.
        T::deserialize(deserializer)
            .map(Self)
            .map_err(|_| de::Error::custom("a secret value has another type"))
    }
}

impl<T> fmt::Debug for Sensitive<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A type that contains a JSON object and prints only the names of its members.
macro_rules! json_object {
    ($(#[$meta:meta])* pub struct $name:ident;) => {
        $(#[$meta])*
        #[derive(Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(serde_json::Map<String, serde_json::Value>);

        impl $name {
            /// An object without members.
            pub fn new() -> Self {
                Self::default()
            }

            /// Returns the map.
            pub fn into_inner(self) -> serde_json::Map<String, serde_json::Value> {
                self.0
            }
        }

        impl std::ops::Deref for $name {
            type Target = serde_json::Map<String, serde_json::Value>;

            fn deref(&self) -> &Self::Target {
                &self.0
            }
        }

        impl std::ops::DerefMut for $name {
            fn deref_mut(&mut self) -> &mut Self::Target {
                &mut self.0
            }
        }

        impl From<serde_json::Map<String, serde_json::Value>> for $name {
            fn from(members: serde_json::Map<String, serde_json::Value>) -> Self {
                Self(members)
            }
        }

        impl<K: Into<String>, V: Into<serde_json::Value>> FromIterator<(K, V)> for $name {
            fn from_iter<I: IntoIterator<Item = (K, V)>>(members: I) -> Self {
                Self(members.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_set().entries(self.0.keys()).finish()
            }
        }
    };
}
pub(crate) use json_object;

json_object! {
    /// The members of a JSON object that this version of the crate does not know.
    ///
    /// They are sent back unchanged: the service replaces a record as a whole, so a dropped member would be
    /// deleted. `Debug` prints the names, never the values. Do not insert a name for which the model has a
    /// field; it would be written twice.
    pub struct OtherMembers;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn debug_shows_nothing_and_json_everything() {
        let key = Sensitive::<String>::from("marker-key");
        assert_eq!(format!("{key:?} {key:#?}"), "[redacted] [redacted]");
        assert_eq!(serde_json::to_value(&key).unwrap(), json!("marker-key"));
        assert_eq!(key.len(), 10);
        assert_eq!(key.into_inner(), "marker-key");
    }

    #[test]
    fn error_of_a_wrong_type_does_not_quote_the_value() {
        let error = serde_json::from_str::<Sensitive<u32>>("\"marker-key\"").unwrap_err();
        assert!(!error.to_string().contains("marker"), "{error}");
    }

    #[test]
    fn other_members_print_names_only() {
        let other = OtherMembers::from_iter([("credential", "marker-value")]);
        assert_eq!(format!("{other:?}"), "{\"credential\"}");
        assert_eq!(serde_json::to_value(&other).unwrap(), json!({"credential": "marker-value"}));
    }
}
