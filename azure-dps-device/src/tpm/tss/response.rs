//! Explains the failures of a TPM: what happened and what to do about it.

use std::io;

use azure_dps_core::{Error, ErrorKind};

/// The command that failed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Task {
    /// A command with the password of the owner hierarchy.
    AsOwner,
    /// A command with the password of the endorsement hierarchy.
    AsEndorser,
    /// `TPM2_ActivateCredential`, `TPM2_Import` or `TPM2_Load` with data of the service.
    Blob(&'static str),
    /// Any other command.
    Other(&'static str),
}

/// Returns the response code of a failure, if it has one. The bits from 16 on are the layer; 0 is the TPM
/// itself.
pub(super) fn code(failure: &tss_esapi::Error) -> Option<u32> {
    use tss_esapi::constants::response_code::Tss2ResponseCode::{FormatOne, FormatZero, Success};
    // The library does not expose the number, but prints it.
    let text = match failure {
        tss_esapi::Error::Tss2Error(FormatZero(code)) => code.to_string(),
        tss_esapi::Error::Tss2Error(FormatOne(code)) => code.to_string(),
        tss_esapi::Error::Tss2Error(Success) | tss_esapi::Error::WrapperError(_) => return None,
    };
    u32::from_str_radix(text.rsplit_once("0x")?.1, 16).ok()
}

/// The error for a command that failed.
pub(super) fn failed(task: Task, failure: tss_esapi::Error) -> Error {
    let Some(code) = code(&failure) else {
        return error(match task {
            Task::Blob(_) => format!("{FOREIGN_BLOB}: it has parts that are not valid for a TPM"),
            _ => format!("the TPM sent a malformed answer to {}", task.words()),
        })
        .with_source(failure);
    };
    let why = meaning(task, code);
    error(format!("{why} (response {code:#x} to {})", task.words()))
}

/// Explains the response code `code` to `task`, and says what to do.
fn meaning(task: Task, code: u32) -> &'static str {
    match (task, code) {
        (_, LOCKOUT) => {
            "the TPM is locked after wrong passwords: wait until the lockout ends, \
             or reset it with `tpm2_dictionarylockout --clear-lockout`"
        }
        (Task::AsOwner, _) if is_wrong_password(code) => {
            "the password of the TPM's owner hierarchy is wrong: give it with `owner_password`"
        }
        (Task::AsEndorser, _) if is_wrong_password(code) => {
            "the password of the TPM's endorsement hierarchy is wrong: give it with `endorsement_password`"
        }
        (_, _) if is_wrong_password(code) => {
            "a key of the TPM has a password; the endorsement key, the storage root key and the identity key \
             must have none"
        }
        (_, _) if is_for_now(code) => "the TPM is busy: try again in a moment",
        (_, NO_OBJECT_ROOM | NO_SESSION_ROOM) => {
            "the TPM has no room for another object or session, because other programs left some behind: \
             use a device node with a resource manager, or remove them with `tpm2_flushcontext`"
        }
        (_, NO_PERSISTENT_ROOM) => {
            "the TPM has no room for another persistent key: \
             list its keys with `tpm2_getcap handles-persistent` and remove one with `tpm2_evictcontrol`"
        }
        (_, NOT_STARTED) => "the TPM was not started: a simulator needs `--flags startup-clear`",
        (_, _) if code >> LAYER == TCTI => {
            "the connection to the TPM broke: try again, the next call opens a new one"
        }
        // For a blob the code only means that data could not be decrypted; `Connection::refused`
        // distinguishes the two.
        (Task::AsOwner | Task::AsEndorser | Task::Other(_), FAILURE) => {
            "the TPM is in its failure mode: switch the machine off and on again"
        }
        (Task::Blob(_), _) if code & NOT_ABOUT_INPUT == 0 => FOREIGN_BLOB,
        _ => "the TPM refused a command",
    }
}

/// The error for a TPM that cannot be opened. If it has a device node, opening that shows the reason.
pub(super) fn unreachable(tcti: &str, node: Option<&str>, failure: tss_esapi::Error) -> Error {
    let response = code(&failure).map(|code| format!(" (response {code:#x})")).unwrap_or_default();
    match node {
        Some(node) => match std::fs::File::options().read(true).write(true).open(node) {
            Err(why) => error(format!("{node} cannot be opened: {}", advice(why.kind()))).with_source(why),
            Ok(_) => error(format!("{node} is not a TPM{response}")),
        },
        None => error(format!(
            "no TPM answers at `{tcti}`{response}: check that it runs there \
             and that the TCTI's library of libtss2 is installed"
        )),
    }
}

/// Says what to do about a device node that cannot be opened.
fn advice(why: io::ErrorKind) -> &'static str {
    match why {
        io::ErrorKind::NotFound => {
            "the machine has no TPM 2.0, it is disabled in the firmware, or its driver is not loaded; \
             set another node with `device`"
        }
        io::ErrorKind::PermissionDenied => {
            "the user needs read and write access, which members of the group `tss` usually have: \
             `usermod --append --groups tss USER`, then sign in again"
        }
        io::ErrorKind::ResourceBusy => {
            "another process uses the TPM, and this node serves one at a time: use /dev/tpmrm0"
        }
        _ => "check that it is the device node of a TPM",
    }
}

impl Task {
    fn words(self) -> &'static str {
        match self {
            Self::AsOwner => "a command of the owner",
            Self::AsEndorser => "a command of the endorsement hierarchy",
            Self::Blob(words) | Self::Other(words) => words,
        }
    }
}

pub(super) fn error(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Credential, message)
}

/// Whether the same command may succeed in a moment.
pub(super) fn is_for_now(code: u32) -> bool {
    matches!(code, BUSY | YIELDED | TESTING | NV_RATE | NV_UNAVAILABLE)
}

fn is_wrong_password(code: u32) -> bool {
    // The errors "authorization failed" and "bad authorization" of a session, in the format for sessions.
    code >> LAYER == 0 && code & 0x880 == 0x880 && matches!(code & 0x3f, 0x0e | 0x22)
}

/// The TPM is in its failure mode, or libtpms could not decrypt data.
pub(super) const FAILURE: u32 = 0x101;
const FOREIGN_BLOB: &str = "the blob that the service sent is not for this TPM: the service \
    encrypted it for other keys, or it was modified on the way; check the endorsement key of the enrollment";
const NOT_STARTED: u32 = 0x100;
const NO_PERSISTENT_ROOM: u32 = 0x14b;
const NO_OBJECT_ROOM: u32 = 0x902;
const NO_SESSION_ROOM: u32 = 0x903;
const YIELDED: u32 = 0x908;
const TESTING: u32 = 0x90a;
const LOCKOUT: u32 = 0x921;
const NV_RATE: u32 = 0x920;
const BUSY: u32 = 0x922;
const NV_UNAVAILABLE: u32 = 0x923;
const LAYER: u32 = 16;
const TCTI: u32 = 10;
/// Set in warnings and in errors about a session.
const NOT_ABOUT_INPUT: u32 = 0x800;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_of_data_of_the_service_is_a_foreign_blob() {
        // Seen on a simulator, for credentials and keys that were made for another TPM or modified.
        for code in [0x101, 0x1df, 0x3df, 0x3d5, 0x2c3, 0x2c4, 0x2ca, 0x2d2, 0x2d5, 0x2e1, 0x3c7, 0x9000b] {
            assert_eq!(meaning(Task::Blob("import"), code), FOREIGN_BLOB, "{code:#x}");
            assert_ne!(meaning(Task::Other("sign"), code), FOREIGN_BLOB, "{code:#x}");
        }
    }

    #[test]
    fn other_codes_have_their_advice_for_every_command() {
        for (code, part) in [
            (0x100, "was not started"),
            (0x14b, "another persistent key"),
            (0x902, "another object"),
            (0x903, "another object or session"),
            (0x908, "is busy"),
            (0x90a, "is busy"),
            (0x921, "locked"),
            (0x922, "is busy"),
            (0xa000a, "connection"),
        ] {
            for task in [Task::AsOwner, Task::AsEndorser, Task::Blob("x"), Task::Other("x")] {
                assert!(meaning(task, code).contains(part), "{code:#x} to {task:?}");
            }
        }
    }

    #[test]
    fn a_wrong_password_is_reported_with_its_option() {
        for code in [0x9a2, 0x98e, 0xaa2] {
            assert!(meaning(Task::AsOwner, code).contains("`owner_password`"), "{code:#x}");
            assert!(meaning(Task::AsEndorser, code).contains("`endorsement_password`"), "{code:#x}");
            assert!(meaning(Task::Blob("x"), code).contains("must have none"), "{code:#x}");
        }
        assert!(!meaning(Task::AsOwner, 0x1a2).contains("password"), "no session is to blame");
    }

    #[test]
    fn the_failure_mode_is_distinguished_from_a_refusal() {
        assert!(meaning(Task::Other("x"), FAILURE).contains("failure mode"));
        assert!(meaning(Task::AsOwner, FAILURE).contains("failure mode"));
    }

    #[test]
    fn a_device_node_that_cannot_be_opened_comes_with_advice() {
        for (why, part) in [
            (io::ErrorKind::NotFound, "firmware"),
            (io::ErrorKind::PermissionDenied, "group `tss`"),
            (io::ErrorKind::ResourceBusy, "/dev/tpmrm0"),
            (io::ErrorKind::Other, "device node of a TPM"),
        ] {
            assert!(advice(why).contains(part), "{why}");
        }
    }
}
