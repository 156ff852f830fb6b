//! The two ids in paths, topics and signatures, parsed once so that no other code checks them again.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;

/// The ID scope of a provisioning service instance, for example `0ne00111111`.
///
/// Azure generates it with the instance and never changes it; the overview page of the instance and `az iot
/// dps show` display it. The grammar is not published, so this type accepts 1 to 128 ASCII letters, digits,
/// `.`, `_` or `-`. Two scopes that differ only in case are equal.
///
/// Source: DPS service concepts, "ID scope".
///
/// ```
/// use azure_dps_core::IdScope;
///
/// let scope: IdScope = "0ne00111111".parse()?;
/// assert_eq!(scope.as_str(), "0ne00111111");
/// # Ok::<(), azure_dps_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct IdScope(String);

impl IdScope {
    /// Parses an ID scope.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the text is empty, too long or contains another character.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        check("ID scope", &text, |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))?;
        Ok(Self(text))
    }

    /// The scope as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The registration id of a device: 1 to 128 ASCII letters, digits, `-`, `.`, `_` or `:`.
///
/// The service ignores case, and so does `==`. The type keeps the case, because the group key derivation
/// signs the id as it is written. Prefer lower case. With X.509 the id is the subject common name of the
/// device's certificate and therefore has at most 64 characters. The service decides whether a special
/// character may begin or end an id; this type refuses only `.` and `..`, because they would change the
/// request path.
///
/// Source: DPS service concepts, "Registration ID".
///
/// ```
/// use azure_dps_core::RegistrationId;
///
/// let id: RegistrationId = "sensor-042".parse()?;
/// assert_eq!(id, "SENSOR-042".parse()?);
/// assert!("sensor/042".parse::<RegistrationId>().is_err());
/// # Ok::<(), azure_dps_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct RegistrationId(String);

impl RegistrationId {
    /// Parses a registration id.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the text is empty, too long, `.` or `..`, or contains another character.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        check("registration id", &text, |c| c.is_ascii_alphanumeric() || matches!(c, ':' | '.' | '_' | '-'))?;
        Ok(Self(text))
    }

    /// The id as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! text_id {
    ($type:ident) => {
        impl FromStr for $type {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $type {
            type Error = Error;

            fn try_from(text: &str) -> Result<Self> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = Error;

            fn try_from(text: String) -> Result<Self> {
                Self::new(text)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl PartialEq for $type {
            fn eq(&self, other: &Self) -> bool {
                self.0.eq_ignore_ascii_case(&other.0)
            }
        }

        impl Eq for $type {}

        impl Hash for $type {
            fn hash<H: Hasher>(&self, state: &mut H) {
                state.write(self.0.to_ascii_lowercase().as_bytes());
            }
        }
    };
}

text_id!(IdScope);
text_id!(RegistrationId);

fn check(what: &str, text: &str, allowed: impl Fn(char) -> bool) -> Result<()> {
    let refuse = |why: String| Err(Error::new(ErrorKind::Config, format!("the {what} {why}")));
    if text.is_empty() {
        return refuse("is empty".into());
    }
    if let Some((at, found)) = text.chars().enumerate().find(|(_, c)| !allowed(*c)) {
        return refuse(format!("has the character {found:?} at position {}", at + 1));
    }
    if text.len() > MAX_LENGTH {
        return refuse(format!("has {} characters; the maximum is {MAX_LENGTH}", text.len()));
    }
    if matches!(text, "." | "..") {
        return refuse(format!("is {text:?}, which would change the path of the request"));
    }
    Ok(())
}

const MAX_LENGTH: usize = 128;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_keep_their_case_and_compare_without_it() {
        let id = RegistrationId::new("Sensor-042.a_b:c").unwrap();
        assert_eq!(id.as_str(), "Sensor-042.a_b:c");
        let set: HashSet<_> = [id, "sensor-042.A_B:C".parse().unwrap()].into_iter().collect();
        assert_eq!(set.len(), 1);
    }

    #[test]
    fn malformed_ids_are_refused_by_name_and_position() {
        for (text, part) in [
            ("", "is empty"),
            ("a/b", "'/' at position 2"),
            ("a b", "' ' at position 2"),
            ("grün", "'ü' at position 3"),
            ("a+b", "'+'"),
            ("$rid", "'$'"),
            (".", "would change the path"),
            ("..", "would change the path"),
        ] {
            let error = RegistrationId::new(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(part), "{text:?}: {error}");
        }
        assert!(RegistrationId::new("a".repeat(128)).is_ok());
        assert!(RegistrationId::new("a".repeat(129)).unwrap_err().to_string().contains("129 characters"));
    }

    #[test]
    fn an_id_scope_has_no_colon_and_no_white_space() {
        assert!(IdScope::new("0ne00111111").is_ok());
        assert!(IdScope::new("0ne:1").is_err());
        assert!(IdScope::new("0ne00111111\n").unwrap_err().to_string().contains("'\\n' at position 12"));
    }
}
