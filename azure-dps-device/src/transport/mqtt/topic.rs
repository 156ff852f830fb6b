//! The topics of requests and replies, and the user name. Pure.

use std::time::Duration;

use azure_dps_core::plumbing::percent_encode;

use crate::transport::contract::Session;

/// The filter that all replies match.
pub(super) const REPLIES: &str = "$dps/registrations/res/#";

pub(super) fn register(rid: &str) -> String {
    format!("$dps/registrations/PUT/iotdps-register/?$rid={rid}")
}

pub(crate) fn status(rid: &str, operation_id: &str) -> String {
    let operation_id = percent_encode(operation_id);
    format!("$dps/registrations/GET/iotdps-get-operationstatus/?$rid={rid}&operationId={operation_id}")
}

pub(super) fn user_name(session: &Session) -> String {
    format!(
        "{}/registrations/{}/api-version={}&ClientVersion={}",
        session.id_scope(),
        session.registration_id(),
        session.api_version(),
        percent_encode(session.user_agent()),
    )
}

/// The parts of a reply's topic: `$dps/registrations/res/{status}/?$rid={rid}[&retry-after={seconds}]`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response<'a> {
    pub(crate) status: u16,
    pub(crate) rid: &'a str,
    pub(crate) retry_after: Option<Duration>,
}

impl<'a> Response<'a> {
    /// Reads a topic. The parameters may have any order, and unknown ones are ignored.
    pub(crate) fn parse(topic: &'a str) -> Option<Self> {
        let rest = topic.strip_prefix("$dps/registrations/res/")?;
        let (status, query) = rest.split_once("/?")?;
        let parameter = |name: &str| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.into_iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
        };
        Some(Self {
            status: status.parse().ok()?,
            rid: parameter("$rid")?,
            retry_after: parameter("retry-after")
                .and_then(|value| value.parse().ok())
                .map(Duration::from_secs),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_have_the_documented_topics() {
        assert_eq!(register("1"), "$dps/registrations/PUT/iotdps-register/?$rid=1");
        assert_eq!(
            status("2", "5.316aac5b.b1e02da8-c3a0"),
            "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=2&operationId=5.316aac5b.b1e02da8-c3a0"
        );
        assert!(status("3", "a&$rid=9/#").ends_with("?$rid=3&operationId=a%26%24rid%3D9%2F%23"));
    }

    #[test]
    fn replies_are_read_in_any_order_of_their_parameters() {
        let parse = |rest: &str| {
            let topic = format!("$dps/registrations/res/{rest}");
            Response::parse(&topic).map(|r| (r.status, r.rid.to_owned(), r.retry_after.map(|d| d.as_secs())))
        };
        assert_eq!(parse("202/?$rid=1&retry-after=3"), Some((202, "1".into(), Some(3))));
        assert_eq!(parse("200/?$rid=a-b"), Some((200, "a-b".into(), None)));
        assert_eq!(parse("429/?Retry-After=15&$rid=2&x=y"), Some((429, "2".into(), Some(15))));
        assert_eq!(parse("429/?$rid=2&retry-after=soon"), Some((429, "2".into(), None)));
        for broken in ["", "202", "202/", "202/?", "202/?rid=1", "two/?$rid=1", "70000/?$rid=1", "202?$rid=1"]
        {
            assert_eq!(parse(broken), None, "{broken}");
        }
        assert_eq!(Response::parse("$iothub/x/res/200/?$rid=1"), None);
    }

    proptest! {
        #[test]
        fn no_topic_makes_the_reader_panic(topic in ".*", tail in ".*") {
            let _ = Response::parse(&topic);
            let _ = Response::parse(&format!("$dps/registrations/res/{tail}"));
        }
    }
}
