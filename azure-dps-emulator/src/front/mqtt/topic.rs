//! Topics and user names of the MQTT front: text only.

use percent_encoding::percent_decode_str;

use crate::call::request::DeviceOperation;

/// The one filter that clients subscribe to.
pub(super) const REPLIES: &str = "$dps/registrations/res/#";

/// A parsed user name: `{idScope}/registrations/{registrationId}/api-version={version}[&…]`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UserName {
    pub(super) id_scope: String,
    pub(super) registration_id: String,
    pub(super) api_version: Option<String>,
}

impl UserName {
    /// Reads a user name. The parameters after the last slash can be in any order; unknown ones are ignored.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, '/');
        let (id_scope, word, id) = (parts.next()?, parts.next()?, parts.next()?);
        let parameters = parts.next().unwrap_or_default();
        if !word.eq_ignore_ascii_case("registrations") || id_scope.is_empty() || id.is_empty() {
            return None;
        }
        Some(UserName {
            id_scope: id_scope.to_owned(),
            registration_id: id.to_owned(),
            api_version: parameter(parameters, "api-version").map(str::to_owned),
        })
    }
}

/// A request, read from the topic of a PUBLISH.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TopicRequest<'a> {
    pub(super) rid: &'a str,
    operation: Option<String>,
}

impl<'a> TopicRequest<'a> {
    /// Reads a topic. A topic without `$rid` is answered with an empty one.
    ///
    /// # Errors
    /// Says why the topic is not one of the service.
    pub(super) fn parse(topic: &'a str) -> Result<Self, &'static str> {
        const FOREIGN: &str = "the service has no such topic";
        let (path, parameters) = topic.split_once('?').unwrap_or((topic, ""));
        let path = path.strip_suffix('/').unwrap_or(path);
        let rid = parameter(parameters, "$rid").unwrap_or_default();
        if rid.len() > LONGEST_RID {
            return Err("the $rid is longer than 1024 bytes");
        }
        let operation = match path {
            "$dps/registrations/PUT/iotdps-register" => None,
            "$dps/registrations/GET/iotdps-get-operationstatus" => {
                let id = parameter(parameters, "operationId").ok_or("the topic has no operationId")?;
                Some(percent_decode_str(id).decode_utf8_lossy().into_owned())
            }
            _ => return Err(FOREIGN),
        };
        Ok(TopicRequest { rid, operation })
    }

    pub(super) fn operation(&self) -> DeviceOperation {
        match &self.operation {
            None => DeviceOperation::Register,
            Some(operation_id) => DeviceOperation::Poll { operation_id: operation_id.clone() },
        }
    }
}

/// A topic without its parameters, which may contain secrets.
pub(super) fn path(topic: &str) -> &str {
    topic.split_once('?').map_or(topic, |(path, _)| path.trim_end_matches('/'))
}

/// The topic of a reply. `$rid` is first and `retry-after` second, because several clients expect them there.
pub(super) fn reply(status: u16, rid: &str, retry_after: Option<u32>) -> String {
    match retry_after {
        Some(seconds) => format!("$dps/registrations/res/{status}/?$rid={rid}&retry-after={seconds}"),
        None => format!("$dps/registrations/res/{status}/?$rid={rid}"),
    }
}

fn parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = parameters.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
}

/// Keeps the topic of the reply within the 65,535 bytes that MQTT allows.
const LONGEST_RID: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_of_every_client_are_read() {
        let version = |text: &str| {
            let name = UserName::parse(text).unwrap();
            assert_eq!((name.id_scope.as_str(), name.registration_id.as_str()), ("0ne1", "dev1"));
            name.api_version
        };
        let v2019 = Some("2019-03-31".to_owned());
        assert_eq!(version("0ne1/registrations/dev1/api-version=2019-03-31"), v2019);
        assert_eq!(version("0ne1/registrations/dev1/api-version=2019-03-31&ClientVersion=2019-03-31"), v2019);
        assert_eq!(version("0ne1/registrations/dev1/ClientVersion=a%2Fb&api-version=2019-03-31"), v2019);
        assert_eq!(version("0ne1/registrations/dev1/ClientVersion=a/b"), None);
        assert_eq!(version("0ne1/registrations/dev1"), None);
        for broken in
            ["", "dev1", "0ne1/devices/dev1/api-version=1", "/registrations/dev1/", "0ne1/registrations//x"]
        {
            assert_eq!(UserName::parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn only_the_topics_of_the_two_requests_are_read() {
        let parsed = |topic: &str| {
            TopicRequest::parse(topic).ok().map(|request| (request.rid.to_owned(), request.operation()))
        };
        let register = "$dps/registrations/PUT/iotdps-register/?$rid=";
        assert_eq!(parsed(&format!("{register}1")), Some(("1".into(), DeviceOperation::Register)));
        let status = "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=a-b&operationId=5.a";
        let poll = |id: &str| DeviceOperation::Poll { operation_id: id.into() };
        assert_eq!(parsed(status), Some(("a-b".into(), poll("5.a"))));
        let swapped = "$dps/registrations/GET/iotdps-get-operationstatus/?operationId=5%2Ea&$rid=7";
        assert_eq!(parsed(swapped), Some(("7".into(), poll("5.a"))));
        for foreign in [
            "",
            "devices/dev1/messages/events/",
            "$dps/registrations/PUT/iotdps-register/more/?$rid=1",
            "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=1",
            "$dps/registrations/POST/iotdps-get-deviceupdate/?$rid=1",
            &format!("{register}{}", "1".repeat(1025)),
        ] {
            assert_eq!(parsed(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_topic_without_a_request_id_has_an_empty_one() {
        for parameters in ["", "/", "?", "/?", "/?rid=1", "/?$rid", "/?$rid=", "/?$RID=1"] {
            let register = format!("$dps/registrations/PUT/iotdps-register{parameters}");
            let request = TopicRequest::parse(&register).unwrap();
            assert_eq!((request.rid, request.operation()), ("", DeviceOperation::Register), "{register}");
        }
        let poll = TopicRequest::parse("$dps/registrations/GET/iotdps-get-operationstatus/?operationId=5.a")
            .unwrap();
        assert_eq!((poll.rid, poll.operation()), ("", DeviceOperation::Poll { operation_id: "5.a".into() }));
        assert_eq!(reply(202, "", Some(3)), "$dps/registrations/res/202/?$rid=&retry-after=3");
    }

    #[test]
    fn the_journal_gets_no_parameters() {
        assert_eq!(path("$dps/a/?$rid=1&operationId=5"), "$dps/a");
        assert_eq!(path("devices/dev1?sig=secret"), "devices/dev1");
        assert_eq!(path("devices/dev1/"), "devices/dev1/");
    }

    #[test]
    fn replies_have_the_order_that_clients_expect() {
        assert_eq!(reply(202, "1", Some(3)), "$dps/registrations/res/202/?$rid=1&retry-after=3");
        assert_eq!(reply(401, "a&b", None), "$dps/registrations/res/401/?$rid=a&b");
    }
}
