//! The errors that nothing has ended yet. The snapshot shows the newest one.
//!
//! | error of | ended by |
//! |---|---|
//! | the record | a save that worked |
//! | the deletion of old keys | a deletion that worked |
//! | the service | an assignment |
//! | the hub | a connection |
//! | a certificate | another one that was issued |
//! | the key of a certificate | the key of the newest one was read, or that of another one was stored |
//! | the service, a certificate, or its key | a connection, if no renewal has failed |

use std::sync::Arc;

use azure_dps_core::Error;

use super::event::Happening;

/// What an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Concern {
    Record,
    OldKeys,
    Service,
    Hub,
    Certificate,
    Key,
}

impl Concern {
    /// What the error of an event is about.
    pub(crate) fn of(happening: Happening) -> Self {
        match happening {
            Happening::Started | Happening::StoreFailed => Self::Record,
            Happening::KeyStoreFailed => Self::Key,
            Happening::CertificateIssued | Happening::CertificateProven | Happening::CertificateUnusable => {
                Self::Certificate
            }
            Happening::Registering
            | Happening::Assigned
            | Happening::RegistrationFailed
            | Happening::LookedUp => Self::Service,
            Happening::Connecting
            | Happening::Connected
            | Happening::Disconnected(_)
            | Happening::CredentialChanged
            | Happening::Stopped => Self::Hub,
        }
    }
}

/// The oldest error first, one of each concern.
#[derive(Debug, Default)]
pub(crate) struct Outstanding(Vec<(Concern, Arc<Error>)>);

impl Outstanding {
    pub(crate) fn add(&mut self, concern: Concern, error: Arc<Error>) {
        self.end(concern);
        self.0.push((concern, error));
    }

    pub(crate) fn end(&mut self, concern: Concern) {
        self.0.retain(|(other, _)| *other != concern);
    }

    /// Something happened without an error. `renewals` is how many have failed in a row.
    pub(crate) fn on(&mut self, happening: Happening, renewals: u32) {
        let ended: &[Concern] = match happening {
            Happening::Assigned => &[Concern::Service],
            Happening::CertificateIssued => &[Concern::Certificate, Concern::Key],
            Happening::Connected if renewals == 0 => {
                &[Concern::Hub, Concern::Service, Concern::Certificate, Concern::Key]
            }
            Happening::Connected => &[Concern::Hub],
            _ => &[],
        };
        ended.iter().for_each(|concern| self.end(*concern));
    }

    pub(crate) fn newest(&self) -> Option<Arc<Error>> {
        self.0.last().map(|(_, error)| Arc::clone(error))
    }
}

#[cfg(test)]
mod tests {
    use azure_dps_core::ErrorKind;

    use super::*;
    use crate::manager::connector::EndReason;

    /// All concerns, the record's error being the newest.
    fn all() -> Outstanding {
        let mut errors = Outstanding::default();
        for concern in [OldKeys, Service, Hub, Certificate, Key, Record] {
            errors.add(concern, Arc::new(Error::new(ErrorKind::Io, format!("{concern:?}"))));
        }
        errors
    }

    fn left(errors: &Outstanding) -> Vec<Concern> {
        errors.0.iter().map(|(concern, _)| *concern).collect()
    }

    use Concern::*;

    #[test]
    fn each_error_stays_until_its_concern_succeeds() {
        for (happening, renewals, expected) in [
            (Happening::Assigned, 0, vec![OldKeys, Hub, Certificate, Key, Record]),
            (Happening::CertificateIssued, 1, vec![OldKeys, Service, Hub, Record]),
            (Happening::Connected, 0, vec![OldKeys, Record]),
            (Happening::Connected, 1, vec![OldKeys, Service, Certificate, Key, Record]),
        ] {
            let mut errors = all();
            errors.on(happening, renewals);
            assert_eq!(left(&errors), expected, "{happening:?}");
        }
        for happening in [
            Happening::Registering,
            Happening::LookedUp,
            Happening::Connecting,
            Happening::Disconnected(EndReason::Closed),
            Happening::CredentialChanged,
            Happening::Stopped,
        ] {
            let mut errors = all();
            errors.on(happening, 0);
            assert_eq!(left(&errors), left(&all()), "{happening:?} is not a success");
        }
    }

    #[test]
    fn the_newest_error_is_shown_and_after_it_the_one_before() {
        let mut errors = all();
        errors.add(Hub, Arc::new(Error::new(ErrorKind::Io, "again")));
        assert_eq!(errors.newest().unwrap().to_string(), "again");
        errors.end(Hub);
        assert_eq!(errors.newest().unwrap().to_string(), "Record");
    }
}
