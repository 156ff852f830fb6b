//! The errors of stores, as events and the snapshot report them. Each one has its own help, because the help of
//! [`ErrorKind::Io`] is about the network.

use std::io;

use azure_dps_core::{Error, ErrorKind};

pub(crate) fn unsaved(why: io::Error) -> Error {
    io_error("the record of the device cannot be saved".to_owned(), UNSAVED, why)
}

/// `copy_key` is the key of the copy that is made if the record can be read later.
pub(crate) fn unread(copy_key: &str, why: io::Error) -> Error {
    let message = format!(
        "the stored record cannot be read; if it can be read when the next one is saved, it is put aside \
         under the key {copy_key}, in place of an earlier one"
    );
    io_error(message, UNREAD, why)
}

pub(crate) fn stopped_early() -> Error {
    let message = "the manager was stopped before the stored record was read";
    Error::new(ErrorKind::Io, message).with_help("the record stays as it is: start the manager again")
}

pub(crate) fn unusable(message: String) -> Error {
    Error::new(ErrorKind::Config, message).with_help(UNUSABLE)
}

pub(crate) fn key_unread(name: &str, why: io::Error) -> Error {
    io_error(format!("the private key {name:?} of an issued certificate cannot be read"), KEY_UNREAD, why)
}

pub(crate) fn key_unsaved(name: &str, why: io::Error) -> Error {
    let message = format!("the private key of the issued certificate cannot be stored as {name:?}");
    io_error(message, KEY_UNSAVED, why)
}

pub(crate) fn key_undeleted(name: &str, why: io::Error) -> Error {
    io_error(format!("the private key {name:?} of an old certificate cannot be deleted"), KEY_UNDELETED, why)
}

pub(crate) fn key_missing(name: &str) -> Error {
    let message = format!("the key store has no private key with the name {name:?}");
    Error::new(ErrorKind::Credential, message).with_help(KEY_MISSING)
}

fn io_error(message: String, help: &'static str, why: io::Error) -> Error {
    Error::new(ErrorKind::Io, message).with_help(help).with_source(why)
}

const UNSAVED: &str = "the device works, but forgets what changed if it restarts: check the store; files need a \
     folder in which the user of the program may create files, and free space; the manager tries again within \
     an hour";

const UNREAD: &str = "the device is provisioned as a new one: check that the store is available when the \
     program starts, and that the user of the program may read it";

const UNUSABLE: &str = "the device is provisioned as a new one: to return to the old record, stop the program \
     and give the copy its old key; otherwise delete the copy, and the private keys that it names are deleted \
     at the next start";

const KEY_UNREAD: &str = "check the key store: it must be available, and the user of the program must be allowed \
     to read the key; the manager tries again, and asks for another certificate meanwhile";

const KEY_UNSAVED: &str = "check the key store; files need a folder in which the user of the program may create \
     files, and free space; the manager asks for another certificate within an hour";

const KEY_UNDELETED: &str = "the old key stays in the key store: check that the user of the program may delete \
     it; the manager tries again within an hour";

const KEY_MISSING: &str = "the manager asks for another certificate; if this happens again, find out what \
     deletes keys from the key store, and whether another program uses the record of this device";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_a_help_that_is_not_about_the_network() {
        let why = || io::Error::from(io::ErrorKind::PermissionDenied);
        let of_the_network =
            [ErrorKind::Io, ErrorKind::Config, ErrorKind::Credential].map(|kind| Error::new(kind, "").help());
        for error in [
            unsaved(why()),
            unread("k-unusable", why()),
            stopped_early(),
            unusable("m".to_owned()),
            key_unread("k", why()),
            key_unsaved("k", why()),
            key_undeleted("k", why()),
            key_missing("k"),
        ] {
            assert!(!of_the_network.contains(&error.help()), "{error:?}");
        }
    }
}
