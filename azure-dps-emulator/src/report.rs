//! The text of an error for people: what failed and why, each on its own line. `main` prints the `Debug` of an
//! error, so `{:?}` has this text, and `{:#?}` has the structure.

use std::error::Error;
use std::fmt;

/// The `Debug` of an error: the report, or in the alternate form what `structure` writes.
pub(crate) fn debug(
    f: &mut fmt::Formatter<'_>,
    error: &dyn Error,
    structure: impl FnOnce(&mut fmt::Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    if f.alternate() {
        return structure(f);
    }
    let message = one_line(error);
    f.write_str(&message)?;
    let mut last = message;
    let mut source = error.source();
    while let Some(cause) = source {
        let text = one_line(cause);
        // Some libraries wrap an error and repeat its message.
        if text != last {
            write!(f, "\n  because {text}")?;
        }
        last = text;
        source = cause.source();
    }
    Ok(())
}

/// Messages of other libraries may have several lines.
fn one_line(error: &dyn Error) -> String {
    let text = error.to_string();
    let lines: Vec<&str> = text.split(|c: char| c.is_control()).map(str::trim).collect();
    lines.join(" ")
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use time::OffsetDateTime;

    use crate::access::policy::PolicyKeyFault;
    use crate::crypto::base64_text::NotBase64;
    use crate::crypto::pki::Pki;
    use crate::data_file::SaveError;
    use crate::issuance::NotAccepted;
    use crate::issuance::policy::CertificatePolicyError;
    use crate::records::authorities::{Authorities, CaCertificate};
    use crate::records::hubs::call_error::HubCallError;
    use crate::start_error::StartError;
    use crate::state::fault::FaultError;
    use crate::state::saved::StateError;

    #[test]
    fn a_cause_has_one_line_and_is_not_repeated() {
        #[derive(Debug, thiserror::Error)]
        #[error("reset\n by peer")]
        struct Wrapped(#[source] io::Error);

        let source = io::Error::other(Wrapped(io::Error::other("reset by peer")));
        let error = StartError::DataFile { path: "state.json".into(), source };

        assert_eq!(format!("{error:?}"), "cannot use the data file state.json\n  because reset by peer");
    }

    #[test]
    fn each_public_error_is_its_message_in_debug_and_its_structure_in_the_alternate_form() {
        let character = NotBase64::Character { character: '!', position: 3 };
        let name = CertificatePolicyError::Name { kind: "namespace", name: "N".into() };
        let device = HubCallError::UnknownDevice { hub: "h".into(), device_id: "d".into() };
        let pki = Pki::new(["no id"], 0).unwrap_err();
        let certificate = Authorities::default()
            .put(CaCertificate::verified("no name", ""), OffsetDateTime::UNIX_EPOCH)
            .unwrap_err();
        let errors: [(&dyn std::error::Error, &str); 16] = [
            (&StartError::HubTwice("h".into()), "HubTwice(\n"),
            (&NotAccepted("revoked".into()), "NotAccepted(\n"),
            (&FaultError::Nth, "Nth"),
            (&character, "Character {\n    character: '!',\n    position: 3,\n}"),
            (&NotBase64::CutOff, "CutOff"),
            (&PolicyKeyFault::NotBase64(character), "NotBase64(\n    Character {\n"),
            (&PolicyKeyFault::Empty, "Empty"),
            (&name, "Name {\n    kind: \"namespace\",\n"),
            (&CertificatePolicyError::Days(5), "Days(\n    5,\n"),
            (&CertificatePolicyError::NoKeyType, "NoKeyType"),
            (&device, "UnknownDevice {\n    hub: \"h\",\n    device_id: \"d\",\n}"),
            (&HubCallError::NoAnswer(Duration::ZERO), "NoAnswer(\n"),
            (&pki, "PkiError(\n"),
            (&certificate, "CaCertificateError(\n"),
            (&StateError::Newer(2), "Newer(\n    2,\n"),
            (&SaveError::NoFile, "NoFile"),
        ];
        for (error, structure) in errors {
            assert_eq!(format!("{error:?}"), error.to_string());
            let shown = format!("{error:#?}");
            assert!(shown.starts_with(structure), "{shown}");
        }
    }
}
