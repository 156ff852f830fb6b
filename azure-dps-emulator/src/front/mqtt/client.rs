//! A client, as its CONNECT describes it.

use rumqttc::mqttbytes::v4::{Connect, ConnectReturnCode};

use super::topic::UserName;

/// A client whose CONNECT was accepted.
pub(super) struct Client {
    pub(super) name: UserName,
    pub(super) token: Option<String>,
}

impl Client {
    /// The name for the journal. The rest of a user name may be a secret in the wrong place.
    pub(super) fn target(&self) -> &str {
        &self.name.registration_id
    }

    /// Reads the user name and the client id, without judging the credential.
    ///
    /// # Errors
    /// The return code of the CONNACK, and the cause for the journal.
    pub(super) fn read(connect: &Connect) -> Result<Self, (ConnectReturnCode, String)> {
        let malformed = |cause: &str| (ConnectReturnCode::BadUserNamePassword, cause.to_owned());
        let login = connect.login.as_ref().ok_or_else(|| malformed("the CONNECT has no user name"))?;
        let name = UserName::parse(&login.username).ok_or_else(|| {
            malformed(
                "the user name is neither {idScope}/registrations/{registrationId}/api-version=… of the \
                 provisioning service nor {hub}/{deviceId}/?api-version=… of a hub",
            )
        })?;
        if !name.registration_id.eq_ignore_ascii_case(&connect.client_id) {
            let cause = "the client id is not the registration id of the user name".to_owned();
            return Err((ConnectReturnCode::NotAuthorized, cause));
        }
        Ok(Client { name, token: Some(login.password.clone()).filter(|token| !token.is_empty()) })
    }
}
