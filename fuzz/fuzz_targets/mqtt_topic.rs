//! Topics of replies, and the operation id in the topic of a poll.
#![no_main]

use std::time::Duration;

use azure_dps_device::fuzzing::{mqtt_status_topic, mqtt_topic};
use libfuzzer_sys::fuzz_target;
use percent_encoding::percent_decode_str;

fuzz_target!(|text: &str| {
    for topic in [text, &format!("$dps/registrations/res/{text}")] {
        if let Some(response) = mqtt_topic(topic) {
            assert_eq!(mqtt_topic(&render(response)), Some(response), "{topic:?}");
        }
    }
    let topic = mqtt_status_topic("7", text);
    let id = topic.strip_prefix("$dps/registrations/GET/iotdps-get-operationstatus/?$rid=7&operationId=");
    let id = id.expect("the service's topic");
    assert!(!id.contains(['/', '+', '#', '&', '=', '\0']), "{topic:?}");
    assert_eq!(percent_decode_str(id).decode_utf8().expect("UTF-8"), text);
});

fn render((status, rid, retry_after): (u16, &str, Option<Duration>)) -> String {
    let retry_after = retry_after.map_or_else(String::new, |wait| format!("&retry-after={}", wait.as_secs()));
    format!("$dps/registrations/res/{status}/?$rid={rid}{retry_after}")
}
