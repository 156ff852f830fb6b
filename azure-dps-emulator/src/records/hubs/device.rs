//! A device on its hub: its identity, and everything that belongs to it.

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::clock;
use crate::crypto::certificate::Certificate;
use crate::crypto::sas::Token;
use crate::json::{Map, Value, json};
use crate::records::hubs::authentication::Authentication;
use crate::records::hubs::call_error::HubCallError;
use crate::records::hubs::link::{Ending, Link, Push};
use crate::records::hubs::message::{CloudMessage, Inbox};
use crate::records::hubs::method::{Calls, MethodCall};
use crate::records::hubs::twin::{Twin, TwinWrite};

/// A device on its hub.
pub(crate) struct HubDevice {
    pub(super) id: String,
    /// Tells a device from an earlier one with the same id.
    pub(super) generation: u64,
    pub(super) tag: u64,
    pub(super) authentication: Authentication,
    pub(super) capabilities: Value,
    pub(super) status: Status,
    pub(crate) twin: Twin,
    pub(crate) inbox: Inbox,
    pub(crate) calls: Calls,
    pub(super) presence: Presence,
    pub(super) link: Option<Link>,
}

/// The next step of a connection.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    Send(Push),
    End(Ending),
    /// There is nothing to do before this time, or before the next signal.
    Wait(Option<OffsetDateTime>),
}

/// Whether a back end lets the device connect.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Status {
    pub(crate) disabled: bool,
    pub(crate) reason: Option<String>,
    #[serde(with = "crate::saved::at_or_never")]
    pub(crate) changed: Option<OffsetDateTime>,
}

impl Status {
    fn word(&self) -> &'static str {
        if self.disabled { "disabled" } else { "enabled" }
    }
}

/// When the device was here.
#[derive(Clone, Copy, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Presence {
    #[serde(with = "crate::saved::at_or_never")]
    changed: Option<OffsetDateTime>,
    #[serde(with = "crate::saved::at_or_never")]
    active: Option<OffsetDateTime>,
}

impl HubDevice {
    pub(super) fn new(
        id: String,
        tag: u64,
        authentication: Authentication,
        capabilities: Value,
        twin: Twin,
    ) -> Self {
        HubDevice {
            id,
            generation: tag,
            tag,
            authentication,
            capabilities,
            status: Status::default(),
            twin,
            inbox: Inbox::default(),
            calls: Calls::default(),
            presence: Presence::default(),
            link: None,
        }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The tag of the identity, without quotes.
    pub(crate) fn etag(&self) -> String {
        BASE64_STANDARD.encode(self.tag.to_string())
    }

    pub(crate) fn authentication(&self) -> &Authentication {
        &self.authentication
    }

    pub(crate) fn status(&self) -> &Status {
        &self.status
    }

    /// Returns whether the token is signed with one of the device's keys on this hub.
    pub(crate) fn signed(&self, token: &Token) -> bool {
        self.authentication.signed(token)
    }

    /// Returns whether this is the device's certificate on this hub.
    pub(crate) fn has_certificate(&self, leaf: &Certificate) -> bool {
        self.authentication.has_certificate(leaf)
    }

    /// Connects the device, which ends its connection so far.
    pub(crate) fn connect(&mut self, link: Link, now: OffsetDateTime) {
        self.end_link(Ending::TakenOver, now);
        self.presence = Presence { changed: Some(now), active: Some(now) };
        self.link = Some(link);
    }

    /// The link of this connection, if it is still the device's.
    pub(crate) fn link_of(&mut self, connection: u64) -> Option<&mut Link> {
        self.link.as_mut().filter(|link| link.connection() == connection)
    }

    /// Ends the connection of the device; returns whether it had one.
    pub(crate) fn end_link(&mut self, ending: Ending, now: OffsetDateTime) -> bool {
        let Some(link) = self.link.take() else { return false };
        link.end(ending);
        self.presence.changed = Some(now);
        true
    }

    /// The connection has ended.
    pub(crate) fn leave(&mut self, connection: u64, now: OffsetDateTime) {
        if self.link_of(connection).is_some() {
            self.link = None;
            self.presence.changed = Some(now);
        }
    }

    pub(crate) fn was_active(&mut self, now: OffsetDateTime) {
        self.presence.active = Some(now);
    }

    /// Writes the twin, and notifies the device of new desired properties, if it listens to them.
    ///
    /// # Errors
    /// Says which limit the write breaks. Nothing is written then.
    pub(crate) fn write_twin(
        &mut self,
        write: TwinWrite,
        tag: u64,
        now: OffsetDateTime,
    ) -> Result<(), String> {
        if let Some(patch) = self.twin.write(write, tag, now)? {
            self.notify(&patch, now);
        }
        Ok(())
    }

    /// Puts a message into the inbox of the device.
    ///
    /// # Errors
    /// The message is too large, or too many wait.
    pub(crate) fn send(&mut self, message: CloudMessage) -> Result<(), HubCallError> {
        self.inbox.put(message)?;
        self.link.iter().for_each(Link::wake);
        Ok(())
    }

    /// Begins a call of a method, and returns its request id.
    ///
    /// # Errors
    /// Says why the call cannot be made.
    pub(crate) fn begin_call(&mut self, call: &MethodCall) -> Result<String, HubCallError> {
        let listens = self.link.as_ref().is_some_and(|link| link.listens().methods);
        let rid = self.calls.add(call, listens)?;
        self.link.iter().for_each(Link::wake);
        Ok(rid)
    }

    fn notify(&mut self, patch: &Map, now: OffsetDateTime) {
        let version = self.twin.desired_version();
        if let Some(Err(ending)) = self.link.as_mut().map(|link| link.push(patch, version)) {
            self.end_link(ending, now);
        }
    }

    /// The next step of a connection of the device.
    pub(crate) fn next(&mut self, connection: u64, now: OffsetDateTime) -> Next {
        let Some(link) = self.link.as_mut().filter(|link| link.connection() == connection) else {
            return Next::End(Ending::Gone);
        };
        let expires = link.expires();
        if expires.is_some_and(|expires| now >= expires) {
            self.end_link(Ending::Expired, now);
            return Next::End(Ending::Expired);
        }
        if let Some((patch, version)) = link.next_patch() {
            return Next::Send(Push::Desired { patch, version });
        }
        if link.listens().methods
            && let Some((rid, name, payload)) = self.calls.hand_over()
        {
            return Next::Send(Push::Method { rid, name, payload });
        }
        if link.listens().messages
            && let Some((number, message)) = self.inbox.after(link.last_message())
        {
            link.hand_over(number);
            return Next::Send(Push::Message { number, message });
        }
        Next::Wait(expires)
    }

    pub(crate) fn link(&self) -> Option<&Link> {
        self.link.as_ref()
    }

    fn connection_state(&self) -> &'static str {
        if self.link.is_some() { "Connected" } else { "Disconnected" }
    }

    /// The identity and the twin.
    pub(crate) fn to_json(&self) -> Value {
        json!({"identity": self.identity(), "twin": self.twin()})
    }

    /// The identity as the hub returns it, with its keys.
    pub(crate) fn identity(&self) -> Value {
        json!({
            "deviceId": self.id,
            "generationId": self.generation.to_string(),
            "etag": self.etag(),
            "connectionState": self.connection_state(),
            "status": self.status.word(),
            "statusReason": self.status.reason,
            "connectionStateUpdatedTime": time(self.presence.changed),
            "statusUpdatedTime": time(self.status.changed),
            "lastActivityTime": time(self.presence.active),
            "cloudToDeviceMessageCount": self.inbox.len(),
            "authentication": {
                "symmetricKey": self.authentication.keys(),
                "x509Thumbprint": self.authentication.thumbprints(),
                "type": self.authentication.word(),
            },
            "capabilities": self.capabilities,
        })
    }

    /// The twin as the hub returns it.
    pub(crate) fn twin(&self) -> Value {
        json!({
            "deviceId": self.id,
            "etag": self.twin.etag(),
            "deviceEtag": self.etag(),
            "status": self.status.word(),
            "statusUpdateTime": time(self.status.changed),
            "connectionState": self.connection_state(),
            "lastActivityTime": time(self.presence.active),
            "cloudToDeviceMessageCount": self.inbox.len(),
            "authenticationType": self.authentication.word(),
            "x509Thumbprint": self.authentication.thumbprints(),
            "modelId": "",
            "version": self.twin.version(),
            "tags": self.twin.tags(),
            "properties": self.twin.properties(),
            "capabilities": self.capabilities,
        })
    }
}

fn time(at: Option<OffsetDateTime>) -> String {
    at.map_or_else(|| NEVER.to_owned(), clock::timestamp)
}

const NEVER: &str = "0001-01-01T00:00:00Z";
