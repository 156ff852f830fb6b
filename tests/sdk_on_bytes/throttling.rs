//! How the service client waits when the service throttles it, and how long.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use azure_dps_core::{ErrorKind, RetryPolicy};
use azure_dps_service::{Credential, ServiceClient};
use azure_dps_tests::back_end::{POLICY_KEY, client, fault, ok, stored};
use azure_dps_tests::tasks::settles;
use azure_dps_tests::{Act, PATIENCE, Peer, after_silence};
use serde_json::json;

#[tokio::test]
async fn the_service_says_how_long_to_wait() {
    let slow = Act::json("429 Too Many Requests", "Retry-After: 1\r\n", "{}");
    let peer = Peer::start([slow, ok(stored(json!({})))]).await;
    let start = Instant::now();
    client(&peer).enrollments().get("sensor-042").await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1), "the back-off of this client is a millisecond");
}

/// A service with room for so many requests in any two seconds.
fn quota(room: usize) -> impl FnMut(&str) -> Act {
    let (window, mut passed) = (Duration::from_secs(2), VecDeque::new());
    move |_| {
        let now = Instant::now();
        while passed.front().is_some_and(|at| now - *at >= window) {
            passed.pop_front();
        }
        if passed.len() < room {
            passed.push_back(now);
            return ok(stored(json!({})));
        }
        let left = (window - (now - passed[0])).as_millis().div_ceil(1000);
        Act::json("429 Too Many Requests", &format!("Retry-After: {left}\r\n"), "{}")
    }
}

#[tokio::test]
async fn hundreds_of_calls_at_once_wait_for_each_other_and_few_are_refused() {
    let peer = Peer::answering(quota(100)).await;
    let credential = Credential::policy("p", POLICY_KEY.parse().unwrap());
    let endpoint = peer.endpoint().with_exchange_timeout(Duration::from_secs(30));
    // All of them take some eight seconds, more than one call has from when it is let through.
    let service =
        ServiceClient::builder(endpoint, credential).timeout(Duration::from_secs(6)).build().unwrap();
    let get = async |service: ServiceClient| service.enrollments().get("sensor-042").await;
    let calls = (0..500).map(|_| get(service.clone()));
    for outcome in futures_util::future::join_all(calls).await {
        outcome.unwrap();
    }
    let refused = peer.requests().len() - 500;
    assert!((1..=100).contains(&refused), "{refused}");
}

#[tokio::test]
async fn without_retries_a_throttled_call_fails_and_no_call_waits_for_it() {
    let peer =
        Peer::start([Act::json("429 Too Many Requests", "Retry-After: 60\r\n", "{}"), ok(stored(json!({})))])
            .await;
    let credential = Credential::policy("p", POLICY_KEY.parse().unwrap());
    let service =
        ServiceClient::builder(peer.endpoint(), credential).retry(RetryPolicy::never()).build().unwrap();
    assert!(service.enrollments().get("a").await.unwrap_err().is_throttled());
    let start = Instant::now();
    service.enrollments().get("a").await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn throttling_is_bounded_by_the_time_of_the_call_and_not_by_a_count() {
    let mut throttled = 0;
    let peer = Peer::answering(move |_| {
        throttled += 1;
        if throttled <= 20 { fault("429 Too Many Requests") } else { ok(stored(json!({}))) }
    })
    .await;
    let patient = |peer: &Peer, limit| {
        let credential = Credential::policy("p", POLICY_KEY.parse().unwrap());
        let retry = RetryPolicy::new()
            .with_first_pause(Duration::from_millis(10))
            .with_longest_pause(Duration::from_millis(10));
        ServiceClient::builder(peer.endpoint(), credential).retry(retry).timeout(limit).build().unwrap()
    };
    patient(&peer, Duration::from_secs(60)).enrollments().get("sensor-042").await.unwrap();

    let peer = Peer::answering(|_| fault("429 Too Many Requests")).await;
    let service = patient(&peer, PATIENCE);
    let call = tokio::spawn(async move { service.enrollments().get("sensor-042").await });
    settles(|| peer.requests().len() > 10).await;
    let error = after_silence(PATIENCE, call).await.unwrap_err();
    assert!(error.is_throttled() || error.kind() == ErrorKind::Timeout, "{error}");
}

#[tokio::test]
async fn a_pause_that_ends_after_the_deadline_ends_the_call_at_once() {
    let peer = Peer::start([Act::json("429 Too Many Requests", "Retry-After: 3600\r\n", "{}")]).await;
    let error = client(&peer).enrollments().get("sensor-042").await.unwrap_err();
    assert!(error.is_throttled());
    assert_eq!(error.service().unwrap().retry_after, Some(Duration::from_secs(3600)));
}
