//! The value of `--policy`, whose keys can come from files and environment variables, because other users of
//! the machine can read a command line.

use std::env;
use std::path::PathBuf;
use std::str::FromStr;

use azure_dps_emulator::plumbing::{limited_text, shown};
use azure_dps_emulator::{AccessPolicy, Right};

/// An access policy whose keys are not read yet. `Debug` of the sources shows no key.
#[derive(Debug)]
pub(super) struct PolicyFlag {
    name: String,
    rights: Vec<Right>,
    primary: Option<KeySource>,
    secondary: Option<KeySource>,
}

enum KeySource {
    Given(String),
    File(PathBuf),
    Variable(String),
}

impl FromStr for PolicyFlag {
    type Err = String;

    /// Reads `NAME,rights=RIGHT+RIGHT` and, for each key, `primary=BASE64`, `primary-file=PATH` or
    /// `primary-env=VARIABLE`. Messages show only the name and the rights, because anything else may be a key
    /// in the wrong place.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let name = parts.next().unwrap_or_default().to_owned();
        let called = shown(&name);
        let (mut rights, mut primary, mut secondary) = (None, None, None);
        for part in parts {
            let unknown = || {
                format!(
                    "policy `{called}`: expected only rights=…, and for a key primary=…, primary-file=… or \
                     primary-env=…, and the same with secondary"
                )
            };
            let (member, value) = part.split_once('=').ok_or_else(unknown)?;
            let (place, source) = match member {
                "rights" => {
                    let read = value.split('+').map(right).collect::<Result<Vec<_>, _>>()?;
                    if rights.replace(read).is_some() {
                        return Err(format!("policy `{called}`: rights is given twice"));
                    }
                    continue;
                }
                "primary" => (&mut primary, KeySource::Given(value.to_owned())),
                "primary-file" => (&mut primary, KeySource::File(value.into())),
                "primary-env" => (&mut primary, KeySource::Variable(value.to_owned())),
                "secondary" => (&mut secondary, KeySource::Given(value.to_owned())),
                "secondary-file" => (&mut secondary, KeySource::File(value.into())),
                "secondary-env" => (&mut secondary, KeySource::Variable(value.to_owned())),
                _ => return Err(unknown()),
            };
            if place.replace(source).is_some() {
                return Err(format!("policy `{called}`: the key of `{member}` is given twice"));
            }
        }
        let rights = rights.ok_or_else(|| format!("policy `{called}`: rights=RIGHT+RIGHT is missing"))?;
        Ok(PolicyFlag { name, rights, primary, secondary })
    }
}

impl PolicyFlag {
    /// The policy, with its keys read from their sources.
    ///
    /// # Errors
    /// A file or a variable cannot be read.
    pub(super) fn read(self) -> Result<AccessPolicy, String> {
        let PolicyFlag { name, rights, primary, secondary } = self;
        let key = |source: Option<KeySource>| {
            source.map(KeySource::read).transpose().map_err(|why| format!("policy `{}`: {why}", shown(&name)))
        };
        let (primary, secondary) = (key(primary)?, key(secondary)?);
        let mut policy = AccessPolicy::new(name, rights);
        if let Some(key) = primary {
            policy = policy.with_primary_key(key);
        }
        if let Some(key) = secondary {
            policy = policy.with_secondary_key(key);
        }
        Ok(policy)
    }
}

impl KeySource {
    /// The key as base64. Files often end with a line feed.
    fn read(self) -> Result<String, String> {
        let text = match self {
            KeySource::Given(key) => return Ok(key),
            KeySource::File(path) => limited_text(&path, LARGEST_KEY_FILE)
                .map_err(|error| format!("key file {}: {error}", shown(&path)))?,
            KeySource::Variable(name) => env::var(&name).map_err(|error| match error {
                env::VarError::NotPresent => format!("the environment variable {} is not set", shown(&name)),
                // Replaces the error of the library, which shows the value.
                env::VarError::NotUnicode(_) => {
                    format!("the environment variable {} is not text in UTF-8", shown(&name))
                }
            })?,
        };
        Ok(text.trim().to_owned())
    }
}

impl std::fmt::Debug for KeySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeySource")
    }
}

/// The largest file with a key in MiB.
const LARGEST_KEY_FILE: usize = 1;

fn right(word: &str) -> Result<Right, String> {
    Right::ALL.into_iter().find(|right| right.as_str() == word).ok_or_else(|| {
        let words = Right::ALL.map(Right::as_str);
        format!("the right {} does not exist; the rights are {}", shown(word), words.join(", "))
    })
}
