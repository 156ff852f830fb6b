//! How messages call the flags: by the environment variable if a flag comes from one.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// The flags that come from environment variables, with the names of these.
#[derive(Clone, Debug, Default)]
pub(crate) struct FlagNames(Vec<(String, String)>);

impl FlagNames {
    /// The name of a flag such as `--seed` in messages.
    pub(crate) fn of<'a>(&'a self, flag: &'a str) -> &'a str {
        self.0.iter().find(|(known, _)| known == flag).map_or(flag, |(_, variable)| variable)
    }

    /// Takes a flag from a variable.
    pub(crate) fn add(&mut self, flag: &str, variable: String) {
        self.0.push((flag.to_owned(), variable));
    }

    /// Makes an error of clap name the variable.
    pub(crate) fn put_into(&self, mut error: clap::Error) -> clap::Error {
        let named = match error.get(ContextKind::InvalidArg) {
            Some(ContextValue::String(shown)) => shown.split(' ').next().unwrap_or_default().to_owned(),
            _ => String::new(),
        };
        let name = self.of(&named).to_owned();
        let about_all = [ErrorKind::MissingRequiredArgument, ErrorKind::ArgumentConflict];
        if name != named {
            error.insert(ContextKind::InvalidArg, ContextValue::String(name));
        } else if !self.0.is_empty() && about_all.contains(&error.kind()) {
            let variables: Vec<&str> = self.0.iter().map(|(_, variable)| variable.as_str()).collect();
            let tip = format!("these environment variables are set: {}", variables.join(", "));
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
        }
        error
    }
}
