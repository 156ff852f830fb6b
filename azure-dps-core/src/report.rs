//! The text of an error for people: what failed, why, and what to do next, each on its own line.

use std::error::Error;
use std::fmt::{self, Write};

/// Writes the message, a line for each cause, and the help.
pub(crate) fn write(out: &mut impl Write, error: &(dyn Error + 'static), help: &str) -> fmt::Result {
    let message = one_line(error);
    out.write_str(&message)?;
    let mut last = message;
    for cause in std::iter::successors(error.source(), |&cause| cause.source()) {
        let cause = one_line(cause);
        // Some libraries wrap an error and repeat its message.
        if cause != last {
            write!(out, "\n  because {cause}")?;
        }
        last = cause;
    }
    write!(out, "\nhelp: {help}")
}

/// Messages of other libraries may have several lines.
fn one_line(error: &dyn Error) -> String {
    let lines: Vec<_> = error.to_string().lines().map(|line| line.trim().to_owned()).collect();
    lines.join(" ").replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use std::io;

    use crate::error::Error;
    use crate::error_kind::ErrorKind;

    fn lost() -> Error {
        let reset =
            Error::new(ErrorKind::Io, "the stream ended").with_source(io::Error::other("reset\n by peer"));
        Error::new(ErrorKind::Io, "the connection was lost").with_source(reset).with_operation_id("5.a")
    }

    #[test]
    fn message_causes_and_help_have_lines_of_their_own() {
        let error = lost();
        let expected = format!(
            "the connection was lost (operation 5.a)\n  because the stream ended\n  because reset by peer\nhelp: {}",
            error.help()
        );
        assert_eq!(error.report(), expected);
        assert_eq!(format!("{error:?}"), expected, "as `main` prints it");
    }

    #[test]
    fn a_cause_that_repeats_the_message_is_left_out() {
        let error = Error::new(ErrorKind::Io, "reset").with_source(io::Error::other("reset"));
        assert!(error.report().starts_with("reset\nhelp: "), "{error:?}");
    }

    #[test]
    fn the_alternate_debug_shows_the_structure() {
        let shown = format!("{:#?}", lost());
        for part in ["Error {\n", "kind: Io,\n", "operation_id: \"5.a\"", "source: Error {\n"] {
            assert!(shown.contains(part), "{shown}");
        }
    }

    #[test]
    fn display_stays_one_line() {
        assert_eq!(lost().to_string(), "the connection was lost (operation 5.a)");
    }
}
