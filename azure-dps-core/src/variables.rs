//! Reads variables of an environment: texts, values and names of files. An error names the variable and shows no
//! secret: of the values, it shows only names of files.

use std::error::Error as StdError;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::endpoint::Endpoint;
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::file_name;

/// The variables of an environment, by their names.
#[derive(Clone, Copy)]
pub struct Variables<'v>(&'v dyn Fn(&str) -> Option<OsString>);

impl<'v> Variables<'v> {
    /// The environment that `lookup` reads, for example `std::env::var_os`.
    pub fn new(lookup: &'v dyn Fn(&str) -> Option<OsString>) -> Self {
        Self(lookup)
    }

    /// Whether a variable is set, also to nothing.
    pub fn is_set(&self, name: &str) -> bool {
        self.0(name).is_some()
    }

    /// The value of a variable, without white space around it, read by `parse`. `None` if it is not set.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the variable is empty or not Unicode, and the error of `parse`.
    pub fn value<T>(&self, name: &str, parse: impl FnOnce(&str) -> Result<T>) -> Result<Option<T>> {
        let Some(value) = self.0(name) else { return Ok(None) };
        let refuse =
            |why: &str| Error::new(ErrorKind::Config, format!("the environment variable {name} {why}"));
        let text = value.to_str().ok_or_else(|| refuse("is not Unicode: set it again as UTF-8 text"))?.trim();
        if text.is_empty() {
            return Err(refuse(EMPTY));
        }
        parse(text).map(Some).map_err(|why| unusable(&format!("the environment variable {name}"), &why))
    }

    /// The name of a file. It need not be Unicode.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the variable is empty, or has the content of a file.
    pub fn file(&self, name: &str) -> Result<Option<PathBuf>> {
        let Some(file) = self.0(name).map(PathBuf::from) else { return Ok(None) };
        let fault = if file.as_os_str().is_empty() { Some(EMPTY) } else { file_name::fault(&file) };
        match fault {
            Some(why) => Err(Error::new(ErrorKind::Config, format!("the environment variable {name} {why}"))),
            None => Ok(Some(file)),
        }
    }
}

impl fmt::Debug for Variables<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Variables")
    }
}

/// The endpoint, which trusts only the certificates in the file that `DPS_CA_FILE` names.
///
/// # Errors
/// [`ErrorKind::Config`] when the file cannot be read, has no certificate, or has a block that cannot be read.
pub fn trust_file(endpoint: Endpoint, file: &Path) -> Result<Endpoint> {
    let refuse = |why: &str| {
        let file = file_name::shown(file);
        let message = format!("the file {file} of the environment variable {CA_FILE} {why}");
        Error::new(ErrorKind::Config, message)
    };
    let pem = fs::read(file).map_err(|why| refuse("cannot be read").with_source(why))?;
    endpoint.trust_only(pem).map_err(|why| refuse(&format!("cannot be used: {why}")))
}

/// The error of variables whose values cannot be used, in one line with its causes.
pub fn unusable(names: &str, why: &Error) -> Error {
    let mut message = format!("{names} cannot be used: {why}");
    for cause in std::iter::successors(why.source(), |&cause| cause.source()) {
        message += &format!(": {cause}");
    }
    Error::new(why.kind(), message)
}

/// The variable that names the file with the certificates to trust.
pub const CA_FILE: &str = "DPS_CA_FILE";
const EMPTY: &str = "is empty: set a value, or unset the variable";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_variable_and_shows_no_value() {
        let lookup = |name: &str| match name {
            "EMPTY" => Some("".into()),
            "BLANK" => Some(" \n".into()),
            "SECRET" => Some("marker!".into()),
            _ => None,
        };
        let variables = Variables::new(&lookup);
        let key = crate::sas::SharedKey::from_base64;
        for (name, part) in [
            ("EMPTY", "the environment variable EMPTY is empty"),
            ("BLANK", "the environment variable BLANK is empty"),
            (
                "SECRET",
                "the environment variable SECRET cannot be used: the key is not base64: there is a '!'",
            ),
        ] {
            let error = variables.value(name, key).unwrap_err();
            assert!(error.to_string().starts_with(part), "{error}");
            assert!(!format!("{error} {error:?} {error:#?}").contains("marker"), "{error}");
        }
        assert_eq!(variables.value("OTHER", key).unwrap(), None);
        assert!(variables.file("EMPTY").unwrap_err().to_string().contains("EMPTY is empty"));
        assert!(variables.is_set("EMPTY") && !variables.is_set("OTHER"));
    }

    #[test]
    fn pem_text_in_place_of_the_name_of_a_file_is_refused_and_not_shown() {
        for content in
            ["-----BEGIN PRIVATE KEY-----\nmarker", "-----BEGIN PRIVATE KEY-----marker", "marker\n"]
        {
            let lookup = |_: &str| Some(content.into());
            let error = Variables::new(&lookup).file("DPS_KEY_FILE").unwrap_err();
            let shown = format!("{error} {error:?} {error:#?}");
            assert!(
                shown.starts_with("the environment variable DPS_KEY_FILE is PEM text or has a line break")
            );
            assert!(!shown.contains("marker"), "{shown}");
        }
    }

    #[test]
    fn white_space_around_a_value_does_not_matter() {
        let lookup = |_: &str| Some(" AAAA\r\n".into());
        let text = Variables::new(&lookup).value("X", |text| Ok(text.to_owned()));
        assert_eq!(text.unwrap().unwrap(), "AAAA");
    }

    #[cfg(unix)]
    #[test]
    fn a_value_has_to_be_unicode_and_the_name_of_a_file_need_not_be() {
        use std::os::unix::ffi::OsStringExt as _;

        let lookup = |_: &str| Some(OsString::from_vec(vec![b'm', 0xff]));
        let variables = Variables::new(&lookup);
        let error = variables.value("DPS_KEY", |_| Ok(())).unwrap_err();
        assert!(error.to_string().starts_with("the environment variable DPS_KEY is not Unicode"), "{error}");
        assert_eq!(variables.file("DPS_KEY_FILE").unwrap(), Some(lookup("").unwrap().into()));
    }

    #[test]
    fn a_file_of_authorities_that_cannot_be_used_is_named_with_its_variable() {
        let missing = trust_file(Endpoint::global(), Path::new("/nowhere/ca.pem")).unwrap_err();
        assert_eq!(
            missing.to_string(),
            "the file /nowhere/ca.pem of the environment variable DPS_CA_FILE cannot be read"
        );
        assert!(missing.source().is_some());
        let empty = trust_file(Endpoint::global(), Path::new("/dev/null")).unwrap_err();
        assert!(empty.to_string().contains("DPS_CA_FILE cannot be used: "), "{empty}");
    }
}
